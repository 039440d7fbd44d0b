"""One attempt of one body, as executed on whatever worker runs it: value or error, times, writes.

Nothing here knows about pools, retries or results. The same `perform` runs inline, on a thread and
inside a worker process; what it returns is all that crosses back.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from types import CodeType, FrameType
from typing import Any, Final, TypeVar

from syncflow.context import Context, current

__all__ = ["Outcome", "call_body", "clear_callers", "inside_body", "perform", "protected"]

F = TypeVar("F", bound=Callable[..., Any])


class Outcome:
    """What one attempt came to. Plain values: crosses threads and processes.

    Attributes:
        value: What the body returned; `None` when it raised.
        error: What the body raised, exactly; `None` when it returned.
        writes: The state values that the attempt wrote.
        started_at: Monotonic instant at which the body started; `None` when it never did.
        ended_at: Monotonic instant at which it ended.
        overdue: The deadline had already interrupted the body when it ended: it timed out,
            whatever it went on to return.
    """

    __slots__ = ("ended_at", "error", "overdue", "started_at", "value", "writes")

    def __init__(
        self,
        value: Any,
        error: BaseException | None,
        writes: dict[str, Any],
        started_at: float | None,
        ended_at: float,
        overdue: bool = False,
    ) -> None:
        self.value = value
        self.error = error
        self.writes = writes
        self.started_at = started_at
        self.ended_at = ended_at
        self.overdue = overdue

    @classmethod
    def never_started(cls, error: BaseException) -> Outcome:
        """Return the outcome of an attempt whose body could not be started."""
        return cls(None, error, {}, None, monotonic())


def call_body(function: Callable[..., Any], context: Context) -> Any:
    """Call the body. The frame of this function is the border that `inside_body` looks for."""
    return function(context)


_BORDER: Final = call_body.__code__
#: Code that keeps books: see `protected`.
_protected: set[CodeType] = set()


def protected(function: F) -> F:
    """Mark a function that must not be interrupted, nor what it calls, unless that is a body."""
    _protected.add(function.__code__)
    return function


def inside_body(frame: FrameType | None) -> bool:
    """Tell whether a signal handler that interrupted `frame` may raise there: inside a body.

    The frame of `call_body` itself does not count. Before the call, raising would pass for a body
    that was interrupted although it never ran; after it, the value that the body has just returned
    would be lost. Nor does a run that the body has started, up to that run's own bodies. Where the
    answer is no, the handler has to find another way.
    """
    if frame is None or frame.f_code is _BORDER:
        return False
    while frame is not None and frame.f_code not in _protected:
        if frame.f_code is _BORDER:
            return True
        frame = frame.f_back
    return False


def perform(
    function: Callable[..., Any],
    context: Context,
    timeout: float | None,
    on_start: Callable[[float], None] | None = None,
) -> Outcome:
    """Run the body to its end in this thread and return its outcome. Never raises.

    Args:
        function: The body; called with the context.
        context: The attempt's context; its deadline is brought forward to the timeout.
        timeout: Seconds from now, or `None`.
        on_start: Called with the monotonic instant at which the body starts, just before it does.
    """
    token = current.set(context)
    started_at = monotonic()
    if timeout is not None:
        context._limit(started_at + timeout)
    if on_start is not None:
        on_start(started_at)
    try:
        value = call_body(function, context)
    except BaseException as error:
        _strip(error)
        context._detach()
        return Outcome(None, error, context._writes, started_at, monotonic())
    finally:
        current.reset(token)
    return Outcome(value, None, context._writes, started_at, monotonic())


def clear_callers(error: BaseException) -> None:
    """Empty the finished frames that called the body which raised `error`; its own stay."""
    frame = error.__traceback__ and error.__traceback__.tb_frame.f_back
    while frame is not None:
        try:
            frame.clear()
        except RuntimeError:
            return  # still running, and so are its callers
        frame = frame.f_back


def _strip(error: BaseException) -> None:
    """Let the traceback start at the body: users did not write the two frames above it."""
    trace = error.__traceback__
    body = trace and trace.tb_next and trace.tb_next.tb_next
    error.with_traceback(body or trace)  # unlike an assignment, no error class can refuse this
