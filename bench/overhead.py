"""What a step costs: steps that do nothing, beside what one would write without syncflow."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import NamedTuple

from syncflow import Flow, Step

__all__ = ["CASES", "Case"]


def no_op(_: object) -> int:
    """Do nothing: as a step's body and as a bare task."""
    return 1


class Case(NamedTuple):
    """One comparison.

    Attributes:
        name: What is measured.
        peer: What it is measured against.
        steps: How many steps each side runs.
        target: The highest ratio of ours to theirs that is good enough.
        prepare: Returns both sides; each runs all steps and returns the sum of their values.
    """

    name: str
    peer: str
    steps: int
    target: float
    prepare: Callable[[int, ExitStack], tuple[Callable[[], int], Callable[[], int]]]


def _run(flow: Flow) -> Callable[[], int]:
    return lambda: sum(flow.run().raise_for_status().values.values())


def _submit_all(pool: Executor, steps: int) -> int:
    futures = [pool.submit(no_op, number) for number in range(steps)]
    wait(futures)
    return sum(future.result() for future in futures)


def _group(steps: int, pool: str, bound: int, **options: object) -> Flow:
    members = [Step(f"step-{at}", no_op, **options) for at in range(steps)]  # type: ignore[arg-type]
    return Flow("overhead").parallel("group", members, pool=pool, max_concurrency=bound)


def _threads(steps: int, _: ExitStack) -> tuple[Callable[[], int], Callable[[], int]]:
    def bare() -> int:
        with ThreadPoolExecutor(32) as pool:
            return _submit_all(pool, steps)

    return _run(_group(steps, "thread", 32, retries=2, timeout=30)), bare


def _inline(steps: int, _: ExitStack) -> tuple[Callable[[], int], Callable[[], int]]:
    flow = Flow("overhead")
    for at in range(steps):
        flow.step(f"step-{at}", no_op)

    def bare() -> int:
        with ThreadPoolExecutor(1) as pool:
            return sum(pool.submit(no_op, number).result() for number in range(steps))

    return _run(flow), bare


def _processes(
    make: Callable[[], Executor],
) -> Callable[[int, ExitStack], tuple[Callable[[], int], Callable[[], int]]]:
    def prepare(steps: int, stack: ExitStack) -> tuple[Callable[[], int], Callable[[], int]]:
        pool = stack.enter_context(make())
        return _run(_group(steps, "process", 2)), lambda: _submit_all(pool, steps)

    return prepare


def _loky() -> Executor:
    from loky import ProcessPoolExecutor

    return ProcessPoolExecutor(2)  # type: ignore[no-any-return]


def _standard() -> Executor:
    from concurrent.futures import ProcessPoolExecutor

    return ProcessPoolExecutor(2)


CASES = (
    Case("inline steps", "ThreadPoolExecutor(1), one by one", 1000, 0.15, _inline),
    Case("thread steps, bound 32", "ThreadPoolExecutor(32)", 1000, 0.60, _threads),
    Case("process steps, 2 workers", "loky, 2 workers", 400, 0.50, _processes(_loky)),
    Case("process steps, 2 workers", "ProcessPoolExecutor(2)", 400, 0.60, _processes(_standard)),
)
