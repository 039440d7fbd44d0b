"""`Map`: one function over many items, as a node of a flow. Frozen, and checked when it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from copy import copy
from typing import Any

import attrs

from syncflow import policy
from syncflow.definition import OPTIONS, Parallel, Step
from syncflow.errors import DefinitionError, DefinitionTypeError
from syncflow.subflow import Nestable

__all__ = ["Map", "Node", "OverItem", "make_map", "over_item", "refuse_inline_map"]

#: What `over` may be: the items, the name of the step that returned them, or what makes them.
Source = Iterable[Any] | str | Callable[[Any], Iterable[Any]]

_OPTIONS = ("fail_fast", "min_success", "max_concurrency", "chunk_size", "keep_values")


@attrs.frozen(eq=False)
class Map:
    """One function over many items; made by `Flow.map`, which says what is what."""

    name: str
    #: The function, which takes the context and an item, and the options of each item.
    step: Step
    over: Source
    fail_fast: bool
    min_success: int | None
    max_concurrency: int | None
    #: Items to a message; `None`: as many as their times suggest.
    chunk_size: int | None
    keep_values: bool

    @property
    def steps(self) -> tuple[Step]:
        """The steps that the map stands for: one."""
        return (self.step,)


def make_map(
    name: Any,
    fn: Any,
    over: Any,
    *,
    fail_fast: Any,
    min_success: Any,
    max_concurrency: Any,
    chunk_size: Any,
    keep_values: Any,
    options: Mapping[str, Any],
) -> Map:
    """Check all that `Flow.map` was given; only the flow can say whether it knows the names."""
    policy.name(name, "name", f"map {policy.shown(name)}")
    where = f"map {policy.shown(name)}"
    for option in options:
        if option not in OPTIONS:
            raise policy.unknown_option(option, (*_OPTIONS, *OPTIONS), where)
    if isinstance(fn, Nestable):
        raise DefinitionTypeError(
            f"{where}: fn must be a function of the context and an item, not {policy.shown(fn)};"
            " call the flow's run() in one"
        )
    pool = options.get("pool")
    step = Step(name, fn, **{**options, "pool": "thread" if pool is None else pool})
    refuse_inline_map(step.pool, where)
    needed = policy.optional_count(min_success, "min_success", where, least=1)
    if policy.flag(fail_fast, "fail_fast", where) and needed is not None:
        raise DefinitionError(f"{where}: min_success={needed} excludes fail_fast=True")
    if isinstance(chunk_size, str):
        policy.choice(chunk_size, "chunk_size", where, known=("auto",))
        chunk_size = None
    else:
        policy.count(chunk_size, "chunk_size", where, least=1)
    return Map(
        name=name,
        step=step,
        over=_checked_source(over, where),
        fail_fast=fail_fast,
        min_success=needed,
        max_concurrency=policy.optional_count(max_concurrency, "max_concurrency", where, least=1),
        chunk_size=chunk_size,
        keep_values=policy.flag(keep_values, "keep_values", where),
    )


def _checked_source(over: object, where: str) -> Any:
    if isinstance(over, str):
        return policy.name(over, "over", where)
    if isinstance(over, Iterator):
        raise DefinitionError(
            f"{where}: over must be iterable in every run, and {policy.shown(over)} is an iterator,"
            " which is used up by the first; pass a function that makes it"
        )
    if isinstance(over, Iterable):
        return over
    if not callable(over):
        raise DefinitionTypeError(
            f"{where}: over must be an iterable, the name of an earlier step or a function that"
            f" makes an iterable, not {policy.shown(over)}"
        )
    return policy.function(over, "over", where)


def refuse_inline_map(pool: str | Executor | None, where: str) -> None:
    """Refuse the caller's own thread as the pool of a map."""
    if pool == "inline":
        raise DefinitionError(f"{where}: pool='inline' would run its items one by one; use a step")


#: What a flow is made of.
Node = Step | Parallel | Map


class OverItem:
    """A function of a map with one item: to be called with the context alone."""

    __slots__ = ("_fn", "_item")

    def __init__(self, fn: Callable[[Any, Any], Any], item: Any) -> None:
        self._fn = fn
        self._item = item

    def __call__(self, ctx: Any) -> Any:
        """Call the function."""
        return self._fn(ctx, self._item)


def over_item(step: Step, item: Any) -> Step:
    """Return the step of a map, or its compensation, as it is for one item."""
    changes: dict[str, Any] = {"fn": OverItem(step.fn, item)}
    if step.undo is not None:
        changes["_undo"] = over_item(step.undo, item)
    own = copy(step)
    for name, value in changes.items():
        object.__setattr__(own, name, value)  # it is frozen for everybody else
    return own
