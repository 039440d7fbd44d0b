"""A flow that runs as a step of another, on the thread of that step's attempt.

While it runs it is a run like any other. Once it has completed it stays ready to be undone, until
the outermost run has settled.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from syncflow import timing
from syncflow.context import Context, Snapshot
from syncflow.errors import RollbackIncompleteError, StepInterrupt, SyncflowError
from syncflow.result import CompensationResult, CompensationStatus, FlowResult
from syncflow.run.attempt import protected
from syncflow.run.inline import InlineBodies
from syncflow.run.inner import Inner, Nest
from syncflow.run.places import Places, merged_pools
from syncflow.run.rollback import Clock, in_order, rollback_status
from syncflow.run.runner import Runner
from syncflow.run.signals import Guard, guard, missed, release
from syncflow.run.watching import CANCEL, INTERRUPT, TIMEOUT, Stop
from syncflow.subflow import FlowBody

if TYPE_CHECKING:
    from syncflow.flow import Flow

__all__ = ["run_nested"]

# Ctrl-C must not hit it with the result in its hands.
protected(FlowBody.__call__)


@protected
def run_nested(flow: Flow, ctx: Context) -> FlowResult:
    """Run a flow as the body of a step, in this thread; what it wrote becomes the step's writes.

    Returns:
        The result of the flow, which has completed.

    Raises:
        SyncflowError: It has failed; see `FlowResult.raise_for_status`.
        StepInterrupt, KeyboardInterrupt: It was stopped from outside; the cause is the same error.
        TypeError: `ctx` is not of a step that is a flow.
    """
    inner: Inner | None = ctx._inner
    if inner is None:
        raise TypeError(f"flow {flow.name!r} runs here as no step of its own: call its run()")
    inbox: SimpleQueue[Any] = SimpleQueue()
    taken = guard(inbox, INTERRUPT)
    share = taken or Guard(inbox, INTERRUPT, inner.guard)
    if taken is None:
        share.join()
    elif missed(taken):
        inbox.put(INTERRUPT)
    runner = result = error = None
    timing.enter()
    try:
        runner = _NestedRunner(flow, ctx, inner, inbox, share)
        result = runner.run(ctx.input, drain=0.0)
        runner.ended(result)
        if result.ok:
            ctx._writes.update(runner.written)
            return result
        error = runner.failure(result)
        raise error
    finally:
        timing.leave()
        if runner is not None and (result is None or not result.ok):
            runner.close()
        if taken is not None:
            release(taken)
        share.leave()
        # The traceback of an inline body leads to this frame: keep nothing that leads back to it.
        del ctx, inner, inbox, taken, share, runner, result, error


class _NestedRunner(Runner):
    """One execution of a flow within another, and if need be its undoing, by another thread."""

    def __init__(
        self, flow: Flow, ctx: Context, inner: Inner, inbox: SimpleQueue[Any], share: Guard
    ) -> None:
        places = Places(merged_pools(flow, inner.replaced), inner.replaced)
        left = None if ctx.remaining is None else round(ctx.remaining, 3)  # for people
        super().__init__(
            flow, flow.nodes, ctx.idempotency_key, places, inbox, share, inner.token, left
        )
        if inner.clock is not None:
            self._clock.follow(inner.clock)
        self._engine.deadline = ctx._deadline
        self._nest.inner = inner
        share.alarm = partial(_ring, share, self._engine.inline)
        view: Snapshot = ctx._view  # type: ignore[assignment]  # ours are
        self._view.data = dict(view.data)
        self._inner = inner
        self._inbox = inbox
        #: Why it was stopped.
        self._cause: str | None = None
        #: What its steps wrote; while it is undone, what their compensations wrote.
        self.written: dict[str, Any] = {}

    def ended(self, result: FlowResult) -> None:
        """Leave the run to those who may undo it, if it has completed; and what else is left."""
        engine = self._engine
        if self._cause is None:
            self._inner.let_go()
        self._adrift = set(engine.adrift)
        self._inner.ended(result, self._adrift, self._inbox, self._nest)
        if not result.ok:
            self._nest = Nest({}, None)
            return
        engine.close()
        # No cycles: nothing here leads to the results of the outer run, nor to this one's own.
        engine.scope = None  # type: ignore[assignment]
        self._inner, self._guard = Inner({}, None), None
        result._run = self

    def failure(self, result: FlowResult) -> BaseException:
        """Return what the body of the step has to raise."""
        try:
            result.raise_for_status()
        except SyncflowError as failed:
            failed.with_traceback(None)
            if self._cause is None:
                return failed
            # The run around this one knows best what to call it.
            ctrl_c = self._cause is INTERRUPT
            stopped = KeyboardInterrupt() if ctrl_c else StepInterrupt(str(failed))
            stopped.__cause__ = failed
            return stopped
        raise AssertionError("it has completed")

    def unwind(
        self,
        result: FlowResult,
        name: str,
        error: Exception,
        clock: Clock,
        outer: Guard | None,
        late: bool = False,
    ) -> tuple[CompensationResult, Mapping[str, Any]]:
        """Undo the flow, which has completed, in the calling thread. Once.

        Args:
            result: Its own; gets what is done here.
            name: The step that the flow was.
            error: What caused the rollback.
            clock: Of the run around it.
            outer: The share of SIGINT of the rollback that this is part of.
            late: It undoes an abandoned body.

        Returns:
            How it went, and the state that the compensations wrote (empty unless all completed).
        """
        began = timing.monotonic()
        self._guard = None if outer is None else Guard(self._inbox, INTERRUPT, outer)
        self._engine = self._make_engine(self._inbox, None)
        self._engine.adrift = self._adrift
        self.written = {}
        before = len(self._compensations)
        if self._guard is not None:
            self._guard.alarm = partial(_ring, self._guard, self._engine.inline)
            self._guard.join()
        try:
            self._roll_back(error)
        finally:
            if self._guard is not None:
                self._guard.leave()
        for finish in self._engine.finished_late:
            if finish.compensation is not None:
                self._record(finish.compensation)
        undone = self._compensations[before:]
        owed = any(attempt.member.step.reversible for attempt in self._adrift)
        result.compensations = in_order(self._compensations)
        result.rollback = rollback_status(self._compensations, owed, self._nest.rollbacks)
        status, failed = _judged(result, undone)
        skipped = status is CompensationStatus.SKIPPED
        undoing = CompensationResult(
            step_name=name,
            status=status,
            error=failed,
            attempts=0 if skipped else 1,
            started_at=None if skipped else clock.at(began),
            duration=0.0 if skipped else timing.monotonic() - began,
            late=late,
        )
        undoing._worker = threading.current_thread().name
        return undoing, ({} if failed else self.written)

    # --- what makes it part of another -------------------------------------------------------

    def _explain(self, cause: str) -> Stop | None:
        """Say what stopping means; when it does stop, it comes to an end by itself from here on."""
        deadline = self._engine.deadline
        if cause is CANCEL and deadline is not None and timing.monotonic() >= deadline:
            cause = TIMEOUT  # the outer run has noticed first
        stop = super()._explain(cause)
        if stop is not None and not self._rolling_back:
            self._cause = self._cause or cause
            self._inner.hold()
        return stop

    def _roll_back(self, error: Exception) -> None:
        self._inner.hold()
        super()._roll_back(error)

    def _write(self, view: Snapshot, written: Mapping[str, Any]) -> None:
        self.written.update(written)
        super()._write(view, written)


def _ring(share: Guard, inline: InlineBodies) -> None:
    """Have the compensation that runs in the thread of a run hear of the second Ctrl-C."""
    if share.count >= 2:
        inline.ask_shielded()


def _judged(
    result: FlowResult, undone: Sequence[CompensationResult]
) -> tuple[CompensationStatus, Exception | None]:
    """Say how undoing a flow went as a whole."""
    bad = [one for one in undone if not one.ok]
    if not bad:
        return CompensationStatus.COMPLETED, None
    if all(one.status is CompensationStatus.SKIPPED for one in undone):
        return CompensationStatus.SKIPPED, None
    errors = [one.error for one in bad if one.error is not None]
    return CompensationStatus.FAILED, RollbackIncompleteError(result, errors)
