"""How a group starts its members, settles and is judged."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
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
    sleep_long,
    swallow_everything,
    wait_until,
)

from syncflow import (
    Context,
    Flow,
    FlowResult,
    GroupFailedError,
    Step,
    StepCancelledError,
)


def statuses(result: FlowResult) -> list[str]:
    """Return the status of every step."""
    return [str(step.status) for step in result.steps]


def group(*steps: Step, hooks: Any = (), **options: Any) -> Flow:
    """Return a flow of one group."""
    return Flow("flow", hooks=hooks).parallel("g", steps, **options)


def failing_after(gate: Gate) -> Callable[[Context], None]:
    """Return a body that fails once a gate is open."""

    def body(ctx: Context) -> None:
        gate.wait()
        raise BodyError(ctx.step_name)

    return body


# --- the default -----------------------------------------------------------------------------


def test_members_run_at_the_same_time(worker_pool: Pool, gates: Callable[[str], Gate]) -> None:
    """Two members can wait for each other."""
    here, there = gates("here"), gates("there")

    def meet(mine: Gate, other: Gate) -> Callable[[Context], None]:
        def body(ctx: Context) -> None:
            mine.open()
            other.wait()

        return body

    steps = [Step("a", meet(here, there)), Step("b", meet(there, here))]
    flow = group(*steps, pool=worker_pool, max_concurrency=2)
    assert ["completed", "completed"] == statuses(flow.run())


def test_one_failure_is_tolerated(worker_pool: Pool) -> None:
    """By default one completed member is enough: the flow completes, in part."""
    result = group(Step("bad", fail), Step("good", do_nothing), pool=worker_pool).run()
    assert ("completed", True, None) == (result.status, result.partial, result.error)


def test_a_failure_stops_nobody(worker_pool: Pool, gate: Gate) -> None:
    """By default everything runs to its end."""

    def body(ctx: Context) -> bool:
        gate.wait()
        return ctx.cancelled

    opener = When("on_step_fail", gate.open)
    steps = [Step("bad", fail), Step("good", body), Step("next", do_nothing)]
    result = group(*steps, hooks=[opener], pool=worker_pool, max_concurrency=2).run()
    assert (["failed", "completed", "completed"], False) == (
        statuses(result), result["good"].value,
    )  # fmt: skip


def test_a_group_fails_when_all_fail(worker_pool: Pool) -> None:
    """The flow's error is a `GroupFailedError`, an `ExceptionGroup`."""
    result = group(Step("a", fail), Step("b", fail), pool=worker_pool).run()
    assert ("failed", "failed") == (result.status, result["g"].status)
    assert isinstance(result.error, GroupFailedError)
    assert isinstance(result.error, ExceptionGroup)


def test_the_errors_are_in_declaration_order(worker_pool: Pool, gate: Gate) -> None:
    """Whatever order they failed in."""
    opener = When("on_step_fail", gate.open, step="b")
    steps = [Step("a", failing_after(gate)), Step("b", fail), Step("c", fail)]
    result = group(*steps, hooks=[opener], pool=worker_pool, max_concurrency=3).run()
    assert ["a", "b", "c"] == [str(error) for error in result.error.exceptions]


def test_the_errors_are_those_of_the_members() -> None:
    """A thread's error is the very object in the group, too."""
    result = group(Step("a", fail), Step("b", fail)).run()
    assert all(step.error is e for step, e in zip(result.steps, result.error.exceptions))  # noqa: B905


def test_a_group_of_one_fails_with_the_error_of_its_member() -> None:
    """There is nothing to put together."""
    error = BodyError("the only one")

    def body(ctx: Context) -> None:
        raise error

    assert error is group(Step("a", body)).run().error


MIN_SUCCESS = [(1, 1, True), (2, 2, True), (2, 1, False), (3, 2, False), (3, 3, True)]


@pytest.mark.parametrize(("needed", "good", "ok"), MIN_SUCCESS)
def test_min_success_is_what_must_complete(
    worker_pool: Pool, needed: int, good: int, ok: bool
) -> None:
    """A group of three fails when fewer members completed."""
    steps = [Step(f"s{at}", do_nothing if at < good else fail) for at in range(3)]
    result = group(*steps, min_success=needed, pool=worker_pool).run()
    assert ok is result.ok
    errors = None if ok else [step.error for step in result.steps if step.error]
    assert errors == (result.error and list(result.error.exceptions))


def test_a_group_that_can_no_longer_succeed_runs_to_its_end(worker_pool: Pool) -> None:
    """`min_success` is judged in the end."""
    steps = [Step("bad", fail), Step("good", do_nothing)]
    result = group(*steps, min_success=2, max_concurrency=1, pool=worker_pool).run()
    assert ["failed", "completed"] == statuses(result)


def test_the_next_step_starts_once_all_have_settled(
    worker_pool: Pool, gate: Gate, journal: Journal
) -> None:
    """A group is waited for as a whole."""

    def slow(ctx: Context) -> None:
        gate.wait()
        journal.add("slow")

    opener = When("on_step_complete", gate.open, step="fast")
    flow = group(Step("slow", slow), Step("fast", do_nothing), hooks=[opener], pool=worker_pool)
    flow.step("next", lambda ctx: journal.add("next"), pool=worker_pool).run()
    assert ["slow", "next"] == journal.lines


# --- fail_fast -------------------------------------------------------------------------------


def test_fail_fast_fails_with_the_error_that_came_first(worker_pool: Pool, gate: Gate) -> None:
    """First in time, not in declaration order."""
    opener = When("on_step_fail", gate.open)
    steps = [Step("a", failing_after(gate)), Step("b", fail)]
    result = group(
        *steps, hooks=[opener], fail_fast=True, pool=worker_pool, max_concurrency=2
    ).run()
    assert "b" == str(result.error)
    assert result.error is result["g"].error is result["b"].error


def test_fail_fast_starts_nobody_after_a_failure(worker_pool: Pool, journal: Journal) -> None:
    """Members that have not started are cancelled, with 0 attempts."""
    steps = [Step("bad", fail), Step("never", lambda ctx: journal.add("ran"))]
    result = group(*steps, fail_fast=True, max_concurrency=1, pool=worker_pool).run()
    never = result["never"]
    assert ("cancelled", 0, StepCancelledError) == (
        never.status, never.attempts, type(never.error),
    )  # fmt: skip
    assert [] == journal.lines


def test_fail_fast_waits_for_the_retries(worker_pool: Pool) -> None:
    """A member has finally failed only when its retries are used up."""

    def flaky(ctx: Context) -> None:
        if ctx.attempt < 3:
            raise BodyError

    steps = [Step("flaky", flaky, retries=2), Step("good", do_nothing)]
    result = group(*steps, fail_fast=True, max_concurrency=1, pool=worker_pool).run()
    assert ["completed", "completed"] == statuses(result)


def test_fail_fast_ends_the_wait_for_a_retry(worker_pool: Pool, gate: Gate) -> None:
    """A member that waits to be retried settles as failed with its last error."""
    opener = When("on_step_retry", gate.open)
    steps = [Step("flaky", fail, retries=3, retry_delay=1000), Step("bad", failing_after(gate))]
    result = group(
        *steps, hooks=[opener], fail_fast=True, pool=worker_pool, max_concurrency=2
    ).run()
    flaky = result["flaky"]
    assert ("failed", 1, "flaky") == (flaky.status, flaky.attempts, str(flaky.error))
    assert "bad" == str(result.error)


def test_fail_fast_asks_running_members_to_stop(worker_pool: Pool, gate: Gate) -> None:
    """A member that obeys is cancelled."""

    def obedient(ctx: Context) -> None:
        gate.open()
        sleep_long(ctx)

    steps = [Step("obedient", obedient), Step("bad", failing_after(gate))]
    result = group(*steps, fail_fast=True, pool=worker_pool, max_concurrency=2).run()
    assert ("cancelled", 1, StepCancelledError) == (
        result["obedient"].status, result["obedient"].attempts, type(result["obedient"].error),
    )  # fmt: skip


def test_fail_fast_does_not_retry_who_was_asked_to_stop(worker_pool: Pool, gate: Gate) -> None:
    """Cancellation is never retried, and no further attempt starts."""

    def obedient(ctx: Context) -> None:
        gate.open()
        sleep_long(ctx)

    steps = [
        Step("obedient", obedient, retries=3, retry_on=BaseException),
        Step("bad", failing_after(gate)),
    ]
    result = group(*steps, fail_fast=True, pool=worker_pool, max_concurrency=2).run()
    assert ("cancelled", 1) == (result["obedient"].status, result["obedient"].attempts)


def test_fail_fast_waits_for_threads_that_do_not_stop(gate: Gate, journal: Journal) -> None:
    """The group settles only when every running member has; nobody is abandoned."""

    def deaf(ctx: Context) -> None:
        gate.wait()
        wait_until(lambda: ctx.cancelled)
        journal.add("finished")

    steps = [Step("deaf", deaf, grace=0), Step("bad", failing_after(gate))]
    flow = Flow("flow").step("a", do_nothing, compensate=lambda ctx: journal.add("undone"))
    result = flow.parallel("g", [*steps, Step("c", lambda ctx: gate.open())], fail_fast=True).run()
    assert ("completed", ()) == (result["deaf"].status, result.abandoned)
    assert ["finished", "undone"] == journal.lines


@pytest.mark.xdist_group("process")
def test_fail_fast_interrupts_processes_and_kills_the_deaf(gate: Gate) -> None:
    """A process that does not stop within its grace is killed, and on record as cancelled."""

    def deaf(ctx: Context) -> None:
        gate.open()
        swallow_everything(ctx)

    steps = [Step("deaf", deaf, grace=0.1), Step("bad", failing_after(gate))]
    result = group(*steps, fail_fast=True, pool="process", max_concurrency=2).run()
    assert ("cancelled", StepCancelledError) == (
        result["deaf"].status, type(result["deaf"].error),
    )  # fmt: skip


def test_who_completes_although_asked_to_stop_is_compensated(
    worker_pool: Pool, gates: Callable[[str], Gate]
) -> None:
    """It is on record as completed, with its value."""
    started, undone = gates("started"), gates("undone")

    def stubborn(ctx: Context) -> str:
        started.open()
        with suppress(BaseException):  # as a body should not
            ctx.sleep(1000)
        return "done"

    steps = [
        Step("stubborn", stubborn, compensate=lambda ctx: undone.open()),
        Step("bad", failing_after(started)),
    ]
    result = group(*steps, fail_fast=True, pool=worker_pool, max_concurrency=2).run()
    assert ("completed", "done", True) == (
        result["stubborn"].status, result["stubborn"].value, undone.is_open,
    )  # fmt: skip


def test_a_later_failure_of_a_stopped_member_changes_nothing(gate: Gate) -> None:
    """A member may fail on its way out; the group keeps the first error."""

    def fails_on_the_way_out(ctx: Context) -> None:
        gate.open()
        try:
            ctx.sleep(1000)
        finally:
            raise BodyError("second")

    steps = [Step("a", fails_on_the_way_out), Step("b", failing_after(gate))]
    result = group(*steps, fail_fast=True).run()
    assert (["failed", "failed"], "b") == (statuses(result), str(result.error))
