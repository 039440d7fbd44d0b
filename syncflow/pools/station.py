"""Jobs of a process pool, and the stations at which its threads run them.

A request that a worker has not acknowledged (it died before) is sent again, to a new one. Any other
death is the task's own end.
"""

from __future__ import annotations

import os
import pickle
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from time import monotonic
from typing import Any, Final

from syncflow.errors import StepInterrupt
from syncflow.pools import wire
from syncflow.pools.crew import Crew, refuse
from syncflow.pools.handle import EXIT_SECONDS, Worker, deliver_all
from syncflow.pools.shared import Block

__all__ = ["FutureCall", "RemoteJob", "Stations"]

#: How often a task is sent while its workers die before they have received it.
_SENDS: Final = 3


#: How the thread libraries are told: OpenMP, OpenBLAS, MKL, BLIS, Accelerate, NumExpr, Numba.
_THREAD_COUNTS: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


def usable_cores() -> int:
    """Return the cores that this process may use, as `loky.cpu_count()` counts them."""
    import loky

    return loky.cpu_count()  # type: ignore[no-any-return]


class RemoteJob:
    """A job that runs in a worker process."""

    __slots__ = ("_assigned_at", "_killed", "_lock", "_stopped", "stations", "task", "worker")

    def __init__(self, stations: Stations) -> None:
        self.stations = stations
        #: Guards all that follows: who asks for a stop or a kill either finds the worker, or is
        #: found out about when there is one. Taken before a worker's own lock.
        self._lock = threading.Lock()
        self.worker: Worker | None = None
        self.task = 0
        self._assigned_at = 0.0
        self._stopped = False
        self._killed = False

    # --- what a kind of job says -----------------------------------------------------------

    def claim(self) -> bool:
        """Tell whether the job is still wanted; from here on it counts as begun."""
        raise NotImplementedError

    def request(self) -> tuple[Any, ...]:
        """Return kind and details of the task.

        Raises:
            SerializationError: something that has to be sent cannot be.
        """
        raise NotImplementedError

    def answer(self, kind: str, name: str) -> bytes:
        """Answer what the body reads."""
        raise NotImplementedError

    def began(self, now: float) -> None:
        """Take note that the body started, when asked to announce it."""

    def done(self, reply: tuple[Any, ...]) -> Callable[[], None] | None:
        """Take the reply; return what delivers it."""
        raise NotImplementedError

    def crash_of(self, worker: Worker) -> BaseException:
        """Return the error that tells of the worker's death."""
        raise NotImplementedError

    def crashed(self, worker: Worker) -> Callable[[], None] | None:
        """Take note that the worker died with the body; return what delivers it."""
        raise NotImplementedError

    def refused(self, error: BaseException) -> Callable[[], None] | None:
        """Take note that the body could not be started; return what delivers it."""
        raise NotImplementedError

    # --- the job itself --------------------------------------------------------------------

    def run(self) -> Callable[[], None] | None:
        """Run on the calling thread's worker."""
        if not self.claim():
            return None
        try:
            details = None
            for _ in range(_SENDS):
                worker = self.stations.worker()
                if details is None:
                    details = self.request()  # while a new worker is starting up
                if not self._assign(worker):
                    return self.refused(StepInterrupt("asked to stop before it began"))
                reply = worker.exchange(pickle.dumps((self.task, *details), protocol=5), self)
                if reply is not None:
                    try:
                        return self.done(reply)
                    finally:
                        worker.taken()
                if worker.page.received() == self.task:
                    return self.crashed(worker)
                if self._killed:
                    break
                if not worker.ready and self.stations.initializer is not None:
                    return self.refused(self.stations.give_up(worker))
                # It was killed while idle: nothing of the task has happened. Send it again.
            return self.refused(self.crash_of(worker))
        except BaseException as error:
            return self.refused(error)
        finally:
            del self

    def _assign(self, worker: Worker) -> bool:
        """Let the task begin on a worker; false when it was asked to stop before."""
        with self._lock:
            if self._killed or self._stopped:
                return False
            self.worker, self.task = worker, worker.begin()
            self._assigned_at = monotonic()
            return True

    def stop(self) -> None:
        """Ask the body to stop, wherever it is. Any thread."""
        with self._lock:
            self._stopped = True
            if self.worker is not None:
                self.worker.stop(self.task)

    def kill(self) -> None:
        """End the body, wherever it is: it never starts, or its worker dies. Any thread."""
        with self._lock:
            self._killed = True
            if self.worker is not None:
                self.worker.kill(self.task)

    def started_at(self) -> float | None:
        """Return the monotonic instant at which the body started; `None`: not yet. Any thread."""
        with self._lock:
            return None if self.worker is None else self.worker.page.started_at(self.task)

    def unstick(self, patience: float) -> None:
        """Replace a worker that has not taken the task over within `patience` seconds. Any thread.

        It is stopped, say. One that has, but has not started the body yet, is importing.
        """
        with self._lock:
            worker = self.worker
            if worker is None or not worker.ready or worker.page.received() == self.task:
                return
            if monotonic() >= self._assigned_at + patience:
                worker.kill(self.task)

    def refuse(self, error: BaseException) -> None:
        """Settle without having been claimed: the pool is broken or closed."""
        raise NotImplementedError


class FutureCall(RemoteJob):
    """A call whose result goes into a `Future`."""

    __slots__ = ("_call", "_kept", "_what", "future")

    def __init__(self, stations: Stations, call: tuple[Any, ...]) -> None:
        super().__init__(stations)
        self.future: Future[Any] = Future()
        self._call = call
        #: Large buffers of the arguments; dropped with this job.
        self._kept: list[Block] = []
        name = getattr(call[0], "__qualname__", type(call[0]).__name__)
        self._what = f"the call of {name!r}"

    def claim(self) -> bool:
        return self.future.set_running_or_notify_cancel()

    def request(self) -> tuple[Any, ...]:
        self.stations.deliver_held()
        try:
            return "call", self._what, wire.dump_by_value(self._call, self._what, self._kept)
        finally:
            del self  # the frames of a refusal lead here, and must not lead back to it

    def done(self, reply: tuple[Any, ...]) -> Callable[[], None]:
        _, value, error, *_ = reply
        try:
            if error is not None:
                assert self.worker is not None
                return self.refused(self.worker.rebuilt(error))
            result = None if value is None else wire.load(value, f"the value of {self._what}")
            return partial(self.future.set_result, result)
        finally:
            del self  # as in `request`

    def crash_of(self, worker: Worker) -> BaseException:
        from syncflow.pools.broken import BrokenWorkerError

        return worker.crash(kind=BrokenWorkerError)

    def crashed(self, worker: Worker) -> Callable[[], None]:
        return self.refused(self.crash_of(worker))

    def refused(self, error: BaseException) -> Callable[[], None]:
        return partial(self.future.set_exception, error)

    def refuse(self, error: BaseException) -> None:
        refuse(self.future, error)


class Stations:
    """What the threads of one pool share: how to make a worker, and each thread's own.

    Separate from the pool so that threads do not keep a pool alive that nobody uses any more.
    """

    def __init__(
        self,
        limit: int,
        name: str,
        idle_timeout: float,
        max_tasks: int | None,
        initializer: tuple[Callable[..., object], tuple[Any, ...]] | None,
    ) -> None:
        self.limit = limit
        self.initializer = initializer
        self._max_tasks = max_tasks
        self._own = threading.local()
        self.crew = Crew(
            limit,
            name,
            leave=self._leave,
            hand_over=self._hand_over,
            before_sleep=self.deliver_held,
            idle_seconds=idle_timeout,
        )

    def worker(self) -> Worker:
        """Return the calling thread's worker, a new one if need be."""
        worker: Worker | None = getattr(self._own, "worker", None)
        if worker is not None and worker.tasks == self._max_tasks:
            self.deliver_held()
            worker.retire(EXIT_SECONDS)
        if worker is None or worker.ended:
            self.deliver_held()
            initializer = None
            if self.initializer is not None:
                initializer = wire.dump_by_value(self.initializer, "the initializer")
            worker = self._own.worker = Worker(initializer, self._held(), self._environment())
        return worker

    def _environment(self) -> dict[str, str]:
        """Return what a new worker finds in its environment beside ours.

        The thread libraries inside of numpy and the like would each use all cores, in each of n
        workers: they get one n-th, unless the user has said how many.
        """
        threads = str(max(1, usable_cores() // self.limit))
        return {name: threads for name in _THREAD_COUNTS if name not in os.environ}

    def _held(self) -> deque[Callable[[], None]]:
        """Return the results that the calling thread has yet to deliver."""
        if not hasattr(self._own, "held"):
            self._own.held = deque()
        held: deque[Callable[[], None]] = self._own.held
        return held

    def _hand_over(self, deliver: Callable[[], None]) -> None:
        """Deliver a result, or hold it back while there is more to do at once.

        A result wakes who waits for it, and who is woken takes the interpreter's lock from this
        thread: one by one, that costs more than a tiny task. See `Worker._wait`.
        """
        held = self._held()
        held.append(deliver)
        if self.crew.is_idle():
            deliver_all(held)

    def deliver_held(self) -> None:
        """Deliver what the calling thread has held back: what it does next may take long."""
        deliver_all(self._held())

    def give_up(self, worker: Worker) -> BaseException:
        """Break the pool: its workers cannot be initialised. Return the error for all work."""
        from concurrent.futures.process import BrokenProcessPool

        error = BrokenProcessPool("the pool's initializer failed")
        error.__cause__ = worker.unfit or worker.crash()
        self.crew.break_(error)
        return error

    def _leave(self) -> None:
        """Let the worker of a thread that ends go."""
        self.deliver_held()
        worker: Worker | None = getattr(self._own, "worker", None)
        if worker is not None:
            worker.retire(EXIT_SECONDS)
