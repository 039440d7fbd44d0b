"""Wrong arguments of the pools raise at the call, and start nothing."""

from __future__ import annotations

import math
import threading
from datetime import timedelta
from typing import Any

import pytest

from syncflow import DefinitionError, ProcessPool, ThreadPool


async def later() -> None:
    """Do nothing, later."""


COUNTS = [
    (0, DefinitionError),
    (-1, DefinitionError),
    (True, TypeError),
    (1.0, TypeError),
    (math.nan, TypeError),
    ("1", TypeError),
]
BOTH: list[tuple[str, Any, type[Exception]]] = [
    *[("max_workers", *bad) for bad in COUNTS],
    *[("initializer", bad, TypeError) for bad in (1, "f", [], True, later)],
]
ONE: list[tuple[type, str, Any, type[Exception]]] = [
    *[(ThreadPool, "thread_name_prefix", bad, TypeError) for bad in (5, b"x", None)],
    *[(ProcessPool, "max_tasks_per_worker", *bad) for bad in COUNTS],
    *[
        (ProcessPool, "idle_timeout", bad, DefinitionError)
        for bad in (0, -1, math.nan, math.inf, 10**400, timedelta(seconds=-1))
    ],
    *[(ProcessPool, "idle_timeout", bad, TypeError) for bad in (True, None, "60", [60])],
]


@pytest.mark.parametrize(
    ("pool", "option", "value", "error"),
    [*[(pool, *bad) for pool in (ThreadPool, ProcessPool) for bad in BOTH], *ONE],
)
def test_a_bad_argument_is_refused(
    pool: type, option: str, value: Any, error: type[Exception]
) -> None:
    """The error names the pool and the argument."""
    with pytest.raises(error, match=rf"{pool.__name__}.*{option} must"):
        pool(**{option: value})


@pytest.mark.parametrize("pool", [ThreadPool, ProcessPool])
@pytest.mark.parametrize("arguments", [5, None, True])
def test_arguments_of_an_initializer_are_several(pool: type, arguments: Any) -> None:
    """What cannot be iterated is refused at the call, not in a worker."""
    with pytest.raises(TypeError):
        pool(initializer=print, initargs=arguments)


@pytest.mark.parametrize("pool", [ThreadPool, ProcessPool])
def test_an_unknown_argument_is_refused(pool: type) -> None:
    """The error names it."""
    with pytest.raises(TypeError, match="max_worker"):
        pool(max_worker=2)


@pytest.mark.parametrize("pool", [ThreadPool, ProcessPool])
def test_a_pool_may_be_as_large_as_one_likes(pool: type) -> None:
    """It starts nothing before there is work."""
    before = threading.active_count()
    with pool(10**400):
        assert before == threading.active_count()
