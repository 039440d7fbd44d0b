"""One function over many tiny items, on processes: what sharing messages gains."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from syncflow import Flow
from syncflow.bench.bodies import double, double_item
from syncflow.bench.case import Case, Prepare, Settings, Side, Work
from syncflow.bench.flows import at_most, calls, process_pool
from syncflow.bench.peers import (
    CallAll,
    joblib_batches,
    loky_pool,
    standard_executor,
    standard_pool,
)

__all__ = ["cases"]

#: Items of one message, for the peer that leaves that to its user.
CHUNK = 500


def cases(settings: Settings) -> list[Case]:
    """Return one case."""
    items, workers = settings.pick(20_000, 2000), settings.workers
    peers = (
        (f"joblib.Parallel({workers}), automatic batches", joblib_batches, at_most(0.3)),
        (f"loky.ProcessPoolExecutor({workers}), a future an item", loky_pool, None),
        (
            f"concurrent.futures.ProcessPoolExecutor({workers}), a future an item",
            standard_pool,
            None,
        ),
        (
            f"concurrent.futures.ProcessPoolExecutor({workers}).map, chunks of {CHUNK}",
            _chunks,
            None,
        ),
    )
    return [
        Case(
            f"map over {items:,} tiny items, on processes",
            (
                Side("syncflow", _ours(items, workers)),
                *(
                    Side(name, calls(peer, workers, double, partial(range, items)), target)
                    for name, peer, target in peers
                ),
            ),
            count=items,
            per="item",
        )
    ]


def _ours(items: int, workers: int) -> Prepare:
    def prepare(stack: ExitStack) -> Work:
        pool = process_pool(stack, workers)
        flow = Flow("map").map("double", double_item, range(items), pool=pool)
        return lambda: flow.run().raise_for_status()["double"].value

    return prepare


def _chunks(stack: ExitStack, workers: int) -> CallAll:
    """Return what somebody who knows the size of the work would write."""
    pool = stack.enter_context(standard_executor(workers))
    return lambda fn, arguments: list(pool.map(fn, arguments, chunksize=CHUNK))
