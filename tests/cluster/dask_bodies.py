"""Bodies for a Dask cluster, which imports this module by its name."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from syncflow import Context

__all__ = [
    "DiesOnArrival", "Waits", "append", "die", "die_at_7", "fail_once", "name_of_task", "size",
    "square", "undo",
]  # fmt: skip

#: Seconds after which a wait for an event has failed.
PATIENCE = 30.0


def wait_for(*paths: Path) -> None:
    """Return when all files are there."""
    until = time.monotonic() + PATIENCE
    while not all(path.exists() for path in paths):
        assert time.monotonic() < until, f"waited in vain for {paths}"
        time.sleep(0.002)


def append(path: Path, word: object) -> None:
    """Add a line to a file: what a body has done to the world."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{word}\n".encode())
    os.close(descriptor)


class Waits:
    """Tell that the body has begun, and by whom; return once all files are there."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder = folder
        self.names = names

    def __call__(self, ctx: Context) -> int:
        """Begin, wait, return the pid."""
        append(self.folder / f"{ctx.step_name}-begun", os.getpid())
        wait_for(*(self.folder / name for name in self.names))
        return os.getpid()


def die(ctx: Context) -> None:
    """Do something to the world, and end the worker."""
    append(Path(ctx.input, "done"), ctx.attempt)
    os._exit(7)


class DiesOnArrival:
    """A function that ends the worker that rebuilds it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __setstate__(self, state: dict[str, Any]) -> None:
        append(Path(state["folder"]) / "done", "arrived")
        os._exit(7)

    def __call__(self, ctx: Context) -> None:
        """Never get here."""


def die_at_7(ctx: Context, item: int) -> int:
    """Do something for an item; end the worker at one of them."""
    append(Path(ctx.input, "done"), item)
    if item == 7:
        os._exit(7)
    return item


def fail_once(ctx: Context) -> int:
    """Fail in the first attempt."""
    if ctx.attempt == 1:
        raise LookupError("once")
    return ctx.attempt


def square(ctx: Context, item: int) -> int:
    """Return the square of an item."""
    return item * item


def size(ctx: Context) -> int:
    """Return how large the input is."""
    return len(ctx.input)


def name_of_task(ctx: Context) -> str:
    """Return what the dashboard calls the task that runs this."""
    from dask.utils import key_split
    from distributed import get_worker

    return str(key_split(get_worker().get_current_task()))


def undo(ctx: Context) -> None:
    """Tell what was undone."""
    append(Path(ctx.input, "undone"), f"{ctx.step_name} {type(ctx.error).__name__}")
