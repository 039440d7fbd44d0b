"""The time that runs go by: how they read it, and how they wait. The one place to replace both.

Whatever a run decides by time goes through here: timeouts, deadlines, backoff, `ctx.sleep`. Pools,
pipes and other processes do not: they always live in real time, which is `real`. So does whoever
measures how long work takes.

Call these as `timing.monotonic()`: while `syncflow.testing.FakeClock` is in use, they are its own.
"""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue
from typing import Any, Final, NamedTuple

__all__ = [
    "LONGEST_WAIT",
    "Drain",
    "enter",
    "from_real",
    "install",
    "leave",
    "monotonic",
    "pause",
    "real",
    "receive",
    "restore",
    "settled",
    "to_real",
]

#: The longest single wait that every platform's lock accepts; longer waits are repeated.
LONGEST_WAIT: Final = min(threading.TIMEOUT_MAX, 1e6)

#: Seconds of the real clock, always.
real = time.monotonic

#: Seconds of the clock that runs go by.
monotonic = time.monotonic

#: The same for who decides what is due: up to here bodies have done what they had to do in time.
settled = time.monotonic


class Drain(NamedTuple):
    """What waits for abandoned bodies."""

    #: The attempts whose bodies may end.
    adrift: set[Any]
    #: Monotonic instant.
    until: float


def receive(inbox: SimpleQueue[Any], seconds: float, waiter: Any) -> Any:
    """Return the next message.

    Args:
        inbox: Where it comes.
        seconds: For how long to wait, not negative.
        waiter: Who waits: an `Engine`, a `Mapper` or a `Drain`.

    Raises:
        queue.Empty: None has come; it may be too early for that.
    """
    return inbox.get(timeout=seconds)


def pause(lock: threading.Lock, until: float, context: Any) -> bool:
    """Wait for a lock until a monotonic instant; true when it was taken. May end too early.

    Args:
        lock: Released to wake the caller.
        until: When to stop waiting.
        context: Of the body that waits.
    """
    return lock.acquire(timeout=min(max(0.0, until - real()), LONGEST_WAIT))


def enter() -> None:
    """Take note that the calling thread is in a run."""


def leave() -> None:
    """Take note that the calling thread has left a run."""


def from_real(instant: float) -> float:
    """Return when something was that happened at an instant of the real clock."""
    return instant


def to_real(instant: float) -> float:
    """Return the instant of the real clock for one of ours."""
    return instant


_REPLACED: Final = (
    "monotonic", "settled", "receive", "pause", "enter", "leave", "from_real", "to_real",
)  # fmt: skip

_REAL: Final = {name: globals()[name] for name in _REPLACED}


def install(source: object) -> None:
    """Let runs go by what `source` has under these names."""
    globals().update({name: getattr(source, name) for name in _REPLACED})


def restore() -> None:
    """Let runs go by the real clock."""
    globals().update(_REAL)
