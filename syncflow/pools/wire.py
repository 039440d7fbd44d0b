"""What crosses the pipe between a pool and a worker process: frames and values.

A frame is an 8-byte length and that many bytes. What is in a frame is pickled: by `pickle` where
that works, by cloudpickle for what only it can do (lambdas, closures, classes of `__main__`).
Errors have a file of their own, `packing.py`.
"""

from __future__ import annotations

import os
import pickle
import select
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from syncflow.errors import SerializationError, StepInterrupt, describe
from syncflow.pools.shared import Blob, Block, Collector, open_buffers

__all__ = ["Channel", "dump", "dump_by_value", "lingering", "load", "name_of"]

_HEADER: Final = 8
_CHUNK: Final = 1 << 16


class Channel:
    """One end of a pipe that carries frames. Used by one thread at a time.

    Args:
        fd: A connected stream socket; stays the caller's.
        wait: Called before each read; returns when there is something to read, raises to give up.
        wait_for_room: The same for writing, when `fd` does not block and has no room.
    """

    __slots__ = ("_fd", "_received", "_wait", "_wait_for_room")

    def __init__(
        self,
        fd: int,
        wait: Callable[[], object] | None = None,
        wait_for_room: Callable[[], None] | None = None,
    ) -> None:
        self._fd = fd
        self._wait = wait
        self._wait_for_room = wait_for_room
        #: Read, but not yet taken: the frames after the one that was asked for.
        self._received = b""

    def close(self) -> None:
        """Let go of who waits; the descriptor is the caller's."""
        self._wait = self._wait_for_room = None

    def send(self, payload: bytes) -> None:
        """Write one frame.

        Raises:
            OSError: the other side is gone.
        """
        header = len(payload).to_bytes(_HEADER, "little")
        if len(payload) < _CHUNK:
            self._write(header + payload)
        else:
            self._write(header)
            self._write(payload)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                if self._wait_for_room is None:
                    raise
                self._wait_for_room()

    def receive(self) -> bytes:
        """Return the next frame.

        Raises:
            EOFError: the other side has closed its end.
            OSError: the pipe is broken.
        """
        received = self._received
        while len(received) < _HEADER:
            received += self._read(_CHUNK)
        end = _HEADER + int.from_bytes(received[:_HEADER], "little")
        if len(received) < end:
            received = self._read_long(received, end)
        self._received = received[end:]
        return received[_HEADER:end]

    def _read(self, size: int) -> bytes:
        if self._wait is not None:
            self._wait()
        data = os.read(self._fd, size)
        if not data:
            raise EOFError("the other side has closed the pipe")
        return data

    def _read_long(self, received: bytes, end: int) -> bytes:
        """Read on until `end` bytes are there, without copying what has arrived again and again."""
        frame = bytearray(end)
        frame[: len(received)] = received
        view, filled = memoryview(frame), len(received)
        while filled < end:
            if self._wait is not None:
                self._wait()
            count = os.readv(self._fd, [view[filled:]])
            if not count:
                raise EOFError("the other side has closed the pipe")
            filled += count
        return bytes(frame)


#: Seconds that either side looks for an answer before it goes to sleep. Being woken costs 25 to
#: 30 µs on an idle core, more than a tiny task: a stream of those is served without sleeping.
_LINGER: Final = 100e-6


def lingering(fd: int) -> Callable[[], bool]:
    """Return a function that waits a little for `fd`, and tells whether it can be read."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)

    def linger() -> bool:
        until = monotonic() + _LINGER
        while not poll.poll(0):
            if monotonic() >= until:
                return False
            os.sched_yield()
        return True

    return linger


def dump(value: Any, what: str, kept: list[Block] | None = None) -> Blob:
    """Serialise a value that a worker sends to its parent.

    Args:
        value: Anything.
        what: What it is, for the error.
        kept: Gets the block with the large buffers, to be kept until they are received. `None`:
            they stay in the pickle.

    Raises:
        SerializationError: it cannot be pickled, whatever it raised while trying.
    """
    try:
        return _dump(pickle.dumps, value, kept)
    except Exception:
        # Lambdas, closures and classes of the parent's __main__ are what cloudpickle is for.
        return dump_by_value(value, what, kept)
    except BaseException as error:
        raise SerializationError(what, describe(error)) from error


def dump_by_value(value: Any, what: str, kept: list[Block] | None = None) -> Blob:
    """Serialise a function or value that a parent sends to a worker; see `dump`.

    Unlike that, this never tries plain pickle first. That would succeed for what is defined in
    `__main__`, by a name that the worker does not have.
    """
    import cloudpickle

    try:
        return _dump(cloudpickle.dumps, value, kept)
    except BaseException as error:
        raise SerializationError(what, describe(error)) from error


def _dump(dumps: Callable[..., bytes], value: Any, kept: list[Block] | None) -> Blob:
    if kept is None:
        return dumps(value, protocol=5)
    collector = Collector()
    blob, block = collector.ship(dumps(value, protocol=5, buffer_callback=collector.take))
    if block is not None:
        kept.append(block)
    return blob


def load(blob: Blob, what: str, *, writable: bool = True) -> Any:
    """Rebuild what `dump` serialised.

    Args:
        blob: From the other side.
        what: What it is, for the error.
        writable: Whether large buffers are to be written to; if not, they are mapped read-only.

    Raises:
        SerializationError: it cannot be rebuilt, whatever it raised while trying.
    """
    try:
        if isinstance(blob, bytes):
            return pickle.loads(blob)
        return pickle.loads(blob[0], buffers=open_buffers(blob, writable=writable))
    except StepInterrupt:
        raise  # meant for the body that is reading
    except BaseException as error:
        raise SerializationError(what, describe(error)) from error


def name_of(kind: str, name: str) -> str:
    """Return what an error calls something that a body reads."""
    known = {"input": "the input", "names": "the names", "state": f"the state value {name!r}"}
    return known.get(kind, f"the {kind} of step {name!r}")
