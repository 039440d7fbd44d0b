"""What cannot be sent leaves nothing behind: its error goes with the result, without a cycle."""

import weakref
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import payload_bodies as payloads
import pytest
from fault_tools import seconds_until

from syncflow import Flow, ProcessPool, SerializationError

pytestmark = pytest.mark.xdist_group("process")

#: Which end it makes trouble at.
ENDS = {
    "at-pickling": partial(payloads.TroubleAtPickling, "raises"),
    "at-unpickling": partial(payloads.TroubleAtUnpickling, "raises"),
}

Make = Callable[[], Any]


def _of_step(pool: Executor, body: Callable[..., Any], input: Any = None) -> Any:
    return Flow("flow").step("a", body, pool=pool).run(input)["a"].error


def _of_map(pool: Executor, body: Callable[..., Any], item: Any = None) -> Any:
    # No result in a variable: the frames of an error of the caller's thread lead here, too.
    return Flow("flow").map("a", body, [item], pool=pool, fail_fast=True).run()["a"].error


def _of_call(pool: Executor, *call: Any) -> Any:
    return pool.submit(*call).exception()


#: What is refused, and how.
REFUSED: dict[str, Callable[[Executor, Make], Any]] = {
    "function": lambda pool, make: _of_step(pool, partial(payloads.give_back, make())),
    "function-of-map": lambda pool, make: _of_map(pool, partial(payloads.give_back, make())),
    "input": lambda pool, make: _of_step(pool, payloads.read_input, make()),
    "item": lambda pool, make: _of_map(pool, payloads.read_input, make()),
    "argument": lambda pool, make: _of_call(pool, str, make()),
    "value": lambda pool, make: _of_step(pool, lambda ctx: make()),
    "value-of-item": lambda pool, make: _of_map(pool, lambda ctx, item: make()),
    "value-of-call": _of_call,
    "state": lambda pool, make: _of_step(pool, lambda ctx: ctx.set("key", make())),
    "state-of-item": lambda pool, make: _of_map(pool, lambda ctx, item: ctx.set("key", make())),
}


def _check_collected(refuse: Callable[[Executor, Make], Any], pool: Executor, make: Make) -> None:
    """Check that nothing refers to the error any more once it is dropped."""
    error = refuse(pool, make)
    assert isinstance(error, SerializationError)
    reference = weakref.ref(error)
    del error
    seconds_until(lambda: reference() is None)


@pytest.mark.usefixtures("no_gc")
@pytest.mark.parametrize("name", ["value", "value-of-item", "state", "state-of-item"])
def test_a_foreign_refusal_is_collected_with_the_result(name: str) -> None:
    """The frames of what cannot be rebuilt here lead through the executor's code, too."""
    make = partial(payloads.TroubleAtUnpickling, "raises")
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        _check_collected(REFUSED[name], executor, make)


@pytest.mark.usefixtures("no_gc")
@pytest.mark.parametrize("make", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_a_refusal_is_collected_with_the_result(
    own_pool: ProcessPool, refused: Callable[[Executor, Make], Any], make: Make
) -> None:
    """Its frames lead to the code that holds it, which must not lead back."""
    _check_collected(refused, own_pool, make)
