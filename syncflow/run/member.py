"""The runner's own record of one member of the group at hand."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from syncflow.run.effects import Effect

if TYPE_CHECKING:
    from syncflow.definition import Step
    from syncflow.result import StepStatus
    from syncflow.run.around import Around
    from syncflow.run.jobs import Attempt
    from syncflow.run.places import Place
    from syncflow.run.tally import Tally

__all__ = ["Member"]


#: Shared by all members that wrote nothing: most of them.
_NO_WRITES: Final[Mapping[str, Any]] = MappingProxyType({})


class Member:
    """Written by the thread that drives the group; abandoned bodies read `step` and `effect`."""

    __slots__ = (
        "around", "attempt", "attempts", "backoff", "begun", "effect", "error", "first_started",
        "group", "index", "item", "name", "place", "queued", "ready_at", "settled_at", "status",
        "step", "tally", "value", "worker", "writes",
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
        self.queued = 0.0
        self.backoff = 0.0
        #: Somebody was told that it started.
        self.begun = False
        #: Made when an attempt is abandoned.
        self.effect: Effect | None = None

    def the_effect(self) -> Effect:
        """Return what abandoned bodies go by; made on first use."""
        if self.effect is None:
            self.effect = Effect()
        return self.effect
