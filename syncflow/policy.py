"""Option checking and backoff arithmetic: pure functions, safe on any thread.

A checker returns the value as syncflow keeps it, or raises `DefinitionError` (a value that cannot
work) or `DefinitionTypeError` (a wrong type). ``where`` says whose option it is, such as ``step
'fetch'``. The message of every error holds ``where``, the option and the value.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Iterable
from functools import partial
from types import MethodType
from typing import Any

from syncflow.errors import (
    BodyExitError,
    DefinitionError,
    DefinitionTypeError,
    SerializationError,
    StepCancelledError,
)

#: What ``retry_on`` may be: a class, a tuple of classes, or a predicate ``error -> bool``.
RetryOn = type[BaseException] | tuple[type[BaseException], ...] | Callable[[Any], bool]

#: The values of ``backoff``.
BACKOFFS = ("fixed", "linear", "exponential")

#: Seconds (31 years). No delay is longer: timers overflow above ``threading.TIMEOUT_MAX``, which
#: is 9.2e9 on 64-bit Linux.
LONGEST_DELAY = 1e9

#: Characters of a repr that a message shows.
_SHOWN = 100


def shown(value: object) -> str:
    """Return the repr of a value, cut if it is long; never raises an `Exception`."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a user's __repr__ may raise anything
        return f"<{type(value).__name__} whose repr raises>"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def did_you_mean(given: object, known: Collection[str]) -> str:
    """Return ``; did you mean '...'?``, or nothing when no known name is near."""
    if not isinstance(given, str):
        return ""
    from difflib import get_close_matches  # 2 ms, and only ever needed for a mistake

    near = get_close_matches(given.lower(), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def unknown_option(given: object, known: Collection[str], where: str) -> DefinitionTypeError:
    """Make the error for an option that does not exist; the caller raises it."""
    hint = did_you_mean(given, known) or f"; the options are {', '.join(known)}"
    return DefinitionTypeError(f"{where}: unknown option {shown(given)}{hint}")


def wrong_type(value: object, option: str, where: str, wanted: str) -> DefinitionTypeError:
    """Make the error for a value of a wrong type; the caller raises it."""
    return DefinitionTypeError(f"{where}: {option} must be {wanted}, not {shown(value)}")


def _wrong_value(value: object, option: str, where: str, wanted: str) -> DefinitionError:
    return DefinitionError(f"{where}: {option} must be {wanted}, not {shown(value)}")


def seconds(value: object, option: str, where: str, *, zero_ok: bool = True) -> float:
    """Check a duration and return it in seconds.

    Args:
        value: A `float`, an `int` (not a `bool`) or a `datetime.timedelta`.
        option: For the message.
        where: For the message.
        zero_ok: Whether 0 makes sense.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            result = float(value)
        except OverflowError:
            result = math.inf
    else:
        from datetime import timedelta  # here, as most durations are numbers

        if not isinstance(value, timedelta):
            raise wrong_type(value, option, where, "a number of seconds or a timedelta")
        result = value.total_seconds()
    if not math.isfinite(result):
        raise _wrong_value(value, option, where, "a finite number of seconds")
    if result < 0 or (result == 0 and not zero_ok):
        least = "0 seconds or more" if zero_ok else "more than 0 seconds"
        raise _wrong_value(value, option, where, least)
    return result


def optional_seconds(
    value: object, option: str, where: str, *, zero_ok: bool = True
) -> float | None:
    """Check a duration as `seconds` does; `None` stays `None`."""
    return None if value is None else seconds(value, option, where, zero_ok=zero_ok)


def count(value: object, option: str, where: str, least: int = 0) -> int:
    """Check a whole number that is ``least`` or more; a `bool` is none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(value, option, where, "a whole number")
    if value < least:
        # "greater than 0" is how executors of the standard library word it.
        wanted = "greater than 0" if least == 1 else f"{least} or more"
        raise _wrong_value(value, option, where, wanted)
    return value


def optional_count(value: object, option: str, where: str, least: int = 0) -> int | None:
    """Check a whole number as `count` does; `None` stays `None`."""
    return None if value is None else count(value, option, where, least)


def flag(value: object, option: str, where: str) -> bool:
    """Check a `bool`; nothing else is taken for one."""
    if not isinstance(value, bool):
        raise wrong_type(value, option, where, "True or False")
    return value


def name(value: object, option: str, where: str) -> str:
    """Check a string that is not empty."""
    if not isinstance(value, str):
        raise wrong_type(value, option, where, "a string")
    if not value:
        raise _wrong_value(value, option, where, "a non-empty string")
    return value


def choice(value: object, option: str, where: str, *, known: Collection[str]) -> str:
    """Check a string that must be one of those known; a mistyped one gets a hint."""
    wanted = f"one of {', '.join(map(repr, known))}"
    if not isinstance(value, str):
        raise wrong_type(value, option, where, wanted)
    if value not in known:
        error = _wrong_value(value, option, where, wanted)
        raise DefinitionError(f"{error}{did_you_mean(value, known)}")
    return value


def _is_async(value: object) -> bool:
    """Say whether a call would only make a coroutine or an asynchronous generator."""
    while True:
        if isinstance(value, partial):
            value = value.func
        elif isinstance(value, (MethodType, staticmethod)):
            value = value.__func__
        else:
            break
    return any(
        inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called)
        for called in (value, type(value).__call__)
    )


def function(value: object, option: str, where: str) -> Callable[..., Any]:
    """Check a callable that does its work when it is called.

    Coroutine functions, asynchronous generator functions, objects with such a ``__call__`` and
    partials of all these are refused: syncflow is synchronous.
    """
    if not callable(value):
        raise wrong_type(value, option, where, "a function or another callable")
    if _is_async(value):
        raise wrong_type(
            value, option, where, "an ordinary function (syncflow is synchronous; async is not)"
        )
    return value


def arguments(value: object, option: str, where: str) -> tuple[Any, ...]:
    """Check what is to be a function's positional arguments; a string would be taken apart."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise wrong_type(value, option, where, "a tuple of arguments")
    return tuple(value)


def retry_filter(value: object, option: str, where: str) -> RetryOn:
    """Check what ``retry_on`` may be: an exception class, a tuple of them, or a predicate."""
    wanted = "an exception class, a tuple of exception classes, or a function error -> bool"
    classes = value if isinstance(value, tuple) else (value,)
    if all(isinstance(item, type) and issubclass(item, BaseException) for item in classes):
        return value  # type: ignore[return-value]
    if isinstance(value, (tuple, type)) or not callable(value):
        raise wrong_type(value, option, where, wanted)
    return function(value, option, where)


def accepts(retry_on: RetryOn, error: BaseException) -> bool:
    """Say whether an error may be retried; what a predicate raises is passed on.

    `SerializationError` and `StepCancelledError` never are. A `BodyExitError` is only when
    ``retry_on`` names a type of what the body raised (its ``__cause__``).
    """
    if isinstance(error, (SerializationError, StepCancelledError)):
        return False
    if isinstance(retry_on, (type, tuple)):
        raised = error.__cause__ if isinstance(error, BodyExitError) else error
        return isinstance(raised, retry_on)
    return not isinstance(error, BodyExitError) and bool(retry_on(error))


def backoff_delay(kind: str, delay: float, k: int, cap: float | None) -> float:
    """Return the seconds to wait before retry ``k``, without jitter.

    ``fixed`` waits ``delay``, ``linear`` ``delay * k``, ``exponential`` ``delay * 2 ** (k - 1)``:
    the capped exponential backoff of Marc Brooker, "Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015, counted from one.

    Args:
        kind: One of `BACKOFFS`.
        delay: ``retry_delay``, in seconds.
        k: The retry, from 1; any size, nothing overflows.
        cap: ``max_retry_delay``, in seconds; `None` for `LONGEST_DELAY`, which bounds every cap.
    """
    ceiling = LONGEST_DELAY if cap is None else min(cap, LONGEST_DELAY)
    if delay == 0:
        return 0.0
    try:
        if kind == "linear":
            delay *= k
        elif kind == "exponential":
            delay = math.ldexp(delay, k - 1)
    except OverflowError:
        return ceiling
    return min(delay, ceiling)


def full_jitter(delay: float, uniform: Callable[[float, float], float]) -> float:
    """Draw the seconds to wait from [0, delay]: "Full Jitter" of the same article.

    Args:
        delay: What `backoff_delay` returned.
        uniform: ``random.uniform``, or the same method of a `random.Random`.
    """
    return uniform(0.0, delay)
