"""Nothing of a flow in a flow stays in memory once the outermost result is dropped."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pytest
from contract_tools import PATIENCE, BodyError, Gate, When, do_nothing, fail, sleep_long
from late_scene import SHORT
from test_memory import (
    Thing,
    WatchedError,
    assert_collected,
    raise_watched,
    return_thing,
    watch,
)

from syncflow import CancelToken, Context, Flow, FlowResult, Step

pytestmark = pytest.mark.usefixtures("no_gc")

#: How a flow may run within another, in a step named `sub`.
PLACES: dict[str, Callable[[Flow, Flow], Flow]] = {
    "inline": lambda outer, sub: outer.step("sub", sub),
    "branch": lambda outer, sub: outer.parallel("group", [Step("sub", sub)]),
}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Callable[[Flow, Flow], Flow]:
    """Return a function that adds a flow to another."""
    return PLACES[request.param]


def flow_in(step: Callable[[Flow, Flow], Flow], sub: Flow) -> Flow:
    """Return a flow that holds a flow that holds `sub`."""
    return step(Flow("outer"), step(Flow("middle"), sub))


def down(result: FlowResult) -> FlowResult:
    """Return the result two levels down of a flow that completed there."""
    inner: FlowResult = result["sub"].value["sub"].value
    return inner


def test_values_inside_are_collected_with_the_result(place: Callable[[Flow, Flow], Flow]) -> None:
    """At any depth."""
    flow = flow_in(place, Flow("sub").step("a", return_thing))
    assert_collected(watch(flow, lambda result: down(result)["a"].value))


def test_values_are_collected_after_they_were_undone(place: Callable[[Flow, Flow], Flow]) -> None:
    """What it takes to undo them goes with the run."""
    sub = Flow("sub").step("a", return_thing, compensate=do_nothing)
    flow = flow_in(place, sub).step("bad", fail)
    assert_collected(watch(flow, lambda result: down(result)["a"].value))


def test_errors_inside_are_collected_with_the_result(place: Callable[[Flow, Flow], Flow]) -> None:
    """Their tracebacks lead through the frames of all runs around them."""
    flow = flow_in(place, Flow("sub").step("a", raise_watched, retries=1))
    assert_collected(watch(flow, lambda result: result.error.result.error.result.error))


def test_errors_of_compensations_inside_are_collected(
    place: Callable[[Flow, Flow], Flow],
) -> None:
    """When a flow undoes itself."""
    sub = Flow("sub").step("a", do_nothing, compensate=raise_watched).step("bad", fail)
    flow = flow_in(place, sub)
    find = lambda result: result.error.result.error.compensation_errors[0]  # noqa: E731
    assert_collected(watch(flow, find))


@pytest.mark.parametrize("pool", ["inline", "thread"])
def test_errors_of_undoing_are_collected(place: Callable[[Flow, Flow], Flow], pool: str) -> None:
    """When it is undone in its place, through all levels."""
    undo = Step("undo", raise_watched, pool=pool)
    flow = flow_in(place, Flow("sub").step("a", do_nothing, compensate=undo)).step("bad", fail)
    assert_collected(watch(flow, lambda result: down(result).compensations[0].error))


def test_results_of_stopped_flows_are_collected(place: Callable[[Flow, Flow], Flow]) -> None:
    """The error of the step leads to them, and they lead to it no more."""
    sub = Flow("sub").step("a", do_nothing, compensate=do_nothing).step("sleep", sleep_long)
    flow = place(Flow("outer"), sub)
    find = lambda result: result["sub"].error.__cause__.result  # noqa: E731
    assert_collected(watch(flow, find, timeout=SHORT))


def test_the_state_inside_is_collected_after_the_run(place: Callable[[Flow, Flow], Flow]) -> None:
    """Though the result is kept, which could not undo anything any more."""
    references = []

    def body(ctx: Context) -> None:
        thing = Thing()
        references.append(weakref.ref(thing))
        ctx.set("k", thing)

    result = flow_in(place, Flow("sub").step("a", body)).run()
    assert_collected(references[0])
    assert (None, None) == (result["sub"].value._run, down(result)._run)


def test_values_inside_are_collected_although_an_error_was_kept(
    place: Callable[[Flow, Flow], Flow],
) -> None:
    """Who keeps an error keeps its own traceback, not the runs around it."""
    sub = Flow("sub").step("a", return_thing).step("bad", raise_watched)
    result = place(Flow("outer"), sub).run()
    inner = result.error.result
    error, reference = inner.error, weakref.ref(inner["a"].value)
    del result, inner
    assert_collected(reference)
    assert isinstance(error, WatchedError)


def test_an_abandoned_flow_is_collected_once_it_has_ended(gate: Gate) -> None:
    """And was drained: what it had undone itself leaves nothing behind either."""
    token, things = CancelToken(), []

    def deaf(ctx: Context) -> None:
        gate.wait()
        raise BodyError

    def make(ctx: Context) -> Thing:
        thing = Thing()
        things.append(weakref.ref(thing))
        return thing

    inner = Flow("inner").step("a", make, compensate=do_nothing)
    sub = Flow("sub", hooks=[When("on_step_start", token.cancel, "deaf")])
    sub.step(inner).step("deaf", deaf)
    flow = Flow("outer").step("first", do_nothing, compensate=lambda ctx: gate.open())
    flow.step("sub", sub, pool="thread", grace=0).run(cancel=token, drain=PATIENCE)
    assert_collected(things[0])


def test_flows_are_collected_after_their_runs(place: Callable[[Flow, Flow], Flow]) -> None:
    """A run keeps no definition."""
    sub = Flow("sub").step("a", return_thing)
    flow = flow_in(place, sub)
    flow.run()
    reference = weakref.ref(sub)
    del sub, flow
    assert_collected(reference)
