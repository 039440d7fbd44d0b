"""A pool of worker processes, one task at a time each; a `concurrent.futures.Executor`.

A task is a job on a thread of the pool's own crew (see `thread.py`). Each such thread owns one
worker process: it starts it for its first job, sends one request, waits on the pipe, and gets one
reply back; while the body runs it answers the body's reads. So at most `max_workers` processes
exist, waiting tasks hold no thread and no process, and a worker that dies takes nothing with it but
the task it was running.

A request that a worker has not acknowledged (it died before) is sent again, to a new one. Any other
death is the task's own end.
"""

from __future__ import annotations

import atexit
import os
import pickle
import select
import signal
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from time import monotonic
from typing import Any, Final, ParamSpec, TypeVar

from syncflow.errors import PoolClosedError, WorkerCrashedError
from syncflow.policy import count, function, seconds
from syncflow.pools import wire
from syncflow.pools.thread import Crew

__all__ = ["ProcessPool", "RemoteJob", "Worker", "shared_process_pool"]

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds that idle workers have to end by themselves when the interpreter exits.
_EXIT_SECONDS: Final = 0.3

#: How often a task is sent while its workers die before they have received it.
_SENDS: Final = 3

_live: weakref.WeakSet[Worker] = weakref.WeakSet()


def deliver_all(held: deque[Callable[[], None]]) -> None:
    """Deliver results, in the order in which they came."""
    while held:
        held.popleft()()


class Worker:
    """One worker process and this side of its pipe. Owned by one thread.

    `stop` and `kill` alone may be called from others.
    """

    def __init__(self, initializer: bytes | None, held: deque[Callable[[], None]]) -> None:
        from multiprocessing import process as registry
        from multiprocessing.connection import Connection

        from loky.backend import get_context

        from syncflow.pools import worker

        context = get_context("loky")
        ours, theirs = context.Pipe(duplex=True)
        lifeline, self._lifeline = os.pipe()
        with tempfile.TemporaryFile() as shared:
            shared.truncate(worker.Page.SIZE)
            self.page = worker.Page(shared.fileno())
            page = Connection(os.dup(shared.fileno()))
            hangup = Connection(lifeline, writable=False)
            process = context.Process(
                target=worker.main,
                args=(theirs, page, hangup, initializer),
                name="syncflow-worker",
                daemon=False,
            )
            process.start()
        for end in (theirs, page, hangup):
            end.close()
        # multiprocessing would wait for it at interpreter exit, also in forked children.
        registry._children.discard(process)  # type: ignore[attr-defined]
        self.pid: int = process.pid
        self._process = process
        self._pipe = ours
        self._poll = select.poll()
        self._poll.register(ours.fileno(), select.POLLIN)
        self._pidfd = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None
        if self._pidfd is not None:
            self._poll.register(self._pidfd, select.POLLIN)
        self._channel = wire.Channel(ours.fileno(), self._wait)
        self._linger = wire.lingering(ours.fileno())
        #: Results that the owning thread has yet to deliver: before it sleeps at the latest.
        self._held = held
        #: Guards `_ended`: no signal is sent to a pid that may already be somebody else's.
        self._lock = threading.Lock()
        self._ended = False
        #: The worker has started up and passed its initializer.
        self.ready = False
        #: What the initializer raised.
        self.unfit: BaseException | None = None
        #: The task that is on it, or 0. Guarded by the lock, so that a kill hits who it is for.
        self._task = 0
        self.tasks = 0
        _live.add(self)

    def _wait(self) -> None:
        """Wait until the worker has said something. The kernel wakes this, also when it dies.

        A grandchild may hold the worker's end of the pipe open: its death is noticed all the same.
        """
        if self._held:
            self._linger()
            if not self._poll.poll(0):
                deliver_all(self._held)
        limit = None if self._pidfd is not None else 1000
        while True:
            events = self._poll.poll(limit)
            if any(fd != self._pidfd for fd, _ in events):
                return
            if events or self._process.exitcode is not None:
                raise EOFError("the worker has died")

    @property
    def busy(self) -> bool:
        """Whether a task is on it."""
        return self._task != 0

    def next_task(self) -> int:
        """Return a number for the next task, from 1."""
        self.tasks += 1
        return self.tasks

    def exchange(self, request: bytes, job: RemoteJob) -> tuple[Any, ...] | None:
        """Send the request of the newest task and return the reply.

        `None` when the worker has died; `unfit` tells whether it ever could have served.
        """
        with self._lock:
            self._task = self.tasks
        try:
            return self._exchange(request, job)
        except (EOFError, OSError):
            self.reap()
            return None
        finally:
            with self._lock:
                self._task = 0

    def _exchange(self, request: bytes, job: RemoteJob) -> tuple[Any, ...] | None:
        channel = self._channel
        try:
            channel.send(request)
        except OSError:
            pass  # it has closed the pipe: read what it had to say
        while True:
            reply: tuple[Any, ...] = pickle.loads(channel.receive())
            match reply:
                case ("done", *_):
                    return reply
                case ("read", kind, name):
                    channel.send(job.answer(kind, name))
                case ("began", now):
                    job.began(now)
                case ("ready",):
                    self.ready = True
                case ("unfit", error):
                    self.unfit = wire.unpack_error(error)

    def stop(self, task: int) -> None:
        """Ask the body of `task` to stop; nothing happens when it is over. Any thread."""
        with self._lock:
            if not self._ended:
                self.page.mark_stop(task)
                os.kill(self.pid, signal.SIGALRM)

    def kill(self, task: int) -> None:
        """End the process at once, with all that it has started, if it is at `task`. Any thread."""
        with self._lock:
            if self._task == task and not self._ended:
                self._kill_group()

    def _kill_group(self) -> None:
        """Kill the worker's process group, or the worker that has not made its group yet."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def reap(self) -> None:
        """Make sure that the process and its children are gone, and free what it held."""
        with self._lock:
            if self._ended:
                return
            # Not reaped yet, so the pid is still its own: its children can be ended by its group.
            self._kill_group()
            self._ended = True
        self._process.join()  # it has been killed: returns at once
        self._close()

    def retire(self, patience: float) -> None:
        """Let the idle worker end by itself, and see to it that it does.

        Args:
            patience: Seconds that it has for it.
        """
        self.hang_up()
        self.end_by(monotonic() + patience)

    def hang_up(self) -> None:
        """Close the pipe: an idle worker ends."""
        self._pipe.close()

    def end_by(self, deadline: float) -> None:
        """Wait until the worker has ended, or end it at the deadline."""
        with self._lock:  # reaping it frees its pid: nobody may signal that meanwhile
            if not self._ended:
                self._process.join(max(0.0, deadline - monotonic()))
        self.reap()

    def forget(self) -> None:
        """Let go of a worker that belongs to the parent of this forked process."""
        self._lock = threading.Lock()
        if not self._ended:
            self._ended = True
            self._close()

    def _close(self) -> None:
        self._pipe.close()
        os.close(self._lifeline)
        if self._pidfd is not None:
            os.close(self._pidfd)

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._ended

    def crash(self, step_name: str | None = None, attempt: int | None = None) -> WorkerCrashedError:
        """Describe the death of this worker, once it is reaped."""
        code = self._process.exitcode
        name = None
        if code is not None and code < 0:
            known = -code in signal.valid_signals()
            name = getattr(signal.Signals(-code), "name", None) if known else f"signal {-code}"
        return WorkerCrashedError(self.pid, code, name, step_name, attempt)


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
        return "call", self._what, wire.dump_function(self._call, self._what)

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
            return partial(self.future.cancel)  # type: ignore[arg-type]
        return partial(self.future.set_exception, error)


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
            worker.retire(_EXIT_SECONDS)
        if worker is None or worker.ended:
            held = self._held()
            deliver_all(held)  # starting a process takes a while
            initializer = None
            if self.initializer is not None:
                initializer = wire.dump_function(self.initializer, "the initializer")
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
            worker.retire(_EXIT_SECONDS)


class ProcessPool(Executor):
    """Worker processes that run one task at a time each; a complete `Executor`.

    Processes are started the loky way: no fork, no `if __name__ == "__main__"` guard; lambdas and
    closures work. A worker that dies costs exactly the task that it was running, whose future gets
    a `WorkerCrashedError`; the pool lives on. Workers ignore SIGINT and end with their parent,
    however it ends. Work that is still pending when the interpreter exits is dropped: use `with`,
    or `shutdown`.

    Args:
        max_workers: Most processes at a time. `None`: the usable cores, as `loky.cpu_count()`.
        idle_timeout: Seconds after which an idle worker ends.
        max_tasks_per_worker: Replace a worker after so many tasks. `None`: never.
        initializer: Called with `initargs` in each new worker. When it fails, pending and later
            work fails with `concurrent.futures.process.BrokenProcessPool`.
        initargs: Arguments of `initializer`.

    Raises:
        DefinitionError: An argument cannot work.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        idle_timeout: float = 60.0,
        max_tasks_per_worker: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        where = "ProcessPool"
        if max_workers is None:
            limit = usable_cores()
        else:
            limit = count(max_workers, "max_workers", where, least=1)
        if max_tasks_per_worker is not None:
            count(max_tasks_per_worker, "max_tasks_per_worker", where, least=1)
        if initializer is not None:
            function(initializer, "initializer", where)
        self._stations = Stations(
            limit,
            "syncflow-process",
            seconds(idle_timeout, "idle_timeout", where, zero_ok=False),
            max_tasks_per_worker,
            None if initializer is None else (initializer, tuple(initargs)),
        )
        weakref.finalize(self, self._stations.crew.close).atexit = False

    @property
    def max_workers(self) -> int:
        """Most processes at a time."""
        return self._stations.limit

    @property
    def stations(self) -> Stations:
        """What a `RemoteJob` is made for."""
        return self._stations

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn(*args, **kwargs)` in a worker; see `concurrent.futures.Executor.submit`.

        Raises:
            PoolClosedError: after `shutdown`.
        """
        job = FutureCall(self._stations, (fn, args, kwargs))
        self._stations.crew.start(job)
        return job.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work; see `concurrent.futures.Executor.shutdown`.

        Args:
            wait: Return only when all work is done and the workers have ended.
            cancel_futures: Cancel what has not started.
        """
        self._stations.crew.shutdown(wait=wait, drop=cancel_futures)


def usable_cores() -> int:
    """Return the cores that this process may use, as `loky.cpu_count()` counts them."""
    import loky

    return loky.cpu_count()  # type: ignore[no-any-return]


_shared: ProcessPool | None = None
#: Guards the making of the shared pool.
_shared_lock = threading.Lock()


def shared_process_pool() -> ProcessPool:
    """Return the pool that all runs of this process share; made on first use."""
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = ProcessPool()
        return _shared


def _after_fork() -> None:
    """A forked child has none of the parent's pools, and must not hold their workers' lifelines."""
    global _shared, _shared_lock
    _shared = None
    _shared_lock = threading.Lock()
    for worker in list(_live):
        worker.forget()


@atexit.register
def _end_workers() -> None:
    """Leave no worker behind: ask idle ones to end, kill the others."""
    workers = [worker for worker in list(_live) if not worker.ended]
    for worker in workers:
        if worker.busy:
            worker.kill(worker.tasks)
        else:
            worker.hang_up()
    deadline = monotonic() + _EXIT_SECONDS
    for worker in workers:
        worker.end_by(deadline)


os.register_at_fork(after_in_child=_after_fork)
