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
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from syncflow.context import MISSING, Context, Snapshot
from syncflow.errors import PoolClosedError, SerializationError, StepInterrupt
from syncflow.pools import packing, wire
from syncflow.pools.shared import Blob
from syncflow.pools.worker import open_frame, packed
from syncflow.run.attempt import Outcome, perform
from syncflow.run.jobs import Attempt
from syncflow.run.places import THREADS_AT_A_TIME, Place
from syncflow.run.remote import answer, function_blob, outcome_of

if TYPE_CHECKING:
    from syncflow.result import StepResult

__all__ = ["Foreign"]

#: What a travelling attempt sends back: a reply as of a worker process; its host and pid.
_Sent = tuple[tuple[Any, ...], str, int]


class Foreign(Place):
    """An executor that is not ours."""

    def __init__(self, name: str, executor: Executor) -> None:
        super().__init__(name, THREADS_AT_A_TIME)
        self._executor = executor

    def start(self, attempt: Attempt) -> None:
        attempt.submitted_at = monotonic()
        local = _Local(attempt)
        try:
            future = self._executor.submit(local)
        except RuntimeError as error:
            raise PoolClosedError(f"{type(self._executor).__name__}: {error}") from error
        attempt.job = future
        future.add_done_callback(local.arrived)

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
        assert attempt is not None
        deliver = attempt.run()
        _date_back(attempt)
        del attempt
        if deliver is not None:
            deliver()
        del deliver

    def arrived(self, future: Future[Any]) -> None:
        """Take what the future came to, unless the attempt has run here."""
        if self._attempt is not None:
            _arrived(self._attempt, future)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as what the body needs, and nothing else."""
        attempt = self._attempt
        assert attempt is not None
        context = attempt.context
        view: Snapshot = context._view  # type: ignore[assignment]  # ours are
        frames = {("input", ""): answer(attempt, "input", "", share=False)}
        frames |= {("state", key): answer(attempt, "state", key, share=False) for key in view.data}
        frames |= {
            ("result", name): answer(attempt, "result", name, share=False) for name in view.settled
        }
        error = None if context.error is None else packing.pack_error(context.error)
        function, refused = None, None
        try:
            function = function_blob(attempt)
        except SerializationError as refusal:
            # Travels instead: what an executor makes of an error here does not tell what was wrong.
            refused = packing.pack_error(refusal)
        names = (context.flow_name, context.run_id, context.step_name, context.attempt)
        return _Travelling, (
            function, refused, names, attempt.time_left(), context.remaining, error, frames,
        )  # fmt: skip


class _Parcel:
    """The view of a body elsewhere: all that it may read came with it."""

    def __init__(self, frames: dict[tuple[str, str], bytes]) -> None:
        self._frames = frames
        #: What this body has read: its own copy.
        self._read: dict[tuple[str, str], Any] = {}

    @property
    def input(self) -> Any:
        return self.open("input", "")

    @property
    def results(self) -> Mapping[str, StepResult]:
        return _Results(self, [name for kind, name in self._frames if kind == "result"])

    def state(self, key: str) -> Any:
        return self.open("state", key)

    def value(self, step_name: str) -> Any:
        try:
            result = self.open("result", step_name)
        except SerializationError as refused:
            raise SerializationError(wire.name_of("value", step_name), refused.reason) from refused
        return result.value if result is not MISSING and result.ok else MISSING

    def open(self, kind: str, name: str) -> Any:
        """Rebuild one value, once.

        Raises:
            SerializationError: it could not be sent, or cannot be rebuilt.
        """
        if (kind, name) not in self._read:
            frame = self._frames.get((kind, name))
            self._read[kind, name] = MISSING if frame is None else open_frame(frame, kind, name)
        return self._read[kind, name]


class _Results(Mapping[str, "StepResult"]):
    """`ctx.results` of a body elsewhere; each result is rebuilt when it is looked at."""

    def __init__(self, parcel: _Parcel, names: list[str]) -> None:
        self._parcel = parcel
        self._names = names

    def __getitem__(self, name: str) -> StepResult:
        result = self._parcel.open("result", name)
        if result is MISSING:
            raise KeyError(name)
        return result  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class _Travelling:
    """An attempt as it arrives elsewhere."""

    def __init__(
        self,
        function: Blob | None,
        refused: packing.Packed | None,
        names: tuple[str, str, str, int],
        timeout: float | None,
        remaining: float | None,
        error: packing.Packed | None,
        frames: dict[tuple[str, str], bytes],
    ) -> None:
        self._function = function
        #: Why there is no function.
        self._refused = refused
        self._names = names
        self._timeout = timeout
        self._remaining = remaining
        self._error = error
        self._frames = frames

    def __call__(self) -> _Sent:
        """Run the body; return what it came to, in bytes."""
        cause = None if self._error is None else packing.unpack_error(self._error)
        deadline = None if self._remaining is None else monotonic() + self._remaining
        context = Context(*self._names, _Parcel(self._frames), deadline, cause)
        what = f"of step {context.step_name!r}"
        try:
            if self._refused is not None:
                raise packing.unpack_error(self._refused)
            assert self._function is not None
            function = wire.load(self._function, f"the function {what}")
        except SerializationError as refused:
            outcome = Outcome.never_started(refused)
        else:
            outcome = perform(function, context, self._timeout)
        return packed(outcome, what), os.uname().nodename, os.getpid()


def _date_back(attempt: Attempt) -> None:
    """Let the record of an interrupted body start with its time: at submission.

    So does that of an abandoned one. Dated from the call of its body, one that was queued would
    have been interrupted before its time was up, and nobody could say why.
    """
    outcome = attempt.outcome
    if outcome is not None and isinstance(outcome.error, StepInterrupt):
        outcome.started_at = attempt.submitted_at


def _arrived(attempt: Attempt, future: Future[_Sent | None]) -> None:
    """Take what a future came to. Runs on a thread of the executor's: does nothing that blocks."""
    error: BaseException | None
    if future.cancelled():
        # Taken back, and nobody will look at this; or cancelled by whoever closed the executor.
        error = PoolClosedError("the executor was shut down before this could start")
    else:
        error = future.exception()
    if error is not None:
        # The executor broke, or could not send the attempt or its outcome: it never got there, or
        # nobody will ever know.
        sent = not isinstance(error, PoolClosedError)
        outcome = Outcome.never_started(error)
        outcome.started_at = attempt.submitted_at if sent else None
    else:
        returned = future.result()
        if returned is None:
            return  # it ran in this process
        reply, host, pid = returned
        rebuilt: Callable[[packing.Packed], BaseException] = partial(
            packing.rebuild_error, where=f"process {pid} of {host}"
        )
        outcome = outcome_of(reply, attempt.context.step_name, rebuilt)
        if outcome.started_at is not None:
            # Their clock is not ours: keep the duration, not the instants.
            took = outcome.ended_at - outcome.started_at
            outcome.ended_at = monotonic()
            outcome.started_at = outcome.ended_at - took
        attempt.worker = pid if host == os.uname().nodename else f"{host}:{pid}"
    attempt.outcome = outcome
    _date_back(attempt)
    if attempt.claim_end():
        attempt.scope.inbox.put(attempt)
    elif attempt.scope.late is not None:
        attempt.scope.late.ended_soon(attempt)
