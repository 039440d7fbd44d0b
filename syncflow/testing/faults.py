"""Faults, and the bodies that have them: they run wherever the step does, elsewhere too."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import attrs

from syncflow import timing
from syncflow.context import Context
from syncflow.errors import DefinitionError

__all__ = ["Crash", "Delay", "Fail", "Fault", "Faulty", "Hang", "InjectedError", "LateEnd", "Marks"]

#: Seconds (31 years) after which a hanging body gives up: only a `FakeClock` ever gets there.
FOR_EVER: Final = 1e9


class InjectedError(Exception):
    """What a body fails with because a `FaultPlan` says so."""


@attrs.frozen
class Fail:
    """Raise an error."""

    error: BaseException | type[BaseException] | None

    def __call__(self, ctx: Context) -> None:
        """Raise it."""
        if self.error is not None:
            raise self.error
        raise InjectedError(f"step {ctx.step_name!r}, attempt {ctx.attempt}")


@attrs.frozen
class Crash:
    """Kill the worker process."""

    #: The process that made the plan, which is not to be killed.
    home: int

    def __call__(self, ctx: Context) -> None:
        """Kill this process."""
        if os.getpid() == self.home:
            raise DefinitionError(f"step {ctx.step_name!r} runs in no process that may be killed")
        os.kill(os.getpid(), signal.SIGKILL)


@attrs.frozen
class Hang:
    """Wait until the body is asked to stop."""

    def __call__(self, ctx: Context) -> None:
        """Sleep."""
        ctx.sleep(FOR_EVER)
        raise InjectedError(f"step {ctx.step_name!r} hung, and nothing has ever stopped it")


@attrs.frozen
class Delay:
    """Sleep before the body begins."""

    seconds: float

    def __call__(self, ctx: Context) -> None:
        """Sleep."""
        ctx.sleep(self.seconds)


class LateEnd:
    """Holds a body up, deaf to any wish that it should stop; then it runs as ever.

    Args:
        after: Seconds from when it was to start; `None`: until `finish` is called.
    """

    def __init__(self, after: float | None) -> None:
        self._after = after
        self._finished = False
        #: Locked as long as bodies wait. A bare lock: that is what `timing.pause` waits for.
        self._gate = threading.Lock()

    def finish(self) -> None:
        """Let the body run, now or as soon as it starts. Any thread, any number of times."""
        self._finished = True
        with suppress(RuntimeError):  # nobody waits
            self._gate.release()

    def __call__(self, ctx: Context) -> None:
        """Wait."""
        until = timing.monotonic() + (FOR_EVER if self._after is None else self._after)
        # As in `Context.sleep`: either the flag is seen, or the gate is opened after it was shut.
        self._gate.acquire(blocking=False)
        while not self._finished and timing.monotonic() < until:
            if timing.pause(self._gate, until, ctx):
                self._gate.release()  # for other bodies that wait here


@attrs.frozen
class Fault:
    """What is to happen, and to which attempt of which body."""

    #: The name of the method that planned it.
    kind: str
    #: As the plan calls it: ``name``, or ``outer/name`` in a flow that is a step.
    step: str
    #: `None`: each.
    attempt: int | None
    #: Of an item, in a map; `None`: each.
    index: int | None
    #: It is the compensation that is hit.
    compensation: bool
    act: Callable[[Context], None]

    def __str__(self) -> str:
        text = f"{self.kind}({self.step!r}"
        for name in ("attempt", "index"):
            value = getattr(self, name)
            text += "" if value is None else f", {name}={value}"
        return text + (", compensation=True)" if self.compensation else ")")

    def hits(self, ctx: Context) -> bool:
        """Tell whether this attempt is meant."""
        return self.attempt in (None, ctx.attempt) and self.index in (None, ctx._index)


class Marks:
    """Which faults have happened: files, for other processes to leave them, too."""

    def __init__(self) -> None:
        self._path = tempfile.mkdtemp(prefix="syncflow-faults-")
        weakref.finalize(self, shutil.rmtree, self._path, ignore_errors=True)

    def __reduce__(self) -> Any:
        return _marks_at, (self._path,)

    def leave(self, number: int) -> None:
        """Mark a fault. Any process of this machine."""
        with suppress(OSError):  # the plan is gone, or on another machine
            Path(self._path, str(number)).touch()

    def has(self, number: int) -> bool:
        """Tell whether a fault is marked."""
        return Path(self._path, str(number)).exists()


def _marks_at(path: str) -> Marks:
    marks = Marks.__new__(Marks)
    marks._path = path
    return marks


class Faulty:
    """A body, or compensation, to which faults happen first.

    Args:
        fn: The body.
        faults: Their numbers in the plan, and they themselves.
        marks: Told which have happened.
    """

    def __init__(self, fn: Callable[..., Any], faults: dict[int, Fault], marks: Marks) -> None:
        self._fn = fn
        self._faults = faults
        self._marks = marks

    def __call__(self, ctx: Context, *item: Any) -> Any:
        """Let happen what is to happen to this attempt; then run the body."""
        for number, fault in self._faults.items():
            if fault.hits(ctx):
                self._marks.leave(number)
                fault.act(ctx)
        return self._fn(ctx, *item)
