"""Planned faults: they happen where they were planned, on every pool, and nowhere else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
from contract_tools import BodyError, Journal, Pool, do_nothing, return_input
from map_tools import double

from syncflow import (
    BodyExitError,
    Context,
    DefinitionError,
    Flow,
    ProcessPool,
    Step,
    StepTimeoutError,
    ThreadPool,
    WorkerCrashedError,
)
from syncflow.testing import FakeClock, FaultPlan, InjectedError

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def plan(syncflow_faults: FaultPlan) -> FaultPlan:
    """Return a plan whose faults must all have happened in the end."""
    return syncflow_faults


def attempt(ctx: Context) -> int:
    """Return the attempt's number."""
    return ctx.attempt


def noting(journal: Journal, *words: object) -> Callable[..., None]:
    """Return a body that notes that it ran."""

    def body(ctx: Context, *item: object) -> None:
        journal.add(*words, ctx.attempt)

    return body


# --- failing ---------------------------------------------------------------------------------


def test_fails_an_attempt(plan: FaultPlan, pool: Pool) -> None:
    """The next one runs as ever."""
    plan.fail("a")
    result = plan.on(Flow("flow").step("a", attempt, pool=pool, retries=1)).run()
    assert ("completed", 2) == (result.status, result["a"].value)


def test_fails_the_attempt_that_is_meant(plan: FaultPlan, pool: Pool) -> None:
    """Attempts 1 and 2 are two faults."""
    plan.fail("a").fail("a", attempt=2)
    result = plan.on(Flow("flow").step("a", attempt, pool=pool, retries=2)).run()
    assert 3 == result["a"].value


def test_fails_every_attempt(plan: FaultPlan, pool: Pool) -> None:
    """`attempt=None` is each; the error tells which step and attempt it was."""
    plan.fail("a", attempt=None)
    result = plan.on(Flow("flow").step("a", attempt, pool=pool, retries=2)).run()
    assert (3, InjectedError, "step 'a', attempt 3") == (
        result["a"].attempts, type(result.error), str(result.error),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("error", "expected"),
    [(BodyError("planned"), BodyError), (LookupError, LookupError), (SystemExit, BodyExitError)],
)
def test_fails_with_an_error(plan: FaultPlan, pool: Pool, error: Any, expected: type) -> None:
    """An instance or a class, as if the body had raised it."""
    plan.fail("a", error=error)
    assert expected is type(plan.on(Flow("flow").step("a", attempt, pool=pool)).run().error)


def test_the_body_does_not_run_then(plan: FaultPlan, journal: Journal, pool: Pool) -> None:
    """The fault comes first."""
    plan.fail("a")
    plan.on(Flow("flow").step("a", noting(journal, "ran"), pool=pool, retries=1)).run()
    assert ["ran 2"] == journal.lines


def test_fails_a_member_of_a_group(plan: FaultPlan, worker_pool: Pool) -> None:
    """And no other."""
    plan.fail("b")
    steps = [Step("a", attempt), Step("b", attempt), Step("c", attempt)]
    result = plan.on(Flow("flow").parallel("g", steps, pool=worker_pool)).run()
    assert ["completed", "failed", "completed"] == [step.status for step in result.steps]


def test_fails_a_compensation(plan: FaultPlan, journal: Journal) -> None:
    """It is retried as ever."""
    undo = Step("undo", noting(journal, "undone"), retries=1, retry_delay=5)
    plan.fail("a", compensation=True).fail("bad")
    flow = Flow("flow").step("a", do_nothing, compensate=undo).step("bad", do_nothing)
    result = plan.on(flow).run()
    assert (["undone 2"], "complete") == (journal.lines, result.rollback)


def test_fails_a_step_of_an_inner_flow(plan: FaultPlan, journal: Journal) -> None:
    """It is called by its path."""
    inner = Flow("inner").step("a", do_nothing, compensate=noting(journal, "undone"))
    inner.step("b", do_nothing)
    plan.fail("sub/b")
    result = plan.on(Flow("flow").step("sub", inner).step("b", do_nothing)).run()
    assert ("failed", ["undone 1"], "skipped") == (
        result.status, journal.lines, result["b"].status,
    )  # fmt: skip


def test_fails_an_item_of_a_map(plan: FaultPlan, worker_pool: Pool) -> None:
    """By its index."""
    plan.fail("m", index=2)
    flow = Flow("flow").map("m", double, over=range(4), pool=worker_pool)
    result = plan.on(flow).run()["m"]
    assert ([0, 2, None, 6], [2]) == (result.values, [*result.errors])


def test_fails_every_item_of_a_map(plan: FaultPlan, worker_pool: Pool) -> None:
    """Without an index, each; the compensation of an item is hit as well."""
    plan.fail("m")
    flow = Flow("flow").map("m", double, over=range(3), pool=worker_pool, retries=1)
    result = plan.on(flow).run()["m"]
    assert ([0, 2, 4], 6) == (result.values, result.attempts)


def test_fails_the_compensation_of_an_item(plan: FaultPlan, journal: Journal) -> None:
    """The others are undone."""
    plan.fail("m", index=1, compensation=True).fail("bad")
    flow = Flow("flow").map("m", double, over=range(3), compensate=noting(journal, "undone"))
    result = plan.on(flow.step("bad", do_nothing)).run()
    assert (2, "incomplete") == (len(journal.lines), result.rollback)


# --- crashing --------------------------------------------------------------------------------


@pytest.mark.xdist_group("process")
def test_crashes_a_worker(plan: FaultPlan) -> None:
    """As if the system had killed it; a retry gets a new one."""
    plan.crash("a").crash("b")
    flow = Flow("flow").step("a", attempt, pool="process", retries=1)
    with ProcessPool(1) as pool:
        result = plan.on(flow.step("b", attempt, pool=pool)).run()
    assert (2, WorkerCrashedError) == (result["a"].value, type(result.error))


@pytest.mark.xdist_group("process")
def test_crashes_on_an_item(plan: FaultPlan) -> None:
    """Exactly that item fails."""
    plan.crash("m", index=1)
    result = plan.on(Flow("flow").map("m", double, over=range(4), pool="process")).run()["m"]
    assert ([1], WorkerCrashedError) == ([*result.errors], type(result.errors[1]))


@pytest.mark.xdist_group("process")
def test_crashes_a_worker_of_a_foreign_executor(plan: FaultPlan) -> None:
    """That breaks the executor."""
    from multiprocessing import get_context

    plan.crash("a")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        result = plan.on(Flow("flow").step("a", attempt, pool=pool)).run()
    assert "failed" == result.status


@pytest.mark.parametrize("pool", ["inline", "thread", "mine", "own"])
def test_does_not_crash_this_process(pool: str) -> None:
    """A plan says at once that there is no worker process to kill."""
    with ThreadPool(1) as threads:
        flow = Flow("flow", pools={"mine": "thread", "own": threads}).step("a", attempt, pool=pool)
        with pytest.raises(DefinitionError, match="runs in this process"):
            FaultPlan().crash("a").on(flow)


@pytest.mark.xdist_group("process")
def test_does_not_crash_this_process_when_pools_are_replaced(plan: FaultPlan) -> None:
    """The step fails instead, and says why."""
    plan.crash("a")
    flow = plan.on(Flow("flow").step("a", attempt, pool="process"))
    assert DefinitionError is type(flow.run(pools={"process": "thread"}).error)


# --- hanging, dawdling, finishing late -------------------------------------------------------


def test_hangs_until_its_time_is_up(plan: FaultPlan, clock: FakeClock, worker_pool: Pool) -> None:
    """It stops at once when it is asked to."""
    plan.hang("a")
    flow = Flow("flow").step("a", attempt, pool=worker_pool, timeout=0.2, retries=1)
    result = plan.on(flow).run(drain=5)
    assert (2, ()) == (result["a"].value, result.abandoned)
    assert 0.2 <= clock.now < 100


def test_a_hang_that_nothing_ends_is_noticed(plan: FaultPlan) -> None:
    """On the fake clock a run without any time limit does not wait for ever."""
    plan.hang("a")
    result = plan.on(Flow("flow").step("a", attempt)).run()
    assert "nothing has ever stopped it" in str(result.error)


def test_delays_a_body(plan: FaultPlan, clock: FakeClock) -> None:
    """It sleeps first, and then runs as ever."""
    plan.delay("a", 60)
    result = plan.on(Flow("flow").step("a", attempt)).run()
    assert (60.0, 1) == (clock.now, result["a"].value)


def late_flow(journal: Journal, **options: Any) -> Flow:
    """Return a flow whose step may be abandoned, and what it did be undone."""

    def undo(ctx: Context) -> None:
        journal.add("undone", ctx.value("a", None))

    options = {"timeout": 5, "compensate": undo, **options}
    steps = [Step("a", attempt, **options), Step("good", do_nothing)]
    return Flow("flow").parallel("g", steps)


def test_finishes_late(plan: FaultPlan, clock: FakeClock, journal: Journal) -> None:
    """It is abandoned after 5 seconds, and what it does after 8 is undone."""
    plan.finish_late("a", after=8)
    result = plan.on(late_flow(journal)).run(drain=20)
    assert (8.0, StepTimeoutError, ["undone 1"]) == (
        clock.now, type(result["a"].error), journal.lines,
    )  # fmt: skip
    assert ((), "completed") == (result.abandoned, result["a"].compensation)


def test_finishes_late_when_told_to(plan: FaultPlan, clock: FakeClock, journal: Journal) -> None:
    """By a later step, say."""
    end = plan.finish_late("a")
    flow = late_flow(journal).step("let-go", lambda ctx: end.finish())
    result = plan.on(flow).run(drain=20)
    assert (5.0, ["undone 1"], ()) == (clock.now, journal.lines, result.abandoned)


def test_finishes_late_between_attempts(
    plan: FaultPlan, clock: FakeClock, journal: Journal
) -> None:
    """The second attempt comes after 15 seconds, and decides; the first ended after 8."""
    for _ in range(50):
        began = clock.now
        plan.finish_late("a", after=8)
        result = plan.on(late_flow(journal, retries=1, retry_delay=10)).run(drain=20)
        assert (2, [], ()) == (result["a"].value, journal.lines, result.abandoned)
        assert pytest.approx(15) == clock.now - began
        plan = FaultPlan()


def test_the_clock_waits_for_a_body_that_finishes_late(plan: FaultPlan, clock: FakeClock) -> None:
    """It wakes after 8 seconds, and is done with it before the retry after 15 comes."""
    seen = []

    def body(ctx: Context) -> None:
        threading.Event().wait(0.02)  # what would be wrong has all the time it needs
        seen.append((ctx.attempt, clock.now))

    plan.finish_late("a", after=8)
    flow = Flow("flow").step("a", body, timeout=5, retries=1, retry_delay=10)
    plan.on(flow).run(drain=20)
    assert [(1, 8.0), (2, 15.0)] == seen


def test_release_lets_all_go(plan: FaultPlan, journal: Journal) -> None:
    """Nothing is left running."""
    plan.finish_late("a")
    flow = late_flow(journal).step("let-go", lambda ctx: plan.release())
    assert () == plan.on(flow).run(drain=20).abandoned


@pytest.mark.parametrize("pool", ["inline", "process"])
def test_only_threads_are_abandoned(pool: str) -> None:
    """A plan says at once that nothing can finish late there."""
    plan = FaultPlan()
    plan.finish_late("a")
    with pytest.raises(DefinitionError, match="end late"):
        plan.on(Flow("flow").step("a", attempt, pool=pool))


# --- the plan itself -------------------------------------------------------------------------


def test_the_flow_is_not_touched(plan: FaultPlan) -> None:
    """The copy has the faults, and all else of it."""
    flow = Flow("flow", max_concurrency=3, validate=lambda given: given + 1)
    flow.step("a", return_input)
    plan.fail("a")
    assert ("failed", "completed", 2) == (
        plan.on(flow).run(1).status, flow.run(1).status, flow.run(1)["a"].value,
    )  # fmt: skip


def test_the_copy_may_grow(plan: FaultPlan) -> None:
    """It is a flow like any other; the flow that it comes from stays as it is."""
    flow = Flow("flow").step("a", attempt)
    copied = plan.fail("a").on(flow).step("b", attempt)
    assert (1, ["a", "b"]) == (len(flow.nodes), [step.name for step in copied.run().steps])


def test_keeps_the_options_of_a_step(plan: FaultPlan) -> None:
    """All of them."""
    known = {
        "pool": "thread", "timeout": 3.0, "retries": 2, "retry_delay": 1.0, "backoff": "linear",
        "max_retry_delay": 9.0, "jitter": True, "retry_on": LookupError, "compensate": do_nothing,
        "compensate_on": "started", "grace": 0.5,
    }  # fmt: skip
    flow = plan.fail("a").on(Flow("flow").step("a", attempt, **known))
    assert known == {name: getattr(flow.nodes[0], name) for name in known}
    flow.run()


@pytest.mark.parametrize(
    ("name", "hint"),
    [("fetsh", "did you mean 'fetch'"), ("sub/y", "did you mean 'sub/x'"), ("sub", "no step")],
)
def test_an_unknown_step_is_refused(name: str, hint: str) -> None:
    """With the nearest name; a flow that is a step has steps of its own to hit."""
    flow = Flow("flow").step("fetch", attempt).step("sub", Flow("inner").step("x", attempt))
    with pytest.raises(DefinitionError, match=hint):
        FaultPlan().fail(name).on(flow)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"index": 0}, "no index"), ({"compensation": True}, "no compensation")],
)
def test_what_cannot_happen_is_refused(options: dict[str, Any], message: str) -> None:
    """Before anything runs."""
    with pytest.raises(DefinitionError, match=message):
        FaultPlan().fail("a", **options).on(Flow("flow").step("a", attempt))


@pytest.mark.parametrize(
    "options",
    [{"attempt": 0}, {"attempt": "1"}, {"index": -1}, {"compensation": 1}, {"error": "oops"}],
)
def test_wrong_values_are_refused(options: dict[str, Any]) -> None:
    """At the call that plans them."""
    with pytest.raises(DefinitionError, match=f"fail.*{next(iter(options))}|error must"):
        FaultPlan().fail("a", **options)


def test_tells_what_has_not_happened() -> None:
    """As it was planned."""
    plan = FaultPlan().fail("a").fail("a", attempt=3).fail("b", compensation=True)
    flow = Flow("flow").step("a", attempt, retries=1).step("b", attempt, compensate=do_nothing)
    plan.on(flow).run()
    unused = ["fail('a', attempt=3)", "fail('b', attempt=1, compensation=True)"]
    assert unused == plan.unused
    with pytest.raises(AssertionError, match="attempt=3"):
        plan.assert_used()


def test_an_empty_plan_changes_nothing(plan: FaultPlan) -> None:
    """There is nothing to happen, and nothing that has not."""
    assert 1 == plan.on(Flow("flow").step("a", attempt)).run()["a"].value
    plan.assert_used()
