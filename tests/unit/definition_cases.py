"""Wrong values, and what the tests of definitions share."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from syncflow.errors import DefinitionError, DefinitionTypeError
from syncflow.flow import Flow, Step

#: An executor of the user's own; it starts no thread until something is submitted.
EXECUTOR = ThreadPoolExecutor(1)


def fetch_user(ctx: object) -> str:
    """Return something."""
    return "user"


async def fetch_later(ctx: object) -> None:
    """Do nothing, later."""


#: Values that are wrong for a duration, and the class of the error.
BAD_SECONDS = [
    (-1, DefinitionError),
    (math.nan, DefinitionError),
    (math.inf, DefinitionError),
    (10**400, DefinitionError),
    (timedelta(seconds=-1), DefinitionError),
    (True, DefinitionTypeError),
    ("5", DefinitionTypeError),
    ([5], DefinitionTypeError),
]
BAD_COUNTS = [
    (-1, DefinitionError),
    (True, DefinitionTypeError),
    (1.5, DefinitionTypeError),
    (math.nan, DefinitionTypeError),
    ("1", DefinitionTypeError),
]
BAD_FLAGS = [(1, DefinitionTypeError), ("yes", DefinitionTypeError), (None, DefinitionTypeError)]
BAD_FUNCTIONS = [
    (5, DefinitionTypeError),
    ("undo", DefinitionTypeError),
    (fetch_later, DefinitionTypeError),
]


def named(name: str, **options: Any) -> Step:
    """Return a step that needs no more than a name."""
    return Step(name, fetch_user, **options)


def example_flow() -> Flow:
    """Return a flow that holds a step and a group."""
    pools = {"own": EXECUTOR, "alias": "inline"}
    return Flow("checkout", pools=pools).step("first", fetch_user).parallel("pair", [named("a")])


def refused(flow: Flow, error: type[Exception], call: Callable[[], object]) -> str:
    """Return the message of a refused call, which must have left no trace in the flow."""
    before, taken = flow.nodes, set(flow._taken)
    with pytest.raises(error) as caught:
        call()
    assert error is caught.type
    assert (before, taken) == (flow.nodes, flow._taken)
    return str(caught.value)
