"""The parent's side of one worker process: start it, talk to it, stop it, see to its end."""

from __future__ import annotations

import atexit
import os
import pickle
import select
import signal
import sys
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from syncflow.errors import PoolClosedError, WorkerCrashedError
from syncflow.pools import packing, wire
from syncflow.pools.crew import close_for_exit, deliver, is_exiting
from syncflow.pools.page import Page
from syncflow.pools.shared import Blob

if TYPE_CHECKING:
    from syncflow.pools.station import RemoteJob

__all__ = ["EXIT_SECONDS", "Worker", "deliver_all"]

#: Seconds that an idle worker has to end by itself.
EXIT_SECONDS: Final = 0.3

#: What lets a worker drop the large buffers of its last reply. An idle one has room for it.
_TAKEN: Final = pickle.dumps((0, "taken"))

#: Every worker that has not been reaped, for interpreter exit and fork.
_live: weakref.WeakSet[Worker] = weakref.WeakSet()

#: Held while a worker starts, so that the interpreter does not exit in the middle of it.
_starting = threading.Lock()


def deliver_all(held: deque[Callable[[], None]]) -> None:
    """Deliver results, in the order in which they came; never raise."""
    while held:
        deliver(held.popleft())


class Worker:
    """One worker process and this side of its pipe. Owned by one thread.

    `stop` and `kill` alone may be called from others.
    """

    def __init__(
        self,
        initializer: Blob | None,
        held: deque[Callable[[], None]],
        environment: Mapping[str, str],
    ) -> None:
        #: Results that the owning thread has yet to deliver: before it sleeps at the latest.
        self._held = held
        #: Guards `_ended`: no signal is sent to a pid that may already be somebody else's.
        self._lock = threading.Lock()
        self._ended = False
        #: The worker has started up and passed its initializer.
        self.ready = False
        #: What the initializer raised.
        self.unfit: BaseException | None = None
        #: The task that is on it, or 0. Guarded by the lock, so that a kill hits who it is for.
        self._task = 0
        self.tasks = 0
        #: The worker keeps large buffers of its last reply.
        self._keeps = False
        with _starting:
            if is_exiting():
                raise PoolClosedError("the interpreter is exiting: no worker is started any more")
            self._start(initializer, environment)
            _live.add(self)

    def _start(self, initializer: Blob | None, environment: Mapping[str, str]) -> None:
        """Start the process; set what is known of it."""
        from multiprocessing import process as registry
        from multiprocessing import resource_tracker
        from multiprocessing.connection import Connection

        from loky.backend import get_context
        from loky.backend import resource_tracker as loky_tracker

        from syncflow.pools import worker

        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # closed; loky flushes both
                setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115
        context = get_context("loky")
        self._pipe, theirs = context.Pipe(duplex=True)
        with ExitStack() as given, ExitStack() as kept:
            given.enter_context(theirs)
            kept.callback(self._pipe.close)
            lifeline, self._lifeline = os.pipe()
            hangup = given.enter_context(Connection(lifeline, writable=False))
            kept.callback(os.close, self._lifeline)
            shared = given.enter_context(tempfile.TemporaryFile(buffering=0))
            shared.write(bytes(Page.SIZE))  # a disk that is full must say so here, not when used
            self.page = Page(shared.fileno())
            kept.callback(self.page.freeze)
            page = given.enter_context(Connection(os.dup(shared.fileno())))
            self._process = context.Process(
                target=worker.main,
                args=(theirs, page, hangup, initializer),
                name="syncflow-worker",
                daemon=False,
                env=dict(environment),
            )
            # Both trackers first: when one of them starts, it takes the mask back.
            resource_tracker.ensure_running()
            loky_tracker.ensure_running()
            # The mask is inherited: until the worker has its handlers, neither a Ctrl-C, which a
            # terminal sends to it, too, nor a stop can end it.
            masked = signal.pthread_sigmask(signal.SIG_BLOCK, worker.MASKED)
            try:
                self._process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, masked)
            kept.pop_all()  # it has started
        # multiprocessing would wait for it at interpreter exit, also in forked children.
        registry._children.discard(self._process)  # type: ignore[attr-defined]
        self.pid: int = self._process.pid
        self._pidfd: int | None = None
        with suppress(AttributeError, OSError):  # not on this system: `_wait_for` asks now and then
            self._pidfd = os.pidfd_open(self.pid)
        ours = self._pipe.fileno()
        self._poll = select.poll()
        self._poll.register(ours, select.POLLIN)
        if self._pidfd is not None:
            self._poll.register(self._pidfd, select.POLLIN)
        # Not blocking, so that a write to a dead worker whose child holds the pipe open can end.
        os.set_blocking(ours, False)
        self._channel = wire.Channel(ours, self._wait, self._wait_for_room)
        self._linger = wire.lingering(ours)

    def _wait(self) -> None:
        """Wait until the worker has said something. The kernel wakes this, also when it dies.

        A grandchild may hold the worker's end of the pipe open: its death is noticed all the same.
        """
        if self._held:
            if self._linger():
                return
            deliver_all(self._held)
        self._wait_for(select.POLLIN)

    def _wait_for_room(self) -> None:
        """Wait until the pipe takes more."""
        deliver_all(self._held)
        self._poll.modify(self._pipe.fileno(), select.POLLOUT)
        try:
            self._wait_for(select.POLLOUT)
        finally:
            self._poll.modify(self._pipe.fileno(), select.POLLIN)

    def _wait_for(self, event: int) -> None:
        """Wait until the pipe is ready, or the worker has died."""
        limit = None if self._pidfd is not None else 1000
        while True:
            happened = dict(self._poll.poll(limit))
            ready = happened.pop(self._pipe.fileno(), 0)
            if ready and event == select.POLLIN:
                return  # what it wrote before it died is still to be read
            if happened or (self._pidfd is None and self._process.exitcode is not None):
                raise EOFError("the worker has died")
            if ready:
                return

    @property
    def busy(self) -> bool:
        """Whether a task is on it."""
        return self._task != 0

    def begin(self) -> int:
        """Begin a task: return its number, from 1."""
        with self._lock:
            self.tasks += 1
            self._task = self.tasks
        return self.tasks

    def exchange(self, request: bytes, job: RemoteJob) -> tuple[Any, ...] | None:
        """Send the request of the task that has begun and return the reply; the task is over then.

        `None` when the worker has died; `unfit` tells whether it ever could have served.
        """
        try:
            return self._exchange(request, job)
        except (EOFError, OSError):
            self.reap()
            return None
        except BaseException:
            self.reap()  # nobody knows what is still in the pipe
            raise
        finally:
            with self._lock:
                self._task = 0

    def _exchange(self, request: bytes, job: RemoteJob) -> tuple[Any, ...] | None:
        channel = self._channel
        with suppress(OSError):  # it has closed the pipe: read what it had to say
            channel.send(request)
        while True:
            reply: tuple[Any, ...] = pickle.loads(channel.receive())
            match reply:
                case ("done" | "refused", *_):
                    return reply
                case ("read", kind, name):
                    deliver_all(self._held)  # to serialise what is read may take long
                    channel.send(job.answer(kind, name))
                case ("began", now):
                    deliver_all(self._held)  # what ended before this began comes first
                    job.began(now)
                case ("keeps",):
                    self._keeps = True
                case ("ready",):
                    self.ready = True
                    if self.page.stop() == self.tasks:
                        self.stop(self.tasks)  # asked meanwhile: see there
                case ("unfit", error):
                    self.unfit = self.rebuilt(error)

    def taken(self) -> None:
        """Let the worker drop the large buffers of its last reply, which has been rebuilt."""
        if not self._keeps:
            return
        self._keeps = False
        with self._lock:  # at exit, the pipe of a worker without a task may be closed meanwhile
            if not self._pipe.closed:
                with suppress(EOFError, OSError):  # dead: whoever has the next task finds out
                    self._channel.send(_TAKEN)

    def stop(self, task: int) -> None:
        """Ask the body of `task` to stop; nothing happens when it is over. Any thread.

        A worker that is not ready has no handler for the signal yet. The mark is set before
        `ready` is looked at here, and looked at after `ready` is set there: one of the two sends
        the signal.
        """
        with self._lock:
            if self._task == task and not self._ended:
                self.page.mark_stop(task)
                if self.ready:
                    os.kill(self.pid, signal.SIGALRM)

    def kill(self, task: int) -> None:
        """End the process at once, with all that it has started, if it is at `task`. Any thread."""
        with self._lock:
            if self._task == task and not self._ended:
                self._kill_group()

    def _kill_group(self) -> None:
        """Kill the worker's process group, or the worker that has not made its group yet."""
        for kill in (os.killpg, os.kill):
            with suppress(ProcessLookupError):
                kill(self.pid, signal.SIGKILL)

    def reap(self) -> None:
        """Make sure that the process and its children are gone, and free what it held."""
        with self._lock:
            if self._ended:
                return
            # Not reaped yet, so the pid is still its own: its children can be ended by its group.
            self._kill_group()
            self._ended = True
        self._process.join()  # it has been killed: returns at once
        self._close()

    def retire(self, patience: float) -> None:
        """Let the idle worker end by itself, and see to it that it does.

        Args:
            patience: Seconds that it has for it.
        """
        self.hang_up()
        self.end_by(monotonic() + patience)

    def hang_up(self) -> None:
        """Close the pipe: an idle worker ends. Any thread."""
        with self._lock:
            self._pipe.close()

    def end_by(self, deadline: float) -> None:
        """Wait until the worker has ended, or end it at the deadline."""
        patience = max(0.0, deadline - monotonic())
        if self._pidfd is None:
            with self._lock:  # reaping it frees its pid: nobody may signal that meanwhile
                if not self._ended:
                    self._process.join(patience)
        elif not self._ended:
            # Not by `join`: that would free its pid before `reap` is done with it.
            over = select.poll()
            over.register(self._pidfd, select.POLLIN)
            over.poll(patience * 1000)
        self.reap()

    def forget(self) -> None:
        """Let go of a worker that belongs to the parent of this forked process."""
        self._lock = threading.Lock()
        if not self._ended:
            self._ended = True
            self._close()

    def _close(self) -> None:
        self.hang_up()
        self._channel.close()
        self.page.freeze()
        os.close(self._lifeline)
        if self._pidfd is not None:
            os.close(self._pidfd)

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._ended

    def rebuilt(self, packed: packing.Packed) -> BaseException:
        """Rebuild an error that the worker sent, with a note that shows its traceback there."""
        return packing.rebuild_error(packed, f"worker process {self.pid}")

    def crash(
        self,
        step_name: str | None = None,
        attempt: int | None = None,
        kind: type[WorkerCrashedError] = WorkerCrashedError,
    ) -> WorkerCrashedError:
        """Describe the death of this worker, once it is reaped."""
        code = self._process.exitcode
        name = None
        if code is not None and code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:  # of the real-time signals, only the first and the last have one
                name = f"signal {-code}"
        return kind(self.pid, code, name, step_name, attempt)


def _after_fork() -> None:
    """A forked child has no workers, and must not hold the lifelines of its parent's."""
    global _starting
    _starting = threading.Lock()
    for worker in list(_live):
        worker.forget()


@atexit.register
def _end_workers() -> None:
    """Leave no worker behind: ask idle ones to end, kill the others."""
    close_for_exit()
    with _starting:  # no worker is started after this
        workers = [worker for worker in list(_live) if not worker.ended]
    for worker in workers:
        if worker.busy:
            worker.kill(worker.tasks)
        else:
            worker.hang_up()
    deadline = monotonic() + EXIT_SECONDS
    for worker in workers:
        worker.end_by(deadline)


os.register_at_fork(after_in_child=_after_fork)
