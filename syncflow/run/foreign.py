"""Steps on somebody else's executor: any `concurrent.futures.Executor`.

What is submitted runs as it is in an executor of this process (a `ThreadPoolExecutor`), and is
turned into something that can travel when an executor pickles it: the function, and everything that
the body may read, each serialised on its own, so that what cannot be matters only if it is read.

A foreign worker cannot be interrupted or killed. A queued attempt is taken back by cancelling its
future; a running one is asked to stop where it can be reached (in this process), else abandoned.
Clocks are not compared: the worker may be another machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import TYPE_CHECKING, Any

from syncflow import timing
from syncflow.errors import PoolClosedError, SerializationError, StepInterrupt
from syncflow.pools import packing
from syncflow.pools.reply import packed
from syncflow.run.attempt import Outcome, perform
from syncflow.run.jobs import Attempt
from syncflow.run.lanes import Lane
from syncflow.run.parcel import Bundle, arrived_as, bundle_of
from syncflow.run.places import THREADS_AT_A_TIME, Place
from syncflow.run.remote import outcome_of

if TYPE_CHECKING:
    from syncflow.run.mapper import Mapper

__all__ = ["Foreign", "Sent", "date_back", "failure_of_future", "rebuilder", "worker_named"]

#: What a travelling attempt sends back: a reply as of a worker process; its host and pid.
Sent = tuple[tuple[Any, ...], str, int]


class Foreign(Place):
    """An executor that is not ours."""

    elsewhere = True

    def __init__(self, name: str, executor: Executor) -> None:
        super().__init__(name, THREADS_AT_A_TIME)
        self._executor = executor

    def start(self, attempt: Attempt) -> None:
        attempt.submitted_at = timing.monotonic()
        local = _Local(attempt)
        try:
            future = self._executor.submit(local)
        except RuntimeError as error:
            raise PoolClosedError(f"{type(self._executor).__name__}: {error}") from error
        attempt.job = future
        future.add_done_callback(local.arrived)

    def lane(self, mapper: Mapper) -> Lane:
        from syncflow.run.foreign_chunks import ForeignLane

        return ForeignLane(mapper, self._executor)

    def started_at(self, attempt: Attempt) -> float | None:
        return attempt.submitted_at

    def revoke(self, attempt: Attempt) -> bool:
        return attempt.job is not None and attempt.job.cancel() and attempt.revoke()

    def give_up(self, attempt: Attempt) -> bool:
        if not attempt.abandon():
            return False
        attempt.context._ask()
        return True


class _Local:
    """An attempt for an executor: called in this process, or pickled and called elsewhere."""

    def __init__(self, attempt: Attempt) -> None:
        #: `None` once it has run in this process. The frames of a failed body lead to the executor,
        #: and from there to this object and to its future: those must not lead back to the error.
        self._attempt: Attempt | None = attempt

    def __call__(self) -> None:
        """Run the attempt here; it finds its own way into the inbox."""
        attempt, self._attempt = self._attempt, None
        if attempt is None:
            return  # it has been settled without this
        deliver = attempt.run()
        date_back(attempt.outcome, attempt.submitted_at)
        del attempt
        if deliver is not None:
            deliver()
        del deliver

    def arrived(self, future: Future[Any]) -> None:
        """Take what the future came to, unless the attempt has run here."""
        if self._attempt is not None:
            _arrived(self._attempt, future)
            self._attempt = None  # the frames of a refusal lead here

    def travelling(self) -> _Travelling:
        """Return what the body needs elsewhere, and nothing else."""
        attempt = self._attempt
        assert attempt is not None
        return _Travelling(bundle_of(attempt), attempt.context._index, attempt.time_left())

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as that."""
        return arrived_as, (self.travelling(),)


class _Travelling:
    """An attempt as it arrives elsewhere."""

    def __init__(self, bundle: Bundle, index: int | None, timeout: float | None) -> None:
        self.bundle = bundle
        self._index = index
        self._timeout = timeout

    def __call__(self) -> Sent:
        """Run the body; return what it came to, in bytes."""
        context = self.bundle.context(self.bundle.view(), self._index)
        context._around = self.bundle.around()
        try:
            function = self.bundle.body()
        except SerializationError as refused:
            outcome = Outcome.never_started(refused)
        else:
            outcome = perform(function, context, self._timeout)
        return packed(outcome, f"of step {context.step_name!r}"), os.uname().nodename, os.getpid()


def date_back(outcome: Outcome | None, submitted_at: float | None) -> None:
    """Let the record of an interrupted body start with its time: at submission.

    So does that of an abandoned one. Dated from the call of its body, one that was queued would
    have been interrupted before its time was up, and nobody could say why.
    """
    if outcome is not None and isinstance(outcome.error, StepInterrupt):
        outcome.started_at = submitted_at


def failure_of_future(future: Future[Any]) -> BaseException | None:
    """Return why nothing came back of what was submitted; `None`: something did."""
    if future.cancelled():
        # Taken back, and nobody will look at this; or cancelled by whoever closed the executor.
        return PoolClosedError("the executor was shut down before this could start")
    return future.exception()


def rebuilder(host: str, pid: int) -> Callable[[packing.Packed], BaseException]:
    """Return what rebuilds the errors of a process."""
    return partial(packing.rebuild_error, where=f"process {pid} of {host}")


def worker_named(host: str, pid: int) -> str | int:
    """Return what results call a process: its pid, and on another machine that machine, too."""
    return pid if host == os.uname().nodename else f"{host}:{pid}"


def _arrived(attempt: Attempt, future: Future[Sent]) -> None:
    """Take what a future came to. Runs on a thread of the executor's: does nothing that blocks."""
    outcome = None
    error = failure_of_future(future)
    try:
        if error is not None:
            # The executor broke, or could not send the attempt or its outcome: it never got there,
            # or nobody will ever know.
            sent = not isinstance(error, PoolClosedError)
            outcome = Outcome.never_started(error)
            outcome.started_at = attempt.submitted_at if sent else None
        else:
            reply, host, pid = future.result()
            outcome = outcome_of(reply, attempt.context.step_name, rebuilder(host, pid))
            if outcome.started_at is not None:
                # Their clock is not ours: keep the duration, not the instants.
                took = outcome.ended_at - outcome.started_at
                outcome.ended_at = timing.monotonic()
                outcome.started_at = outcome.ended_at - took
            attempt.worker = worker_named(host, pid)
        attempt.outcome = outcome
        date_back(outcome, attempt.submitted_at)
        if attempt.claim_end():
            attempt.scope.inbox.put(attempt)
        elif attempt.scope.late is not None:
            attempt.scope.late.ended_soon(attempt)
    finally:
        del attempt, future, outcome, error  # the frames of a refusal lead here: not back to it
