"""How soon a step whose time is up has settled, whatever its body does."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event
from time import perf_counter
from typing import Any

from syncflow import Flow, FlowResult, Step
from syncflow.bench.bodies import endless, endless_in_c, no_op
from syncflow.bench.case import Case, Prepare, Reading, Settings, Side, Work
from syncflow.bench.flows import group, process_pool, within
from syncflow.bench.peers import LIMIT, pebble_executor, settled

__all__ = ["cases"]

#: Seconds that a body has, and that one in C has left once it was interrupted in vain.
TIMEOUT, GRACE = 0.3, 0.2

#: Seconds that a step may settle late.
LATE = 0.02

#: Steps beside the one that times out.
SIBLINGS = 4


def cases(settings: Settings) -> list[Case]:
    """Return a body that C code holds, one in Python, and one that blocks a thread."""
    workers = max(2, settings.workers)
    pebble = f"pebble.ProcessPool({workers})"
    return [
        Case(
            f"process body in a C loop, timeout {TIMEOUT} s, grace {GRACE} s",
            (
                Side("syncflow", _on_processes(endless_in_c, workers), within(TIMEOUT + 0.3)),
                Side(pebble, _pebble(endless_in_c, workers)),
            ),
        ),
        Case(
            f"process body in a Python loop, timeout {TIMEOUT} s",
            (
                Side("syncflow", _on_processes(endless, workers), within(TIMEOUT + LATE)),
                Side(pebble, _pebble(endless, workers)),
            ),
        ),
        Case(
            f"thread body blocked, timeout {TIMEOUT} s",
            (
                Side("syncflow", _on_threads, within(TIMEOUT + LATE)),
                Side("ThreadPoolExecutor, result(timeout)", _bare_threads),
            ),
        ),
    ]


def _reading(result: FlowResult) -> Reading:
    """Read when the late step settled; its siblings are to be untouched."""
    late, *siblings = result.steps
    done = [step.value for step in siblings if step.attempts == 1]
    return Reading(late.duration, (isinstance(late.error, TimeoutError), done))


def _on_processes(body: Callable[[object], object], workers: int) -> Prepare:
    def prepare(stack: ExitStack) -> Work:
        late = Step("late", body, timeout=TIMEOUT, grace=GRACE)
        flow = Flow("timeouts").parallel(
            "group",
            [late, *group([no_op] * SIBLINGS)],
            pool=process_pool(stack, workers),
            max_concurrency=workers,
        )
        return lambda: _reading(flow.run())

    return prepare


def _on_threads(_: ExitStack) -> Work:
    def work() -> Reading:
        release = Event()
        late = Step("late", lambda _: release.wait(LIMIT), timeout=TIMEOUT)
        flow = Flow("timeouts").parallel("group", [late, *group([no_op] * SIBLINGS)])
        try:
            return _reading(flow.run())
        finally:
            release.set()  # the body was abandoned

    return work


def _timed_out(future: Any, siblings: list[Any], timeout: float | None) -> Reading:
    began = perf_counter()
    try:
        future.result(timeout)
    except TimeoutError:
        return Reading(perf_counter() - began, (True, settled(siblings)))
    return Reading(perf_counter() - began, (False, settled(siblings)))


def _pebble(body: Callable[[object], object], workers: int) -> Prepare:
    def prepare(stack: ExitStack) -> Work:
        pool = pebble_executor(stack, workers)

        def work() -> Reading:
            settled([pool.schedule(no_op, (None,)) for _ in range(workers)])
            late = pool.schedule(body, (None,), timeout=TIMEOUT)
            siblings = [pool.schedule(no_op, (None,)) for _ in range(SIBLINGS)]
            return _timed_out(late, siblings, None)

        return work

    return prepare


def _bare_threads(stack: ExitStack) -> Work:
    pool = stack.enter_context(ThreadPoolExecutor(SIBLINGS + 1))

    def work() -> Reading:
        release = Event()
        late = pool.submit(release.wait, LIMIT)
        siblings = [pool.submit(no_op, None) for _ in range(SIBLINGS)]
        try:
            return _timed_out(late, siblings, TIMEOUT)
        finally:
            release.set()

    return work
