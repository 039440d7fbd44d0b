"""What bodies run in, beside their thread or process: the context managers of hooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

__all__ = ["Around", "Complain", "Maker"]

#: Makes a context manager, for one body or for one chunk of a map; see `Hooks.around`.
Maker = Callable[[], AbstractContextManager[Any]]

#: Is told what a maker, or its context manager, has raised. Any thread; must not raise.
Complain = Callable[[BaseException], None]


class Around:
    """Enters and leaves the context managers of hooks. Whatever these do, nothing here raises.

    Changes nothing in itself, so that any number of bodies may run in it at once.

    Args:
        parts: The makers, and who is told when they raise.
    """

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[tuple[Maker, Complain]]) -> None:
        self.parts = parts

    def enter(self) -> Callable[[], None]:
        """Enter them all; return what leaves them, on the same thread."""
        entered: list[tuple[AbstractContextManager[Any], Complain]] = []
        for make, complain in self.parts:
            try:
                manager = make()
                manager.__enter__()
            except BaseException as error:
                complain(error)
            else:
                entered.append((manager, complain))
        return partial(_leave, entered)


def _leave(entered: list[tuple[AbstractContextManager[Any], Complain]]) -> None:
    """Leave what was entered last first; how the body ended is for other hooks to tell."""
    for manager, complain in reversed(entered):
        try:
            manager.__exit__(None, None, None)
        except BaseException as error:
            complain(error)
