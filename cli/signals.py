"""SIGTERM, handled as Ctrl-C is."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from syncflow.cli import exit_codes


class Stop:
    """Which signal asked the command to stop."""

    #: 130 until SIGTERM has come, 143 from then on; read once the command has stopped.
    exit_code: int = exit_codes.INTERRUPTED


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[Stop]:
    """Let SIGTERM do what Ctrl-C does, in the main thread, for the duration of the block.

    The handler of SIGINT is called in place, with the frame that was interrupted, instead of
    raising SIGINT: a running flow looks at that frame to tell an inline body from its own code.
    """
    stop = Stop()

    def handle(signum: int, frame: FrameType | None) -> None:
        stop.exit_code = exit_codes.TERMINATED
        interrupt = signal.getsignal(signal.SIGINT)
        if callable(interrupt):
            interrupt(signal.SIGINT, frame)

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell without job control starts background commands with SIGINT ignored. Ctrl-C is
        # not for such a command, and blocking it keeps that so; but SIGTERM is, and its handler
        # needs one of SIGINT to call.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, signal.default_int_handler)
    previous = signal.signal(signal.SIGTERM, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, previous)
