"""Groups and the pools of a flow are checked at the call, too."""

from __future__ import annotations

from typing import Any

import pytest
from definition_cases import (
    BAD_COUNTS,
    BAD_FLAGS,
    BAD_SECONDS,
    example_flow,
    fetch_user,
    named,
    refused,
)

from syncflow.errors import DefinitionError, DefinitionTypeError
from syncflow.flow import Flow


@pytest.fixture
def flow() -> Flow:
    """Return a flow that holds a step and a group."""
    return example_flow()


BAD_GROUP_OPTIONS = [
    *[("fail_fast", *bad) for bad in BAD_FLAGS],
    *[("min_success", *bad) for bad in [*BAD_COUNTS, (0, DefinitionError), (3, DefinitionError)]],
    *[("max_concurrency", *bad) for bad in [*BAD_COUNTS, (0, DefinitionError)]],
    *[("timeout", *bad) for bad in [*BAD_SECONDS, (0, DefinitionError)]],
    ("pool", 5, DefinitionTypeError),
    ("pool", "", DefinitionError),
    ("pool", "proces", DefinitionError),
]


@pytest.mark.parametrize(("option", "value", "error"), BAD_GROUP_OPTIONS)
def test_bad_group_options_are_refused(
    flow: Flow, option: str, value: object, error: type[Exception]
) -> None:
    """Every bad value of every option of a group raises and names group, option and value."""
    members = [named("x"), named("y")]
    message = refused(flow, error, lambda: flow.parallel("group", members, **{option: value}))
    assert "group 'group'" in message
    assert option in message
    assert repr(value)[:90] in message


def test_a_misspelt_group_option_gets_a_hint(flow: Flow) -> None:
    """An unknown option of a group names the nearest one."""
    call = lambda: flow.parallel("group", [named("x")], failfast=True)  # noqa: E731
    message = refused(flow, DefinitionTypeError, call)
    assert message == "group 'group': unknown option 'failfast'; did you mean 'fail_fast'?"


def test_min_success_excludes_fail_fast(flow: Flow) -> None:
    """One failure fails a fail-fast group, so there is nothing to count."""
    call = lambda: flow.parallel("g", [named("x")], fail_fast=True, min_success=1)  # noqa: E731
    assert "min_success=1 excludes fail_fast=True" in refused(flow, DefinitionError, call)


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ([], DefinitionError),
        ((item for item in ()), DefinitionError),
        ("ab", DefinitionTypeError),
        (None, DefinitionTypeError),
        (5, DefinitionTypeError),
        (named("x"), DefinitionTypeError),
        (Flow("inner"), DefinitionTypeError),
        ({"name": "x", "fn": fetch_user}, DefinitionTypeError),
        ([named("x"), fetch_user], DefinitionTypeError),
        ([named("x"), "y"], DefinitionTypeError),
        ([named("x"), None], DefinitionTypeError),
    ],
    ids=lambda value: type(value).__name__,
)
def test_bad_members_are_refused(flow: Flow, steps: Any, error: type[Exception]) -> None:
    """A group takes a non-empty iterable of steps and mappings, and says so."""
    message = refused(flow, error, lambda: flow.parallel("group", steps))
    assert "group 'group'" in message
    assert "must" in message


def test_an_undecorated_function_gets_advice(flow: Flow) -> None:
    """A plain function in a group has no name yet; the message says how to give it one."""
    message = refused(flow, DefinitionTypeError, lambda: flow.parallel("group", [fetch_user]))
    assert "Step(name, fn), or @syncflow.step" in message


@pytest.mark.parametrize(
    ("text", "mapping"),
    [
        ("key 'name' is missing", {"fn": fetch_user}),
        ("key 'fn' is missing", {"name": "x"}),
        ("key 'name' is missing", {}),
        ("'x': unknown option 'function'", {"name": "x", "fn": fetch_user, "function": max}),
        ("'x': unknown option 5", {"name": "x", "fn": fetch_user, 5: max}),
        ("'x': options must be a mapping, not 5", {"name": "x", "fn": fetch_user, "options": 5}),
        (
            "'x': unknown option 'name'",
            {"name": "x", "fn": fetch_user, "options": {"name": "y"}},
        ),
        (
            "'x': 'retries' must be within options",
            {"name": "x", "fn": fetch_user, "options": {}, "retries": 1},
        ),
    ],
)
def test_bad_mappings_are_refused(flow: Flow, text: str, mapping: dict[Any, Any]) -> None:
    """A mapping that is no step says where it stands and what is wrong with it."""
    before = dict(mapping)
    call = lambda: flow.parallel("group", [named("w"), mapping])  # noqa: E731
    message = refused(flow, DefinitionTypeError, call)
    assert "group 'group', steps[1]" in message
    assert text in message
    assert before == mapping


def test_mappings_become_steps(flow: Flow) -> None:
    """Both forms of mapping make the same step, and are left as they were."""
    flat = {"name": "x", "fn": fetch_user, "retries": 2}
    nested = {"name": "y", "fn": fetch_user, "options": {"retries": 2}}
    flow.parallel("group", [flat, nested])
    assert [("x", 2), ("y", 2)] == [(made.name, made.retries) for made in flow.nodes[-1].steps]
    assert (3, 3) == (len(flat), len(nested))


def test_unknown_pools_are_refused(flow: Flow) -> None:
    """A pool's name is checked at the call, which names the step, the value and what is known."""
    for call in (
        lambda: flow.step("fetch", fetch_user, pool="proces"),
        lambda: flow.step(named("fetch", pool="proces")),
        lambda: flow.step("fetch", pool="proces"),
        lambda: flow.parallel("group", [named("fetch", pool="proces")]),
        lambda: flow.step("fetch", fetch_user, compensate=named("undo", pool="proces")),
    ):
        message = refused(flow, DefinitionError, call)
        assert "step 'fetch': pool must be one of 'inline', 'thread', 'process', 'own'" in message
        assert "not 'proces'; did you mean 'process'?" in message


def test_inline_is_refused_in_a_group(flow: Flow) -> None:
    """A member in the caller's thread would block the others, under whichever name."""
    for pool in ("inline", "alias"):
        for call in (
            lambda pool=pool: flow.parallel("group", [named("fetch", pool=pool)]),
            lambda pool=pool: flow.parallel("group", [named("fetch")], pool=pool),
        ):
            message = refused(flow, DefinitionError, call)
            assert "step 'fetch': pool='inline' cannot be in group 'group'" in message


def test_an_alias_of_inline_has_no_timeout(flow: Flow) -> None:
    """What the alias stands for is checked, of a compensation, too."""
    for call in (
        lambda: flow.step("fetch", fetch_user, pool="alias", timeout=5),
        lambda: flow.step("fetch", fetch_user, compensate=named("undo", pool="alias", timeout=5)),
    ):
        message = refused(flow, DefinitionError, call)
        assert "step 'fetch': pool='inline' cannot have timeout=5.0" in message


def test_inline_compensations_are_fine_in_groups(flow: Flow) -> None:
    """A rollback runs one at a time, so its steps may be inline."""
    undo = named("undo", pool="inline")
    assert undo is flow.parallel("g", [named("x", compensate=undo)]).nodes[-1].steps[0].undo
