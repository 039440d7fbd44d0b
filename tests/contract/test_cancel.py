"""Cancelling a run: with a token, or because its time is up."""

from __future__ import annotations

import threading
from collections.abc import Callable
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
    CancelToken,
    Context,
    Flow,
    FlowCancelledError,
    FlowResult,
    Step,
    StepCancelledError,
)


def statuses(result: FlowResult) -> list[str]:
    """Return the status of every step."""
    return [str(step.status) for step in result.steps]


@pytest.fixture
def token() -> CancelToken:
    """Return a token."""
    return CancelToken()


class Threaded:
    """Cancels a token from another thread once a gate is open."""

    def __init__(self, token: CancelToken, gate: Gate, reason: str | None = None) -> None:
        self._thread = threading.Thread(target=self._run, args=(token, gate, reason))

    @staticmethod
    def _run(token: CancelToken, gate: Gate, reason: str | None) -> None:
        gate.wait()
        token.cancel(reason)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()


def opening(gate: Gate, then: Callable[[Context], Any]) -> Callable[[Context], Any]:
    """Return a body that opens a gate first."""

    def body(ctx: Context) -> Any:
        gate.open()
        return then(ctx)

    return body


# --- the token -------------------------------------------------------------------------------


def test_a_token_keeps_the_first_reason(token: CancelToken) -> None:
    """Later calls change nothing."""
    assert (False, None) == (token.cancelled, token.reason)
    token.cancel("first")
    token.cancel("second")
    assert (True, "first") == (token.cancelled, token.reason)


@pytest.mark.parametrize("reason", [5, b"why", ["why"]])
def test_a_reason_is_text(token: CancelToken, reason: Any) -> None:
    """Anything else is a `TypeError`, and cancels nothing."""
    with pytest.raises(TypeError):
        token.cancel(reason)
    assert token.cancelled is False


# --- when ------------------------------------------------------------------------------------


def test_cancelled_before_the_start_nothing_runs(
    pool: Pool, token: CancelToken, journal: Journal
) -> None:
    """All steps are skipped."""
    token.cancel("not today")
    flow = Flow("flow").step("a", lambda ctx: journal.add("ran"), pool=pool).step("b", do_nothing)
    result = flow.run(cancel=token)
    assert ("cancelled", ["skipped", "skipped"], []) == (
        result.status, statuses(result), journal.lines,
    )  # fmt: skip


def test_cancelled_after_the_end_nothing_changes(pool: Pool, token: CancelToken) -> None:
    """The result stays as it is."""
    result = Flow("flow").step("a", do_nothing, pool=pool).run(cancel=token)
    token.cancel("too late")
    assert ("completed", None) == (result.status, result.error)


def test_cancelled_after_the_last_node_nothing_changes(token: CancelToken) -> None:
    """A hook that sees the flow complete cannot cancel it any more."""
    flow = Flow("flow", hooks=[When("on_flow_complete", token.cancel)]).step("a", do_nothing)
    assert "completed" == flow.run(cancel=token).status


def test_cancelled_by_a_hook_later_nodes_are_skipped(pool: Pool, token: CancelToken) -> None:
    """The step that had completed is undone."""
    undone = []
    flow = Flow("flow", hooks=[When("on_step_complete", token.cancel)])
    flow.step("a", do_nothing, pool=pool, compensate=lambda ctx: undone.append("a"))
    result = flow.step("b", do_nothing, pool=pool).run(cancel=token)
    assert ("cancelled", ["completed", "skipped"], ["a"]) == (
        result.status, statuses(result), undone,
    )  # fmt: skip


def test_cancelled_by_its_own_step(sharing_pool: Pool, token: CancelToken) -> None:
    """A body may cancel the run that it is part of."""

    def body(ctx: Context) -> None:
        token.cancel("by the step")
        ctx.sleep(1000)

    result = Flow("flow").step("a", body, pool=sharing_pool).run(cancel=token)
    assert ("cancelled", "cancelled", "by the step") == (
        result.status, result["a"].status, result.error.reason,
    )  # fmt: skip


def test_cancelled_while_the_last_node_runs_the_flow_is_cancelled(
    sharing_pool: Pool, token: CancelToken
) -> None:
    """Although its step completes: it is undone."""
    undone = []
    flow = Flow("flow").step(
        "a",
        lambda ctx: token.cancel(),
        pool=sharing_pool,
        compensate=lambda ctx: undone.append("a"),
    )
    result = flow.run(cancel=token)
    assert ("cancelled", "completed", ["a"]) == (result.status, result["a"].status, undone)


def test_cancelled_from_another_thread(pool: Pool, token: CancelToken, gate: Gate) -> None:
    """A body in `ctx.sleep` stops at once, wherever it runs."""
    flow = Flow("flow").step("a", opening(gate, sleep_long), pool=pool).step("b", do_nothing)
    with Threaded(token, gate):
        result = flow.run(cancel=token)
    assert ("cancelled", ["cancelled", "skipped"]) == (result.status, statuses(result))
    assert isinstance(result["a"].error, StepCancelledError)


def test_cancelled_twice_while_running(worker_pool: Pool, token: CancelToken, gate: Gate) -> None:
    """The second time changes nothing."""
    again = When("on_step_cancel", lambda: token.cancel("second"))
    flow = Flow("flow", hooks=[again]).step("a", opening(gate, sleep_long), pool=worker_pool)
    with Threaded(token, gate, "first"):
        result = flow.run(cancel=token)
    assert ("cancelled", "first") == (result.status, result.error.reason)


def test_cancelled_while_waiting_for_a_retry(pool: Pool, token: CancelToken) -> None:
    """The wait ends at once; the step keeps its last error, and no attempt follows."""
    flow = Flow("flow", hooks=[When("on_step_retry", token.cancel)])
    flow.step("a", fail, pool=pool, retries=3, retry_delay=1000)
    result = flow.run(cancel=token)
    assert ("cancelled", "failed", 1, BodyError) == (
        result.status, result["a"].status, result["a"].attempts, type(result["a"].error),
    )  # fmt: skip


def test_cancelled_in_a_group(worker_pool: Pool, token: CancelToken, gate: Gate) -> None:
    """Who has completed has; who runs is stopped; who waits never starts."""
    steps = [Step("done", do_nothing), Step("runs", opening(gate, sleep_long))]
    steps += [Step("waits", do_nothing), Step("too", do_nothing)]
    flow = Flow("flow").parallel("g", steps, pool=worker_pool, max_concurrency=1)
    with Threaded(token, gate):
        result = flow.step("next", do_nothing).run(cancel=token)
    assert ["completed", "cancelled", "cancelled", "cancelled", "skipped"] == statuses(result)
    assert [1, 1, 0, 0, 0] == [step.attempts for step in result.steps]
    assert ("cancelled", "cancelled") == (result.status, result["g"].status)


def test_cancelled_steps_are_not_retried(worker_pool: Pool, token: CancelToken, gate: Gate) -> None:
    """Whatever `retry_on` says."""
    body = opening(gate, sleep_long)
    flow = Flow("flow").step("a", body, pool=worker_pool, retries=3, retry_on=BaseException)
    with Threaded(token, gate):
        assert 1 == flow.run(cancel=token)["a"].attempts


def test_one_token_cancels_several_runs(token: CancelToken, gates: Callable[[str], Gate]) -> None:
    """All runs that use it are asked to stop."""
    results = []

    def run(gate: Gate) -> None:
        flow = Flow("flow").step("a", opening(gate, sleep_long), pool="thread")
        results.append(flow.run(cancel=token).status)

    started = [gates("first"), gates("second")]
    threads = [threading.Thread(target=run, args=(gate,)) for gate in started]
    for thread in threads:
        thread.start()
    for gate in started:
        gate.wait()
    token.cancel()
    for thread in threads:
        thread.join()
    assert ["cancelled", "cancelled"] == results


# --- bodies that do not stop -----------------------------------------------------------------


def test_a_thread_that_does_not_stop_is_abandoned(
    abandoning_pool: Pool, token: CancelToken, gate: Gate
) -> None:
    """After its grace; the flow does not wait for it any longer."""

    def deaf(ctx: Context) -> None:
        token.cancel("enough")
        gate.wait()

    result = Flow("flow").step("a", deaf, pool=abandoning_pool, grace=0.05).run(cancel=token)
    assert ("cancelled", ("a",), StepCancelledError) == (
        result["a"].status, result.abandoned, type(result["a"].error),
    )  # fmt: skip


def test_a_thread_has_its_grace(abandoning_pool: Pool, token: CancelToken) -> None:
    """A body that ends within it is not abandoned."""

    def body(ctx: Context) -> str:
        token.cancel()
        wait_until(lambda: ctx.cancelled)
        return "done"

    result = Flow("flow").step("a", body, pool=abandoning_pool, grace=100).run(cancel=token)
    assert ("completed", "done", ()) == (
        result["a"].status, result["a"].value, result.abandoned,
    )  # fmt: skip


@pytest.mark.xdist_group("process")
def test_a_process_that_does_not_stop_is_killed(token: CancelToken, gate: Gate) -> None:
    """After its grace; it is on record as cancelled."""
    flow = Flow("flow").step("a", opening(gate, swallow_everything), pool="process", grace=0.1)
    with Threaded(token, gate):
        result = flow.run(cancel=token)
    assert ("cancelled", StepCancelledError, ()) == (
        result["a"].status, type(result["a"].error), result.abandoned,
    )  # fmt: skip


def test_fail_fast_members_are_abandoned_once_the_run_is_cancelled(
    abandoning_pool: Pool, token: CancelToken, gates: Callable[[str], Gate]
) -> None:
    """A group that waits for a deaf thread waits no longer when the run is cancelled."""
    started, release = gates("started"), gates("release")

    def deaf(ctx: Context) -> None:
        started.open()
        release.wait()

    def fail_later(ctx: Context) -> None:
        started.wait()
        raise BodyError

    flow = Flow("flow", hooks=[When("on_step_fail", token.cancel)])
    steps = [Step("deaf", deaf, grace=0.05), Step("bad", fail_later)]
    flow.parallel("g", steps, fail_fast=True, pool=abandoning_pool)
    result = flow.run(cancel=token)
    assert (("deaf",), "cancelled") == (result.abandoned, result.status)


# --- the result ------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [None, "because"])
def test_the_error_tells_the_reason(token: CancelToken, reason: str | None) -> None:
    """A cancelled flow has a `FlowCancelledError`."""
    token.cancel(reason)
    error = Flow("flow").step("a", do_nothing).run(cancel=token).error
    assert (FlowCancelledError, reason) == (type(error), error.reason)


def test_raise_for_status_raises_the_cancellation(token: CancelToken) -> None:
    """With the result and the reason, chained from the flow's error."""
    token.cancel("because")
    result = Flow("flow").step("a", do_nothing).run(cancel=token)
    with pytest.raises(FlowCancelledError) as raised:
        result.raise_for_status()
    assert ("because", True, True) == (
        raised.value.reason, raised.value.result is result, raised.value.__cause__ is result.error,
    )  # fmt: skip


def test_a_cancelled_flow_with_an_incomplete_rollback_is_cancelled(token: CancelToken) -> None:
    """`raise_for_status` raises the cancellation; the rollback is on record."""
    flow = Flow("flow").step("a", lambda ctx: token.cancel(), compensate=fail)
    result = flow.run(cancel=token)
    assert ("cancelled", "incomplete") == (result.status, result.rollback)
    with pytest.raises(FlowCancelledError):
        result.raise_for_status()
