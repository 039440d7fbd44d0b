"""Values, functions and errors that make trouble where they are pickled."""

import dataclasses
import os
import pickle
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from fault_bodies import PATIENCE


def unpicklable() -> object:
    """Return something that neither pickle nor cloudpickle takes."""
    return (number for number in range(3))


def fail(how: str) -> None:
    """Make trouble, in one of the ways of these tests."""
    if how == "raises":
        raise LookupError("not today")
    if how == "exits":
        sys.exit("not today")
    os._exit(7)


class TroubleAtPickling:
    """Makes trouble when it is pickled."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        fail(self.how)
        return str, ("harmless",)

    def __call__(self, ctx: object) -> str:
        return "called"


class TroubleAtUnpickling:
    """Makes trouble when it is unpickled in another process than the one that made it."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        return rebuild, (self.how,)

    def __call__(self, ctx: object) -> str:
        return "called"


def rebuild(how: str) -> None:
    """Make trouble in the process that unpickles."""
    fail(how)


class BigThenTrouble:
    """Pickles to more than the pipe holds, and then makes trouble."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        return list, ([bytes(4 << 20), TroubleAtPickling(self.how)],)


def read_input(ctx: Any) -> object:
    """Read the input."""
    return ctx.input


def read_state(ctx: Any) -> object:
    """Read a key of the state."""
    return ctx["key"]


def read_value(ctx: Any) -> object:
    """Read what an earlier step returned."""
    return ctx.value("earlier")


def do_not_read(ctx: Any) -> str:
    """Touch nothing."""
    return "untouched"


def give_back(make: Callable[[], object], ctx: object) -> object:
    """Return a value that was made here."""
    return make()


def write_state(make: Callable[[], object], ctx: Any) -> None:
    """Write a value that was made here into the state."""
    ctx.set("key", make())


def length_of_input(ctx: Any) -> int:
    """Return the length of the input."""
    return len(ctx.input)


def echo_input(ctx: Any) -> object:
    """Return the input."""
    return ctx.input


def die_half_way(ctx: Any) -> NoReturn:
    """Die when half of a long message has been sent."""
    channel = ctx._view._channel
    os.write(channel._fd, (1 << 24).to_bytes(8, "little") + bytes(1000))
    os._exit(7)


# --- large buffers ------------------------------------------------------------------------


def say_pid() -> None:
    """Print the pid, all of it at once."""
    os.write(1, f"{os.getpid()}\n".encode())


def hold_input(ctx: Any) -> None:
    """Map the input, say so, and keep it."""
    held = ctx.input
    say_pid()
    time.sleep(PATIENCE)
    del held


class ArrivesSlowly:
    """Is being rebuilt for as long as any test takes, and says when it begins."""

    def __reduce__(self) -> Any:
        return arrive, ()


def arrive() -> None:
    """Say that it begins, and take long."""
    os.write(1, b"arriving\n")
    time.sleep(PATIENCE)


def send_large(size: int, ctx: object) -> Any:
    """Return a large buffer that never quite arrives."""
    say_pid()
    return pickle.PickleBuffer(bytearray(size)), ArrivesSlowly()


def make_large(size: int) -> Any:
    """Return a large buffer."""
    return pickle.PickleBuffer(bytearray(size))


#: A large buffer is being rebuilt; that may end.
ARRIVING, ARRIVED = threading.Event(), threading.Event()


class ArrivesWhenTold:
    """Is being rebuilt until `ARRIVED`."""

    def __reduce__(self) -> Any:
        return arrive_when_told, ()


def arrive_when_told() -> None:
    """Say that it begins, and wait."""
    ARRIVING.set()
    ARRIVED.wait(PATIENCE)


def make_large_slowly(size: int) -> Any:
    """Return a large buffer that arrives when told."""
    return make_large(size), ArrivesWhenTold()


def fail_with_large(ctx: Any, item: Any = None) -> NoReturn:
    """Fail with the input mapped."""
    held = ctx.input, item
    raise LookupError(len(held))


def return_large_or_fail(ctx: Any, item: Any) -> Any:
    """Return the item if there is one, else something that cannot be sent."""
    return unpicklable() if item is None else item


def fail_with_argument(large: Any) -> NoReturn:
    """Fail with the argument mapped."""
    raise LookupError(large)


def echo_item(ctx: Any, item: Any) -> Any:
    """Return a copy of the item."""
    return pickle.PickleBuffer(bytearray(item))


def echo_large(ctx: Any) -> Any:
    """Return a copy of the input, and whether that could not be written to."""
    return pickle.PickleBuffer(bytearray(ctx.input)), memoryview(ctx.input).readonly


def crash_with_large(ctx: Any) -> NoReturn:
    """Die with the input mapped."""
    held = ctx.input
    os._exit(len(held) % 7)


# --- errors --------------------------------------------------------------------------------


class Unpicklable(Exception):
    """Holds what cannot be pickled."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.held = unpicklable()


class NeedsArguments(Exception):
    """Cannot be rebuilt from its args."""

    def __init__(self, code: int, *, why: str) -> None:
        super().__init__(f"code {code}: {why}")


class ChangesItsMessage(Exception):
    """Would be rebuilt from its args into something else."""

    def __init__(self, code: object) -> None:
        super().__init__(f"code {code}")


class RaisesAtUnpickling(Exception):
    """Cannot be rebuilt."""

    def __reduce__(self) -> Any:
        return rebuild, ("raises",)


class ExitsAtUnpickling(Exception):
    """Would end whoever rebuilds it."""

    def __reduce__(self) -> Any:
        return rebuild, ("exits",)


class BecomesSomethingElse(Exception):
    """Is rebuilt as something that is no error."""

    def __reduce__(self) -> Any:
        return str, ("no error",)


class BrokenStr(Exception):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise LookupError("no message")


class ExitingStr(Exception):
    """Cannot be shown at all."""

    def __str__(self) -> str:
        sys.exit("no message")


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Lets nobody set an attribute."""

    code: int


def throw(error: BaseException) -> NoReturn:
    """Raise it."""
    raise error


def raise_unpicklable(ctx: object) -> None:
    """Raise."""
    throw(Unpicklable("a message"))


def raise_needs_arguments(ctx: object) -> None:
    """Raise."""
    throw(NeedsArguments(5, why="a message"))


def raise_changes_its_message(ctx: object) -> None:
    """Raise."""
    throw(ChangesItsMessage(5))


def raise_at_unpickling(ctx: object) -> None:
    """Raise."""
    throw(RaisesAtUnpickling("a message"))


def exit_at_unpickling(ctx: object) -> None:
    """Raise."""
    throw(ExitsAtUnpickling("a message"))


def become_something_else(ctx: object) -> None:
    """Raise."""
    throw(BecomesSomethingElse("a message"))


def raise_broken_str(ctx: object) -> None:
    """Raise."""
    throw(BrokenStr())


def raise_exiting_str(ctx: object) -> None:
    """Raise."""
    throw(ExitingStr())


def raise_frozen(ctx: object) -> None:
    """Raise."""
    throw(Frozen(5))


def raise_frozen_from_frozen(ctx: object) -> None:
    """Raise with a cause."""
    try:
        throw(Frozen(4))
    except Frozen as cause:
        raise Frozen(5) from cause


def raise_with_broken_notes(ctx: object) -> None:
    """Raise an error whose notes are no list."""
    error = ValueError("a message")
    error.__notes__ = 5  # type: ignore[assignment]
    throw(error)


def raise_unknown_class(ctx: object) -> None:
    """Raise an error of a module that only this process has."""
    module = types.ModuleType("only_in_the_worker")
    sys.modules["only_in_the_worker"] = module
    exec("class Unknown(Exception): pass", module.__dict__)
    throw(module.Unknown("a message"))


def raise_local_class(ctx: object) -> None:
    """Raise an error of a class that has no name to import."""

    class Local(ValueError):
        pass

    throw(Local("a message"))


def raise_noted(ctx: object) -> None:
    """Raise an error with notes."""
    error = ValueError("a message")
    error.add_note("first note")
    error.add_note("second note")
    throw(error)


def raise_chain(ctx: object) -> None:
    """Raise an error with a cause that has a context."""
    try:
        try:
            throw(KeyError("innermost"))
        except KeyError:
            throw(OSError(2, "in between"))
    except OSError as cause:
        raise ValueError("a message") from cause


def raise_from_none(ctx: object) -> None:
    """Raise an error that hides its context."""
    try:
        throw(KeyError("hidden"))
    except KeyError:
        raise ValueError("a message") from None


def raise_group(ctx: object) -> None:
    """Raise several errors at once."""
    first, second = ValueError("first"), OSError(2, "second")
    first.add_note("noted")
    throw(ExceptionGroup("a message", [first, second]))


class Plain:
    """An object that is shown with its address."""


def raise_shown_otherwise_elsewhere(ctx: object) -> None:
    """Raise an error whose message is another one in each process."""
    throw(ValueError({"alpha", "beta", "gamma", "delta"}, Plain()))


def raise_circle(ctx: object) -> None:
    """Raise an error that is its own grandparent."""
    first, second = ValueError("a message"), KeyError("other")
    first.__context__, second.__context__ = second, first
    throw(first)


def raise_through_frames(path: Path, ctx: object) -> None:
    """Raise from a function with a name to look for."""

    def a_telling_name() -> None:
        throw(ValueError("a message"))

    a_telling_name()


def raise_class(raised: type[BaseException], ctx: object) -> None:
    """Raise an error of that class."""
    throw(raised("a message"))
