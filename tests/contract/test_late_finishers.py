"""The world matches the record: abandoned bodies that return after all are undone."""

from __future__ import annotations

import logging
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
from late_scene import SHORT, UNDONE, Scene

from syncflow import CancelToken, Context, Event, Flow, FlowResult, Hooks, Step
from syncflow.testing import FaultPlan

#: Runs go by a fake clock; bodies in processes, and whoever waits for them, by the real one.
pytestmark = pytest.mark.usefixtures("clock")

Gates = Callable[[str], Gate]


# --- when ------------------------------------------------------------------------------------


def test_a_late_finisher_is_undone_while_the_run_goes_on(scene: Scene) -> None:
    """It is undone with the writes and the value of its own attempt."""
    result = scene.tolerated().step("finish", scene.finish).run(drain=PATIENCE)
    assert [UNDONE] == scene.journal.lines
    assert ("completed", "failed", "completed") == (
        result.status, result["slow"].status, result["slow"].compensation,
    )  # fmt: skip


def test_a_late_finisher_is_undone_on_its_own_thread(scene: Scene) -> None:
    """Right then, where the body has returned."""
    scene.tolerated().step("finish", scene.finish).run(drain=PATIENCE)
    assert [scene.body_thread] == scene.undo_threads


def test_a_late_compensation_is_on_record(scene: Scene) -> None:
    """It is marked as late."""
    result = scene.tolerated().step("finish", scene.finish).run(drain=PATIENCE)
    expected = [("slow", "completed", 1, True)]
    assert expected == [(c.step_name, c.status, c.attempts, c.late) for c in result.compensations]


def test_a_late_finisher_is_undone_after_run_has_returned(scene: Scene) -> None:
    """The result says what is still running, and that its undoing is owed."""
    result = Flow("flow").step(scene.step()).run()
    assert (("slow",), "incomplete", []) == (
        result.abandoned, result.rollback, scene.journal.lines,
    )  # fmt: skip
    scene.finish(None)
    assert [UNDONE] == scene.journal.lines
    assert ((), "incomplete") == (result.compensations, result.rollback)


def test_a_late_finisher_is_undone_during_the_rollback(scene: Scene) -> None:
    """While another compensation is still running."""
    flow = Flow("flow").step("first", do_nothing, compensate=scene.finish).step(scene.step())
    result = flow.run(drain=PATIENCE)
    assert [UNDONE] == scene.journal.lines
    assert ({"first", "slow"}, "complete") == (
        {one.step_name for one in result.compensations}, result.rollback,
    )  # fmt: skip


def test_a_cancelled_step_that_finishes_late_is_undone(scene: Scene) -> None:
    """A body that did not stop within its grace was abandoned, too."""
    token = CancelToken()
    flow = Flow("flow", hooks=[When("on_step_start", token.cancel)])
    flow.step(scene.step(timeout=None, grace=SHORT))
    result = flow.run(cancel=token)
    assert ("cancelled", ("slow",)) == (result["slow"].status, result.abandoned)
    scene.finish(None)
    assert [UNDONE] == scene.journal.lines


def test_a_member_that_finishes_after_its_groups_time_is_undone(scene: Scene) -> None:
    """The group's timeout abandons as the member's own does."""
    steps = [scene.step(timeout=None), Step("good", do_nothing)]
    flow = Flow("flow").parallel("g", steps, timeout=SHORT).step("finish", scene.finish)
    flow.run(drain=PATIENCE)
    assert [UNDONE] == scene.journal.lines


@pytest.mark.xdist_group("process")
def test_a_process_that_returns_although_its_time_is_up_is_undone(
    gates: Gates, journal: Journal
) -> None:
    """The step has timed out, and what its body did is undone."""
    undone = gates("undone")

    def stubborn(ctx: Context) -> str:
        try:
            ctx.sleep(1000)
        finally:
            return "done"  # noqa: B012 - swallows the interrupt, as a body should not

    def undo(ctx: Context) -> None:
        journal.add(ctx.value("stubborn"))
        undone.open()

    step = Step("stubborn", stubborn, pool="process", timeout=0.1, compensate=undo)
    result = Flow("flow").step(step).run(drain=PATIENCE)
    assert (["done"], TimeoutError) == (
        journal.lines, TimeoutError if isinstance(result.error, TimeoutError) else result.error,
    )  # fmt: skip


# --- what is not undone ----------------------------------------------------------------------


def test_a_late_error_is_not_undone(scene: Scene, recorder: Recorder) -> None:
    """A body that raises has not finished."""

    def body(ctx: Context) -> None:
        scene.release.wait()
        raise BodyError("late")

    slow = Step("slow", body, pool=scene.pool, timeout=SHORT, compensate=scene.undo)
    flow = Flow("flow", hooks=[recorder]).parallel("g", [slow, Step("good", do_nothing)])
    result = flow.step("release", lambda ctx: scene.release.open()).run(drain=PATIENCE)
    assert ([], (), ()) == (scene.journal.lines, result.compensations, result.abandoned)
    assert [] == recorder.of("on_late_finish")


# --- the hook, the log and failing compensations ---------------------------------------------


class LateHook(Hooks):
    """Keep the late finishes, and the threads that told."""

    def __init__(self) -> None:
        self.seen: list[tuple[Event, threading.Thread]] = []

    def on_late_finish(self, event: Event) -> None:
        """Keep it."""
        self.seen.append((event, threading.current_thread()))


@pytest.mark.parametrize("undoing", [True, False], ids=["with", "without"])
def test_the_hook_comes_from_the_finishing_thread(scene: Scene, undoing: bool) -> None:
    """`on_late_finish` fires once, with or without a compensation."""
    hook = LateHook()
    options = {} if undoing else {"compensate": None}
    flow = scene.tolerated(hooks=[hook], **options)
    flow.step("release", lambda ctx: scene.release.open()).run(drain=PATIENCE, run_id="run-1")
    ((event, thread),) = hook.seen
    assert ("flow", "run-1", "slow", 1) == (
        event.flow_name, event.run_id, event.step_name, event.attempt,
    )  # fmt: skip
    assert thread is scene.body_thread


def test_a_late_finish_is_logged(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody may want to know."""
    with caplog.at_level(logging.DEBUG, "syncflow"):
        scene.tolerated().step("finish", scene.finish).run(drain=PATIENCE)
    assert any("'slow'" in record.getMessage() for record in caplog.records)


def test_a_late_compensation_that_raises_is_recorded_and_logged(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """The hook fires all the same, and the rollback is incomplete."""
    hook = LateHook()
    flow = Flow("flow", hooks=[hook]).step("first", do_nothing, compensate=_opening(scene))
    with caplog.at_level(logging.ERROR, "syncflow"):
        result = flow.step(scene.step(compensate=fail)).run(drain=PATIENCE)
    (late,) = [one for one in result.compensations if one.late]
    assert ("slow", "failed", BodyError) == (late.step_name, late.status, type(late.error))
    assert ("incomplete", "failed") == (result.rollback, result["slow"].compensation)
    assert (1, 1) == (len(hook.seen), len(caplog.records))


def _opening(scene: Scene) -> Callable[[Context], None]:
    return lambda ctx: scene.release.open()


def test_a_late_compensation_has_its_own_options(scene: Scene) -> None:
    """Its retries and its pool are those of any compensation."""

    def undo(ctx: Context) -> None:
        if ctx.attempt == 1:
            raise BodyError("once")
        scene.undo(ctx)

    step = Step("undo", undo, pool="thread", retries=1, timeout=100)
    result = scene.tolerated(compensate=step).step("finish", scene.finish).run(drain=PATIENCE)
    assert [("completed", 2, True)] == [
        (c.status, c.attempts, c.late) for c in result.compensations
    ]


@pytest.mark.xdist_group("process")
def test_a_late_compensation_may_run_in_a_process(scene: Scene) -> None:
    """It finds the late writes and the late value there, too."""
    undone, journal = scene.undone, scene.journal

    def undo(ctx: Context) -> None:
        journal.add(ctx.step_name, ctx.get("mark"), ctx.value("slow"))
        undone.open()

    step = Step("undo", undo, pool="process")
    scene.tolerated(compensate=step).step("finish", scene.finish).run(drain=PATIENCE)
    assert [UNDONE] == scene.journal.lines


# --- drain and abandoned ---------------------------------------------------------------------


def draining(scene: Scene, drain: float) -> FlowResult:
    """Run a flow that fails with a hanging body, which goes on soon after."""
    plan = FaultPlan()
    plan.finish_late("slow", after=2 * SHORT)
    scene.release.open()
    return plan.on(Flow("flow").step(scene.step())).run(drain=drain)


def test_drain_waits_for_abandoned_bodies(scene: Scene) -> None:
    """What they did is undone before `run` returns, and on record."""
    result = draining(scene, PATIENCE)
    assert ((), "complete", [UNDONE]) == (
        result.abandoned, result.rollback, scene.journal.lines,
    )  # fmt: skip


def test_drain_waits_no_longer_than_it_is_told(scene: Scene) -> None:
    """A body that hangs for longer is named."""
    result = Flow("flow").step(scene.step()).run(drain=0.01)
    assert (("slow",), "incomplete") == (result.abandoned, result.rollback)


def test_drain_of_nothing_takes_no_time() -> None:
    """There is nobody to wait for."""
    assert Flow("flow").step("a", do_nothing).run(drain=1000).duration < 100


def test_a_completed_flow_needs_no_rollback_whatever_it_owes(scene: Scene) -> None:
    """What is owed to abandoned bodies is in `abandoned`."""
    result = scene.tolerated().run()
    assert ("completed", "not_needed", ("slow",)) == (
        result.status, result.rollback, result.abandoned,
    )  # fmt: skip


def test_without_a_compensation_nothing_is_owed(scene: Scene) -> None:
    """An abandoned body that nobody could undo leaves no rollback incomplete."""
    result = Flow("flow").step(scene.step(compensate=None)).run()
    assert (("slow",), "not_needed") == (result.abandoned, result.rollback)


def test_abandoned_names_each_step_once(scene: Scene) -> None:
    """However many of its attempts are still running."""

    def hang(ctx: Context) -> None:
        scene.release.wait()

    steps = [Step("a", hang, timeout=SHORT, retries=2), Step("b", hang, timeout=SHORT)]
    assert ("a", "b") == Flow("flow").parallel("g", steps).run().abandoned
