"""What is undone when a flow fails, in which order, and what is on record for it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from contract_tools import (
    BodyError,
    Gate,
    Journal,
    Pool,
    Unpicklable,
    When,
    do_nothing,
    fail,
    sleep_long,
    swallow_everything,
)

from syncflow import (
    CompensationStatus,
    Context,
    Flow,
    FlowResult,
    RollbackStatus,
    Step,
    StepTimeoutError,
)

#: Runs go by a fake clock; bodies in processes, and whoever waits for them, by the real one.
pytestmark = pytest.mark.usefixtures("clock")


def undoing(journal: Journal) -> Callable[[Context], None]:
    """Return a compensation that notes whose it is."""
    return lambda ctx: journal.add(ctx.step_name)


def failing_once(ctx: Context) -> None:
    """Fail at the first attempt."""
    if ctx.attempt == 1:
        raise BodyError("once")


def rolled_back(undo: Any, pool: Pool | None = None, value: Any = None) -> FlowResult:
    """Run a flow whose first step completes and whose second fails."""
    flow = Flow("flow").step("a", lambda ctx: value, compensate=undo, pool=pool)
    return flow.step("bad", fail).run("input", run_id="run-1")


# --- what is undone, and in which order ------------------------------------------------------


def test_completed_steps_are_undone_in_reverse(pool: Pool, journal: Journal) -> None:
    """The last one first."""
    flow = Flow("flow")
    for name in "abc":
        flow.step(name, do_nothing, pool=pool, compensate=undoing(journal))
    flow.step("bad", fail, pool=pool).run()
    assert ["c", "b", "a"] == journal.lines


def test_members_are_undone_in_reverse_declaration_order(
    worker_pool: Pool, journal: Journal, gate: Gate
) -> None:
    """Whatever order they completed in."""

    def last(ctx: Context) -> None:
        gate.wait()

    undo = {"compensate": undoing(journal)}
    opener = When("on_step_complete", gate.open, step="b")
    flow = Flow("flow", hooks=[opener]).step("first", do_nothing, **undo)
    flow.parallel("g", [Step("a", last, **undo), Step("b", do_nothing, **undo)], pool=worker_pool)
    flow.step("bad", fail).run()
    assert ["b", "a", "first"] == journal.lines


def test_completed_members_of_a_failed_group_are_undone(
    worker_pool: Pool, journal: Journal
) -> None:
    """With the same discipline as sequential steps."""
    undo = {"compensate": undoing(journal)}
    flow = Flow("flow").step("first", do_nothing, **undo)
    steps = [Step("a", do_nothing, **undo), Step("bad", fail, **undo)]
    flow.parallel("g", steps, fail_fast=True, max_concurrency=1, pool=worker_pool).run()
    assert ["a", "first"] == journal.lines


def test_nothing_is_undone_when_the_flow_completes(pool: Pool, journal: Journal) -> None:
    """A completed flow needs no rollback."""
    result = Flow("flow").step("a", do_nothing, pool=pool, compensate=undoing(journal)).run()
    assert ([], "not_needed", ()) == (journal.lines, result.rollback, result.compensations)


def test_what_failed_is_not_undone(pool: Pool, journal: Journal) -> None:
    """Nor is what was skipped."""
    flow = Flow("flow").step("bad", fail, pool=pool, compensate=undoing(journal))
    flow.step("skipped", do_nothing, compensate=undoing(journal)).run()
    assert [] == journal.lines


def test_steps_without_a_compensation_are_passed_over(journal: Journal) -> None:
    """They have no compensation on record."""
    flow = Flow("flow").step("a", do_nothing, compensate=undoing(journal)).step("b", do_nothing)
    result = flow.step("bad", fail).run()
    assert ["a"] == journal.lines
    assert ["completed", None, None] == [step.compensation for step in result.steps]


def test_compensations_run_in_the_thread_that_called_run(pool: Pool) -> None:
    """One after the other, wherever their steps ran."""
    seen = []
    rolled_back(lambda ctx: seen.append(threading.current_thread()), pool)
    assert [threading.current_thread()] == seen


def test_failed_members_of_a_tolerated_group_are_not_undone(
    worker_pool: Pool, journal: Journal
) -> None:
    """The completed ones are, when the flow fails later."""
    undo = {"compensate": undoing(journal)}
    steps = [Step("good", do_nothing, **undo), Step("failed", fail, **undo)]
    result = Flow("flow").parallel("g", steps, pool=worker_pool).step("bad", fail).run()
    assert ["good"] == journal.lines
    assert ["completed", None, None] == [step.compensation for step in result.steps]


# --- compensate_on="started" -----------------------------------------------------------------


def started(body: Callable[[Context], Any], journal: Journal, **options: Any) -> Step:
    """Return a step that is undone as soon as it has started."""
    return Step("s", body, compensate=undoing(journal), compensate_on="started", **options)


def test_a_failed_step_is_undone_if_it_wants_to(pool: Pool, journal: Journal) -> None:
    """Its outcome is unknown."""
    Flow("flow").step(started(fail, journal, pool=pool)).run()
    assert ["s"] == journal.lines


def test_a_step_is_undone_once_whatever_its_attempts(pool: Pool, journal: Journal) -> None:
    """A compensation belongs to the step, not to the attempt."""
    Flow("flow").step(started(fail, journal, pool=pool, retries=2)).run()
    assert ["s"] == journal.lines


def test_a_timed_out_step_is_undone_if_it_wants_to(worker_pool: Pool, journal: Journal) -> None:
    """A timeout leaves the outcome unknown."""
    Flow("flow").step(started(sleep_long, journal, pool=worker_pool, timeout=0.1)).run(drain=5)
    assert ["s"] == journal.lines


def test_an_interrupted_step_is_undone_if_it_wants_to(
    worker_pool: Pool, journal: Journal, gate: Gate
) -> None:
    """So does an interrupt."""

    def body(ctx: Context) -> None:
        gate.open()
        sleep_long(ctx)

    def fail_later(ctx: Context) -> None:
        gate.wait()
        raise BodyError

    steps = [started(body, journal), Step("bad", fail_later)]
    Flow("flow").parallel("g", steps, fail_fast=True, pool=worker_pool, max_concurrency=2).run()
    assert ["s"] == journal.lines


@pytest.mark.xdist_group("process")
def test_a_crashed_step_is_undone_if_it_wants_to(journal: Journal) -> None:
    """So does a crash."""
    Flow("flow").step(started(lambda ctx: os._exit(1), journal, pool="process")).run()
    assert ["s"] == journal.lines


def test_a_step_that_never_started_is_not_undone(worker_pool: Pool, journal: Journal) -> None:
    """A member that was cancelled with 0 attempts has done nothing."""
    steps = [Step("bad", fail), started(do_nothing, journal)]
    Flow("flow").parallel("g", steps, fail_fast=True, max_concurrency=1, pool=worker_pool).run()
    assert [] == journal.lines


@pytest.mark.xdist_group("process")
def test_a_step_whose_function_never_arrived_is_not_undone(journal: Journal) -> None:
    """A function that cannot be pickled is no start."""
    caught = Unpicklable()
    Flow("flow").step(started(lambda ctx: caught, journal, pool="process")).run()
    assert [] == journal.lines


def test_a_failed_member_of_a_tolerated_group_is_undone_if_it_wants_to(
    worker_pool: Pool, journal: Journal
) -> None:
    """When the flow fails later."""
    steps = [Step("good", do_nothing), started(fail, journal)]
    Flow("flow").parallel("g", steps, pool=worker_pool).step("bad", fail).run()
    assert ["s"] == journal.lines


def test_an_abandoned_body_is_not_waited_for(
    abandoning_pool: Pool, journal: Journal, gate: Gate
) -> None:
    """The compensation runs while the body still hangs."""

    def hang(ctx: Context) -> None:
        gate.wait()
        raise BodyError

    result = Flow("flow").step(started(hang, journal, pool=abandoning_pool, timeout=0.05)).run()
    assert (["s"], ("s",)) == (journal.lines, result.abandoned)


# --- compensations with options --------------------------------------------------------------


@pytest.mark.xdist_group("process")
def test_a_compensation_may_have_a_pool(journal: Journal) -> None:
    """`compensate=Step(...)` chooses where it runs."""
    rolled_back(Step("undo", lambda ctx: journal.add(os.getpid()), pool="process"))
    (pid,) = journal.lines
    assert str(os.getpid()) != pid


def test_a_compensation_with_a_timeout_runs_on_a_thread() -> None:
    """Nobody could end it inline."""
    seen = []
    rolled_back(Step("undo", lambda ctx: seen.append(threading.current_thread()), timeout=100))
    (thread,) = seen
    assert threading.current_thread() is not thread


def test_a_compensation_may_have_retries(pool: Pool) -> None:
    """It is tried as often as it says."""
    result = rolled_back(Step("undo", failing_once, pool=pool, retries=1))
    (compensation,) = result.compensations
    assert ("completed", 2, None) == (
        compensation.status, compensation.attempts, compensation.error,
    )  # fmt: skip


def test_a_compensation_that_takes_too_long_fails(worker_pool: Pool, journal: Journal) -> None:
    """Its own timeout ends it; the others run."""
    flow = Flow("flow").step("first", do_nothing, compensate=undoing(journal))
    undo = Step("undo", sleep_long, pool=worker_pool, timeout=0.1)
    result = flow.step("a", do_nothing, compensate=undo).step("bad", fail).run(drain=5)
    assert StepTimeoutError is type(result.compensations[0].error)
    assert (["first"], "incomplete") == (journal.lines, result.rollback)


@pytest.mark.xdist_group("process")
@pytest.mark.parametrize("end", [lambda ctx: os._exit(1), swallow_everything])
def test_a_compensation_that_loses_its_worker_fails(
    end: Callable[[Context], Any], journal: Journal
) -> None:
    """A crash or a kill fails it; the others run."""
    flow = Flow("flow").step("first", do_nothing, compensate=undoing(journal))
    undo = Step("undo", end, pool="process", timeout=0.2, grace=0.1)
    result = flow.step("a", do_nothing, compensate=undo).step("bad", fail).run()
    assert ["failed", "completed"] == [one.status for one in result.compensations]
    assert ["first"] == journal.lines


# --- what a compensation sees ----------------------------------------------------------------


def seen_by_a_compensation(
    look: Callable[[Context], Any], pool: Pool, journal: Journal, value: Any = None
) -> str:
    """Return what a compensation found, as text."""
    undo = Step("undo", lambda ctx: journal.add(look(ctx)), pool=pool)
    rolled_back(undo, value=value)
    return journal.lines[0]


LOOKS: list[tuple[Callable[[Context], Any], str]] = [
    (lambda ctx: ctx.step_name, "a"),
    (lambda ctx: ctx.flow_name, "flow"),
    (lambda ctx: ctx.run_id, "run-1"),
    (lambda ctx: ctx.idempotency_key, "run-1:a"),
    (lambda ctx: ctx.attempt, "1"),
    (lambda ctx: ctx.input, "input"),
    (lambda ctx: ctx.value("a"), "value of a"),
    (lambda ctx: ctx.value("bad", "none"), "none"),
    (lambda ctx: str(ctx.results["bad"].status), "failed"),
    (lambda ctx: type(ctx.error).__name__, "BodyError"),
    (lambda ctx: str(ctx.error), "bad"),
    (lambda ctx: ctx.remaining, "None"),
    (lambda ctx: ctx.cancelled, "False"),
]


@pytest.mark.parametrize(("look", "expected"), LOOKS)
def test_a_compensation_sees_its_step_and_the_error(
    pool: Pool, journal: Journal, look: Callable[[Context], Any], expected: str
) -> None:
    """Its names and value are those of its step; `ctx.error` is what caused the rollback."""
    assert expected == seen_by_a_compensation(look, pool, journal, "value of a")


def test_a_compensation_sees_the_very_error(sharing_pool: Pool) -> None:
    """Where nothing crosses a process, it is the flow's own error."""
    seen = []
    result = rolled_back(Step("undo", lambda ctx: seen.append(ctx.error), pool=sharing_pool))
    assert [result.error] == seen


# --- failing compensations -------------------------------------------------------------------


def test_a_failing_compensation_is_recorded_and_stops_nobody(pool: Pool, journal: Journal) -> None:
    """The others run, and the flow's own error stays."""
    flow = Flow("flow").step("first", do_nothing, compensate=undoing(journal))
    flow.step("a", do_nothing, compensate=Step("undo", fail, pool=pool, retries=1))
    result = flow.step("bad", fail).run()
    failed = result.compensations[0]
    assert ("a", "failed", 2, BodyError) == (
        failed.step_name, failed.status, failed.attempts, type(failed.error),
    )  # fmt: skip
    assert (["first"], "bad") == (journal.lines, str(result.error))


def test_a_compensation_that_exits_has_failed(pool: Pool, journal: Journal) -> None:
    """It ends neither the caller nor the rollback."""

    def leave(ctx: Context) -> None:
        raise SystemExit(3)

    flow = Flow("flow").step("first", do_nothing, compensate=undoing(journal))
    flow.step("a", do_nothing, compensate=Step("undo", leave, pool=pool))
    result = flow.step("bad", fail).run()
    assert (["failed", "completed"], ["first"]) == (
        [one.status for one in result.compensations], journal.lines,
    )  # fmt: skip


def test_a_failing_compensation_is_logged(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    """The log names the step."""
    with caplog.at_level(logging.DEBUG, "syncflow"):
        rolled_back(Step("undo", fail, pool=pool))
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "'a'" in record.getMessage()
    assert BodyError is record.exc_info[0]


# --- the record ------------------------------------------------------------------------------


def test_a_failed_flow_that_had_nothing_to_undo_needs_no_rollback(pool: Pool) -> None:
    """Nothing with a compensation has completed."""
    result = Flow("flow").step("a", do_nothing).step("bad", fail, pool=pool).run()
    assert RollbackStatus.NOT_NEEDED == result.rollback


@pytest.mark.parametrize(
    ("undo", "rollback", "status"),
    [
        (do_nothing, RollbackStatus.COMPLETE, CompensationStatus.COMPLETED),
        (fail, RollbackStatus.INCOMPLETE, CompensationStatus.FAILED),
    ],
)
def test_the_rollback_is_on_record(
    pool: Pool, undo: Callable[[Context], None], rollback: str, status: str
) -> None:
    """It is complete, or incomplete when a compensation failed."""
    result = rolled_back(Step("undo", undo, pool=pool))
    assert (rollback, status, status) == (
        result.rollback, result["a"].compensation, result.compensations[0].status,
    )  # fmt: skip


def test_compensations_are_on_record_in_the_order_they_ran() -> None:
    """The last step comes first."""
    flow = Flow("flow")
    for name in "abc":
        flow.step(name, do_nothing, compensate=fail if name == "b" else do_nothing)
    result = flow.step("bad", fail).run()
    expected = [("c", "completed"), ("b", "failed"), ("a", "completed")]
    assert expected == [(one.step_name, one.status) for one in result.compensations]
