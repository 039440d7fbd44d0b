"""A flow may stand wherever a step may: what goes in, what comes out, who watches."""

from __future__ import annotations

import copy
import json
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from contract_tools import (
    BodyError,
    Gate,
    Recorder,
    do_nothing,
    fail,
    return_input,
    return_pid,
    warm_up,
)

from syncflow import (
    Context,
    DefinitionError,
    Flow,
    FlowFailedError,
    FlowResult,
    InputValidationError,
    StateConflictError,
    Step,
)

#: How a flow may be added to another: as a plain step, on a thread, as the branch of a group.
PLACES: dict[str, Callable[[Flow, Flow], Flow]] = {
    "inline": lambda outer, sub: outer.step(sub),
    "thread": lambda outer, sub: outer.step("sub", sub, timeout=100),
    "branch": lambda outer, sub: outer.parallel("group", [sub, Step("sibling", do_nothing)]),
}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Callable[[Flow, Flow], Flow]:
    """Return a function that adds a flow named `sub` to another."""
    return PLACES[request.param]


def writing(key: str, value: object) -> Callable[[Context], None]:
    """Return a body that writes one key."""
    return lambda ctx: ctx.set(key, value)


def reading(*keys: str) -> Callable[[Context], list[Any]]:
    """Return a body that returns what the state holds."""
    return lambda ctx: [ctx.get(key) for key in keys]


# --- in and out ------------------------------------------------------------------------------


def test_its_value_is_its_result(place: Callable[[Flow, Flow], Flow]) -> None:
    """With all that a result of a flow has, for later steps and for the caller."""
    sub = Flow("sub").step("inside", lambda ctx: "value")
    flow = place(Flow("outer"), sub).step("after", lambda ctx: ctx.value("sub")["inside"].value)
    result = flow.run()
    assert ("completed", "value") == (result["sub"].status, result["after"].value)
    assert (FlowResult, "sub", True) == (
        type(result["sub"].value), result["sub"].value.name, result["sub"].value.ok,
    )  # fmt: skip


def test_it_gets_the_outer_input(place: Callable[[Flow, Flow], Flow]) -> None:
    """The very object."""
    given = object()
    result = place(Flow("outer"), Flow("sub").step("inside", return_input)).run(given)
    assert given is result["sub"].value["inside"].value


def test_it_validates_the_input_itself(place: Callable[[Flow, Flow], Flow]) -> None:
    """What comes of that is its own input, and nobody else's."""
    sub = Flow("sub", validate=lambda given: given + 1).step("inside", return_input)
    result = place(Flow("outer"), sub).step("after", return_input).run(1)
    assert (2, 1) == (result["sub"].value["inside"].value, result["after"].value)


def test_an_input_that_it_refuses_fails_the_step() -> None:
    """As any failure in it does."""
    sub = Flow("sub", validate=fail).step("inside", do_nothing)
    error = Flow("outer").step(sub).run().error
    assert (FlowFailedError, InputValidationError) == (type(error), type(error.__cause__))


def test_its_state_starts_as_the_outer_one(place: Callable[[Flow, Flow], Flow]) -> None:
    """As its step finds it."""
    sub = Flow("sub").step("inside", reading("before"))
    result = place(Flow("outer").step("first", writing("before", 1)), sub).run()
    assert [1] == result["sub"].value["inside"].value


def test_its_state_is_a_copy(gates: Callable[[str], Gate]) -> None:
    """What it writes is seen inside at once, and by no sibling."""
    written, read = gates("written"), gates("read")

    def look(ctx: Context) -> object:
        written.wait()
        try:
            return ctx.get("key")
        finally:
            read.open()

    sub = Flow("sub").step("write", writing("key", "inner"))
    sub.step("see", reading("key")).step("tell", lambda ctx: (written.open(), read.wait()))
    flow = Flow("outer").step("first", writing("key", "outer"))
    result = flow.parallel("group", [sub, Step("sibling", look)]).run()
    assert (["inner"], "outer") == (result["sub"].value["see"].value, result["sibling"].value)


def test_its_writes_are_those_of_its_step(place: Callable[[Flow, Flow], Flow]) -> None:
    """All of them, as they were when it ended; keys that it did not write are not touched."""
    sub = Flow("sub").step("one", writing("a", 1)).step("two", writing("a", 2))
    sub.parallel("inner-group", [Step("three", writing("b", 3))])
    flow = place(Flow("outer").step("first", writing("c", 4)), sub)
    assert [2, 3, 4] == flow.step("after", reading("a", "b", "c")).run()["after"].value


def test_its_writes_count_only_when_it_completes() -> None:
    """A branch that failed has written nothing."""
    sub = Flow("sub").step("write", writing("key", 1)).step("bad", fail)
    flow = Flow("outer").parallel("group", [sub, Step("sibling", do_nothing)])
    assert [None] == flow.step("after", reading("key")).run()["after"].value


def test_its_writes_conflict_with_those_of_a_sibling() -> None:
    """It is named as the writer."""
    sub = Flow("sub").step("inside", writing("key", 1))
    result = Flow("outer").parallel("g", [sub, Step("other", writing("key", 2))]).run()
    assert isinstance(result.error, StateConflictError)
    assert ("key", ("sub", "other")) == (result.error.key, result.error.steps)


def test_a_key_that_it_only_read_is_no_conflict() -> None:
    """The copy of the outer state is not written back."""
    sub = Flow("sub").step("inside", reading("key"))
    flow = Flow("outer").step("first", writing("key", 1))
    assert flow.parallel("g", [sub, Step("other", writing("key", 2))]).run().ok


def test_earlier_values_are_the_outer_flows_own() -> None:
    """Names inside and outside do not meet."""
    sub = Flow("sub").step("first", lambda ctx: ctx.value("first", "nothing"))
    flow = Flow("outer").step("first", lambda ctx: "outer").step(sub)
    result = flow.step("last", lambda ctx: ctx.value("first")).run()
    assert ("nothing", "outer") == (result["sub"].value["first"].value, result["last"].value)


def test_idempotency_keys_name_the_whole_way() -> None:
    """So two places of one flow have different keys."""
    inner = Flow("inner").step("pay", lambda ctx: ctx.idempotency_key)
    sub = Flow("sub").step("left", inner).step("right", inner)
    value = Flow("outer").step(sub).run(run_id="R")["sub"].value
    assert ["R:sub:left:pay", "R:sub:right:pay"] == [
        value[side].value["pay"].value for side in ("left", "right")
    ]


# --- failure ---------------------------------------------------------------------------------


def test_it_fails_its_step(place: Callable[[Flow, Flow], Flow]) -> None:
    """The step's error leads to its result, and to what went wrong there."""
    result = place(Flow("outer"), Flow("sub").step("bad", fail)).run()
    error = result["sub"].error
    assert ("failed", FlowFailedError) == (result["sub"].status, type(error))
    assert (error.result["bad"].error, error.result.error) == (error.__cause__, error.__cause__)
    assert isinstance(error.__cause__, BodyError)


def test_its_failure_is_that_of_the_flow() -> None:
    """A sequential step's error is the flow's."""
    result = Flow("outer").step(Flow("sub").step("bad", fail)).step("after", do_nothing).run()
    assert (result["sub"].error, "skipped") == (result.error, result["after"].status)


def test_a_group_tolerates_its_failure() -> None:
    """A branch is judged as any member is."""
    steps = [Flow("sub").step("bad", fail), Step("good", do_nothing)]
    result = Flow("outer").parallel("group", steps).run()
    assert (True, True, 1) == (result.ok, result.partial, result["group"].failed)


def test_a_group_that_fails_fast_fails_with_its_error() -> None:
    """The very error of the branch."""
    steps = [Flow("sub").step("bad", fail), Step("good", do_nothing)]
    result = Flow("outer").parallel("group", steps, fail_fast=True).run()
    assert (FlowFailedError, result["sub"].error) == (type(result.error), result.error)


def test_it_is_retried_with_the_same_keys(place: Callable[[Flow, Flow], Flow]) -> None:
    """Each attempt runs the whole flow again, on the state as it was."""
    seen = []

    def body(ctx: Context) -> None:
        seen.append((ctx.idempotency_key, ctx.get("mark")))
        ctx.set("mark", 1)
        if len(seen) < 3:
            raise BodyError

    sub = Flow("sub").step("inside", body)
    flow = Flow("outer").parallel("group", [Step("again", sub, retries=2)])
    result = flow.run(run_id="R")
    assert [("R:again:inside", None)] * 3 == seen
    assert ("completed", 3) == (result["again"].status, result["again"].attempts)


def test_retry_on_sees_its_error() -> None:
    """A predicate may look into its result."""
    sub = Flow("sub").step("bad", fail)
    flow = Flow("outer").step("a", sub, retries=5, retry_on=lambda error: error.result.ok)
    assert 1 == flow.run()["a"].attempts


def test_a_flow_without_steps_stops_the_run_before_it_starts() -> None:
    """At any depth; nothing has run."""
    ran: list[int] = []
    sub = Flow("sub").parallel("group", [Flow("hollow")])
    flow = Flow("outer").step("first", lambda ctx: ran.append(1)).step(sub)
    with pytest.raises(DefinitionError, match="flow 'hollow', in flow 'outer', is empty"):
        flow.run()
    assert [] == ran


# --- where it runs ---------------------------------------------------------------------------


def test_a_plain_step_runs_it_inline() -> None:
    """Its inline steps run in the thread that called `run`."""
    sub = Flow("sub").step("inside", lambda ctx: threading.current_thread())
    result = Flow("outer").step(sub).run()
    assert threading.current_thread() is result["sub"].value["inside"].value
    assert "inline" == result["sub"].pool


def test_a_branch_runs_it_on_a_thread() -> None:
    """Whatever the pool of the group; its inline steps run there, too."""
    sub = Flow("sub").step("inside", lambda ctx: threading.current_thread().name)
    flow = Flow("outer").parallel("group", [sub], pool="process")
    result = flow.run()
    assert result["sub"].worker == result["sub"].value["inside"].value
    assert "thread" == result["sub"].pool


@pytest.mark.xdist_group("process")
def test_its_steps_may_run_on_processes(tmp_path: Any) -> None:
    """They read its input and its state there."""
    warm_up(tmp_path)
    sub = Flow("sub").step("write", writing("key", "inner"))
    sub.step("inside", lambda ctx: (ctx.input, ctx["key"], return_pid(ctx)), pool="process")
    result = Flow("outer").parallel("group", [sub]).run("input")
    inside = result["sub"].value["inside"]
    assert ("input", "inner", inside.worker) == inside.value


@pytest.mark.xdist_group("process")
def test_a_process_step_reads_its_result(tmp_path: Any) -> None:
    """A later one, outside: the result travels as a record."""
    warm_up(tmp_path)
    flow = Flow("outer").step(Flow("sub").step("inside", lambda ctx: "value"))
    flow.step("after", lambda ctx: ctx.value("sub")["inside"].value, pool="process")
    assert "value" == flow.run()["after"].value


def test_its_steps_may_run_on_any_executor() -> None:
    """On those that its own pools name."""
    with ThreadPoolExecutor(1, thread_name_prefix="own") as executor:
        sub = Flow("sub", pools={"mine": executor})
        sub.step("inside", lambda ctx: threading.current_thread().name, pool="mine")
        result = Flow("outer").parallel("group", [sub]).run()
    assert "own_0" == result["sub"].value["inside"].value


def thread_name(ctx: Context) -> str:
    """Return the name of the thread that runs the body."""
    return threading.current_thread().name


@pytest.mark.parametrize("pool", ["process", "mine"])
def test_the_pools_of_a_run_reach_in(pool: str) -> None:
    """A flow moves as a whole: built-in names, and names that a flow within it knows."""
    sub = Flow("sub", pools={"mine": "thread"}).parallel(
        "inner", [Step("inside", thread_name, pool=pool), Step("other", thread_name)]
    )
    middle = Flow("middle").parallel("group", [sub])
    with ThreadPoolExecutor(1, thread_name_prefix="moved") as executor:
        result = Flow("outer").step(middle).run(pools={pool: executor})
    value = result["middle"].value["sub"].value
    assert ("moved_0", True) == (value["inside"].value, "syncflow" in value["other"].value)


def test_a_flow_itself_is_never_moved() -> None:
    """It needs a thread of this process, and more of them the deeper it is: none of a pool's."""
    sub = Flow("sub").parallel("inner", [Step("inside", thread_name)])
    with ThreadPoolExecutor(1, thread_name_prefix="moved") as executor:
        result = Flow("outer").parallel("group", [sub]).run(pools={"thread": executor})
    assert "moved_0" == result["sub"].value["inside"].value
    assert "moved_0" != result["sub"].worker


def test_pools_of_a_run_are_checked_inside() -> None:
    """Before anything runs."""
    sub = Flow("sub", pools={"mine": "thread"}).step("a", do_nothing, timeout=1, pool="mine")
    with pytest.raises(DefinitionError, match="step 'a' has a timeout"):
        Flow("outer").step(sub).run(pools={"mine": "inline"})
    with pytest.raises(DefinitionError, match="did you mean 'mine'"):
        Flow("outer").step(sub).run(pools={"mien": "thread"})


# --- depth and width -------------------------------------------------------------------------


def deep(levels: int, step: Step) -> Flow:
    """Return a flow that holds a step so many levels down, in a group on each."""
    flow = Flow("level-0").step(step)
    for level in range(1, levels):
        flow = Flow(f"level-{level}").parallel("group", [flow])
    return flow


def test_ten_levels_in_a_group_of_a_hundred_end() -> None:
    """Whoever waits has its own thread, and those that are waited for find one."""
    names = [f"branch-{number}" for number in range(100)]
    steps = [Step(name, deep(10, Step("leaf", do_nothing))) for name in names]
    result = Flow("outer").parallel("wide", steps).run()
    assert 100 == result["wide"].completed


@pytest.mark.xdist_group("process")
def test_ten_levels_with_processes_end(tmp_path: Any) -> None:
    """Only the steps at the bottom use the few workers there are."""
    warm_up(tmp_path)
    leaf = Step("leaf", return_pid, pool="process")
    steps = [Step(f"branch-{number}", deep(10, leaf)) for number in range(20)]
    assert 20 == Flow("outer").parallel("wide", steps).run()["wide"].completed


def test_branches_keep_to_the_bound_of_their_group() -> None:
    """One at a time, as any members."""
    seen: list[str] = []
    sub = Flow("sub").step("one", lambda ctx: seen.append("begun"))
    sub.parallel("inner", [Step("two", lambda ctx: seen.append("ended"))])
    branches = [Step(f"branch-{number}", sub) for number in range(20)]
    Flow("outer").parallel("group", branches, max_concurrency=1).run()
    assert ["begun", "ended"] * 20 == seen


def test_one_flow_runs_in_many_threads_at_once() -> None:
    """The runs share nothing."""
    sub = Flow("sub").step("inside", lambda ctx: ctx.set("seen", ctx.input))
    flow = Flow("outer").parallel("group", [sub]).step("after", reading("seen"))
    with ThreadPoolExecutor(10) as threads:
        results = list(threads.map(flow.run, range(10)))
    assert [[number] for number in range(10)] == [result["after"].value for result in results]


def test_a_step_that_is_called_as_a_function_says_what_to_do() -> None:
    """Its flow runs as a step, or by `run`."""
    step = Step("sub", Flow("sub").step("inside", do_nothing))
    error = Flow("outer").step("a", step.__call__).run().error
    assert (TypeError, True) == (type(error), "call its run()" in str(error))


# --- hooks, context, results -----------------------------------------------------------------


def test_its_hooks_tell_of_its_steps(
    place: Callable[[Flow, Flow], Flow], recorder: Recorder
) -> None:
    """In the thread that runs it, with its own name and run id."""
    threads: list[threading.Thread] = []
    sub = Flow("sub", hooks=[recorder])
    sub.step("inside", lambda ctx: threads.append(threading.current_thread()))
    place(Flow("outer"), sub).run(run_id="R")
    assert [
        "on_flow_start", "on_step_start inside", "on_step_complete inside", "on_flow_complete",
    ] == recorder.names()  # fmt: skip
    assert {("sub", "R:sub")} == {(event.flow_name, event.run_id) for _, event, _ in recorder.calls}
    assert set(threads) == {thread for _, _, thread in recorder.calls}


def test_outer_hooks_see_one_step(recorder: Recorder) -> None:
    """What is inside is its own business."""
    sub = Flow("sub").step("inside", do_nothing).step("bad", fail)
    Flow("outer", hooks=[recorder]).step("a", sub, retries=1).run()
    assert [
        "on_flow_start", "on_step_start a", "on_step_retry a", "on_step_fail a", "on_flow_fail",
    ] == recorder.names()  # fmt: skip


def test_the_results_of_a_flow_in_a_flow_can_be_kept(tmp_path: Any) -> None:
    """They are shown, turned into plain data, copied and pickled as any value."""
    result = Flow("outer").step(Flow("sub").step("inside", lambda ctx: "value")).run()
    assert "<FlowResult 'sub' completed>" in result.table()
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert ("sub", "value") == (
        data["steps"][0]["value"]["name"], data["steps"][0]["value"]["steps"][0]["value"],
    )  # fmt: skip
    for twin in (pickle.loads(pickle.dumps(result)), copy.copy(result), copy.deepcopy(result)):
        assert "value" == twin["sub"].value["inside"].value


def test_its_failure_can_be_kept() -> None:
    """With the result that the error leads to."""
    result = Flow("outer").step(Flow("sub").step("bad", fail)).run()
    twin = pickle.loads(pickle.dumps(result))
    assert "failed" == twin.error.result["bad"].status
    assert "flow 'sub' failed" in result.to_dict()["error"]["message"]


def test_a_copy_taken_while_the_run_goes_on_is_a_record() -> None:
    """It leads to nothing that only the run needs."""
    kept = []
    flow = Flow("outer").step(Flow("sub").step("inside", do_nothing))
    flow.step("keep", lambda ctx: kept.append(pickle.loads(pickle.dumps(ctx.value("sub")))))
    flow.run()
    assert (None, True) == (kept[0]._run, kept[0].ok)
