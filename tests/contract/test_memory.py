"""Nothing of a run stays in memory once its result is dropped, without the garbage collector."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
from contract_tools import BodyError, Pool, do_nothing, fail, wait_until

from syncflow import Context, Flow, FlowResult, Step


class Thing:
    """A value that can be watched."""


class WatchedError(Exception):
    """An error that can be watched."""


def watch(flow: Flow, find: Callable[[FlowResult], Any], **run: Any) -> weakref.ref[Any]:
    """Run a flow, drop its result, and return a weak reference to something that was in it."""
    result = flow.run(**run)
    reference = weakref.ref(find(result))
    del result  # the frames of an inline body's error lead here: dropped is what is deleted
    return reference


def assert_collected(reference: weakref.ref[Any]) -> None:
    """Check that nothing refers to it any more: a worker may need a moment to let go."""
    wait_until(lambda: reference() is None, "the last reference to go")


def raise_watched(ctx: Context) -> None:
    """Raise an error that can be watched."""
    raise WatchedError(ctx.step_name)


def return_thing(ctx: Context) -> Thing:
    """Return a value that can be watched."""
    return Thing()


@pytest.mark.usefixtures("no_gc")
def test_values_are_collected_with_the_result(pool: Pool) -> None:
    """No cycle, no cache and no worker keeps them."""
    flow = Flow("flow").step("a", return_thing, pool=pool).step("b", do_nothing, pool=pool)
    assert_collected(watch(flow, lambda result: result["a"].value))


@pytest.mark.usefixtures("no_gc")
def test_errors_are_collected_with_the_result(pool: Pool) -> None:
    """Their tracebacks lead to frames, and those must not lead back."""
    flow = Flow("flow").step("a", raise_watched, pool=pool, retries=1)
    assert_collected(watch(flow, lambda result: result.error))


@pytest.mark.usefixtures("no_gc")
def test_errors_of_members_are_collected_with_the_result(worker_pool: Pool) -> None:
    """Those of a tolerated group, too."""
    steps = [Step("a", raise_watched), Step("b", return_thing)]
    flow = Flow("flow").parallel("g", steps, pool=worker_pool).step("c", do_nothing)
    assert_collected(watch(flow, lambda result: result["a"].error))


@pytest.mark.usefixtures("no_gc")
def test_errors_of_groups_are_collected_with_the_result(worker_pool: Pool) -> None:
    """An `ExceptionGroup` makes no difference."""
    steps = [Step("a", raise_watched), Step("b", raise_watched)]
    flow = Flow("flow").parallel("g", steps, pool=worker_pool)
    assert_collected(watch(flow, lambda result: result.error.exceptions[1]))


@pytest.mark.usefixtures("no_gc")
def test_errors_of_compensations_are_collected_with_the_result(pool: Pool) -> None:
    """Nor does a rollback."""
    undo = Step("undo", raise_watched, pool=pool)
    flow = Flow("flow").step("a", do_nothing, compensate=undo).step("bad", fail, pool=pool)
    assert_collected(watch(flow, lambda result: result.compensations[0].error))


@pytest.mark.usefixtures("no_gc")
def test_inputs_are_collected_after_the_run(pool: Pool) -> None:
    """Also when the step that read it has failed."""

    def body(ctx: Context) -> None:
        assert ctx.input is not None
        raise BodyError

    flow, thing = Flow("flow").step("a", body, pool=pool), Thing()
    reference = weakref.ref(thing)
    flow.run(thing)
    del thing
    assert_collected(reference)


@pytest.mark.usefixtures("no_gc")
def test_state_is_collected_after_the_run(sharing_pool: Pool) -> None:
    """It lives as long as the run."""
    references = []

    def body(ctx: Context) -> None:
        thing = Thing()
        references.append(weakref.ref(thing))
        ctx.set("k", thing)

    flow = Flow("flow").step("a", body, pool=sharing_pool).step("b", do_nothing, pool=sharing_pool)
    flow.run()
    assert_collected(references[0])


@pytest.mark.usefixtures("no_gc")
def test_values_are_collected_although_an_error_was_kept(pool: Pool) -> None:
    """Who keeps an error keeps its own traceback, not the whole run."""
    flow = Flow("flow").step("a", return_thing).step("bad", raise_watched, pool=pool)
    result = flow.run()
    error, reference = result.error, weakref.ref(result["a"].value)
    del result
    assert_collected(reference)
    assert isinstance(error, WatchedError)


@pytest.mark.usefixtures("no_gc")
def test_a_flow_is_collected_after_its_runs(pool: Pool) -> None:
    """A run hangs nothing on a definition, and keeps none."""
    flow = Flow("flow").step("a", return_thing, pool=pool)
    flow.run()
    reference = weakref.ref(flow)
    del flow
    assert_collected(reference)
