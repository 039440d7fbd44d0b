"""A run whose time is up; and compensations, which neither it nor a token reaches."""

from __future__ import annotations

from datetime import timedelta

import pytest
from contract_tools import BodyError, Gate, Journal, Pool, When, do_nothing, fail, sleep_long

from syncflow import CancelToken, Context, Flow, FlowResult, FlowTimeoutError, Step

#: Runs go by a fake clock; bodies in processes, and whoever waits for them, by the real one.
pytestmark = pytest.mark.usefixtures("clock")

#: Seconds.
SHORT = 0.1


@pytest.fixture
def token() -> CancelToken:
    """Return a token."""
    return CancelToken()


def statuses(result: FlowResult) -> list[str]:
    """Return the status of every step."""
    return [str(step.status) for step in result.steps]


# --- run(timeout=) ---------------------------------------------------------------------------


def test_a_run_whose_time_is_up_has_failed(pool: Pool, journal: Journal) -> None:
    """Its step is stopped, later ones are skipped, completed ones are undone."""
    flow = Flow("flow").step("a", do_nothing, compensate=lambda ctx: journal.add("undone"))
    flow.step("b", sleep_long, pool=pool).step("c", do_nothing)
    result = flow.run(timeout=SHORT)
    assert ("failed", ["completed", "cancelled", "skipped"], ["undone"]) == (
        result.status, statuses(result), journal.lines,
    )  # fmt: skip
    assert (FlowTimeoutError, SHORT) == (type(result.error), result.error.timeout)
    assert isinstance(result.error, TimeoutError)


def test_the_time_of_a_run_may_be_a_timedelta() -> None:
    """All durations are seconds or `timedelta`."""
    result = Flow("flow").step("a", sleep_long).run(timeout=timedelta(milliseconds=50))
    assert 0.05 == result.error.timeout


def test_a_run_in_time_completes(pool: Pool) -> None:
    """A limit that is not reached changes nothing."""
    assert "completed" == Flow("flow").step("a", do_nothing, pool=pool).run(timeout=100).status


def test_the_time_of_a_run_ends_the_wait_for_a_retry(pool: Pool) -> None:
    """The step keeps its last error."""
    flow = Flow("flow").step("a", fail, pool=pool, retries=3, retry_delay=1000)
    result = flow.run(timeout=SHORT)
    assert (FlowTimeoutError, "failed", 1, BodyError) == (
        type(result.error), result["a"].status, result["a"].attempts, type(result["a"].error),
    )  # fmt: skip


def test_the_time_of_a_run_stops_a_group(worker_pool: Pool) -> None:
    """Running members are cancelled, waiting ones never start; nothing is retried."""
    steps = [Step("runs", sleep_long, retries=3, retry_on=BaseException), Step("waits", do_nothing)]
    flow = Flow("flow").parallel("g", steps, pool=worker_pool, max_concurrency=1)
    result = flow.run(timeout=SHORT)
    assert (["cancelled", "cancelled"], [1, 0]) == (
        statuses(result), [step.attempts for step in result.steps],
    )  # fmt: skip
    assert isinstance(result.error, FlowTimeoutError)


def test_a_thread_that_does_not_stop_in_time_is_abandoned(
    abandoning_pool: Pool, gate: Gate
) -> None:
    """After its grace."""

    def deaf(ctx: Context) -> None:
        gate.wait()

    result = Flow("flow").step("a", deaf, pool=abandoning_pool, grace=0.05).run(timeout=SHORT)
    assert ("cancelled", ("a",), "failed") == (
        result["a"].status, result.abandoned, result.status,
    )  # fmt: skip


# --- compensations are shielded --------------------------------------------------------------


def look(ctx: Context) -> None:
    """Note what a compensation is told; it sleeps undisturbed."""
    ctx.sleep(0.001)
    ctx.raise_if_cancelled()
    ctx.input.add(ctx.cancelled, ctx.remaining)


def test_compensations_are_shielded_from_the_token(
    pool: Pool, token: CancelToken, journal: Journal
) -> None:
    """They are not asked to stop."""
    flow = Flow("flow").step("a", do_nothing, compensate=Step("undo", look, pool=pool))
    flow.step("b", lambda ctx: token.cancel()).run(journal, cancel=token)
    assert ["False None"] == journal.lines


def test_compensations_are_shielded_from_the_deadline(pool: Pool, journal: Journal) -> None:
    """They have all the time they want."""
    flow = Flow("flow").step("a", do_nothing, compensate=Step("undo", look, pool=pool))
    flow.step("b", sleep_long).run(journal, timeout=SHORT)
    assert ["False None"] == journal.lines


def test_a_token_cancelled_during_the_rollback_changes_nothing(
    pool: Pool, token: CancelToken, journal: Journal
) -> None:
    """The flow has failed, and stays so."""
    flow = Flow("flow", hooks=[When("on_compensate", token.cancel)])
    flow.step("a", do_nothing, compensate=Step("undo", look, pool=pool))
    flow.step("b", do_nothing, compensate=Step("undo", look, pool=pool))
    result = flow.step("bad", fail).run(journal, cancel=token)
    assert ("failed", "complete", BodyError) == (
        result.status, result.rollback, type(result.error),
    )  # fmt: skip
    assert ["False None"] * 2 == journal.lines


def test_a_deadline_during_the_rollback_changes_nothing(pool: Pool) -> None:
    """Time that passes there is not counted."""
    undo = Step("undo", lambda ctx: ctx.sleep(2 * SHORT), pool=pool)
    result = (
        Flow("flow").step("a", do_nothing, compensate=undo).step("bad", fail).run(timeout=SHORT)
    )
    assert ("failed", "complete", BodyError) == (
        result.status, result.rollback, type(result.error),
    )  # fmt: skip
