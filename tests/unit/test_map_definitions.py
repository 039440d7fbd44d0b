"""Maps are checked at the call, too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

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

from syncflow.definition import Step
from syncflow.errors import DefinitionError, DefinitionTypeError, DuplicateStepError
from syncflow.flow import Flow
from syncflow.mapping import Map, OverItem, over_item


def double(ctx: object, item: Any) -> Any:
    """Return twice the item."""
    return 2 * item


def items_of(ctx: object) -> Iterator[int]:
    """Make items."""
    yield from range(3)


async def items_later(ctx: object) -> Any:
    """Make items, later."""
    yield 1


@pytest.fixture
def flow() -> Flow:
    """Return a flow that holds a step and a group."""
    return example_flow()


def made(flow: Flow) -> Map:
    """Return the last node of a flow, which is a map."""
    node = flow.nodes[-1]
    assert isinstance(node, Map)
    return node


BAD_OPTIONS = [
    *[("fail_fast", *bad) for bad in BAD_FLAGS],
    *[("keep_values", *bad) for bad in BAD_FLAGS],
    *[("min_success", *bad) for bad in [*BAD_COUNTS, (0, DefinitionError)]],
    *[("max_concurrency", *bad) for bad in [*BAD_COUNTS, (0, DefinitionError)]],
    # Any text but "auto" is a wrong value, not a wrong type.
    *[("chunk_size", *bad) for bad in BAD_COUNTS if not isinstance(bad[0], str)],
    *[("chunk_size", bad, DefinitionError) for bad in (0, "autos", "", "1", "AUTO")],
    ("chunk_size", None, DefinitionTypeError),
    *[("pool", bad, DefinitionTypeError) for bad in (5, True, ["thread"], ThreadPoolExecutor)],
    *[("timeout", *bad) for bad in [*BAD_SECONDS, (0, DefinitionError), (0.0, DefinitionError)]],
    *[("retries", *bad) for bad in [*BAD_COUNTS, (None, DefinitionTypeError)]],
    *[("retry_delay", *bad) for bad in [*BAD_SECONDS, (None, DefinitionTypeError)]],
    ("backoff", "exponentail", DefinitionError),
    *[("max_retry_delay", *bad) for bad in BAD_SECONDS],
    *[("jitter", *bad) for bad in BAD_FLAGS],
    *[("retry_on", bad, DefinitionTypeError) for bad in (None, int, [OSError], fetch_later)],
    *[("compensate", *bad) for bad in BAD_FUNCTIONS],
    ("compensate", Step("undo", fetch_user, compensate=fetch_user), DefinitionError),
    ("compensate_on", "start", DefinitionError),
    *[("grace", *bad) for bad in [*BAD_SECONDS, (None, DefinitionTypeError)]],
]


@pytest.mark.parametrize(("option", "value", "error"), BAD_OPTIONS)
def test_bad_options_are_refused(
    flow: Flow, option: str, value: object, error: type[Exception]
) -> None:
    """Every bad value of every option raises at the call, which names map, option and value."""
    message = refused(flow, error, lambda: flow.map("sum", double, [1], **{option: value}))
    assert "'sum'" in message
    assert f"{option} must" in message
    assert repr(value)[:90] in message


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("chunk_sise", "chunk_size"),
        ("keep_value", "keep_values"),
        ("failfast", "fail_fast"),
        ("min_sucess", "min_success"),
        ("max_concurency", "max_concurrency"),
        ("timout", "timeout"),
        ("compensat", "compensate"),
    ],
)
def test_a_misspelt_option_gets_a_hint(flow: Flow, wrong: str, right: str) -> None:
    """An unknown option is a `TypeError` that names the map and the nearest option."""
    message = refused(flow, DefinitionTypeError, lambda: flow.map("sum", double, [1], **{wrong: 5}))
    assert f"map 'sum': unknown option {wrong!r}; did you mean {right!r}?" in message


def test_an_option_that_is_like_no_other_gets_the_list(flow: Flow) -> None:
    """Those of a map are on it, too."""
    message = refused(flow, DefinitionTypeError, lambda: flow.map("sum", double, [1], zzz=5))
    assert "unknown option 'zzz'; the options are fail_fast, min_success" in message
    assert "chunk_size" in message
    assert "retry_delay" in message


@pytest.mark.parametrize(("fn", "error"), [*BAD_FUNCTIONS, (None, DefinitionTypeError)])
def test_bad_functions_are_refused(flow: Flow, fn: Any, error: type[Exception]) -> None:
    """What is called for each item must be an ordinary function."""
    message = refused(flow, error, lambda: flow.map("sum", fn, [1]))
    assert "'sum'" in message
    assert "fn must be" in message
    assert repr(fn) in message


@pytest.mark.parametrize(
    ("name", "error"),
    [("", DefinitionError), (5, DefinitionTypeError), (None, DefinitionTypeError)],
)
def test_bad_names_are_refused(flow: Flow, name: Any, error: type[Exception]) -> None:
    """A map needs a name, and the message shows what was given."""
    message = refused(flow, error, lambda: flow.map(name, double, [1]))
    assert f"map {name!r}" in message


@pytest.mark.parametrize("name", ["first", "pair", "a"])
def test_the_name_of_a_map_is_its_own(flow: Flow, name: str) -> None:
    """Maps share the one space of names with steps, groups and members."""
    message = refused(flow, DuplicateStepError, lambda: flow.map(name, double, [1]))
    assert f"{name!r} already exists" in message


def test_the_name_of_a_map_is_taken(flow: Flow) -> None:
    """No later node can have it."""
    flow.map("sum", double, [1])
    for call in (
        lambda: flow.step("sum", fetch_user),
        lambda: flow.parallel("sum", [named("x")]),
        lambda: flow.parallel("group", [named("sum")]),
        lambda: flow.map("sum", double, [1]),
    ):
        assert "'sum' already exists" in refused(flow, DuplicateStepError, call)


# --- over ------------------------------------------------------------------------------------


class OwnIterator:
    """An object that is its own iterator."""

    def __iter__(self) -> OwnIterator:
        return self

    def __next__(self) -> int:
        raise StopIteration


@pytest.mark.parametrize(
    "over",
    [iter([1]), map(str, [1]), zip([1], strict=True), items_of(None), OwnIterator()],
    ids=["iter", "map", "zip", "generator", "own"],
)
def test_an_iterator_is_refused(flow: Flow, over: Any) -> None:
    """The first run would use it up."""
    message = refused(flow, DefinitionError, lambda: flow.map("sum", double, over))
    assert "map 'sum': over must be iterable in every run" in message
    assert "pass a function that makes it" in message
    assert repr(over)[:60] in message


@pytest.mark.parametrize("over", [5, 1.5, None, True, object(), fetch_later, items_later])
def test_what_gives_no_items_is_refused(flow: Flow, over: Any) -> None:
    """Neither a number nor a coroutine function is a source."""
    message = refused(flow, DefinitionTypeError, lambda: flow.map("sum", double, over))
    assert "map 'sum': over must be" in message
    assert repr(over)[:60] in message


def test_a_missing_source_is_refused(flow: Flow) -> None:
    """`over` is not an option."""
    refused(flow, TypeError, lambda: flow.map("sum", double))  # type: ignore[call-arg]


@pytest.mark.parametrize("over", ["nowhere", "later", "pair", "sum", "checkout"])
def test_a_name_of_no_earlier_step_is_refused(flow: Flow, over: str) -> None:
    """Unknown, defined later, a group's, the map's own or the flow's: none has a value to read."""
    message = refused(flow, DefinitionError, lambda: flow.map("sum", double, over))
    assert f"map 'sum': over={over!r} is no step before it" in message


def test_a_name_that_is_nearly_right_gets_a_hint(flow: Flow) -> None:
    """The nearest earlier step is told."""
    message = refused(flow, DefinitionError, lambda: flow.map("sum", double, "frist"))
    assert "; did you mean 'first'?" in message


def test_an_empty_name_is_refused(flow: Flow) -> None:
    """No step is called that."""
    message = refused(flow, DefinitionError, lambda: flow.map("sum", double, ""))
    assert "map 'sum': over must be a non-empty string, not ''" in message


class Countable:
    """Is iterable and callable, and makes a new iterator each time."""

    def __iter__(self) -> Iterator[int]:
        return iter([1])

    def __call__(self, ctx: object) -> Iterable[int]:
        return [2]


@pytest.mark.parametrize(
    "over",
    [[1], (1,), range(3), {1: 2}, {1}, b"ab", Countable(), items_of, lambda ctx: [1], "first", "a"],
    ids=["list", "tuple", "range", "dict", "set", "bytes", "own", "generator function", "function",
         "step", "member"],
)  # fmt: skip
def test_sources(flow: Flow, over: Any) -> None:
    """Iterables, functions that make one, and names of earlier steps are kept as they are."""
    assert over is made(flow.map("sum", double, over)).over


def test_a_map_may_go_over_a_map(flow: Flow) -> None:
    """Its value is the list of its values."""
    flow.map("sum", double, [1]).map("again", double, "sum")
    assert "sum" == made(flow).over


# --- pools and what goes together ------------------------------------------------------------


@pytest.mark.parametrize("pool", ["inline", "alias"])
def test_inline_has_no_items(flow: Flow, pool: str) -> None:
    """A map in the caller's own thread would be a loop; by whatever name."""
    message = refused(flow, DefinitionError, lambda: flow.map("sum", double, [1], pool=pool))
    assert "map 'sum': pool='inline'" in message


@pytest.mark.parametrize("pool", ["", "proces", "nowhere"])
def test_unknown_pools_are_refused(flow: Flow, pool: str) -> None:
    """A flow knows the built-in names and its own."""
    message = refused(flow, DefinitionError, lambda: flow.map("sum", double, [1], pool=pool))
    assert "'sum'" in message
    assert "pool must be" in message
    assert repr(pool) in message


def test_unknown_pools_of_compensations_are_refused(flow: Flow) -> None:
    """They are looked up at the call, too."""
    undo = Step("undo", double, pool="nowhere")
    message = refused(flow, DefinitionError, lambda: flow.map("sum", double, [1], compensate=undo))
    assert "the compensation of step 'sum': pool must be" in message


@pytest.mark.parametrize(
    ("expected", "pool"),
    [("thread", None), ("thread", "thread"), ("process", "process"), ("own", "own")],
)
def test_where_items_run(flow: Flow, expected: str, pool: str | None) -> None:
    """On threads unless the map says otherwise."""
    assert expected == made(flow.map("sum", double, [1], pool=pool)).step.pool


def test_items_run_on_an_executor(flow: Flow) -> None:
    """Any executor may be a pool."""
    assert EXECUTOR is made(flow.map("sum", double, [1], pool=EXECUTOR)).step.pool


def test_fail_fast_excludes_min_success(flow: Flow) -> None:
    """Whether one failure or too few successes fail the map: one of the two decides."""
    message = refused(
        flow, DefinitionError, lambda: flow.map("sum", double, [1], fail_fast=True, min_success=1)
    )
    assert "map 'sum': min_success=1 excludes fail_fast=True" in message


# --- what is made ----------------------------------------------------------------------------


def test_the_defaults_are_the_contracts(flow: Flow) -> None:
    """Nothing is needed but name, function and source."""
    assert flow is flow.map("sum", double, [1])
    node = made(flow)
    assert ("sum", double, [1], False, None, None, None, True) == (
        node.name, node.step.fn, node.over, node.fail_fast, node.min_success,
        node.max_concurrency, node.chunk_size, node.keep_values,
    )  # fmt: skip


def test_the_options_are_kept(flow: Flow) -> None:
    """Those of the map in the map, those of the items in its step."""
    flow.map(
        "sum", double, over=[1], min_success=2, max_concurrency=3, chunk_size=4, keep_values=False,
        timeout=5, retries=6, retry_delay=7, backoff="linear", compensate=double,
        compensate_on="started", grace=8,
    )  # fmt: skip
    node = made(flow)
    assert (2, 3, 4, False) == (
        node.min_success, node.max_concurrency, node.chunk_size, node.keep_values,
    )  # fmt: skip
    step = node.step
    assert (5.0, 6, 7.0, "linear", "started", 8.0) == (
        step.timeout, step.retries, step.retry_delay, step.backoff, step.compensate_on, step.grace,
    )  # fmt: skip


def test_auto_is_no_number(flow: Flow) -> None:
    """`chunk_size="auto"` is what is meant when nothing is said."""
    assert made(flow.map("sum", double, [1], chunk_size="auto")).chunk_size is None


def test_the_step_for_one_item() -> None:
    """It calls function and compensation with the item, and leaves the map's own step alone."""
    seen: list[Any] = []
    undo: Callable[..., None] = lambda ctx, item: seen.append((ctx, item))  # noqa: E731
    step = Step("sum", double, compensate=undo, retries=2)
    own = over_item(step, 21)
    assert 42 == own.fn("ctx")
    assert own.undo is not None
    own.undo.fn("ctx")
    assert [("ctx", 21)] == seen
    assert ("sum", 2, double) == (own.name, own.retries, step.fn)
    assert isinstance(own.undo.fn, OverItem)
    assert undo is (step.undo and step.undo.fn)
