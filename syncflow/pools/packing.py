"""Errors across the pipe: taken apart in a worker, rebuilt in the parent.

An error keeps its type, message, notes and attributes, the errors it leads to (causes, contexts and
the members of groups), and its traceback as text. One that cannot be rebuilt arrives as a
`RemoteError` that tells its type, message and traceback. Whatever an error class does when it is
pickled, shown or rebuilt, nothing here raises.
"""

from __future__ import annotations

import copyreg
import traceback
from contextlib import suppress
from types import FunctionType
from typing import Any, Final, NamedTuple, SupportsIndex

from syncflow.errors import RemoteError, SerializationError, annotate, rebuild, text_of
from syncflow.pools.shared import Blob
from syncflow.pools.wire import dump, load

__all__ = ["Packed", "format_error", "pack_error", "rebuild_error", "unpack_error"]


class _Link(NamedTuple):
    """One error taken apart. Others are given by their positions among all that were found."""

    #: The error alone, serialised; `None` when that was not possible.
    blob: Blob | None
    type_name: str
    message: str
    notes: list[str]
    cause: int | None
    context: int | None
    suppress_context: bool
    #: Of a group.
    members: list[int] | None


#: An error with all the errors it leads to, the first being its own; and its formatted traceback.
Packed = tuple[list[_Link], str]


def pack_error(error: BaseException) -> Packed:
    """Take an error apart."""
    found = [error]
    #: By identity: an error class may compare as it likes.
    positions = {id(error): 0}
    for each in found:  # grows while it is walked
        for other in (each.__cause__, each.__context__, *_members(each)):
            if other is not None and id(other) not in positions:
                positions[id(other)] = len(found)
                found.append(other)
    links = [
        _Link(
            blob=_dump_error(each),
            type_name=type(each).__qualname__,
            message=text_of(each),
            notes=_notes(each),
            cause=positions.get(id(each.__cause__)),
            context=positions.get(id(each.__context__)),
            suppress_context=each.__suppress_context__,
            members=[positions[id(member)] for member in _members(each)] or None,
        )
        for each in found
    ]
    return links, format_error(error)


def _members(error: BaseException) -> tuple[BaseException, ...]:
    return error.exceptions if isinstance(error, BaseExceptionGroup) else ()


def _dump_error(error: BaseException) -> Blob | None:
    """Serialise an error alone.

    An error whose class has an `__init__` of its own is sent as class, arguments and attributes:
    pickle would call that `__init__` with the arguments of the message. So is a group, without its
    members.
    """
    kind = type(error)
    parts: object = error
    if _takes_all_along(kind):
        parts = _Alone(error)
    if isinstance(error, BaseExceptionGroup):
        parts = (kind, (error.message,), error.__dict__)
    elif isinstance(kind.__init__, FunctionType) and kind.__reduce__ is BaseException.__reduce__:
        parts = (kind, error.args, error.__dict__)
    try:
        return dump(parts, "the error")
    except SerializationError:
        return None


def _takes_all_along(kind: type[BaseException]) -> bool:
    """Tell whether pickle has been taught to send an error with its traceback and its causes.

    `import distributed` does that to all errors, by way of tblib: one cause that cannot be pickled
    would lose them all.
    """
    reducer = copyreg.dispatch_table.get(kind)
    return getattr(reducer, "__module__", "").partition(".")[0] == "tblib"


class _Alone:
    """Pickled as the class of an error says, whatever pickle has been taught about it."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        return self._error.__reduce_ex__(protocol)


def unpack_error(packed: Packed) -> BaseException:
    """Rebuild an error, with a `RemoteError` for each that cannot be rebuilt."""
    links, _ = packed
    built: dict[int, BaseException] = {}
    for at, link in enumerate(links):
        error = _build(at, packed, built)
        with suppress(Exception):
            error.__notes__ = link.notes
        # By way of the base class: no error class can refuse that.
        _CAUSE.__set__(error, None if link.cause is None else _build(link.cause, packed, built))
        _CONTEXT.__set__(
            error, None if link.context is None else _build(link.context, packed, built)
        )
        _SUPPRESS.__set__(error, link.suppress_context)
    return built[0]


def _build(at: int, packed: Packed, built: dict[int, BaseException]) -> BaseException:
    """Rebuild one error, once, without what it leads to; a group after its members."""
    if at not in built:
        links, text = packed
        link = links[at]
        members = None
        if link.members is not None:
            members = [_build(member, packed, built) for member in link.members]
        error = _load_error(link, members)
        built[at] = error or RemoteError(link.type_name, link.message, text)
    return built[at]


_CAUSE: Final[Any] = BaseException.__cause__
_CONTEXT: Final[Any] = BaseException.__context__
_SUPPRESS: Final[Any] = BaseException.__suppress_context__


def _load_error(link: _Link, members: list[BaseException] | None) -> BaseException | None:
    """Rebuild an error; `None` when that fails, or what comes of it is not what was sent."""
    if link.blob is None:
        return None
    try:
        error = load(link.blob, "the error")
        if isinstance(error, tuple):
            kind, args, attributes = error
            error = rebuild(kind, args if members is None else (*args, members))
            error.__dict__.update(attributes)
    except BaseException:
        return None
    if not isinstance(error, BaseException):
        return None
    # A class that tells pickle what to do may lose something. Of others, all has arrived, but what
    # they say may differ: sets of strings are in another order here, objects at another address.
    if type(error).__reduce__ is not BaseException.__reduce__ and text_of(error) != link.message:
        return None
    return error


def rebuild_error(packed: Packed, where: str) -> BaseException:
    """Rebuild an error, with a note that shows its traceback there."""
    error = unpack_error(packed)
    annotate(error, f"in {where}:\n{packed[1]}")
    return error


def _notes(error: BaseException) -> list[str]:
    """Return the notes of an error, whatever somebody has put there."""
    notes = getattr(error, "__notes__", ())
    return [text_of(note) for note in notes] if isinstance(notes, (list, tuple)) else []


def format_error(error: BaseException) -> str:
    """Format an error with its traceback."""
    try:
        return "".join(traceback.format_exception(error)).rstrip()
    except BaseException:
        trace = "".join(traceback.format_tb(error.__traceback__))
        return f"Traceback (most recent call last):\n{trace}{type(error).__name__}"
