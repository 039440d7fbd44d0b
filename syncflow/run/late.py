"""Late finishers: the bodies of abandoned attempts that end after all."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from syncflow import timing
from syncflow.context import Snapshot
from syncflow.pools.thread import shared_thread_pool
from syncflow.run.effects import LateFinish, Record
from syncflow.run.engine import Engine
from syncflow.run.jobs import Attempt, Scope
from syncflow.run.places import Places
from syncflow.run.rollback import Clock, compensate, undo_view
from syncflow.run.watching import INTERRUPT, Watcher

__all__ = ["LateDesk", "drain_bodies"]

logger = logging.getLogger("syncflow")


def drain_bodies(engine: Engine, seconds: float) -> None:
    """Wait for a run's abandoned bodies, at most so long; Ctrl-C ends the wait."""
    until = timing.monotonic() + seconds
    while engine.adrift and (left := until - timing.monotonic()) > 0:
        try:
            wait = min(left, engine.longest_wait)
            message = timing.receive(engine.inbox, wait, timing.Drain(engine.adrift, until))
        except Empty:
            continue
        if message is INTERRUPT:
            return
        engine.take(message)


class LateDesk:
    """Deals with the bodies of abandoned attempts when they end after all.

    Outlives the run. Its methods run on the thread of the body, or on one of the shared pool.

    Args:
        places: Finds the pools of compensations.
        clock: For `started_at`.
        inbox: Of the run, which may be over.
        tell: Fires the hook `on_late_finish` for an attempt.
    """

    def __init__(
        self,
        places: Places,
        clock: Clock,
        inbox: SimpleQueue[Any],
        tell: Callable[[Attempt], None],
    ) -> None:
        self._places = places
        self._clock = clock
        self._inbox = inbox
        self._tell = tell

    def ended(self, attempt: Attempt) -> None:
        """Deal with a body that has ended on this thread."""
        timing.enter()
        try:
            self._ended(attempt)
        finally:
            timing.leave()

    def _ended(self, attempt: Attempt) -> None:
        attempt.thread = threading.get_ident()
        outcome, effect = attempt.outcome, attempt.member.effect
        assert outcome is not None
        assert effect is not None
        if outcome.error is None:
            record = effect.arrive(attempt)
            if record is Record.OPEN:
                return
            if record is Record.UNDONE:
                self.undo(attempt)
                return
        self._inbox.put(LateFinish(attempt, None))

    def ended_soon(self, attempt: Attempt) -> None:
        """Deal with a body that has ended elsewhere, on a thread of the shared pool."""
        shared_thread_pool().crew.start(_Errand(self.ended, attempt))

    def undo_soon(self, attempt: Attempt) -> None:
        """Undo what the body has done, on a thread of the shared pool."""
        shared_thread_pool().crew.start(_Errand(self.undo, attempt))

    def undo(self, attempt: Attempt) -> None:
        """Undo what the body has done, on this thread, with what it wrote and returned."""
        attempt.thread = threading.get_ident()
        member, outcome = attempt.member, attempt.outcome
        assert outcome is not None
        logger.warning(
            "the abandoned attempt %d of step %r of flow %r has finished late (run %r)",
            attempt.context.attempt, member.name, attempt.scope.flow_name, attempt.scope.run_id,
        )  # fmt: skip
        result = None
        undo, cause = member.step.undo, member.the_effect().cause or member.error
        own = attempt.scope
        if member.step.nested is not None:
            if member.step.reversible:
                result, _ = own.variables.copy().run(
                    outcome.value._unwind, member.name, cause, self._clock, None, late=True
                )
            outcome.value._forget()
        elif undo is not None:
            # Its own inbox: this thread waits for the compensation, whether or not the run goes on.
            scope = Scope(own.flow_name, own.run_id, own.variables, SimpleQueue(), False, None)
            view: Snapshot = attempt.context._view  # type: ignore[assignment]
            engine = Engine(scope, Watcher())
            result, _ = own.variables.copy().run(
                compensate, engine, self._places, self._clock, member.name, undo,
                undo_view(view, member.name, outcome.writes, outcome.value), cause,
                late=True, item=member.item,
            )  # fmt: skip
            engine.close()
        self._tell(attempt)
        self._inbox.put(LateFinish(attempt, result))


class _Errand:
    """Deals with one late finisher; a `Job`."""

    def __init__(self, work: Callable[[Attempt], None], attempt: Attempt) -> None:
        self._work = work
        self._attempt = attempt

    def run(self) -> None:
        timing.enter()
        try:
            self._work(self._attempt)
        finally:
            timing.leave()

    def refuse(self, error: BaseException) -> None:
        raise AssertionError("the shared pool is never closed") from error
