"""Time limits of attempts and of groups."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import timedelta
from typing import Any

import pytest
from contract_tools import (
    BodyError,
    Gate,
    Journal,
    Pool,
    When,
    do_nothing,
    fail,
    return_pid,
    sleep_long,
    swallow_everything,
    wait_until,
    work,
)

from syncflow import (
    Context,
    Flow,
    GroupFailedError,
    ProcessPool,
    Step,
    StepResult,
    StepTimeoutError,
    ThreadPool,
)

#: Runs go by a fake clock; bodies in processes, and whoever waits for them, by the real one.
pytestmark = pytest.mark.usefixtures("clock")

#: Seconds. Short, and long enough for a body that has nothing to do.
SHORT = 0.1


def run_one(body: Callable[[Context], Any], pool: Pool, **options: Any) -> StepResult:
    """Return the result of a flow's only step, whose body is not left running."""
    return Flow("flow").step("a", body, pool=pool, **options).run(drain=5)["a"]


# --- one attempt -----------------------------------------------------------------------------


def test_an_attempt_that_takes_too_long_fails(worker_pool: Pool) -> None:
    """Its error is a `StepTimeoutError`, which is a `TimeoutError`, and says so."""
    result = run_one(sleep_long, worker_pool, timeout=SHORT)
    assert ("failed", StepTimeoutError) == (result.status, type(result.error))
    assert isinstance(result.error, TimeoutError)
    assert "timed out after" in str(result.error)


def test_the_error_tells_step_timeout_and_attempt(worker_pool: Pool) -> None:
    """The fields say which attempt of which step exceeded what."""
    error = run_one(sleep_long, worker_pool, timeout=SHORT, retries=1).error
    assert ("a", SHORT, 2) == (error.step_name, error.timeout, error.attempt)
    assert "step 'a' of flow 'flow', attempt 2 of 2" in error.__notes__


def test_a_timeout_may_be_a_timedelta(worker_pool: Pool) -> None:
    """All durations are seconds or `timedelta`."""
    error = run_one(sleep_long, worker_pool, timeout=timedelta(milliseconds=50)).error
    assert 0.05 == error.timeout


def test_an_attempt_in_time_completes(worker_pool: Pool) -> None:
    """A limit that is not reached changes nothing."""
    assert 1 == run_one(lambda ctx: ctx.attempt, worker_pool, timeout=100).value


def test_a_step_with_a_timeout_runs_on_a_thread() -> None:
    """A `.step` with a timeout is not inline unless it says where else."""
    assert "thread" == run_one(do_nothing, None, timeout=100).pool


def slow_once(gate: Gate) -> Callable[[Context], int]:
    """Return a body whose first attempt takes too long."""

    def body(ctx: Context) -> int:
        if ctx.attempt == 1:
            gate.wait()
        return ctx.attempt

    return body


def test_a_timeout_is_retried(worker_pool: Pool, gate: Gate) -> None:
    """It counts as a failure for retries."""
    flow = Flow("flow").step("a", slow_once(gate), pool=worker_pool, timeout=SHORT, retries=1)
    result = flow.run()["a"]
    assert ("completed", 2, 2) == (result.status, result.attempts, result.value)


@pytest.mark.parametrize(
    ("retry_on", "attempts"), [(TimeoutError, 2), (StepTimeoutError, 2), (ValueError, 1)]
)
def test_retry_on_sees_the_timeout(worker_pool: Pool, retry_on: Any, attempts: int) -> None:
    """A timeout is retried as what it is."""
    result = run_one(sleep_long, worker_pool, timeout=SHORT, retries=1, retry_on=retry_on)
    assert attempts == result.attempts


def test_an_interrupt_at_the_deadline_is_a_timeout(worker_pool: Pool) -> None:
    """A `StepInterrupt` because time is up is retried as a `StepTimeoutError`."""

    def body(ctx: Context) -> None:
        while True:
            ctx.raise_if_cancelled()
            work(SHORT / 4)

    result = run_one(body, worker_pool, timeout=SHORT, retries=1, retry_on=StepTimeoutError)
    assert (2, StepTimeoutError) == (result.attempts, type(result.error))


@pytest.mark.parametrize(
    "make", [ThreadPool, pytest.param(ProcessPool, marks=pytest.mark.xdist_group("process"))]
)
def test_time_counts_from_the_start_of_the_body(make: Callable[[int], Executor]) -> None:
    """Waiting for a worker does not count."""

    def occupy(ctx: Context) -> None:
        ctx.sleep(3 * SHORT)

    steps = [Step("first", occupy), Step("second", do_nothing, timeout=SHORT)]
    with make(1) as pool:
        flow = Flow("flow").parallel("g", steps, pool=pool, max_concurrency=2)
        result = flow.run()["second"]
    assert "completed" == result.status
    assert SHORT < result.queued


def test_each_attempt_has_its_own_time(worker_pool: Pool, journal: Journal) -> None:
    """A retry starts with all of its time, and is not cancelled."""

    def body(ctx: Context) -> None:
        journal.add(ctx.remaining > SHORT / 2, ctx.cancelled)
        sleep_long(ctx)

    run_one(body, worker_pool, timeout=SHORT, retries=1)
    assert ["True False"] * 2 == journal.lines


# --- processes -------------------------------------------------------------------------------


@pytest.mark.xdist_group("process")
def test_a_process_body_is_interrupted(journal: Journal) -> None:
    """`except Exception` does not swallow the interrupt, and `finally` blocks run."""

    def body(ctx: Context) -> None:
        try:
            while True:
                try:
                    time.sleep(0.001)
                except Exception:  # noqa: BLE001 - it must not see the interrupt
                    journal.add("swallowed")
        except BaseException as error:
            journal.add(type(error).__name__, ctx.cancelled)
            raise
        finally:
            journal.add("finally")

    assert "failed" == run_one(body, "process", timeout=SHORT).status
    assert ["StepInterrupt True", "finally"] == journal.lines


@pytest.mark.xdist_group("process")
@pytest.mark.parametrize(
    ("body", "survives"), [(sleep_long, True), (swallow_everything, False)], ids=["stops", "deaf"]
)
def test_a_process_body_that_does_not_stop_is_killed(
    body: Callable[[Context], None], survives: bool
) -> None:
    """A body that stops within its grace keeps its worker; a deaf one loses it."""
    with ProcessPool(1) as pool:
        flow = Flow("flow").step("before", return_pid, pool=pool)
        steps = [Step("a", body, timeout=SHORT, grace=0.2), Step("b", do_nothing)]
        flow.parallel("g", steps, pool=pool)
        result = flow.step("after", return_pid, pool=pool).run()
    assert StepTimeoutError is type(result["a"].error)
    assert survives is (result["before"].value == result["after"].value)


@pytest.mark.xdist_group("process")
def test_a_killed_process_body_is_retried() -> None:
    """The next attempt gets a new worker."""

    def body(ctx: Context) -> int:
        if ctx.attempt == 1:
            swallow_everything(ctx)
        return ctx.attempt

    result = run_one(body, "process", timeout=2 * SHORT, grace=0.1, retries=1)
    assert ("completed", 2) == (result.status, result.value)


@pytest.mark.xdist_group("process")
def test_a_killed_process_body_is_not_abandoned() -> None:
    """Nothing of it is left running."""
    flow = Flow("flow").step("a", swallow_everything, pool="process", timeout=SHORT, grace=0.1)
    assert () == flow.run().abandoned


@pytest.mark.xdist_group("process")
def test_a_timeout_touches_no_other_process(gate: Gate) -> None:
    """A sibling that was running when a worker was killed completes."""

    def sibling(ctx: Context) -> int:
        gate.wait()
        return ctx.attempt

    steps = [Step("killed", swallow_everything, timeout=SHORT, grace=0.1), Step("other", sibling)]
    opener = When("on_step_fail", gate.open)
    flow = Flow("flow", hooks=[opener]).parallel("g", steps, pool="process")
    assert ["failed", "completed"] == [step.status for step in flow.run().steps]


# --- threads ---------------------------------------------------------------------------------


def test_a_thread_body_is_told_and_abandoned(
    abandoning_pool: Pool, gate: Gate, journal: Journal
) -> None:
    """`ctx.cancelled` turns true; the run goes on without waiting for the body."""

    def body(ctx: Context) -> None:
        gate.wait()
        journal.add(ctx.cancelled)

    result = Flow("flow").step("a", body, pool=abandoning_pool, timeout=SHORT).run()
    assert ("failed", ("a",)) == (result.status, result.abandoned)
    gate.open()
    wait_until(lambda: ["True"] == journal.lines)


def test_only_the_abandoned_attempt_is_cancelled(abandoning_pool: Pool, gate: Gate) -> None:
    """The next attempt of the same step is not."""

    def body(ctx: Context) -> bool:
        if ctx.attempt == 1:
            gate.wait()
        return ctx.cancelled

    result = Flow("flow").step("a", body, pool=abandoning_pool, timeout=SHORT, retries=1).run()
    assert result["a"].value is False
    assert ("a",) == result.abandoned


@pytest.mark.parametrize("end", [lambda: 1, lambda: {}["late"]], ids=["value", "error"])
def test_what_an_abandoned_body_ends_with_is_ignored(
    abandoning_pool: Pool, gate: Gate, end: Callable[[], Any]
) -> None:
    """Neither its value nor its error reaches the result."""

    def body(ctx: Context) -> Any:
        gate.wait()
        return end()

    def release(ctx: Context) -> None:
        gate.open()

    steps = [Step("a", body, timeout=SHORT), Step("b", do_nothing)]
    flow = Flow("flow").parallel("g", steps, pool=abandoning_pool)
    result = flow.step("release", release).run(drain=5)
    assert ("failed", None, StepTimeoutError) == (
        result["a"].status, result["a"].value, type(result["a"].error),
    )  # fmt: skip
    assert ((), "completed") == (result.abandoned, result.status)


def test_an_abandoned_thread_takes_no_slot(gate: Gate) -> None:
    """A pool of one thread runs the next step although the first one hangs."""

    def hang(ctx: Context) -> None:
        gate.wait()

    with ThreadPool(1) as pool:
        steps = [Step("a", hang, timeout=SHORT), Step("b", do_nothing)]
        flow = Flow("flow").parallel("g", steps, pool=pool, max_concurrency=1)
        result = flow.run()
        gate.open()
    assert "completed" == result["b"].status


# --- groups ----------------------------------------------------------------------------------


def timed_group(pool: Pool, *steps: Step, **options: Any) -> Any:
    """Run a group with a short time limit, on the workers that the fixture has warmed up."""
    flow = Flow("flow").parallel("g", steps, pool=pool, timeout=2 * SHORT, **options)
    return flow.run(drain=5)


def test_members_that_have_not_settled_in_time_fail(worker_pool: Pool) -> None:
    """They fail with `StepTimeoutError`; the group is judged by its rule."""
    result = timed_group(worker_pool, Step("good", do_nothing), Step("slow", sleep_long))
    assert ["completed", "failed"] == [step.status for step in result.steps]
    assert (StepTimeoutError, "completed") == (type(result["slow"].error), result.status)


def test_the_error_tells_the_timeout_of_the_group(worker_pool: Pool) -> None:
    """The limit that was exceeded is the group's."""
    result = timed_group(worker_pool, Step("slow", sleep_long, timeout=100))
    assert ("slow", 2 * SHORT, 1) == (
        result.error.step_name, result.error.timeout, result.error.attempt,
    )  # fmt: skip


def test_members_that_have_not_started_in_time_fail(worker_pool: Pool) -> None:
    """They fail with 0 attempts."""
    steps = [Step("slow", sleep_long), Step("waiting", do_nothing)]
    result = timed_group(worker_pool, *steps, max_concurrency=1)
    waiting = result["waiting"]
    assert ("failed", 0, StepTimeoutError) == (
        waiting.status, waiting.attempts, type(waiting.error),
    )  # fmt: skip


def test_members_that_wait_for_a_retry_fail_in_time(worker_pool: Pool) -> None:
    """The wait ends with the group's time; what failed before is the cause."""
    result = timed_group(worker_pool, Step("bad", fail, retries=1, retry_delay=1000))
    assert (1, StepTimeoutError, BodyError) == (
        result["bad"].attempts, type(result.error), type(result.error.__cause__),
    )  # fmt: skip


def test_nothing_is_retried_once_the_time_of_the_group_is_up(worker_pool: Pool) -> None:
    """A member that was interrupted by the group's deadline has no further attempt."""
    result = timed_group(worker_pool, Step("slow", sleep_long, retries=5))
    assert 1 == result["slow"].attempts


@pytest.mark.parametrize(
    ("options", "status", "error"),
    [
        ({}, "completed", None),
        ({"min_success": 2}, "failed", GroupFailedError),
        ({"fail_fast": True}, "failed", StepTimeoutError),
    ],
    ids=["default", "min_success", "fail_fast"],
)
def test_a_group_whose_time_is_up_is_judged_as_ever(
    worker_pool: Pool, options: dict[str, Any], status: str, error: type | None
) -> None:
    """One of two completed: enough or not, as the group says."""
    steps = [Step("good", do_nothing), Step("slow", sleep_long)]
    result = timed_group(worker_pool, *steps, **options)
    assert (status, error) == (result["g"].status, result.error and type(result.error))


def test_blocked_threads_are_abandoned_when_the_group_is_over(
    abandoning_pool: Pool, gate: Gate
) -> None:
    """A member that does not listen is given up at once."""

    def hang(ctx: Context) -> None:
        gate.wait()

    steps = [Step("slow", hang), Step("b", do_nothing)]
    flow = Flow("flow").parallel("g", steps, pool=abandoning_pool, timeout=SHORT)
    assert ("slow",) == flow.run().abandoned


@pytest.mark.xdist_group("process")
def test_deaf_processes_are_killed_when_the_group_is_over() -> None:
    """A member that does not listen is killed after its grace."""
    result = timed_group("process", Step("deaf", swallow_everything, grace=0.1))
    assert (StepTimeoutError, ()) == (type(result.error), result.abandoned)


def test_the_tighter_limit_counts(worker_pool: Pool) -> None:
    """A member's own timeout holds within a group that has more time."""
    flow = Flow("flow").parallel(
        "g", [Step("slow", sleep_long, timeout=SHORT)], pool=worker_pool, timeout=100
    )
    assert SHORT == flow.run(drain=5).error.timeout
