"""What the results of many items take, per item, in an interpreter of their own."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from syncflow import Flow
from syncflow.bench.bodies import double, double_item
from syncflow.bench.case import Case, Prepare, Settings, Side
from syncflow.bench.flows import at_most
from syncflow.bench.fresh import telling

__all__ = ["by_futures", "by_map", "cases", "tell_memory"]

#: Threads of each side.
THREADS = 32


def cases(settings: Settings) -> list[Case]:
    """Return one case."""
    items = settings.pick(200_000, 5000)
    return [
        Case(
            f"map over {items:,} items on threads, values kept",
            (
                Side("syncflow", _telling("by_map", items)),
                Side(
                    f"ThreadPoolExecutor({THREADS}), futures kept",
                    _telling("by_futures", items),
                    at_most(0.12),
                ),
            ),
            count=items,
            per="item",
            unit="B",
        )
    ]


def _telling(function: str, items: int) -> Prepare:
    module = "syncflow.bench.suites.memory"
    return telling(f"import {module} as memory; memory.tell_memory(memory.{function}, {items})")


def by_map(items: int) -> tuple[object, int]:
    """Return what a map leaves behind, and the sum of its values."""
    flow = Flow("memory").map("double", double_item, range(items), max_concurrency=THREADS)
    result = flow.run().raise_for_status()
    return result, sum(result["double"].value)


def by_futures(items: int) -> tuple[object, int]:
    """Do the same with a future an item."""
    with ThreadPoolExecutor(THREADS) as pool:
        futures: list[Future[int]] = [pool.submit(double, item) for item in range(items)]
        wait(futures)
    return futures, sum(future.result() for future in futures)


def tell_memory(work: Callable[[int], tuple[object, int]], items: int) -> None:
    """Print the most bytes that the work has needed at a time, and the sum it got."""
    work(100)  # what is made once, threads and imports, is not an item's
    tracemalloc.start()
    _, total = work(items)
    print(json.dumps([tracemalloc.get_traced_memory()[1], total]))  # noqa: T201
