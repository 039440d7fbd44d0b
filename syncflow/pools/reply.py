"""What a worker replies: outcomes, taken apart so that each error stays with its own item."""

from __future__ import annotations

import pickle
from typing import Any, Final

from syncflow.errors import SerializationError
from syncflow.pools import packing, wire
from syncflow.pools.shared import Block
from syncflow.run.attempt import Outcome, Ran

__all__ = ["items_named", "packed", "packed_chunk", "value_named"]

#: Types whose values can be rebuilt anywhere.
_PLAIN: Final = frozenset((int, float, complex, bool, str, bytes, type(None)))

#: Stands for a value that could not be pickled.
_NOTHING: Final = pickle.dumps(None)


def packed(outcome: Outcome, what: str, kept: list[Block] | None = None) -> tuple[Any, ...]:
    """Take an outcome apart; a value or write that cannot be pickled makes it an error.

    Args:
        outcome: Of a task.
        what: Whose it is, for the error.
        kept: See `wire.dump`.
    """
    value = writes = error = None
    try:
        if outcome.value is not None:
            value = wire.dump(outcome.value, f"the value {what}", kept)
        if outcome.writes and outcome.error is None:
            writes = {
                key: wire.dump(written, f"the state value {key!r} {what}", kept)
                for key, written in outcome.writes.items()
            }
        if outcome.error is not None:
            error = packing.pack_error(outcome.error)
    except SerializationError as refused:
        value = writes = None
        error = packing.pack_error(refused)
    return (
        "done", value, error, writes,
        outcome.started_at, outcome.ended_at, outcome.overdue,
    )  # fmt: skip


def items_named(start: int, step_name: str) -> str:
    """Return what an error calls a chunk of items."""
    return f"item {start} (or one sent with it) of step {step_name!r}"


def packed_chunk(
    ran: Ran, start: int, step_name: str, kept: list[Block] | None = None
) -> tuple[Any, ...]:
    """Take apart what a chunk came to; a value that cannot be pickled makes it an error.

    Plain values are pickled together. Others one by one: so the parent, too, can tell whose cannot
    be rebuilt.

    Args:
        ran: What it came to.
        start: The index of its first item.
        step_name: Whose it is, for errors.
        kept: See `wire.dump`.
    """
    values, special = ran.values, ran.special
    blobs: Any
    if _PLAIN.issuperset(map(type, values)):
        blobs = pickle.dumps(values, protocol=5)
    else:
        blobs = []
        for position, value in enumerate(values):
            try:
                blobs.append(wire.dump(value, value_named(start + position, step_name), kept))
            except SerializationError as refused:
                blobs.append(_NOTHING)
                special[position] = Outcome(None, refused, {}, ran.started_at, ran.ended_at)
    taken_apart = {
        position: packed(outcome, f"of item {start + position} of step {step_name!r}", kept)
        for position, outcome in special.items()
    }
    try:
        return "done", blobs, taken_apart, ran.started_at, ran.ended_at
    finally:
        del ran, values, special  # the frames of refusals lead here, and must not lead back to them


def value_named(index: int, step_name: str) -> str:
    """Return what an error calls the value of an item."""
    return f"the value of item {index} of step {step_name!r}"
