"""Bodies that misbehave. A module of its own, so that workers import nothing else of the tests."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Seconds that anything in these tests waits for something that must happen.
PATIENCE = 20.0


def wait_for(path: Path, patience: float = PATIENCE) -> None:
    """Return once the file exists."""
    until = time.monotonic() + patience
    while not path.exists():
        if time.monotonic() > until:
            raise AssertionError(f"{path.name} never came")
        time.sleep(0.002)


def read_text(path: Path) -> str:
    """Return what was written into the file, once it is there and complete."""
    wait_for(path)
    return path.read_text()


def write_text(path: Path, text: object) -> None:
    """Write a file that appears with all its text at once."""
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(str(text))
    part.replace(path)


def good(ctx: object) -> int:
    """Return the pid: the step that must still work afterwards."""
    return os.getpid()


def meet(directory: Path, number: int, ctx: object) -> None:
    """Return once both have come."""
    write_text(directory / f"met-{number}", "")
    wait_for(directory / f"met-{1 - number}")


def sibling(directory: Path, ctx: object) -> str:
    """Be in flight until the fault has settled."""
    write_text(directory / "sibling-began", os.getpid())
    wait_for(directory / "fault-settled")
    return "sibling"


def in_company(directory: Path, function: Callable[[Any], object], ctx: object) -> object:
    """Call `function` once the sibling is in flight."""
    write_text(directory / "fault-began", os.getpid())
    wait_for(directory / "sibling-began")
    return function(ctx)


# --- ends of a worker ----------------------------------------------------------------------


def exit_with(code: int, ctx: object) -> None:
    """End the process without any clean-up."""
    os._exit(code)


def kill_oneself(number: int, ctx: object) -> None:
    """End the process by a signal."""
    os.kill(os.getpid(), number)
    time.sleep(PATIENCE)


def sleep_long(ctx: object) -> None:
    """Block for longer than any test takes."""
    time.sleep(PATIENCE)


def exit_on_first_attempt(ctx: Any) -> int:
    """Die on the first attempt, return the number of the second."""
    if ctx.attempt == 1:
        os._exit(1)
    return ctx.attempt


def with_child_processes(directory: Path, then: Callable[[Any], object], ctx: object) -> object:
    """Start a program and fork a child, write their pids down, and go on."""
    program = subprocess.Popen(["sleep", "60"])
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    write_text(directory / "children", f"{program.pid} {child}")
    return then(ctx)


def die_while_being_answered(ctx: Any) -> None:
    """Leave a child that holds the pipe open, ask for the input, die before all of it is read."""
    import pickle
    import select

    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    channel = ctx._view._channel
    channel.send(pickle.dumps(("read", "input", "")))
    select.select([channel._fd], [], [])
    os._exit(7)


# --- initializers --------------------------------------------------------------------------


def count_call(directory: Path) -> None:
    """Leave a file for each call."""
    (directory / f"call-{os.getpid()}").touch()


def raise_in_initializer(directory: Path) -> None:
    """Fail."""
    count_call(directory)
    raise LookupError("no licence")


def exit_in_initializer(directory: Path) -> None:
    """End the process."""
    count_call(directory)
    os._exit(5)


def initialize_slowly(directory: Path) -> None:
    """Say that the initializer runs, and wait until the test says so."""
    write_text(directory / "initializing", os.getpid())
    wait_for(directory / "go-on")


# --- bodies that do not stop ---------------------------------------------------------------


def loop(ctx: object) -> None:
    """Run Python code."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        pass


def hold_the_lock(ctx: object) -> None:
    """Stay in C and hold the interpreter's lock."""
    sum(range(10**11))


def block_on_socket(ctx: object) -> None:
    """Wait for bytes that never come."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.recv(1)


def swallow_once(ctx: object) -> str:
    """Swallow what interrupts it, and return all the same."""
    try:
        time.sleep(PATIENCE)
    except BaseException:  # noqa: BLE001 - this is the fault
        return "swallowed"
    return "slept"


def swallow_and_hang(ctx: object) -> None:
    """Swallow whatever comes."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            time.sleep(PATIENCE)
        except BaseException:  # noqa: BLE001 - this is the fault
            continue


def ignore_sigterm(ctx: object) -> None:
    """Hold the lock, deaf to SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sum(range(10**11))


def block_the_alarm(ctx: object) -> None:
    """Keep the signal from ever being delivered."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    time.sleep(PATIENCE)


def replace_the_handler(ctx: object) -> None:
    """Take the worker's signal handler away."""
    signal.signal(signal.SIGALRM, signal.SIG_IGN)


def leave_the_alarm_blocked(ctx: object) -> None:
    """Return with the signal blocked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])


def clean_up(path: Path, ctx: object) -> None:
    """Write a file on the way out."""
    try:
        time.sleep(PATIENCE)
    finally:
        write_text(path, "cleaned up")


def clean_up_at_leisure(path: Path, ctx: object) -> None:
    """Take longer over the clean-up than a second interrupt would take to come."""
    try:
        time.sleep(PATIENCE)
    finally:
        time.sleep(0.2)
        write_text(path, "cleaned up")


def print_to_stderr(ctx: object) -> None:
    """Say something."""
    print("from the worker", file=sys.stderr, flush=True)  # noqa: T201
