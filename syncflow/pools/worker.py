"""The loop inside a worker process: take a task, run it, send back what it came to.

A worker runs one task at a time, in its main thread. It shares one page of memory with its parent,
so that neither has to send anything for what the other only rarely needs to know: which task has
been received and which body started when (written here), and which task is asked to stop (written
there, followed by a signal).

Interrupting a body. The signal handler runs in the main thread, between any two bytecodes of
whatever that is doing, so it raises `StepInterrupt` only where it can do no harm:

- in the task that it is meant for: the page names it, and a deadline belongs to the task at hand;
- inside the body (see `inside_body`): not in this loop, nor after the body has returned its value;
- not while the body talks to the parent (`_Link`): a frame is always whole;
- once: a body that is already being interrupted is cleaning up.

Where it may not raise, it arms the timer to try again a millisecond later. The task ends the timer.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import select
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from time import monotonic
from types import FrameType
from typing import Any, Final

from syncflow.context import MISSING, Context
from syncflow.errors import SerializationError, StepInterrupt
from syncflow.pools import packing, wire
from syncflow.pools.page import Page
from syncflow.pools.shared import Blob, Block
from syncflow.result import StepResult
from syncflow.run.attempt import Outcome, inside_body, perform

__all__ = ["MASKED", "main", "open_frame", "packed"]

#: Seconds after which an interrupt that could not be raised is tried again.
_AGAIN: Final = 0.001

#: Seconds after which the timer fires again: a signal that comes just before a system call does not
#: end that call, and the handler runs only when it is over.
_AGAIN_AND_AGAIN: Final = 0.02

#: setitimer refuses more; a body that takes longer is interrupted by its pool.
_LONGEST_TIMER: Final = 1e8


#: Signals that are blocked while a worker starts.
MASKED: Final = (signal.SIGINT, signal.SIGALRM)


class _Link:
    """The view of a process body: asks the parent for what the body reads, once each."""

    def __init__(self, channel: wire.Channel) -> None:
        self._channel = channel
        #: One question at a time, also when the body has started threads that ask.
        self._lock = threading.Lock()
        #: The threads that are on the pipe, or about to be.
        self._talking: set[int] = set()
        #: What this body has read: its own copy.
        self._read: dict[tuple[str, str], Any] = {}
        self._closed = False

    def close(self) -> None:
        """End the talk when the body is over: threads that it left behind get an error."""
        with self._lock:  # a question that is under way is answered first
            self._closed = True

    @property
    def talking(self) -> bool:
        """Whether the main thread is on the pipe: it must not be interrupted there."""
        return threading.main_thread().ident in self._talking

    @property
    def input(self) -> Any:
        return self.ask("input", "")

    @property
    def results(self) -> Mapping[str, StepResult]:
        return _RemoteResults(self)

    def state(self, key: str) -> Any:
        return self.ask("state", key)

    def value(self, step_name: str) -> Any:
        return self.ask("value", step_name)

    def ask(self, kind: str, name: str) -> Any:
        """Return what the parent knows under this name, or `MISSING`.

        Raises:
            SerializationError: it exists, and cannot be sent or rebuilt.
            RuntimeError: the body is over.
        """
        if (kind, name) not in self._read:
            me = threading.get_ident()
            self._talking.add(me)
            try:
                with self._lock:
                    if self._closed:
                        raise RuntimeError("the body that this context belongs to is over")
                    self._channel.send(pickle.dumps(("read", kind, name)))
                    frame = self._channel.receive()
            finally:
                self._talking.discard(me)
            self._read[kind, name] = open_frame(frame, kind, name)
        return self._read[kind, name]


def open_frame(frame: bytes, kind: str, name: str) -> Any:
    """Rebuild what the parent has answered: a value, or `MISSING`.

    Raises:
        SerializationError: it could not be sent, or cannot be rebuilt.
    """
    answer, detail = pickle.loads(frame)
    if answer == "refused":
        raise SerializationError(*detail)
    if answer == "missing":
        return MISSING
    return wire.load(detail, wire.name_of(kind, name), writable=False)


class _RemoteResults(Mapping[str, StepResult]):
    """`ctx.results` of a process body; each result is fetched when it is looked at."""

    def __init__(self, link: _Link) -> None:
        self._link = link

    def __getitem__(self, name: str) -> StepResult:
        result = self._link.ask("result", name)
        if result is MISSING:
            raise KeyError(name)
        return result  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[str]:
        return iter(self._link.ask("names", ""))

    def __len__(self) -> int:
        return len(self._link.ask("names", ""))


class _Task:
    """The body at hand, as the signal handler sees it."""

    __slots__ = ("context", "deadline", "link", "number", "overdue")

    def __init__(self, number: int, context: Context, link: _Link) -> None:
        self.number = number
        self.context = context
        self.link = link
        #: Monotonic instant; set when the body starts.
        self.deadline: float | None = None
        #: The deadline has interrupted the body.
        self.overdue = False


class _Worker:
    """Serve tasks until the parent closes the pipe."""

    def __init__(self, channel: wire.Channel, page: Page) -> None:
        self._channel = channel
        self._page = page
        #: The body that may be interrupted; None between bodies.
        self._task: _Task | None = None
        #: The large buffers of the last reply. The parent has them when it sends the next request.
        self._kept: list[Block] = []
        self._handler = self._on_alarm
        signal.signal(signal.SIGALRM, self._handler)

    def serve(self) -> None:
        while True:
            try:
                request = self._channel.receive()
            except (EOFError, OSError):
                return
            number, kind, *details = pickle.loads(request)
            # From here on the task counts as begun: if this process dies now, the task is why.
            self._page.mark_received(number)
            self._kept.clear()
            run = self._body if kind == "body" else self._call
            reply = run(number, *details)
            _flush()
            try:
                self._channel.send(pickle.dumps(reply, protocol=5))
            except OSError:
                return

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
        return packed(outcome, f"of {what}", self._kept)

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
    ) -> tuple[Any, ...]:
        """Run one attempt of a step."""
        what = f"of step {step_name!r}"
        link = _Link(self._channel)
        cause = None if error is None else packing.unpack_error(error)
        context = Context(flow_name, run_id, step_name, attempt, link, deadline, cause)
        try:
            body = wire.load(function, f"the function {what}")
        except SerializationError as refused:
            return packed(Outcome.never_started(refused), what)
        if self._page.stop() == number:  # asked while it was on its way
            return packed(Outcome.never_started(StepInterrupt("asked to stop")), what)
        task = _Task(number, context, link)

        def on_start(now: float) -> None:
            self._page.mark_started(number, now)
            if announce:
                self._channel.send(pickle.dumps(("began", now)))
            if timeout is not None:
                task.deadline = now + timeout
                signal.setitimer(signal.ITIMER_REAL, min(timeout, _LONGEST_TIMER), _AGAIN_AND_AGAIN)
            if self._page.stop() == number:
                # Asked before the handler knew of the task, or before the timer was set to the
                # deadline. Asked later, the handler itself comes back.
                signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN_AND_AGAIN)

        # An earlier body may have put its own handler there, or have blocked the signal.
        if signal.getsignal(signal.SIGALRM) is not self._handler:
            signal.signal(signal.SIGALRM, self._handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGALRM,))
        self._task = task
        outcome = perform(body, context, timeout, on_start)
        # The order matters: once there is no task, an alarm that is still under way does nothing.
        self._task = None
        if timeout is not None or self._page.stop() == number:
            signal.setitimer(signal.ITIMER_REAL, 0)
        link.close()
        outcome.overdue = task.overdue
        return packed(outcome, what, self._kept)

    def _on_alarm(self, signum: int, frame: FrameType | None) -> None:
        """Interrupt the body at hand, if it is the one that is meant; see the head of this file."""
        task = self._task
        if task is None or task.context._interrupted:
            return
        now = monotonic()
        overdue = task.deadline is not None and now >= task.deadline
        asked = self._page.stop() == task.number
        if not (overdue or asked):
            if task.deadline is not None:  # a signal for an earlier task, or a timer a bit early
                again = max(_AGAIN, min(task.deadline - now, _LONGEST_TIMER))
                signal.setitimer(signal.ITIMER_REAL, again, _AGAIN_AND_AGAIN)
            return
        if asked:
            task.context._ask()
        if task.link.talking or not inside_body(frame):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN_AND_AGAIN)
            return
        signal.setitimer(signal.ITIMER_REAL, 0)
        task.context._interrupted = True
        task.overdue = overdue and not asked
        raise StepInterrupt(f"step {task.context.step_name!r} is asked to stop")


def packed(outcome: Outcome, what: str, kept: list[Block] | None = None) -> tuple[Any, ...]:
    """Take an outcome apart; a value or write that cannot be pickled makes it an error.

    Args:
        outcome: Of a task.
        what: Whose it is, for the error.
        kept: See `wire.dump`.
    """
    value = writes = error = None
    try:
        if outcome.value is not None:
            value = wire.dump(outcome.value, f"the value {what}", kept)
        if outcome.writes and outcome.error is None:
            writes = {
                key: wire.dump(written, f"the state value {key!r} {what}", kept)
                for key, written in outcome.writes.items()
            }
        if outcome.error is not None:
            error = packing.pack_error(outcome.error)
    except SerializationError as refused:
        value = writes = None
        error = packing.pack_error(refused)
    return (
        "done", value, error, writes,
        outcome.started_at, outcome.ended_at, outcome.overdue,
    )  # fmt: skip


def _flush() -> None:
    """Show what the body has printed: this process may be killed before its buffers are full."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # closed or replaced by a body
            stream.flush()


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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
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
