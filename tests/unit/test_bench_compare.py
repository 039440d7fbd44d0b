"""What has moved between two reports is told apart from noise."""

import pytest
from bench_reports import MACHINE, case, measured, missing, report

from syncflow.bench.compare import comparison, moves


def one(*samples, **options):
    """Return a report with a single figure."""
    return report(case(measured("ours", *samples), **options))


@pytest.mark.parametrize(
    ("moved", "before", "now"),
    [
        (False, (100,), (104,)),
        (True, (100,), (106,)),
        (True, (106,), (100,)),
        (False, (80, 100, 120), (118,)),
        (True, (80, 100, 120), (122,)),
        (False, (100,), (90, 115, 130)),
        (False, (90, 115, 130), (100,)),
        (True, (90, 100, 110), (45, 50, 55)),
    ],
)
def test_sees_what_moved_beyond_noise(moved, before, now):
    """Noise is the larger of both spreads, and at least 5 %, in either direction."""
    (move,) = moves(one(*before), one(*now))
    assert moved is move.beyond_noise


def test_compares_figures_per_step():
    """Before and now are what the tables show."""
    (move,) = moves(one(8, count=4), one(12, count=4))
    assert (2.0, 3.0, 0.5) == (move.before, move.now, move.change)


@pytest.mark.parametrize(
    "other",
    [{"name": "another"}, {"suite": "crash"}, {"count": 2}, {"unit": "B"}, {"per": "item"}],
)
def test_compares_only_what_is_alike(other):
    """A case of another name, size or unit is another case."""
    assert [] == moves(one(1), one(2, **other))


@pytest.mark.parametrize("gone", [missing("ours"), measured("other", 1), measured("ours", 0)])
def test_compares_only_what_both_have(gone):
    """A side that is missing in one of them, or has no figure, does not count."""
    assert [] == moves(report(case(gone)), one(1))
    assert [] == moves(one(1), report(case(gone)))


def test_lists_what_moved():
    """The rest is counted."""
    before = report(case(measured("ours", 1), measured("peer", 1)))
    now = report(case(measured("ours", 2), measured("peer", 1)))
    text = comparison(before, now)
    assert "1 of 2 figures have moved beyond noise." == text.splitlines()[0]
    (row,) = [line for line in text.splitlines() if "a case" in line]
    assert ["1.00", "s", "2.00", "s", "+100%", "5%"] == row.split("ours")[1].split()


def test_lists_nothing_where_nothing_moved():
    """There is no empty table."""
    assert "0 of 1 figures have moved beyond noise." == comparison(one(1), one(1))


def test_tells_another_machine_apart():
    """Whoever compares two machines or versions is told so."""
    before = report(cpu="Slide rule", versions={"loky": "3.4"}, workers=4)
    now = report(cpu="Abacus", versions={"loky": "3.5"})
    assert [
        "The cpu was Slide rule, and is Abacus.",
        "The number of workers was 4, and is 2.",
        "The version of loky was 3.4, and is 3.5.",
    ] == comparison(before, now).split("\n\n")[1:]


def test_tells_nothing_of_the_same_machine():
    """When it was measured, and under which load, is not a difference."""
    later = report(made_at="2027-01-01T00:00:00+00:00", load=[9, 9, 9])
    assert "0 of 0 figures have moved beyond noise." == comparison(report(**MACHINE), later)
