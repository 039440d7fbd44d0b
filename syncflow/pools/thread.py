"""A growing pool of daemon threads; a `concurrent.futures.Executor`."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Never, ParamSpec, TypeVar

from syncflow.errors import DefinitionTypeError
from syncflow.policy import arguments, function, optional_count, unknown_option
from syncflow.pools.checked import CheckedExecutor, check_call
from syncflow.pools.crew import Crew, FutureJob, Shared

__all__ = ["ThreadPool", "shared_thread_pool"]

P = ParamSpec("P")
T = TypeVar("T")

_OPTIONS = ("max_workers", "thread_name_prefix", "initializer", "initargs")

_pool_numbers = itertools.count()


class ThreadPool(CheckedExecutor):
    """Daemon threads that are reused and grow on demand; a complete `Executor`.

    A job that blocks for ever delays neither interpreter exit nor, without `max_workers`, any other
    job. Work that is still pending when the interpreter exits is dropped: use `with` or `shutdown`.

    Args:
        max_workers: Most threads at a time (abandoned ones aside). `None`: as many as there are
            jobs at a time.
        thread_name_prefix: Default: `syncflow-pool` and a number.
        initializer: Called with `initargs` in each new thread. When it raises, pending and later
            work fails with `concurrent.futures.thread.BrokenThreadPool`.
        initargs: Arguments of `initializer`.

    Raises:
        DefinitionError: An argument cannot work.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        **unknown: Never,
    ) -> None:
        where = "ThreadPool"
        for option in unknown:
            raise unknown_option(option, _OPTIONS, where)
        limit = optional_count(max_workers, "max_workers", where, least=1)
        args = arguments(initargs, "initargs", where)
        enter = None
        if initializer is not None:
            enter = partial(function(initializer, "initializer", where), *args)
        if not isinstance(thread_name_prefix, str):
            raise DefinitionTypeError(
                f"{where}: thread_name_prefix must be a string, not {thread_name_prefix!r}"
            )
        name = thread_name_prefix or f"syncflow-pool{next(_pool_numbers)}"
        self._crew = Crew(limit, name, enter=enter)
        weakref.finalize(self, self._crew.close).atexit = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn(*args, **kwargs)` on a thread; see `concurrent.futures.Executor.submit`.

        Raises:
            DefinitionError: `fn` is not callable.
            PoolClosedError: after `shutdown`.
            concurrent.futures.thread.BrokenThreadPool: the initializer has failed.
        """
        check_call(fn, "ThreadPool.submit")
        job = FutureJob(fn, args, kwargs)
        self._crew.start(job)
        return job.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work; see `concurrent.futures.Executor.shutdown`.

        Args:
            wait: Return only when all work is done and the threads have ended (abandoned ones
                aside). The pool's own threads never wait for themselves.
            cancel_futures: Cancel what has not started.
        """
        self._crew.shutdown(wait=wait, drop=cancel_futures)

    @property
    def crew(self) -> Crew:
        """What a run hands its jobs to."""
        return self._crew


_shared = Shared(lambda: ThreadPool(thread_name_prefix="syncflow-thread"))


def shared_thread_pool() -> ThreadPool:
    """Return the pool that all runs of this process share; made on first use."""
    return _shared.get()
