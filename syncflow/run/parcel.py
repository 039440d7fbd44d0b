"""What a body needs to run in another process, on another machine say: all of it travels along."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from syncflow import timing
from syncflow.context import MISSING, Context, Snapshot
from syncflow.errors import SerializationError
from syncflow.pools import packing, wire
from syncflow.pools.carried import pack_around, unpack_around
from syncflow.pools.link import open_frame
from syncflow.run.around import Around
from syncflow.run.jobs import Attempt
from syncflow.run.remote import answer, function_blob

if TYPE_CHECKING:
    from syncflow.result import StepResult

__all__ = ["Bundle", "FramesByName", "arrived_as", "bundle_of"]

#: What travels, serialised: each value by its kind and name.
FramesByName = dict[tuple[str, str], bytes]

#: The names of the function, and of the items of a chunk: they travel as what bodies read does.
_FUNCTION: Final = "function", ""
_ITEMS: Final = "items", ""


class _Parcel:
    """The view of a body elsewhere: all that it may read came with it."""

    def __init__(self, frames: FramesByName) -> None:
        self._frames = frames
        #: What this body has read: its own copy.
        self._read: dict[tuple[str, str], Any] = {}

    @property
    def input(self) -> Any:
        return self.open("input", "")

    @property
    def results(self) -> Mapping[str, StepResult]:
        return _Results(self, [name for kind, name in self._frames if kind == "result"])

    def state(self, key: str) -> Any:
        return self.open("state", key)

    def value(self, step_name: str) -> Any:
        try:
            result = self.open("result", step_name)
        except SerializationError as refused:
            raise SerializationError(wire.name_of("value", step_name), refused.reason) from refused
        return result.value if result is not MISSING and result.ok else MISSING

    def open(self, kind: str, name: str) -> Any:
        """Rebuild one value, once.

        Raises:
            SerializationError: it could not be sent, or cannot be rebuilt.
        """
        if (kind, name) not in self._read:
            frame = self._frames.get((kind, name))
            self._read[kind, name] = MISSING if frame is None else open_frame(frame, kind, name)
        return self._read[kind, name]


class _Results(Mapping[str, "StepResult"]):
    """`ctx.results` of a body elsewhere; each result is rebuilt when it is looked at."""

    def __init__(self, parcel: _Parcel, names: list[str]) -> None:
        self._parcel = parcel
        self._names = names

    def __getitem__(self, name: str) -> StepResult:
        result = self._parcel.open("result", name)
        if result is MISSING:
            raise KeyError(name)
        return result  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def arrived_as(travelling: Any) -> Any:
    """Return what something was turned into to travel: for its `__reduce__`."""
    return travelling


class Bundle:
    """The function of an attempt, who and where it is, and all that it may read."""

    def __init__(
        self,
        refused: packing.Packed | None,
        names: tuple[str, str, str, int],
        remaining: float | None,
        error: packing.Packed | None,
        frames: FramesByName,
        around: list[bytes] | None,
    ) -> None:
        #: Why there is no function.
        self._refused = refused
        #: Of flow and run and step, and the attempt's number.
        self.names = names
        #: Seconds until the nearest deadline: clocks are not compared.
        self._remaining = remaining
        self._error = error
        self._frames = frames
        self._around = around

    def body(self) -> Any:
        """Rebuild the function.

        Raises:
            SerializationError: it could not be sent, or cannot be rebuilt.
        """
        if self._refused is not None:
            raise packing.unpack_error(self._refused)
        return wire.load(self._frames[_FUNCTION], f"the function of step {self.names[2]!r}")

    def pack_items(self, items: list[Any], what: str) -> None:
        """Add the items of a chunk.

        Raises:
            SerializationError: they cannot be pickled; `what` says what they are.
        """
        self._frames[_ITEMS] = wire.dump_by_value(items, what)  # type: ignore[assignment]

    def items(self, what: str) -> list[Any]:
        """Rebuild the items of a chunk; raises as `pack_items` does."""
        items: list[Any] = wire.load(self._frames[_ITEMS], what)
        return items

    def take_out(self) -> FramesByName:
        """Return all that it holds, and hold nothing: who moves it has a better way for that."""
        frames, self._frames = self._frames, {}
        return frames

    def put_in(self, frames: FramesByName) -> None:
        """Hold that again, or part of it."""
        self._frames |= frames

    def view(self) -> _Parcel:
        """Return what the body reads."""
        return _Parcel(self._frames)

    def around(self) -> Around | None:
        """Return what the body runs in."""
        return unpack_around(self._around)

    def context(self, view: _Parcel, index: int | None) -> Context:
        """Return the context of the body, or of that of one item."""
        cause = None if self._error is None else packing.unpack_error(self._error)
        deadline = None if self._remaining is None else timing.monotonic() + self._remaining
        return Context(*self.names, view, deadline, cause, index)


def bundle_of(attempt: Attempt) -> Bundle:
    """Pack what an attempt needs elsewhere."""
    context = attempt.context
    view: Snapshot = context._view  # type: ignore[assignment]  # ours are
    frames = {("input", ""): answer(attempt, "input", "", share=False)}
    frames |= {("state", key): answer(attempt, "state", key, share=False) for key in view.data}
    frames |= {
        ("result", name): answer(attempt, "result", name, share=False) for name in view.settled
    }
    error = None if context.error is None else packing.pack_error(context.error)
    refused = None
    try:
        frames[_FUNCTION] = function_blob(attempt)  # type: ignore[assignment]  # keeps no buffers
    except SerializationError as refusal:
        # Travels instead: what an executor makes of an error here does not tell what was wrong.
        refused = packing.pack_error(refusal)
    names = (context.flow_name, context.run_id, context.step_name, context.attempt)
    around = pack_around(context._around)
    return Bundle(refused, names, context.remaining, error, frames, around)
