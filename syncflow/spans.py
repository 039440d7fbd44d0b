"""What ran where and when: a result as a list of spans, which `trace` and `timeline` draw.

Names and messages come from users' code: no control character of theirs gets through, and a time
that is none is drawn as nothing. In real results every span is within the run by itself; made-up
ones are cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs

from syncflow.errors import describe
from syncflow.laps import Lap
from syncflow.render import one_line
from syncflow.result import CompensationResult, FlowResult, MapResult, StepResult, StepStatus

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["WAITING", "Span", "flow_in", "spans"]

#: The kinds of spans in which nothing runs.
WAITING: Final = frozenset({"queued", "backoff"})

#: Seconds; no shorter wait is drawn: it takes a thread some of that to pick up a step.
_SHORTEST_WAIT: Final = 0.001

#: Characters of a name and of an error.
_NAME_WIDTH: Final = 120
_ERROR_WIDTH: Final = 500


@attrs.frozen
class Span:
    """A bar in a drawing of a run."""

    #: The worker: the name of a thread, or "process" and a pid; empty for a wait.
    row: str
    #: The names that lead to the step or group, through the flows it is in; empty: the flow itself.
    path: tuple[str, ...]
    name: str
    #: flow, group, step, map, attempt, items, queued, backoff, rollback, compensation or undone.
    kind: str
    #: Seconds from the start of the run.
    start: float
    #: The same; never before the start.
    end: float
    status: str
    #: What else is known, for JSON.
    args: Mapping[str, str | int] = MappingProxyType({})


def spans(result: FlowResult) -> list[Span]:
    """Return all that is known of when a run did what; what encloses others comes before them."""
    drawing = _Drawing(result)
    drawing.flow(result, (), _row(result._thread, "caller"))
    return drawing.spans


class _Drawing:
    """Collects the spans of a run, and of the flows in it."""

    def __init__(self, result: FlowResult) -> None:
        self._zero = result.started_at
        self._length = _duration(result.duration)
        self.spans: list[Span] = []

    def flow(self, result: FlowResult, path: tuple[str, ...], row: str) -> None:
        """Draw a flow; `row`: the thread that ran it."""
        start = self._at(result.started_at)
        end = start + _duration(result.duration)
        self._add(
            row, path, result.name, "flow", start, end, result.status,
            run_id=result.run_id, error=_message(result.error),
        )  # fmt: skip
        for group in result.groups.values():
            if group._started_at is not None:
                began = self._at(group._started_at)
                self._add(
                    row, (*path, group.name), group.name, "group",
                    began, began + _duration(group.duration), group.status,
                    completed=group.completed, failed=group.failed, cancelled=group.cancelled,
                    error=_message(group.error),
                )  # fmt: skip
        for step in result.steps:
            self._step(step, (*path, step.name), row, result.run_id)
        first, undone = len(self.spans), list[Span]()
        for one in result.compensations:
            if one.started_at is not None:
                at, drawn = self._at(one.started_at), len(self.spans)
                self._compensation(one, at, (*path, one.step_name), row)
                # What was undone later is part of the rollback of the flow around this one.
                if not one.late and at <= end:
                    undone += self.spans[drawn:]
        if undone:
            since, until = min(span.start for span in undone), max(span.end for span in undone)
            self._add(row, path, "rollback", "rollback", since, until, result.rollback)
            self.spans.insert(first, self.spans.pop())

    # --- what a flow is made of --------------------------------------------------------------

    def _step(self, step: StepResult, path: tuple[str, ...], caller: str, run_id: str) -> None:
        """Draw a step, and the flow that it is; `caller`: the row of the flow that it is in."""
        if step.started_at is None:
            return
        start, unknown = self._at(step.started_at), f"{step.pool} (worker not known)"
        settled, ready = start + _duration(step.duration), start - _duration(step.queued)
        is_map = isinstance(step, MapResult)
        laps = self._laps(step._laps)
        if not (laps or is_map):
            laps = [Lap(step.attempts, ready, start, start + _took(step), step.worker)]
        elif not is_map:
            ready = laps[0].ready_at
        alone = len(laps) == 1 and _row(laps[0].worker, unknown) == caller and not is_map
        if step.group is None and not alone:
            self._add(
                caller, path, step.name, "map" if is_map else "step", ready, settled, step.status,
                pool=step.pool, attempts=step.attempts, error=_message(step.error),
            )  # fmt: skip
        if is_map:
            self._wait("queued", path, ready, start)
            self._items(path, step.name, "items", laps, unknown)
        else:
            error = _message(step.error)
            self._attempts(path, step.name, "attempt", laps, unknown, step.status, error)
        inner = flow_in(step, run_id)
        if inner is not None:
            self.flow(inner, path, _row(inner._thread, unknown))

    def _compensation(
        self, one: CompensationResult, at: float, path: tuple[str, ...], caller: str
    ) -> None:
        """Draw the compensation of a step, which began at `at`."""
        name, row = f"undo {one.step_name}", _row(one._worker, caller)
        if one.late:
            name += ", late"
        laps, error = self._laps(one._laps), _message(one.error)
        if laps and laps[0].items:
            end = at + _took(one)
            self._add(row, path, name, "compensation", at, end, one.status, error=error)
            self._items(path, name, "undone", laps, row)
            return
        laps = laps or [Lap(one.attempts, at, at, at + _took(one), one._worker)]
        self._attempts(path, name, "compensation", laps, row, one.status, error)

    def _attempts(
        self,
        path: tuple[str, ...],
        name: str,
        kind: str,
        laps: Iterable[Lap],
        unknown: str,
        status: str,
        error: str,
    ) -> None:
        """Draw attempts, and the waits before them; `status` and `error` are those of the last."""
        before: Lap | None = None
        for lap in laps:
            # Of very many attempts some are not known, nor what was between their bodies.
            if before is not None and lap.number <= before.number + 1:
                until = lap.ended_at if lap.started_at is None else lap.ready_at
                self._wait("backoff", path, before.ended_at, until)
            before = lap
            if lap.started_at is None:
                continue
            self._wait("queued", path, lap.ready_at, lap.started_at)
            self._add(
                _row(lap.worker, unknown), path,
                f"{name}, attempt {lap.number}" if lap.number > 1 else name, kind,
                lap.started_at, lap.ended_at, status if lap.error is None else "failed",
                attempt=lap.number, error=error if lap.error is None else lap.error,
            )  # fmt: skip

    def _items(
        self, path: tuple[str, ...], name: str, kind: str, laps: Iterable[Lap], unknown: str
    ) -> None:
        """Draw what workers did for the items of a map."""
        for lap in laps:
            self._add(
                _row(lap.worker, unknown), path, name, kind, lap.started_at or 0.0, lap.ended_at,
                StepStatus.FAILED if lap.failed == lap.items else StepStatus.COMPLETED,
                items=lap.items, failed=lap.failed, retries=lap.retries,
            )  # fmt: skip

    # --- times -------------------------------------------------------------------------------

    def _at(self, instant: datetime) -> float:
        """Return the seconds from the start of the run to an instant."""
        return (instant - self._zero).total_seconds()

    def _laps(self, laps: Iterable[Lap]) -> list[Lap]:
        """Return laps in seconds from the start of the run."""
        return [lap.moved(-self._zero.timestamp()) for lap in laps]

    def _wait(self, kind: str, path: tuple[str, ...], start: float, end: float) -> None:
        if end - start >= _SHORTEST_WAIT:
            self._add("", path, kind, kind, start, end, "waiting")

    def _add(
        self,
        row: str,
        path: tuple[str, ...],
        name: str,
        kind: str,
        start: float,
        end: float,
        status: str,
        **args: str | int,
    ) -> None:
        """Add a span, whose start and end are seconds from the start of the run."""
        start = min(_duration(start), self._length)
        end = max(start, min(_duration(end), self._length))
        known = {
            key: one_line(value, _ERROR_WIDTH) if isinstance(value, str) else value
            for key, value in args.items()
            if value != ""
        }
        name = one_line(name, _NAME_WIDTH)
        self.spans.append(Span(row, path, name, kind, start, end, str(status), known))


def _duration(number: float) -> float:
    """Return the number, or 0 when it is no length of time."""
    return number if math.isfinite(number) and number > 0 else 0.0


def _took(one: StepResult | CompensationResult) -> float:
    """Return the seconds until the last body had ended."""
    return _duration(one.duration if one._took is None else one._took)


def _row(worker: str | int | None, unknown: str) -> str:
    """Return the row of a worker; `unknown`: when nobody knows which it was."""
    if isinstance(worker, int):
        return f"process {worker}"
    return one_line(unknown if worker is None else worker, _NAME_WIDTH)


def _message(error: BaseException | None) -> str:
    return "" if error is None else describe(error)


def flow_in(step: StepResult, run_id: str) -> FlowResult | None:
    """Return what became of the flow that a step was, in its last attempt; `None`: it was none.

    Args:
        step: May also have returned the result of some other flow, which is left out.
        run_id: Of the run around it.
    """
    error = step.error
    for found in (
        step.value,
        getattr(error, "result", None),
        getattr(getattr(error, "__cause__", None), "result", None),
    ):
        if type(found) is FlowResult and found.run_id == f"{run_id}:{step.name}":
            return found
    return None
