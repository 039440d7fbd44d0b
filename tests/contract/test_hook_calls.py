"""Watching a run: which hook is called when, where and with what; and what the log tells."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from contract_tools import (
    HOOK_NAMES,
    PATIENCE,
    BodyError,
    Gate,
    Pool,
    Recorder,
    When,
    do_nothing,
    fail,
    sleep_long,
)

from syncflow import CancelToken, Context, Flow, FlowResult, Hooks, Step, current_context

#: Runs go by a fake clock; bodies in processes, and whoever waits for them, by the real one.
pytestmark = pytest.mark.usefixtures("clock")


def failing_once(ctx: Context) -> str:
    """Fail at the first attempt."""
    if ctx.attempt == 1:
        raise BodyError("once")
    return "value"


def failing_twice(ctx: Context) -> None:
    """Fail at the first two attempts."""
    if ctx.attempt <= 2:
        raise BodyError("once" if ctx.attempt == 1 else "twice")


# --- which, in which order -------------------------------------------------------------------


def test_a_completed_run(pool: Pool, recorder: Recorder) -> None:
    """Start and end of the flow, and of each step in between."""
    flow = Flow("flow", hooks=[recorder]).step("a", do_nothing, pool=pool)
    flow.step("b", do_nothing, pool=pool).run()
    assert [
        "on_flow_start",
        "on_step_start a",
        "on_step_complete a",
        "on_step_start b",
        "on_step_complete b",
        "on_flow_complete",
    ] == recorder.names()


def test_a_failed_run(pool: Pool, recorder: Recorder) -> None:
    """`on_flow_fail` comes after the rollback."""
    flow = Flow("flow", hooks=[recorder])
    flow.step("a", do_nothing, pool=pool, compensate=Step("undo", do_nothing, pool=pool))
    flow.step("b", do_nothing, compensate=Step("undo", fail, pool=pool))
    flow.step("bad", fail, pool=pool).step("never", do_nothing).run()
    assert [
        "on_flow_start",
        "on_step_start a",
        "on_step_complete a",
        "on_step_start b",
        "on_step_complete b",
        "on_step_start bad",
        "on_step_fail bad",
        "on_compensate b",
        "on_compensate_fail b",
        "on_compensate a",
        "on_compensate_complete a",
        "on_flow_fail",
    ] == recorder.names()


def test_a_cancelled_run(pool: Pool, recorder: Recorder) -> None:
    """`on_flow_cancel` comes after the rollback; skipped steps have no hook."""
    token = CancelToken()
    canceller = When("on_step_start", token.cancel, step="b")
    flow = Flow("flow", hooks=[canceller, recorder])
    flow.step("a", do_nothing, pool=pool, compensate=do_nothing)
    flow.step("b", sleep_long, pool=pool).step("never", do_nothing).run(cancel=token)
    assert [
        "on_flow_start",
        "on_step_start a",
        "on_step_complete a",
        "on_step_start b",
        "on_step_cancel b",
        "on_compensate a",
        "on_compensate_complete a",
        "on_flow_cancel",
    ] == recorder.names()


def test_retries(pool: Pool, recorder: Recorder) -> None:
    """`on_step_start` fires once a step; later attempts are `on_step_retry`."""
    flow = Flow("flow", hooks=[recorder])
    flow.step("a", failing_once, pool=pool, retries=3, retry_delay=0.001).run()
    assert [
        "on_flow_start",
        "on_step_start a",
        "on_step_retry a",
        "on_step_complete a",
        "on_flow_complete",
    ] == recorder.names()


def test_retries_of_a_compensation(pool: Pool, recorder: Recorder) -> None:
    """`on_compensate` fires once a compensation."""
    flow = Flow("flow", hooks=[recorder])
    flow.step("a", do_nothing, compensate=Step("undo", failing_once, pool=pool, retries=1))
    flow.step("bad", fail).run()
    names = [name for name in recorder.names() if "compensate" in name]
    assert ["on_compensate a", "on_compensate_complete a"] == names


def test_members_that_never_start(worker_pool: Pool, recorder: Recorder) -> None:
    """They are cancelled without having started."""
    flow = Flow("flow", hooks=[recorder])
    steps = [Step("bad", fail), Step("never", do_nothing)]
    flow.parallel("g", steps, fail_fast=True, max_concurrency=1, pool=worker_pool).run()
    assert [
        "on_flow_start",
        "on_step_start bad",
        "on_step_fail bad",
        "on_step_cancel never",
        "on_flow_fail",
    ] == recorder.names()


def test_an_input_that_is_not_valid(recorder: Recorder) -> None:
    """The flow starts and fails; no step does."""
    Flow("flow", hooks=[recorder], validate=int).step("a", do_nothing).run("five")
    assert ["on_flow_start", "on_flow_fail"] == recorder.names()


def test_hooks_fire_while_a_group_runs(worker_pool: Pool, gate: Gate) -> None:
    """A member can wait for what a hook does when another one completes."""

    def wait(ctx: Context) -> None:
        gate.wait()

    opener = When("on_step_complete", gate.open, step="fast")
    steps = [Step("slow", wait), Step("fast", do_nothing)]
    flow = Flow("flow", hooks=[opener]).parallel("g", steps, pool=worker_pool, max_concurrency=2)
    assert "completed" == flow.run().status


def test_a_step_start_is_told_while_its_body_runs(worker_pool: Pool, gate: Gate) -> None:
    """The body can wait for what the hook does when it starts."""

    def wait(ctx: Context) -> None:
        gate.wait()

    flow = Flow("flow", hooks=[When("on_step_start", gate.open)])
    assert "completed" == flow.step("a", wait, pool=worker_pool).run().status


def test_several_hooks_are_called_in_their_order() -> None:
    """Each event goes to all of them, one after the other."""
    order: list[str] = []
    hooks = [When("on_flow_start", lambda n=name: order.append(n)) for name in "abc"]
    Flow("flow", hooks=hooks).step("a", do_nothing).run()
    assert ["a", "b", "c"] == order


# --- where -----------------------------------------------------------------------------------


def everything(recorder: Recorder, pool: Pool) -> FlowResult:
    """Run a flow that calls nearly every hook."""
    flow = Flow("flow", hooks=[recorder])
    flow.step("a", failing_twice, pool=pool, retries=2, retry_delay=0.001, compensate=do_nothing)
    flow.step("b", do_nothing, compensate=fail)
    members = "thread" if pool == "inline" else pool
    steps = [Step("bad", fail), Step("never", do_nothing)]
    flow.parallel("g", steps, fail_fast=True, max_concurrency=1, pool=members)
    return flow.run("input", run_id="run-1")


def test_hooks_are_called_in_the_thread_that_called_run(pool: Pool, recorder: Recorder) -> None:
    """Whatever thread or process the steps run on."""
    everything(recorder, pool)
    assert {threading.current_thread()} == {thread for _, _, thread in recorder.calls}


def test_hooks_are_called_in_the_thread_of_their_own_run(recorder: Recorder) -> None:
    """Also when that is not the main thread."""
    thread = threading.Thread(target=everything, args=(recorder, "thread"))
    thread.start()
    thread.join()
    assert {thread} == {called for _, _, called in recorder.calls}


def test_no_step_runs_in_a_hook(recorder: Recorder) -> None:
    """`current_context()` has nothing to tell there."""
    seen = []

    def look() -> None:
        try:
            seen.append(current_context())
        except LookupError:
            seen.append(None)

    Flow("flow", hooks=[When(name, look) for name in HOOK_NAMES]).step("a", do_nothing).run()
    assert [None] * 4 == seen


# --- with what -------------------------------------------------------------------------------


def test_every_event_tells_flow_run_and_time(pool: Pool, recorder: Recorder) -> None:
    """In UTC, in the order of events."""
    before = dt.datetime.now(dt.UTC)
    everything(recorder, pool)
    events = [event for _, event, _ in recorder.calls]
    assert {("flow", "run-1")} == {(event.flow_name, event.run_id) for event in events}
    times = [before, *(event.at for event in events), dt.datetime.now(dt.UTC)]
    assert sorted(times) == times


def test_every_event_has_a_context(pool: Pool, recorder: Recorder) -> None:
    """It sees the input and tells the step."""
    everything(recorder, pool)
    seen = {name: (event.ctx.flow_name, event.ctx.run_id) for name, event, _ in recorder.calls}
    assert {("flow", "run-1")} == set(seen.values())


def test_events_are_frozen(recorder: Recorder) -> None:
    """A hook cannot change what another one sees."""
    everything(recorder, "inline")
    _, event, _ = recorder.calls[0]
    with pytest.raises(AttributeError):
        event.step_name = "other"


Fields = Callable[[Any, FlowResult], Any]

EVENTS: list[tuple[str, int, Fields, Any]] = [
    ("on_flow_start", 0, lambda e, r: (e.step_name, e.group, e.result, e.error), (None,) * 4),
    ("on_step_start", 0, lambda e, r: (e.step_name, e.attempt, e.group), ("a", 1, None)),
    ("on_step_start", 2, lambda e, r: (e.step_name, e.attempt, e.group), ("bad", 1, "g")),
    ("on_step_retry", 0, lambda e, r: (e.step_name, e.attempt, str(e.error)), ("a", 2, "once")),
    ("on_step_retry", 1, lambda e, r: (e.step_name, e.attempt), ("a", 3)),
    ("on_step_retry", 0, lambda e, r: e.delay, 0.001),
    ("on_step_complete", 0, lambda e, r: e.result is r["a"], True),
    ("on_step_complete", 0, lambda e, r: (e.step_name, e.attempt, e.error), ("a", 3, None)),
    ("on_step_fail", 0, lambda e, r: e.error is e.result.error is r["bad"].error, True),
    ("on_step_fail", 0, lambda e, r: (e.step_name, e.group, e.attempt), ("bad", "g", 1)),
    ("on_step_cancel", 0, lambda e, r: (e.step_name, e.group), ("never", "g")),
    ("on_step_cancel", 0, lambda e, r: e.result is r["never"], True),
    ("on_compensate", 0, lambda e, r: (e.step_name, e.attempt), ("b", 1)),
    ("on_compensate", 0, lambda e, r: e.error is r.error, True),
    ("on_compensate_fail", 0, lambda e, r: e.result is r.compensations[0], True),
    ("on_compensate_fail", 0, lambda e, r: e.error is r.compensations[0].error, True),
    ("on_compensate_complete", 0, lambda e, r: e.result is r.compensations[1], True),
    ("on_compensate_complete", 0, lambda e, r: (e.step_name, e.error), ("a", None)),
    ("on_flow_fail", 0, lambda e, r: (e.result is r, e.error is r.error), (True, True)),
]


@pytest.mark.parametrize(("hook", "which", "fields", "expected"), EVENTS)
def test_events_tell_what_applies(
    pool: Pool, recorder: Recorder, hook: str, which: int, fields: Fields, expected: Any
) -> None:
    """Step, group, attempt, error, delay and result, where there is one."""
    result = everything(recorder, pool)
    assert expected == fields(recorder.of(hook)[which], result)


def test_the_end_of_a_completed_flow_tells_its_result(recorder: Recorder) -> None:
    """It is what `run` returns."""
    result = Flow("flow", hooks=[recorder]).step("a", do_nothing).run()
    (event,) = recorder.of("on_flow_complete")
    assert result is event.result


def test_the_end_of_a_cancelled_flow_tells_its_result(recorder: Recorder) -> None:
    """And its error."""
    token = CancelToken()
    token.cancel()
    result = Flow("flow", hooks=[recorder]).step("a", do_nothing).run(cancel=token)
    (event,) = recorder.of("on_flow_cancel")
    assert (True, True) == (event.result is result, event.error is result.error)


# --- hooks that do something -----------------------------------------------------------------


class Raising(Hooks):
    """Raise in every hook."""

    def __init__(self, error: BaseException) -> None:
        for name in HOOK_NAMES:
            setattr(self, name, self._raise)
        self._error = error

    def _raise(self, event: Any) -> None:
        raise self._error


@pytest.mark.parametrize("error", [BodyError("hook"), SystemExit(3), GeneratorExit()])
def test_a_hook_that_raises_changes_nothing(
    pool: Pool, recorder: Recorder, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """The run goes on, and other hooks are called."""
    flow = Flow("flow", hooks=[Raising(error), recorder])
    result = flow.step("a", do_nothing, pool=pool).step("b", do_nothing).run()
    assert ("completed", 6) == (result.status, len(recorder.calls))


def test_a_hook_that_raises_is_logged_once_a_method_and_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not for every step; in the next run again."""
    flow = Flow("flow", hooks=[Raising(BodyError("hook"))])
    for number in range(5):
        flow.step(f"s{number}", do_nothing)
    methods = ["on_flow_start", "on_step_start", "on_step_complete", "on_flow_complete"]
    with caplog.at_level(logging.DEBUG, "syncflow"):
        for _ in range(2):
            caplog.clear()
            flow.run()
            logged = [record.getMessage() for record in caplog.records]
            assert [True] * 4 == [
                method in text for method, text in zip(methods, logged, strict=True)
            ]


def test_a_slow_hook_delays_only_what_starts_next(gate: Gate) -> None:
    """Running members run on while a hook takes its time."""
    slow = When("on_step_complete", gate.wait, step="fast")
    steps = [Step("fast", do_nothing), Step("other", lambda ctx: gate.open())]
    flow = Flow("flow", hooks=[slow]).parallel("g", steps, max_concurrency=2)
    assert "completed" == flow.run().status


def test_a_hook_may_run_a_flow(pool: Pool) -> None:
    """Another one, or the same."""
    results = []
    inner = Flow("inner").step("in", do_nothing, pool=pool)
    outer = Flow("outer", hooks=[When("on_step_complete", lambda: results.append(inner.run()))])
    assert "completed" == outer.step("a", do_nothing, pool=pool).run().status
    assert ["completed"] == [result.status for result in results]


def test_a_hook_may_cancel_the_run(worker_pool: Pool) -> None:
    """Running members are stopped by it."""
    token = CancelToken()
    flow = Flow("flow", hooks=[When("on_step_start", token.cancel)])
    assert "cancelled" == flow.step("a", sleep_long, pool=worker_pool).run(cancel=token).status


# --- the log ---------------------------------------------------------------------------------


def test_the_log_is_silent_by_default() -> None:
    """`syncflow` has a `NullHandler` of its own."""
    handlers = logging.getLogger("syncflow").handlers
    assert any(isinstance(handler, logging.NullHandler) for handler in handlers)


def test_the_log_shows_no_input_value_or_state(
    pool: Pool, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong: secrets stay where they are."""
    secret = uuid.uuid4().hex

    def keep(ctx: Context) -> str:
        ctx.set("key", ctx.input)
        return ctx.input

    def late(ctx: Context) -> str:
        gate.wait()
        return keep(ctx)

    flow = Flow("flow", hooks=[Raising(BodyError("hook"))])
    flow.step("a", keep, pool=pool, compensate=fail)
    flow.parallel("g", [Step("late", late, timeout=0.05, compensate=fail), Step("b", do_nothing)])
    flow.step("release", lambda ctx: gate.open()).step("bad", fail)
    with caplog.at_level(logging.DEBUG):
        flow.run(secret, drain=10)
    assert caplog.records
    assert not any(
        secret in logging.Formatter().format(record) or secret in repr(record.args)
        for record in caplog.records
    )


def test_the_log_lets_no_control_character_through(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    """Names and the id of a run are users' own, and logs are read on terminals."""
    evil = "\x1b[2J\n"
    steps = [Step(f"late{evil}", lambda ctx: gate.wait(), timeout=0.05), Step("b", do_nothing)]
    flow = Flow(f"flow{evil}", hooks=[Raising(BodyError("hook"))]).parallel("g", steps)
    flow.step(f"a{evil}", do_nothing, compensate=fail)
    flow.step("release", lambda ctx: gate.open()).step("bad", fail)
    with caplog.at_level(logging.DEBUG):
        flow.run(run_id=f"run{evil}", drain=PATIENCE)
    logged = [record.getMessage() for record in caplog.records if record.name == "syncflow"]
    for words in ("of Raising raised", "compensation of step", "has finished late"):
        assert any(words in line for line in logged)
    assert all(line.isprintable() for line in logged)
