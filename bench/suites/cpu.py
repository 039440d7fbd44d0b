"""Computing: what processes gain over one."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from time import perf_counter
from typing import Any

import loky

from syncflow.bench.bodies import burn, transform
from syncflow.bench.case import Case, Prepare, Settings, Side, Target
from syncflow.bench.flows import at_most, calls, faster, process_pool, steps_on
from syncflow.bench.peers import CallAll, joblib_batches, loky_map, standard_pool

__all__ = ["cases"]

#: How many pieces of work there are.
PIECES = 40


def cases(settings: Settings) -> list[Case]:
    """Return work of known length with more and more workers, then real work."""
    milliseconds = settings.pick(50, 5)
    return [
        *(_known_length(milliseconds, workers) for workers in _workers(settings)),
        _real_work(settings.pick(PIECES, 8), settings.workers),
    ]


def _workers(settings: Settings) -> list[int]:
    """Return the numbers of workers: powers of two up to the usable cores, and what was asked."""
    if settings.quick:
        return [settings.workers]
    most = loky.cpu_count()
    powers = {2**exponent for exponent in range(most.bit_length()) if 2**exponent <= most}
    return sorted(powers | {settings.workers})


def _serial(_: ExitStack, __: int) -> CallAll:
    return lambda fn, arguments: [fn(argument) for argument in arguments]


@cache
def _turns(milliseconds: int) -> int:
    """Return how many turns of `burn` take so long on this machine."""
    probe = 100_000
    times = []
    for _ in range(5):
        began = perf_counter()
        burn(probe)
        times.append(perf_counter() - began)
    return round(probe * milliseconds / 1000 / min(times))


def _known_length(milliseconds: int, workers: int) -> Case:
    # Promised is what two workers do, where 40 pieces come out even; others are free. (One process
    # computes a little faster or slower than the next as long as it lives; two come out even, too.)
    promised = (faster(1.75), at_most(1.05)) if workers == 2 else (None, None)
    return _case(
        f"{PIECES} x {milliseconds} ms of pure Python, workers: {workers}",
        workers,
        burn,
        lambda: [_turns(milliseconds)] * PIECES,
        targets=promised,
        at=workers,
    )


def _real_work(modules: int, workers: int) -> Case:
    library = Path(sysconfig.get_path("stdlib"))
    paths = [str(path) for path in sorted(library.glob("[a-z]*.py"))[:modules]]
    return _case(
        f"tokenize, count and compress {modules} modules, workers: {workers}",
        workers,
        transform,
        lambda: paths,
    )


def _case(
    name: str,
    workers: int,
    fn: Callable[[Any], object],
    given: Callable[[], list[Any]],
    *,
    targets: tuple[Target | None, Target | None] = (None, None),
    at: int | None = None,
) -> Case:
    sides = [
        Side("syncflow", _ours(fn, given, workers)),
        Side("serial", calls(_serial, 1, fn, given), targets[0]),
        Side(
            f"loky.ProcessPoolExecutor({workers}).map",
            calls(loky_map, workers, fn, given),
            targets[1],
        ),
        Side(
            f"concurrent.futures.ProcessPoolExecutor({workers})",
            calls(standard_pool, workers, fn, given),
        ),
        Side(f"joblib.Parallel({workers})", calls(joblib_batches, workers, fn, given)),
    ]
    return Case(name, tuple(sides), series=None if at is None else "workers", at=at)


def _ours(fn: Callable[[Any], object], given: Callable[[], list[Any]], workers: int) -> Prepare:
    return steps_on(
        partial(process_pool, workers=workers),
        lambda: [partial(_without_context, fn, argument) for argument in given()],
        workers,
    )


def _without_context(fn: Callable[[Any], object], argument: object, _: object) -> object:
    """Call as a step what takes an argument instead of a context."""
    return fn(argument)
