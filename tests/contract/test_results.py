"""What `run` returns: every field, on every pool."""

from __future__ import annotations

import datetime as dt
import json
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from contract_tools import BodyError, Gate, Pool, do_nothing, fail, sleep_long

from syncflow import (
    CancelToken,
    CompensationStatus,
    Context,
    Flow,
    FlowFailedError,
    FlowResult,
    FlowStatus,
    InputValidationError,
    RollbackIncompleteError,
    RollbackStatus,
    Step,
    StepStatus,
    ThreadPool,
)


def mixed(worker_pool: Pool = "thread") -> FlowResult:
    """Run a flow in which a step completes, a group is partial, and nothing else happens."""
    steps = [Step("good", lambda ctx: "of good"), Step("bad", fail, retries=1)]
    flow = Flow("flow").step("first", lambda ctx: "of first")
    return flow.parallel("g", steps, pool=worker_pool).run(run_id="run-1")


def failed(*, undo: Callable[[Context], Any] | None = do_nothing) -> FlowResult:
    """Run a flow that fails, with something to undo."""
    return Flow("flow").step("a", do_nothing, compensate=undo).step("bad", fail).run()


# --- FlowResult ------------------------------------------------------------------------------


def test_a_result_says_what_ran() -> None:
    """Flow and run are named."""
    result = mixed()
    assert ("flow", "run-1") == (result.name, result.run_id)


def test_a_run_has_a_unique_id_by_default(pool: Pool) -> None:
    """No two runs share it."""
    flow = Flow("flow").step("a", lambda ctx: ctx.run_id, pool=pool)
    first, second = flow.run(), flow.run()
    assert first.run_id != second.run_id
    assert [first.run_id, second.run_id] == [first["a"].value, second["a"].value]
    assert first.run_id


def test_a_completed_run(pool: Pool) -> None:
    """It is ok, with no error and nothing to undo."""
    result = Flow("flow").step("a", do_nothing, pool=pool).run()
    assert (FlowStatus.COMPLETED, True, False, None, RollbackStatus.NOT_NEEDED, (), ()) == (
        result.status, result.ok, result.partial, result.error, result.rollback,
        result.compensations, result.abandoned,
    )  # fmt: skip


def test_a_partial_run(worker_pool: Pool) -> None:
    """It is ok although a member failed."""
    result = mixed(worker_pool)
    assert (True, True, None) == (result.ok, result.partial, result.error)


def test_a_failed_run_is_not_partial(pool: Pool) -> None:
    """Partial is a way to complete."""
    result = Flow("flow").step("a", fail, pool=pool).run()
    assert (FlowStatus.FAILED, False, False) == (result.status, result.ok, result.partial)


def test_statuses_are_strings() -> None:
    """They compare equal to their names, and print as them."""
    result = failed()
    assert ("failed", "complete", "completed", "completed") == (
        result.status, result.rollback, result["a"].status, result["a"].compensation,
    )  # fmt: skip
    assert "failed" == f"{result.status}"
    assert json.dumps("failed") == json.dumps(result.status)


def test_there_is_a_result_for_every_step_in_definition_order() -> None:
    """Also for those that were never reached."""
    flow = Flow("flow").step("bad", fail).step("next", do_nothing)
    flow.parallel("g", [Step("x", do_nothing), Step("y", do_nothing)]).step("last", do_nothing)
    result = flow.run()
    expected = [("bad", "failed"), *[(name, "skipped") for name in ("next", "x", "y", "last")]]
    assert expected == [(step.name, step.status) for step in result.steps]


def test_a_result_is_found_by_name() -> None:
    """Steps and groups alike."""
    result = mixed()
    assert [result.steps[0], result.steps[2]] == [result["first"], result["bad"]]
    assert result.groups["g"] is result["g"]


def test_an_unknown_name_is_a_key_error() -> None:
    """`in` tells beforehand."""
    result = mixed()
    assert [True, True, False] == [name in result for name in ("first", "g", "other")]
    with pytest.raises(KeyError, match="other"):
        result["other"]


def test_values_are_those_of_completed_steps(worker_pool: Pool) -> None:
    """By name, in definition order; failed steps have none."""
    assert [("first", "of first"), ("good", "of good")] == [*mixed(worker_pool).values.items()]


def test_times_are_utc_and_seconds(pool: Pool) -> None:
    """`started_at` is an aware UTC time; durations are floats."""
    before = dt.datetime.now(dt.UTC)
    result = Flow("flow").step("a", lambda ctx: ctx.sleep(0.01), pool=pool).run()
    after = dt.datetime.now(dt.UTC)
    assert before <= result.started_at <= result["a"].started_at <= after
    assert [dt.timedelta()] * 2 == [at.utcoffset() for at in (result.started_at, before)]
    assert 0.01 <= result["a"].duration <= result.duration
    assert [float] * 4 == [
        type(seconds)
        for seconds in (
            result.duration,
            result["a"].duration,
            result["a"].queued,
            result["a"].backoff,
        )
    ]


# --- raise_for_status ------------------------------------------------------------------------


def test_raise_for_status_returns_a_completed_result() -> None:
    """So that calls can be chained."""
    result = mixed()
    assert result is result.raise_for_status()


def test_raise_for_status_raises_for_a_failed_one() -> None:
    """With the result, chained from the flow's error."""
    result = failed()
    with pytest.raises(FlowFailedError) as raised:
        result.raise_for_status()
    assert (FlowFailedError, True, True) == (
        type(raised.value), raised.value.result is result, raised.value.__cause__ is result.error,
    )  # fmt: skip


def test_raise_for_status_tells_an_incomplete_rollback() -> None:
    """`RollbackIncompleteError` has the errors of the compensations, too."""
    result = failed(undo=fail)
    with pytest.raises(RollbackIncompleteError) as raised:
        result.raise_for_status()
    assert (True, True) == (
        raised.value.result is result, raised.value.__cause__ is result.error,
    )  # fmt: skip
    assert [result.compensations[0].error] == list(raised.value.compensation_errors)


# --- StepResult ------------------------------------------------------------------------------


def worker_of(ctx: Context) -> tuple[str, int]:
    """Return the thread's name and the process."""
    return threading.current_thread().name, os.getpid()


def name_of(pool: Pool) -> str:
    """Return what a result calls the pool."""
    return pool if isinstance(pool, str) else "ThreadPoolExecutor"


def test_a_completed_step(pool: Pool) -> None:
    """Value, attempts and place are on record."""
    step = Flow("flow").step("a", worker_of, pool=pool).run()["a"]
    assert ("a", None, StepStatus.COMPLETED, True, None, 1, name_of(pool), None, 0.0) == (
        step.name, step.group, step.status, step.ok, step.error, step.attempts, step.pool,
        step.compensation, step.backoff,
    )  # fmt: skip
    thread, process = step.value
    assert step.worker == (process if pool == "process" else thread)


def test_a_failed_step(pool: Pool) -> None:
    """It has an error and no value."""
    step = Flow("flow").step("a", fail, pool=pool, retries=1).run()["a"]
    assert (StepStatus.FAILED, False, None, BodyError, 2) == (
        step.status, step.ok, step.value, type(step.error), step.attempts,
    )  # fmt: skip


def test_a_skipped_step(pool: Pool) -> None:
    """Nothing happened to it."""
    step = Flow("flow").step("bad", fail).step("a", do_nothing, pool=pool).run()["a"]
    assert (StepStatus.SKIPPED, False, None, None, 0, None, None, name_of(pool), None) == (
        step.status, step.ok, step.value, step.error, step.attempts, step.started_at,
        step.worker, step.pool, step.compensation,
    )  # fmt: skip
    assert (0.0, 0.0, 0.0) == (step.queued, step.duration, step.backoff)


def test_a_cancelled_step(worker_pool: Pool) -> None:
    """A member that never started has no times and no worker."""
    steps = [Step("bad", fail), Step("a", do_nothing)]
    flow = Flow("flow").parallel("g", steps, fail_fast=True, max_concurrency=1, pool=worker_pool)
    step = flow.run()["a"]
    assert (StepStatus.CANCELLED, False, None, 0, None, None, "g") == (
        step.status, step.ok, step.value, step.attempts, step.started_at, step.worker, step.group,
    )  # fmt: skip


def test_queued_is_the_wait_for_a_worker() -> None:
    """A member that had to wait says how long; its duration is that of its body alone."""
    steps = [Step("first", lambda ctx: ctx.sleep(0.1)), Step("second", do_nothing)]
    with ThreadPool(1) as pool:
        result = Flow("flow").parallel("g", steps, pool=pool, max_concurrency=2).run()
    assert result["second"].queued >= 0.1 > result["second"].duration


def test_duration_is_from_first_start_to_settled(pool: Pool) -> None:
    """Waits between attempts are in it."""
    flow = Flow("flow").step("a", fail, pool=pool, retries=2, retry_delay=0.02)
    step = flow.run()["a"]
    assert step.duration >= step.backoff >= 0.04


# --- GroupResult -----------------------------------------------------------------------------


def test_a_group_counts_its_members(worker_pool: Pool) -> None:
    """By status."""
    steps = [Step("a", do_nothing), Step("b", do_nothing), Step("bad", fail), Step("d", do_nothing)]
    flow = Flow("flow").parallel("g", steps, fail_fast=True, max_concurrency=1, pool=worker_pool)
    group = flow.run()["g"]
    assert (2, 1, 1) == (group.completed, group.failed, group.cancelled)


def test_a_failed_group(worker_pool: Pool) -> None:
    """It has an error and the results of its members, the same objects."""
    result = Flow("flow").parallel("g", [Step("a", fail), Step("b", fail)], pool=worker_pool).run()
    group = result["g"]
    assert ("g", StepStatus.FAILED, False) == (group.name, group.status, group.ok)
    assert group.error is result.error
    assert all(one is other for one, other in zip(group.steps, result.steps, strict=True))


def test_a_completed_group() -> None:
    """It has no error, whatever became of its members, and lasts as long as the longest."""
    group = mixed()["g"]
    assert (StepStatus.COMPLETED, True, None) == (group.status, group.ok, group.error)
    assert group.duration >= max(step.duration for step in group.steps)


def test_a_group_that_was_never_reached() -> None:
    """It is skipped, and so are its members."""
    flow = Flow("flow").step("bad", fail).parallel("g", [Step("a", do_nothing)])
    group = flow.run()["g"]
    assert (StepStatus.SKIPPED, None, (0, 0, 0), ["skipped"]) == (
        group.status, group.error, (group.completed, group.failed, group.cancelled),
        [step.status for step in group.steps],
    )  # fmt: skip


def test_groups_are_those_of_the_flow() -> None:
    """By name, in definition order."""
    flow = Flow("flow")
    for name in "zab":
        flow.parallel(name, [Step(f"in-{name}", do_nothing)])
    assert ["z", "a", "b"] == list(flow.run().groups)


# --- CompensationResult ----------------------------------------------------------------------


def test_a_compensation_is_on_record(pool: Pool) -> None:
    """Every field."""
    result = failed(undo=Step("undo", lambda ctx: ctx.sleep(0.01), pool=pool))
    (compensation,) = result.compensations
    assert ("a", CompensationStatus.COMPLETED, True, None, 1, False) == (
        compensation.step_name, compensation.status, compensation.ok, compensation.error,
        compensation.attempts, compensation.late,
    )  # fmt: skip
    assert result["bad"].started_at <= compensation.started_at
    assert 0.01 <= compensation.duration <= result.duration


def test_a_failed_compensation_is_on_record(pool: Pool) -> None:
    """With its error."""
    (compensation,) = failed(undo=Step("undo", fail, pool=pool)).compensations
    assert (CompensationStatus.FAILED, False, BodyError) == (
        compensation.status, compensation.ok, type(compensation.error),
    )  # fmt: skip


# --- as text and data ------------------------------------------------------------------------


def interesting(worker_pool: Pool, gate: Gate) -> FlowResult:
    """Run a flow that leaves something in every field."""

    def hang(ctx: Context) -> None:
        gate.wait()

    flow = Flow("flow").step("a", lambda ctx: float("nan"), compensate=fail)
    steps = [Step("slow", hang, timeout=0.05, pool="thread"), Step("b", lambda ctx: object())]
    return flow.parallel("g", steps, pool=worker_pool).step("bad", fail).run()


def test_to_dict_is_plain_data(worker_pool: Pool, gate: Gate) -> None:
    """`json.dumps` takes it, strictly; keys are attribute names, and there is a version."""
    data = interesting(worker_pool, gate).to_dict()
    data = json.loads(json.dumps(data, allow_nan=False))
    assert ("failed", "incomplete", ["slow"], ["a", "slow", "b", "bad"]) == (
        data["status"], data["rollback"], data["abandoned"],
        [step["name"] for step in data["steps"]],
    )  # fmt: skip
    assert data["steps"][0]["value"] is None
    assert "schema_version" in data


def test_a_table_shows_every_step(worker_pool: Pool, gate: Gate) -> None:
    """As text and as HTML."""
    result = interesting(worker_pool, gate)
    for text in (result.table(), result._repr_html_()):
        assert all(name in text for name in ("slow", "bad", "failed", "completed"))


# --- validate --------------------------------------------------------------------------------


def test_validate_makes_the_input(pool: Pool) -> None:
    """What it returns becomes `ctx.input`."""
    flow = Flow("flow", validate=int).step("a", lambda ctx: ctx.input, pool=pool)
    assert 5 == flow.run("5")["a"].value


class Adapter:
    """An object with `validate_python`, as pydantic's `TypeAdapter`."""

    def validate_python(self, value: str) -> int:
        """Turn text into a number."""
        return int(value)


def test_validate_python_makes_the_input(pool: Pool) -> None:
    """An adapter object does as well as a function."""
    flow = Flow("flow", validate=Adapter()).step("a", lambda ctx: ctx.input, pool=pool)
    assert 5 == flow.run("5")["a"].value


@pytest.mark.parametrize("validate", [int, Adapter()], ids=["function", "adapter"])
def test_an_input_that_is_not_valid_fails_the_flow(validate: Any) -> None:
    """Nothing runs, and the error's cause is what `validate` raised."""
    ran = []
    flow = Flow("flow", validate=validate).step("a", lambda ctx: ran.append("a"))
    result = flow.run("five")
    assert ("failed", InputValidationError, ValueError, [], "skipped") == (
        result.status, type(result.error), type(result.error.__cause__), ran, result["a"].status,
    )  # fmt: skip


def test_a_result_stays_as_it_is(worker_pool: Pool) -> None:
    """A later run of the same flow, or a cancelled token, does not change it."""
    token = CancelToken()
    flow = Flow("flow").step("a", lambda ctx: ctx.input, pool=worker_pool)
    result = flow.run(1, cancel=token)
    before = result.to_dict()
    flow.step("b", sleep_long)
    flow.run(2, timeout=0.05)
    token.cancel()
    assert before == result.to_dict()
