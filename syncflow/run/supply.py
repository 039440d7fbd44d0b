"""The items of a map that are ready, for the lanes of its workers to take by themselves.

A lane is one worker's way through a map: it takes items, runs them, and takes more, so that neither
the run's thread nor another worker has to be woken for an item.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

__all__ = ["NEWS", "Chunk", "Pace", "Supply"]

#: What a lane puts into the inbox to wake the run's thread.
NEWS: Final = "news"

#: Items in a row that travel together: the index of the first, the items, and the number of the
#: attempt that they are up for.
Chunk = tuple[int, list[Any], int]


class Supply:
    """Items that are ready. The run's thread puts in, lanes take out.

    Args:
        stopping: Tells whether the run is about to stop; `None`: no. Called by lanes.
    """

    def __init__(self, stopping: Callable[[], object] = lambda: None) -> None:
        self._stopping = stopping
        #: Guards all below. Held for a few instructions; nothing of a user's is called under it.
        self._lock = threading.Lock()
        #: Items for their first attempt, in order, and the index of the first of them.
        self._fresh: deque[Any] = deque()
        self._first = 0
        #: What comes before them: retries, and what has to be run again.
        self._again: deque[Chunk] = deque()
        #: Lanes that will take again before they end.
        self.lanes = 0
        #: Nothing is handed out any more.
        self.closed = False
        #: Reports that may close it and have not been looked at: nothing is handed out meanwhile.
        self._held = 0
        #: Items that were ever handed out.
        self.taken = 0

    def __len__(self) -> int:
        return len(self._fresh) + len(self._again)

    @property
    def barred(self) -> bool:
        """Whether nothing is handed out now."""
        return self.closed or self._held > 0

    def put(self, items: Sequence[Any]) -> None:
        """Add items for their first attempt."""
        with self._lock:
            self._fresh.extend(items)

    def put_again(self, chunk: Chunk) -> None:
        """Add what goes first."""
        with self._lock:
            self._again.append(chunk)

    def take(self, pace: Pace | None = None) -> Chunk | None:
        """Take the next chunk; `None`: there is none, and the lane has left.

        Args:
            pace: Says how many items; `None` for one.
        """
        stops = self._stopping() is not None
        with self._lock:
            if stops or self.barred or not (self._fresh or self._again):
                self.lanes -= 1
                return None
            if self._again:
                chunk = self._again.popleft()
                self.taken += len(chunk[1])
                return chunk
            fresh, start = self._fresh, self._first
            if pace is None:
                items = [fresh.popleft()]
            else:
                count = pace.next(len(fresh), self.lanes)
                items = [fresh.popleft() for _ in range(count)]
            self._first += len(items)
            self.taken += len(items)
            return start, items, 1

    def enter(self) -> None:
        """Count one lane more."""
        with self._lock:
            self.lanes += 1

    def leave(self) -> None:
        """Count a lane out that will not take again."""
        with self._lock:
            self.lanes -= 1

    def hold(self) -> None:
        """Hand out nothing until `release`: lanes that ask leave."""
        with self._lock:
            self._held += 1

    def release(self, times: int) -> None:
        """Take so many holds back."""
        with self._lock:
            self._held -= times

    def close(self) -> list[Chunk]:
        """Hand out nothing any more; return what is left."""
        with self._lock:
            self.closed = True
            left = [*self._again]
            if self._fresh:
                left.append((self._first, list(self._fresh), 1))
            self._again.clear()
            self._fresh.clear()
            return left


class Pace:
    """How many items travel together: few enough to keep all workers busy to the end.

    A chunk costs a message there and one back, some 100 µs. So chunks are sized to take about
    `AIM` seconds, judged by the chunk before (as joblib does); towards the end of what there is
    they get smaller, so that all workers end at about the same time (guided self-scheduling:
    Polychronopoulos and Kuck, 1987), but never too small to be worth a message.

    Args:
        fixed: The number, when the user has chosen one.
    """

    #: Seconds that a chunk is to take.
    AIM: Final = 0.01
    #: Seconds below which a chunk is not worth its message.
    LEAST: Final = 0.001
    #: Most items to a chunk.
    MOST: Final = 1 << 16

    def __init__(self, fixed: int | None) -> None:
        self._fixed = fixed
        #: Items to a chunk, as things go: one until the first chunk has been timed.
        self.size = 1 if fixed is None else fixed
        self._least = 1

    def took(self, items: int, seconds: float) -> None:
        """Take note of how long a chunk took, the way there and back included. Any lane."""
        if self._fixed is None:
            each = max(seconds, 1e-9) / items
            self.size = max(1, min(int(self.AIM / each), self.MOST))
            self._least = max(1, min(int(self.LEAST / each), self.MOST))

    def next(self, ready: int, lanes: int) -> int:
        """Return how many items the next chunk gets.

        Args:
            ready: How many there are, at least one.
            lanes: How many take of them.
        """
        if self._fixed is not None:
            return min(self._fixed, ready)
        share = max(ready // (2 * max(lanes, 1)), self._least)
        return min(self.size, share, ready)
