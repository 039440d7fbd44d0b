"""Tell hooks what happens, and make the result of each step that settles."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from syncflow.context import Context, Snapshot
from syncflow.hooks import Event, Hooks, MapProgress
from syncflow.result import MapResult, StepResult, StepStatus
from syncflow.run.jobs import Attempt
from syncflow.run.member import Member
from syncflow.run.rollback import Clock
from syncflow.run.watching import Watcher

__all__ = ["CompensationReporter", "Reporter"]

logger = logging.getLogger("syncflow")

_SETTLED = {
    StepStatus.COMPLETED: "on_step_complete",
    StepStatus.FAILED: "on_step_fail",
    StepStatus.CANCELLED: "on_step_cancel",
}


class Reporter(Watcher):
    """Reports the steps of one run. The run's thread calls it; `late_finish` alone others may."""

    def __init__(self, flow_name: str, run_id: str, hooks: Sequence[Hooks], clock: Clock) -> None:
        self._flow_name = flow_name
        self._run_id = run_id
        self._hooks = hooks
        self._clock = clock
        #: The methods that have raised already: (hooks, name).
        self._broken: set[tuple[int, str]] = set()
        #: The flow as hooks see it.
        self.view = Snapshot(None, {}, {})
        #: The results of all steps that have settled.
        self.results: dict[str, StepResult] = {}

    @property
    def listening(self) -> bool:
        """Whether there is any hook."""
        return bool(self._hooks)

    def emit(self, hook: str, step_name: str = "", attempt: int = 0, **fields: Any) -> None:
        """Call one method of every hooks object."""
        if not self._hooks:
            return
        event = Event(
            self._flow_name, self._run_id, datetime.now(UTC),
            Context(self._flow_name, self._run_id, step_name, attempt, self.view),
            step_name=step_name or None, attempt=attempt or None, **fields,
        )  # fmt: skip
        for hooks in self._hooks:
            try:
                getattr(hooks, hook)(event)
            except BaseException:
                if (id(hooks), hook) not in self._broken:
                    self._broken.add((id(hooks), hook))
                    logger.exception(
                        "%s of %s raised (flow %r, run %s)",
                        hook, type(hooks).__name__, self._flow_name, self._run_id,
                    )  # fmt: skip

    def began(self, member: Member, number: int) -> None:
        self.emit("on_step_start", member.name, number, group=member.group)

    def retrying(self, member: Member, number: int, error: Exception, delay: float) -> None:
        self.emit(
            "on_step_retry", member.name, number, group=member.group, error=error, delay=delay
        )

    def settled(self, member: Member) -> None:
        status, started = member.status, member.first_started
        assert status is not None
        known = (
            member.name,
            member.group,
            status,
            member.value,
            member.error,
            member.attempts,
            member.queued,
            0.0 if started is None else member.settled_at - started,
            member.backoff,
            None if started is None else self._clock.at(started),
            member.place.name,
            member.worker,
        )
        result: StepResult
        if (tally := member.tally) is None:
            result = StepResult(*known)
        else:
            errors = {index: tally.errors[index] for index in sorted(tally.errors)}
            counts = (tally.completed, tally.failed, tally.cancelled)
            result = MapResult(*known, None, errors, *counts)  # type: ignore[arg-type]
        self.results[member.name] = result
        if self._hooks:
            self.emit(
                _SETTLED[status], member.name, member.attempts,
                group=member.group, error=member.error, result=result,
            )  # fmt: skip

    def progress(self, member: Member, progress: MapProgress) -> None:
        self.emit("on_map_progress", member.name, progress=progress)

    def late_finish(self, attempt: Attempt) -> None:
        """Tell that the body of an abandoned attempt has returned; on that body's thread."""
        member = attempt.member
        self.emit("on_late_finish", member.name, attempt.context.attempt, group=member.group)


class CompensationReporter(Watcher):
    """Reports the start of compensations; the runner reports how they end."""

    def __init__(self, reporter: Reporter, error: BaseException | None) -> None:
        self._reporter = reporter
        self._error = error
        #: Of the last map: its items are undone one by one, and told of as one.
        self._told: str | None = None

    def began(self, member: Member, number: int) -> None:
        if member.item is not None:
            if member.name == self._told:
                return
            self._told = member.name
        self._reporter.emit(
            "on_compensate", member.name, number, group=member.group, error=self._error
        )
