"""Lanes on somebody else's executor: one future is one lane, and carries one chunk.

As for steps (see `foreign.py`), a chunk runs as it is in an executor of this process, and is turned
into something that can travel when an executor pickles it. Time counts from submission; so items
with a timeout travel alone, unless the user has said how many go together.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

from syncflow import timing
from syncflow.errors import PoolClosedError, SerializationError, StepInterrupt
from syncflow.pools import packing
from syncflow.pools.reply import items_named, packed_chunk
from syncflow.run.attempt import AtHand, perform_each
from syncflow.run.chunks import chunk_end
from syncflow.run.foreign import Sent, date_back, failure_of_future, rebuilder, worker_named
from syncflow.run.lanes import ChunkEnd, Lane
from syncflow.run.parcel import Bundle, arrived_as, bundle_of
from syncflow.run.supply import Chunk

if TYPE_CHECKING:
    from syncflow.context import Context
    from syncflow.run.jobs import Attempt
    from syncflow.run.mapper import Mapper

__all__ = ["ForeignLane"]


class ForeignLane(Lane):
    """A lane that ends with its chunk: the executor has a queue of its own."""

    def __init__(self, mapper: Mapper, executor: Executor) -> None:
        super().__init__(mapper)
        self._executor = executor
        self._chunk: Chunk | None = None
        #: Stands for all items of the chunk.
        self._attempt: Attempt | None = None
        self._future: Future[Any] | None = None
        #: The runner has cancelled the future.
        self._taken_back = False
        #: What is running, if it runs in this process.
        self._at = AtHand()

    @property
    def fail_fast(self) -> bool:
        """Whether a chunk ends with the first item that fails."""
        return self._mapper.node.fail_fast

    @property
    def context(self) -> Context | None:
        return self._at.context

    def enter(self) -> None:
        mapper, node = self._mapper, self._mapper.node
        alone = node.step.timeout is not None and node.chunk_size is None
        chunk = self._chunk = mapper.supply.take(None if alone else mapper.pace)
        if chunk is None:  # the lanes before it have taken all
            mapper.inbox.put(self)
            return
        attempt = self._attempt = mapper.items.attempt(chunk)
        attempt.submitted_at = timing.monotonic()
        local = _LocalChunk(self, attempt, chunk)
        try:
            future = self._future = self._executor.submit(local)
        except Exception as error:
            mapper.supply.put_again(chunk)
            if not isinstance(error, RuntimeError):
                raise
            raise PoolClosedError(f"{type(self._executor).__name__}: {error}") from error
        future.add_done_callback(local.arrived)

    def revoke(self) -> bool:
        """Runner: take it back; its items are cancelled with it."""
        if not self._take_back():
            return False
        assert self._chunk is not None
        start, items, number = self._chunk
        self._mapper.items.again(start, items, number, started=False)
        return True

    def _take_back(self) -> bool:
        """Runner: cancel the future; true when the chunk never begins."""
        future = self._future
        if future is None:
            return False
        self._taken_back = True  # first: cancelling calls back
        self._taken_back = future.cancel()
        return self._taken_back

    def recall(self) -> bool:
        """Runner: it has its chunk already."""
        return False

    def ask(self) -> None:
        self._at.asked = True
        if (context := self._at.context) is not None:
            context._ask()

    def look(self, now: float, timeout: float) -> float | None:
        attempt, chunk = self._attempt, self._chunk
        if attempt is None or chunk is None:
            return None
        assert attempt.submitted_at is not None
        if (due := attempt.submitted_at + timeout * len(chunk[1])) > now:
            return due
        self.drop()
        return None

    def drop(self) -> None:
        attempt, chunk = self._attempt, self._chunk
        if attempt is not None and chunk is not None:
            queued = self._take_back()
            self.ask()
            self._mapper.abandon_chunk(self, attempt, chunk, queued)

    # --- on a thread of the executor's -------------------------------------------------------

    def run_here(self, attempt: Attempt, chunk: Chunk) -> None:
        """Run the chunk on the calling thread."""
        mapper, (start, items, number) = self._mapper, chunk
        contexts, step = mapper.items.contexts(start, number), mapper.node.step
        ran = end = None
        try:
            if mapper.supply.barred:  # it was in the executor's queue for too long
                self._ended(attempt, ChunkEnd(chunk, [], {}, None))
                return
            self.thread = attempt.thread = threading.get_ident()
            mapper.announce(attempt)
            ran = attempt.scope.variables.copy().run(
                perform_each, step.fn, items,
                contexts, _time_of(attempt, items), self._at, until_failure=self.fail_fast,
                around=attempt.context._around,
            )  # fmt: skip
            end = ChunkEnd(
                chunk, ran.values, ran.special, ran.started_at,
                ran=(ran.started_at, ran.ended_at), worker=threading.current_thread().name,
            )  # fmt: skip
            self._ended(attempt, end, seconds=ran.ended_at - ran.started_at)
        finally:
            # The frames of failed bodies lead here: hold nothing that leads to their errors.
            del self, mapper, attempt, chunk, contexts, step, items, ran, end

    def arrived(self, attempt: Attempt, chunk: Chunk, future: Future[Sent]) -> None:
        """Take what the future of a chunk that did not run here came to; must not block."""
        self._future = None  # it leads back here
        if self._taken_back and future.cancelled():
            return  # by the runner, which knows
        end = seconds = None
        error = failure_of_future(future)
        try:
            if error is None:
                reply, host, pid = future.result()
                end = chunk_end(chunk, reply, attempt.context.step_name, rebuilder(host, pid))
                if end.started_at is not None:
                    # Their clock is not ours: keep the duration, not the instants.
                    now, seconds = timing.monotonic(), reply[4] - reply[3]
                    end = end._replace(
                        started_at=attempt.submitted_at, ran=(now - seconds, now),
                        worker=worker_named(host, pid),
                    )  # fmt: skip
            elif isinstance(error, PoolClosedError):
                end = ChunkEnd(chunk, [], {}, None, error)
            else:
                # The executor broke, or could not send the chunk or what it came to: it never got
                # there, or nobody will ever know.
                end = ChunkEnd(chunk, [], {}, attempt.submitted_at, error, crashed=True)
            self._ended(attempt, end, seconds)
        finally:
            del self, attempt, future, end, error  # as in `foreign.py`

    def _ended(self, attempt: Attempt, end: ChunkEnd, seconds: float | None = None) -> None:
        """Report, unless nobody waits for it any more; `seconds`: how long the bodies took."""
        mapper = self._mapper
        for outcome in end.special.values():
            date_back(outcome, attempt.submitted_at)
            if isinstance(outcome.error, StepInterrupt):
                outcome.ended_at = timing.monotonic()  # their clock is not ours
        if not attempt.claim_end():
            mapper.items.ended_late(attempt, end)
            return
        if seconds is not None and end.values:
            mapper.pace.took(len(end.values), seconds)
        mapper.supply.leave()
        self.over = True
        mapper.report(end, urgent=True)
        mapper.inbox.put(self)


def _time_of(attempt: Attempt, items: list[Any]) -> float | None:
    """Return the seconds for each body of a chunk: one that is alone has waited on its own time."""
    return attempt.time_left() if len(items) == 1 else attempt.step.timeout


class _LocalChunk:
    """A chunk for an executor: called in this process, or pickled and called elsewhere."""

    def __init__(self, lane: ForeignLane, attempt: Attempt, chunk: Chunk) -> None:
        #: `None` once it has run in this process: as in `foreign.py`.
        self._load: tuple[ForeignLane, Attempt, Chunk] | None = lane, attempt, chunk

    def __call__(self) -> None:
        """Run the chunk here; it finds its own way into the outbox."""
        load, self._load = self._load, None
        if load is None:
            return  # it has been settled without this
        lane, attempt, chunk = load
        del load
        try:
            lane.run_here(attempt, chunk)
        finally:
            del lane, attempt, chunk

    def arrived(self, future: Future[Any]) -> None:
        """Take what the future came to, unless the chunk has run here."""
        if self._load is not None:
            ForeignLane.arrived(*self._load, future)  # in no variable, and then dropped:
            self._load = None  # the frames of a refusal lead here

    def travelling(self) -> _TravellingChunk:
        """Return what the bodies need elsewhere, and nothing else."""
        assert self._load is not None
        lane, attempt, (start, items, _) = self._load
        bundle, refused = bundle_of(attempt), None
        try:
            bundle.pack_items(items, items_named(start, attempt.context.step_name))
        except SerializationError as refusal:
            refused = packing.pack_error(refusal)
        return _TravellingChunk(bundle, refused, start, _time_of(attempt, items), lane.fail_fast)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as that."""
        return arrived_as, (self.travelling(),)


class _TravellingChunk:
    """A chunk as it arrives elsewhere."""

    def __init__(
        self,
        bundle: Bundle,
        refused: packing.Packed | None,
        start: int,
        timeout: float | None,
        until_failure: bool,
    ) -> None:
        self.bundle = bundle
        #: Why there are no items.
        self._refused = refused
        self._start = start
        self._timeout = timeout
        self._until_failure = until_failure

    def __call__(self) -> Sent:
        """Run the bodies; return what they came to, in bytes."""
        bundle, view = self.bundle, self.bundle.view()
        step_name = bundle.context(view, None).step_name
        try:
            function = bundle.body()
            if self._refused is not None:
                raise packing.unpack_error(self._refused)
            items = bundle.items(items_named(self._start, step_name))
        except SerializationError as error:
            reply: tuple[Any, ...] = ("refused", packing.pack_error(error))
        else:
            ran = perform_each(
                function, items,
                lambda position: bundle.context(view, self._start + position),
                self._timeout, AtHand(), until_failure=self._until_failure,
                around=bundle.around(),
            )  # fmt: skip
            reply = packed_chunk(ran, self._start, step_name)
        return reply, os.uname().nodename, os.getpid()
