"""Many runs, many threads, many steps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from contract_tools import Gate, Pool, do_nothing, fail, return_input

from syncflow import Context, Flow, GroupFailedError, Step, ThreadPool

# --- many runs -------------------------------------------------------------------------------


def test_one_flow_run_by_ten_threads(pool: Pool) -> None:
    """Runs of one flow at once are independent."""

    def keep(ctx: Context) -> None:
        ctx.set("k", ctx.input)

    flow = Flow("flow").step("a", keep, pool=pool)
    flow.parallel("g", [Step("b", lambda ctx: ctx["k"]), Step("c", fail)])
    flow.step("d", lambda ctx: (ctx["k"], ctx.run_id), pool=pool)
    start = threading.Barrier(10)

    def run(number: int) -> tuple[Any, ...]:
        start.wait(timeout=20)
        result = flow.run(number, run_id=f"run-{number}")
        return result.status, result["b"].value, result["d"].value

    with ThreadPoolExecutor(10) as callers:
        found = list(callers.map(run, range(10)))
    assert [("completed", number, (number, f"run-{number}")) for number in range(10)] == found


def nested(depth: int, pool: Pool) -> Flow:
    """Return a flow whose step runs a flow, and so on; the innermost returns its depth."""

    def body(ctx: Context) -> int:
        if depth == 1:
            return 1
        return 1 + nested(depth - 1, pool).run().raise_for_status()["level"].value

    return Flow(f"depth-{depth}").step("level", body, pool=pool)


def test_steps_may_run_flows_ten_levels_deep(sharing_pool: Pool) -> None:
    """A step that runs a flow cannot deadlock."""
    assert 10 == nested(10, sharing_pool).run()["level"].value


@pytest.mark.parametrize("make", [ThreadPool, partial(ThreadPoolExecutor, 1100)])
def test_a_hundred_members_may_run_flows_ten_levels_deep(make: Callable[[], Executor]) -> None:
    """A pool of ours grows on demand; an executor has to be large enough."""
    with make() as pool:  # as the shared one, but for its thousand threads, which go
        steps = [
            Step(f"s{number}", lambda ctx: nested(10, pool).run()["level"].value)
            for number in range(100)
        ]
        result = Flow("flow").parallel("g", steps, pool=pool, max_concurrency=100).run()
    assert {10} == set(result.values.values())
    assert "completed" == result.status


def test_members_on_the_shared_pool_may_run_flows_ten_levels_deep() -> None:
    """More members than run at a time, each with ten threads of the same pool."""
    steps = [
        Step(f"s{number}", lambda ctx: nested(10, "thread").run()["level"].value)
        for number in range(12)
    ]
    result = Flow("flow").parallel("g", steps, max_concurrency=8).run()
    assert [10] * 12 == list(result.values.values())


@pytest.mark.xdist_group("process")
def test_a_thread_step_may_run_process_steps() -> None:
    """More members than workers, each waiting for a process of the shared pool."""

    def body(ctx: Context) -> int:
        return Flow("inner").step("in", return_input, pool="process").run(ctx.step_name)["in"].value

    steps = [Step(f"s{number}", body) for number in range(10)]
    result = Flow("flow").parallel("g", steps).run()
    assert [(step.name, step.name) for step in steps] == list(result.values.items())


def test_the_next_step_starts_although_fifty_threads_are_abandoned(gate: Gate) -> None:
    """They take no slot from anybody."""

    def hang(ctx: Context) -> None:
        gate.wait()

    steps = [Step(f"s{number}", hang, timeout=0.05) for number in range(50)]
    flow = Flow("flow").parallel("g", [*steps, Step("good", do_nothing)])
    result = flow.step("next", lambda ctx: "ran", pool="thread").run()
    assert ("ran", 50) == (result["next"].value, len(result.abandoned))


def test_threads_of_abandoned_bodies_end_with_them() -> None:
    """No thread stays behind once the bodies have returned."""
    release, threads = threading.Event(), []

    def hang(ctx: Context) -> None:
        threads.append(threading.current_thread())
        release.wait(timeout=20)

    steps = [Step(f"s{number}", hang, timeout=0.05) for number in range(5)]
    Flow("flow").parallel("g", steps).run()
    release.set()
    for thread in threads:
        thread.join(timeout=20)
    assert [False] * 5 == [thread.is_alive() for thread in threads]


# --- many steps ------------------------------------------------------------------------------


def test_ten_thousand_steps_in_a_row() -> None:
    """One after the other, inline."""
    flow = Flow("flow")
    for number in range(10_000):
        flow.step(f"s{number}", lambda ctx: 1)
    result = flow.run()
    assert (10_000, 10_000) == (len(result.steps), sum(result.values.values()))


def test_ten_thousand_members() -> None:
    """In one group, on threads."""
    steps = [Step(f"s{number}", lambda ctx: 1) for number in range(10_000)]
    result = Flow("flow").parallel("g", steps).run()
    assert (10_000, 10_000) == (result["g"].completed, sum(result.values.values()))


@pytest.mark.xdist_group("process")
def test_a_thousand_members_on_processes() -> None:
    """In one group, on two or more workers."""
    steps = [Step(f"s{number}", do_nothing) for number in range(1000)]
    assert 1000 == Flow("flow").parallel("g", steps, pool="process").run()["g"].completed


def test_ten_thousand_failures() -> None:
    """A group may fail with as many errors."""
    steps = [Step(f"s{number}", fail) for number in range(10_000)]
    error = Flow("flow").parallel("g", steps).run().error
    assert isinstance(error, GroupFailedError)
    assert 10_000 == len(error.exceptions)
