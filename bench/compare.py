"""Compare two reports: what has moved by more than it wavers anyway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from syncflow.bench.report import CaseReport, Report, SideReport
from syncflow.bench.table import quantity

__all__ = ["LEAST", "Move", "comparison", "moves"]

#: What has changed by less is not reported, however steady it was.
LEAST = 0.05

_HEADERS = ("suite", "case", "side", "before", "now", "change", "noise")
_ALIGNMENT = ("left", "left", "left", "right", "right", "right", "right")


class Move(NamedTuple):
    """One figure in both reports.

    Attributes:
        before: Per what is counted, as `now` is.
        noise: The larger spread of the two, and at least `LEAST`.
    """

    suite: str
    case: str
    side: str
    unit: str
    before: float
    now: float
    noise: float

    @property
    def change(self) -> float:
        """How much larger the figure has become, as a share of the one before."""
        return self.now / self.before - 1

    @property
    def beyond_noise(self) -> bool:
        """Whether it has changed by more than the noise; to a half is as far as to the double."""
        larger, smaller = max(self.now, self.before), min(self.now, self.before)
        return larger / smaller - 1 > self.noise


def moves(before: Report, now: Report) -> list[Move]:
    """Return the figures that both reports have, in the order of the second."""
    known = {key: (case, side) for key, case, side in _figures(before)}
    found = []
    for key, case, side in _figures(now):
        if key in known:
            old_case, old_side = known[key]
            old, new = old_case.figure(old_side), case.figure(side)
            if old and new:
                noise = max(old_side.spread, side.spread, LEAST)
                found.append(Move(case.suite, case.name, side.name, case.unit, old, new, noise))
    return found


def _figures(report: Report) -> Iterator[tuple[tuple[object, ...], CaseReport, SideReport]]:
    for case in report.cases:
        for side in case.sides:
            if side.samples:
                key = (case.suite, case.name, case.unit, case.per, case.count, side.name)
                yield key, case, side


def comparison(before: Report, now: Report) -> str:
    """Return a table of what has moved, and what the reader has to know of the two machines."""
    import tabulate

    compared = moves(before, now)
    rows = [_row(move) for move in compared if move.beyond_noise]
    parts = [f"{len(rows)} of {len(compared)} figures have moved beyond noise."]
    if rows:
        parts.append(
            tabulate.tabulate(rows, headers=_HEADERS, disable_numparse=True, colalign=_ALIGNMENT)
        )
    parts += [
        f"The {what} was {old}, and is {new}."
        for what, old, new in _differences(before, now)
        if old != new
    ]
    return "\n\n".join(parts)


def _row(move: Move) -> list[str]:
    return [
        move.suite,
        move.case,
        move.side,
        quantity(move.before, move.unit),
        quantity(move.now, move.unit),
        f"{move.change:+.0%}",
        f"{move.noise:.0%}",
    ]


def _differences(before: Report, now: Report) -> Iterator[tuple[str, object, object]]:
    for key in ("python", "system", "cpu", "cores"):
        yield key, before.machine.get(key), now.machine.get(key)
    yield "number of workers", before.workers, now.workers
    old, new = (report.machine.get("versions") for report in (before, now))
    if isinstance(old, dict) and isinstance(new, dict):
        for package in old.keys() | new.keys():
            yield f"version of {package}", old.get(package), new.get(package)
