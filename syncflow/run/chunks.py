"""Lanes on worker processes: chunks of items there, what they came to back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from syncflow import timing
from syncflow.errors import SerializationError
from syncflow.pools import packing, wire
from syncflow.pools.carried import pack_around
from syncflow.pools.handle import Worker
from syncflow.pools.reply import items_named, value_named
from syncflow.pools.shared import Block
from syncflow.pools.station import RemoteJob, Stations
from syncflow.run.attempt import Outcome
from syncflow.run.lanes import ChunkEnd, Lane
from syncflow.run.remote import answer, deadline_of, function_blob, outcome_of, redate
from syncflow.run.supply import NEWS, Chunk

if TYPE_CHECKING:
    from syncflow.run.jobs import Attempt
    from syncflow.run.mapper import Mapper

__all__ = ["ProcessLane", "chunk_end"]


def chunk_end(
    chunk: Chunk,
    reply: tuple[Any, ...],
    step_name: str,
    rebuilt: Callable[[packing.Packed], BaseException],
) -> ChunkEnd:
    """Turn a worker's reply to a chunk into a report.

    Args:
        chunk: What was sent.
        reply: As made by `syncflow.pools.reply`.
        step_name: For errors.
        rebuilt: Rebuilds an error.
    """
    if reply[0] == "refused":
        return ChunkEnd(chunk, [], {}, None, rebuilt(reply[1]))
    _, blobs, taken_apart, started_at, ended_at = reply
    special = {
        position: outcome_of(each, step_name, rebuilt) for position, each in taken_apart.items()
    }
    if isinstance(blobs, bytes):
        values = wire.load(blobs, f"the values of step {step_name!r}")
    else:
        values = []
        for position, blob in enumerate(blobs):
            try:
                value = wire.load(blob, value_named(chunk[0] + position, step_name))
            except SerializationError as refused:
                value = None
                special[position] = Outcome(None, refused, {}, started_at, ended_at)
            values.append(value)
    try:
        return ChunkEnd(chunk, values, special, started_at, ran=(started_at, ended_at))
    finally:
        del special  # the frames of refusals lead here, and must not lead back to them


class ChunkJob(RemoteJob):
    """One chunk on its way to a worker process and back."""

    __slots__ = ("_attempt", "_chunk", "_dropped", "_kept", "_mapper", "_out_of_time")

    def __init__(self, stations: Stations, mapper: Mapper, chunk: Chunk) -> None:
        super().__init__(stations)
        self._mapper = mapper
        self._chunk = chunk
        #: Stands for all its items: what they read is the same.
        self._attempt: Attempt = mapper.items.attempt(chunk)
        #: The large buffers of the items; dropped with this job.
        self._kept: list[Block] = []
        #: The position of the item whose time was up when the worker was killed.
        self._out_of_time: int | None = None
        #: The worker was killed whatever it was at.
        self._dropped = False

    def claim(self) -> bool:
        return True

    def request(self) -> tuple[Any, ...]:
        self.stations.deliver_held()
        context, step = self._attempt.context, self._mapper.node.step
        start, items, number = self._chunk
        try:
            blob = wire.dump_by_value(items, items_named(start, context.step_name), self._kept)
            return (
                "chunk", function_blob(self._attempt), blob, start, context.flow_name,
                context.run_id, context.step_name, number, step.timeout, deadline_of(context),
                self._mapper.node.fail_fast, self._mapper.items.announces,
                pack_around(context._around),
            )  # fmt: skip
        finally:
            del self, context  # as in `chunk_end`

    def answer(self, kind: str, name: str) -> bytes:
        return answer(self._attempt, kind, name)

    def began(self, now: float) -> None:
        self._mapper.announce(self._attempt)

    def done(self, reply: tuple[Any, ...]) -> Callable[[], None]:
        assert self.worker is not None
        end = outcome = None
        try:
            step_name = self._attempt.context.step_name
            end = chunk_end(self._chunk, reply, step_name, self.worker.rebuilt)
            for outcome in end.special.values():
                redate(outcome)
            ran = end.ran and (timing.from_real(end.ran[0]), timing.from_real(end.ran[1]))
            return self._deliver(
                end._replace(started_at=_ours(end.started_at), ran=ran, worker=self.worker.pid)
            )
        finally:
            del self, end, outcome  # as in `chunk_end`

    def crash_of(self, worker: Worker) -> BaseException:
        return worker.crash(self._attempt.context.step_name, self._chunk[2])

    def crashed(self, worker: Worker) -> Callable[[], None]:
        guilty, since = worker.page.item_of(self.task) or (None, None)
        if guilty == len(self._chunk[1]):
            guilty = None  # all had run, and one of the values killed it on the way
        killed = self._dropped
        if self._out_of_time is not None:
            # It was to hit that item. Should the next one have begun meanwhile, nobody is guilty.
            killed = guilty == self._out_of_time or len(self._chunk[1]) == 1
            guilty = guilty if killed else None
        return self._deliver(
            ChunkEnd(
                self._chunk, [], {}, _ours(since), self.crash_of(worker), True, guilty, killed,
                ran=None if since is None else (timing.from_real(since), timing.monotonic()),
                worker=worker.pid,
            )
        )  # fmt: skip

    def refused(self, error: BaseException) -> Callable[[], None]:
        return self._deliver(ChunkEnd(self._chunk, [], {}, None, error, killed=self._dropped))

    def _deliver(self, end: ChunkEnd) -> Callable[[], None]:
        return partial(self._mapper.report, end, urgent=bool(end.special or end.error))

    def look(self, now: float, allowed: float) -> float:
        """Kill the worker when the item at hand has had its time; return when to look again."""
        with self._lock:
            at = None if self.worker is None else self.worker.page.item_of(self.task)
        if at is None:
            self.unstick(allowed)
            return now + allowed
        position, since = at
        if (due := timing.from_real(since) + allowed) > now:
            return due
        self._out_of_time = position
        self.kill()
        return now + allowed

    def drop(self) -> None:
        """Kill the worker, whatever it is at."""
        self._dropped = True
        self.kill()


def _ours(instant: float | None) -> float | None:
    return None if instant is None else timing.from_real(instant)


class ProcessLane(Lane):
    """A lane on one of a pool's threads, and on that thread's worker process."""

    def __init__(self, mapper: Mapper, stations: Stations) -> None:
        super().__init__(mapper)
        self._stations = stations
        self._job: ChunkJob | None = None

    def enter(self) -> None:
        self._stations.crew.start(self)

    def run(self) -> Callable[[], None] | None:
        """Run chunks on the calling thread's worker until there are no more; see `Job`."""
        if not self.claim():
            return None
        mapper, crew = self._mapper, self._stations.crew
        job = deliver = None
        try:
            while (chunk := mapper.supply.take(mapper.pace)) is not None:
                # As in `ThreadLane.run`: set before it is looked whether to stop.
                job = self._job = ChunkJob(self._stations, mapper, chunk)
                if mapper.items.verb is not None:
                    job.stop()
                began = timing.real()
                deliver = job.run()
                mapper.pace.took(len(chunk[1]), timing.real() - began)
                assert deliver is not None
                deliver()
                if mapper.supply and not crew.is_idle() and self._go_last():
                    return None
            return partial(mapper.inbox.put, self)
        finally:
            del self, mapper, job, deliver  # as in `chunk_end`

    def _go_last(self) -> bool:
        """Let others have the worker that wait for one; false when the lane has to go on itself."""
        self._claims.clear()
        try:
            self._stations.crew.start(self)
        except RuntimeError:  # the pool takes no more, but finishes what it has
            return not self.claim()  # taken back in between: the lane is over
        if not self._mapper.supply:
            # Others have taken the rest meanwhile: the runner, which may have looked before this
            # lane could be recalled, has to look again.
            self._mapper.inbox.put(NEWS)
        return True

    def ask(self) -> None:
        if self._job is not None:
            self._job.stop()

    def look(self, now: float, timeout: float) -> float | None:
        if self._job is None:
            return None
        return self._job.look(now, timeout + self._mapper.node.step.grace)

    def drop(self) -> None:
        if self._job is not None:
            self._job.drop()
