"""Large buffers between processes: through shared memory instead of the pipe.

What pickles with out-of-band buffers (protocol 5: numpy, pandas, pyarrow) has them copied into a
block of memory, once; whoever reads the value maps the block. A block has no name: it lives as long
as somebody has it open or mapped, so that nothing is left behind, however a process ends. Another
process of the same user opens it through `/proc`. Where either is missing or refused, buffers stay
in the pickle and go through the pipe.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from mmap import ACCESS_COPY, ACCESS_READ, mmap
from pickle import PickleBuffer
from typing import Final

__all__ = ["Blob", "Block", "Collector", "Shipped", "open_buffers"]

#: Bytes; smaller buffers are not worth a block, and go through the pipe.
_LARGE: Final = 1 << 16

#: Bytes; of smaller blocks, readers get copies.
_WORTH_MAPPING: Final = 1 << 20

#: Bytes to which buffers are aligned, as numpy aligns its own.
_ALIGNMENT: Final = 64

#: A pickle, the path of the block with its buffers, and where in it each of them is.
Shipped = tuple[bytes, str, list[tuple[int, int]]]

#: A serialised value: all of it, or with its large buffers elsewhere.
Blob = bytes | Shipped


class Block:
    """Buffers, copied into memory that other processes can map. Closed when it is dropped.

    Args:
        buffers: Contiguous.

    Raises:
        OSError: there is not enough memory.
    """

    __slots__ = ("_fd", "path", "spans")

    def __init__(self, buffers: Sequence[memoryview]) -> None:
        self._fd = os.memfd_create("syncflow")
        #: Where other processes find it, as long as this object lives.
        self.path = f"/proc/{os.getpid()}/fd/{self._fd}"
        #: Start and end of each buffer.
        self.spans: list[tuple[int, int]] = []
        start = 0
        for buffer in buffers:
            self._write(buffer, start)
            end = start + buffer.nbytes
            self.spans.append((start, end))
            start = end + -end % _ALIGNMENT

    def _write(self, buffer: memoryview, start: int) -> None:
        while buffer:
            written = os.pwrite(self._fd, buffer, start)
            buffer, start = buffer[written:], start + written

    def __del__(self) -> None:
        fd = getattr(self, "_fd", None)
        if fd is not None:
            os.close(fd)


class Collector:
    """Takes the large buffers of one pickle; its `take` is pickle's `buffer_callback`."""

    def __init__(self) -> None:
        self._buffers: list[memoryview] = []

    def take(self, buffer: PickleBuffer) -> bool:
        """Take a large buffer; true for one that is to stay in the pickle."""
        raw = buffer.raw()
        if raw.nbytes < _LARGE or not _is_possible():
            return True
        self._buffers.append(raw)
        return False

    def ship(self, pickled: bytes) -> tuple[Blob, Block | None]:
        """Return what to send, and the block to keep until it has been received."""
        if not self._buffers:
            return pickled, None
        block = Block(self._buffers)
        return (pickled, block.path, block.spans), block


def open_buffers(shipped: Shipped, *, writable: bool) -> list[memoryview]:
    """Map the block of a serialised value and return its buffers, which keep it mapped.

    Args:
        shipped: What was sent.
        writable: Give the buffers to be written to: pages are copied when they are first written.

    Raises:
        OSError: who made the block is gone.
    """
    _, path, spans = shipped
    fd = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        memory = _mapped(fd, size, writable) or _copied(fd, size, writable)
    finally:
        os.close(fd)
    return [memory[start:end] for start, end in spans]


def _mapped(fd: int, size: int, writable: bool) -> memoryview | None:
    """Map a block; `None`: it is too small to be worth the descriptor that a mapping keeps."""
    if size >= _WORTH_MAPPING:
        with suppress(OSError):  # there may be no descriptor left
            return memoryview(mmap(fd, 0, access=ACCESS_COPY if writable else ACCESS_READ))
    return None


def _copied(fd: int, size: int, writable: bool) -> memoryview:
    """Copy a block."""
    memory = memoryview(mmap(-1, size))
    filled = 0
    while filled < size:
        filled += os.preadv(fd, [memory[filled:]], filled)
    return memory if writable else memory.toreadonly()


@cache
def _is_possible() -> bool:
    """Tell whether there are blocks here, by trying: a sandbox may refuse what the system has."""
    try:
        block = Block([memoryview(b"tried")])
        return open_buffers((b"", block.path, block.spans), writable=False) == [b"tried"]
    except (AttributeError, OSError):
        return False
