"""Runs as spans: what there is of them, what is in them, and where bodies find themselves."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
from contract_tools import (
    PATIENCE,
    BodyError,
    Gate,
    Pool,
    Unpicklable,
    When,
    do_nothing,
    fail,
    return_input,
    sleep_long,
    swallow_everything,
)
from foreign_tools import KINDS, make_executor
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.trace import StatusCode
from otel_tools import (
    Ids,
    Tracing,
    has_api,
    hide_api,
    ids,
    luggage,
    where,
    where_then_fail_once,
)
from shell import python

from syncflow import CancelToken, Context, Event, Flow, ProcessPool, Step
from syncflow.otel import OpenTelemetry

NOWHERE = (trace.INVALID_TRACE_ID, trace.INVALID_SPAN_ID)


@pytest.fixture
def tracing() -> Iterator[Tracing]:
    """Return a tracer; in the end all its spans have ended, and none is current."""
    made = Tracing()
    yield made
    assert made.ended
    assert NOWHERE == ids(trace.get_current_span().get_span_context())


def crash(ctx: Context, *item: object) -> None:
    """End the worker process."""
    os._exit(7)


def events(span: Any) -> list[tuple[str, Any]]:
    """Return the events of a span: its exceptions by class, its retries by number."""
    what = {"exception": "exception.type", "retry": "syncflow.attempt"}
    # Until 1.23, the SDK left the module of an exception out.
    return [
        (event.name, str(event.attributes[what[event.name]]).rpartition(".")[2])
        for event in span.events
    ]


def status(span: Any) -> tuple[StatusCode, Any]:
    """Return the status of a span, and that of what it stands for."""
    return span.status.status_code, span.attributes.get("syncflow.status")


# --- the tree --------------------------------------------------------------------------------


def test_makes_a_span_of_flow_step_and_attempt(tracing: Tracing, pool: Pool) -> None:
    """Attempts are in steps, and steps in the flow, on each pool."""
    flow = Flow("f", hooks=[tracing.hooks]).step("a", do_nothing, pool=pool)
    flow.step("b", do_nothing, pool=pool).run().raise_for_status()
    tree = ["flow f", "  step a", "    attempt a", "  step b", "    attempt b"]
    assert tree == tracing.tree()


def test_says_what_a_span_is_of(tracing: Tracing) -> None:
    """Names and ids, pool and worker are attributes."""
    flow = Flow("f", hooks=[tracing.hooks]).parallel("g", [Step("a", do_nothing)])
    result = flow.run(run_id="r")
    common = {"syncflow.flow.name": "f", "syncflow.run.id": "r"}
    step = {**common, "syncflow.step.name": "a", "syncflow.group.name": "g"}
    step |= {"syncflow.status": "completed", "syncflow.pool": "thread"}
    step |= {"syncflow.worker": result["a"].worker}
    times = {"syncflow.queued": result["a"].queued, "syncflow.backoff": 0.0}
    whole = {**common, "syncflow.status": "completed", "syncflow.rollback": "not_needed"}
    assert whole == tracing.named("flow f").attributes
    assert {**step, **times, "syncflow.attempts": 1} == tracing.named("step a").attributes
    assert {**step, "syncflow.attempt": 1} == tracing.named("attempt a").attributes


def test_puts_members_of_a_group_into_the_flow(tracing: Tracing, worker_pool: Pool) -> None:
    """Each member has its own step and attempt."""
    steps = [Step(name, do_nothing) for name in "ab"]
    Flow("f", hooks=[tracing.hooks]).parallel("g", steps, pool=worker_pool).run()
    assert sorted(["flow f", "  step a", "    attempt a", "  step b", "    attempt b"]) == sorted(
        tracing.tree()
    )


def test_is_part_of_what_the_caller_traces(tracing: Tracing) -> None:
    """The flow's span is in the span that is current where `run` is called."""
    with tracing.tracer.start_as_current_span("request"):
        Flow("f", hooks=[tracing.hooks]).step("a", do_nothing).run()
    assert ["request", "  flow f", "    step a", "      attempt a"] == tracing.tree()


def test_starts_and_ends_with_the_body(tracing: Tracing, sharing_pool: Pool) -> None:
    """Waiting for a worker or for the run's thread is no part of an attempt."""

    def body(ctx: Context) -> None:
        for name in ("first", "last"):
            with tracing.tracer.start_as_current_span(name):
                pass

    Flow("f", hooks=[tracing.hooks]).step("a", body, pool=sharing_pool).run()
    attempt, first = tracing.named("attempt a"), tracing.named("first")
    order = [
        tracing.named("flow f").start_time, tracing.named("step a").start_time,
        attempt.start_time, first.start_time, tracing.named("last").end_time, attempt.end_time,
        tracing.named("flow f").end_time,
    ]  # fmt: skip
    assert sorted(order) == order  # type: ignore[type-var]


# --- what bodies find ------------------------------------------------------------------------


def test_a_body_is_in_its_attempt(tracing: Tracing, pool: Pool) -> None:
    """On each pool, what a body traces has its attempt as parent."""
    flow = Flow("f", hooks=[tracing.hooks]).step("a", where, pool=pool)
    value = flow.run().raise_for_status()["a"].value
    assert tracing.ids("attempt a") == value


@pytest.mark.xdist_group("process")
@pytest.mark.parametrize("kind", KINDS)
def test_a_body_is_in_its_attempt_on_any_executor(tracing: Tracing, kind: str) -> None:
    """So it is on executors that are not ours, and the items of a map are in the map."""
    with make_executor(kind) as executor:
        flow = Flow("f", hooks=[tracing.hooks]).step("a", where, pool=executor)
        flow.map("m", where, over=range(3), pool=executor)
        values = flow.run().raise_for_status().values
    assert {"a": tracing.ids("attempt a"), "m": [tracing.ids("step m")] * 3} == values


def test_a_span_of_a_body_is_in_its_attempt(tracing: Tracing, sharing_pool: Pool) -> None:
    """An instrumented client that is called in a body has its spans there."""

    def body(ctx: Context) -> None:
        with tracing.tracer.start_as_current_span("GET"):
            pass

    Flow("f", hooks=[tracing.hooks]).step("a", body, pool=sharing_pool).run().raise_for_status()
    assert ["flow f", "  step a", "    attempt a", "      GET"] == tracing.tree()


def test_items_are_in_their_map(tracing: Tracing, worker_pool: Pool) -> None:
    """A map has one span, however many items and attempts there are."""
    flow = Flow("f", hooks=[tracing.hooks])
    flow.map("m", where_then_fail_once, over=range(20), pool=worker_pool, retries=1)
    values = flow.run().raise_for_status()["m"].value
    assert [tracing.ids("step m")] * 20 == values
    assert ["flow f", "  step m"] == tracing.tree()


def test_takes_baggage_along(tracing: Tracing, pool: Pool) -> None:
    """What else the caller's context has gets to bodies, too."""
    token = context.attach(baggage.set_baggage("tenant", "blue"))
    try:
        flow = Flow("f", hooks=[tracing.hooks]).step("a", luggage, pool=pool)
        assert "blue" == flow.run().raise_for_status()["a"].value
    finally:
        context.detach(token)


# --- retries, failures, stops ----------------------------------------------------------------


def test_makes_a_span_of_each_attempt(tracing: Tracing, pool: Pool) -> None:
    """The attempt that failed has its error and the delay that followed."""
    flow = Flow("f", hooks=[tracing.hooks])
    flow.step("a", where_then_fail_once, retries=1, retry_delay=0.001, pool=pool)
    value = flow.run().raise_for_status()["a"].value
    assert ["flow f", "  step a", "    attempt a", "    attempt a"] == tracing.tree()
    *_, first, second = tracing.spans
    assert ids(second.context) == value
    assert (StatusCode.ERROR, "failed") == status(first)
    assert 1 == first.attributes["syncflow.attempt"]
    assert 0.001 == first.attributes["syncflow.retry_delay"]
    assert "LookupError" == first.attributes["error.type"]
    assert [("exception", "LookupError")] == events(first)
    assert (StatusCode.UNSET, "completed") == status(second)
    assert (StatusCode.UNSET, "completed") == status(tracing.named("step a"))


def test_tells_a_map_of_retries(tracing: Tracing) -> None:
    """The retry of an item is an event of the map."""
    flow = Flow("f", hooks=[tracing.hooks])
    flow.map("m", where_then_fail_once, over=[1], retries=1).run().raise_for_status()
    span = tracing.named("step m")
    assert [("retry", "2")] == events(span)
    assert (1, 0, 0) == tuple(
        span.attributes[f"syncflow.items.{kind}"] for kind in ("completed", "failed", "cancelled")
    )


def test_records_a_failure(tracing: Tracing, pool: Pool) -> None:
    """Attempt, step and flow end as errors, and say which."""
    Flow("f", hooks=[tracing.hooks]).step("a", fail, pool=pool).run()
    for name in ("attempt a", "step a", "flow f"):
        span = tracing.named(name)
        assert (StatusCode.ERROR, "failed") == status(span)
        assert "BodyError: a" == span.status.description
        assert "contract_tools.BodyError" == span.attributes["error.type"]
        assert [("exception", "BodyError")] == events(span)


def test_names_an_error_that_cannot_be_rebuilt(tracing: Tracing) -> None:
    """Of a `RemoteError` the kind of the original counts."""
    from syncflow import RemoteError

    def body(ctx: Context) -> None:
        raise RemoteError("their.Error", "message", "traceback")

    Flow("f", hooks=[tracing.hooks]).step("a", body).run()
    assert "their.Error" == tracing.named("step a").attributes["error.type"]


def test_ends_a_span_whose_error_cannot_be_shown(tracing: Tracing) -> None:
    """An error with a broken `__str__` costs its message."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise SystemExit("mute")

    def body(ctx: Context) -> None:
        raise Mute

    Flow("f", hooks=[tracing.hooks]).step("a", body).run()
    assert (StatusCode.ERROR, "failed") == status(tracing.named("flow f"))
    assert [("exception", "Mute")] == events(tracing.named("step a"))


def test_shows_a_step_that_could_not_start(tracing: Tracing) -> None:
    """A step that failed has a span even if nothing of it ever ran."""

    def source(ctx: Context) -> list[int]:
        raise BodyError("no items")

    Flow("f", hooks=[tracing.hooks]).map("m", do_nothing, over=source).run()
    assert ["flow f", "  step m"] == tracing.tree()
    assert (StatusCode.ERROR, "failed") == status(tracing.named("step m"))


@pytest.mark.xdist_group("process")
def test_shows_a_step_that_could_not_be_sent(tracing: Tracing) -> None:
    """Nor can it be told from its span that a body that cannot be pickled was a step."""
    stays = Unpicklable()
    flow = Flow("f", hooks=[tracing.hooks])
    flow.step("a", lambda ctx: stays, pool="process").run()
    assert (StatusCode.ERROR, "failed") == status(tracing.named("step a"))


def test_leaves_out_what_never_started(tracing: Tracing, worker_pool: Pool) -> None:
    """A member that was cancelled in the queue has no span."""
    steps = [Step("a", fail), Step("b", do_nothing)]
    flow = Flow("f", hooks=[tracing.hooks])
    flow.parallel("g", steps, fail_fast=True, max_concurrency=1, pool=worker_pool).run()
    assert ["flow f", "  step a", "    attempt a"] == tracing.tree()


def test_ends_what_fail_fast_stops(tracing: Tracing, worker_pool: Pool, gate: Gate) -> None:
    """A member that was stopped is cancelled, which is no error of its own."""

    def fail_later(ctx: Context) -> None:
        gate.wait()
        raise BodyError("later")

    steps = [Step("a", fail_later), Step("b", sleep_long)]
    hooks = [tracing.hooks, When("on_step_start", gate.open, "b")]
    Flow("f", hooks=hooks).parallel("g", steps, fail_fast=True, pool=worker_pool).run()
    for name in ("step b", "attempt b"):
        assert (StatusCode.UNSET, "cancelled") == status(tracing.named(name))


def test_ends_what_a_token_stops(tracing: Tracing, pool: Pool) -> None:
    """A flow that was cancelled ends with all that is in it; none of it is an error."""
    token = CancelToken()
    hooks = [tracing.hooks, When("on_step_start", token.cancel)]
    Flow("f", hooks=hooks).step("a", sleep_long, pool=pool).run(cancel=token)
    assert "flow f" == tracing.tree()[0]
    for span in tracing.spans:
        assert (StatusCode.UNSET, "cancelled") == status(span)


def test_ends_an_attempt_whose_time_is_up(tracing: Tracing, worker_pool: Pool) -> None:
    """An attempt that timed out is over, also when its body runs on."""
    flow = Flow("f", hooks=[tracing.hooks])
    flow.step("a", sleep_long, timeout=0.01, retries=1, pool=worker_pool).run()
    assert ["flow f", "  step a", "    attempt a", "    attempt a"] == tracing.tree()
    for span in tracing.spans:
        assert "syncflow.errors.StepTimeoutError" == span.attributes["error.type"]


def test_ends_an_attempt_that_was_abandoned(
    tracing: Tracing, abandoning_pool: Pool, gate: Gate
) -> None:
    """What an abandoned body goes on to trace stays in its attempt, which has ended."""
    late = Gate(Path(f"{gate.path}-late"))

    def body(ctx: Context) -> None:
        gate.wait()
        with tracing.tracer.start_as_current_span("late"):
            late.open()

    flow = Flow("f", hooks=[tracing.hooks, When("on_step_fail", gate.open)])
    flow.step("a", body, timeout=0.01, pool=abandoning_pool).run(drain=20)
    late.wait()
    assert ["flow f", "  step a", "    attempt a", "      late"] == tracing.tree()
    assert tracing.named("attempt a").end_time < tracing.named("late").start_time


def test_ends_what_the_run_has_no_time_for(tracing: Tracing, worker_pool: Pool) -> None:
    """A flow that timed out ends with all that is in it."""
    Flow("f", hooks=[tracing.hooks]).step("a", sleep_long, pool=worker_pool).run(timeout=0.05)
    assert (StatusCode.ERROR, "failed") == status(tracing.named("flow f"))
    assert "syncflow.errors.FlowTimeoutError" == tracing.named("flow f").attributes["error.type"]


@pytest.mark.xdist_group("process")
@pytest.mark.parametrize("body", [crash, swallow_everything], ids=["crash", "kill"])
def test_ends_an_attempt_that_was_killed(tracing: Tracing, body: Callable[..., None]) -> None:
    """An attempt ends with its worker process."""
    with ProcessPool(1) as own:
        flow = Flow("f", hooks=[tracing.hooks])
        flow.step("a", body, timeout=1.0, grace=0.01, pool=own).run()
    assert ["flow f", "  step a", "    attempt a"] == tracing.tree()
    assert (StatusCode.ERROR, "failed") == status(tracing.named("attempt a"))


def test_ends_what_ctrl_c_stops(tracing: Tracing, pool: Pool) -> None:
    """Ctrl-C ends the spans of a run, after those of its rollback."""

    def press(ctx: Context) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        ctx.sleep(1000)

    flow = Flow("f", hooks=[tracing.hooks]).step("a", do_nothing, compensate=do_nothing, pool=pool)
    with pytest.raises(KeyboardInterrupt):
        flow.step("b", press).run()
    tree = ["flow f", "  step a", "    attempt a", "  step b", "    attempt b", "  compensation a"]
    assert tree == tracing.tree()
    assert (StatusCode.UNSET, "cancelled") == status(tracing.named("flow f"))


# --- rollback --------------------------------------------------------------------------------


def test_makes_a_span_of_a_compensation(tracing: Tracing, pool: Pool) -> None:
    """A compensation is in the flow, and its body in it."""
    found: list[Ids] = []
    undo = Step("undo", where, pool=pool)
    flow = Flow("f", hooks=[tracing.hooks]).step("a", do_nothing, compensate=undo)
    flow.step("b", do_nothing, compensate=lambda ctx: found.append(where(ctx)))
    flow.step("c", fail).run()
    assert ["  compensation b", "  compensation a"] == tracing.tree()[-2:]
    assert [tracing.ids("compensation b")] == found
    assert (StatusCode.UNSET, "completed") == status(tracing.named("compensation a"))


def test_records_a_compensation_that_fails(tracing: Tracing) -> None:
    """All its attempts are in one span."""
    undo = Step("undo", fail, retries=2)
    flow = Flow("f", hooks=[tracing.hooks]).step("a", do_nothing, compensate=undo)
    flow.step("c", fail).run()
    span = tracing.named("compensation a")
    assert (StatusCode.ERROR, "failed") == status(span)
    assert 3 == span.attributes["syncflow.attempts"]
    assert [("exception", "BodyError")] == events(span)


def test_makes_one_span_of_the_compensation_of_a_map(tracing: Tracing) -> None:
    """The items of a map are undone in one span."""
    found: list[Ids] = []

    def undo(ctx: Context, item: object) -> None:
        found.append(where(ctx))

    flow = Flow("f", hooks=[tracing.hooks])
    flow.map("m", return_item, over=range(3), compensate=undo).step("c", fail).run()
    assert [tracing.ids("compensation m")] * 3 == found


def return_item(ctx: Context, item: object) -> object:
    """Return the item."""
    return item


# --- flows in flows --------------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["inline", "thread"])
def test_puts_a_flow_into_the_attempt_that_it_is(tracing: Tracing, pool: str) -> None:
    """A flow within a flow is in the attempt of its step."""
    inner = Flow("inner", hooks=[tracing.hooks]).step("a", do_nothing)
    Flow("outer", hooks=[tracing.hooks]).step("sub", inner, pool=pool).run().raise_for_status()
    assert [
        "flow outer", "  step sub", "    attempt sub", "      flow inner", "        step a",
        "          attempt a",
    ] == tracing.tree()  # fmt: skip


def test_a_body_of_an_unwatched_flow_is_in_the_attempt_of_that(tracing: Tracing) -> None:
    """A flow without hooks has no spans; what its bodies trace is in what is around it."""
    inner = Flow("inner").step("a", where, timeout=20)
    outer = Flow("outer", hooks=[tracing.hooks]).step("sub", inner)
    assert tracing_ids(outer.run()) == tracing.ids("attempt sub")


def tracing_ids(result: Any) -> Ids:
    """Return what the step `a` of the flow `sub` has returned."""
    found: Ids = result["sub"].value["a"].value
    return found


@pytest.mark.parametrize("shared", [True, False], ids=["one object", "two objects"])
def test_undoes_a_flow_in_the_compensation_that_this_is(tracing: Tracing, shared: bool) -> None:
    """When the outer flow fails later, what undoes the inner one is in its compensation."""
    found: list[Ids] = []
    undo = Step("undo", lambda ctx: found.append(where(ctx)), pool="thread")
    other = tracing.hooks if shared else OpenTelemetry(tracing.provider)
    inner = Flow("inner", hooks=[other]).step("a", do_nothing, compensate=undo)
    inner.step("b", do_nothing, compensate=do_nothing)
    outer = Flow("outer", hooks=[tracing.hooks]).step("sub", inner).step("c", fail)
    outer.run()
    assert ["  compensation sub", "    compensation b", "    compensation a"] == tracing.tree()[-3:]
    assert [tracing.ids("compensation a")] == found


def test_undoes_flows_at_any_depth(tracing: Tracing) -> None:
    """So it is with flows in flows in flows."""
    inmost = Flow("inmost", hooks=[tracing.hooks]).step("a", do_nothing, compensate=do_nothing)
    inner = Flow("inner", hooks=[tracing.hooks]).step("sub-sub", inmost)
    Flow("outer", hooks=[tracing.hooks]).step("sub", inner).step("c", fail).run()
    assert [
        "  compensation sub", "    compensation sub-sub", "      compensation a",
    ] == tracing.tree()[-3:]  # fmt: skip


def test_ends_what_a_second_ctrl_c_leaves_open(tracing: Tracing) -> None:
    """Compensations of a flow that was being undone end with the outermost flow."""
    result = Flow("outer").step("sub", fail).run(run_id="r")
    assert result.error is not None
    outer = Event("outer", "r", datetime.now(UTC))
    undo = attrs.evolve(outer, step_name="sub", error=result.error)
    hooks = tracing.hooks
    hooks.on_flow_start(outer)
    hooks.on_compensate(undo)
    hooks.on_compensate(attrs.evolve(undo, flow_name="inner", run_id="r:sub", step_name="inmost"))
    hooks.around(
        attrs.evolve(undo, flow_name="inmost", run_id="r:sub:inmost", step_name="a", attempt=1)
    )
    hooks.on_flow_fail(attrs.evolve(outer, at=datetime.now(UTC), error=result.error, result=result))
    tree = ["flow outer", "  compensation sub", "    compensation inmost"]
    assert tree == tracing.tree()


# --- many runs -------------------------------------------------------------------------------


def test_keeps_runs_of_one_id_apart(tracing: Tracing) -> None:
    """Runs at the same time, of the same flow and with the same id, have a tree each."""
    barrier = threading.Barrier(2)

    def meet(ctx: Context) -> None:
        barrier.wait(PATIENCE)

    def run(ctx: Context) -> None:
        flow.run(run_id="r").raise_for_status()

    flow = Flow("f", hooks=[tracing.hooks]).step("a", meet)
    both = Flow("both").parallel("g", [Step("x", run), Step("y", run)], fail_fast=True)
    both.run().raise_for_status()
    assert 2 * ["flow f", "  step a", "    attempt a"] == tracing.tree()


def test_keeps_nothing_of_a_run(tracing: Tracing) -> None:
    """After many runs of every kind, no span is kept."""
    undone = Flow("undone", hooks=[tracing.hooks]).step("a", do_nothing, compensate=do_nothing)
    flow = Flow("f", hooks=[tracing.hooks]).step("sub", undone)
    flow.parallel("g", [Step("t", where_then_fail_once, retries=1), Step("u", do_nothing)])
    flow.map("m", where_then_fail_once, over=range(3), retries=1).step("c", fail)
    gc.collect()
    gc.disable()  # nothing hangs in a cycle, either
    try:
        for _ in range(100):
            flow.run()
            assert "flow f" == tracing.spans[0].name
            tracing.forget()
        assert [] == list(tracing.kept)
    finally:
        gc.enable()


def test_tells_no_input_value_or_state(tracing: Tracing, pool: Pool) -> None:
    """Nothing of what a flow works on gets into a span."""

    def write(ctx: Context) -> str:
        ctx.set("key", "secret state")
        return "secret value"

    flow = Flow("f", hooks=[tracing.hooks]).step("a", write).step("b", return_input, pool=pool)
    flow.map("m", return_item, over=["secret item"]).run("secret input").raise_for_status()
    assert [] == [span.name for span in tracing.spans if "secret" in span.to_json()]


# --- when something is missing ---------------------------------------------------------------


def test_changes_nothing_without_an_sdk(pool: Pool) -> None:
    """With the API alone no span is made, and every step runs."""
    flow = Flow("f", hooks=[OpenTelemetry()])
    flow.step("a", where_then_fail_once, retries=1, compensate=do_nothing, pool=pool)
    result = flow.step("b", fail).run()
    assert NOWHERE == result["a"].value
    assert ("failed", "complete") == (result.status, result.rollback)


@pytest.mark.xdist_group("process")
def test_changes_nothing_in_a_worker_without_the_api(tracing: Tracing) -> None:
    """A worker process that lacks the API runs its steps all the same."""
    with ProcessPool(1, initializer=hide_api) as own:
        flow = Flow("f", hooks=[tracing.hooks]).step("a", has_api, pool=own)
        flow.map("m", has_api, over=range(3), pool=own)
        assert {"a": False, "m": [False] * 3} == flow.run().raise_for_status().values
    assert ["flow f", "  step a", "    attempt a", "  step m"] == tracing.tree()


@pytest.mark.xdist_group("process")
@pytest.mark.parametrize("header", ["", "00-xyz", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "\0"])
def test_changes_nothing_when_a_carrier_is_malformed(
    tracing: Tracing, monkeypatch: pytest.MonkeyPatch, header: str
) -> None:
    """A body whose `traceparent` cannot be read is in no span, and runs."""

    def garble(carrier: dict[str, str], *rest: object) -> None:
        carrier["traceparent"] = header

    monkeypatch.setattr(propagate, "inject", garble)
    flow = Flow("f", hooks=[tracing.hooks]).step("a", where, pool="process")
    assert NOWHERE == flow.run().raise_for_status()["a"].value


@pytest.mark.parametrize("value", [3, "jaeger", trace])
def test_takes_a_tracer_provider_alone(value: Any) -> None:
    """What makes no tracers is refused, by name and value."""
    with pytest.raises(TypeError, match="tracer_provider must be a TracerProvider, not "):
        OpenTelemetry(value)


def test_says_how_to_install_the_api(tmp_path: Path) -> None:
    """Who imports the module without the API is told which extra brings it."""
    code = "import sys; sys.modules['opentelemetry'] = None; import syncflow.otel"
    exit_code, _, stderr = python(code, tmp_path)
    assert 1 == exit_code
    line = "ImportError: syncflow.otel needs the OpenTelemetry API: pip install 'syncflow[otel]'"
    assert line == stderr.splitlines()[-1]
