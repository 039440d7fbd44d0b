"""Ctrl-C while a run is in progress in the main thread.

A KeyboardInterrupt can land between any two bytecodes. A runner that is hit in the middle of its
own bookkeeping hangs or forgets a step, so a run takes SIGINT over for its duration: the handler
puts a message into the inbox (`SimpleQueue.put` is re-entrant), and raises only inside an inline
body, where it can do no harm. Runs nest (an inline body may run a flow): the innermost one gets it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType
from typing import Any

from syncflow.run.attempt import inside_body

__all__ = ["Guard", "guard", "missed", "release"]

#: The guards of the runs in progress in the main thread, the innermost last. Main thread only.
_guards: list[Guard] = []


class Guard:
    """One run's share of SIGINT.

    Args:
        inbox: Of the run.
        message: What is put there for every Ctrl-C.
        outer: Of the run that this one is part of, when SIGINT does not come here by itself.
    """

    def __init__(self, inbox: SimpleQueue[Any], message: Any, outer: Guard | None = None) -> None:
        self._inbox = inbox
        self._message = message
        self._outer = outer
        #: Those who are told what this one is. A dict for its atomic operations.
        self._parts: dict[Guard, None] = {}
        #: How often SIGINT came here.
        self._pressed = 0
        #: The run is undoing its work: the first Ctrl-C does not interrupt that.
        self.rolling_back = False
        #: Called for every Ctrl-C, in the main thread.
        self.alarm: Callable[[], None] | None = None

    @property
    def count(self) -> int:
        """How often Ctrl-C was pressed during this run, or the one that it is part of."""
        return self._pressed if self._outer is None else self._outer.count

    def join(self) -> None:
        """Hear of each Ctrl-C of the outer run; of one that has already come, too. Any thread.

        Added before looked: one that comes in between is told twice, never not at all.
        """
        if self._outer is not None:
            self._outer._parts[self] = None
            if self.count:
                self._tell()

    def leave(self) -> None:
        """Hear no more of them. Any thread."""
        self.alarm = None
        if self._outer is not None:
            self._outer._parts.pop(self, None)

    def note(self) -> None:
        """Take note of one Ctrl-C."""
        self._pressed += 1
        self._tell()

    def _tell(self) -> None:
        self._inbox.put(self._message)
        alarm = self.alarm
        if alarm is not None:
            alarm()
        for part in list(self._parts):
            part._tell()

    def press(self, frame: FrameType | None) -> None:
        """Take note of one Ctrl-C that interrupted `frame`, and raise if that may be."""
        self.note()
        if inside_body(frame) and (self.count >= 2 or not self.rolling_back):
            raise KeyboardInterrupt


def _on_sigint(signum: int, frame: FrameType | None) -> None:
    if not _guards:
        raise KeyboardInterrupt
    # A compensation is shielded from the first Ctrl-C, and so is a flow that it runs.
    shield = next((outer for outer in _guards[:-1] if outer.rolling_back), None)
    if shield is not None:
        shield.note()
        if shield.count < 2:
            return
    _guards[-1].press(frame)


def guard(inbox: SimpleQueue[Any], message: Any) -> Guard | None:
    """Take SIGINT over for a run, or share it with the run around this one.

    Returns:
        The guard, to be given to `release`; `None` when SIGINT is not ours to take: this is not
        the main thread, or somebody has a handler of their own.
    """
    if threading.current_thread() is not threading.main_thread():
        return None
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.default_int_handler and handler is not _on_sigint:
        return None
    if handler is signal.default_int_handler:
        _guards.clear()  # no run holds SIGINT
    taken = Guard(inbox, message)
    _guards.append(taken)
    try:
        # From when this takes effect, the handler finds the guard. It may raise before.
        signal.signal(signal.SIGINT, _on_sigint)
    except BaseException:
        _guards.remove(taken)
        raise
    return taken


def missed(taken: Guard) -> bool:
    """Tell whether Ctrl-C was left to the run around this one, before this one had SIGINT."""
    outer = _guards[: _guards.index(taken)][-1:]
    return bool(outer) and outer[0].count > 0


def release(taken: Guard) -> None:
    """Give SIGINT back. A Ctrl-C of this run is one of the run around it, too. Idempotent.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed in the moment in which Python's handler was back.
    """
    if taken not in _guards:
        return
    if _guards[0] is taken:
        # Until this takes effect the handler finds the guard; from then on it is not called.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _guards.remove(taken)
    if _guards and taken.count:
        outer = _guards[-1]
        outer._pressed += taken.count - 1
        outer.note()
