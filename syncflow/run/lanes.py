"""Lanes on threads: a worker's way through the items of a map. See `supply.py`.

A lane is a job of a pool. It takes an item, runs it, reports, and takes the next: no thread is
woken for an item. The run's thread sees what is at hand in each lane, and decides what to ask, to
abandon and to kill.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from syncflow import timing
from syncflow.run.attempt import Outcome, perform
from syncflow.run.supply import Chunk

if TYPE_CHECKING:
    from syncflow.context import Context
    from syncflow.pools.crew import Crew
    from syncflow.run.jobs import Attempt
    from syncflow.run.mapper import Mapper

__all__ = ["ChunkEnd", "Lane", "ThreadLane"]


class ChunkEnd(NamedTuple):
    """Report of a lane: what became of a chunk."""

    chunk: Chunk
    #: Of the items that were begun, from the first; `None` for those in `special`.
    values: list[Any]
    #: The outcomes, by position, that are more than a value.
    special: dict[int, Outcome]
    #: Monotonic instant; `None`: nothing of it has begun.
    started_at: float | None
    #: Why nothing of it has begun, or what ended its worker.
    error: BaseException | None = None
    #: Its worker has died: items before the position `guilty` have run, and their outcomes are
    #: lost; that one ran then. `None`: the worker had not come to the first.
    crashed: bool = False
    guilty: int | None = None
    #: It was killed because the time of the item at `guilty` was up.
    killed: bool = False
    #: Monotonic instants between which bodies ran, by our clock; and the name or pid of the worker.
    ran: tuple[float, float] | None = None
    worker: str | int | None = None


class Lane:
    """What the run's thread may ask of a lane."""

    def __init__(self, mapper: Mapper) -> None:
        self._mapper = mapper
        #: Who asked first, the worker that begins or the runner that takes it back, is told so.
        self._claims: dict[str, str] = {}
        #: Identifier of the thread of this process that it runs on, once it does.
        self.thread: int | None = None
        #: It has come to its end, and says so.
        self.over = False

    @property
    def context(self) -> Context | None:
        """The context of the body at hand, in this process."""
        return None

    def enter(self) -> None:
        """Wait for a worker of the pool.

        Raises:
            RuntimeError: the pool is closed or broken.
        """
        raise NotImplementedError

    def claim(self) -> bool:
        """Worker: may it begin?"""
        return self._claims.setdefault("start", "worker") == "worker"

    def revoke(self) -> bool:
        """Runner: take it back; true when it never begins."""
        return self._claims.setdefault("start", "runner") == "runner"

    def recall(self) -> bool:
        """Runner: there is nothing to take; true when it had not begun, and never will."""
        return self.revoke()

    def refuse(self, error: BaseException) -> None:
        """End without having begun: the pool is broken or closed; see `Job`."""
        if self.claim():
            self._mapper.supply.leave()
            self._mapper.inbox.put(("refused", self, error))

    def ask(self) -> None:
        """Ask the body at hand to stop."""
        raise NotImplementedError

    def look(self, now: float, timeout: float) -> float | None:
        """Give up on a body that has had its time; return when to look again."""
        raise NotImplementedError

    def drop(self) -> None:
        """Give up on the body at hand, which was asked to stop."""
        raise NotImplementedError


class ThreadLane(Lane):
    """A lane on a thread: one item at a time."""

    def __init__(self, mapper: Mapper, crew: Crew) -> None:
        super().__init__(mapper)
        self._crew = crew
        #: The attempt at hand, and its item.
        self._at_hand: tuple[Attempt, Any] | None = None

    @property
    def context(self) -> Context | None:
        at_hand = self._at_hand
        return None if at_hand is None else at_hand[0].context

    def enter(self) -> None:
        self._crew.start(self)

    def run(self) -> Callable[[], None] | None:
        """Run items on the calling thread until there are no more; see `Job`."""
        if not self.claim():
            return None
        mapper = self._mapper
        attempt = chunk = None
        try:
            self.thread, name = threading.get_ident(), threading.current_thread().name
            take, scope, step = mapper.supply.take, mapper.scope, mapper.node.step
            while (chunk := take()) is not None:
                attempt = mapper.items.attempt(chunk)
                attempt.thread, attempt.worker = self.thread, name
                attempt.started_at = timing.monotonic()
                # Set before it is looked whether to stop; the runner decides to stop before it
                # looks at what is at hand: one of the two asks.
                self._at_hand = attempt, chunk[1][0]
                if mapper.items.verb is not None:
                    attempt.context._ask()
                mapper.announce(attempt)
                attempt.outcome = scope.variables.copy().run(
                    perform, step.fn, attempt.context, step.timeout, None, chunk[1][0]
                )
                if not attempt.claim_end():
                    if scope.late is not None:
                        scope.late.ended(attempt)
                    return None
                self._at_hand = None
                mapper.report((attempt, chunk), urgent=attempt.outcome.error is not None)
                if self._crew.limit is not None and not self._crew.is_idle():
                    # Others wait for this thread: the runner sends another lane, which goes last.
                    mapper.supply.leave()
                    break
            self.over = True
            return partial(mapper.inbox.put, self)
        finally:
            # The frames of failed bodies lead here: hold nothing that leads to their errors.
            del self, mapper, attempt, chunk, take, scope, step

    def ask(self) -> None:
        if (at_hand := self._at_hand) is not None:
            at_hand[0].context._ask()

    def look(self, now: float, timeout: float) -> float | None:
        if (at_hand := self._at_hand) is None:
            return None
        attempt, item = at_hand
        assert attempt.started_at is not None
        if (due := attempt.started_at + timeout) > now:
            return due
        self._mapper.abandon(self, attempt, item)
        return None

    def drop(self) -> None:
        if (at_hand := self._at_hand) is not None:
            self._mapper.abandon(self, *at_hand)

    def leave(self) -> None:
        """Count the thread out: its body was abandoned."""
        self._crew.abandon(self)
