"""Moments at which to have a look, the nearest first."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from syncflow import timing

__all__ = ["Timers"]


class Timers:
    """A heap of looks. None is ever taken back: a look that comes to nothing costs nothing."""

    __slots__ = ("_heap", "_serial")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[..., Any], Any]] = []
        #: Orders looks of the same instant, so that nothing else is ever compared.
        self._serial = 0

    def add(self, when: float, look: Callable[..., Any], subject: Any) -> None:
        """Have `look` called with `subject` at a monotonic instant."""
        self._serial += 1
        heapq.heappush(self._heap, (when, self._serial, look, subject))

    def after(self, seconds: float, look: Callable[..., Any], subject: Any) -> None:
        """Have `look` called with `subject` so many seconds from now."""
        self.add(timing.monotonic() + seconds, look, subject)

    @property
    def nearest(self) -> float | None:
        """The instant of the nearest; `None`: there is none."""
        return self._heap[0][0] if self._heap else None

    def wait(self, longest: float) -> float:
        """Return the seconds until the nearest is due, at most `longest`; 0 or less when it is."""
        return min(self._heap[0][0] - timing.settled(), longest) if self._heap else longest

    def is_due(self, now: float) -> bool:
        """Tell whether the nearest is due at a monotonic instant."""
        return bool(self._heap) and self._heap[0][0] <= now

    def pop(self) -> tuple[Callable[..., Any], Any]:
        """Take the nearest out; return its look and subject."""
        _, _, look, subject = heapq.heappop(self._heap)
        return look, subject

    def clear(self) -> None:
        """Forget all."""
        self._heap.clear()
