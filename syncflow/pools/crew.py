"""The threads of a pool: a crew that grows on demand, and the jobs that it runs.

Rules of this file:

- A job waits in one queue that all threads read. A thread that has just finished one job takes the
  next without anybody being woken, which is why a small job costs microseconds.
- The pool grows when there are more jobs, queued or running, than threads: so every queued job has
  a thread that is idle or about to be, and a job that waits for another job never deadlocks (unless
  `max_workers` says so).
- A thread counts as free *before* its job's result is delivered: whoever receives the result and
  submits the next job finds this thread, and starts no new one.
- A job that hangs is *abandoned*: its thread no longer counts. A thread cannot be killed.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import threading
import weakref
from collections.abc import Callable, Collection
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, Protocol, TypeVar

from syncflow.errors import PoolClosedError
from syncflow.timing import LONGEST_WAIT

__all__ = [
    "Crew",
    "FutureJob",
    "Job",
    "Shared",
    "close_for_exit",
    "deliver",
    "is_exiting",
    "refuse",
]

#: Seconds after which an idle thread ends.
IDLE_SECONDS: Final = 60.0

#: Seconds after which `shutdown` looks whether the thread it waits for was abandoned.
_LOOK_AGAIN: Final = 0.5

logger = logging.getLogger("syncflow")

P = TypeVar("P")


def deliver(result: Callable[[], None]) -> None:
    """Deliver a result; never raise, whatever the callbacks of a future do."""
    try:
        result()
    except BaseException:
        logger.exception("a callback of a future raised")


def _anew(error: BaseException) -> BaseException:
    """Return an error of its own for each who is refused: they get notes and tracebacks."""
    fresh = type(error)(*error.args)
    fresh.__cause__ = error.__cause__
    return fresh


class Job(Protocol):
    """Something to run on a worker."""

    def run(self) -> Callable[[], None] | None:
        """Run to the end; never raise. Return what delivers the result: it must not block."""
        ...

    def refuse(self, error: BaseException) -> None:
        """Settle without having run: the pool is broken or closed."""
        ...


class FutureJob:
    """A call whose result goes into a `Future`."""

    __slots__ = ("_args", "_function", "_kwargs", "future")

    def __init__(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.future: Future[Any] = Future()
        self._function = fn
        self._args = args
        self._kwargs = kwargs

    def run(self) -> Callable[[], None] | None:
        future = self.future
        if not future.set_running_or_notify_cancel():
            return None
        try:
            return partial(future.set_result, self._function(*self._args, **self._kwargs))
        except BaseException as error:
            return partial(future.set_exception, error)
        finally:
            # An error's traceback holds this frame: keep nothing here that leads to the error.
            del self, future

    def refuse(self, error: BaseException) -> None:
        refuse(self.future, error)


def refuse(future: Future[Any], error: BaseException) -> None:
    """Settle the future of a call that has not begun: cancelled when the pool was closed."""
    if isinstance(error, PoolClosedError):
        future.cancel()
    if future.set_running_or_notify_cancel():  # tells who waits for one that is cancelled
        future.set_exception(error)


class Crew:
    """The threads of one pool, the queue they read, and the counts that let it grow.

    Separate from the pool so that threads do not keep a pool alive that nobody uses any more.
    """

    def __init__(
        self,
        limit: int | None,
        name: str,
        *,
        enter: Callable[[], None] | None = None,
        leave: Callable[[], None] | None = None,
        hand_over: Callable[[Callable[[], None]], None] | None = None,
        before_sleep: Callable[[], None] | None = None,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self.limit = limit
        self._name = name
        #: Called in each new thread, before its first job; when it raises, the pool is broken.
        self._enter = enter
        #: Called in each thread that ends.
        self._leave = leave
        #: Takes over what delivers the result of a job, once the thread counts as free.
        self._hand_over = hand_over
        #: Called in a thread that finds no job and is about to wait for one.
        self._before_sleep = before_sleep
        self._idle_seconds = min(idle_seconds, LONGEST_WAIT)
        self._names = itertools.count()
        self._closed = False
        self._reset()
        _crews.add(self)

    def _reset(self) -> None:
        """Start empty: when made, and in a forked child, which has none of the parent's threads."""
        #: Guards everything below. Held for a few instructions; no job or callback runs under it.
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        #: Live threads but the abandoned ones -> the job that each runs, in a list of one.
        self._desks: dict[threading.Thread, list[Job | None]] = {}
        #: Jobs queued or running, but the abandoned ones. Above len(_desks) only at the limit.
        self._outstanding = 0
        #: Those that `shutdown` waits for: also who has no desk any more, and lets its worker go.
        self._awaited: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        #: Those that have called `shutdown` and waited.
        self._closing: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._broken: BaseException | None = None

    def start(self, job: Job) -> None:
        """Run `job` on a thread of this crew, soon. Any thread may call this; never blocks.

        Raises:
            PoolClosedError: the pool was shut down.
            BrokenThreadPool: its initializer failed.
        """
        with self._lock:
            self.require_open()
            if self._outstanding >= len(self._desks):
                self._recruit()
            self._outstanding += 1
            self._jobs.put(job)

    def require_open(self) -> None:
        """Raise what `start` raises when the crew takes no more work."""
        if self._broken is not None:
            raise _anew(self._broken)
        if self._closed or _exiting:
            why = "the interpreter is exiting" if _exiting else "the pool was shut down"
            raise PoolClosedError(f"{why}: the pool takes no more work")

    def _recruit(self) -> None:
        """Start one more thread, unless the limit is reached. Holds the lock.

        Raises:
            RuntimeError: the system has no thread to give, and the crew has none.
        """
        if self.limit is not None and len(self._desks) >= self.limit:
            return
        thread = threading.Thread(
            target=self._serve, name=f"{self._name}-{next(self._names)}", daemon=True
        )
        self._desks[thread] = [None]
        self._awaited.add(thread)
        try:
            thread.start()
        except RuntimeError:
            del self._desks[thread]
            if not self._desks:
                raise

    def _serve(self) -> None:
        """Run jobs until the crew has no more use for this thread."""
        me = threading.current_thread()
        desk = self._desks[me]
        try:
            if self._enter is not None:
                self._enter()
        except BaseException as error:
            from concurrent.futures.thread import BrokenThreadPool

            broken = BrokenThreadPool("the pool's initializer failed")
            broken.__cause__ = error
            with self._lock:
                del self._desks[me]
            self.break_(broken)
            return
        # Anything put into the queue wakes this; the time limit is what ends an idle thread.
        get, lock, idle_seconds = self._jobs.get, self._lock, self._idle_seconds
        before_sleep = self._before_sleep
        try:
            while True:
                try:
                    if before_sleep is not None:
                        try:
                            job = get(block=False)
                        except Empty:
                            before_sleep()
                            job = get(timeout=idle_seconds)
                    else:
                        job = get(timeout=idle_seconds)
                except Empty:
                    with lock:
                        # Safe: with more threads than jobs, each queued job has another thread.
                        if len(self._desks) > self._outstanding:
                            del self._desks[me]
                            return
                    continue
                if job is None:
                    with lock:
                        self._desks.pop(me, None)
                    return
                desk[0] = job
                result = job.run()
                with lock:
                    desk[0] = None
                    abandoned = me not in self._desks
                    if not abandoned:
                        self._outstanding -= 1
                job = None  # outside the lock: what dies with it may call anything
                if result is not None:
                    (self._hand_over or deliver)(result)
                    result = None
                if abandoned:
                    return
        finally:
            if self._leave is not None:
                self._leave()

    def abandon(self, job: Job) -> None:
        """Count the thread that runs `job` out: it takes no slot, and ends when the job does."""
        with self._lock:
            for thread, desk in self._desks.items():
                if desk[0] is job:
                    del self._desks[thread]
                    self._awaited.discard(thread)
                    self._outstanding -= 1
                    if self._outstanding > len(self._desks):
                        with suppress(RuntimeError):  # no thread to be had: `start` tries again
                            self._recruit()
                    return

    def is_full(self) -> bool:
        """Tell whether a job that waits for a thread has to wait until another job ends."""
        with self._lock:
            at_limit = self.limit is not None and len(self._desks) >= self.limit
            return at_limit and all(desk[0] is not None for desk in self._desks.values())

    def is_idle(self) -> bool:
        """Tell whether no job is waiting for a thread."""
        return self._jobs.empty()

    def break_(self, error: BaseException) -> None:
        """Refuse all work, now and later: workers cannot be initialised. Any thread."""
        with self._lock:
            self._broken = error
            dropped = self._drain()
        for job in dropped:
            job.refuse(_anew(error))

    def _drain(self) -> list[Job]:
        """Take all jobs that have not started out of the queue. Holds the lock."""
        found: list[Job | None] = []
        with suppress(Empty):
            while True:
                found.append(self._jobs.get_nowait())
        dropped = [job for job in found if job is not None]
        for _ in range(len(found) - len(dropped)):
            self._jobs.put(None)  # by which a thread is to end
        self._outstanding -= len(dropped)
        return dropped

    def close(self, *, drop: bool = False) -> None:
        """Take no more work; end the threads once the queue is empty (or now: `drop`)."""
        with self._lock:
            self._closed = True
            dropped = self._drain() if drop else []
            for _ in self._desks:
                self._jobs.put(None)
        for job in dropped:
            job.refuse(PoolClosedError("the pool was shut down before this could start"))

    def shutdown(self, *, wait: bool, drop: bool) -> None:
        """Close; with `wait`, return when the threads have ended.

        One of them that calls this waits neither for itself nor for others of them that have called
        it: they may wait for each other, here or afterwards.
        """
        self.close(drop=drop)
        if not wait:
            return
        me = threading.current_thread()
        if is_ours := me in self._awaited:
            self._closing.add(me)
        # Each ends by a None that `close` has put into the queue, or is abandoned meanwhile.
        while thread := self._one_to_await(self._closing if is_ours else ()):
            thread.join(_LOOK_AGAIN)

    def _one_to_await(self, spared: Collection[threading.Thread]) -> threading.Thread | None:
        with self._lock:
            live = (thread for thread in self._awaited if thread.is_alive())
            return next((thread for thread in live if thread not in spared), None)


#: Every crew of this process, for the fork handler.
_crews: weakref.WeakSet[Crew] = weakref.WeakSet()


#: The interpreter is exiting.
_exiting = False


@atexit.register
def close_for_exit() -> None:
    """Take no more work in any pool. At exit this runs after the handlers that users registered."""
    global _exiting
    _exiting = True


def is_exiting() -> bool:
    """Tell whether the interpreter is exiting."""
    return _exiting


class Shared(Generic[P]):
    """A pool that all runs of this process share; `make` makes it, on first use."""

    def __init__(self, make: Callable[[], P]) -> None:
        self._make = make
        #: Guards the making of the pool.
        self._lock = threading.Lock()
        self._pool: P | None = None
        _all_shared.append(self)

    def get(self) -> P:
        """Return the pool."""
        with self._lock:
            if self._pool is None:
                self._pool = self._make()
            return self._pool

    def forget(self) -> None:
        """Have none yet: in a forked child, whose pools are its own."""
        self._lock = threading.Lock()
        self._pool = None


#: Every shared pool of this process, for the fork handler.
_all_shared: list[Shared[Any]] = []


def _after_fork() -> None:
    """A forked child has none of the parent's threads, and its locks may be held for ever."""
    for crew in list(_crews):
        crew._reset()
    for shared in _all_shared:
        shared.forget()


os.register_at_fork(after_in_child=_after_fork)
