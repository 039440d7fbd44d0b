"""What comes before what, and what is left as it was: hooks, rollbacks, late finishes."""

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
    wait_until,
)
from late_scene import SHORT, Scene

from syncflow import CancelToken, Context, Flow, FlowResult, ProcessPool, Step
from syncflow.testing import FakeClock

#: Runs go by a fake clock; bodies in processes, and whoever waits for them, by the real one.
pytestmark = pytest.mark.usefixtures("clock")

Gates = Callable[[str], Gate]


# --- starts and ends -------------------------------------------------------------------------


@pytest.mark.xdist_group("process")
def test_a_step_ends_before_the_next_starts_on_its_worker(recorder: Recorder) -> None:
    """With one worker, no two members are ever under way."""
    names = [f"s{number}" for number in range(60)]
    with ProcessPool(1) as pool:
        steps = [Step(name, do_nothing) for name in names]
        Flow("flow", hooks=[recorder]).parallel("g", steps, pool=pool).run()
    pairs = [(f"on_step_start {name}", f"on_step_complete {name}") for name in names]
    assert [call for pair in pairs for call in pair] == recorder.names()[1:-1]


def test_a_step_starts_before_it_fails_however_slow_a_hook_is(
    recorder: Recorder, gate: Gate, clock: FakeClock
) -> None:
    """Its time runs out while the hook of another start is still busy."""
    contexts: list[Context] = []

    def hang(ctx: Context) -> None:
        contexts.append(ctx)
        gate.wait()

    def dawdle() -> None:
        wait_until(lambda: bool(contexts))
        clock.advance(SHORT)

    steps = [Step("quick", do_nothing), Step("hangs", hang, timeout=SHORT)]
    hooks = [recorder, When("on_step_start", dawdle, step="quick")]
    Flow("flow", hooks=hooks).parallel("g", steps, max_concurrency=2).run()
    calls = [name for name in recorder.names() if name.endswith(" hangs")]
    assert ["on_step_start hangs", "on_step_fail hangs"] == calls


# --- the group in events ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("undo", "hooks"),
    [
        (do_nothing, ["on_compensate", "on_compensate_complete"]),
        (fail, ["on_compensate", "on_compensate_fail"]),
    ],
    ids=["completed", "failed"],
)
def test_events_of_a_compensation_name_the_group(
    recorder: Recorder, undo: Callable[[Context], None], hooks: list[str]
) -> None:
    """Of the member that is undone."""
    members = [Step("member", do_nothing, compensate=undo)]
    Flow("flow", hooks=[recorder]).parallel("g", members).step("bad", fail).run()
    assert [(hook, "g") for hook in hooks] == [
        (name, event.group) for name, event, _ in recorder.calls if "compensate" in name
    ]


def test_a_late_finish_names_the_group(scene: Scene, recorder: Recorder) -> None:
    """Of the member that has finished late."""
    flow = scene.tolerated(hooks=[recorder])
    flow.step("finish", scene.finish).run(drain=PATIENCE)
    assert ["g"] == [event.group for event in recorder.of("on_late_finish")]


# --- rollback --------------------------------------------------------------------------------


def test_a_token_does_not_interrupt_a_rollback_off_the_main_thread() -> None:
    """A compensation that is under way when the token is cancelled completes."""
    token, results = CancelToken(), list[FlowResult]()

    def undo(ctx: Context) -> None:
        token.cancel("too late")
        ctx.sleep(2 * SHORT)  # an interrupt would have all this time to come

    flow = Flow("flow").step("a", do_nothing, compensate=Step("undo", undo, pool="thread"))
    flow.step("bad", fail)
    runner = threading.Thread(target=lambda: results.append(flow.run(cancel=token)))
    runner.start()
    runner.join()
    assert [("completed", "complete")] == [
        (result["a"].compensation, result.rollback) for result in results
    ]


@pytest.fixture
def undone_twice(scene: Scene) -> FlowResult:
    """Return a run whose step could not be undone, before its late first attempt could."""

    def undo(ctx: Context) -> None:
        if ctx.value("slow") == "value 2":
            raise BodyError("cannot be undone")
        scene.undo(ctx)

    flow = Flow("flow").step("first", do_nothing, compensate=scene.finish)
    flow.step(scene.step(retries=1, compensate=undo)).step("bad", fail)
    return flow.run(drain=PATIENCE)


def test_a_late_compensation_does_not_hide_a_failed_one(undone_twice: FlowResult) -> None:
    """What completed is still not undone."""
    assert ("failed", "incomplete") == (undone_twice["slow"].compensation, undone_twice.rollback)


def test_a_late_compensation_is_on_record_beside_a_failed_one(undone_twice: FlowResult) -> None:
    """Both are, in the order in which they ended."""
    assert [("failed", False), ("completed", True)] == [
        (one.status, one.late) for one in undone_twice.compensations if one.step_name == "slow"
    ]


# --- abandoned bodies ------------------------------------------------------------------------


def test_an_abandoned_body_reads_the_state_as_it_was(gates: Gates, journal: Journal) -> None:
    """What later steps write is not for it."""
    release, noted = gates("release"), gates("noted")

    def slow(ctx: Context) -> None:
        release.wait()
        journal.add(ctx["key"], ctx.get("new"))
        noted.open()

    def change(ctx: Context) -> None:
        ctx.set("key", "changed")
        ctx.set("new", "written")

    def let_go(ctx: Context) -> None:
        release.open()
        noted.wait()

    flow = Flow("flow").step("before", lambda ctx: ctx.set("key", "original"))
    flow.parallel("g", [Step("slow", slow, timeout=SHORT), Step("good", do_nothing)])
    flow.step("change", change).step("release", let_go).run(drain=PATIENCE)
    assert ["original None"] == journal.lines
