"""One run of a flow: walk the nodes, judge them, roll back, and say what came of it.

The thread that called `run` is the only writer of everything here. It waits in one place, its inbox
(see `engine.py`).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from contextvars import copy_context
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from syncflow import timing
from syncflow.context import CancelToken, Snapshot
from syncflow.definition import Parallel
from syncflow.errors import (
    FlowCancelledError,
    FlowTimeoutError,
    InputValidationError,
    StateConflictError,
    describe,
)
from syncflow.mapping import Map, Node
from syncflow.result import (
    CompensationResult,
    CompensationStatus,
    FlowResult,
    FlowStatus,
    GroupResult,
    RollbackStatus,
    StepStatus,
)
from syncflow.run.attempt import call_body
from syncflow.run.bounds import lanes_of
from syncflow.run.ending import all_results
from syncflow.run.engine import Engine
from syncflow.run.group import Group
from syncflow.run.inner import Nest
from syncflow.run.jobs import Scope
from syncflow.run.late import LateDesk, drain_bodies
from syncflow.run.member import Member
from syncflow.run.places import Places
from syncflow.run.report import CompensationReporter, Reporter
from syncflow.run.rollback import (
    Clock,
    compensate,
    compensate_items,
    in_order,
    is_to_be_undone,
    note_compensation,
    rollback_status,
    undo_view,
)
from syncflow.run.signals import Guard
from syncflow.run.watching import INTERRUPT, TIMEOUT, Stop
from syncflow.subflow import steps_of

if TYPE_CHECKING:
    from syncflow.flow import Flow
    from syncflow.hooks import Hooks

__all__ = ["Runner"]


class Runner:
    """One execution of a flow; used once, by one thread."""

    def __init__(
        self,
        flow: Flow,
        nodes: Sequence[Node],
        run_id: str,
        places: Places,
        inbox: SimpleQueue[Any],
        taken: Guard | None,
        token: CancelToken | None,
        timeout: float | None,
        hooks: Sequence[Hooks] = (),
    ) -> None:
        self._flow = flow
        self._nodes = nodes
        self._run_id = run_id
        self._places = places
        self._guard = taken
        self._token = token
        self._timeout = timeout
        self._clock = Clock()
        self._nest = Nest(places.replaced, taken, self._clock)
        self._view = Snapshot(None, {}, {})
        self._reporter = Reporter(flow.name, run_id, (*flow.hooks, *hooks), self._clock)
        self._desk = LateDesk(places, self._clock, inbox, self._reporter.late_finish)
        self._engine = self._make_engine(inbox, token)
        if timeout is not None:
            self._engine.deadline = self._clock.origin + timeout
        self._rolling_back = False
        #: The members of settled nodes, in declaration order.
        self._members: list[Member] = []
        self._groups: dict[str, GroupResult] = {}
        self._compensations: list[CompensationResult] = []

    def _make_engine(self, inbox: SimpleQueue[Any], token: CancelToken | None) -> Engine:
        """Make an engine for the calling thread."""
        scope = Scope(
            self._flow.name, self._run_id, copy_context(), inbox, self._reporter.listening,
            self._desk, self._nest, self._reporter.surrounds,
        )  # fmt: skip
        engine = Engine(scope, self._reporter, token)
        engine.explain = self._explain
        engine.interrupted = self._interrupted
        return engine

    def run(self, input: Any, drain: float) -> FlowResult:
        """Run the flow to its end. Once."""
        if self._token is not None:
            self._token._subscribe(self._engine.cancel)
        try:
            self._reporter.view = self._view
            self._reporter.emit("on_flow_start")
            error = self._validate(input) or self._walk()
            if (stopped := self._engine.stopped) is not None:
                error = stopped.error
            if error is not None:
                self._roll_back(error)
            until = timing.monotonic() + drain
            if drain:
                drain_bodies(self._engine, drain)
            self._engine.look()
            self._nest.drain(until)
        finally:
            if self._token is not None:
                self._token._unsubscribe(self._engine.cancel)
        return self._finish(error)

    def close(self) -> None:
        """Let go of everything: the frames of a failed body lead here, and must lead no further."""
        self._nest.close()
        self._engine.close()
        self._reporter.results = {}
        self._reporter.view = Snapshot(None, {}, {})
        self.__dict__.clear()

    # --- stopping ----------------------------------------------------------------------------

    def _interrupted(self) -> bool:
        """Tell whether Ctrl-C was pressed during this run."""
        return self._guard is not None and self._guard.count > 0

    def _explain(self, cause: str) -> Stop | None:
        """Return what stopping for `cause` means now; None: nothing."""
        if cause is INTERRUPT and self._given_up():
            self._engine.hurry()
        if self._rolling_back:
            if cause is INTERRUPT and self._given_up():
                return Stop("a second Ctrl-C", FlowCancelledError("a second Ctrl-C"))
            return None
        if cause is TIMEOUT:
            assert self._timeout is not None
            return Stop("the flow timed out", FlowTimeoutError(self._timeout))
        if cause is INTERRUPT:
            return Stop("Ctrl-C", FlowCancelledError("Ctrl-C"))
        assert self._token is not None
        reason = self._token.reason
        return Stop(reason or "the flow was cancelled", FlowCancelledError(reason))

    # --- forward -----------------------------------------------------------------------------

    def _validate(self, given: Any) -> Exception | None:
        """Take the input; return the error when the flow does not accept it."""
        validate = self._flow.validate
        if validate is not None:
            try:
                # Like a body: Ctrl-C may interrupt it.
                given = call_body(getattr(validate, "validate_python", validate), given)
            except BaseException as refused:
                if isinstance(refused, KeyboardInterrupt) and self._interrupted():
                    return None  # the message is in the inbox: nothing will run
                error = InputValidationError(
                    f"flow {self._flow.name!r}: the input is not valid: {describe(refused)}"
                )
                error.__cause__ = refused
                self._engine.inline.raised(refused)
                return error
        self._view.input = given
        return None

    def _walk(self) -> Exception | None:
        """Run node after node; return the error of the one that failed."""
        engine = self._engine
        engine.look()
        for node in self._nodes:
            if engine.stopped is not None:
                return None
            error = self._run_node(node)
            engine.look()
            if error is not None:
                return error
        return None

    def _run_map(self, node: Map) -> Exception | None:
        """Run a map; return its error."""
        from syncflow.run.mapper import Mapper  # a flow without one need not wait for it

        place = self._places.of(node.step, None)
        member = Member(0, node.step, place, node.name)
        self._members.append(member)
        bound = node.max_concurrency or self._flow.max_concurrency or place.bound
        Mapper(self._engine, node, member, self._view, bound).drive()
        self._merge([member])
        return member.error if member.status is StepStatus.FAILED else None

    def _run_node(self, node: Node) -> Exception | None:
        """Run one node and judge it; return its error."""
        if isinstance(node, Map):
            return self._run_map(node)
        parallel = node if isinstance(node, Parallel) else None
        steps = steps_of(node)
        place_of = self._places.of
        group_name = None if parallel is None else parallel.name
        members = [
            Member(index, step, place_of(step, parallel), step.name, group_name)
            for index, step in enumerate(steps)
        ]
        group = Group(
            steps,
            lanes_of(members, parallel, self._flow.max_concurrency),
            fail_fast=parallel is None or parallel.fail_fast,
            min_success=None if parallel is None else parallel.min_success,
            uniform=random.uniform,
        )
        began = timing.monotonic()
        self._members += members
        self._engine.drive(
            group, members, self._view, timeout=None if parallel is None else parallel.timeout
        )
        status, error = group.verdict(node.name)
        if (conflict := self._merge(members)) and status is StepStatus.COMPLETED:
            status, error = StepStatus.FAILED, conflict
        if parallel is not None:
            results = tuple(self._reporter.results[step.name] for step in steps)
            judged = GroupResult(node.name, status, error, timing.monotonic() - began, results)
            judged._started_at = self._clock.at(began)
            self._groups[node.name] = judged
        return error

    def _merge(self, members: Sequence[Member]) -> StateConflictError | None:
        """Show later nodes the results and, unless they clash, the writes of completed members."""
        view = self._own_view()
        results = self._reporter.results
        writers: dict[str, str] = {}
        written: dict[str, Any] = {}
        for member in members:
            view.settled[member.name] = results[member.name]
        for member in members:
            for key in member.writes:
                if key in writers:
                    return StateConflictError(key, (writers[key], member.name))
                writers[key] = member.name
            written.update(member.writes)
        self._write(view, written)
        return None

    def _own_view(self) -> Snapshot:
        """Return the view to change: a new one when abandoned bodies may be reading the old."""
        old, adrift = self._view, self._engine.adrift
        if adrift and any(attempt.context._view is old for attempt in adrift):
            self._view = Snapshot(old.input, dict(old.data), dict(old.settled))
            self._view.frames = dict(old.frames)
            self._reporter.view = self._view
        return self._view

    def _write(self, view: Snapshot, written: Mapping[str, Any]) -> None:
        view.data.update(written)
        if view.frames:
            # The next node may change a value in place, so it is serialised anew. Large buffers
            # are not: they are serialised once a run, until the key is written again.
            view.frames = {
                (kind, name, share): frame
                for (kind, name, share), frame in view.frames.items()
                if frame.is_shared and not (kind == "state" and name in written)
            }

    # --- back --------------------------------------------------------------------------------

    def _roll_back(self, error: Exception) -> None:
        """Compensate what completed, in reverse declaration order, one at a time."""
        engine = self._engine
        self._rolling_back = True
        if self._guard is not None:
            self._guard.rolling_back = True
        engine.watcher = CompensationReporter(self._reporter, error)
        for member in reversed(self._members):
            if not is_to_be_undone(member):
                continue
            # A flow is told to skip its own steps: they say so, too.
            if self._given_up() and member.step.nested is None:
                skipped = CompensationStatus.SKIPPED
                self._record(CompensationResult(member.name, skipped, None, 0, None, 0.0))
                continue
            self._compensate(member, error)

    def _given_up(self) -> bool:
        """Tell whether a second Ctrl-C has ended the rollback."""
        return self._guard is not None and self._guard.count >= 2

    def _compensate(self, member: Member, error: Exception) -> None:
        """Undo one step."""
        undo, effect = member.step.undo, member.effect
        engine, places, clock, view = self._engine, self._places, self._clock, self._view
        if member.tally is not None:
            result, written = compensate_items(
                engine, places, clock, member, view, error, self._given_up
            )
        else:
            if member.status is StepStatus.COMPLETED:
                view = undo_view(view, member.name, member.writes, member.value)
            if effect is not None:
                effect.reopen(error)
            if undo is not None:
                result, written = compensate(
                    engine, places, clock, member.name, undo, view, error, group=member.group
                )
            else:
                if not self._given_up():
                    engine.watcher.began(member, 1)
                result, written = member.value._unwind(member.name, error, clock, self._guard)
            if effect is not None:
                engine.close_effect(effect, in_effect=False)
        self._write(self._own_view(), written)
        self._record(result)
        if result.status is CompensationStatus.SKIPPED:
            return
        hook = "on_compensate_complete" if result.ok else "on_compensate_fail"
        self._reporter.emit(
            hook, member.name, result.attempts,
            group=member.group, error=result.error, result=result,
        )  # fmt: skip

    def _record(self, result: CompensationResult) -> None:
        self._compensations.append(result)
        note_compensation(self._reporter.results[result.step_name], result)

    # --- the result --------------------------------------------------------------------------

    def _finish(self, error: Exception | None) -> FlowResult:
        """Put the result together and tell the hooks."""
        adrift = {attempt.member.name for attempt in self._engine.adrift}
        owed = any(attempt.member.step.reversible for attempt in self._engine.adrift)
        owed = owed or any(member.tally and member.tally.owes for member in self._members)
        for finish in self._engine.finished_late:
            if finish.compensation is not None:
                self._record(finish.compensation)
        if error is None:
            status, rollback = FlowStatus.COMPLETED, RollbackStatus.NOT_NEEDED
        else:
            cancelled = isinstance(error, FlowCancelledError)
            status = FlowStatus.CANCELLED if cancelled else FlowStatus.FAILED
            rollback = rollback_status(self._compensations, owed, self._nest.rollbacks)
        steps = tuple(all_results(self._nodes, self._reporter.results, self._groups))
        result = FlowResult(
            name=self._flow.name,
            run_id=self._run_id,
            status=status,
            error=error,
            rollback=rollback,
            steps=steps,
            groups=self._groups,
            compensations=in_order(self._compensations),
            abandoned=tuple(step.name for step in steps if step.name in adrift),
            started_at=self._clock.at(self._clock.origin),
            duration=timing.monotonic() - self._clock.origin,
        )
        result._thread = threading.current_thread().name
        hook = {"completed": "complete", "failed": "fail", "cancelled": "cancel"}[status]
        self._reporter.emit(f"on_flow_{hook}", error=error, result=result)
        return result
