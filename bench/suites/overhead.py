"""What a step costs that does nothing, and how that grows with the number of steps."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import repeat
from typing import Any

from syncflow import Flow
from syncflow.bench import peers
from syncflow.bench.bodies import no_op
from syncflow.bench.case import Case, Prepare, Settings, Side, Work
from syncflow.bench.flows import at_most, group, process_pool, values
from syncflow.bench.peers import LIMIT, Peer, require

__all__ = ["cases"]

#: How many thread steps run at once.
BOUND = 32

#: Gets a side ready that runs so many steps, so many times, and returns the sum of their values.
Sized = Callable[[int, int], Prepare]

#: What is compared with: its name, its side, and the limit of the ratio, if there is one.
Against = tuple[str, Sized, float | None]

#: A sample of small groups covers so many steps, or it would measure the clock.
LEAST_STEPS = 1000

#: The size of the small groups that a large one is compared with.
SMALL = 500


def cases(settings: Settings) -> list[Case]:
    """Return each size on each pool, then large groups beside small ones."""
    sizes = (10, 1000) if settings.quick else (10, 100, 1000, 5000, 20_000)
    large = settings.pick(20_000, 2000)
    workers = settings.workers
    loky = (f"loky.ProcessPoolExecutor({workers})", _calls(peers.loky_pool, workers), None)
    return [
        *(_sized("inline", size, _inline, _ONE_BY_ONE) for size in sizes),
        _serial_engine(settings.pick(1000, 100)),
        *(_sized("thread", size, _threads, *_THREADS) for size in sizes),
        *(_sized("process", size, _processes(workers), loky) for size in sizes),
        *_process_peers(400, workers),
        _growth("inline", large, _inline),
        _growth("thread", large, _threads),
        _growth("process", large, _processes(workers)),
    ]


def _sized(pool: str, steps: int, ours: Sized, *against: Against) -> Case:
    """Compare with what one would take instead; the limits hold for `LEAST_STEPS`."""
    times = max(1, LEAST_STEPS // steps)
    theirs = (
        Side(
            name,
            sized(steps, times),
            at_most(limit) if limit is not None and steps == LEAST_STEPS else None,
        )
        for name, sized, limit in against
    )
    return Case(
        f"{steps:,} {pool} steps",
        (Side("syncflow", ours(steps, times)), *theirs),
        count=steps * times,
        per="step",
        series=pool,
        at=steps,
    )


def _repeat(work: Callable[[], list[int]], times: int) -> Work:
    return lambda: sum(sum(work()) for _ in range(times))


def _flow(steps: int, times: int, make: Callable[[ExitStack, Flow, int], Flow]) -> Prepare:
    def prepare(stack: ExitStack) -> Work:
        flow = make(stack, Flow("overhead"), steps)
        return _repeat(lambda: values(flow), times)

    return prepare


def _inline(steps: int, times: int) -> Prepare:
    def make(_: ExitStack, flow: Flow, steps: int) -> Flow:
        for step in group(repeat(no_op, steps)):
            flow.step(step)
        return flow

    return _flow(steps, times, make)


def _threads(steps: int, times: int) -> Prepare:
    def make(_: ExitStack, flow: Flow, steps: int) -> Flow:
        members = group(repeat(no_op, steps), retries=2, timeout=30)
        return flow.parallel("group", members, max_concurrency=BOUND)

    return _flow(steps, times, make)


def _processes(workers: int) -> Sized:
    def make(stack: ExitStack, flow: Flow, steps: int) -> Flow:
        pool = process_pool(stack, workers)
        return flow.parallel("group", group(repeat(no_op, steps)), pool=pool)

    return lambda steps, times: _flow(steps, times, make)


def _calls(peer: Peer, workers: int) -> Sized:
    def sized(steps: int, times: int) -> Prepare:
        def prepare(stack: ExitStack) -> Work:
            call_all = peer(stack, workers)
            return _repeat(lambda: call_all(no_op, range(steps)), times)

        return prepare

    return sized


def _each_awaited(steps: int, times: int) -> Prepare:
    """Return the sequence that one would write to run calls one by one on another thread."""

    def prepare(stack: ExitStack) -> Work:
        pool = stack.enter_context(ThreadPoolExecutor(1))
        return _repeat(
            lambda: [pool.submit(no_op, number).result(LIMIT) for number in range(steps)], times
        )

    return prepare


_ONE_BY_ONE: Against = ("ThreadPoolExecutor(1), one by one", _each_awaited, 0.15)
_THREADS: tuple[Against, ...] = (
    (f"ThreadPoolExecutor({BOUND}), made for them", _calls(peers.fresh_thread_pool, BOUND), 0.6),
    (f"ThreadPoolExecutor({BOUND}), kept", _calls(peers.thread_pool, BOUND), None),
)


def _process_peers(steps: int, workers: int) -> list[Case]:
    """Compare process steps with each that calls functions on processes.

    In pairs: the processes of a third one, though idle, would keep the cores busy now and then.
    """
    contenders: tuple[tuple[str, Peer, float | None], ...] = (
        ("loky.ProcessPoolExecutor", peers.loky_pool, 0.5),
        ("concurrent.futures.ProcessPoolExecutor", peers.standard_pool, 0.6),
        ("pebble.ProcessPool", peers.pebble_pool, 0.9),
        ("dask.distributed", peers.dask_cluster, None),
    )
    return [
        Case(
            f"{steps:,} process steps, beside {name.partition('.')[0]}",
            (
                Side("syncflow", _processes(workers)(steps, 1)),
                Side(
                    f"{name}({workers})",
                    _calls(peer, workers)(steps, 1),
                    None if limit is None else at_most(limit),
                ),
            ),
            count=steps,
            per="step",
        )
        for name, peer, limit in contenders
    ]


def _serial_engine(steps: int) -> Case:
    """Compare inline steps with another engine that can roll back."""

    def prepare(_: ExitStack) -> Work:
        engines, task = require("taskflow.engines"), require("taskflow.task")
        flow = require("taskflow.patterns.linear_flow").Flow("overhead")
        for at in range(steps):
            flow.add(task.FunctorTask(lambda: 1, name=f"step-{at}", provides=f"value-{at}"))

        def run() -> int:
            stored: dict[str, Any] = engines.run(flow, engine="serial")
            return sum(stored.values())

        return run

    return Case(
        f"{steps:,} inline steps, another engine",
        (
            Side("syncflow", _inline(steps, 1)),
            Side("OpenStack TaskFlow, serial", prepare, at_most(0.005)),
        ),
        count=steps,
        per="step",
    )


def _growth(pool: str, steps: int, ours: Sized) -> Case:
    """Compare the steps of one large flow with as many of small ones."""
    times = steps // SMALL
    return Case(
        f"{steps:,} {pool} steps at once",
        (
            Side("syncflow, one flow", ours(steps, 1)),
            Side(f"syncflow, {times} flows of {SMALL}", ours(SMALL, times), at_most(1.5)),
        ),
        count=steps,
        per="step",
    )
