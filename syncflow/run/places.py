"""Where attempts run: what the runner may ask of each kind of pool."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from syncflow import timing
from syncflow.definition import pool_of
from syncflow.errors import SerializationError, describe
from syncflow.pools.thread import ThreadPool, shared_thread_pool
from syncflow.run.jobs import Attempt
from syncflow.run.lanes import Lane, ThreadLane
from syncflow.run.seats import Seats

if TYPE_CHECKING:
    from syncflow.definition import Parallel, Step
    from syncflow.flow import Flow
    from syncflow.pools.crew import Crew
    from syncflow.run.mapper import Mapper

__all__ = ["Inline", "Place", "Places", "Threads", "merged_pools", "resolved"]

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

#: How many members of a group run on threads at a time, unless flow or group say.
THREADS_AT_A_TIME: Final = 32


class Place:
    """Where attempts run: what the runner may ask of a pool.

    Attributes:
        name: For results.
        bound: How many members of a group run here at a time, unless flow or group say.
        inline: Bodies run in the thread that called `run`.
        nests: Bodies are flows.
        slow_to_end: Giving up on a body takes its grace: it is interrupted first, then killed.
    """

    inline = False
    nests = False
    slow_to_end = False
    #: Whether bodies may run in other processes, which live in real time.
    elsewhere = False
    #: Whether a map adds lanes here only when it shows that they are needed.
    lanes_on_demand = False
    #: Whether items of a map travel here in chunks.
    in_chunks = True

    def __init__(self, name: str, bound: int) -> None:
        self.name = name
        self.bound = bound

    def most_lanes(self, bound: int) -> int:
        """Return how many lanes of a map are of use, at most `bound`."""
        return bound

    def lane(self, mapper: Mapper) -> Lane:
        """Return a new lane of a map."""
        raise NotImplementedError

    def is_full(self) -> bool:
        """Tell whether a lane has to wait here until another one ends."""
        return False

    def keeps_waiting(self, attempt: Attempt, running: int) -> bool:
        """Tell whether an attempt waits here until one of `running` bodies of its group ends."""
        return False

    def unfit(self, attempt: Attempt) -> Exception | None:
        """Return the error when the function of a map can never run here."""
        return None

    def keep_to(self, bound: int | None) -> bool:
        """Run no more than so many bodies of a group at a time; `None`: the group sees to that.

        Returns:
            Whether that is so: members may be queued here ahead of time.
        """
        return False

    def start(self, attempt: Attempt) -> None:
        """Run the attempt as soon as there is a worker; never blocks.

        Raises:
            RuntimeError: the pool is closed or broken.
        """
        raise NotImplementedError

    def started_at(self, attempt: Attempt) -> float | None:
        """Return the monotonic instant from which its timeout counts; `None`: not yet."""
        return attempt.started_at

    def revoke(self, attempt: Attempt) -> bool:
        """Take the attempt back; true when its body never starts."""
        return attempt.revoke()

    def interrupt(self, attempt: Attempt) -> None:
        """Ask the body to stop, as far as it can be reached."""
        attempt.context._ask(attempt.reason)

    def unstick(self, attempt: Attempt, patience: float) -> None:
        """See to it that the attempt is not waiting for a worker that does not respond."""

    def give_up(self, attempt: Attempt) -> bool:
        """Abandon or kill the body. True: abandoned; nothing more will be heard from it.

        False: its outcome is under way, be it that it was killed.
        """
        raise NotImplementedError


class Inline(Place):
    """The thread that called `run`."""

    inline = True

    def __init__(self) -> None:
        super().__init__("inline", 1)


class Nowhere(Place):
    """A pool that cannot be made: no attempt starts, and each step says why.

    Args:
        name: For results.
        error: What making it raised: its settings may be wrong, or the interpreter is exiting.
    """

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(name, 1)
        self._error = error

    def start(self, attempt: Attempt) -> None:
        raise self._anew() from self._error

    def lane(self, mapper: Mapper) -> Lane:
        raise self._anew() from self._error

    def _anew(self) -> RuntimeError:
        """Return an error of its own for each step: they get notes."""
        return RuntimeError(f"the pool {self.name!r} cannot be had: {describe(self._error)}")


class Threads(Place):
    """A `ThreadPool`."""

    lanes_on_demand = True
    in_chunks = False

    def __init__(self, name: str, pool: Any) -> None:
        super().__init__(name, THREADS_AT_A_TIME)
        self._crew: Crew = pool.crew
        #: Those of the group at hand, when its members may be queued ahead.
        self._seats: Seats | None = None

    def keep_to(self, bound: int | None) -> bool:
        limit = self._crew.limit
        if limit is not None:  # other runs may be waiting for its threads: in turn
            return bound is not None and bound >= limit
        self._seats = None if bound is None else Seats(self._crew, bound)
        return bound is not None

    def most_lanes(self, bound: int) -> int:
        return bound if self._crew.limit is None else min(bound, self._crew.limit)

    def lane(self, mapper: Mapper) -> Lane:
        return ThreadLane(mapper, self._crew)

    def is_full(self) -> bool:
        return self._crew.is_full()

    def keeps_waiting(self, attempt: Attempt, running: int) -> bool:
        if self._seats is None:
            return self._crew.is_full()
        return self._seats.keeps_waiting(attempt, running)

    def start(self, attempt: Attempt) -> None:
        (self._seats or self._crew).start(attempt)

    def give_up(self, attempt: Attempt) -> bool:
        if not attempt.abandon():
            return False
        attempt.context._ask()
        if attempt.job is None:
            self._crew.abandon(attempt)
        else:
            attempt.job.abandon()
        return True


class Processes(Place):
    """A `ProcessPool`."""

    slow_to_end = True
    elsewhere = True

    def __init__(self, name: str, pool: Any) -> None:
        super().__init__(name, pool.max_workers)
        self._stations = pool.stations

    def most_lanes(self, bound: int) -> int:
        return min(bound, self.bound)

    def lane(self, mapper: Mapper) -> Lane:
        from syncflow.run.chunks import ProcessLane

        return ProcessLane(mapper, self._stations)

    def unfit(self, attempt: Attempt) -> Exception | None:
        from syncflow.run.remote import function_blob

        try:
            function_blob(attempt)
        except SerializationError as error:
            return error
        finally:
            del attempt  # the frames of the refusal lead here, and must not lead back to it
        return None

    def keep_to(self, bound: int | None) -> bool:
        return bound is not None and bound >= self.bound

    def start(self, attempt: Attempt) -> None:
        from syncflow.run.remote import BodyJob

        attempt.job = BodyJob(self._stations, attempt)
        self._stations.crew.start(attempt.job)

    def started_at(self, attempt: Attempt) -> float | None:
        started_at: float | None = attempt.job and attempt.job.started_at()
        return None if started_at is None else timing.from_real(started_at)

    def interrupt(self, attempt: Attempt) -> None:
        if attempt.job is not None:
            attempt.job.stop()

    def give_up(self, attempt: Attempt) -> bool:
        if attempt.job is not None:
            attempt.killed = True
            attempt.job.kill()
        return False

    def unstick(self, attempt: Attempt, patience: float) -> None:
        if attempt.job is not None:
            attempt.job.unstick(patience)


def merged_pools(flow: Flow, replaced: Mapping[str, str | Executor]) -> dict[str, str | Executor]:
    """Return what names of pools mean to a flow in this run; it uses none that it does not know."""
    return {**flow.pools, **replaced}


def resolved(pool: str | Executor, pools: Mapping[str, str | Executor]) -> str | Executor:
    """Follow a pool's name to an executor or a built-in pool.

    A name of the flow's own may stand for a built-in one, which a run may have replaced in turn.
    """
    for _ in range(2):
        if isinstance(pool, str):
            pool = pools.get(pool, pool)
    return pool


class Places:
    """Find the place of a step's pool; each is made once a run.

    Args:
        pools: The flow's own names, with the replacements of this run: name -> executor or name.
        replaced: The latter alone.
    """

    def __init__(
        self,
        pools: Mapping[str, str | Executor],
        replaced: Mapping[str, str | Executor] = _NOTHING,
    ) -> None:
        self._pools = pools
        self.replaced = replaced
        self._known: dict[Any, Place] = {}

    def of(self, step: Step, group: Parallel | None) -> Place:
        """Return the place for a step of a group (`None`: of no group)."""
        pool = pool_of(step, group)
        if step.nested is not None:
            return self._for_flows(pool == "inline")
        return self._known.get(pool) or self.find(pool)

    def _for_flows(self, inline: bool) -> Place:
        """Return the place for steps that are flows: threads of ours, whatever replaces them."""
        place = self._known.get(inline)
        if place is None:
            from syncflow.run.inner import FlowsInline, FlowsOnThreads

            place = self._known[inline] = FlowsInline() if inline else FlowsOnThreads()
        return place

    def find(self, pool: str | Executor) -> Place:
        """Return the place for a pool as a step names it."""
        place = self._known.get(pool)
        if place is None:
            try:
                place = self._make(pool)
            except Exception as error:
                # Its frames lead to this run: results that keep the error must not.
                place = Nowhere(self.name(pool), error.with_traceback(None))
            self._known[pool] = place
        return place

    @staticmethod
    def name(pool: str | Executor) -> str:
        """Return what results call a pool."""
        return pool if isinstance(pool, str) else type(pool).__name__

    def _make(self, pool: str | Executor) -> Place:
        name = self.name(pool)
        target = resolved(pool, self._pools)
        if target == "inline":
            return Inline()
        if target == "thread":
            return Threads(name, shared_thread_pool())
        if isinstance(target, ThreadPool):
            return Threads(name, target)
        # Costs imports that a flow without process steps never pays.
        from syncflow.pools.process import ProcessPool, shared_process_pool

        if target == "process":
            return Processes(name, shared_process_pool())
        if isinstance(target, ProcessPool):
            return Processes(name, target)
        from syncflow.run.foreign import Foreign

        assert isinstance(target, Executor)  # the definition sees to that
        if type(target).__module__.partition(".")[0] == "distributed":
            from syncflow.run.dask import DaskCluster

            target = DaskCluster(target)
        return Foreign(name, target)
