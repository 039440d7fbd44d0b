"""What crosses the pipe: frames, values, errors."""

from __future__ import annotations

import copyreg
import os
import pickle
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any, Never

import pytest

from syncflow.errors import RemoteError, SerializationError, StepInterrupt, StepTimeoutError
from syncflow.pools import packing, wire
from syncflow.pools.wire import Channel

#: Bytes of the length before a frame.
HEADER = 8


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return the two ends of a pipe."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def channels(ends: tuple[socket.socket, socket.socket]) -> tuple[Channel, Channel]:
    """Return a channel for each end of a pipe."""
    ours, theirs = ends
    return Channel(ours.fileno()), Channel(theirs.fileno())


def frame(payload: bytes) -> bytes:
    """Return a frame as it looks on the pipe."""
    return len(payload).to_bytes(HEADER, "little") + payload


# --- frames ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "length",
    [0, 1, wire._CHUNK - HEADER, wire._CHUNK - 1, wire._CHUNK, wire._CHUNK + 1, 2 * wire._CHUNK],
)
def test_a_frame_arrives_whole(channels: tuple[Channel, Channel], length: int) -> None:
    """Frames of no length, and around the size of one read, come out as they went in."""
    ours, theirs = channels
    payload = os.urandom(length)
    ours.send(payload)
    assert payload == theirs.receive()


def test_frames_arrive_in_order(channels: tuple[Channel, Channel]) -> None:
    """Short and long frames that are sent one after the other do not mix."""
    ours, theirs = channels
    payloads = [b"first", b"", b"x" * (wire._CHUNK + 5), b"last"]
    for payload in payloads:
        ours.send(payload)
    assert payloads == [theirs.receive() for _ in payloads]


def test_several_frames_take_one_read(ends: tuple[socket.socket, socket.socket]) -> None:
    """Frames that arrive together are read together."""
    ours, theirs = ends
    ours.sendall(frame(b"a") + frame(b"b") + frame(b"c"))
    reads: list[int] = []
    channel = Channel(theirs.fileno(), lambda: reads.append(1))
    received = [channel.receive() for _ in range(3)]
    assert ([b"a", b"b", b"c"], 1) == (received, len(reads))


@pytest.mark.parametrize("length", [5, 2 * wire._CHUNK])
@pytest.mark.parametrize("piece", [1, 3, HEADER, HEADER + 1])
def test_a_frame_may_arrive_in_pieces(
    ends: tuple[socket.socket, socket.socket], length: int, piece: int
) -> None:
    """Wherever a frame is cut, it is put together again."""
    ours, theirs = ends
    whole = frame(b"x" * length)
    cuts = [whole[:piece], whole[piece : 2 * piece], whole[2 * piece : -1], whole[-1:]]
    pieces = iter([cut for cut in cuts if cut])
    channel = Channel(theirs.fileno(), lambda: ours.sendall(next(pieces)))
    assert b"x" * length == channel.receive()


def test_the_frame_after_one_in_pieces(ends: tuple[socket.socket, socket.socket]) -> None:
    """What arrives behind the end of a frame belongs to the next one."""
    ours, theirs = ends
    whole = frame(b"first") + frame(b"second")
    pieces = iter([whole[:10], whole[10:17], whole[17:]])
    channel = Channel(theirs.fileno(), lambda: ours.sendall(next(pieces)))
    assert [b"first", b"second"] == [channel.receive(), channel.receive()]


def test_a_frame_larger_than_the_pipe(channels: tuple[Channel, Channel]) -> None:
    """5 MB, which no pipe holds, arrive while they are being sent."""
    ours, theirs = channels
    payload = os.urandom(5_000_000)
    sender = threading.Thread(target=ours.send, args=(payload,), daemon=True)
    sender.start()
    received = theirs.receive()
    sender.join(5)
    assert payload == received


def test_both_sides_send(channels: tuple[Channel, Channel]) -> None:
    """A channel carries frames in both directions."""
    ours, theirs = channels
    ours.send(b"question")
    theirs.send(b"answer")
    assert (b"question", b"answer") == (theirs.receive(), ours.receive())


def test_sending_waits_for_room(ends: tuple[socket.socket, socket.socket]) -> None:
    """A pipe that does not block is written on when there is room again."""
    ours, theirs = ends
    ours.setblocking(False)
    payload = os.urandom(1_000_000)
    arrived = bytearray()
    channel = Channel(ours.fileno(), wait_for_room=lambda: arrived.extend(theirs.recv(1_000_000)))
    channel.send(payload)
    while len(arrived) < len(payload) + HEADER:
        arrived += theirs.recv(1_000_000)
    assert frame(payload) == arrived


@pytest.mark.parametrize("sent", [b"", b"\x05\0\0", frame(b"")[:-1], frame(b"half-way")[:-2]])
def test_a_pipe_that_ends_in_a_frame(
    ends: tuple[socket.socket, socket.socket], sent: bytes
) -> None:
    """A pipe that is closed before, within the length or within the payload is at its end."""
    ours, theirs = ends
    ours.sendall(sent)
    ours.close()
    with pytest.raises(EOFError):
        Channel(theirs.fileno()).receive()


def test_a_pipe_that_ends_in_a_long_frame(ends: tuple[socket.socket, socket.socket]) -> None:
    """A worker that dies half-way through a large value leaves an end, not a hang."""
    ours, theirs = ends
    ours.sendall(frame(b"x" * 100_000)[:-1])
    ours.close()
    with pytest.raises(EOFError):
        Channel(theirs.fileno()).receive()


def test_frames_before_the_end_still_arrive(ends: tuple[socket.socket, socket.socket]) -> None:
    """What was sent whole before the pipe was closed is not lost."""
    ours, theirs = ends
    ours.sendall(frame(b"last words") + b"\x05")
    ours.close()
    channel = Channel(theirs.fileno())
    assert b"last words" == channel.receive()
    with pytest.raises(EOFError):
        channel.receive()


@pytest.mark.parametrize("length", [1, 2 * wire._CHUNK])
def test_sending_to_nobody(ends: tuple[socket.socket, socket.socket], length: int) -> None:
    """Sending to a closed end raises `OSError`."""
    ours, theirs = ends
    theirs.close()
    with pytest.raises(OSError, match="Broken pipe"):
        Channel(ours.fileno()).send(b"x" * length)


def test_waiting_may_give_up(ends: tuple[socket.socket, socket.socket]) -> None:
    """What the wait before a read raises ends the read."""

    def give_up() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        Channel(ends[0].fileno(), give_up).receive()


def test_lingering_ends_when_something_arrives(ends: tuple[socket.socket, socket.socket]) -> None:
    """Where there is something to read, waiting is over."""
    ours, theirs = ends
    ours.sendall(b"x")
    assert wire.lingering(theirs.fileno())() is True
    assert b"x" == theirs.recv(1)


def test_lingering_ends_when_nothing_arrives(ends: tuple[socket.socket, socket.socket]) -> None:
    """Where nothing comes, waiting ends all the same: the read that follows sleeps."""
    assert wire.lingering(ends[0].fileno())() is False


# --- values ----------------------------------------------------------------------------------


class RaisesAtPickling:
    """Raises while it is pickled."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


def raise_(kind: type[BaseException]) -> None:
    """Raise an error of some kind."""
    raise kind("at unpickling")


class RaisesAtUnpickling:
    """Raises while it is rebuilt."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def __reduce__(self) -> Any:
        return raise_, (self.kind,)


@pytest.fixture(params=["dump", "dump_by_value"])
def dump(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return each of the two ways to serialise."""
    return getattr(wire, request.param)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "value", [None, 0, "text", b"\0" * 100_000, [1, {"a": (2.5,)}], ValueError], ids=type
)
def test_values_survive(dump: Callable[..., Any], value: object) -> None:
    """Plain values come out equal."""
    assert value == wire.load(dump(value, "the value"), "the value")


def test_lambdas_survive(dump: Callable[..., Any]) -> None:
    """A closure works on the other side."""
    offset = 3
    function = wire.load(dump(lambda x: x + offset, "the function"), "the function")
    assert 5 == function(2)


def test_objects_of_local_classes_survive(dump: Callable[..., Any]) -> None:
    """A class that cannot be imported travels with its object."""

    class Local:
        number = 5

    assert 5 == wire.load(dump(Local(), "the value"), "the value").number


UNPICKLABLE = [threading.Lock, lambda: (item for item in ()), socket.socket]


@pytest.mark.parametrize("make", UNPICKLABLE, ids=["lock", "generator", "socket"])
def test_what_cannot_be_pickled(dump: Callable[..., Any], make: Callable[[], Any]) -> None:
    """What cannot be serialised is named by the error."""
    value = make()
    with pytest.raises(SerializationError) as caught:
        dump(value, "the value of step 'x'")
    getattr(value, "close", lambda: None)()
    assert "the value of step 'x'" == caught.value.what
    assert "cannot pickle" in caught.value.reason


RAISED = [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError]


@pytest.mark.parametrize("kind", RAISED)
def test_what_raises_at_pickling(dump: Callable[..., Any], kind: type[BaseException]) -> None:
    """Whatever an object raises while it is serialised is the cause of a `SerializationError`."""
    error = kind("at pickling")
    with pytest.raises(SerializationError, match="at pickling") as caught:
        dump(RaisesAtPickling(error), "the value")
    assert kind is type(caught.value.__cause__)


def test_what_is_nested_too_deeply(dump: Callable[..., Any]) -> None:
    """An object that would exhaust the stack is a `SerializationError`."""
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(SerializationError, match="recursion"):
        dump(nested, "the value")


@pytest.mark.parametrize("kind", [*RAISED, RecursionError])
def test_what_raises_at_unpickling(dump: Callable[..., Any], kind: type[BaseException]) -> None:
    """Whatever an object raises while it is rebuilt is the cause of a `SerializationError`."""
    blob = dump(RaisesAtUnpickling(kind), "the value")
    with pytest.raises(SerializationError, match="at unpickling") as caught:
        wire.load(blob, "the value")
    assert ("the value", kind) == (caught.value.what, type(caught.value.__cause__))


def test_an_interrupt_while_rebuilding_is_not_swallowed() -> None:
    """A body that is asked to stop while it reads a value is interrupted there."""
    with pytest.raises(StepInterrupt):
        wire.load(wire.dump(RaisesAtUnpickling(StepInterrupt), "the value"), "the value")


@pytest.mark.parametrize("blob", [b"", b"no pickle", pickle.dumps([1] * 50)[:-3]])
def test_what_is_no_pickle(blob: bytes) -> None:
    """Bytes that make no sense are a `SerializationError`, not a crash."""
    with pytest.raises(SerializationError):
        wire.load(blob, "the value")


SCRIPT = """
import sys
from syncflow.pools import wire

class Order:
    def __init__(self, number):
        self.number = number

def double(order):
    return Order(2 * order.number)

blob = wire.dump_by_value((double, Order(21)), "the value")
sys.stdout.buffer.write(blob)
"""


def test_what_a_script_defines_is_sent_by_value() -> None:
    """Functions and objects of `__main__`, which the other side does not have, work there."""
    script = [sys.executable, "-c", SCRIPT]
    sent = subprocess.run(script, check=True, capture_output=True, timeout=30).stdout
    function, order = wire.load(sent, "the value")
    assert 42 == function(order).number


# --- large buffers ---------------------------------------------------------------------------

LARGE = 1 << 20


class Array:
    """Pickles with an out-of-band buffer, as numpy's arrays do."""

    def __init__(self, data: Any) -> None:
        self.data = memoryview(data)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Array, (pickle.PickleBuffer(self.data),)


def test_a_large_buffer_goes_through_shared_memory(dump: Callable[..., Any]) -> None:
    """The pickle of a large array is small."""
    kept: list[Any] = []
    pickled, *_ = dump(Array(b"x" * LARGE), "the value", kept)
    assert len(pickled) < 1000


def test_a_large_buffer_survives(dump: Callable[..., Any]) -> None:
    """What was put into shared memory is found there."""
    kept: list[Any] = []
    data = os.urandom(LARGE)
    assert data == wire.load(dump(Array(data), "the value", kept), "the value").data


@pytest.mark.parametrize(("length", "blocks"), [(10, 0), (LARGE, 1)])
def test_small_buffers_stay_in_the_pickle(
    dump: Callable[..., Any], length: int, blocks: int
) -> None:
    """A block of memory is made for large buffers only."""
    kept: list[Any] = []
    dump(Array(b"x" * length), "the value", kept)
    assert blocks == len(kept)


def test_without_a_keeper_a_large_buffer_stays_in_the_pickle(dump: Callable[..., Any]) -> None:
    """Who cannot keep a block gets bytes."""
    blob = dump(Array(b"x" * LARGE), "the value")
    assert b"x" * LARGE == wire.load(blob, "the value").data


def test_a_large_buffer_is_read_only_for_bodies(dump: Callable[..., Any]) -> None:
    """Memory that many bodies map cannot be written to."""
    kept: list[Any] = []
    blob = dump(Array(bytearray(LARGE)), "the value", kept)
    assert wire.load(blob, "the value", writable=False).data.readonly


def test_a_large_buffer_that_is_returned_is_the_callers(dump: Callable[..., Any]) -> None:
    """What the caller writes into it reaches nobody else."""
    kept: list[Any] = []
    blob = dump(Array(bytearray(LARGE)), "the value", kept)
    wire.load(blob, "the value").data[0] = 7
    assert 0 == wire.load(blob, "the value").data[0]


def test_a_large_buffer_outlives_its_block(dump: Callable[..., Any]) -> None:
    """What has been mapped stays, when who made it has let go."""
    kept: list[Any] = []
    array = wire.load(dump(Array(b"x" * LARGE), "the value", kept), "the value")
    kept.clear()
    assert b"x" * LARGE == array.data


def test_a_large_buffer_that_is_gone(dump: Callable[..., Any]) -> None:
    """Memory that is no longer there is a `SerializationError`."""
    kept: list[Any] = []
    blob = dump(Array(b"x" * LARGE), "the value", kept)
    kept.clear()
    with pytest.raises(SerializationError):
        wire.load(blob, "the value")


# --- errors ----------------------------------------------------------------------------------


class PlainError(Exception):
    """Has fields and nothing else of its own."""


class CodedError(Exception):
    """Makes its message of its argument."""

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class TwoArgumentsError(Exception):
    """Cannot be made of its message alone."""

    def __init__(self, url: str, status: int) -> None:
        super().__init__(f"{url} answered {status}")
        self.url, self.status = url, status


class MissingFileError(OSError):
    """Is an `OSError` with an `__init__` of its own."""

    def __init__(self, path: str) -> None:
        super().__init__(2, "gone", path)


class HoldsLockError(Exception):
    """Cannot be pickled."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


class UnpicklingError(Exception):
    """Raises while it is rebuilt."""

    def __reduce__(self) -> Any:
        return raise_, (KeyError,)


class ExitingError(Exception):
    """Ends the interpreter while it is rebuilt."""

    def __reduce__(self) -> Any:
        return raise_, (SystemExit,)


class ImpostorError(Exception):
    """Is rebuilt as something that is no error."""

    def __reduce__(self) -> Any:
        return str, ("no error",)


class MuteError(Exception):
    """Has a `__str__` that raises."""

    def __init__(self, error: BaseException) -> None:
        super().__init__("mute")
        self.error = error

    def __str__(self) -> str:
        raise self.error


class WrongTextError(Exception):
    """Has a `__str__` that returns no text."""

    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


def crossed(error: BaseException) -> BaseException:
    """Return an error as it arrives on the other side of a pipe."""
    return packing.unpack_error(pickle.loads(pickle.dumps(packing.pack_error(error))))


def raised(error: BaseException) -> BaseException:
    """Return an error that has been raised, with its traceback."""
    try:
        raise error
    except type(error) as caught:
        return caught


REBUILT = [
    ValueError("message"),
    KeyError("sku"),
    OSError(2, "gone", "/tmp/x"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
    SystemExit(3),
    KeyboardInterrupt(),
    StopIteration(5),
    PlainError("a", 2),
    PlainError(),
    StepTimeoutError("x", 2.0, 1),
    RemoteError("KeyError", "'sku'", "Traceback ..."),
]


def takes_all_along(error: BaseException) -> Never:
    """Stand in for tblib, which pickles errors with their tracebacks and causes."""
    raise AssertionError("was asked to")


takes_all_along.__module__ = "tblib.pickling_support"


@pytest.mark.parametrize("error", REBUILT, ids=repr)
def test_tblib_has_no_say(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """It teaches pickle, once distributed is imported, to send with an error all it leads to."""
    monkeypatch.setitem(copyreg.dispatch_table, type(error), takes_all_along)
    monkeypatch.setattr(error, "__cause__", HoldsLockError("it holds a lock"))
    arrived = crossed(error)
    assert (type(error), error.args, str(error)) == (type(arrived), arrived.args, str(arrived))


@pytest.mark.parametrize("error", REBUILT, ids=repr)
def test_an_error_survives(error: BaseException) -> None:
    """Type, arguments and message of an ordinary error are kept."""
    arrived = crossed(error)
    assert (type(error), error.args, str(error)) == (type(arrived), arrived.args, str(arrived))


def test_fields_survive() -> None:
    """Attributes that an error was given are kept."""
    error = PlainError("message")
    error.status = 404  # type: ignore[attr-defined]
    assert 404 == crossed(error).status  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "error",
    [
        CodedError(5),
        TwoArgumentsError("http://localhost", 404),
        MissingFileError("/tmp/x"),
        HoldsLockError("it holds a lock"),
        UnpicklingError("it raises"),
        ExitingError("it exits"),
        ImpostorError("it lies"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_difficult_error_keeps_type_and_message(error: BaseException) -> None:
    """It arrives as itself with its message, or as a `RemoteError` that tells both."""
    arrived = crossed(error)
    if isinstance(arrived, RemoteError):
        told = arrived.type_name, arrived.message
    else:
        told = type(arrived).__name__, str(arrived)
    assert (type(error).__name__, str(error)) == told


@pytest.mark.parametrize(
    "error", [HoldsLockError("x"), UnpicklingError("x"), ExitingError("x"), ImpostorError("x")]
)
def test_an_error_that_cannot_be_rebuilt_brings_its_traceback(error: BaseException) -> None:
    """The `RemoteError` in its place shows where the error was raised."""
    arrived = crossed(raised(error))
    assert isinstance(arrived, RemoteError)
    assert "in raised\n    raise error" in arrived.traceback


@pytest.mark.parametrize(
    "error",
    [
        MuteError(ValueError()),
        MuteError(SystemExit()),
        MuteError(KeyboardInterrupt()),
        WrongTextError("message"),
    ],
    ids=["raises", "exits", "interrupts", "is no text"],
)
def test_an_error_without_a_message_keeps_its_type(error: BaseException) -> None:
    """A broken `__str__` on either side neither raises nor hides the type."""
    arrived = crossed(error)
    name = arrived.type_name if isinstance(arrived, RemoteError) else type(arrived).__name__
    assert type(error).__name__ == name


def test_an_error_of_a_local_class_survives() -> None:
    """A class that cannot be imported travels with its error."""

    class LocalError(Exception):
        pass

    arrived = crossed(LocalError("message"))
    assert ("LocalError", "message") == (type(arrived).__name__, str(arrived))


def test_an_error_of_an_unknown_class_is_remote(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error whose class the other side cannot import tells its type and message."""
    module = types.ModuleType("only_here")
    exec("class UnknownError(Exception): pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", module)
    packed = packing.pack_error(module.UnknownError("message"))
    monkeypatch.delitem(sys.modules, "only_here")
    arrived = packing.unpack_error(packed)
    assert isinstance(arrived, RemoteError)
    assert ("UnknownError", "message") == (arrived.type_name, arrived.message)


# --- notes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [PlainError("x"), HoldsLockError("x"), CodedError(5)], ids=repr)
def test_notes_survive(error: BaseException) -> None:
    """Notes are kept in order, also by a `RemoteError`, also when they repeat."""
    for note in ("first", "second", "first"):
        error.add_note(note)
    assert ["first", "second", "first"] == crossed(error).__notes__


@pytest.mark.parametrize("notes", [None, 5, (5,), "text", [5], [MuteError(SystemExit())]], ids=repr)
def test_strange_notes_do_no_harm(notes: Any) -> None:
    """An error with notes that are none arrives all the same."""
    error = PlainError("message")
    error.__notes__ = notes
    assert "message" == str(crossed(error))


# --- chains ----------------------------------------------------------------------------------


def described(error: BaseException | None) -> str | None:
    """Return an error as text; `None` for none."""
    return None if error is None else repr(error)


def with_cause() -> BaseException:
    """Return an error that was raised from another, while that was being handled."""
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner
    except ValueError as outer:
        return outer


def with_context() -> BaseException:
    """Return an error that was raised while another was being handled."""
    try:
        try:
            raise KeyError("inner")
        except KeyError:
            raise ValueError("outer")  # noqa: B904
    except ValueError as outer:
        return outer


def with_hidden_context() -> BaseException:
    """Return an error that was raised from none, while another was being handled."""
    try:
        try:
            raise KeyError("inner")
        except KeyError:
            raise ValueError("outer") from None
    except ValueError as outer:
        return outer


def with_both() -> BaseException:
    """Return an error that was raised from one, while another was being handled."""
    error = with_context()
    error.__cause__ = OSError("cause")
    return error


@pytest.mark.parametrize("make", [with_cause, with_context, with_hidden_context, with_both])
def test_a_chain_survives(make: Callable[[], BaseException]) -> None:
    """Cause, context and whether the context is shown are kept."""
    error = make()
    arrived = crossed(error)
    assert (
        described(error.__cause__),
        described(error.__context__),
        error.__suppress_context__,
    ) == (
        described(arrived.__cause__),
        described(arrived.__context__),
        arrived.__suppress_context__,
    )


def test_a_cause_that_is_the_context_stays_one_error() -> None:
    """What was one error does not arrive as two."""
    arrived = crossed(with_cause())
    assert arrived.__cause__ is arrived.__context__


def test_each_error_of_a_chain_crosses_once() -> None:
    """What is cause and context is packed once."""
    links, _ = packing.pack_error(with_cause())
    assert 2 == len(links)


def test_a_long_chain_survives() -> None:
    """The first of 300 errors, each raised from the one before, is still there."""
    error: BaseException = KeyError("first")
    for number in range(300):
        following = ValueError(number)
        following.__cause__ = error
        error = following
    arrived: BaseException = crossed(error)
    while arrived.__cause__ is not None:
        arrived = arrived.__cause__
    assert "KeyError('first')" == repr(arrived)


def test_a_cyclic_chain_survives() -> None:
    """Two errors that are each other's cause arrive as such."""
    first, second = KeyError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    arrived = crossed(first)
    assert arrived.__cause__ is not None
    assert arrived is arrived.__cause__.__cause__


def test_an_error_that_is_its_own_cause_survives() -> None:
    """The shortest cycle ends, too."""
    error = KeyError("own")
    error.__cause__ = error
    arrived = crossed(error)
    assert arrived is arrived.__cause__


def test_a_cause_that_cannot_be_rebuilt_is_remote() -> None:
    """The error itself arrives as it was, and tells what its cause was."""
    error = ValueError("outer")
    error.__cause__ = HoldsLockError("it holds a lock")
    arrived = crossed(error)
    assert isinstance(arrived, ValueError)
    assert "RemoteError('HoldsLockError: it holds a lock')" == repr(arrived.__cause__)


def test_the_cause_of_an_error_that_cannot_be_rebuilt_survives() -> None:
    """A `RemoteError` has the cause of the error that it stands for."""
    error = HoldsLockError("it holds a lock")
    error.__cause__ = KeyError("inner")
    assert "KeyError('inner')" == repr(crossed(error).__cause__)


# --- groups ----------------------------------------------------------------------------------


def test_a_group_survives() -> None:
    """Type, message and members of a group are kept."""
    group = ExceptionGroup("two", [ValueError("a"), ExceptionGroup("one", [KeyError("b")])])
    assert repr(group) == repr(crossed(group))


def test_a_group_of_base_exceptions_survives() -> None:
    """A group may hold what is no `Exception`."""
    group = BaseExceptionGroup("one", [SystemExit(3)])
    assert repr(group) == repr(crossed(group))


def test_notes_of_group_members_survive() -> None:
    """A member of a group keeps its notes."""
    member = ValueError("a")
    member.add_note("a note")
    arrived = crossed(ExceptionGroup("one", [member]))
    assert isinstance(arrived, ExceptionGroup)
    assert ["a note"] == arrived.exceptions[0].__notes__


def test_causes_of_group_members_survive() -> None:
    """A member of a group keeps its cause."""
    member = ValueError("a")
    member.__cause__ = KeyError("inner")
    arrived = crossed(ExceptionGroup("one", [member]))
    assert isinstance(arrived, ExceptionGroup)
    assert "KeyError('inner')" == repr(arrived.exceptions[0].__cause__)


def test_messages_of_group_members_survive() -> None:
    """A member of a group that makes its own message keeps it."""
    arrived = crossed(ExceptionGroup("one", [CodedError(5)]))
    text = arrived.traceback if isinstance(arrived, RemoteError) else packing.format_error(arrived)
    assert "CodedError: code 5" in text


@pytest.mark.parametrize(
    "member", [HoldsLockError("x"), UnpicklingError("x"), TwoArgumentsError("x", 404)], ids=repr
)
def test_a_group_with_a_difficult_member_tells_of_it(member: Exception) -> None:
    """Whether the group can be rebuilt or not, the member's type and message are told."""
    arrived = crossed(ExceptionGroup("two", [ValueError("a"), member]))
    text = packing.format_error(arrived)
    told = arrived.traceback if isinstance(arrived, RemoteError) else text
    assert f"{type(member).__name__}: {member}" in told


def test_formatting_shows_traceback_and_chain() -> None:
    """The text of an error is what Python would print."""
    text = packing.format_error(with_cause())
    assert "KeyError: 'inner'\n\nThe above exception was the direct cause" in text
