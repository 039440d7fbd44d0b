"""Data that 8 process steps all read: from one page to 100 MB."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import repeat
from typing import Any

from syncflow import Flow
from syncflow.bench.bodies import touch, touch_input
from syncflow.bench.case import Case, Prepare, Settings, Side, Work
from syncflow.bench.flows import at_most, group, process_pool, values
from syncflow.bench.peers import Peer, joblib_batches, loky_pool, require

__all__ = ["cases"]

#: How many steps read the data.
READERS = 8

#: Bytes, and how they are called.
SIZES = {1000: "1 kB", 100_000: "100 kB", 10_000_000: "10 MB", 100_000_000: "100 MB"}


def cases(settings: Settings) -> list[Case]:
    """Return a case for each size; the promise is for the largest."""
    largest = max(SIZES)
    return [
        _case(size, settings.workers, promised=size == largest)
        for size in SIZES
        if size < largest or not settings.quick
    ]


def _case(size: int, workers: int, *, promised: bool) -> Case:
    return Case(
        f"{SIZES[size]} of numpy to {READERS} process steps",
        (
            Side("syncflow", _ours(size, workers)),
            Side(
                f"joblib.Parallel({workers}), memory-mapped if large",
                _theirs(joblib_batches, size, workers),
                at_most(0.8) if promised else None,
            ),
            Side(
                f"loky.ProcessPoolExecutor({workers}), pickled for each",
                _theirs(loky_pool, size, workers),
            ),
        ),
        count=READERS,
        per="step",
    )


def _array(size: int) -> Any:
    """Return so many bytes that are not all alike."""
    numpy = require("numpy")
    return numpy.arange(size // 8, dtype=numpy.int64)


def _ours(size: int, workers: int) -> Prepare:
    def prepare(stack: ExitStack) -> Work:
        array = _array(size)
        flow = Flow("payload").parallel(
            "group", group(repeat(touch_input, READERS)), pool=process_pool(stack, workers)
        )
        return lambda: values(flow, array)

    return prepare


def _theirs(peer: Peer, size: int, workers: int) -> Prepare:
    def prepare(stack: ExitStack) -> Work:
        array = _array(size)
        call_all = peer(stack, workers)
        return lambda: call_all(touch, repeat(array, READERS))

    return prepare
