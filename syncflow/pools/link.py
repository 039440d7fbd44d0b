"""A process body's way to what it reads: questions to the parent, on the pipe of its worker."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from syncflow.context import MISSING
from syncflow.errors import SerializationError
from syncflow.pools import wire

if TYPE_CHECKING:
    from syncflow.result import StepResult

__all__ = ["Link", "open_frame"]


class Link:
    """The view of a process body: asks the parent for what the body reads, once each."""

    def __init__(self, channel: wire.Channel) -> None:
        self._channel = channel
        #: One question at a time, also when the body has started threads that ask.
        self._lock = threading.Lock()
        #: The threads that are on the pipe, or about to be.
        self._talking: set[int] = set()
        #: What this body has read: its own copy.
        self._read: dict[tuple[str, str], Any] = {}
        self._closed = False

    def close(self) -> None:
        """End the talk when the body is over: threads that it left behind get an error."""
        with self._lock:  # a question that is under way is answered first
            self._closed = True

    @property
    def talking(self) -> bool:
        """Whether the main thread is on the pipe: it must not be interrupted there."""
        return threading.main_thread().ident in self._talking

    @property
    def input(self) -> Any:
        return self.ask("input", "")

    @property
    def results(self) -> Mapping[str, StepResult]:
        return _Results(self)

    def state(self, key: str) -> Any:
        return self.ask("state", key)

    def value(self, step_name: str) -> Any:
        return self.ask("value", step_name)

    def ask(self, kind: str, name: str) -> Any:
        """Return what the parent knows under this name, or `MISSING`.

        Raises:
            SerializationError: it exists, and cannot be sent or rebuilt.
            RuntimeError: the body is over.
        """
        if (kind, name) not in self._read:
            me = threading.get_ident()
            self._talking.add(me)
            try:
                with self._lock:
                    if self._closed:
                        raise RuntimeError("the body that this context belongs to is over")
                    self._channel.send(pickle.dumps(("read", kind, name)))
                    frame = self._channel.receive()
            finally:
                self._talking.discard(me)
            self._read[kind, name] = open_frame(frame, kind, name)
        return self._read[kind, name]


def open_frame(frame: bytes, kind: str, name: str) -> Any:
    """Rebuild what the parent has answered: a value, or `MISSING`.

    Raises:
        SerializationError: it could not be sent, or cannot be rebuilt.
    """
    answer, detail = pickle.loads(frame)
    if answer == "refused":
        raise SerializationError(*detail)
    if answer == "missing":
        return MISSING
    return wire.load(detail, wire.name_of(kind, name), writable=False)


class _Results(Mapping[str, "StepResult"]):
    """`ctx.results` of a process body; each result is fetched when it is looked at."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def __getitem__(self, name: str) -> StepResult:
        result = self._link.ask("result", name)
        if result is MISSING:
            raise KeyError(name)
        return result  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[str]:
        return iter(self._link.ask("names", ""))

    def __len__(self) -> int:
        return len(self._link.ask("names", ""))
