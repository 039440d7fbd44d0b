"""Jobs of a process pool, and the stations at which its threads run them.

A request that a worker has not acknowledged (it died before) is sent again, to a new one. Any other
death is the task's own end.
"""

from __future__ import annotations

import pickle
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Final

from syncflow.errors import PoolClosedError
from syncflow.pools import wire
from syncflow.pools.handle import EXIT_SECONDS, Worker, deliver_all
from syncflow.pools.thread import Crew

__all__ = ["FutureCall", "RemoteJob", "Stations", "remote_error"]

#: How often a task is sent while its workers die before they have received it.
_SENDS: Final = 3


class RemoteJob:
    """A job that runs in a worker process."""

    __slots__ = ("stations", "task", "worker")

    def __init__(self, stations: Stations) -> None:
        self.stations = stations
        #: Where it runs, once it does; read by other threads.
        self.worker: Worker | None = None
        self.task = 0

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
            details = self.request()
            for _ in range(_SENDS):
                worker = self.worker = self.stations.worker()
                task = self.task = worker.next_task()
                reply = worker.exchange(pickle.dumps((task, *details), protocol=5), self)
                if reply is not None:
                    return self.done(reply)
                if worker.page.received() == task:
                    return self.crashed(worker)
                if not worker.ready and self.stations.initializer is not None:
                    return self.refused(self.stations.give_up(worker))
                # It was killed while idle: nothing of the task has happened. Send it again.
            return self.crashed(worker)
        except BaseException as error:
            return self.refused(error)
        finally:
            del self

    def refuse(self, error: BaseException) -> None:
        deliver = self.refused(error)
        if deliver is not None:
            deliver()


class FutureCall(RemoteJob):
    """A call whose result goes into a `Future`."""

    __slots__ = ("_call", "_what", "future")

    def __init__(self, stations: Stations, call: tuple[Any, ...]) -> None:
        super().__init__(stations)
        self.future: Future[Any] = Future()
        self._call = call
        self._what = f"the call of {getattr(call[0], '__qualname__', call[0])!r}"

    def claim(self) -> bool:
        return self.future.set_running_or_notify_cancel()

    def request(self) -> tuple[Any, ...]:
        return "call", self._what, wire.dump_by_value(self._call, self._what)

    def done(self, reply: tuple[Any, ...]) -> Callable[[], None]:
        _, value, error, *_ = reply
        if error is not None:
            return self.refused(remote_error(error, self.worker))
        result = None if value is None else wire.load(value, f"the value of {self._what}")
        return partial(self.future.set_result, result)

    def crashed(self, worker: Worker) -> Callable[[], None]:
        return self.refused(worker.crash())

    def refused(self, error: BaseException) -> Callable[[], None]:
        if isinstance(error, PoolClosedError):
            return partial(_cancel, self.future)
        return partial(self.future.set_exception, error)


def _cancel(future: Future[Any]) -> None:
    future.cancel()
    future.set_running_or_notify_cancel()  # tells who waits for it


def remote_error(packed: wire.Packed, worker: Worker | None) -> BaseException:
    """Rebuild the error of a body, with a note that shows the traceback in the worker."""
    error = wire.unpack_error(packed)
    pid = None if worker is None else worker.pid
    error.add_note(f"in worker process {pid}:\n{packed[1]}")
    return error


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
            limit, name, leave=self._leave, hand_over=self._hand_over, idle_seconds=idle_timeout
        )

    def worker(self) -> Worker:
        """Return the calling thread's worker, a new one if need be."""
        worker: Worker | None = getattr(self._own, "worker", None)
        if worker is not None and worker.tasks == self._max_tasks:
            worker.retire(EXIT_SECONDS)
        if worker is None or worker.ended:
            held = self._held()
            deliver_all(held)  # starting a process takes a while
            initializer = None
            if self.initializer is not None:
                initializer = wire.dump_by_value(self.initializer, "the initializer")
            worker = self._own.worker = Worker(initializer, held)
        return worker

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

    def give_up(self, worker: Worker) -> BaseException:
        """Break the pool: its workers cannot be initialised. Return the error for all work."""
        from concurrent.futures.process import BrokenProcessPool

        error = BrokenProcessPool("the pool's initializer failed")
        error.__cause__ = worker.unfit or worker.crash()
        self.crew.break_(error)
        return error

    def _leave(self) -> None:
        """Let the worker of a thread that ends go."""
        deliver_all(self._held())
        worker: Worker | None = getattr(self._own, "worker", None)
        if worker is not None:
            worker.retire(EXIT_SECONDS)
