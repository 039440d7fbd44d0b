"""Ctrl-C while a run is in progress in the main thread.

A KeyboardInterrupt can land between any two bytecodes. A runner that is hit in the middle of its
own bookkeeping hangs or forgets a step, so a run takes SIGINT over for its duration: the handler
puts a message into the inbox (`SimpleQueue.put` is re-entrant), and raises only inside an inline
body, where it can do no harm. Runs nest (an inline body may run a flow): the innermost one gets it.
"""

from __future__ import annotations

import signal
import threading
from queue import SimpleQueue
from types import FrameType
from typing import Any

from syncflow.run.attempt import inside_body

__all__ = ["Guard", "guard", "release"]

#: The guards of the runs in progress in the main thread, the innermost last. Main thread only.
_guards: list[Guard] = []


class Guard:
    """One run's share of SIGINT."""

    def __init__(self, inbox: SimpleQueue[Any], message: Any) -> None:
        self._inbox = inbox
        self._message = message
        #: How often Ctrl-C was pressed during this run.
        self.count = 0
        #: The run is undoing its work: the first Ctrl-C does not interrupt that.
        self.rolling_back = False

    def note(self) -> None:
        """Take note of one Ctrl-C."""
        self.count += 1
        self._inbox.put(self._message)

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
        outer.count += taken.count - 1
        outer.note()
