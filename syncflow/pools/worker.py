"""The loop inside a worker process: take a task, run it, send back what it came to.

A worker runs one task at a time, in its main thread. It shares one page of memory with its parent,
so that neither has to send anything for what the other only rarely needs to know: which task has
been received and which body started when (written here), and which task is asked to stop (written
there, followed by a signal).

Interrupting a body. The signal handler runs in the main thread, between any two bytecodes of
whatever that is doing, so it raises `StepInterrupt` only where it can do no harm:

- in the task that it is meant for: the page names it, and a deadline belongs to the task at hand;
- inside the body (see `inside_body`): not in this loop, nor after the body has returned its value;
- not while the body talks to the parent (`Link`): a frame is always whole;
- once: a body that is already being interrupted is cleaning up.

Where it may not raise, it arms the timer to try again a millisecond later. The task ends the timer.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import fcntl
import os
import pickle
import select
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from time import monotonic
from types import FrameType
from typing import Any, Final

from syncflow.context import Context
from syncflow.errors import SerializationError, StepInterrupt
from syncflow.pools import packing, wire
from syncflow.pools.carried import unpack_around
from syncflow.pools.link import Link
from syncflow.pools.page import Page
from syncflow.pools.reply import items_named, packed, packed_chunk
from syncflow.pools.shared import Blob, Block
from syncflow.run.attempt import AtHand, Outcome, inside_body, perform, perform_each

__all__ = ["MASKED", "main"]

#: Seconds after which an interrupt that could not be raised is tried again.
_AGAIN: Final = 0.001

#: Seconds after which the timer fires again: a signal that comes just before a system call does not
#: end that call, and the handler runs only when it is over.
_AGAIN_AND_AGAIN: Final = 0.02

#: setitimer refuses more; a body that takes longer is interrupted by its pool.
_LONGEST_TIMER: Final = 1e8


#: Signals that are blocked while a worker starts.
MASKED: Final = (signal.SIGINT, signal.SIGALRM)


class _Task(AtHand):
    """The task at hand, as the signal handler sees it."""

    __slots__ = ("link", "number")

    def __init__(self, number: int, link: Link, context: Context | None = None) -> None:
        super().__init__(context)
        self.number = number
        self.link = link


class _Worker:
    """Serve tasks until the parent closes the pipe."""

    def __init__(self, channel: wire.Channel, page: Page) -> None:
        self._channel = channel
        self._page = page
        #: The body that may be interrupted; None between bodies.
        self._task: _Task | None = None
        #: The large buffers of the last reply, until the parent has them.
        self._kept: list[Block] = []
        self._kinds: dict[str, Callable[..., tuple[Any, ...]]] = {
            "body": self._body,
            "chunk": self._chunk,
            "call": self._call,
        }
        self._handler = self._on_alarm
        signal.signal(signal.SIGALRM, self._handler)

    def serve(self) -> None:
        while True:
            try:
                request = self._channel.receive()
            except (EOFError, OSError):
                return
            self._serve(request)
            del request

    def _serve(self, request: bytes) -> None:
        """Do what the parent asks for. Nothing of it is kept while this process is idle."""
        number, kind, *details = pickle.loads(request)
        self._kept.clear()
        if kind == "taken":
            return
        # From here on the task counts as begun: if this process dies now, the task is why.
        self._page.mark_received(number)
        reply = self._kinds[kind](number, *details)
        _flush()
        if self._kept:
            self._channel.send(pickle.dumps(("keeps",)))
        self._channel.send(pickle.dumps(reply, protocol=5))

    def _call(self, number: int, what: str, blob: bytes) -> tuple[Any, ...]:
        """Run `function(*args, **kwargs)`: a task of a pool that is used alone."""
        started_at = monotonic()
        try:
            function, args, kwargs = wire.load(blob, what)
            self._page.mark_started(number, started_at)
            outcome = Outcome(function(*args, **kwargs), None, {}, started_at, monotonic())
        except BaseException as error:
            error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
            outcome = Outcome(None, error, {}, started_at, monotonic())
        try:
            return packed(outcome, f"of {what}", self._kept)
        finally:
            del outcome  # the frames of what failed lead here, and hold what it has read

    def _body(
        self,
        number: int,
        function: bytes,
        flow_name: str,
        run_id: str,
        step_name: str,
        attempt: int,
        timeout: float | None,
        deadline: float | None,
        error: packing.Packed | None,
        announce: bool,
        index: int | None,
        around: list[bytes] | None,
    ) -> tuple[Any, ...]:
        """Run one attempt of a step."""
        what = f"of step {step_name!r}"
        link = Link(self._channel)
        cause = None if error is None else packing.unpack_error(error)
        context = Context(flow_name, run_id, step_name, attempt, link, deadline, cause, index)
        try:
            body = wire.load(function, f"the function {what}")
        except SerializationError as refused:
            return packed(Outcome.never_started(refused), what)
        if self._page.stop() == number:  # asked while it was on its way
            return packed(Outcome.never_started(StepInterrupt("asked to stop")), what)
        context._around = unpack_around(around)
        task = _Task(number, link, context)

        def on_start(now: float) -> None:
            self._page.mark_started(number, now)
            if announce:
                self._channel.send(pickle.dumps(("began", now)))
            if timeout is not None:
                task.deadline = now + timeout
                _arm(timeout)
            if self._page.stop() == number:
                # Asked before the handler knew of the task, or before the timer was set to the
                # deadline. Asked later, the handler itself comes back.
                signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN_AND_AGAIN)

        self._open(task)
        outcome = perform(body, context, timeout, on_start)
        self._close(task, timeout)
        outcome.overdue = task.overdue
        try:
            return packed(outcome, what, self._kept)
        finally:
            del outcome  # as above

    def _chunk(
        self,
        number: int,
        function: bytes,
        items: Blob,
        start: int,
        flow_name: str,
        run_id: str,
        step_name: str,
        attempt: int,
        timeout: float | None,
        deadline: float | None,
        until_failure: bool,
        announce: bool,
        around: list[bytes] | None,
    ) -> tuple[Any, ...]:
        """Run the bodies of a chunk of items."""
        what = f"of step {step_name!r}"
        try:
            body = wire.load(function, f"the function {what}")
            loaded = wire.load(items, items_named(start, step_name))
        except SerializationError as refused:
            return "refused", packing.pack_error(refused)
        link = Link(self._channel)
        task = _Task(number, link)

        def context_of(position: int) -> Context:
            index = start + position
            return Context(flow_name, run_id, step_name, attempt, link, deadline, None, index)

        def mark_with_time(position: int) -> None:
            assert task.deadline is not None
            assert timeout is not None
            self._page.mark_item_at(task.deadline - timeout)
            self._page.mark_item(position)

        now = monotonic()
        self._page.mark_item_at(now)
        self._page.mark_item(0)
        self._page.mark_started(number, now)
        if announce:
            self._channel.send(pickle.dumps(("began", now)))
        self._open(task)
        if self._page.stop() == number:  # asked before the handler knew of the task
            task.asked = True
        ran = perform_each(
            body, loaded, context_of, timeout, task,
            mark=self._page.mark_item if timeout is None else mark_with_time,
            arm=_arm, until_failure=until_failure, around=unpack_around(around),
        )  # fmt: skip
        self._close(task, timeout)
        self._page.mark_item(len(loaded))  # should a value kill this process, it was no item
        try:
            return packed_chunk(ran, start, step_name, self._kept)
        finally:
            del ran  # as above

    def _open(self, task: _Task) -> None:
        """Let the task be interrupted."""
        # An earlier body may have put its own handler there, or have blocked the signal. `signal`
        # would look for the members of enums in the answers, which takes longer than a tiny body.
        if _signal.getsignal(signal.SIGALRM) is not self._handler:
            signal.signal(signal.SIGALRM, self._handler)
        _signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGALRM,))
        self._task = task

    def _close(self, task: _Task, timeout: float | None) -> None:
        """Let nothing interrupt any more: the bodies of the task are over."""
        # The order matters: once there is no task, an alarm that is still under way does nothing.
        self._task = None
        if timeout is not None or self._page.stop() == task.number:
            signal.setitimer(signal.ITIMER_REAL, 0)
        task.link.close()

    def _on_alarm(self, signum: int, frame: FrameType | None) -> None:
        """Interrupt the body at hand, if it is the one that is meant; see the head of this file."""
        task = self._task
        if task is None:
            return
        asked = self._page.stop() == task.number
        if asked:
            task.asked = True  # whatever becomes of this body, no other one starts
        context = task.context
        if context is None or context._interrupted:
            return
        now = monotonic()
        overdue = task.deadline is not None and now >= task.deadline
        if not (overdue or asked):
            if task.deadline is not None:  # a signal for an earlier task, or a timer a bit early
                again = max(_AGAIN, min(task.deadline - now, _LONGEST_TIMER))
                signal.setitimer(signal.ITIMER_REAL, again, _AGAIN_AND_AGAIN)
            return
        if asked:
            context._ask()
        if task.link.talking or not inside_body(frame):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN_AND_AGAIN)
            return
        signal.setitimer(signal.ITIMER_REAL, 0)
        context._interrupted = True
        task.overdue = overdue and not asked
        raise StepInterrupt(f"step {context.step_name!r} is asked to stop")


def _arm(seconds: float) -> None:
    """Set the timer to the time of the body that is about to start."""
    signal.setitimer(signal.ITIMER_REAL, min(seconds, _LONGEST_TIMER), _AGAIN_AND_AGAIN)


def _flush() -> None:
    """Show what the body has printed: this process may be killed before its buffers are full."""
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 - `suppress` takes longer than to flush nothing
            stream.flush()
        except (AttributeError, OSError, ValueError):  # closed or replaced by a body
            pass


def _die_with_parent(lifeline: int) -> None:
    """End this process and what it started when the parent's end of `lifeline` closes.

    The kernel does it, so it also works while a body holds the interpreter's lock or ignores
    every signal: it sends SIGKILL to the process group when the pipe hangs up. (A death signal,
    PR_SET_PDEATHSIG, would come when the parent's *thread* ends.) Where that cannot be asked for,
    a thread watches.
    """
    os.setpgid(0, 0)
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
        watch = select.poll()
        watch.register(lifeline, 0)
        if watch.poll(0):  # hung up before we asked
            os.killpg(0, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(lifeline,), daemon=True).start()


def _watch(lifeline: int) -> None:
    os.read(lifeline, 1)  # nothing is ever written: returns when the parent's end closes
    os.killpg(0, signal.SIGKILL)


def main(
    pipe: Connection, page: Connection, lifeline: Connection, initializer: Blob | None
) -> None:
    """Run in a new worker process.

    Args:
        pipe: This worker's end of the pipe.
        page: Carries the descriptor of the shared page.
        lifeline: Carries the descriptor that hangs up when the parent dies.
        initializer: `(function, args)`, serialised, or `None`.
    """
    # Ctrl-C is the parent's business. A worker is in the background of its terminal, where to read
    # from it would stop the process, for ever: ignored, that is an `OSError`.
    for number in (signal.SIGINT, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)  # until there is a handler
    signal.pthread_sigmask(signal.SIG_UNBLOCK, MASKED)
    _die_with_parent(lifeline.fileno())
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    channel = wire.Channel(pipe.fileno(), wire.lingering(pipe.fileno()))
    try:
        if initializer is not None:
            function, args = wire.load(initializer, "the initializer")
            function(*args)
    except BaseException as error:
        with suppress(OSError):
            channel.send(pickle.dumps(("unfit", packing.pack_error(error))))
        return
    worker = _Worker(channel, Page(page.fileno()))
    with suppress(OSError):  # the parent has no use for this worker any more
        channel.send(pickle.dumps(("ready",)))
        worker.serve()
