"""In which order the members of a group start, how many at a time, and where."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from contract_tools import Gate, Journal, Pool, do_nothing, return_pid

from syncflow import Context, Flow, FlowResult, Step, ThreadPool


def group(*steps: Step, **options: Any) -> Flow:
    """Return a flow of one group."""
    return Flow("flow").parallel("g", steps, **options)


def statuses(result: FlowResult) -> list[str]:
    """Return the status of every step."""
    return [str(step.status) for step in result.steps]


# --- order and concurrency -------------------------------------------------------------------


def test_members_start_in_declaration_order(worker_pool: Pool, journal: Journal) -> None:
    """One at a time, they run as they were declared."""

    def body(ctx: Context) -> None:
        journal.add(ctx.step_name)

    steps = [Step(f"s{number}", body) for number in range(6)]
    group(*steps, max_concurrency=1, pool=worker_pool).run()
    assert [f"s{number}" for number in range(6)] == journal.lines


def peak_of(flow_bound: int | None, group_bound: int | None, members: int, bound: int) -> int:
    """Return how many members ran at a time; the first `bound` of them wait for each other."""
    lock, together = threading.Lock(), threading.Barrier(bound)
    running, peak, first = 0, 0, set(range(bound))

    def make(number: int) -> Step:
        def body(ctx: Context) -> None:
            nonlocal running, peak
            with lock:
                running += 1
                peak = max(peak, running)
            if number in first:
                together.wait(timeout=20)
            with lock:
                running -= 1

        return Step(f"s{number}", body)

    flow = Flow("flow", max_concurrency=flow_bound)
    flow.parallel("g", [make(n) for n in range(members)], max_concurrency=group_bound)
    flow.run().raise_for_status()
    return peak


BOUNDS = [
    (None, 3, 9, 3),
    (4, None, 9, 4),
    (2, 5, 9, 5),
    (5, 2, 9, 2),
    (None, None, 40, 32),
    (None, 50, 60, 50),
]


@pytest.mark.parametrize(("flow_bound", "group_bound", "members", "bound"), BOUNDS)
def test_the_bound_of_the_group_comes_before_that_of_the_flow(
    flow_bound: int | None, group_bound: int | None, members: int, bound: int
) -> None:
    """The group's `max_concurrency`, else the flow's, else 32 threads."""
    assert bound == peak_of(flow_bound, group_bound, members, bound)


@pytest.mark.xdist_group("process")
@pytest.mark.parametrize("bound", [None, 64])
def test_the_shared_process_pool_has_as_many_workers_as_cores(bound: int | None) -> None:
    """A higher `max_concurrency` adds no worker processes."""
    import loky

    steps = [Step(f"s{number}", return_pid) for number in range(20)]
    result = group(*steps, pool="process", max_concurrency=bound).run()
    assert len(set(result.values.values())) <= loky.cpu_count()


@pytest.mark.xdist_group("process")
def test_the_bound_holds_for_processes(journal: Journal) -> None:
    """With `max_concurrency=1`, no two bodies overlap."""

    def body(ctx: Context) -> None:
        journal.add("begin", ctx.step_name)
        journal.add("end", ctx.step_name)

    steps = [Step(f"s{number}", body) for number in range(5)]
    group(*steps, pool="process", max_concurrency=1).run()
    expected = [f"{what} s{number}" for number in range(5) for what in ("begin", "end")]
    assert expected == journal.lines


# --- pools of members ------------------------------------------------------------------------


def test_members_run_on_threads_by_default() -> None:
    """Not in the thread that called `run`."""
    result = group(Step("a", lambda ctx: threading.current_thread().name)).run()
    assert ("thread", True) == (
        result["a"].pool, result["a"].value != threading.current_thread().name,
    )  # fmt: skip


@pytest.mark.xdist_group("process")
def test_a_members_own_pool_wins() -> None:
    """The group's pool is for members that do not choose."""
    with ThreadPool(thread_name_prefix="own") as own:
        steps = [Step("a", do_nothing), Step("b", do_nothing, pool="thread")]
        result = group(*steps, Step("c", do_nothing, pool=own), pool="process").run()
    assert ["process", "thread", "ThreadPool"] == [step.pool for step in result.steps]
    assert [True, False, False] == [isinstance(step.worker, int) for step in result.steps]


@pytest.mark.xdist_group("process")
def test_threads_and_processes_share_a_group(gates: Callable[[str], Gate]) -> None:
    """Members of one group may run on different pools, at the same time."""
    here, there = gates("here"), gates("there")

    def first(ctx: Context) -> None:
        here.open()
        there.wait()

    def second(ctx: Context) -> None:
        there.open()
        here.wait()

    result = group(Step("a", first, pool="thread"), Step("b", second, pool="process")).run()
    assert ["completed", "completed"] == statuses(result)
