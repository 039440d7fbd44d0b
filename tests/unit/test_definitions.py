"""Every definition is checked at the call that makes it, and a refused call leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import attrs
import pytest
from definition_cases import (
    BAD_COUNTS,
    BAD_FLAGS,
    BAD_FUNCTIONS,
    BAD_SECONDS,
    EXECUTOR,
    example_flow,
    fetch_later,
    fetch_user,
    named,
    refused,
)

from syncflow.errors import DefinitionError, DefinitionTypeError, DuplicateStepError
from syncflow.flow import Flow, Parallel, Step, checked_pools, pool_of, step
from syncflow.hooks import Hooks

BAD_OPTIONS = [
    *[("pool", bad, DefinitionTypeError) for bad in (5, True, ["thread"], ThreadPoolExecutor)],
    ("pool", "", DefinitionError),
    *[("timeout", *bad) for bad in [*BAD_SECONDS, (0, DefinitionError), (0.0, DefinitionError)]],
    *[("retries", *bad) for bad in [*BAD_COUNTS, (None, DefinitionTypeError)]],
    *[("retry_delay", *bad) for bad in [*BAD_SECONDS, (None, DefinitionTypeError)]],
    ("backoff", "exponentail", DefinitionError),
    ("backoff", "", DefinitionError),
    ("backoff", None, DefinitionTypeError),
    ("backoff", 2, DefinitionTypeError),
    *[("max_retry_delay", *bad) for bad in BAD_SECONDS],
    *[("jitter", *bad) for bad in BAD_FLAGS],
    *[("retry_on", bad, DefinitionTypeError) for bad in (None, int, [OSError], (OSError, 5), "E")],
    ("retry_on", fetch_later, DefinitionTypeError),
    *[("compensate", *bad) for bad in BAD_FUNCTIONS],
    ("compensate", Flow("inner"), DefinitionTypeError),
    ("compensate", Step("undo", Flow("inner")), DefinitionError),
    ("compensate", Step("undo", fetch_user, compensate=fetch_user), DefinitionError),
    ("compensate_on", "start", DefinitionError),
    ("compensate_on", None, DefinitionTypeError),
    *[("grace", *bad) for bad in [*BAD_SECONDS, (None, DefinitionTypeError)]],
]

#: Every way to define a step with options.
FORMS: dict[str, Callable[..., Any]] = {
    "Step": lambda flow, **options: Step("fetch", fetch_user, **options),
    "step decorator": lambda flow, **options: step(name="fetch", **options),
    "Flow.step": lambda flow, **options: flow.step("fetch", fetch_user, **options),
    "Flow.step decorator": lambda flow, **options: flow.step("fetch", **options),
    "mapping": lambda flow, **options: flow.parallel(
        "group", [{"name": "fetch", "fn": fetch_user, **options}]
    ),
    "mapping of options": lambda flow, **options: flow.parallel(
        "group", [{"name": "fetch", "fn": fetch_user, "options": options}]
    ),
}


@pytest.fixture
def flow() -> Flow:
    """Return a flow that holds a step and a group."""
    return example_flow()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("option", "value", "error"), BAD_OPTIONS)
def test_bad_options_are_refused(
    flow: Flow, form: str, option: str, value: object, error: type[Exception]
) -> None:
    """Every bad value of every option raises at the call, which names step, option and value."""
    message = refused(flow, error, lambda: FORMS[form](flow, **{option: value}))
    assert "step 'fetch'" in message
    assert f"{option} must" in message
    assert repr(value)[:90] in message


@pytest.mark.parametrize("form", FORMS)
def test_a_misspelt_option_gets_a_hint(flow: Flow, form: str) -> None:
    """An unknown option is a `TypeError` that names the step and the nearest option."""
    message = refused(flow, DefinitionTypeError, lambda: FORMS[form](flow, timout=5))
    assert "step 'fetch': unknown option 'timout'; did you mean 'timeout'?" in message


@pytest.mark.parametrize("form", FORMS)
def test_inline_has_no_timeout(flow: Flow, form: str) -> None:
    """Nobody could end a body that runs in the caller's own thread."""
    message = refused(flow, DefinitionError, lambda: FORMS[form](flow, pool="inline", timeout=5))
    assert "step 'fetch'" in message
    assert "pool='inline' cannot have timeout=5.0" in message


@pytest.mark.parametrize(("fn", "error"), [*BAD_FUNCTIONS, (None, DefinitionTypeError)])
def test_bad_functions_are_refused(flow: Flow, fn: Any, error: type[Exception]) -> None:
    """A body must be an ordinary function, in every form."""
    mapping = {"name": "fetch", "fn": fn}
    for call in (
        lambda: Step("fetch", fn),
        lambda: flow.step("fetch", fn),
        lambda: flow.step("fetch")(fn),
        lambda: step(name="fetch")(fn),
        lambda: flow.parallel("group", [mapping]),
    ):
        message = refused(flow, error, call)
        assert "step 'fetch'" in message
        assert "fn must be" in message
        assert repr(fn) in message


def test_a_step_is_no_function(flow: Flow) -> None:
    """A Step where a function belongs is told so."""
    message = refused(flow, DefinitionTypeError, lambda: flow.step("fetch", named("inner")))
    assert "step 'fetch'" in message
    assert "step 'inner' is already a Step" in message


@pytest.mark.parametrize(
    ("name", "error"),
    [("", DefinitionError), (5, DefinitionTypeError), (None, DefinitionTypeError)],
)
def test_bad_names_are_refused(flow: Flow, name: Any, error: type[Exception]) -> None:
    """Steps, groups and flows need a name, and the message shows what was given."""
    for call in (
        lambda: Step(name, fetch_user),
        lambda: flow.step(name, fetch_user),
        lambda: flow.parallel(name, [named("x")]),
        lambda: flow.parallel("group", [{"name": name, "fn": fetch_user}]),
        lambda: Flow(name),
        lambda: step(name=name)(fetch_user),
    ):
        assert repr(name) in refused(flow, error, call)


def test_a_step_keeps_its_options_normalised() -> None:
    """Durations are floats, whatever they were given as; the defaults are the contract's."""
    made = Step("fetch", fetch_user, timeout=timedelta(minutes=1), grace=2, max_retry_delay=0)
    assert {
        "name": "fetch",
        "fn": fetch_user,
        "pool": None,
        "timeout": 60.0,
        "retries": 0,
        "retry_delay": 0.0,
        "backoff": "fixed",
        "max_retry_delay": 0.0,
        "jitter": False,
        "retry_on": Exception,
        "compensate": None,
        "compensate_on": "completed",
        "grace": 2.0,
        "_undo": None,
        "_nested": None,
    } == attrs.asdict(made, recurse=False)
    assert float is type(made.grace)


def test_a_step_is_frozen_called_and_equal_only_to_itself() -> None:
    """A step is a value with an identity, and calls its function."""
    made, twin = named("fetch"), named("fetch")
    assert {made: 1, twin: 2}[made] == 1
    assert made != twin
    assert made(None) == "user"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.timeout = 5  # type: ignore[misc]


def test_a_compensation_becomes_a_step() -> None:
    """A function is wrapped once, under the step's name; a Step is kept."""
    plain = named("reserve", compensate=fetch_user)
    assert ("reserve", fetch_user) == (plain.undo.name, plain.undo.fn)
    assert plain.undo is plain.undo
    release = named("release", retries=3)
    assert release is named("reserve", compensate=release).undo
    assert named("reserve").undo is None


def test_decorators_make_steps() -> None:
    """`step` names a step after its function, unless it is told a name."""
    bare, made = step(fetch_user), step(retries=2)(fetch_user)
    assert ("fetch-user", fetch_user, 0) == (bare.name, bare.fn, bare.retries)
    assert ("fetch-user", fetch_user, 2) == (made.name, made.fn, made.retries)
    assert step(name="own_name")(fetch_user).name == "own_name"


@pytest.mark.parametrize("wrong", ["fetch", 5, None, fetch_later])
def test_the_decorator_takes_nothing_else(wrong: Any) -> None:
    """A name given by position is refused, as everything that is no function is."""
    with pytest.raises(DefinitionTypeError, match="fn must be") as caught:
        step(wrong)
    assert repr(wrong) in str(caught.value)


def test_decorating_twice_or_without_a_name_is_refused() -> None:
    """What is a Step stays one, and what has no name must be given one."""
    with pytest.raises(DefinitionTypeError, match="step 'fetch' is already a Step"):
        step(named("fetch"))
    with pytest.raises(DefinitionTypeError, match="has no name; give name="):
        step(partial(fetch_user))


def test_a_flow_is_built_in_place(flow: Flow) -> None:
    """All forms add a node in place, in order; the decorator returns its function."""
    nodes = flow.nodes
    ready = named("ready")
    assert flow is flow.step(ready)
    assert flow is flow.step("by-name", fetch_user, retries=2)
    assert fetch_user is flow.step("decorated", timeout=1)(fetch_user)
    assert flow is flow.parallel("group", iter([named("x"), step(name="y")(fetch_user)]))
    assert ["first", "pair", "ready", "by-name", "decorated", "group"] == [
        node.name for node in flow.nodes
    ]
    assert ready is flow.nodes[2]
    assert (2, 1.0) == (flow.nodes[3].retries, flow.nodes[4].timeout)
    assert ["x", "y"] == [member.name for member in flow.nodes[5].steps]
    assert ["first", "pair"] == [node.name for node in nodes]


@pytest.mark.parametrize("wrong", [5, None, fetch_user, [named("x")]])
def test_step_takes_a_name_or_a_step(flow: Flow, wrong: Any) -> None:
    """Whatever else comes first is refused with what is accepted."""
    message = refused(flow, DefinitionTypeError, lambda: flow.step(wrong))
    assert "flow 'checkout': step() takes a name and a function, or a Step" in message


def test_a_ready_step_takes_no_options(flow: Flow) -> None:
    """Options would silently be lost on a step that is made already."""
    for call in (lambda: flow.step(named("x"), retries=2), lambda: flow.step(named("x"), max)):
        assert "step 'x' is already a Step" in refused(flow, DefinitionTypeError, call)


@pytest.mark.parametrize("name", ["first", "pair", "a"])
def test_names_are_unique(flow: Flow, name: str) -> None:
    """Steps, groups and members share one space of names."""
    for call in (
        lambda: flow.step(named(name)),
        lambda: flow.step(name, fetch_user),
        lambda: flow.step(name),
        lambda: flow.parallel(name, [named("x")]),
        lambda: flow.parallel("group", [named("x"), named(name)]),
    ):
        message = refused(flow, DuplicateStepError, call)
        assert f"{name!r} already exists" in message


def test_names_are_unique_within_a_call(flow: Flow) -> None:
    """Members clash with each other and with their own group."""
    for call in (
        lambda: flow.parallel("group", [named("x"), named("x")]),
        lambda: flow.parallel("x", [named("x")]),
    ):
        assert "'x' already exists" in refused(flow, DuplicateStepError, call)


@pytest.mark.parametrize(
    ("expected", "options", "group_pool"),
    [
        ("inline", {}, ...),
        ("thread", {"timeout": 5}, ...),
        ("process", {"pool": "process"}, ...),
        (EXECUTOR, {"pool": EXECUTOR}, ...),
        ("thread", {}, None),
        ("process", {}, "process"),
        (EXECUTOR, {}, EXECUTOR),
        ("thread", {"pool": "thread"}, "process"),
    ],
)
def test_where_a_step_runs(expected: object, options: dict[str, Any], group_pool: Any) -> None:
    """A step's own pool wins over its group's, and both over the default."""
    made = named("x", **options)
    group = None
    if group_pool is not ...:
        group = Flow("f").parallel("group", [made], pool=group_pool).nodes[0]
        assert isinstance(group, Parallel)
    assert expected == pool_of(made, group)


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        *[("hooks", bad, DefinitionTypeError) for bad in (5, None, "hooks", [5], Hooks, [Hooks])],
        *[("validate", bad, DefinitionTypeError) for bad in (5, "x", fetch_later)],
        *[("max_concurrency", *bad) for bad in [*BAD_COUNTS, (0, DefinitionError)]],
        *[("pools", bad, DefinitionTypeError) for bad in (5, "own", [("own", EXECUTOR)])],
        ("pools", {5: EXECUTOR}, DefinitionTypeError),
        ("pools", {"": EXECUTOR}, DefinitionError),
        ("pools", {"own": 5}, DefinitionTypeError),
        ("pools", {"own": "proces"}, DefinitionError),
        ("pools", {"thread": EXECUTOR}, DefinitionError),
    ],
)
def test_bad_flow_options_are_refused(option: str, value: Any, error: type[Exception]) -> None:
    """Every bad value of every option of a flow raises and names flow and option."""
    with pytest.raises(error) as caught:
        Flow("checkout", **{option: value})
    assert error is caught.type
    assert "flow 'checkout': " in str(caught.value)
    assert option in str(caught.value)


def test_a_misspelt_flow_option_gets_a_hint() -> None:
    """An unknown option of a flow names the nearest one."""
    with pytest.raises(DefinitionTypeError, match="unknown option 'hook'; did you mean 'hooks'"):
        Flow("checkout", hook=Hooks())  # type: ignore[arg-type]


def test_what_a_flow_shows() -> None:
    """The properties of a flow are what it was given, and cannot be changed through them."""
    hook, pools = Hooks(), {"own": EXECUTOR}
    made = Flow("checkout", hooks=hook, validate=int, max_concurrency=3, pools=pools)
    assert ("checkout", (hook,), int, 3) == (
        made.name,
        made.hooks,
        made.validate,
        made.max_concurrency,
    )
    pools["more"] = EXECUTOR
    assert {"own": EXECUTOR} == made.pools
    with pytest.raises(TypeError):
        made.pools["more"] = EXECUTOR  # type: ignore[index]
    assert "Flow('checkout', nodes=['x'])" == repr(made.step(named("x")))
    assert (hook, hook) == Flow("two", hooks=[hook, hook]).hooks


def test_an_object_with_validate_python_validates() -> None:
    """An adapter need not be callable."""

    class Adapter:
        def validate_python(self, value: object) -> object:
            return value

    adapter = Adapter()
    assert adapter is Flow("checkout", validate=adapter).validate


def test_pools_of_a_run_may_replace_built_in_ones() -> None:
    """The check itself has nothing against a built-in name."""
    assert {"process": EXECUTOR} == checked_pools({"process": EXECUTOR}, "run of flow 'x'")
