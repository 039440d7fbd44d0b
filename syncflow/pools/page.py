"""The page of memory that a worker process shares with its parent."""

from __future__ import annotations

import struct
from mmap import mmap
from typing import Final

__all__ = ["Page"]


class Page:
    """The page of memory that a worker shares with its parent.

    Each field has one writer. Fields are written whole (eight aligned bytes); times before what
    they are the times of, so that who sees the task, or the item of a chunk, there sees its time.
    """

    SIZE: Final = 4096
    _RECEIVED, _STARTED, _STARTED_AT, _STOP, _ITEM, _ITEM_AT = 0, 8, 16, 24, 32, 40

    def __init__(self, fd: int) -> None:
        self._memory: mmap | bytearray = mmap(fd, self.SIZE)

    def received(self) -> int:
        """Return the last task that the worker has taken over."""
        return self._get(self._RECEIVED)

    def mark_received(self, task: int) -> None:
        struct.pack_into("<q", self._memory, self._RECEIVED, task)

    def started_at(self, task: int) -> float | None:
        """Return the monotonic instant at which the body of `task` started, or `None`."""
        if self._get(self._STARTED) != task:
            return None
        return float(struct.unpack_from("<d", self._memory, self._STARTED_AT)[0])

    def mark_started(self, task: int, now: float) -> None:
        struct.pack_into("<d", self._memory, self._STARTED_AT, now)
        struct.pack_into("<q", self._memory, self._STARTED, task)

    def item_of(self, task: int) -> tuple[int, float] | None:
        """Return the position in its chunk of the item that `task` is at, and since when.

        The instant is that of its start when the items have a timeout, else that of the chunk's.
        `None`: it has not begun.
        """
        while self._get(self._STARTED) == task:
            item = self._get(self._ITEM)
            since = float(struct.unpack_from("<d", self._memory, self._ITEM_AT)[0])
            if self._get(self._ITEM) == item:
                return item, since
        return None

    def mark_item(self, item: int) -> None:
        struct.pack_into("<q", self._memory, self._ITEM, item)

    def mark_item_at(self, now: float) -> None:
        struct.pack_into("<d", self._memory, self._ITEM_AT, now)

    def stop(self) -> int:
        """Return the last task that was asked to stop."""
        return self._get(self._STOP)

    def mark_stop(self, task: int) -> None:
        struct.pack_into("<q", self._memory, self._STOP, task)

    def _get(self, offset: int) -> int:
        return int(struct.unpack_from("<q", self._memory, offset)[0])

    def freeze(self) -> None:
        """Keep what the page says, and give the memory and its descriptor back."""
        shared, self._memory = self._memory, bytearray(self._memory)
        if isinstance(shared, mmap):
            shared.close()
