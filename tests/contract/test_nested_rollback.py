"""Flows in flows undo themselves when they fail, and are undone in their place when others do."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from contract_tools import (
    PATIENCE,
    BodyError,
    Gate,
    Journal,
    Recorder,
    When,
    do_nothing,
    fail,
)
from late_scene import SHORT

from syncflow import (
    CancelToken,
    Context,
    Flow,
    FlowFailedError,
    FlowResult,
    RollbackIncompleteError,
    Step,
    StepCancelledError,
    StepInterrupt,
)

#: Runs go by a fake clock; bodies in processes, and whoever waits for them, by the real one.
pytestmark = pytest.mark.usefixtures("clock")

Gates = Callable[[str], Gate]


def noted(journal: Journal, name: str, **options: object) -> Step:
    """Return a step that writes its name into the state, and is undone by telling so."""

    def body(ctx: Context) -> str:
        ctx.set(name, f"{name} wrote")
        return name

    def undo(ctx: Context) -> None:
        journal.add("undo", ctx.step_name)

    return Step(name, body, compensate=undo, **options)  # type: ignore[arg-type]


def checkout(journal: Journal, last: Step) -> Flow:
    """Return a flow of three levels: a payment with two branches, one of them a flow again."""
    card = Flow("card").step(noted(journal, "authorise")).step(noted(journal, "capture"))
    points = Flow("points").step(noted(journal, "lock")).step(noted(journal, "redeem"))
    payment = Flow("payment").step(noted(journal, "open"))
    payment.parallel("both", [card, points]).step(noted(journal, "close"))
    flow = Flow("checkout").step(noted(journal, "reserve")).step(payment)
    return flow.step(noted(journal, "pack")).step(last)


# --- it fails --------------------------------------------------------------------------------


def test_a_flow_that_fails_undoes_itself(journal: Journal) -> None:
    """In reverse, before its step is settled; the outer flow then undoes the rest."""
    sub = Flow("sub").step(noted(journal, "a")).step(noted(journal, "b")).step("bad", fail)
    result = Flow("outer").step(noted(journal, "first")).step(sub).run()
    assert ["undo b", "undo a", "undo first"] == journal.lines
    assert ("complete", "complete") == (result.rollback, result.error.result.rollback)


@pytest.mark.parametrize("fail_fast", [False, True])
def test_a_branch_that_fails_undoes_itself(journal: Journal, fail_fast: bool) -> None:
    """Whatever the group makes of it."""
    sub = Flow("sub").step(noted(journal, "a")).step("bad", fail)
    flow = Flow("outer").parallel("group", [sub], fail_fast=fail_fast)
    assert "failed" == flow.run().status
    assert ["undo a"] == journal.lines


def test_a_tolerated_branch_has_undone_itself(journal: Journal) -> None:
    """The others are not touched."""
    sub = Flow("sub").step(noted(journal, "a")).step("bad", fail)
    flow = Flow("outer").parallel("group", [sub, noted(journal, "sibling")])
    assert "completed" == flow.run().status
    assert ["undo a"] == journal.lines


def test_each_failed_attempt_undoes_itself(journal: Journal) -> None:
    """A retry finds the world as the first attempt did."""
    sub = Flow("sub").step(noted(journal, "a")).step("bad", fail)
    Flow("outer").step("again", sub, retries=2).run()
    assert ["undo a"] * 3 == journal.lines


def test_a_failed_flow_is_not_undone_again(journal: Journal) -> None:
    """It has done that itself; and no step of its own is a step of the outer flow's."""
    sub = Flow("sub").step(noted(journal, "a")).step("bad", fail)
    result = Flow("outer").step(sub).run()
    assert (["undo a"], (), "complete") == (journal.lines, result.compensations, result.rollback)


@pytest.mark.parametrize("pool", ["inline", "thread"])
def test_an_incomplete_rollback_is_passed_on(pool: str) -> None:
    """The step fails with the error that says so, and the outer rollback is incomplete, too."""
    sub = Flow("sub").step("a", do_nothing, compensate=fail).step("bad", fail)
    result = Flow("outer").step("sub", sub, pool=pool).run()
    assert (RollbackIncompleteError, "incomplete") == (type(result.error), result.rollback)
    assert [BodyError] == [type(error) for error in result.error.compensation_errors]
    with pytest.raises(RollbackIncompleteError):
        result.raise_for_status()


def test_what_a_failed_attempt_left_behind_is_not_forgotten(journal: Journal) -> None:
    """A later attempt may complete, and be undone: the first one is still not."""
    attempts: list[int] = []

    def undo(ctx: Context) -> None:
        journal.add("undo", len(attempts))
        if len(attempts) == 1:
            raise BodyError

    def second_time_lucky(ctx: Context) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise BodyError

    sub = Flow("sub").step("a", do_nothing, compensate=undo).step("b", second_time_lucky)
    result = Flow("outer").step("sub", sub, retries=1).step("bad", fail).run()
    assert ["undo 1", "undo 2"] == journal.lines
    assert ("completed", "incomplete") == (result["sub"].compensation, result.rollback)


# --- somebody else fails ---------------------------------------------------------------------


def test_three_levels_are_undone_in_exactly_the_reverse_order(journal: Journal) -> None:
    """The very last step fails: everything goes back, one by one, wherever it ran."""
    result = checkout(journal, Step("send", fail)).run()
    order = ["reserve", "open", "authorise", "capture", "lock", "redeem", "close", "pack"]
    assert [f"undo {name}" for name in reversed(order)] == journal.lines
    assert ["pack", "payment", "reserve"] == [one.step_name for one in result.compensations]
    assert "complete" == result.rollback


def test_it_is_on_record_what_was_undone(journal: Journal) -> None:
    """In the results of all flows and steps: they had completed, and are undone."""
    result = checkout(journal, Step("send", fail)).run()
    payment = result["payment"].value
    card = payment["card"].value
    assert ("completed", "completed") == (result["payment"].status, result["payment"].compensation)
    assert ("completed", "complete") == (payment.status, payment.rollback)
    assert ["close", "points", "card", "open"] == [one.step_name for one in payment.compensations]
    assert ["completed"] * 2 == [step.compensation for step in card.steps]


def test_a_flow_that_needs_no_undoing_is_not_undone(journal: Journal) -> None:
    """Its `rollback` stays as it was."""
    result = Flow("outer").step(Flow("sub").step(noted(journal, "a"))).run()
    assert ([], "not_needed") == (journal.lines, result["sub"].value.rollback)


def test_a_flow_without_compensations_is_passed_over() -> None:
    """As a step without one is."""
    result = Flow("outer").step(Flow("sub").step("a", do_nothing)).step("bad", fail).run()
    assert ((), "not_needed") == (result.compensations, result.rollback)


def test_compensations_run_in_the_thread_that_called_run(gates: Gates) -> None:
    """One at a time, also those of branches that ran on threads."""
    threads: list[threading.Thread] = []

    def undo(ctx: Context) -> None:
        threads.append(threading.current_thread())

    sub = Flow("sub").step("a", do_nothing, compensate=undo)
    Flow("outer").parallel("g", [sub]).step("bad", fail).run()
    assert [threading.current_thread()] == threads


@pytest.mark.xdist_group("process")
def test_compensations_run_on_their_own_pools(journal: Journal) -> None:
    """With their own retries and timeouts, on processes if need be."""

    def undo(ctx: Context) -> None:
        if ctx.attempt == 1:
            raise BodyError
        journal.add("undo", ctx["key"], ctx.value("a"))

    def body(ctx: Context) -> str:
        ctx.set("key", "state")
        return "value"

    undoing = Step("undo", undo, pool="process", retries=1, timeout=100)
    sub = Flow("sub").step("a", body, compensate=undoing)
    assert "complete" == Flow("outer").parallel("g", [sub]).step("bad", fail).run().rollback
    assert ["undo state value"] == journal.lines


def test_a_compensation_sees_its_own_flow(journal: Journal) -> None:
    """Its state with the writes of its step, its values, its run, and why all is undone."""
    seen = []

    def undo(ctx: Context) -> None:
        seen.append(
            (ctx.flow_name, ctx.idempotency_key, ctx["a"], ctx.value("a"), ctx.input, ctx.get("b"))
        )
        assert isinstance(ctx.error, BodyError)

    sub = Flow("sub").step("a", noted(journal, "a").fn, compensate=undo)
    flow = Flow("outer").step("s", sub).step("b", lambda ctx: ctx.set("b", 1)).step("bad", fail)
    assert "complete" == flow.run("input", run_id="R").rollback
    assert [("sub", "R:s:a", "a wrote", "a", "input", None)] == seen


def test_compensations_outside_see_what_those_inside_wrote() -> None:
    """What a step writes is the flow's, also on the way back."""
    seen = []
    sub = Flow("sub").step("a", do_nothing, compensate=lambda ctx: ctx.set("key", "undone"))
    flow = Flow("outer").step("first", do_nothing, compensate=lambda ctx: seen.append(ctx["key"]))
    flow.step(sub).step("bad", fail).run()
    assert ["undone"] == seen


def test_a_compensation_inside_that_fails_stops_no_other(journal: Journal) -> None:
    """The step's own compensation is failed, and every rollback incomplete."""
    sub = Flow("sub").step(noted(journal, "a")).step("b", do_nothing, compensate=fail)
    result = Flow("outer").step(noted(journal, "first")).step(sub).step("bad", fail).run()
    assert ["undo a", "undo first"] == journal.lines
    undone = result.compensations[0]
    assert ("sub", "failed", RollbackIncompleteError) == (
        undone.step_name, undone.status, type(undone.error),
    )  # fmt: skip
    assert result["sub"].value is undone.error.result
    assert ("incomplete", "incomplete") == (result.rollback, result["sub"].value.rollback)
    assert isinstance(result.error, BodyError)


def test_its_hooks_tell_of_compensations(recorder: Recorder, journal: Journal) -> None:
    """Those of the flow whose step is undone; the outer ones see the step that it is."""
    outer = Recorder()
    sub = Flow("sub", hooks=[recorder]).step(noted(journal, "a"))
    Flow("outer", hooks=[outer]).step(sub).step("bad", fail).run()
    assert ["on_compensate a", "on_compensate_complete a"] == recorder.names()[-2:]
    assert ["on_compensate sub", "on_compensate_complete sub", "on_flow_fail"] == outer.names()[-3:]


def test_a_tolerated_failure_inside_is_undone_if_it_may_have_done_something(
    journal: Journal,
) -> None:
    """`compensate_on="started"` holds when the outer flow fails, too."""

    def undo(ctx: Context) -> None:
        journal.add("undo", ctx.step_name)

    unsure = Step("unsure", fail, compensate=undo, compensate_on="started")
    sub = Flow("sub").parallel("inner", [unsure, noted(journal, "sure")])
    Flow("outer").step(sub).step("bad", fail).run()
    assert ["undo sure", "undo unsure"] == journal.lines


def test_a_completed_branch_of_a_failed_group_is_undone(journal: Journal, gates: Gates) -> None:
    """It completed although it was asked to stop too late."""
    done = gates("done")

    def fail_then(ctx: Context) -> None:
        done.wait()
        raise BodyError

    sub = Flow("sub").step(noted(journal, "a"))
    flow = Flow("outer", hooks=[When("on_step_complete", done.open, step="sub")])
    result = flow.parallel("g", [sub, Step("bad", fail_then)], fail_fast=True).run()
    assert (["undo a"], "completed") == (journal.lines, result["sub"].status)


def test_a_conflict_of_state_undoes_both(journal: Journal) -> None:
    """The branches had completed."""
    steps = [Flow(side).step(noted(journal, "same")) for side in ("left", "right")]
    Flow("outer").parallel("g", steps).run()
    assert ["undo same", "undo same"] == journal.lines


# --- late ------------------------------------------------------------------------------------


def test_a_late_finisher_inside_is_undone(gates: Gates, journal: Journal) -> None:
    """`drain` waits for bodies that were abandoned at any depth; the record is put right."""
    release = gates("release")

    def undo(ctx: Context) -> None:
        journal.add("undo", ctx.step_name)

    slow = Step("slow", lambda ctx: release.wait(), timeout=SHORT, compensate=undo)
    sub = Flow("middle").step(Flow("sub").step(slow))
    flow = Flow("outer").step("first", do_nothing, compensate=lambda ctx: release.open())
    result = flow.parallel("g", [sub]).run(drain=PATIENCE)
    inner = result.error.result.error.result
    assert (["undo slow"], (), [True]) == (
        journal.lines, inner.abandoned, [one.late for one in inner.compensations],
    )  # fmt: skip
    assert ("complete", "complete") == (inner.rollback, result.rollback)


def test_what_an_abandoned_body_inside_owes_makes_the_rollback_incomplete(
    gates: Gates, journal: Journal
) -> None:
    """As long as it is owed."""
    release = gates("release")
    slow = Step("slow", lambda ctx: release.wait(), timeout=SHORT, compensate=do_nothing)
    result = Flow("outer").step(Flow("sub").step(slow)).run()
    assert (("slow",), "incomplete") == (result.error.result.abandoned, result.rollback)
    release.open()


def deaf_step(release: Gate, journal: Journal, token: CancelToken) -> Step:
    """Return a step whose flow is cancelled in an inline body that hears of nothing."""
    sub = Flow("sub", hooks=[When("on_step_start", token.cancel, "deaf")])
    sub.step(noted(journal, "a")).step("deaf", lambda ctx: release.wait())
    return Step("sub", sub, pool="thread", grace=0)


def test_a_flow_that_does_not_listen_is_abandoned(gates: Gates, journal: Journal) -> None:
    """An inline body inside is deaf; when it returns after all, the flow undoes itself."""
    release, token = gates("release"), CancelToken()
    flow = Flow("outer").step("first", do_nothing, compensate=lambda ctx: release.open())
    result = flow.step(deaf_step(release, journal, token)).run(cancel=token, drain=PATIENCE)
    assert (["undo a"], ()) == (journal.lines, result.abandoned)
    assert ("cancelled", "complete") == (result["sub"].status, result.rollback)


def test_an_abandoned_flow_is_owed(gates: Gates, journal: Journal) -> None:
    """Until it has ended, nobody knows that it is undone."""
    release, token = gates("release"), CancelToken()
    result = Flow("outer").step(deaf_step(release, journal, token)).run(cancel=token)
    assert (("sub",), "incomplete") == (result.abandoned, result.rollback)
    release.open()


def test_a_flow_that_completes_late_is_undone(
    gates: Gates, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was abandoned in the moment in which it completed: it is undone on its own thread."""
    from syncflow.run import nested

    abandoned = gates("abandoned")
    threads: list[threading.Thread] = []
    run_nested = nested.run_nested

    def lie(flow: Flow, ctx: Context) -> FlowResult:
        result = run_nested(flow, ctx)
        abandoned.wait()
        return result

    def undo(ctx: Context) -> None:
        threads.append(threading.current_thread())
        journal.add("undo", ctx.step_name)

    monkeypatch.setattr(nested, "run_nested", lie)
    sub = Flow("sub").step("a", do_nothing, compensate=undo).step(noted(journal, "b"))
    flow = Flow("outer", hooks=[When("on_step_fail", abandoned.open)])
    result = flow.step("s", sub, timeout=5 * SHORT, grace=0).run(drain=PATIENCE)
    assert ["undo b", "undo a"] == journal.lines
    (late,) = result.compensations
    assert ("s", "completed", True) == (late.step_name, late.status, late.late)
    assert [result["s"].worker] == [thread.name for thread in threads]


def test_the_error_of_a_body_that_was_stopped_keeps_its_cause() -> None:
    """A body that is interrupted may give a cause: it is kept."""

    def body(ctx: Context) -> None:
        try:
            ctx.sleep(1000)
        except StepInterrupt as interrupt:
            raise interrupt from BodyError("because")

    error = Flow("outer").step("a", body).run(timeout=SHORT)["a"].error
    assert (StepCancelledError, ("because",)) == (type(error), error.__cause__.args)


def test_raise_for_status_leads_all_the_way_down() -> None:
    """From the outermost flow to the error in the innermost."""
    inner = Flow("inner").step("bad", fail)
    with pytest.raises(FlowFailedError) as caught:
        Flow("outer").step(Flow("middle").step(inner)).run().raise_for_status()
    names, error = [], caught.value
    while isinstance(error, FlowFailedError):
        names.append(error.result.name)
        error = error.__cause__  # type: ignore[assignment]
    assert (["outer", "middle", "inner"], BodyError) == (names, type(error))
