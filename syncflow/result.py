"""What `run` returns: the result of the flow, and in it those of its steps and compensations.

The run's own thread writes these objects until `run` returns; from then on they are yours, and
safe to read from any thread. They pickle when the values and errors in them do.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from syncflow.errors import FlowCancelledError, FlowFailedError, RollbackIncompleteError

if TYPE_CHECKING:
    import os
    from datetime import datetime

    from syncflow.laps import Lap

# No name is suggested in a flow with more names than this: difflib needs some 50 µs for each.
_MOST_NAMES_TO_COMPARE = 1000


class StepStatus(enum.StrEnum):
    """How a step or a group settled.

    `cancelled`: it was stopped, or kept from starting, because of something else. `skipped`: the
    run never got to it.
    """

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class FlowStatus(enum.StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RollbackStatus(enum.StrEnum):
    """Whether what completed has been undone.

    `incomplete`: a compensation failed, was skipped after a second Ctrl-C, or is still owed by a
    body that was abandoned.
    """

    NOT_NEEDED = "not_needed"
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"


class CompensationStatus(enum.StrEnum):
    """How the compensation of a step ended; `skipped` after a second Ctrl-C."""

    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"


@attrs.define(eq=False)
class StepResult:
    """Say how one step settled."""

    name: str
    group: str | None
    status: StepStatus
    #: What the body returned; `None` unless `completed`.
    value: Any
    #: The last attempt's error; `None` when `completed` or `skipped`.
    error: BaseException | None
    #: Attempts whose body started; 0 for a step that never did.
    attempts: int
    #: Seconds spent waiting for a worker.
    queued: float
    #: Seconds from the first start to settled, waiting between attempts included.
    duration: float
    #: Seconds spent waiting between attempts.
    backoff: float
    #: UTC; `None` for a step that never started.
    started_at: datetime | None
    #: As the step names it; of an executor, the name of its class.
    pool: str
    #: Thread name or pid of the last attempt; `None` for a step that never started.
    worker: str | int | None
    #: `None` for a step that no rollback has reached.
    compensation: CompensationStatus | None = None
    #: Seconds from the first start to the end of the last body; settling may take a while longer.
    _took: float | None = attrs.field(default=None, init=False)
    #: Every attempt of a step that was retried; of a map, what its workers did when.
    _laps: tuple[Lap, ...] = attrs.field(default=(), init=False)

    @property
    def ok(self) -> bool:
        """Tell whether the step completed."""
        return self.status == StepStatus.COMPLETED

    def __repr__(self) -> str:
        return _short_repr(self, self.name)


@attrs.define(eq=False)
class MapResult(StepResult):
    """Say how a map settled: a `StepResult` whose `value` is the list of the items' values.

    There is no result object per item. `value` is there whatever the status; `attempts` is the sum
    over the items, `queued` the seconds until the first of them started, `backoff` the sum of their
    delays.
    """

    #: The error of each failed item, by its index.
    errors: dict[int, BaseException] = attrs.field(factory=dict)
    #: How many items completed.
    completed: int = 0
    #: How many failed.
    failed: int = 0
    #: How many were stopped, or taken from the source and never started.
    cancelled: int = 0

    @property
    def values(self) -> list[Any]:
        """The items' values in item order, `None` where failed; empty with `keep_values=False`."""
        return self.value  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return _short_repr(self, self.name)


@attrs.define(eq=False)
class GroupResult:
    """Say how a parallel group settled and was judged; `skipped` when it was never reached."""

    name: str
    status: StepStatus
    error: BaseException | None
    #: Seconds from its start until the last member had settled.
    duration: float
    #: The members, in declaration order: the same objects as in `FlowResult.steps`.
    steps: tuple[StepResult, ...]
    #: UTC; `None`: never.
    _started_at: datetime | None = attrs.field(default=None, init=False)

    @property
    def ok(self) -> bool:
        """Tell whether the group completed; some of its members may have failed."""
        return self.status == StepStatus.COMPLETED

    @property
    def completed(self) -> int:
        """Count the members that completed."""
        return self._count(StepStatus.COMPLETED)

    @property
    def failed(self) -> int:
        """Count the members that failed."""
        return self._count(StepStatus.FAILED)

    @property
    def cancelled(self) -> int:
        """Count the members that were stopped or never started."""
        return self._count(StepStatus.CANCELLED)

    def _count(self, status: StepStatus) -> int:
        return sum(step.status == status for step in self.steps)

    def __repr__(self) -> str:
        return _short_repr(self, self.name)


@attrs.define(eq=False)
class CompensationResult:
    """Say how the compensation of one step ended."""

    step_name: str
    status: CompensationStatus
    #: The last attempt's error; of a map, a `GroupFailedError` when several items have one.
    error: BaseException | None
    attempts: int
    #: UTC; `None` for one that never started.
    started_at: datetime | None
    #: Seconds, retries and their delays included.
    duration: float
    #: Whether it undid the body of an abandoned attempt that returned after all.
    late: bool = False
    #: As in `StepResult`.
    _worker: str | int | None = attrs.field(default=None, init=False)
    _took: float | None = attrs.field(default=None, init=False)
    _laps: tuple[Lap, ...] = attrs.field(default=(), init=False)

    @property
    def ok(self) -> bool:
        """Tell whether the compensation completed."""
        return self.status == CompensationStatus.COMPLETED

    def __repr__(self) -> str:
        return _short_repr(self, self.step_name)


@attrs.define(eq=False)
class FlowResult:
    """Say how a run ended, and everything in it.

    `result[name]` is the `StepResult` or `GroupResult` of that name.
    """

    name: str
    run_id: str
    status: FlowStatus
    #: Why the run did not complete: the step's own exception object wherever there is one.
    error: BaseException | None
    rollback: RollbackStatus
    #: One for every defined step, in definition order.
    steps: tuple[StepResult, ...]
    #: By name.
    groups: dict[str, GroupResult]
    #: In the order they ran.
    compensations: tuple[CompensationResult, ...]
    #: Names of the steps with a body that was still running on its thread when `run` returned.
    abandoned: tuple[str, ...]
    #: UTC.
    started_at: datetime
    #: Seconds, rollback included.
    duration: float
    #: The name of the thread that called `run`.
    _thread: str | None = attrs.field(default=None, init=False)
    #: Of a completed flow in another, until that has settled: knows how to undo it.
    _run: Any = attrs.field(default=None, init=False)
    #: Made on first use. Two threads may both make it: they make the same.
    _by_name: dict[str, StepResult | GroupResult] | None = attrs.field(default=None, init=False)

    # `in` and `[]` take names; without this, iterating would try 0, 1, ... and raise KeyError.
    __iter__: ClassVar[None] = None

    @property
    def ok(self) -> bool:
        """Tell whether the flow completed."""
        return self.status == FlowStatus.COMPLETED

    @property
    def partial(self) -> bool:
        """Tell whether the flow completed although members of its groups or items failed."""
        return self.ok and any(
            step.status == StepStatus.FAILED or (isinstance(step, MapResult) and step.failed)
            for step in self.steps
        )

    @property
    def values(self) -> dict[str, Any]:
        """Map the name of every completed step to its value, in a new dict in definition order."""
        return {step.name: step.value for step in self.steps if step.status is StepStatus.COMPLETED}

    def __getitem__(self, name: str) -> Any:
        """Return the result of a step or group.

        Returns:
            The `StepResult` or `GroupResult` (typed `Any`, so that it can be used as the one you
            know it is).

        Raises:
            KeyError: the flow has nothing of that name; the message tells the nearest one.
        """
        try:
            return self._index()[name]
        except KeyError:
            raise KeyError(self._unknown(name)) from None

    def __contains__(self, name: object) -> bool:
        return name in self._index()

    def raise_for_status(self) -> FlowResult:
        """Raise unless the flow completed.

        Returns:
            The result itself, so that calls can be chained.

        Raises:
            FlowCancelledError: the run was cancelled, whatever became of its rollback.
            RollbackIncompleteError: the flow failed and something it did was not undone.
            FlowFailedError: the flow failed and everything it did was undone.
                Each has this object as `.result` and `error` as its `__cause__`.
        """
        if self.status == FlowStatus.CANCELLED:
            raise FlowCancelledError(getattr(self.error, "reason", None), self) from self.error
        if self.status == FlowStatus.FAILED:
            if self.rollback == RollbackStatus.INCOMPLETE:
                errors = tuple(
                    c.error for c in self.compensations if not c.ok and c.error is not None
                )
                raise RollbackIncompleteError(self, errors) from self.error
            raise FlowFailedError(self) from self.error
        return self

    def table(self) -> str:
        """Return a text table of all steps, ended by a line about the whole run.

        Control characters are escaped and long texts are cut: it is safe to print on a terminal.
        """
        from syncflow import render

        return render.table(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data that `json.dumps(..., allow_nan=False)` accepts.

        Keys are the attribute names. NaN and infinities become `None`, times ISO 8601, errors
        `{"type", "message", "notes"}`, and what JSON does not know its `repr`. A group lists the
        names of its steps. Never raises.
        """
        from syncflow import render

        return render.to_dict(self)

    def timeline(self, width: int | None = None) -> str:
        """Draw the run as text: a line a step, with a bar where it ran, on one time axis.

        Waiting is drawn lighter, failed attempts as `x`; compensations come last. Of very many
        lines, most of those that completed become one. Besides the names, which are safe to print
        on a terminal, all is ASCII.

        Args:
            width: Columns; under 40 count as 40. `None`: the terminal's, 100 where there is none.
        """
        from syncflow import timeline

        return timeline.draw(self, width)

    def trace(self, path: str | os.PathLike[str]) -> None:
        """Write when what ran where to a file, as a Chrome trace that Perfetto opens.

        The format is JSON, with times in microseconds from the start of the run. There is a row for
        each worker, the thread that called `run` first, and one for each step that waited. Groups
        and flows are around what is in them. What failed says so in its name and `args`. A map has
        some hundred spans at most, each of which says of how many items it tells.

        Args:
            path: Is replaced if it exists.

        Raises:
            OSError: the file cannot be written.
        """
        from syncflow import trace

        trace.write(self, path)

    def _repr_html_(self) -> str:
        """Return the table for a notebook, escaped."""
        from syncflow import render

        return render.html(self)

    def __repr__(self) -> str:
        return _short_repr(self, self.name)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to the run: a copy is a record, and undoes nothing."""
        fields = attrs.fields(FlowResult)
        return {field.name: getattr(self, field.name) for field in fields} | {"_run": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def _unwind(self, *args: Any, **options: Any) -> Any:
        """Undo what this flow has done as part of another; see `run.nested`."""
        return self._run.unwind(self, *args, **options)

    def _forget(self) -> None:
        """Let go of the run, which nobody is going to undo any more."""
        run, self._run = self._run, None
        if run is not None:
            run.close()

    def _index(self) -> dict[str, StepResult | GroupResult]:
        if self._by_name is None:
            self._by_name = {**self.groups, **{step.name: step for step in self.steps}}
        return self._by_name

    def _unknown(self, name: object) -> str:
        message = f"flow {self.name!r} has no step or group {name!r}"
        names = self._index()
        if isinstance(name, str) and len(names) <= _MOST_NAMES_TO_COMPARE:
            import difflib

            for nearest in difflib.get_close_matches(name, names, 1):
                message += f"; did you mean {nearest!r}?"
        return message


def _short_repr(
    result: StepResult | GroupResult | CompensationResult | FlowResult, name: str
) -> str:
    """Show kind, name, status and the error's type; no values and no messages."""
    error = "" if result.error is None else f" {type(result.error).__name__}"
    return f"<{type(result).__name__} {name!r} {result.status}{error}>"
