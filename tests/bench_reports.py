"""Reports as no machine has measured them: the figures are round."""

from pathlib import Path

from syncflow.bench.plot import draw
from syncflow.bench.report import CaseReport, Outcome, Report, SideReport

MACHINE = {
    "made_at": "2026-11-22T12:00:00+00:00",
    "python": "CPython 3.11.7",
    "system": "Linux",
    "cpu": "Abacus",
    "cores": 2,
    "load": [0.1, 0.2, 0.3],
    "revision": None,
    "versions": {"syncflow": "0.1.0", "joblib": None},
}


def measured(name, *samples, target=None):
    """Return a side with these samples."""
    return SideReport(name, Outcome.MEASURED, tuple(map(float, samples)), None, target)


def missing(name, note="no joblib: pip install it", target=None):
    """Return a side that could not be measured."""
    return SideReport(name, Outcome.MISSING, (), note, target)


def failed(name, note="ValueError: no"):
    """Return a side that raised."""
    return SideReport(name, Outcome.FAILED, (), note)


def different(name, note="computed something else"):
    """Return a side with another result."""
    return SideReport(name, Outcome.DIFFERENT, (), note)


def case(*sides, name="a case", suite="io", count=1, per=None, unit="s", others=0.0, **place):
    """Return a case of these sides."""
    place = {"series": None, "at": None} | place
    return CaseReport(suite, name, sides, count, per, unit, others=others, **place)


def report(*cases, quick=False, workers=2, **machine):
    """Return a report of these cases."""
    return Report(quick, workers, MACHINE | machine, cases)


#: What a step costs in flows of 10 and of 1000.
COSTS = (
    case(measured("syncflow", 1), measured("peer", 2), suite="overhead", series="thread", at=10),
    case(measured("syncflow", 2), missing("peer"), suite="overhead", series="thread", at=1000),
)


def open_fonts(directory: Path) -> None:
    """Let matplotlib open its font files, which it keeps: that is no leak of a test."""
    draw(report(*COSTS), directory / "fonts.svg")
