"""What a benchmark is made of: a case, its sides, and the targets of syncflow's side."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from enum import StrEnum

import attrs

__all__ = ["Case", "Kind", "Prepare", "Reading", "Settings", "Side", "Target", "Work"]

#: Does a side's work once and returns what it computed, or a `Reading`.
Work = Callable[[], object]

#: Gets a side ready; what it opens is closed with the stack, when the case has been measured.
Prepare = Callable[[ExitStack], Work]


@attrs.frozen
class Settings:
    """What the user asked for.

    Attributes:
        quick: Measure less work, fewer times: for a first look, not for figures to keep.
        workers: Worker processes of each side; the targets are stated for 2.
    """

    quick: bool = False
    workers: int = 2

    def pick(self, full: int, quick: int) -> int:
        """Return the size of a case."""
        return quick if self.quick else full


@attrs.frozen
class Reading:
    """A figure that a side took itself, where the time its work takes is not what is asked for.

    Attributes:
        figure: In the case's unit, for all of its `count`.
        result: What the side computed.
    """

    figure: float
    result: object


class Kind(StrEnum):
    """What a target limits."""

    #: The case's first side divided by this one: at most so much.
    RATIO = "ratio"
    #: This side divided by the case's first: at least so much.
    SPEEDUP = "speedup"
    #: The figure of this side itself: at most so much.
    FIGURE = "figure"


@attrs.frozen
class Target:
    """What is good enough."""

    kind: Kind
    limit: float


@attrs.frozen
class Side:
    """One way to do the work of a case.

    Attributes:
        name: Who does it, and how.
        prepare: Gets it ready; raises `MissingPeerError` when what it needs is not installed.
        target: `None` where nothing is promised.
    """

    name: str
    prepare: Prepare
    target: Target | None = None


@attrs.frozen
class Case:
    """One comparison. All sides must compute equal results.

    Attributes:
        name: What is measured; with the size, so that only what is alike gets compared.
        sides: The first is syncflow; ratios are its figure divided by each other's.
        count: What a sample is divided by: the steps, items or runs that it covers.
        per: What is counted, as `"step"`; `None` for the whole.
        unit: Of a sample: `"s"` or `"B"`.
        series: The curve of a plot that the case is a point of; `None` for none.
        at: Where on that curve: a group size, a number of workers.
    """

    name: str
    sides: tuple[Side, ...]
    count: int = 1
    per: str | None = None
    unit: str = "s"
    series: str | None = None
    at: int | None = None

    def shortened(self) -> Case:
        """Leave out the sides that no target is about; without targets, all but the first two."""
        aimed = [side for side in self.sides[1:] if side.target is not None]
        if not aimed and self.sides[0].target is None:
            aimed = list(self.sides[1:2])
        return attrs.evolve(self, sides=(self.sides[0], *aimed))
