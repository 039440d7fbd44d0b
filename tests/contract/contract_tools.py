"""Events and records that work across threads and processes alike, and bodies at module level."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncflow import Context, Event, Flow, Hooks, Step

if TYPE_CHECKING:
    from syncflow.testing import FakeClock

#: A pool as a step names it: one of ours by its name, or an executor.
Pool = str | Executor

#: Seconds after which a wait for an event has failed.
PATIENCE = 20.0


def wait_until(condition: Callable[[], bool], what: str = "the condition") -> None:
    """Return as soon as the condition holds."""
    until = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.001)


#: The fake clock that runs of this process go by, if they do.
clocks: list[FakeClock] = []


class Gate:
    """An event for threads and processes: a file that is there or not."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    @property
    def is_open(self) -> bool:
        """Whether it has been opened."""
        return os.path.exists(self.path)  # noqa: PTH110 - polled a thousand times a second

    def open(self) -> None:
        """Let all pass that wait, now and later."""
        Path(self.path).touch()

    def wait(self) -> None:
        """Return once the gate is open; deaf to any wish that the body should stop."""
        for clock in clocks:
            clock.wait_for(lambda: self.is_open)
        wait_until(lambda: self.is_open, self.path)


class Journal:
    """A list of words for threads and processes: a file that is appended to."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def add(self, *words: object) -> None:
        """Append one line."""
        line = " ".join(map(str, words)) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    @property
    def lines(self) -> list[str]:
        """The lines so far."""
        path = Path(self.path)
        return path.read_text().splitlines() if path.exists() else []


def warm_up(directory: Path) -> None:
    """See to it that the shared process pool has two workers, or as many as it may have.

    A worker takes a while to start, and the time of a group or a run goes on meanwhile.
    """
    import loky

    gates = [Gate(directory / f"warm-{number}") for number in range(min(2, loky.cpu_count()))]

    def meet(number: int) -> Callable[[Context], None]:
        def body(ctx: Context) -> None:
            gates[number].open()
            for gate in gates:
                gate.wait()

        return body

    steps = [Step(f"warm-{number}", meet(number)) for number in range(len(gates))]
    Flow("warm-up").parallel("g", steps, pool="process").run().raise_for_status()


class Recorder(Hooks):
    """Keep every event, with the name of its hook and the thread that called it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Event, threading.Thread]] = []

    def names(self) -> list[str]:
        """Return the hooks called so far, each with its step: `on_step_start a`."""
        return [f"{name} {event.step_name or ''}".strip() for name, event, _ in self.calls]

    def of(self, hook: str) -> list[Event]:
        """Return the events of one hook."""
        return [event for name, event, _ in self.calls if name == hook]


HOOK_NAMES = [name for name in vars(Hooks) if name.startswith("on_")]


def _recording(name: str) -> Callable[[Recorder, Event], None]:
    def record(self: Recorder, event: Event) -> None:
        self.calls.append((name, event, threading.current_thread()))

    return record


for _name in HOOK_NAMES:
    setattr(Recorder, _name, _recording(_name))


class When(Hooks):
    """Call a function at one hook: `When("on_step_retry", gate.open)`."""

    def __init__(self, hook: str, react: Callable[..., object], step: str | None = None) -> None:
        def method(event: Event) -> None:
            if step is None or event.step_name == step:
                react()

        setattr(self, hook, method)


class BodyError(Exception):
    """What a body raises on purpose."""


class Unpicklable:
    """What cannot be sent to a process, nor taken from one."""

    def __reduce__(self) -> Any:
        raise TypeError("this stays here")


class UnpicklableError(Exception):
    """An error that cannot be rebuilt elsewhere."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)
        self.second = Unpicklable()


def work(seconds: float) -> None:
    """Take a while, by the clock that the run goes by."""
    for clock in clocks:
        clock.advance(seconds)
    time.sleep(0.001 if clocks else seconds)


# --- bodies at module level ------------------------------------------------------------------


def return_input(ctx: Context) -> Any:
    """Return what the flow was given."""
    return ctx.input


def do_nothing(ctx: Context) -> None:
    """Return at once."""


def fail(ctx: Context) -> None:
    """Raise `BodyError` with the step's name."""
    raise BodyError(ctx.step_name)


def write_attempt_then_fail(ctx: Context) -> None:
    """Write the attempt's number to the state, and fail."""
    ctx.set("attempt", ctx.attempt)
    raise BodyError(f"attempt {ctx.attempt}")


def sleep_long(ctx: Context) -> None:
    """Sleep until asked to stop."""
    ctx.sleep(1000)


def swallow_everything(ctx: Context) -> None:
    """Be deaf to any interrupt, for long."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            time.sleep(0.001)
        except BaseException:  # noqa: BLE001 - that is what this is for
            continue


def return_pid(ctx: Context) -> int:
    """Return the process that runs the body."""
    return os.getpid()
