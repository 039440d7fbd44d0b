"""An abandoned attempt that returns beside, before or after a later attempt of its step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from contract_tools import PATIENCE, BodyError, Gate, Recorder, fail, wait_until
from late_scene import UNDONE, Scene

from syncflow import Context, Flow, Step

#: Runs go by a fake clock; bodies in processes, and whoever waits for them, by the real one.
pytestmark = pytest.mark.usefixtures("clock")

# --- with a later attempt --------------------------------------------------------------------


def test_nothing_is_undone_when_a_later_attempt_has_completed(
    scene: Scene, recorder: Recorder
) -> None:
    """The step is in effect: what the first attempt did again is its own affair."""
    flow = Flow("flow", hooks=[recorder]).step(scene.step(retries=1))
    result = flow.step("release", lambda ctx: scene.release.open()).run(drain=PATIENCE)
    assert ("completed", (), [], ()) == (
        result.status, result.compensations, scene.journal.lines, result.abandoned,
    )  # fmt: skip
    assert [] == recorder.of("on_late_finish")


def second_attempt(scene: Scene, arrived: Gate, end: Callable[[], Any]) -> Callable[[Context], Any]:
    """Return a body whose second attempt ends after its first one has returned."""

    def body(ctx: Context) -> Any:
        if ctx.attempt == 1:
            try:
                return scene.body(ctx)
            finally:
                arrived.open()
        scene.release.open()
        arrived.wait()
        return end()

    return body


def decided_by(scene: Scene, body: Callable[[Context], Any]) -> Step:
    """Return a step with time for a second attempt."""
    return Step("slow", body, pool=scene.pool, timeout=0.2, retries=1, compensate=scene.undo)


def give_up() -> None:
    """Fail."""
    raise BodyError("second attempt")


def test_a_later_attempt_that_completes_decides(scene: Scene, gate: Gate) -> None:
    """The first attempt returned while the second was running: nothing is undone."""
    body = second_attempt(scene, gate, lambda: "value 2")
    flow = Flow("flow").step(decided_by(scene, body))
    result = flow.run(drain=PATIENCE)
    assert ("completed", "value 2", [], ()) == (
        result.status, result["slow"].value, scene.journal.lines, result.abandoned,
    )  # fmt: skip


def test_a_later_attempt_that_fails_decides(scene: Scene, gate: Gate) -> None:
    """The first attempt returned while the second was running: it is undone, once."""
    body = second_attempt(scene, gate, give_up)
    flow = Flow("flow").step(decided_by(scene, body))
    result = flow.run(drain=PATIENCE)
    assert ([UNDONE], "complete") == (scene.journal.lines, result.rollback)


def test_an_attempt_that_returns_before_a_compensation_is_covered_by_it(scene: Scene) -> None:
    """The step was in effect when it returned; it is undone with the step, once."""
    flow = Flow("flow").step(scene.step(retries=1))
    flow.step("release", lambda ctx: scene.release.open())
    thread_ended = lambda ctx: wait_until(lambda: not scene.body_runs)  # noqa: E731
    result = flow.step("wait", thread_ended).step("bad", fail).run(drain=PATIENCE)
    assert (["slow mark 2 value 2"], "complete") == (scene.journal.lines, result.rollback)


def test_an_attempt_that_returns_after_the_compensation_is_undone_again(scene: Scene) -> None:
    """The step was completed by a later attempt and compensated: its late effect goes, too."""
    flow = Flow("flow").step(scene.step(retries=1)).step("bad", fail)
    result = flow.run()
    assert ["slow mark 2 value 2"] == scene.journal.lines
    assert (("slow",), "incomplete") == (result.abandoned, result.rollback)
    scene.release.open()
    wait_until(lambda: len(scene.journal.lines) == 2)
    assert UNDONE == scene.journal.lines[1]


def test_a_late_compensation_after_a_rollback_sees_what_caused_it(scene: Scene) -> None:
    """`ctx.error` of every compensation is the error that caused the rollback."""
    result = Flow("flow").step(scene.step(retries=1)).step("bad", fail).run()
    scene.release.open()
    wait_until(lambda: len(scene.journal.lines) == 2)
    assert [result.error, result.error] == scene.errors


def test_an_attempt_that_returns_during_the_compensation_is_undone_after_it(
    scene: Scene, gate: Gate
) -> None:
    """One compensation at a time: the late one waits for the other."""

    def undo(ctx: Context) -> None:
        first = not scene.release.is_open
        scene.release.open()
        if first:
            wait_until(lambda: not scene.body_runs)
        scene.undo(ctx)

    flow = Flow("flow").step(scene.step(retries=1, compensate=undo)).step("bad", fail)
    result = flow.run(drain=PATIENCE)
    assert ["slow mark 2 value 2", UNDONE] == scene.journal.lines
    assert [False, True] == [one.late for one in result.compensations]


def test_a_step_undone_because_it_had_started_is_undone_again(scene: Scene) -> None:
    """The first compensation did not wait for the body; so the body's effect came after it."""

    def undo(ctx: Context) -> None:
        scene.journal.add(ctx.get("mark"), ctx.value("slow", "none"))

    result = Flow("flow").step(scene.step(compensate=undo, compensate_on="started")).run()
    assert (["None none"], ("slow",)) == (scene.journal.lines, result.abandoned)
    scene.release.open()
    wait_until(lambda: len(scene.journal.lines) == 2)
    assert "mark 1 value 1" == scene.journal.lines[1]
