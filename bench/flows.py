"""The syncflow sides that several suites use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from contextlib import ExitStack
from functools import partial
from typing import Any

from syncflow import Flow, ProcessPool, Step
from syncflow.bench.case import Kind, Prepare, Target
from syncflow.bench.peers import Peer

__all__ = ["at_most", "calls", "faster", "group", "process_pool", "steps_on", "values", "within"]


def at_most(limit: float) -> Target:
    """Return the target that syncflow needs at most so much of what the side needs."""
    return Target(Kind.RATIO, limit)


def faster(limit: float) -> Target:
    """Return the target that syncflow is at least so many times as fast as the side."""
    return Target(Kind.SPEEDUP, limit)


def within(limit: float) -> Target:
    """Return the target that the side itself needs at most so much."""
    return Target(Kind.FIGURE, limit)


def values(flow: Flow, given: object = None) -> list[Any]:
    """Run a flow and return the values of its steps, in order."""
    return list(flow.run(given).raise_for_status().values.values())


def group(bodies: Iterable[Callable[..., Any]], **options: Any) -> list[Step]:
    """Return a step for each body."""
    return [Step(f"step-{at}", body, **options) for at, body in enumerate(bodies)]


def process_pool(stack: ExitStack, workers: int) -> ProcessPool:
    """Return a pool of so many processes, as the peers get one."""
    return stack.enter_context(ProcessPool(workers))


def steps_on(
    pool: Callable[[ExitStack], str | Executor],
    bodies: Callable[[], Iterable[Callable[..., Any]]],
    bound: int,
    **options: Any,
) -> Prepare:
    """Return a side that runs a group of steps."""

    def prepare(stack: ExitStack) -> Callable[[], list[Any]]:
        members = group(bodies(), **options)
        flow = Flow("bench").parallel("group", members, pool=pool(stack), max_concurrency=bound)
        return partial(values, flow)

    return prepare


def calls(
    peer: Peer, workers: int, fn: Callable[[Any], Any], arguments: Callable[[], Iterable[Any]]
) -> Prepare:
    """Return a side that lets a peer call a function for each argument."""

    def prepare(stack: ExitStack) -> Callable[[], list[Any]]:
        call_all = peer(stack, workers)
        return lambda: call_all(fn, arguments())

    return prepare
