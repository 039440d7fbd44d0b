"""Each suite has cases, and each number that was promised is one of their targets."""

import pytest

from syncflow.bench.case import Kind, Settings
from syncflow.bench.suites import SUITES, cases_of

#: Suite, what its case and side are called, what is limited, and the limit.
PROMISED = [
    ("overhead", "1,000 inline steps", "ThreadPoolExecutor(1)", Kind.RATIO, 0.15),
    ("overhead", "1,000 inline steps", "TaskFlow", Kind.RATIO, 0.005),
    ("overhead", "1,000 thread steps", "ThreadPoolExecutor(32)", Kind.RATIO, 0.6),
    ("overhead", "400 process steps", "loky.ProcessPoolExecutor(2)", Kind.RATIO, 0.5),
    ("overhead", "400 process steps", "futures.ProcessPoolExecutor(2)", Kind.RATIO, 0.6),
    ("overhead", "400 process steps", "pebble.ProcessPool(2)", Kind.RATIO, 0.9),
    ("overhead", "20,000 inline steps at once", "40 flows of 500", Kind.RATIO, 1.5),
    ("overhead", "20,000 thread steps at once", "40 flows of 500", Kind.RATIO, 1.5),
    ("overhead", "20,000 process steps at once", "40 flows of 500", Kind.RATIO, 1.5),
    ("io", "320 waits of 10 ms, 32 at a time", "ideal", Kind.RATIO, 1.1),
    ("cpu", "40 x 50 ms of pure Python, workers: 2", "serial", Kind.SPEEDUP, 1.75),
    ("cpu", "40 x 50 ms of pure Python, workers: 2", "loky", Kind.RATIO, 1.05),
    ("payload", "100 MB of numpy to 8 process steps", "joblib", Kind.RATIO, 0.8),
    ("timeouts", "in a C loop, timeout 0.3 s, grace 0.2 s", "syncflow", Kind.FIGURE, 0.6),
    ("timeouts", "in a Python loop, timeout 0.3 s", "syncflow", Kind.FIGURE, 0.32),
    ("timeouts", "thread body blocked, timeout 0.3 s", "syncflow", Kind.FIGURE, 0.32),
    ("failfast", "1 of 32 thread steps fails", "syncflow", Kind.FIGURE, 0.01),
    ("start", "imports", "import attrs", Kind.RATIO, 1.3),
    ("start", "first result of a process", "loky.ProcessPoolExecutor(1)", Kind.RATIO, 1.1),
    ("map", "20,000 tiny items", "joblib.Parallel(2)", Kind.RATIO, 0.3),
    ("memory", "200,000 items", "ThreadPoolExecutor(32), futures", Kind.RATIO, 0.12),
]


@pytest.mark.parametrize(("suite", "name", "side", "kind", "limit"), PROMISED, ids=str)
def test_measures_what_was_promised(suite, name, side, kind, limit):
    """The full run has a case whose side has that target."""
    targets = [
        (each.target.kind, each.target.limit)
        for case in cases_of(suite, Settings())
        if name in case.name
        for each in case.sides
        if side in each.name and each.target is not None
    ]
    assert (kind, pytest.approx(limit)) in targets


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("quick", [True, False])
def test_names_each_case_once(suite, quick):
    """Figures are compared by name, so a name is one case, and a side's one side."""
    cases = cases_of(suite, Settings(quick=quick))
    assert len({case.name for case in cases}) == len(cases) > 0
    for case in cases:
        assert len({side.name for side in case.sides}) == len(case.sides)


@pytest.mark.parametrize("suite", SUITES)
def test_keeps_what_is_promised_in_a_quick_run(suite):
    """What a quick run leaves out has no target: only the size of the largest payload."""
    for case in cases_of(suite, Settings(quick=True)):
        aimed = [side for side in case.sides if side.target is not None]
        assert set(aimed) <= set(case.shortened().sides)


def test_tells_quick_work_apart():
    """A case of the same name is of the same size: figures of both kinds can be compared."""
    for suite in SUITES:
        full = {case.name: case.count for case in cases_of(suite, Settings())}
        for case in cases_of(suite, Settings(quick=True)):
            assert case.count == full.get(case.name, case.count)


def test_measures_as_many_workers_as_asked_for():
    """Each of them has its place on the curve."""
    places = {case.at for case in cases_of("cpu", Settings(workers=3))}
    assert {1, 3} <= places
