"""What crosses the pipe between a pool and a worker process: frames, values, errors.

A frame is an 8-byte length and that many bytes. What is in a frame is pickled: by `pickle` where
that works, by cloudpickle for what only it can do (lambdas, closures, classes of `__main__`).
An error that cannot be rebuilt on the other side arrives as a `RemoteError` that tells its type,
message and traceback.
"""

from __future__ import annotations

import os
import pickle
import select
import traceback
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Final

from syncflow.errors import RemoteError, SerializationError

__all__ = [
    "Channel",
    "Packed",
    "dump",
    "dump_function",
    "lingering",
    "load",
    "pack_error",
    "unpack_error",
]

_HEADER: Final = 8
_CHUNK: Final = 1 << 16


class Channel:
    """One end of a pipe that carries frames. Used by one thread at a time.

    Args:
        fd: A connected stream socket; stays the caller's.
        wait: Called before each read; returns when there is something to read, raises to give up.
    """

    __slots__ = ("_fd", "_received", "_wait")

    def __init__(self, fd: int, wait: Callable[[], None] | None = None) -> None:
        self._fd = fd
        self._wait = wait
        #: Read, but not yet taken: the frames after the one that was asked for.
        self._received = b""

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
        written = os.write(self._fd, data)
        if written < len(data):
            view = memoryview(data)
            while written < len(data):
                written += os.write(self._fd, view[written:])

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


def lingering(fd: int) -> Callable[[], None]:
    """Return a function that waits until `fd` is readable, or long enough to go to sleep."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)

    def linger() -> None:
        until = monotonic() + _LINGER
        while not poll.poll(0) and monotonic() < until:
            os.sched_yield()

    return linger


def dump(value: Any, what: str) -> bytes:
    """Serialise a value.

    Args:
        value: Anything.
        what: What it is, for the error.

    Raises:
        SerializationError: it cannot be pickled, whatever it raised while trying.
    """
    try:
        return pickle.dumps(value, protocol=5)
    except Exception:
        # Lambdas, closures and classes of __main__ are what cloudpickle is for.
        return _dump_by_value(value, what)
    except BaseException as error:
        raise SerializationError(what, _describe(error)) from error


def dump_function(function: Any, what: str) -> bytes:
    """Serialise a function, so that a process that cannot import its module can still call it.

    Unlike `dump`, this never tries plain pickle first: it would succeed for a function of
    `__main__`, by a name that the worker does not have.

    Raises:
        SerializationError: it cannot be pickled.
    """
    return _dump_by_value(function, what)


def _dump_by_value(value: Any, what: str) -> bytes:
    import cloudpickle

    try:
        return cloudpickle.dumps(value, protocol=5)  # type: ignore[no-any-return]
    except BaseException as error:
        raise SerializationError(what, _describe(error)) from error


def load(blob: bytes, what: str) -> Any:
    """Rebuild what `dump` serialised.

    Raises:
        SerializationError: it cannot be rebuilt, whatever it raised while trying.
    """
    try:
        return pickle.loads(blob)
    except BaseException as error:
        raise SerializationError(what, _describe(error)) from error


#: One error taken apart: its pickle or None; type and message as text; notes; the positions of its
#: cause and context in the chain, or None; whether the context is suppressed.
_Link = tuple[bytes | None, str, str, list[str], int | None, int | None, bool]

#: An error with all the errors it leads to: the first link is its own. And its formatted traceback.
Packed = tuple[list[_Link], str]


def pack_error(error: BaseException) -> Packed:
    """Take an error apart, with its notes, its chain of causes and its traceback as text."""
    found = [error]
    for link in found:  # grows while it is walked
        found += [
            linked
            for linked in (link.__cause__, link.__context__)
            if linked is not None and not any(linked is known for known in found)
        ]

    def position(linked: BaseException | None) -> int | None:
        return next((at for at, known in enumerate(found) if known is linked), None)

    links: list[_Link] = []
    for link in found:
        try:
            blob = dump(link, "the error")
        except SerializationError:
            blob = None
        links.append((
            blob, type(link).__qualname__, _message(link),
            [str(note) for note in getattr(link, "__notes__", ())],
            position(link.__cause__), position(link.__context__), link.__suppress_context__,
        ))  # fmt: skip
    return links, format_error(error)


def unpack_error(packed: Packed) -> BaseException:
    """Rebuild an error, with a `RemoteError` for what cannot be rebuilt; never raises."""
    links, text = packed
    errors = []
    for blob, name, message, notes, *_ in links:
        error: Any = None
        if blob is not None:
            with suppress(SerializationError):
                error = load(blob, "the error")
        if not isinstance(error, BaseException):
            error = RemoteError(name, message, text)
        for note in notes:
            if note not in getattr(error, "__notes__", ()):
                error.add_note(note)
        errors.append(error)
    for error, (*_, cause, context, hidden) in zip(errors, links, strict=True):
        error.__cause__ = None if cause is None else errors[cause]
        error.__context__ = None if context is None else errors[context]
        error.__suppress_context__ = hidden
    error = errors[0]
    assert isinstance(error, BaseException)
    return error


def format_error(error: BaseException) -> str:
    """Format an error with its traceback; never raises."""
    try:
        return "".join(traceback.format_exception(error)).rstrip()
    except Exception:
        trace = "".join(traceback.format_tb(error.__traceback__))
        return f"Traceback (most recent call last):\n{trace}{_describe(error)}"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "<its message cannot be shown>"


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {_message(error)}"
