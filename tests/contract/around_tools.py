"""Hooks that have bodies run in something, and bodies that look at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from syncflow import Context, Event, Hooks

#: The names of what the code is running in, the outermost first.
inside: ContextVar[tuple[str, ...]] = ContextVar("around_tools.inside", default=())


@contextmanager
def named(name: str) -> Iterator[None]:
    """Add a name to `inside`."""
    token = inside.set((*inside.get(), name))
    try:
        yield
    finally:
        inside.reset(token)


class Naming(Hooks):
    """Have bodies run in a name: of hook, step and attempt. Keeps the events."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.events: list[Event] = []

    def around(self, event: Event) -> Callable[[], AbstractContextManager[None]]:
        self.events.append(event)
        return partial(named, f"{self.name} {event.step_name} {event.attempt}")


class Making(Hooks):
    """Have bodies run in what a function makes."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def around(self, event: Event) -> Any:
        return self.make


class BadEntry(AbstractContextManager[None]):
    """Cannot be entered."""

    def __enter__(self) -> None:
        raise SystemExit("entry")

    def __exit__(self, *how: object) -> None:
        raise AssertionError("it was not entered")


class BadExit(AbstractContextManager[None]):
    """Cannot be left; and would swallow what the body raised."""

    def __exit__(self, *how: object) -> bool:
        raise SystemExit("exit")


class Swallowing(AbstractContextManager[None]):
    """Swallow what is raised in it."""

    def __exit__(self, *how: object) -> bool:
        return True


def refuse() -> AbstractContextManager[None]:
    """Make nothing."""
    raise LookupError("make")


def rebuilt_badly() -> None:
    """Cannot be rebuilt elsewhere."""
    raise LookupError("rebuild")


class Stuck:
    """A maker that arrives nowhere, but works here."""

    def __call__(self) -> AbstractContextManager[None]:
        return named("stuck")

    def __reduce__(self) -> Any:
        return rebuilt_badly, ()


def look(ctx: Context, *item: object) -> tuple[str, ...]:
    """Return what the body runs in."""
    return inside.get()


def look_then_fail_once(ctx: Context, *item: object) -> tuple[str, ...]:
    """Fail in the first attempt, then return what the body runs in."""
    if ctx.attempt == 1:
        raise LookupError(ctx.step_name)
    return inside.get()
