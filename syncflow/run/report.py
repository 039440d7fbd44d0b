"""Tell hooks what happens, and make the result of each step that settles."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from inspect import getattr_static
from typing import Any

from syncflow.context import Context, Snapshot
from syncflow.hooks import Event, Hooks, MapProgress
from syncflow.result import MapResult, StepResult, StepStatus
from syncflow.run.around import Around
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
    """Reports the steps of one run, in its thread; `late_finish` and `around` also in others."""

    def __init__(self, flow_name: str, run_id: str, hooks: Sequence[Hooks], clock: Clock) -> None:
        self._flow_name = flow_name
        self._run_id = run_id
        self._hooks = hooks
        #: Those that have a say in what bodies run in.
        self._arounds = [
            each for each in hooks if getattr_static(each, "around") is not Hooks.around
        ]
        self._clock = clock
        #: The methods that have raised already: (hooks, name) -> who said so. Any thread.
        self._broken: dict[tuple[int, str], object] = {}
        #: The flow as hooks see it.
        self.view = Snapshot(None, {}, {})
        #: The results of all steps that have settled.
        self.results: dict[str, StepResult] = {}

    @property
    def listening(self) -> bool:
        """Whether there is any hook."""
        return bool(self._hooks)

    @property
    def surrounds(self) -> Callable[[Member, Context], Around] | None:
        """What asks hooks what bodies run in; `None`: none has a say in that."""
        return self.around if self._arounds else None

    def emit(self, hook: str, step_name: str = "", attempt: int = 0, **fields: Any) -> None:
        """Call one method of every hooks object."""
        if not self._hooks:
            return
        event = self._event(step_name, attempt, fields)
        for hooks in self._hooks:
            try:
                getattr(hooks, hook)(event)
            except BaseException as error:
                self._complain(hooks, hook, error)

    def _event(self, step_name: str, attempt: int, fields: dict[str, Any]) -> Event:
        return Event(
            self._flow_name, self._run_id, datetime.now(UTC),
            Context(self._flow_name, self._run_id, step_name, attempt, self.view),
            step_name=step_name or None, attempt=attempt or None, **fields,
        )  # fmt: skip

    def _complain(self, hooks: Hooks, hook: str, error: BaseException) -> None:
        """Log that a method raises, once. Any thread."""
        mine = object()
        if self._broken.setdefault((id(hooks), hook), mine) is mine:
            with suppress(Exception):  # a handler may raise anything
                logger.error(
                    "%s of %s raised (flow %r, run %r)",
                    hook, type(hooks).__name__, self._flow_name, self._run_id, exc_info=error,
                )  # fmt: skip

    def around(self, member: Member, context: Context) -> Around:
        """Ask hooks what the body of an attempt is to run in.

        For a map they are asked once, by the run's thread, before any lane has an item; then lanes
        find here what came of it.
        """
        if member.around is not None:
            return member.around
        is_map = member.tally is not None
        event = self._event(
            member.name, 0 if is_map else context.attempt,
            {"group": member.group, "error": context.error},
        )  # fmt: skip
        parts = []
        for hooks in self._arounds:
            complain = partial(self._complain, hooks, "around")
            try:
                make = hooks.around(event)
            except BaseException as error:
                complain(error)
            else:
                if make is not None:
                    parts.append((make, complain))
        around = Around(parts)
        if is_map:
            member.around = around
        return around

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
        if started is not None and tally is None:
            result._took = member.ended_at - started
        if member.laps:
            result._laps = self._clock.date(member.laps)
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
