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
from concurrent.futures import Future
from functools import partial
from itertools import islice
from typing import Any, Never, ParamSpec, TypeVar

from syncflow.policy import arguments, function, optional_count, seconds, unknown_option
from syncflow.pools.checked import CheckedExecutor, check_call
from syncflow.pools.crew import Shared
from syncflow.pools.station import FutureCall, Stations, usable_cores

__all__ = ["ProcessPool", "shared_process_pool"]

P = ParamSpec("P")
T = TypeVar("T")

_OPTIONS = ("max_workers", "idle_timeout", "max_tasks_per_worker", "initializer", "initargs")


class ProcessPool(CheckedExecutor):
    """Worker processes that run one task at a time each; a complete `Executor`.

    Processes are started the loky way: no fork, no `if __name__ == "__main__"` guard; lambdas and
    closures work. A worker that dies costs exactly the task that it was running, whose future gets
    a `WorkerCrashedError`; the pool lives on. Workers ignore SIGINT and end with their parent,
    however it ends. Work that is still pending when the interpreter exits is dropped: use `with`,
    or `shutdown`.

    Args:
        max_workers: Most processes at a time. `None`: the usable cores, as `loky.cpu_count()`.
        idle_timeout: Seconds after which an idle worker ends; a later call starts another.
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
        **unknown: Never,
    ) -> None:
        where = "ProcessPool"
        for option in unknown:
            raise unknown_option(option, _OPTIONS, where)
        limit = optional_count(max_workers, "max_workers", where, least=1)
        args = arguments(initargs, "initargs", where)
        if initializer is not None:
            function(initializer, "initializer", where)
        self._stations = Stations(
            usable_cores() if limit is None else limit,
            "syncflow-process",
            seconds(idle_timeout, "idle_timeout", where, zero_ok=False),
            optional_count(max_tasks_per_worker, "max_tasks_per_worker", where, least=1),
            None if initializer is None else (initializer, args),
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
            DefinitionError: `fn` is not callable.
            PoolClosedError: after `shutdown`.
            concurrent.futures.process.BrokenProcessPool: the initializer has failed.
        """
        check_call(fn, "ProcessPool.submit")
        job = FutureCall(self._stations, (fn, args, kwargs))
        self._stations.crew.start(job)
        return job.future

    def _map(
        self,
        fn: Callable[..., T],
        iterables: tuple[Iterable[Any], ...],
        chunksize: int,
        **options: Any,
    ) -> Iterator[T]:
        """Send `chunksize` items in one message."""
        if chunksize == 1:
            return super()._map(fn, iterables, chunksize, **options)
        calls = zip(*iterables, strict=False)
        chunks = iter(lambda: list(islice(calls, chunksize)), [])
        return _flat(super()._map(partial(_call_each, fn), (chunks,), chunksize, **options))

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
