"""What was measured: raw samples first, and the few figures that are derived from them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from enum import StrEnum

import attrs

from syncflow.bench.case import Kind, Target

__all__ = ["BUSY", "UNSTABLE", "CaseReport", "Outcome", "Report", "SideReport"]

#: A spread above this is marked: the figure is not to be relied on.
UNSTABLE = 0.10

#: So many cores in use by other programs, and a case is marked. One busy browser tab is enough.
BUSY = 0.25


class Outcome(StrEnum):
    """What became of a side."""

    MEASURED = "measured"
    #: What it needs is not installed.
    MISSING = "missing"
    #: It raised.
    FAILED = "failed"
    #: It computed something else than the first side.
    DIFFERENT = "different"


@attrs.frozen
class SideReport:
    """The samples of one side.

    Attributes:
        samples: In the case's unit, one a round, not divided by its count; none unless measured.
        note: Why there are none.
    """

    name: str
    outcome: Outcome
    samples: tuple[float, ...] = ()
    note: str | None = None
    target: Target | None = None

    @property
    def spread(self) -> float:
        """The interquartile range as a share of the median; 0 for a single sample."""
        if len(self.samples) < 2:
            return 0.0
        low, middle, high = statistics.quantiles(self.samples, n=4, method="inclusive")
        return (high - low) / middle if middle else 0.0

    @property
    def unstable(self) -> bool:
        """Whether the spread is too large for the median to mean much."""
        return self.spread > UNSTABLE


@attrs.frozen
class CaseReport:
    """One case, and what else went on while it was measured.

    Attributes:
        others: Cores that other programs used meanwhile; `None` where that cannot be seen.
    """

    suite: str
    name: str
    sides: tuple[SideReport, ...]
    count: int
    per: str | None
    unit: str
    series: str | None
    at: int | None
    others: float | None

    @property
    def disturbed(self) -> bool:
        """Whether other programs were busy meanwhile."""
        return self.others is not None and self.others > BUSY

    def figure(self, side: SideReport) -> float | None:
        """Return a side's median, per what is counted; `None` when there is none."""
        return statistics.median(side.samples) / self.count if side.samples else None

    def ratio(self, side: SideReport) -> float | None:
        """Return the first side's figure divided by this one's; `None` when there is none."""
        ours, theirs = self.figure(self.sides[0]), self.figure(side)
        return None if ours is None or not theirs else ours / theirs

    def meets(self, side: SideReport) -> bool | None:
        """Tell whether a side's target is met; `None` where there is none, or no figure for it."""
        if side.target is None:
            return None
        kind, limit = side.target.kind, side.target.limit
        if kind == Kind.FIGURE:
            figure = self.figure(side)
            return None if figure is None else figure <= limit
        ratio = self.ratio(side)
        if ratio is None:
            return None
        return ratio <= limit if kind == Kind.RATIO else 1 / ratio >= limit


@attrs.frozen
class Report:
    """One run of `syncflow bench`."""

    quick: bool
    workers: int
    machine: Mapping[str, object]
    cases: tuple[CaseReport, ...]

    @property
    def wrong(self) -> int:
        """How many cases show that something is wrong with syncflow.

        Those where its own side raised, and those where results differ. What a peer raises is its
        own affair.
        """
        return sum(
            case.sides[0].outcome == Outcome.FAILED
            or any(side.outcome == Outcome.DIFFERENT for side in case.sides)
            for case in self.cases
        )
