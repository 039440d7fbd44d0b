"""What steps and calls do. Workers import this, so it imports little itself.

A body takes whatever its caller hands it, a step's context or an argument, unless it says so.
"""

from __future__ import annotations

import os
import signal
import time
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syncflow import Context

__all__ = [
    "burn",
    "crash",
    "crash_once",
    "double",
    "double_item",
    "endless",
    "endless_in_c",
    "nap",
    "no_op",
    "touch",
    "touch_input",
    "transform",
]


def no_op(_: object) -> int:
    """Do nothing."""
    return 1


def nap(seconds: float) -> float:
    """Wait, as for a service."""
    time.sleep(seconds)
    return seconds


def burn(turns: int) -> int:
    """Keep the interpreter busy."""
    total = 0
    for turn in range(turns):
        total += turn & 7
    return total


def double(item: int) -> int:
    """Do next to nothing with an item."""
    return 2 * item


def double_item(_: Context, item: int) -> int:
    """Do the same, as the function of a map."""
    return 2 * item


def transform(path: str) -> dict[str, object]:
    """Count the identifiers of a Python module and compress its source."""
    import io
    import tokenize
    import zlib
    from collections import Counter

    source = Path(path).read_bytes()
    tokens = tokenize.tokenize(io.BytesIO(source).readline)
    names = Counter(token.string for token in tokens if token.type == tokenize.NAME)
    return {
        "favourites": names.most_common(3),
        "size": len(source),
        "compressed": len(zlib.compress(source, level=9)),
    }


def touch(array: Any) -> int:
    """Look at one number of each page of an array, so that all of it has to be there."""
    return int(array[:: 4096 // array.itemsize].sum())


def touch_input(ctx: Context) -> int:
    """Do the same with the flow's input."""
    return touch(ctx.input)


def endless(_: object) -> None:
    """Run until interrupted."""
    turn = 0
    while True:
        turn += 1


def endless_in_c(_: object) -> bool:
    """Run C code that never looks at signals: only killing the process ends it."""
    return all(repeat(True))


def crash(_: object) -> None:
    """Kill the process."""
    os.kill(os.getpid(), signal.SIGKILL)


def crash_once(ctx: Context) -> int:
    """Do so on the first attempt."""
    if ctx.attempt == 1:
        crash(ctx)
    return 1
