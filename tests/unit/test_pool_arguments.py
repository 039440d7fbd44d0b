"""Wrong arguments of the two pools raise at the call; nothing is started for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from syncflow import DefinitionError, ProcessPool, ThreadPool

POOLS = (ThreadPool, ProcessPool)
both = pytest.mark.parametrize("kind", POOLS)


async def coroutine_function() -> None:
    """Do nothing, and not at once."""


#: Option, wrong values, what the message says it must be. The options that both pools have.
OPTIONS = [
    ("max_workers", (True, 1.0, "1", math.nan, [1]), "a whole number"),
    ("max_workers", (0, -1), "greater than 0"),
    ("initializer", (1, "f", []), "a function or another callable"),
    ("initializer", (coroutine_function,), "an ordinary function"),
    ("initargs", (5, None, 1.5, "ab", b"ab", print), "a tuple of arguments"),
]
PROCESS_OPTIONS = [
    ("idle_timeout", (True, "1", None, [1]), "a number of seconds or a timedelta"),
    ("idle_timeout", (0, -1, timedelta(0)), "more than 0 seconds"),
    ("idle_timeout", (math.nan, math.inf, 10**400), "a finite number of seconds"),
    ("max_tasks_per_worker", (True, 1.0, "1"), "a whole number"),
    ("max_tasks_per_worker", (0, -1), "greater than 0"),
]
THREAD_OPTIONS = [("thread_name_prefix", (5, None, b"name"), "a string")]

CASES = [
    pytest.param(kind, option, value, wanted, id=f"{kind.__name__}-{option}-{value!r:.20}")
    for kind, table in zip(
        POOLS, (OPTIONS + THREAD_OPTIONS, OPTIONS + PROCESS_OPTIONS), strict=True
    )
    for option, values, wanted in table
    for value in values
]


@pytest.mark.parametrize(("kind", "option", "value", "wanted"), CASES)
def test_a_wrong_option(kind: Any, option: str, value: object, wanted: str) -> None:
    """The error names the pool, the option, and what it must be."""
    with pytest.raises(DefinitionError, match=f"^{kind.__name__}: {option} must be {wanted}"):
        kind(**{option: value})


@both
def test_arguments_for_no_initializer(kind: Any) -> None:
    """They are ignored, as `concurrent.futures` does, if they could be arguments."""
    assert kind(initargs=(1, 2)) is not None


@both
@pytest.mark.parametrize("option", ["max_worker", "initialiser", "init_args"])
def test_a_misspelt_option(kind: Any, option: str) -> None:
    """The error tells the nearest name that there is."""
    near = {"max_worker": "max_workers", "initialiser": "initializer", "init_args": "initargs"}
    message = f"^{kind.__name__}: unknown option '{option}'; did you mean '{near[option]}'"
    with pytest.raises(TypeError, match=message):
        kind(**{option: None})


@pytest.mark.parametrize(
    ("kind", "option"), [(ThreadPool, "mp_context"), (ProcessPool, "mp_context")]
)
def test_an_option_that_resembles_none(kind: Any, option: str) -> None:
    """The error lists the options that there are."""
    with pytest.raises(TypeError, match=f"unknown option '{option}'; the options are max_workers,"):
        kind(**{option: None})


@both
def test_more_than_one_positional_argument(kind: Any) -> None:
    """Options are given by name."""
    with pytest.raises(TypeError, match="positional argument"):
        kind(1, 2)


@both
@pytest.mark.parametrize("fn", [None, 5, "print", [print]])
def test_submitting_what_cannot_be_called(kind: Any, fn: Any) -> None:
    """It raises in `submit`, not in the future."""
    with pytest.raises(TypeError, match=f"^{kind.__name__}.submit: fn must be callable, not "):
        kind().submit(fn)


#: Arguments of `map`, and what the message says.
CALLS: list[tuple[Callable[..., Any], str]] = [
    (lambda pool: pool.map(None, [1]), "fn must be callable, not None"),
    (lambda pool: pool.map(None, []), "fn must be callable, not None"),
    (lambda pool: pool.map(None, [1], chunksize=2), "fn must be callable, not None"),
    (lambda pool: pool.map(abs, [1], timeout="x"), "timeout must be a number of seconds"),
    (lambda pool: pool.map(abs, [1], timeout=True), "timeout must be a number of seconds"),
    (lambda pool: pool.map(abs, [1], timeout=math.nan), "timeout must be a finite number"),
    (lambda pool: pool.map(abs, [1], timeout=-1), "timeout must be 0 seconds or more"),
    (lambda pool: pool.map(abs, [1], chunksize="x"), "chunksize must be a whole number"),
    (lambda pool: pool.map(abs, [1], chunksize=0), "chunksize must be greater than 0"),
    (lambda pool: pool.map(abs, [1], timeot=1), "unknown option 'timeot'; did you mean 'timeout'"),
]


@both
@pytest.mark.parametrize(("call", "message"), CALLS)
def test_a_wrong_argument_of_map(kind: Any, call: Callable[..., Any], message: str) -> None:
    """It raises before anything is iterated or submitted."""
    with pytest.raises(DefinitionError, match=rf"^{kind.__name__}\.map: {message}"):
        call(kind())


@both
def test_mapping_over_what_cannot_be_iterated(kind: Any) -> None:
    """It raises in `map`, not when the results are asked for."""
    with pytest.raises(TypeError, match="not iterable"):
        kind().map(abs, 5, chunksize=2)


@pytest.mark.parametrize("timeout", [1e30, 10**12, timedelta.max])
def test_a_huge_timeout_of_map(timeout: Any) -> None:
    """It is as good as none."""
    with ThreadPool(1) as pool:
        assert [1] == list(pool.map(abs, [-1], timeout=timeout))


@pytest.mark.parametrize(
    "initargs", [("a", "b"), ["a", "b"], iter("ab")], ids=["tuple", "list", "iterator"]
)
def test_initargs_may_be_any_iterable(initargs: Any) -> None:
    """As with `concurrent.futures`; each thread gets all of them."""
    got = list[tuple[str, ...]]()
    with ThreadPool(1, initializer=lambda *args: got.append(args), initargs=initargs) as pool:
        pool.submit(int).result()
    assert [("a", "b")] == got
