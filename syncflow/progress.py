"""How far a run has come: fed by its events, told in lines. Draws nothing and keeps no time itself.

A flow's nodes run one after the other, so there is a line for each that has been reached: a step's
says how it is, that of a group or a map has counts and a rate. A flow that is a step is one step.
The rollback, once it has begun, and the flow as a whole have lines of their own, the last ones.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Literal

import attrs

from syncflow.definition import Parallel, Step
from syncflow.hooks import Event, Hooks
from syncflow.mapping import Map, Node
from syncflow.render import one_line
from syncflow.result import MapResult
from syncflow.subflow import steps_of

__all__ = ["Board", "Line"]

Status = Literal["running", "completed", "failed", "cancelled"]

#: Characters of a name that a line shows.
_NAME_WIDTH = 40

#: Seconds from which on a rate means something.
_LEAST_FOR_RATE = 0.1


@attrs.frozen
class Line:
    """One line, in parts that hold no control character."""

    name: str
    text: str
    #: How long it took or has taken so far, for people.
    elapsed: str
    #: Per second, or empty.
    rate: str
    status: Status
    #: How many have settled, of how many; no total: there is nothing to count, or nobody knows.
    settled: int = 0
    total: int | None = None
    #: It is that of a single step.
    is_step: bool = False

    def __str__(self) -> str:
        parts = (self.text, self.elapsed, self.rate)
        return f"{self.name}: {', '.join(part for part in parts if part)}"


@attrs.define
class _Row:
    """What is known of a node, or of the rollback."""

    name: str
    began: float
    #: None: not yet known, of a map.
    total: int | None
    kind: Literal["step", "group", "map", "rollback"]
    ended: float | None = None
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    #: Of a map: items that wait for their next attempt.
    resting: int = 0
    #: Members that have started and not settled; true: they have failed at least once.
    active: dict[str, bool] = attrs.Factory(dict)
    #: Of a map that has settled: how. It may have failed without a failed item.
    outcome: Status | None = None

    @property
    def settled(self) -> int:
        return self.completed + self.failed + self.cancelled

    @property
    def status(self) -> Status:
        if self.ended is None:
            return "running"
        if self.outcome not in (None, "completed"):
            return self.outcome
        if self.failed or self.settled != self.total:
            return "failed"  # a rollback that was given up has not undone all
        return "cancelled" if self.cancelled else "completed"

    def line(self, now: float) -> Line:
        """Tell it."""
        elapsed = (now if self.ended is None else self.ended) - self.began
        retrying = self.resting + sum(self.active.values())
        if self.kind == "step":
            text = "retrying" if retrying else self.status
            return Line(self.name, text, _duration(elapsed), "", self.status, is_step=True)
        done = "undone" if self.kind == "rollback" else "done"
        counts = [f"{self.completed}{'' if self.total is None else f' of {self.total}'} {done}"]
        # The items of a map are not heard of one by one: those that run are not known.
        running = 0 if self.kind == "map" else len(self.active) - retrying
        for number, what in (
            (self.failed, "failed"),
            (self.cancelled, "cancelled"),
            (running, "running"),
            (retrying, "retrying"),
        ):
            if number:
                counts.append(f"{number} {what}")
        rate = _rate(self.settled / elapsed) if self.settled and elapsed >= _LEAST_FOR_RATE else ""
        return Line(
            self.name, ", ".join(counts), _duration(elapsed), rate, self.status,
            self.settled, self.total,
        )  # fmt: skip


class Board(Hooks):
    """What the events of one run come to. The run's thread writes to it; any may read.

    Args:
        flow_name: Of the flow that runs.
        nodes: Its steps, groups and maps.
        clock: Tells the time in seconds.
    """

    def __init__(self, flow_name: str, nodes: Sequence[Node], clock: Callable[[], float]) -> None:
        self.flow_name = one_line(flow_name, _NAME_WIDTH)
        self._clock = clock
        self._began = clock()
        self._ended: float | None = None
        self._status: Status = "running"
        self._total = len(nodes)
        #: The node and the definition of each step, by name.
        self._steps: dict[str, tuple[Node, Step]] = {
            step.name: (node, step) for node in nodes for step in steps_of(node)
        }
        #: Guards all that follows. Nothing else happens while it is held.
        self._lock = threading.Lock()
        #: The nodes that have been reached, in order.
        self._rows: dict[str, _Row] = {}
        #: The steps that a rollback would have to undo.
        self._owed: set[str] = set()
        self._rollback: _Row | None = None

    # --- what is told ------------------------------------------------------------------------

    def lines(self, most: int) -> list[Line]:
        """Tell of the latest nodes and of the rollback, in at most so many lines."""
        now = self._clock()
        with self._lock:
            rows = [*self._rows.values(), *([self._rollback] if self._rollback else [])]
            return [row.line(now) for row in rows[-most:]]

    def summary(self) -> Line:
        """Tell of the flow as a whole."""
        now = self._clock()
        with self._lock:
            elapsed = (now if self._ended is None else self._ended) - self._began
            done = sum(row.ended is not None for row in self._rows.values())
            text = f"{done} of {self._total} done" if self._ended is None else self._status
            return Line(
                self.flow_name, text, _duration(elapsed), "", self._status, done, self._total
            )

    # --- what happens ------------------------------------------------------------------------

    def on_step_start(self, event: Event) -> None:
        """Count the step among those that run."""
        with self._lock:
            row, step = self._row(event)
            row.active[step.name] = False

    def on_step_retry(self, event: Event) -> None:
        """Count the step among those that are tried again; the items of a map count themselves."""
        with self._lock:
            row, step = self._row(event)
            if row.kind != "map":
                row.active[step.name] = True

    def on_map_progress(self, event: Event) -> None:
        """Take over the counts."""
        progress = event.progress
        assert progress is not None
        with self._lock:
            row, _ = self._row(event)
            row.completed, row.failed = progress.completed, progress.failed
            row.cancelled, row.resting = progress.cancelled, progress.retrying
            row.total = progress.total

    def on_step_complete(self, event: Event) -> None:
        """Count the step as done."""
        self._settle(event, "completed")

    def on_step_fail(self, event: Event) -> None:
        """Count the step as failed."""
        self._settle(event, "failed")

    def on_step_cancel(self, event: Event) -> None:
        """Count the step as cancelled."""
        self._settle(event, "cancelled")

    def on_compensate(self, event: Event) -> None:
        """Begin the rollback, or the next part of it."""
        name = event.step_name or ""
        with self._lock:
            row = self._undoing()
            row.active[name] = False
            row.total = max(row.total or 0, row.settled + len(row.active))

    def on_compensate_complete(self, event: Event) -> None:
        """Count the step as undone."""
        self._undone(event, "completed")

    def on_compensate_fail(self, event: Event) -> None:
        """Count the step as one that could not be undone."""
        self._undone(event, "failed")

    def on_flow_complete(self, event: Event) -> None:
        """End as completed."""
        self._end("completed")

    def on_flow_fail(self, event: Event) -> None:
        """End as failed."""
        self._end("failed")

    def on_flow_cancel(self, event: Event) -> None:
        """End as cancelled."""
        self._end("cancelled")

    def _row(self, event: Event) -> tuple[_Row, Step]:
        """Return the row of the node that the step belongs to, and its definition."""
        node, step = self._steps[event.step_name or ""]
        row = self._rows.get(node.name)
        if row is None:
            name = one_line(node.name, _NAME_WIDTH)
            row = _Row(name, self._clock(), 1, "step")
            if isinstance(node, Parallel):
                row = _Row(name, row.began, len(node.steps), "group")
            elif isinstance(node, Map):
                row = _Row(name, row.began, None, "map")
            self._rows[node.name] = row
        return row, step

    def _settle(self, event: Event, status: Status) -> None:
        with self._lock:
            row, step = self._row(event)
            started = row.active.pop(step.name, None) is not None
            result = event.result
            if isinstance(result, MapResult):
                row.completed, row.failed = result.completed, result.failed
                row.cancelled, row.resting = result.cancelled, 0
                row.total, row.outcome = row.settled, status
                done = result.completed > 0
            else:
                setattr(row, status, getattr(row, status) + 1)
                done = status == "completed"
            if row.settled == row.total:
                row.ended = self._clock()
            if step.reversible and (done or (started and step.compensate_on == "started")):
                self._owed.add(step.name)

    def _undoing(self) -> _Row:
        if self._rollback is None:
            self._rollback = _Row("rollback", self._clock(), len(self._owed), "rollback")
        return self._rollback

    def _undone(self, event: Event, status: Status) -> None:
        with self._lock:
            row = self._undoing()
            row.active.pop(event.step_name or "", None)
            setattr(row, status, getattr(row, status) + 1)
            if row.settled == row.total:
                row.ended = self._clock()

    def _end(self, status: Status) -> None:
        with self._lock:
            self._ended, self._status = self._clock(), status
            if self._rollback is not None:
                self._rollback.ended = self._rollback.ended or self._ended


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02} min"


def _rate(per_second: float) -> str:
    return f"{per_second:,.1f}/s" if per_second >= 1 else f"{per_second:.2g}/s"
