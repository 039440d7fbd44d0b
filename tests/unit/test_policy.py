"""Option checking and backoff arithmetic."""

from __future__ import annotations

import math
import random
import threading
from datetime import timedelta
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncflow import policy
from syncflow.errors import (
    BodyExitError,
    DefinitionError,
    DefinitionTypeError,
    SerializationError,
    StepCancelledError,
)

WHERE = "step 'fetch'"


def body(ctx: object) -> None:
    """Do nothing."""


async def coroutine(ctx: object) -> None:
    """Do nothing, later."""


async def async_generator(ctx: object):
    """Yield nothing, later."""
    yield


class AsyncCallable:
    """Is called like a function and makes a coroutine."""

    async def __call__(self, ctx: object) -> None:
        """Do nothing, later."""

    async def method(self, ctx: object) -> None:
        """Do nothing, later."""


class BrokenRepr:
    """Cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError


ASYNC = [
    coroutine,
    async_generator,
    AsyncCallable(),
    AsyncCallable().method,
    AsyncCallable().__call__,
    staticmethod(coroutine),
    partial(coroutine, 1),
    partial(partial(AsyncCallable()), 1),
    partial(async_generator),
]


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        (2.0, 2),
        (0.5, 0.5),
        (0.0, -0.0),
        (90.0, timedelta(minutes=1.5)),
        (1e308, 1e308),
        (timedelta.max.total_seconds(), timedelta.max),
    ],
)
def test_seconds_are_floats(expected: float, value: object) -> None:
    """A duration is kept as a float, whatever it was given as."""
    checked = policy.seconds(value, "timeout", WHERE, zero_ok=True)
    assert (expected, float) == (checked, type(checked))


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (math.nan, DefinitionError),
        (math.inf, DefinitionError),
        (-math.inf, DefinitionError),
        (-1, DefinitionError),
        (-1e-9, DefinitionError),
        (timedelta(seconds=-1), DefinitionError),
        (10**400, DefinitionError),
        (True, DefinitionTypeError),
        ("5", DefinitionTypeError),
        (None, DefinitionTypeError),
        (1j, DefinitionTypeError),
        ([1], DefinitionTypeError),
    ],
)
def test_bad_seconds_are_refused(value: object, error: type[Exception]) -> None:
    """A duration that cannot work is refused with where, option and value in the message."""
    with pytest.raises(error) as caught:
        policy.seconds(value, "timeout", WHERE, zero_ok=True)
    assert error is caught.type
    assert f"{WHERE}: timeout must be" in str(caught.value)
    assert repr(value)[: policy._SHOWN - 3] in str(caught.value)


@pytest.mark.parametrize("zero", [0, 0.0, -0.0, timedelta()])
def test_zero_is_refused_where_it_makes_no_sense(zero: object) -> None:
    """No body can end within no time."""
    with pytest.raises(DefinitionError, match="more than 0 seconds"):
        policy.seconds(zero, "timeout", WHERE, zero_ok=False)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-1, DefinitionError),
        (True, DefinitionTypeError),
        (1.0, DefinitionTypeError),
        (math.nan, DefinitionTypeError),
        ("1", DefinitionTypeError),
        (None, DefinitionTypeError),
    ],
)
def test_bad_counts_are_refused(value: object, error: type[Exception]) -> None:
    """A count is a whole number that is not negative."""
    with pytest.raises(error) as caught:
        policy.count(value, "retries", WHERE)
    assert error is caught.type
    assert f"{WHERE}: retries" in str(caught.value)
    assert repr(value) in str(caught.value)


def test_a_count_may_be_huge() -> None:
    """Whole numbers have no upper bound."""
    assert 10**400 == policy.count(10**400, "retries", WHERE)


@pytest.mark.parametrize("value", [None, 1, 0, "yes", []])
def test_only_a_bool_is_a_flag(value: object) -> None:
    """Nothing is taken for true or false that is neither."""
    with pytest.raises(DefinitionTypeError, match="step 'fetch': jitter must be True or False"):
        policy.flag(value, "jitter", WHERE)


@pytest.mark.parametrize(
    ("value", "error"), [("", DefinitionError), (5, DefinitionTypeError), (b"x", TypeError)]
)
def test_bad_names_are_refused(value: object, error: type[Exception]) -> None:
    """A name is a string that is not empty."""
    with pytest.raises(error, match="step 'fetch': name must be"):
        policy.name(value, "name", WHERE)


@pytest.mark.parametrize("value", ["exponentail", "Exponential", "EXPONENTIAL"])
def test_a_mistyped_choice_gets_a_hint(value: str) -> None:
    """The nearest valid value is named."""
    with pytest.raises(DefinitionError, match=rf"not '{value}'; did you mean 'exponential'\?"):
        policy.choice(value, "backoff", WHERE, known=policy.BACKOFFS)


@pytest.mark.parametrize("value", [None, 5, ["fixed"], {}])
def test_a_choice_is_a_string(value: object) -> None:
    """Even a value that cannot be hashed is refused with our own error."""
    with pytest.raises(DefinitionTypeError, match="backoff must be one of 'fixed', 'linear'"):
        policy.choice(value, "backoff", WHERE, known=policy.BACKOFFS)


@pytest.mark.parametrize(
    ("ending", "given_name"),
    [
        ("unknown option 'timout'; did you mean 'timeout'?", "timout"),
        ("unknown option 'zzz'; the options are timeout, pool", "zzz"),
        ("unknown option 5; the options are timeout, pool", 5),
    ],
)
def test_an_unknown_option_gets_a_hint(ending: str, given_name: object) -> None:
    """The nearest option is named, or all of them."""
    error = policy.unknown_option(given_name, ("timeout", "pool"), WHERE)
    assert f"{WHERE}: {ending}" == str(error)


@pytest.mark.parametrize("value", ASYNC, ids=lambda value: type(value).__name__)
def test_asynchronous_functions_are_refused(value: object) -> None:
    """What would only make a coroutine is refused, however it is wrapped."""
    with pytest.raises(DefinitionTypeError, match=r"step 'fetch': fn must .* is synchronous"):
        policy.function(value, "fn", WHERE)


@pytest.mark.parametrize(
    "value",
    [body, partial(body), len, int, "".join, lambda ctx: None],
    ids=["function", "partial", "builtin", "class", "method", "lambda"],
)
def test_callables_are_accepted(value: object) -> None:
    """Whatever does its work when it is called may be a body."""
    assert value is policy.function(value, "fn", WHERE)


@pytest.mark.parametrize("value", [None, 5, "body", [body]])
def test_what_cannot_be_called_is_refused(value: object) -> None:
    """A body must be callable."""
    with pytest.raises(DefinitionTypeError, match="step 'fetch': fn must be a function"):
        policy.function(value, "fn", WHERE)


@pytest.mark.parametrize(
    "value", [OSError, KeyboardInterrupt, (OSError, KeyError), (), body, lambda error: True]
)
def test_retry_filters_are_accepted(value: object) -> None:
    """A class, a tuple of classes and a predicate are kept as they are."""
    assert value is policy.retry_filter(value, "retry_on", WHERE)


@pytest.mark.parametrize(
    "value",
    [None, int, "OSError", OSError(), [OSError], (OSError, int), (OSError, "x"), (body,), 5],
)
def test_bad_retry_filters_are_refused(value: object) -> None:
    """Anything else is refused, a list of classes included."""
    with pytest.raises(DefinitionTypeError) as caught:
        policy.retry_filter(value, "retry_on", WHERE)
    assert f"{WHERE}: retry_on must be" in str(caught.value)
    assert repr(value) in str(caught.value)


def test_an_asynchronous_predicate_is_refused() -> None:
    """A coroutine is true, so every error would be retried."""
    with pytest.raises(DefinitionTypeError, match="synchronous"):
        policy.retry_filter(coroutine, "retry_on", WHERE)


def exit_error(raised: BaseException) -> BodyExitError:
    """Make the error of a body that raised no `Exception`."""
    error = BodyExitError("it left")
    error.__cause__ = raised
    return error


@pytest.mark.parametrize(
    ("expected", "retry_on", "error"),
    [
        (True, Exception, ValueError()),
        (True, OSError, FileNotFoundError()),
        (False, OSError, ValueError()),
        (True, (OSError, ValueError), ValueError()),
        (False, (), ValueError()),
        (True, lambda error: error.errno == 4, OSError(4, "interrupted")),
        (False, lambda error: None, OSError()),
        (False, Exception, SerializationError("the input", "why")),
        (False, lambda error: True, StepCancelledError("fetch", None)),
        (False, Exception, exit_error(SystemExit())),
        (False, lambda error: True, exit_error(SystemExit())),
        (True, SystemExit, exit_error(SystemExit())),
        (True, (OSError, SystemExit), exit_error(SystemExit())),
        (False, SystemExit, exit_error(GeneratorExit())),
    ],
)
def test_which_errors_are_retried(
    expected: bool, retry_on: policy.RetryOn, error: BaseException
) -> None:
    """The filter decides, except for what may never be retried."""
    assert expected is policy.accepts(retry_on, error)


@pytest.mark.parametrize(
    ("expected", "kind"),
    [
        ([0.5, 0.5, 0.5, 0.5], "fixed"),
        ([0.5, 1.0, 1.5, 2.0], "linear"),
        ([0.5, 1.0, 2.0, 4.0], "exponential"),
    ],
)
def test_how_delays_grow(expected: list[float], kind: str) -> None:
    """The delay before retry k follows the formula of its kind."""
    assert expected == [policy.backoff_delay(kind, 0.5, k, None) for k in range(1, 5)]


def test_delays_are_capped() -> None:
    """``max_retry_delay`` bounds every delay."""
    delays = [policy.backoff_delay("exponential", 0.5, k, 1.5) for k in range(1, 5)]
    assert [0.5, 1.0, 1.5, 1.5] == delays


@given(
    kind=st.sampled_from(policy.BACKOFFS),
    delay=st.floats(0, allow_infinity=False, allow_nan=False),
    k=st.one_of(st.integers(1, 100), st.sampled_from([10**6, 10**400])),
    cap=st.none() | st.floats(0, allow_infinity=False, allow_nan=False),
)
def test_no_delay_overflows(kind: str, delay: float, k: int, cap: float | None) -> None:
    """Every delay is one that a timer can wait, however many retries there were."""
    wait = policy.backoff_delay(kind, delay, k, cap)
    longest = policy.LONGEST_DELAY if cap is None else min(cap, policy.LONGEST_DELAY)
    assert 0 <= wait <= min(longest, threading.TIMEOUT_MAX)
    assert 0 <= policy.full_jitter(wait, random.Random(1).uniform) <= wait


def test_no_delay_stays_no_delay() -> None:
    """Nothing grows out of nothing."""
    assert [0.0] * 3 == [policy.backoff_delay(kind, 0.0, 10**400, 5) for kind in policy.BACKOFFS]


def test_jitter_draws_from_the_whole_range() -> None:
    """Full jitter draws between nothing and the delay."""
    assert (0.0, 8.0) == policy.full_jitter(8.0, lambda low, high: (low, high))


def test_a_message_shows_any_value() -> None:
    """A repr that is long, raises or cannot be made does not break the message."""
    assert "x" in policy.shown("x" * 10**6)
    assert policy._SHOWN == len(policy.shown("x" * 10**6))
    assert "<BrokenRepr whose repr raises>" == policy.shown(BrokenRepr())
    assert "<int whose repr raises>" == policy.shown(10**5000)
