"""What one would write without syncflow: each peer calls a function for many arguments.

A peer that is not a dependency of syncflow comes with the extra `bench`, and may be missing. Those
that would fork this process, which has threads, start their workers from a fork server, as CPython
does by default from 3.14 on: that changes what the first call costs, and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import ExitStack
from importlib import import_module
from typing import Any

__all__ = [
    "LIMIT",
    "CallAll",
    "MissingPeerError",
    "Peer",
    "dask_cluster",
    "fresh_thread_pool",
    "joblib_batches",
    "loky_executor",
    "loky_map",
    "loky_pool",
    "pebble_executor",
    "pebble_pool",
    "require",
    "settled",
    "standard_executor",
    "standard_pool",
    "thread_pool",
]

#: Calls a function with each of the arguments and returns the values, in order.
CallAll = Callable[[Callable[[Any], Any], Iterable[Any]], list[Any]]

#: Gets so many workers ready, until the stack is closed.
Peer = Callable[[ExitStack, int], CallAll]

#: Seconds that a peer has for one round: it has hung, or is of no use.
LIMIT = 300.0


class MissingPeerError(Exception):
    """What a side needs is not installed."""


def require(module: str) -> Any:
    """Import what the extra `bench` brings.

    Raises:
        MissingPeerError: It cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise MissingPeerError(f"no {package}: pip install 'syncflow[bench]'") from None


def settled(futures: list[Future[Any]]) -> list[Any]:
    """Wait for futures as one would, and return their values."""
    wait(futures, LIMIT)
    return [future.result(0) for future in futures]


def _submitting(pool: Executor) -> CallAll:
    return lambda fn, arguments: settled([pool.submit(fn, argument) for argument in arguments])


def thread_pool(stack: ExitStack, workers: int) -> CallAll:
    """Return `concurrent.futures.ThreadPoolExecutor`: submit, wait, result."""
    return _submitting(stack.enter_context(ThreadPoolExecutor(workers)))


def fresh_thread_pool(_: ExitStack, workers: int) -> CallAll:
    """Return the same with a pool that is made for each round, as in a script."""

    def call_all(fn: Callable[[Any], Any], arguments: Iterable[Any]) -> list[Any]:
        with ThreadPoolExecutor(workers) as pool:
            return _submitting(pool)(fn, arguments)

    return call_all


def standard_executor(workers: int) -> Executor:
    """Return a `concurrent.futures.ProcessPoolExecutor`."""
    from multiprocessing import get_context

    return ProcessPoolExecutor(workers, mp_context=get_context("forkserver"))


def standard_pool(stack: ExitStack, workers: int) -> CallAll:
    """Return `concurrent.futures.ProcessPoolExecutor`: submit, wait, result."""
    return _submitting(stack.enter_context(standard_executor(workers)))


def loky_executor(workers: int) -> Executor:
    """Return a `loky.ProcessPoolExecutor`."""
    import loky

    executor: Executor = loky.ProcessPoolExecutor(workers)
    return executor


def loky_pool(stack: ExitStack, workers: int) -> CallAll:
    """Return `loky.ProcessPoolExecutor`: submit, wait, result."""
    return _submitting(stack.enter_context(loky_executor(workers)))


def loky_map(stack: ExitStack, workers: int) -> CallAll:
    """Return the `map` of `loky.ProcessPoolExecutor`."""
    pool = stack.enter_context(loky_executor(workers))
    return lambda fn, arguments: list(pool.map(fn, arguments, timeout=LIMIT))


def pebble_executor(stack: ExitStack, workers: int) -> Any:
    """Return a `pebble.ProcessPool`."""
    from multiprocessing import get_context

    pool = require("pebble").ProcessPool(workers, context=get_context("forkserver"))
    stack.callback(pool.join)
    stack.callback(pool.stop)
    return pool


def pebble_pool(stack: ExitStack, workers: int) -> CallAll:
    """Return `pebble.ProcessPool`: schedule, wait, result."""
    pool = pebble_executor(stack, workers)
    return lambda fn, arguments: settled([pool.schedule(fn, (argument,)) for argument in arguments])


def joblib_batches(stack: ExitStack, workers: int) -> CallAll:
    """Return `joblib.Parallel`, which sends calls in batches and large arrays as files."""
    joblib = require("joblib")
    executor = require("joblib.externals.loky").get_reusable_executor
    stack.callback(lambda: executor(reuse=True).shutdown(wait=True))

    def call_all(fn: Callable[[Any], Any], arguments: Iterable[Any]) -> list[Any]:
        calls = (joblib.delayed(fn)(argument) for argument in arguments)
        return list(joblib.Parallel(workers)(calls))

    return call_all


def dask_cluster(stack: ExitStack, workers: int) -> CallAll:
    """Return `dask.distributed` on this machine: map, gather."""
    distributed = require("distributed")
    cluster = stack.enter_context(
        distributed.LocalCluster(
            workers, threads_per_worker=1, dashboard_address=None, silence_logs=50
        )
    )
    client = stack.enter_context(distributed.Client(cluster))
    # Not pure: equal calls would share one result instead of being made.
    return lambda fn, arguments: list(client.gather(client.map(fn, list(arguments), pure=False)))
