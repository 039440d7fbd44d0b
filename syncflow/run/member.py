"""The runner's own record of one member of the group at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from syncflow.errors import describe
from syncflow.laps import Lap
from syncflow.run.effects import Effect

if TYPE_CHECKING:
    from syncflow.definition import Step
    from syncflow.result import StepStatus
    from syncflow.run.around import Around
    from syncflow.run.jobs import Attempt
    from syncflow.run.places import Place
    from syncflow.run.tally import Tally

__all__ = ["Member"]


#: How many attempts of one member are remembered one by one.
MOST_LAPS: Final = 256

#: Shared by all members that wrote nothing: most of them.
_NO_WRITES: Final[Mapping[str, Any]] = MappingProxyType({})


class Member:
    """Written by the thread that drives the group; abandoned bodies read `step` and `effect`."""

    __slots__ = (
        "around", "attempt", "attempts", "backoff", "begun", "effect", "ended_at", "error",
        "first_started", "group", "index", "item", "laps", "name", "place", "queued", "ready_at",
        "settled_at", "started_at", "status", "step", "tally", "value", "worker", "writes",
    )  # fmt: skip

    def __init__(
        self,
        index: int,
        step: Step,
        place: Place,
        name: str,
        group: str | None = None,
        item: int | None = None,
    ) -> None:
        #: Position in the group.
        self.index = index
        self.step = step
        self.place = place
        #: The step's name; of a compensation, the name of the step it undoes.
        self.name = name
        #: The name of its group.
        self.group = group
        #: The index of the one item of a map that it stands for.
        self.item = item
        #: It stands for all items of a map: their books.
        self.tally: Tally | None = None
        #: ... and what all bodies of the map run in, once hooks were asked.
        self.around: Around | None = None
        #: The one that is running or queued.
        self.attempt: Attempt | None = None
        self.attempts = 0
        self.status: StepStatus | None = None
        self.value: Any = None
        self.writes: Mapping[str, Any] = _NO_WRITES
        self.error: Exception | None = None
        self.worker: str | int | None = None
        #: Monotonic instants; None until they come.
        self.ready_at = 0.0
        self.first_started: float | None = None
        self.settled_at = 0.0
        #: Of the last attempt whose body started.
        self.started_at: float | None = None
        self.ended_at = 0.0
        #: Every attempt, in monotonic instants, of a member that was retried; see `keep`.
        self.laps: Sequence[Lap] = ()
        self.queued = 0.0
        self.backoff = 0.0
        #: Somebody was told that it started.
        self.begun = False
        #: Made when an attempt is abandoned.
        self.effect: Effect | None = None

    def ran(self, started_at: float | None, ended_at: float, worker: str | int | None) -> None:
        """Take note of a body that was abandoned; for each that ends, the engine spares the call.

        Args:
            started_at: `None`: nobody knows.
            ended_at: Both are monotonic instants.
            worker: Name of the thread, or pid.
        """
        self.worker, self.ended_at = worker, ended_at
        if started_at is not None:
            self.started_at = started_at
            self.queued += started_at - self.ready_at
            if self.first_started is None:
                self.first_started = started_at

    def rest(self, number: int, error: Exception, now: float) -> None:
        """Let attempt `number` be over, and wait for the next from now, a monotonic instant."""
        self.keep(number, error, now)
        self.attempt, self.ready_at = None, now

    def keep(self, number: int, error: Exception | None, now: float) -> None:
        """Keep the times of the attempt at hand, as there is more than one.

        Of very many, those in the middle are dropped.

        Args:
            number: Of the attempt, from 1.
            error: Its error; `None`: there was none, or it is the step's.
            now: Monotonic instant; the end of one that never started.
        """
        ended_at = now if self.started_at is None else self.ended_at
        text = None if error is None else describe(error)
        lap = Lap(number, self.ready_at, self.started_at, ended_at, self.worker, text)
        self.laps = [*self.laps, lap]
        self.started_at = None
        if len(self.laps) > MOST_LAPS:
            del self.laps[MOST_LAPS // 2]

    def the_effect(self) -> Effect:
        """Return what abandoned bodies go by; made on first use."""
        if self.effect is None:
            self.effect = Effect()
        return self.effect
