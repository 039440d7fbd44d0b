"""Runs within a run, as the outer one sees them: where they run, and what they leave behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from queue import Empty, SimpleQueue
from typing import Any, Final

from syncflow import timing
from syncflow.context import CancelToken
from syncflow.pools.thread import shared_thread_pool
from syncflow.result import FlowResult, RollbackStatus
from syncflow.run.effects import LateFinish
from syncflow.run.group import STOP
from syncflow.run.jobs import Attempt
from syncflow.run.places import Inline, Threads
from syncflow.run.rollback import Clock, note_compensation, rollback_status
from syncflow.run.signals import Guard

__all__ = ["FlowsInline", "FlowsOnThreads", "Inner", "Nest"]

#: Seconds after which a wait for abandoned bodies looks whether Ctrl-C was pressed.
_LOOK_AGAIN: Final = 0.1


class Nest:
    """What a run gives to the runs in it, and knows of them.

    Args:
        replaced: The pools that are replaced for this run.
        guard: Its share of SIGINT.
        clock: Tells its time, and theirs.
    """

    def __init__(
        self,
        replaced: Mapping[str, str | Executor],
        guard: Guard | None,
        clock: Clock | None = None,
    ) -> None:
        self.replaced = replaced
        self.guard = guard
        self.clock = clock
        #: The run itself, as the one around it sees it; None: there is none, or it has ended.
        self.inner: Inner | None = None
        #: One for each attempt of a step that is a flow.
        self.inners: list[Inner] = []

    def open(self, *, inline: bool) -> Inner:
        """Prepare for one more. The run's own thread; `inline`: which will also run it."""
        enclosing = self.inner if inline else None
        self.inners.append(Inner(self.replaced, self.guard, enclosing, self.clock))
        return self.inners[-1]

    @property
    def rollbacks(self) -> set[RollbackStatus]:
        """How undoing them went."""
        return {inner.result.rollback for inner in self.inners if inner.result is not None}

    def drain(self, until: float) -> None:
        """Wait for the abandoned bodies in them until then; Ctrl-C ends the wait."""
        guard = self.guard
        before = 0 if guard is None else guard.count
        for inner in self.inners:
            inner.drain(until, lambda: guard is not None and guard.count > before)

    def close(self) -> None:
        """Let go of them: the outermost run has settled, and nobody will undo them any more."""
        for inner in self.inners:
            inner.close()
        self.inners.clear()


class Inner:
    """One run within another.

    The outer run makes it with the attempt. The thread of the attempt writes the results into it
    before the attempt ends; from then on it belongs to the outer run again.

    Is it abandoned, or waited for? Whoever comes first decides: the inner run holds on to the outer
    one once it has noticed that it must stop, or has begun to undo its work; the outer one gives up
    on a run that does not hold it.
    """

    def __init__(
        self,
        replaced: Mapping[str, str | Executor],
        guard: Guard | None,
        enclosing: Inner | None = None,
        clock: Clock | None = None,
    ) -> None:
        #: Stops it.
        self.token = CancelToken()
        self.replaced = replaced
        #: Of the outer run.
        self.guard = guard
        #: Of the outer run, too.
        self.clock = clock
        #: None until it has ended.
        self.result: FlowResult | None = None
        #: The run whose thread this one uses: it cannot hold on by itself meanwhile.
        self._enclosing = enclosing
        #: Guards both that follow. Nothing else happens while it is held.
        self._lock = threading.Lock()
        self._abandoned = False
        self._holds = 0
        #: What it has left behind.
        self._adrift: set[Attempt] = set()
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self._nest: Nest | None = None

    def hold(self) -> None:
        """Inner run: it has begun to undo its work, or is stopping by itself."""
        with self._lock:
            self._holds += 1
        if self._enclosing is not None:
            self._enclosing.hold()

    def let_go(self) -> None:
        """Inner run: it has ended without having been stopped, so the enclosing one may go on."""
        enclosing = self._enclosing
        while enclosing is not None:
            with enclosing._lock:
                enclosing._holds -= self._holds
            enclosing = enclosing._enclosing

    def abandon(self) -> bool:
        """Outer run: give up on it; true when it was not holding on, or has lost the right to.

        A second Ctrl-C ends the rollback.
        """
        with self._lock:
            pressed_twice = self.guard is not None and self.guard.count >= 2
            self._abandoned = self._abandoned or pressed_twice or not self._holds
            return self._abandoned

    def ended(
        self, result: FlowResult, adrift: set[Attempt], inbox: SimpleQueue[Any], nest: Nest
    ) -> None:
        """Inner run: this is what came of it, and what it leaves behind."""
        nest.inner = None
        if self._abandoned:
            nest.close()  # nobody will ask for them
        else:
            self._adrift, self._inbox, self._nest = adrift, inbox, nest
        self.result = result

    def drain(self, until: float, pressed: Callable[[], bool]) -> None:
        """Wait for abandoned bodies until a monotonic instant, and put on record what was undone.

        Args:
            until: Bodies that have ended by now are taken note of in any case.
            pressed: Tells whether to wait no longer.
        """
        if self.result is None or self._nest is None:
            return
        for inner in self._nest.inners:
            inner.drain(until, pressed)
        while self._adrift:
            left = 0.0 if pressed() else max(0.0, until - timing.monotonic())
            try:
                waiter = timing.Drain(self._adrift, until)
                message = timing.receive(self._inbox, min(left, _LOOK_AGAIN), waiter)
            except Empty:
                if left <= 0:
                    break
                continue
            if type(message) is LateFinish:
                self._take(self.result, message)
        self._update(self.result, self._nest)

    def close(self) -> None:
        """Let go of what the run has left behind, and of the runs in it."""
        if self.result is not None:
            self.result._forget()
        if self._nest is not None:
            self._nest.close()
        self.result = self._nest = None
        self._adrift = set()

    def _take(self, result: FlowResult, finish: LateFinish) -> None:
        self._adrift.discard(finish.attempt)
        if finish.compensation is not None:
            result.compensations += (finish.compensation,)
            note_compensation(result[finish.compensation.step_name], finish.compensation)

    def _update(self, result: FlowResult, nest: Nest) -> None:
        names = {attempt.member.name for attempt in self._adrift}
        result.abandoned = tuple(step.name for step in result.steps if step.name in names)
        if not result.ok or result.rollback is not RollbackStatus.NOT_NEEDED:
            owed = any(attempt.member.step.reversible for attempt in self._adrift)
            result.rollback = rollback_status(result.compensations, owed, nest.rollbacks)


class FlowsInline(Inline):
    """The thread that called `run`, for steps that are flows."""

    nests = True


class FlowsOnThreads(Threads):
    """The shared `ThreadPool`, for steps that are flows.

    A flow stops by itself when its time is up, and then needs the grace of its own members, and
    whatever time its rollback takes. One that is not even getting that far is abandoned.
    """

    nests = True
    slow_to_end = True

    def __init__(self) -> None:
        super().__init__("thread", shared_thread_pool())

    def keep_to(self, bound: int | None) -> bool:
        return False

    def give_up(self, attempt: Attempt) -> bool:
        inner, step = attempt.context._inner, attempt.step
        if inner is None:
            return False  # it has ended
        if attempt.stopping is STOP:
            # A group that fails fast waits for its members, unless their own time is up.
            started_at = attempt.started_at or timing.monotonic()
            if step.timeout is None or timing.monotonic() < started_at + step.timeout + step.grace:
                return False
        return bool(inner.abandon()) and super().give_up(attempt)
