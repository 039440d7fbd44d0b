"""A pool of worker processes, one task at a time each; a `concurrent.futures.Executor`.

A task is a job on a thread of the pool's own crew (see `thread.py`). Each such thread owns one
worker process: it starts it for its first job, sends one request, waits on the pipe, and gets one
reply back; while the body runs it answers the body's reads. So at most `max_workers` processes
exist, waiting tasks hold no thread and no process, and a worker that dies takes nothing with it but
the task it was running.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from functools import partial
from itertools import islice
from typing import Any, ParamSpec, TypeVar

from syncflow.policy import count, function, seconds
from syncflow.pools.crew import Shared
from syncflow.pools.station import FutureCall, Stations, usable_cores

__all__ = ["ProcessPool", "shared_process_pool"]

P = ParamSpec("P")
T = TypeVar("T")


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

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **options: Any,
    ) -> Iterator[T]:
        """Call `fn` with the items of the iterables; see `concurrent.futures.Executor.map`.

        Args:
            fn: Called once for each item.
            iterables: Iterated at once, in parallel.
            timeout: Seconds until the last result; `None`: no limit.
            chunksize: Items that share one message to a worker.
            options: Whatever else the running Python's executors know.

        Raises:
            DefinitionError: `chunksize` is not a positive integer.
        """
        count(chunksize, "chunksize", "ProcessPool.map", least=1)
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout, **options)
        calls = zip(*iterables, strict=False)
        chunks = iter(lambda: list(islice(calls, chunksize)), [])
        return _flat(super().map(partial(_call_each, fn), chunks, timeout=timeout, **options))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work; see `concurrent.futures.Executor.shutdown`.

        Args:
            wait: Return only when all work is done and the workers have ended.
            cancel_futures: Cancel what has not started.
        """
        self._stations.crew.shutdown(wait=wait, drop=cancel_futures)


def _call_each(fn: Callable[..., T], calls: list[tuple[Any, ...]]) -> list[T]:
    """Run one chunk, in a worker."""
    return [fn(*items) for items in calls]


def _flat(chunks: Iterator[list[T]]) -> Iterator[T]:
    """Yield the values of chunks, and keep none that was taken."""
    for values in chunks:
        values.reverse()
        while values:
            yield values.pop()


_shared = Shared(ProcessPool)


def shared_process_pool() -> ProcessPool:
    """Return the pool that all runs of this process share; made on first use."""
    return _shared.get()
