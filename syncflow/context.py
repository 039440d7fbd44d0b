"""What the body of a step sees: `Context`, and the `CancelToken` that asks a run to stop.

A context belongs to one attempt. Its reads go through a *view* (the flow's state, input and earlier
results as they were when the node started); its writes stay in the context until the runner merges
them, so that an attempt that fails, is cancelled or abandoned leaves nothing behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

from syncflow import timing
from syncflow.errors import StepInterrupt
from syncflow.policy import seconds as checked_seconds

if TYPE_CHECKING:
    from syncflow.result import StepResult
    from syncflow.run.around import Around

__all__ = ["CancelToken", "Context", "current_context"]

#: What a view answers when there is no such value (None is a value).
MISSING: Final = object()

_REQUIRED: Final = object()

current: ContextVar[Context] = ContextVar("syncflow.current_context")


def current_context() -> Context:
    """Return the context of the step that the calling code runs in.

    Works in the thread or process that runs the body, at any depth of calls.

    Raises:
        LookupError: the caller does not run inside a step.
    """
    try:
        return current.get()
    except LookupError:
        raise LookupError(
            "no step is running here: current_context() works inside a body"
        ) from None


class View(Protocol):
    """The flow as a node found it: what `Context` reads when the attempt has not written itself."""

    @property
    def input(self) -> Any: ...

    @property
    def results(self) -> Mapping[str, StepResult]: ...

    def state(self, key: str) -> Any:
        """Return the value of `key`, or `MISSING`."""
        ...

    def value(self, step_name: str) -> Any:
        """Return what the completed step returned, or `MISSING`."""
        ...


class Snapshot:
    """The view of bodies in this process, and what process bodies are answered from.

    One snapshot serves a whole run: the runner alone changes it, between nodes, and replaces it by
    a copy first while an abandoned body may still be reading the old one.
    """

    __slots__ = ("data", "frames", "input", "settled")

    def __init__(
        self,
        input: Any,
        data: MutableMapping[str, Any],
        settled: MutableMapping[str, StepResult],
    ) -> None:
        self.input = input
        #: The flow's state.
        self.data = data
        #: The results of all steps of settled nodes.
        self.settled = settled
        #: What process bodies have read, serialised; see `run.remote`. Any thread may add.
        self.frames: dict[tuple[str, str, bool], Any] = {}

    @property
    def results(self) -> Mapping[str, StepResult]:
        return MappingProxyType(self.settled)

    def state(self, key: str) -> Any:
        return self.data.get(key, MISSING)

    def value(self, step_name: str) -> Any:
        result = self.settled.get(step_name)
        return result.value if result is not None and result.ok else MISSING

    def read(self, kind: str, name: str) -> Any:
        """Answer what a process body asks for, or `MISSING`."""
        match kind:
            case "input":
                return self.input
            case "state":
                return self.state(name)
            case "value":
                return self.value(name)
            case "result":
                return self.settled.get(name, MISSING)
            case _:
                return list(self.settled)


#: What the context of a failed attempt looks at: its traceback outlives the run, and must not keep
#: the results (itself among them) alive in a cycle.
_NOTHING: Final = Snapshot(None, {}, {})


class Context:
    """What a step is called with: input, state, earlier values, and who and where it is.

    Valid while the body runs. State is transactional: reads see the flow's state as it was when
    the step's node started plus this attempt's own writes; the writes take effect when the step
    completes, and are dropped when it does not. What is read is shared with other inline and thread
    steps; a process body gets a copy of its own of each object when it first reads it.

    Attributes:
        flow_name: Name of the flow.
        step_name: Name of the step; in a compensation, of the step that is undone.
        run_id: Identifier of the run.
        attempt: Number of this attempt, from 1.
        error: In a compensation, the error that caused the rollback; else `None`.
    """

    __slots__ = (
        "_around", "_asked", "_deadline", "_index", "_inner", "_interrupted", "_view", "_waker",
        "_writes", "attempt", "error", "flow_name", "run_id", "step_name",
    )  # fmt: skip

    def __init__(
        self,
        flow_name: str,
        run_id: str,
        step_name: str,
        attempt: int,
        view: View,
        deadline: float | None = None,
        error: BaseException | None = None,
        index: int | None = None,
    ) -> None:
        self.flow_name = flow_name
        self.run_id = run_id
        self.step_name = step_name
        self.attempt = attempt
        self.error = error
        self._view = view
        #: Of the item, in a map.
        self._index = index
        self._writes: dict[str, Any] = {}
        #: Monotonic instant at which the nearest of the attempt's, group's and run's time is up.
        self._deadline = deadline
        #: Set once, by `_ask`; never taken back.
        self._asked = False
        #: The run that this body is, when it is a flow; set before the body starts.
        self._inner: Any = None
        #: What hooks have the body run in; set before it starts.
        self._around: Around | None = None
        #: A StepInterrupt is on its way through a body in the main thread, the only one that a
        #: signal handler interrupts: raising another would hit its clean-up.
        self._interrupted = False
        #: What `sleep` waits for. A bare lock, and no `Event`: it may be interrupted, and opened in
        #: a signal handler, at any moment.
        self._waker = threading.Lock()

    def __repr__(self) -> str:
        return f"<Context {self.flow_name}/{self.step_name} attempt {self.attempt}>"

    @property
    def input(self) -> Any:
        """What `run` was given, after `validate`."""
        return self._view.input

    @property
    def idempotency_key(self) -> str:
        """`"<run_id>:<step_name>"`: the same for every attempt of the step and its compensation.

        In a map `"<run_id>:<name>:<index>"`, the index being that of the item, from 0.
        """
        key = f"{self.run_id}:{self.step_name}"
        return key if self._index is None else f"{key}:{self._index}"

    # --- state -------------------------------------------------------------------------------

    def get(self, key: str, default: Any = None) -> Any:
        """Return the state's value of `key`, or `default` when there is none."""
        value = self._read(key)
        return default if value is MISSING else value

    def set(self, key: str, value: Any) -> None:
        """Write `value` into the state; it takes effect when the step completes.

        Raises:
            TypeError: `key` is no string; so do all that take a key.
        """
        self._writes[self._checked(key)] = value

    def has(self, key: str) -> bool:
        """Tell whether the state has `key`."""
        return self._read(key) is not MISSING

    def __getitem__(self, key: str) -> Any:
        """Return the state's value of `key`; raise `KeyError` when there is none."""
        value = self._read(key)
        if value is MISSING:
            raise KeyError(key)
        return value

    def __contains__(self, key: str) -> bool:
        return self.has(key)

    #: Not iterable: `__getitem__` with integers would otherwise be tried.
    __iter__ = None

    def _read(self, key: str) -> Any:
        value = self._writes.get(self._checked(key), MISSING)
        return self._view.state(key) if value is MISSING else value

    def _checked(self, key: str) -> str:
        if not isinstance(key, str):
            raise TypeError(f"step {self.step_name!r}: a state key is a string, not {key!r}")
        return key

    # --- earlier steps -----------------------------------------------------------------------

    def value(self, step_name: str, default: Any = _REQUIRED) -> Any:
        """Return what the earlier step returned.

        Args:
            step_name: Name of a step of an earlier node.
            default: Returned when that step has not completed. Default: raise.

        Raises:
            KeyError: it has not completed (or does not exist), and there is no default.
        """
        value = self._view.value(step_name)
        if value is not MISSING:
            return value
        if default is _REQUIRED:
            raise KeyError(f"no completed step {step_name!r} before {self.step_name!r}")
        return default

    @property
    def results(self) -> Mapping[str, StepResult]:
        """The results of all settled earlier steps, by name; read-only."""
        return self._view.results

    # --- stopping ----------------------------------------------------------------------------

    @property
    def remaining(self) -> float | None:
        """Seconds until the nearest of the attempt's, group's and run's deadlines; never negative.

        `None` when there is no deadline.
        """
        return None if self._deadline is None else max(0.0, self._deadline - timing.monotonic())

    @property
    def cancelled(self) -> bool:
        """Whether this attempt is asked to stop, or its time is up."""
        return self._asked or (self._deadline is not None and timing.monotonic() >= self._deadline)

    def raise_if_cancelled(self) -> None:
        """Raise `StepInterrupt` when this attempt is asked to stop, or its time is up."""
        if self.cancelled:
            if threading.current_thread() is threading.main_thread():
                self._interrupted = True
            raise StepInterrupt(f"step {self.step_name!r} is asked to stop")

    def sleep(self, seconds: float) -> None:
        """Sleep, and wake at once when this attempt is asked to stop, or its time is up.

        Args:
            seconds: How long; a number or `timedelta`, not negative. Never less.

        Raises:
            StepInterrupt: this attempt is asked to stop. Clean up, and let it pass.
        """
        duration = checked_seconds(seconds, "seconds", f"step {self.step_name!r}: ctx.sleep")
        until = timing.monotonic() + duration
        # Locked while anybody sleeps. `_ask` sets the flag before it unlocks, this locks before it
        # looks at the flag: either the flag is seen, or the lock is opened after it was closed.
        self._waker.acquire(blocking=False)
        while True:
            self.raise_if_cancelled()
            if timing.monotonic() >= until:
                return
            wake = until if self._deadline is None else min(until, self._deadline)
            if timing.pause(self._waker, wake, self):
                self._waker.release()  # for other threads of the body that sleep, too

    def _ask(self, reason: str | None = None) -> None:
        """Ask the body to stop. Any thread, signal handlers too; any number of times."""
        self._asked = True
        if self._inner is not None:
            self._inner.token.cancel(reason)
        with suppress(RuntimeError):  # nobody sleeps
            self._waker.release()

    def _limit(self, deadline: float) -> None:
        """Bring the deadline forward to `deadline`."""
        if self._deadline is None or deadline < self._deadline:
            self._deadline = deadline

    def _detach(self) -> None:
        """Let go of the run: what the body's traceback still holds must not hold the results."""
        self._view = _NOTHING
        self._inner = self._around = None


class CancelToken:
    """Ask runs to stop: `flow.run(cancel=token)`, then `token.cancel()` from anywhere.

    One token may serve any number of runs. Safe from any thread, from hooks, steps and signal
    handlers: it takes no lock.
    """

    __slots__ = ("_callbacks", "_verdict")

    def __init__(self) -> None:
        #: Empty, or {"reason": the first reason}: `setdefault` decides who was first.
        self._verdict: dict[str, str | None] = {}
        #: A dict for its atomic operations; the values mean nothing.
        self._callbacks: dict[Callable[[], None], None] = {}

    def __repr__(self) -> str:
        return f"<CancelToken {'cancelled' if self.cancelled else 'open'}>"

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` has been called."""
        return bool(self._verdict)

    @property
    def reason(self) -> str | None:
        """The reason given to the first `cancel`, or `None`."""
        return self._verdict.get("reason")

    def cancel(self, reason: str | None = None) -> None:
        """Ask every run that uses this token to stop. Later calls change nothing.

        Args:
            reason: Text for people; becomes `FlowCancelledError.reason`.

        Raises:
            TypeError: `reason` is neither a string nor `None`.
        """
        if reason is not None and not isinstance(reason, str):
            raise TypeError(f"CancelToken.cancel: reason is a string or None, not {reason!r}")
        self._verdict.setdefault("reason", reason)
        for callback in list(self._callbacks):
            callback()

    def _subscribe(self, callback: Callable[[], None]) -> None:
        """Call `callback` once or more when cancelled; at once when it already is.

        Added before looked: a `cancel` in between calls it twice, never not at all.
        """
        self._callbacks[callback] = None
        if self.cancelled:
            callback()

    def _unsubscribe(self, callback: Callable[[], None]) -> None:
        self._callbacks.pop(callback, None)
