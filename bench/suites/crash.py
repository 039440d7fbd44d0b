"""How soon the work goes on after a worker was killed, and that no other step notices.

Peers call functions of the standard library here: their new workers are not to be charged with the
import of syncflow.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, wait
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, Protocol

from syncflow import Flow, Step, WorkerCrashedError
from syncflow.bench import peers
from syncflow.bench.bodies import crash, crash_once, no_op
from syncflow.bench.case import Case, Prepare, Settings, Side, Work
from syncflow.bench.flows import group, process_pool, values

__all__ = ["cases"]

#: Steps beside the one that crashes, and seconds that each takes.
SIBLINGS, NAP = 7, 0.02


def cases(settings: Settings) -> list[Case]:
    """Return a crash among siblings, and one of the only worker."""
    return [_among_siblings(settings.workers), _only_worker()]


class _Pool(Protocol):
    """A peer's pool, and what one has to do about it once a worker has died."""

    def submit(self, fn: Callable[[Any], Any], argument: object) -> Future[Any]: ...

    def recover(self) -> None: ...


class _Rebuilt:
    """An executor that breaks as a whole, so that a new one has to be made."""

    def __init__(self, make: Callable[[], Executor], stack: ExitStack) -> None:
        self._make = make
        self._pool = make()
        stack.callback(self.close)

    def submit(self, fn: Callable[[Any], Any], argument: object) -> Future[Any]:
        return self._pool.submit(fn, argument)

    def recover(self) -> None:
        self.close()
        self._pool = self._make()

    def close(self) -> None:
        self._pool.shutdown()


class _Pebble:
    """A pool that replaces a worker by itself."""

    def __init__(self, workers: int, stack: ExitStack) -> None:
        self._pool = peers.pebble_executor(stack, workers)

    def submit(self, fn: Callable[[Any], Any], argument: object) -> Future[Any]:
        future: Future[Any] = self._pool.schedule(fn, (argument,))
        return future

    def recover(self) -> None:
        """Do nothing."""


def _pools(workers: int) -> dict[str, Callable[[ExitStack], _Pool]]:
    return {
        f"loky.ProcessPoolExecutor({workers}), rebuilt": partial(
            _Rebuilt, partial(peers.loky_executor, workers)
        ),
        f"concurrent.futures.ProcessPoolExecutor({workers}), rebuilt": partial(
            _Rebuilt, partial(peers.standard_executor, workers)
        ),
        f"pebble.ProcessPool({workers})": partial(_Pebble, workers),
    }


def _among_siblings(workers: int) -> Case:
    def ours(stack: ExitStack) -> Work:
        guilty = Step("guilty", crash_once, retries=1, retry_on=WorkerCrashedError)
        naps = group([_nap] * SIBLINGS)
        pool = process_pool(stack, workers)
        flow = Flow("crash").parallel("group", [guilty, *naps], pool=pool)
        return partial(values, flow)

    def theirs(make: Callable[[ExitStack], _Pool]) -> Prepare:
        def prepare(stack: ExitStack) -> Work:
            pool = make(stack)
            return lambda: _until_all_have_values(pool)

        return prepare

    return Case(
        f"1 of {SIBLINGS + 1} steps kills its worker and is tried again, workers: {workers}",
        (
            Side("syncflow", ours),
            *(Side(name, theirs(make)) for name, make in _pools(workers).items()),
        ),
    )


def _nap(_: object) -> None:
    time.sleep(NAP)


def _until_all_have_values(pool: _Pool) -> list[Any]:
    """Call again what has no value yet: a broken pool does not say whose fault it was.

    Raises:
        RuntimeError: Something has no value after the second attempt.
    """
    values: dict[int, Any] = {}
    for attempt in (1, 2):
        guilty = (signal.raise_signal, signal.SIGKILL) if attempt == 1 else (abs, 1)
        futures = {}
        with suppress(BrokenExecutor):  # the first may have killed its worker already
            for at in range(SIBLINGS + 1):
                if at not in values:
                    futures[at] = pool.submit(*(guilty if at == 0 else (time.sleep, NAP)))
        wait(futures.values(), peers.LIMIT)
        for at, future in futures.items():
            if future.exception(0) is None:
                values[at] = future.result()
        if attempt == 1:
            pool.recover()
    if len(values) <= SIBLINGS:
        raise RuntimeError(f"{len(values)} of {SIBLINGS + 1} calls have a value")
    return [values[at] for at in sorted(values)]


def _only_worker() -> Case:
    def ours(stack: ExitStack) -> Work:
        members = [Step("crash", crash), Step("good", no_op)]
        pool = process_pool(stack, 1)
        flow = Flow("crash").parallel("group", members, pool=pool, max_concurrency=1)

        def work() -> object:
            result = flow.run()
            return isinstance(result["crash"].error, WorkerCrashedError), result["good"].value

        return work

    def theirs(make: Callable[[ExitStack], _Pool]) -> Prepare:
        def prepare(stack: ExitStack) -> Work:
            pool = make(stack)

            def work() -> object:
                crashed = pool.submit(signal.raise_signal, signal.SIGKILL).exception(peers.LIMIT)
                pool.recover()
                return crashed is not None, pool.submit(abs, 1).result(peers.LIMIT)

            return work

        return prepare

    return Case(
        "the only worker is killed, then a good step",
        (
            Side("syncflow", ours),
            *(Side(name, theirs(make)) for name, make in _pools(1).items()),
        ),
    )
