"""Ask a body to stop at each bytecode, in turn, of what a worker does before, in and after it.

For `test_interrupts.py`, in an interpreter of its own, whose main thread is the worker's and whose
other thread is the parent. The worker goes on to the next body each time, which nobody asked.
"""

import os
import pickle
import signal
import socket
import sys
import tempfile
import threading
from contextlib import nullcontext
from types import CodeType, FrameType
from typing import Any

from syncflow import Context, StepInterrupt
from syncflow.pools import packing, wire, worker
from syncflow.pools.carried import pack_around
from syncflow.pools.page import Page
from syncflow.run.around import Around
from syncflow.run.attempt import call_body

#: What both bodies read, and what they make of it.
INPUT, VALUE = 7, 21


def body(ctx: Context) -> int:
    """Read from the parent, compute, write and return."""
    total = 0
    for _ in range(3):
        total += ctx.input
    ctx.set("total", total)
    return total


class Shot:
    """Sends the signal at the n-th event of the frames that it follows; once."""

    def __init__(self, number: int, page: Page) -> None:
        self.left = number
        self.page = page
        #: The code that it hit.
        self.hit: CodeType | None = None
        #: The body was interrupted right there.
        self.raised = False

    def __call__(self, frame: FrameType, event: str, _: object) -> "Shot | None":
        """Be the trace function of the interpreter."""
        if not frame.f_code.co_filename.endswith(FOLLOWED):
            return None
        frame.f_trace_opcodes = True
        self.left -= 1
        if not self.left:
            sys.settrace(None)
            self.hit = frame.f_code
            self.page.mark_stop(1)
            try:
                signal.raise_signal(signal.SIGALRM)  # the handler runs, and raises, right here
            except StepInterrupt:
                self.raised = True
                assert is_inside(frame), frame
                raise
        return self


def is_inside(frame: FrameType | None) -> bool:
    """Tell whether a frame is that of the body, or one that it has called."""
    while frame is not None and frame.f_code is not body.__code__:
        frame = frame.f_back
    return frame is not None


FOLLOWED = (
    "pools/worker.py",
    "pools/wire.py",
    "pools/carried.py",
    "run/attempt.py",
    "run/around.py",
    "context.py",
    __file__,
)

_really_inside_body = worker.inside_body


def inside_body(frame: FrameType | None) -> bool:
    """Look at the frame that is followed, not at the one that follows it."""
    while frame is not None and frame.f_code is Shot.__call__.__code__:
        frame = frame.f_back
    return _really_inside_body(frame)


def be_the_parent(end: socket.socket, function: wire.Blob, replies: list[Any]) -> None:
    """Give the worker two bodies to run, and answer what they read."""
    channel = wire.Channel(end.fileno())
    around = pack_around(Around([(nullcontext, print)]))
    for number in (1, 2):
        request = (
            number,
            "body",
            function,
            "flow",
            "run",
            "step",
            1,
            None,
            None,
            None,
            False,
            None,
            around,
        )
        channel.send(pickle.dumps(request))
        while (reply := pickle.loads(channel.receive()))[0] == "read":
            channel.send(pickle.dumps(("value", pickle.dumps(INPUT))))
        replies.append(reply)
    end.close()


def outcome(reply: tuple[Any, ...]) -> object:
    """Return the value of a reply, or the type of its error."""
    _, value, error, *_ = reply
    if error is not None:
        return type(packing.unpack_error(error))
    return wire.load(value, "the value")


def shoot(number: int, function: wire.Blob) -> tuple[Shot, object, object]:
    """Return what happened at the n-th event, and what came of the two bodies."""
    ours, theirs = socket.socketpair()
    replies: list[Any] = []
    parent = threading.Thread(target=be_the_parent, args=(ours, function, replies))
    with theirs, tempfile.TemporaryFile() as file:
        file.truncate(Page.SIZE)
        page = Page(file.fileno())
        served = worker._Worker(wire.Channel(theirs.fileno()), page)
        shot = Shot(number, page)
        parent.start()
        sys.settrace(shot)
        try:
            served.serve()
        finally:
            sys.settrace(None)
        page.freeze()
    parent.join()
    first, second = map(outcome, replies)
    return shot, first, second


def main() -> None:
    """Shoot until all that is followed is over; print how often."""
    worker.inside_body = inside_body
    function = wire.dump_by_value(body, "the body")
    number, interrupted, spared = 0, set[CodeType](), set[CodeType]()
    while True:
        number += 1
        shot, first, second = shoot(number, function)
        if shot.hit is None:
            break
        assert first is StepInterrupt or (first == VALUE and not shot.raised), (number, first)
        assert second == VALUE, (number, shot.hit, second)
        (interrupted if shot.raised else spared).add(shot.hit)
    assert body.__code__ in interrupted
    assert {
        Around.enter.__code__,
        call_body.__code__,
        worker._Worker.serve.__code__,
        wire.Channel._read.__code__,
    } <= spared
    os.write(1, f"{number - 1} shots\n".encode())


if __name__ == "__main__":
    main()
