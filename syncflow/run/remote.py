"""A step's attempt as a task of a process pool: what is sent, answered and taken back."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from syncflow import timing
from syncflow.context import MISSING, Context, Snapshot
from syncflow.errors import SerializationError
from syncflow.mapping import OverItem
from syncflow.pools import packing, wire
from syncflow.pools.carried import pack_around
from syncflow.pools.handle import Worker
from syncflow.pools.shared import Blob, Block
from syncflow.pools.station import RemoteJob, Stations
from syncflow.run.attempt import Outcome

if TYPE_CHECKING:
    from syncflow.run.jobs import Attempt

__all__ = ["BodyJob", "answer", "deadline_of", "function_blob", "outcome_of", "redate"]


def function_blob(attempt: Attempt, before: Callable[[], None] | None = None) -> Blob:
    """Return the function of an attempt's step, serialised once a run.

    Args:
        attempt: Whose body it is.
        before: Called when it has yet to be serialised, which may take long.

    Raises:
        SerializationError: it cannot be pickled.
    """
    function, known = attempt.step.fn, attempt.scope.functions
    what = f"the function of step {attempt.context.step_name!r}"
    if id(function) in known:
        return known[id(function)][1]
    if before is not None:
        before()
    del attempt  # the frames of a refusal lead here, and must not lead back to it
    blob = wire.dump_by_value(function, what)
    if not isinstance(function, OverItem):  # there is one for each item, and it is needed once
        known[id(function)] = (function, blob)
    return blob


def answer(attempt: Attempt, kind: str, name: str, *, share: bool = True) -> bytes:
    """Answer what a body reads; each value is serialised once a node.

    Args:
        attempt: Whose body reads.
        kind: `input`, `state`, `value`, `result` or `names`.
        name: Of the key or step.
        share: Put large buffers into shared memory; they are serialised once a run. False: the
            body may be on another machine.
    """
    view: Snapshot = attempt.context._view  # type: ignore[assignment]  # ours are
    value = view.read(kind, name)
    if value is MISSING:
        return pickle.dumps(("missing", None))
    if kind == "names":
        return pickle.dumps(("value", pickle.dumps(value)))
    # Who asks first serialises; who asks meanwhile waits for that.
    mine = Frame()
    frame: Frame = view.frames.setdefault((kind, name, share), mine)
    if frame is mine:
        frame.fill(value, wire.name_of(kind, name), share)
    return frame.wait()


class Frame:
    """One value, serialised once for all bodies that read it."""

    __slots__ = ("_done", "_kept", "_payload")

    def __init__(self) -> None:
        self._done = threading.Event()
        self._payload = b""
        #: Its large buffers, in shared memory as long as this lives.
        self._kept: list[Block] = []

    @property
    def is_shared(self) -> bool:
        """Whether it has buffers in shared memory."""
        return bool(self._kept)

    def fill(self, value: object, what: str, share: bool) -> None:
        """Serialise the value; what cannot be is refused to all who ask."""
        try:
            blob = wire.dump_by_value(value, what, self._kept if share else None)
            self._payload = pickle.dumps(("value", blob))
        except SerializationError as error:
            self._payload = pickle.dumps(("refused", (error.what, error.reason)))
        finally:
            self._done.set()

    def wait(self) -> bytes:
        """Return the frame to send."""
        self._done.wait()  # set by whoever fills it, in any case
        return self._payload


def outcome_of(
    reply: tuple[Any, ...], step_name: str, rebuilt: Callable[[packing.Packed], BaseException]
) -> Outcome:
    """Turn a worker's reply into an outcome.

    Args:
        reply: As made by `syncflow.pools.worker`.
        step_name: For the error when a value cannot be rebuilt.
        rebuilt: Rebuilds an error.
    """
    _, value, error, writes, started_at, ended_at, overdue = reply
    what = f"of step {step_name!r}"
    outcome = Outcome(None, None, {}, started_at, ended_at, overdue=overdue)
    try:
        if error is not None:
            outcome.error = rebuilt(error)
        if value is not None:
            outcome.value = wire.load(value, f"the value {what}")
        for key, blob in (writes or {}).items():
            outcome.writes[key] = wire.load(blob, f"the state value {key!r} {what}")
        return outcome
    except SerializationError as refused:
        outcome.error, outcome.value = refused, None
        return outcome
    finally:
        del outcome  # the frames of the refusal lead here, and must not lead back to it


def deadline_of(context: Context) -> float | None:
    """Return the deadline of a body that lives in real time."""
    return None if context._deadline is None else timing.to_real(context._deadline)


def redate(outcome: Outcome) -> None:
    """Turn the instants of a worker process, which lives in real time, into ours."""
    if outcome.started_at is not None:
        outcome.started_at = timing.from_real(outcome.started_at)
    outcome.ended_at = timing.from_real(outcome.ended_at)


class BodyJob(RemoteJob):
    """Carries an `Attempt` to a worker process and its outcome back."""

    __slots__ = ("_attempt",)

    def __init__(self, stations: Stations, attempt: Attempt) -> None:
        super().__init__(stations)
        self._attempt = attempt

    def claim(self) -> bool:
        return self._attempt.claim_start()

    def request(self) -> tuple[Any, ...]:
        attempt, context = self._attempt, self._attempt.context
        try:
            function = function_blob(attempt, self.stations.deliver_held)
        except SerializationError:
            del self, attempt, context  # as in `outcome_of`
            raise
        return (
            "body", function, context.flow_name, context.run_id, context.step_name,
            context.attempt, attempt.step.timeout, deadline_of(context),
            None if context.error is None else packing.pack_error(context.error),
            attempt.scope.announce, context._index, pack_around(context._around),
        )  # fmt: skip

    def answer(self, kind: str, name: str) -> bytes:
        return answer(self._attempt, kind, name)

    def began(self, now: float) -> None:
        self._attempt.scope.inbox.put(("began", self._attempt))

    def done(self, reply: tuple[Any, ...]) -> Callable[[], None]:
        assert self.worker is not None
        outcome = None
        try:
            step_name = self._attempt.context.step_name
            outcome = outcome_of(reply, step_name, self.worker.rebuilt)
            redate(outcome)
            return self._deliver(outcome)
        finally:
            del self, outcome  # as in `outcome_of`

    def crash_of(self, worker: Worker) -> BaseException:
        context = self._attempt.context
        return worker.crash(context.step_name, context.attempt)

    def crashed(self, worker: Worker) -> Callable[[], None]:
        now = timing.monotonic()
        since = worker.page.started_at(self.task)
        started_at = now if since is None else timing.from_real(since)
        return self._deliver(Outcome(None, self.crash_of(worker), {}, started_at, now))

    def refused(self, error: BaseException) -> Callable[[], None]:
        return self._deliver(Outcome.never_started(error))

    def refuse(self, error: BaseException) -> None:
        if self.claim():
            self.refused(error)()

    def _deliver(self, outcome: Outcome) -> Callable[[], None]:
        self._attempt.worker = None if self.worker is None else self.worker.pid
        self._attempt.outcome = outcome
        return partial(self._attempt.scope.inbox.put, self._attempt)
