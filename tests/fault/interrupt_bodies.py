"""Bodies that are interrupted at delicate moments."""

import socket
import threading
import time
from pathlib import Path
from typing import Any

from fault_bodies import PATIENCE, wait_for, write_text


def tiny(number: int, rounds: int) -> int:
    """Compute for some microseconds, in Python."""
    total = 0
    for step in range(rounds):
        total += step
    return number


def tiny_step(rounds: int, ctx: Any) -> int:
    """Do the same as a body."""
    return tiny(ctx.attempt, rounds)


def read_for_ever(ctx: Any) -> None:
    """Read one key of the state after the other from the parent."""
    until = time.monotonic() + PATIENCE
    number = 0
    while time.monotonic() < until:
        ctx.get(f"key-{number}")
        number += 1


def read_large(ctx: Any) -> None:
    """Read large values from the parent until interrupted."""
    for number in range(200):
        ctx.get(f"large-{number}")
    time.sleep(PATIENCE)


def sleep_in_context(path: Path, ctx: Any) -> None:
    """Sleep co-operatively; write down whether the body was asked to stop."""
    try:
        ctx.sleep(PATIENCE)
    finally:
        write_text(path, ctx.cancelled)


def sleep_for(seconds: float, ctx: Any) -> str:
    """Sleep in one piece and return."""
    time.sleep(seconds)
    return "returned"


def spin_for(seconds: float, ctx: Any) -> str:
    """Run Python code and return."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    return "returned"


def began_and_sleep(directory: Path, ctx: Any) -> None:
    """Say that the body runs, and sleep."""
    write_text(directory / "began", "")
    try:
        time.sleep(PATIENCE)
    finally:
        write_text(directory / "cleaned-up", "")


def write_and_return(directory: Path, ctx: Any) -> str:
    """Leave a file: this body has run."""
    write_text(directory / "ran", "")
    return "ran"


class SlowToLoad:
    """A function that takes its time to be unpickled: until the test says so."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        write_text(self.directory / "loading", "")
        wait_for(self.directory / "go-on")

    def __call__(self, ctx: Any) -> str:
        write_text(self.directory / "ran", "")
        time.sleep(PATIENCE)
        return "ran"


def leave_a_thread(directory: Path, ctx: Any) -> None:
    """Leave a thread behind that reads from the parent when the body is long over."""

    def read_late() -> None:
        wait_for(directory / "over")
        try:
            ctx.get("key")
        except BaseException as error:  # noqa: BLE001 - whatever comes of it
            write_text(directory / "late", type(error).__name__)
        else:
            write_text(directory / "late", "read")

    threading.Thread(target=read_late, daemon=True).start()


def read_in_many_threads(ctx: Any) -> list[object]:
    """Read from the parent in several threads at once."""
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda key: found.append(ctx.get(key)), args=(f"key-{i}",))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(map(str, found))


# --- bodies that stop of themselves, but not when they are asked to --------------------------


def hold_the_lock_for_a_while(ctx: Any) -> None:
    """Stay in C and hold the interpreter's lock; go on when the others have it back."""
    sum(range(10**7))
    time.sleep(0.4)


def block_on_socket_for_a_while(ctx: Any) -> None:
    """Wait for bytes that do not come."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0.4)
        try:
            ours.recv(1)
        except TimeoutError:
            return


def swallow_for_a_while(ctx: Any) -> None:
    """Swallow whatever comes."""
    until = time.monotonic() + 0.4
    while time.monotonic() < until:
        try:
            ctx.sleep(0.1)
        except BaseException:  # noqa: BLE001 - this is the fault
            time.sleep(0.01)


def tell_and_sleep_for(directory: Path, seconds: float, ctx: Any) -> None:
    """Say that the body runs, and sleep in one piece."""
    write_text(directory / "began", "")
    time.sleep(seconds)


def write_once_released(directory: Path, ctx: Any) -> str:
    """Wait until the test says so, write, return."""
    wait_for(directory / "release")
    ctx.set("late", "written")
    return "returned"
