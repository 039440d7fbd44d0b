"""Flows as steps: what is accepted, what is refused, and that no flow contains itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from definition_cases import EXECUTOR, fetch_user, named, refused

from syncflow import DefinitionError, DuplicateStepError
from syncflow.definition import pool_of
from syncflow.errors import DefinitionTypeError
from syncflow.flow import Flow, Step, step


def sub_flow(name: str = "sub") -> Flow:
    """Return a flow of one step."""
    return Flow(name).step("inside", fetch_user)


# --- where a flow may stand ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "add"),
    [
        ("sub", lambda flow, sub: flow.step(sub)),
        ("named", lambda flow, sub: flow.step("named", sub)),
        ("named", lambda flow, sub: flow.step(Step("named", sub))),
        ("sub", lambda flow, sub: flow.parallel("group", [sub])),
        ("named", lambda flow, sub: flow.parallel("group", [Step("named", sub)])),
        ("named", lambda flow, sub: flow.parallel("group", [{"name": "named", "fn": sub}])),
    ],
)
def test_a_flow_stands_where_a_step_may(name: str, add: Callable[[Flow, Flow], Flow]) -> None:
    """It becomes a step that knows its flow, under the flow's name or the one that is given."""
    sub = sub_flow()
    flow = add(Flow("outer"), sub)
    (node,) = flow.nodes
    (member,) = getattr(node, "steps", (node,))
    assert (name, sub) == (member.name, member.nested)


def test_an_ordinary_step_has_no_flow() -> None:
    """Only a step that was made of one does."""
    assert None is named("x").nested


def test_a_flow_takes_the_options_of_a_step() -> None:
    """Retries, a timeout, a grace: each is the step's."""
    flow = Flow("outer").step(sub_flow(), retries=2, timeout=5, grace=3)
    (member,) = flow.nodes
    assert (2, 5.0, 3.0) == (member.retries, member.timeout, member.grace)


def test_names_inside_are_the_flows_own() -> None:
    """They may repeat those outside, and one flow may stand in several places."""
    sub = sub_flow()
    flow = Flow("outer").step("inside", fetch_user).step("one", sub).step("two", sub)
    assert ["inside", "one", "two"] == [node.name for node in flow.nodes]


def test_the_name_of_a_flow_may_be_taken() -> None:
    """Then it needs another."""
    flow = Flow("outer").step("sub", fetch_user)
    assert "'sub' already exists" in refused(
        flow, DuplicateStepError, lambda: flow.step(sub_flow())
    )


def test_an_empty_flow_may_be_added() -> None:
    """Its steps may come later."""
    sub = Flow("sub")
    flow = Flow("outer").step(sub)
    sub.step("inside", fetch_user)
    assert sub is flow.nodes[0].nested


@pytest.mark.parametrize(
    ("pool", "options", "grouped"),
    [
        ("inline", {}, False),
        ("thread", {"timeout": 5}, False),
        ("thread", {"pool": "thread"}, False),
        ("inline", {"pool": "inline"}, False),
        ("thread", {}, True),
    ],
)
def test_a_flow_runs_inline_or_on_a_thread(pool: str, options: Any, grouped: bool) -> None:
    """As any step would by default; the pool of a group does not apply to it."""
    flow = Flow("outer").parallel("group", [named("x")], pool="process")
    group = flow.nodes[0] if grouped else None
    assert pool == pool_of(Step("sub", sub_flow(), **options), group)


def test_a_flow_is_undone_by_its_steps() -> None:
    """It needs no compensation of its own to be reversible, but theirs."""
    without = Step("sub", Flow("sub").step(sub_flow()))
    undone = Flow("deep").step("x", fetch_user, compensate=fetch_user)
    with_one = Step("sub", Flow("sub").step(undone))
    assert (False, True) == (without.reversible, with_one.reversible)


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["process", "own", EXECUTOR], ids=["process", "name", "executor"])
def test_a_flow_has_no_other_pool(pool: Any) -> None:
    """It runs in a thread of this process; its steps may run anywhere."""
    with pytest.raises(DefinitionError, match=r"step 'sub': pool must be 'thread' or 'inline'"):
        Step("sub", sub_flow(), pool=pool)


@pytest.mark.parametrize(
    ("option", "value"), [("compensate", fetch_user), ("compensate_on", "started")]
)
def test_a_flow_has_no_compensation(option: str, value: Any) -> None:
    """It undoes itself."""
    with pytest.raises(DefinitionError, match=rf"step 'sub': {option} must be left out"):
        Step("sub", sub_flow(), **{option: value})


def test_a_flow_in_a_group_is_not_inline() -> None:
    """As no member is."""
    flow = Flow("outer")
    steps = [Step("sub", sub_flow(), pool="inline")]
    assert "would run alone" in refused(flow, DefinitionError, lambda: flow.parallel("g", steps))


def test_a_flow_is_no_group() -> None:
    """The steps of a group are given one by one."""
    flow = Flow("outer")
    call = lambda: flow.parallel("g", sub_flow())  # type: ignore[arg-type]  # noqa: E731
    assert "must be a list" in refused(flow, DefinitionTypeError, call)


def test_the_decorator_takes_functions_only() -> None:
    """A flow has no name that a function would have."""
    with pytest.raises(DefinitionTypeError, match="fn must be a function"):
        step(sub_flow())  # type: ignore[call-overload]


def test_a_flow_takes_its_name_from_one_side() -> None:
    """A name and a function after it make no sense."""
    flow = Flow("outer")
    call = lambda: flow.step(sub_flow(), fetch_user)  # type: ignore[call-overload]  # noqa: E731
    assert "takes a name and a function" in refused(flow, DefinitionTypeError, call)


def test_options_are_checked_at_the_call() -> None:
    """As for any step."""
    flow = Flow("outer")
    call = lambda: flow.step(sub_flow(), timout=5)  # type: ignore[call-overload]  # noqa: E731
    assert "did you mean 'timeout'?" in refused(flow, DefinitionTypeError, call)


# --- cycles ----------------------------------------------------------------------------------


def test_a_flow_cannot_contain_itself() -> None:
    """The call that would close the circle is refused."""
    flow = Flow("a").step("x", fetch_user)
    message = refused(flow, DefinitionError, lambda: flow.step("self", flow))
    assert "flow 'a' cannot contain itself: a > a" == message


def test_a_flow_cannot_contain_itself_through_others() -> None:
    """The message says how."""
    a, b, c = Flow("a"), Flow("b"), Flow("c")
    a.step(b)
    b.parallel("group", [named("x"), c])
    message = refused(c, DefinitionError, lambda: c.step(a))
    assert "flow 'c' cannot contain itself: c > a > b > c" == message


def test_a_member_of_a_group_may_close_the_circle() -> None:
    """The group is refused as a whole."""
    a = Flow("a")
    b = Flow("b").step(a)
    message = refused(a, DefinitionError, lambda: a.parallel("group", [named("x"), b]))
    assert "flow 'a' cannot contain itself: a > b > a" == message


def test_a_flow_that_grows_later_is_checked_then() -> None:
    """What was added while it was harmless is found."""
    a, b = Flow("a"), Flow("b")
    a.step(b)
    b.step("x", fetch_user)
    assert "b > a > b" in refused(b, DefinitionError, lambda: b.step("back", a))


def test_one_flow_in_many_places_is_no_circle() -> None:
    """However many ways lead to it: looking for a circle goes each way once."""
    flow = sub_flow()
    for number in range(60):
        flow = Flow(f"level-{number}").step("left", flow).step("right", flow)
    assert 2 == len(flow.nodes)
