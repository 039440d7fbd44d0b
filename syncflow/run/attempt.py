"""One attempt of one body, as executed on whatever worker runs it: value or error, times, writes.

Nothing here knows about pools, retries or results. The same `perform` runs inline, on a thread and
inside a worker process; what it returns is all that crosses back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from sys import getrefcount
from types import CodeType, FrameType, TracebackType
from typing import Any, Final, NamedTuple, TypeVar

from syncflow import timing
from syncflow.context import Context, current
from syncflow.run.around import Around

__all__ = [
    "AtHand",
    "Outcome",
    "Ran",
    "call_body",
    "clear_callers",
    "inside_body",
    "perform",
    "perform_each",
    "protected",
    "strip",
]

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
        return cls(None, error, {}, None, timing.monotonic())


def call_body(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the body. The frame of this function is the border that `inside_body` looks for."""
    return function(*arguments)


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
    *arguments: Any,
) -> Outcome:
    """Run the body to its end in this thread and return its outcome. Never raises.

    Args:
        function: The body; called with the context and `arguments`.
        context: The attempt's context; its deadline is brought forward to the timeout.
        timeout: Seconds from now, or `None`.
        on_start: Called with the monotonic instant at which the body starts, just before it does.
        arguments: Of a map, the item.
    """
    token = current.set(context)
    leave = None if context._around is None else context._around.enter()
    started_at = timing.monotonic()
    if timeout is not None:
        context._limit(started_at + timeout)
    if on_start is not None:
        on_start(started_at)
    try:
        value = call_body(function, context, *arguments)
    except BaseException as error:
        _strip(error)
        context._detach()
        return Outcome(None, error, context._writes, started_at, timing.monotonic())
    finally:
        if leave is not None:
            leave()
        current.reset(token)
    return Outcome(value, None, context._writes, started_at, timing.monotonic())


class AtHand:
    """The body that is running, as whoever may interrupt it sees it."""

    __slots__ = ("asked", "context", "deadline", "overdue")

    def __init__(self, context: Context | None = None) -> None:
        self.context = context
        #: It is asked to stop, and no other body is to start.
        self.asked = False
        #: Monotonic instant at which its time is up.
        self.deadline: float | None = None
        #: That has interrupted it.
        self.overdue = False


class Ran(NamedTuple):
    """What the bodies of a chunk came to. Plain values: crosses threads and processes."""

    #: What each body that was begun has returned; `None` for those in `special`.
    values: list[Any]
    #: The outcomes, by position, that are more than a value.
    special: dict[int, Outcome]
    #: Monotonic instants.
    started_at: float
    ended_at: float


def perform_each(
    function: Callable[..., Any],
    items: Sequence[Any],
    context_of: Callable[[int], Context],
    timeout: float | None,
    at: AtHand,
    *,
    mark: Callable[[int], None] = lambda position: None,
    arm: Callable[[float], None] = lambda seconds: None,
    until_failure: bool = False,
    around: Around | None = None,
) -> Ran:
    """Run the body of one item after the other in this thread. Never raises.

    A context that nobody has kept, nor used in a way that lasts, serves the next item, too: making
    one costs as much as all the rest. (Who copies the context variables in a body and asks for the
    current context after that body has ended may get that of a later item: it is valid while its
    body runs.)

    Args:
        function: The body; called with a context and an item.
        items: One body for each, until `at` is asked to stop.
        context_of: Makes the context of the item at a position.
        timeout: Seconds for each body, or `None`.
        at: Is told what is at hand.
        mark: Called with the position of each item before its body starts.
        arm: Called with the timeout when it has to be watched anew.
        until_failure: Stop after a body that did not complete.
        around: What all of them run in.
    """
    values: list[Any] = []
    special: dict[int, Outcome] = {}
    context: Context | None = None
    alone = 0
    limit = None
    token = current.set(None)  # type: ignore[arg-type]  # set to a context before each body
    watched = failed = False
    leave = None if around is None else around.enter()
    started_at = now = timing.monotonic()
    for position, item in enumerate(items):
        if at.asked or (until_failure and failed):
            break
        if context is None or getrefcount(context) > alone:
            context = at.context = context_of(position)
            if at.asked:  # by another thread, which had no context to ask
                context._ask()  # type: ignore[unreachable]
            current.set(context)
            limit, alone = context._deadline, getrefcount(context)
        else:
            context._index += 1  # type: ignore[operator]  # of items in a row
        if timeout is not None:
            now = timing.monotonic()
            at.deadline, context._deadline = now + timeout, limit
            context._limit(at.deadline)
            if not watched:
                watched = True
                arm(timeout)
        mark(position)
        try:
            value = call_body(function, context, item)
        except BaseException as error:
            _strip(error)
            context._detach()
            failed = True
            special[position] = Outcome(
                None, error, context._writes, now, timing.monotonic(), overdue=at.overdue
            )
        else:
            if not (at.overdue or context._interrupted or context._writes):
                values.append(value)
                continue
            failed = failed or at.overdue
            special[position] = Outcome(
                value, None, context._writes, now, timing.monotonic(), overdue=at.overdue
            )
        # Off the normal way: nothing of this item may reach the next.
        context = at.context = None
        at.overdue = watched = False
        values.append(None)
    at.context = at.deadline = None
    if leave is not None:
        leave()
    current.reset(token)
    try:
        return Ran(values, special, started_at, timing.monotonic())
    finally:
        # The frames of failed bodies lead here: hold nothing that leads to their errors.
        value = item = context = None
        del items, context_of, at, mark, arm, values, special


def clear_callers(error: BaseException) -> None:
    """Empty the finished frames that called the body which raised `error`; its own stay."""
    frame = error.__traceback__ and error.__traceback__.tb_frame.f_back
    while frame is not None:
        try:
            frame.clear()
        except RuntimeError:
            return  # still running, and so are its callers
        frame = frame.f_back


def strip(error: BaseException) -> TracebackType | None:
    """Return the traceback from the body on: users did not write the frames above it.

    `None` when no frame of a user's is in it.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code is not _BORDER:
        trace = trace.tb_next
    return trace and trace.tb_next


def _strip(error: BaseException) -> None:
    """Let the traceback start at the body, if it has one."""
    # Unlike an assignment, no error class can refuse this.
    error.with_traceback(strip(error) or error.__traceback__)
