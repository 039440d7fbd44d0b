"""The record of a map's items: what lanes report of them, and what follows for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from syncflow import timing
from syncflow.context import Context, View
from syncflow.errors import (
    SerializationError,
    StepCancelledError,
    StepInterrupt,
    WorkerCrashedError,
)
from syncflow.laps import Stretches
from syncflow.mapping import Map, over_item
from syncflow.run.attempt import Outcome
from syncflow.run.effects import LateFinish
from syncflow.run.failures import Terms, failure_of, noted, timed_out
from syncflow.run.jobs import Attempt
from syncflow.run.lanes import ChunkEnd
from syncflow.run.member import Member
from syncflow.run.supply import Chunk, Supply
from syncflow.run.tally import Tally

if TYPE_CHECKING:
    from syncflow.run.engine import Engine
    from syncflow.run.group import Verb

__all__ = ["Items"]


class Items:
    """Keeps the record. Written by the run's thread alone.

    Args:
        engine: Of the run.
        node: The map.
        member: Stands for the map as a step.
        view: What the bodies read.
        supply: Takes what has to run again.
        tally: The books.
    """

    def __init__(
        self, engine: Engine, node: Map, member: Member, view: View, supply: Supply, tally: Tally
    ) -> None:
        self.scope = engine.scope
        self.node = node
        #: How running bodies were asked to stop; lanes read it, too.
        self.verb: Verb | None = None
        #: Whether lanes are to tell when a body starts: nobody has told yet, and somebody watches.
        self.announces = engine.scope.announce
        #: What has to rest before it runs again: (seconds, chunk). The driver empties it.
        self.to_rest: list[tuple[float, Chunk]] = []
        #: Why nothing will ever run. The driver looks at it.
        self.broken: Exception | None = None
        #: What workers did when.
        self.stretches = Stretches()
        self._engine = engine
        self._member = member
        self._view = view
        self._supply = supply
        self._tally = tally
        self._terms = Terms(None, None, engine.deadline, False)
        #: Of a chunk that was abandoned: what stands for each of its items.
        self._taken_apart: dict[Attempt, list[Attempt]] = {}
        #: Of the items with bodies that were abandoned: what these go by.
        self._adrift: dict[int, Member] = {}

    def context(self, index: int | None, number: int) -> Context:
        """Return a context for a body of an item, or of the source (`None`). Any thread."""
        scope = self.scope
        return Context(
            scope.flow_name, scope.run_id, self.node.name, number,
            self._view, self._engine.deadline, None, index,
        )  # fmt: skip

    def contexts(self, start: int, number: int) -> Callable[[int], Context]:
        """Return what makes the contexts of a chunk's items, by position."""
        return lambda position: self.context(start + position, number)

    def attempt(self, chunk: Chunk) -> Attempt:
        """Return the attempt of the first item of a chunk. Any thread."""
        return Attempt(self.scope, self._member, self.context(chunk[0], chunk[2]))

    def reported(self, attempt: Attempt, chunk: Chunk) -> None:
        """Take note of a body that has ended on a thread."""
        (index, (item,), number), outcome = chunk, attempt.outcome
        assert outcome is not None
        if outcome.started_at is not None:
            self.started(outcome.started_at)
            self.stretches.note(
                attempt.worker, outcome.started_at, outcome.ended_at, 1,
                outcome.error is not None, number > 1,
            )  # fmt: skip
        self._ended(attempt, outcome, index, item, number)

    # --- items -------------------------------------------------------------------------------

    def begun(self) -> None:
        """Tell that the map has started: once."""
        if not self._member.begun:
            self._member.begun = True
            self.announces = False
            self._engine.watcher.began(self._member, 1)

    def started(self, instant: float | None) -> None:
        """Take note of when a body started."""
        member = self._member
        if instant is None:
            return
        if member.first_started is None or instant < member.first_started:
            member.first_started = instant
            member.queued = instant - member.ready_at
        if self.scope.announce:
            self.begun()

    def _ended(
        self, attempt: Attempt, outcome: Outcome, index: int, item: Any, number: int
    ) -> None:
        """Take note of a body that has ended."""
        attempt.stopping = self.verb
        attempt.end()
        started = outcome.started_at is not None
        try:
            if outcome.error is None and not outcome.overdue:
                self._tally.complete(index, outcome.value, outcome.writes)
                self.settled(index, in_effect=True)
                return
            if outcome.error is not None:
                error = failure_of(attempt, outcome, self._terms, self._tally.reason)
                if isinstance(error, StepCancelledError):
                    self._cancel(index, number, started=started)
                    return
                error = noted(attempt, error, self._terms)
            else:
                # It returned after its time was up: done, but not on record as done.
                attempt.member = self._own(index, item)
                attempt.member.the_effect().arrive(attempt)
                self._engine.adrift.add(attempt)
                error = timed_out(attempt, self._terms)
            self._failed(index, item, number, error, started=started)
        finally:
            # The frames of a failed body lead here: hold nothing that leads to its error.
            outcome = error = attempt = None  # type: ignore[assignment]

    def _failed(
        self, index: int, item: Any, number: int, error: Exception, *, started: bool
    ) -> None:
        """An attempt of an item has failed: let it rest, or settle it."""
        delay = self._tally.fail(index, number, error, started=started)
        if delay is not None:
            self._engine.watcher.retrying(self._member, number + 1, error, delay)
            self.to_rest.append((delay, (index, [item], number + 1)))
            return
        self.settled(index, in_effect=False, error=error)

    def _cancel(self, index: int, number: int, *, started: bool) -> None:
        self._tally.cancel(index, number, started=started)
        self.settled(index, in_effect=False)

    def settled(self, index: int, *, in_effect: bool, error: Exception | None = None) -> None:
        """Deal with the abandoned bodies of an item that has its final status."""
        own = self._adrift.get(index)
        if own is not None:
            own.error = error
            self._engine.close_effect(own.the_effect(), in_effect)

    def _own(self, index: int, item: Any) -> Member:
        """Return what stands for one item alone: what its abandoned bodies go by."""
        own = self._adrift.get(index)
        if own is None:
            step = over_item(self.node.step, item)
            own = Member(0, step, self._member.place, self.node.name, None, index)
            self._adrift[index] = own
            self._tally.effects[index] = own.the_effect()
        return own

    # --- chunks ------------------------------------------------------------------------------

    def chunk_ended(self, end: ChunkEnd) -> None:
        """Take note of what became of a chunk."""
        start, items, number = end.chunk
        self.started(end.started_at)
        self._note_chunk(end)
        if end.error is not None:
            self._chunk_broke(end)
            return
        if not end.special and not self._adrift:
            self._tally.complete_all(start, end.values)
        else:
            for position, value in enumerate(end.values):
                outcome = end.special.get(position)
                if outcome is None:
                    outcome = Outcome(value, None, {}, end.started_at, end.started_at or 0.0)
                self._item_ended(end, position, outcome)
        if len(end.values) < len(items):  # it was stopped before it came to these
            self.again(start + len(end.values), items[len(end.values) :], number, started=False)

    def _note_chunk(self, end: ChunkEnd) -> None:
        """Take note of when a chunk ran, and where."""
        if end.ran is None:
            return
        ran = len(end.values) or 1  # of a worker that died, only the last body is known of
        failed = sum(outcome.error is not None for outcome in end.special.values()) + end.crashed
        self.stretches.note(
            end.worker, *end.ran, ran,
            failed=failed, retries=ran if end.chunk[2] > 1 else 0,
        )  # fmt: skip

    def _item_ended(self, end: ChunkEnd, position: int, outcome: Outcome) -> None:
        start, items, number = end.chunk
        index, item = start + position, items[position]
        attempt = self.attempt((index, [item], number))
        attempt.outcome, attempt.killed = outcome, end.killed
        self._ended(attempt, outcome, index, item, number)

    def _chunk_broke(self, end: ChunkEnd) -> None:
        """Take note of a chunk that was not begun, or whose worker died."""
        start, items, number = end.chunk
        error = end.error
        assert error is not None
        guilty = end.guilty if end.crashed else None
        if guilty is None and len(items) == 1:
            guilty = 0
        mine = end.crashed or isinstance(error, SerializationError | WorkerCrashedError)
        if not mine and not isinstance(error, StepInterrupt):
            # Nothing will ever run there: the pool is closed, say.
            assert isinstance(error, Exception)
            self.broken = error
        if not mine or guilty is None or (end.killed and not end.crashed):
            for position, item in enumerate(items):
                self.again(start + position, [item], number, started=end.crashed)
            return
        for position in range(guilty):
            self.again(start + position, [items[position]], number, started=True)
        since = (end.started_at or timing.monotonic()) if end.crashed else None
        self._item_ended(end, guilty, Outcome(None, error, {}, since, timing.monotonic()))
        if guilty + 1 < len(items):
            self.again(start + guilty + 1, items[guilty + 1 :], number, started=False)

    def again(self, start: int, items: list[Any], number: int, *, started: bool) -> None:
        """Have items run that have no outcome.

        Args:
            start: The index of the first.
            items: In a row.
            number: The attempt that they are up for.
            started: They may have run, and their outcome was lost.
        """
        if started:
            self._tally.lose(range(start, start + len(items)))
        if not self._tally.closed:
            self._supply.put_again((start, items, number))
            return
        for position in range(len(items)):
            self._cancel(start + position, number, started=started)

    # --- bodies that nobody waits for --------------------------------------------------------

    def abandon(self, attempt: Attempt, item: Any) -> bool:
        """Give up on a body that has had its time or its grace; false when it has just ended."""
        index = attempt.context._index
        assert index is not None
        # Made first: the body may return in the very moment in which it is abandoned.
        attempt.member = self._own(index, item)
        if not attempt.abandon():
            return False
        attempt.context._ask()
        self._engine.adrift.add(attempt)
        number = attempt.context.attempt
        if attempt.started_at is not None:
            self.started(attempt.started_at)
            self.stretches.note(
                attempt.worker, attempt.started_at, timing.monotonic(), failed=1, retries=number > 1
            )
        attempt.end()
        if self.verb is None:
            error = timed_out(attempt, self._terms)
            self._failed(index, item, number, error, started=True)
        else:
            self._cancel(index, number, started=True)
        return True

    def abandon_chunk(self, attempt: Attempt, chunk: Chunk, queued: bool) -> bool:
        """Give up on a chunk; false when it has just ended.

        Args:
            attempt: Stands for it.
            chunk: Its items.
            queued: It has not begun, and never will.
        """
        start, items, number = chunk
        alone = [self.attempt((start + at, [item], number)) for at, item in enumerate(items)]
        if not queued:
            for position, item in enumerate(items):
                alone[position].member = self._own(start + position, item)
            # Made first: the chunk may end in the very moment in which it is abandoned.
            self._taken_apart[attempt] = alone
        if not attempt.abandon():
            self._taken_apart.pop(attempt, None)
            return False
        if not queued:
            self._engine.adrift.update(alone)
            self.started(attempt.submitted_at)
            assert attempt.submitted_at is not None
            self.stretches.note(
                None, attempt.submitted_at, timing.monotonic(), len(items),
                failed=len(items), retries=len(items) if number > 1 else 0,
            )  # fmt: skip
        attempt.end()
        for position, item in enumerate(items):
            if self.verb is None:
                error = timed_out(alone[position], self._terms)
                self._failed(start + position, item, number, error, started=True)
            else:
                self._cancel(start + position, number, started=not queued)
        return True

    def ended_late(self, attempt: Attempt, end: ChunkEnd) -> None:
        """Deal with an abandoned chunk that has ended after all. Any thread."""
        late = self.scope.late
        for position, own in enumerate(self._taken_apart.pop(attempt)):
            if position < len(end.values):
                value = end.values[position]
                own.outcome = end.special.get(position) or Outcome(value, None, {}, 0.0, 0.0)
                if late is not None and own.outcome.error is None:
                    late.ended_soon(own)
                    continue
            self.scope.inbox.put(LateFinish(own, None))
