"""Every error that syncflow raises or puts on record.

::

    SyncflowError(Exception)
    ├── DefinitionError(ValueError)          the flow as written cannot work
    │   ├── DefinitionTypeError(TypeError)   ... because of a wrong type or an unknown option
    │   └── DuplicateStepError               ... because a name is taken
    ├── InputValidationError                 validate rejected the input
    ├── StepTimeoutError(TimeoutError)       .step_name .timeout .attempt
    ├── StepCancelledError                   .step_name .reason
    ├── BodyExitError                        a body raised SystemExit or the like: its __cause__
    ├── SerializationError                   .what .reason
    ├── WorkerCrashedError(BrokenExecutor)   .pid .exitcode .signal .step_name .attempt
    ├── RemoteError                          .type_name .message .traceback
    ├── StateConflictError                   .key .steps
    ├── GroupFailedError(ExceptionGroup)     .message .exceptions
    ├── FlowFailedError                      .result
    │   └── RollbackIncompleteError          .compensation_errors
    ├── FlowCancelledError                   .reason .result
    ├── FlowTimeoutError(TimeoutError)       .timeout
    └── PoolClosedError(RuntimeError)        submit after shutdown

    StepInterrupt(BaseException)             raised inside a body that is asked to stop

All of them survive pickling and copying with their message, fields and notes, and so do their
subclasses, whatever arguments their ``__init__`` takes: they are rebuilt without calling it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from typing import Any

__all__ = [
    "BodyExitError",
    "DefinitionError",
    "DuplicateStepError",
    "FlowCancelledError",
    "FlowFailedError",
    "FlowTimeoutError",
    "GroupFailedError",
    "InputValidationError",
    "PoolClosedError",
    "RemoteError",
    "RollbackIncompleteError",
    "SerializationError",
    "StateConflictError",
    "StepCancelledError",
    "StepInterrupt",
    "StepTimeoutError",
    "SyncflowError",
    "WorkerCrashedError",
]

_Reduced = tuple[Callable[..., BaseException], tuple[Any, ...], dict[str, Any]]


def rebuild(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """Make an instance without calling its ``__init__``; the fields follow as state."""
    error = cls.__new__(cls, *args)
    # OSError.__new__ leaves args to __init__ in classes that have their own, as ours do.
    error.args = args
    return error


def _reduce(error: BaseException) -> _Reduced:
    """Take an error apart for pickle and copy; fields and notes live in its ``__dict__``."""
    return rebuild, (type(error), error.args), error.__dict__


def annotate(error: BaseException, note: str) -> None:
    """Add a note, once; do without when the error's class takes no attributes."""
    with suppress(BaseException):  # its attributes may be properties that raise anything
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)


def text_of(value: object, convert: Callable[[Any], str] = str) -> str:
    """Return `str` (or `repr`) of anything, even of an object whose own raises."""
    try:
        return str.__str__(convert(value))
    except BaseException:  # noqa: BLE001 - a user's __str__ may raise anything
        return f"<{type(value).__name__} that cannot be shown>"


def describe(error: object) -> str:
    """Return ``type: message``, also of an error whose ``__str__`` is broken."""
    name, message = type(error).__name__, text_of(error)
    return f"{name}: {message}" if message else name


class SyncflowError(Exception):
    """Base of every error of syncflow."""

    def __reduce__(self) -> _Reduced:
        return _reduce(self)


class DefinitionError(SyncflowError, ValueError):
    """The flow as written cannot work; raised at the call that defines it."""


class DefinitionTypeError(DefinitionError, TypeError):
    """An argument of a definition has the wrong type, or an option is unknown.

    It is a `TypeError`, as Python users expect of such mistakes, and a `DefinitionError` too, so
    that one ``except DefinitionError`` catches every bad definition.
    """


class DuplicateStepError(DefinitionError):
    """A step or group of that name is in the flow already."""


class InputValidationError(SyncflowError):
    """``validate`` rejected the input; ``__cause__`` is what it raised."""


class StepTimeoutError(SyncflowError, TimeoutError):
    """An attempt did not end within its time limit.

    Args:
        step_name: The step.
        timeout: The limit that was exceeded, in seconds: the step's, or that of its group.
        attempt: The attempt, from 1; 0 when the step never started.
    """

    def __init__(self, step_name: str, timeout: float, attempt: int) -> None:
        when = f"(attempt {attempt})" if attempt else "before it started"
        super().__init__(f"step {step_name!r} timed out after {timeout} s {when}")
        self.step_name = step_name
        self.timeout = timeout
        self.attempt = attempt


class StepCancelledError(SyncflowError):
    """On record for a step that was stopped, or never started, because of something else.

    Args:
        step_name: The step.
        reason: Why, in words; `None` when nobody said.
    """

    def __init__(self, step_name: str, reason: str | None) -> None:
        super().__init__(f"step {step_name!r} was cancelled" + (f": {reason}" if reason else ""))
        self.step_name = step_name
        self.reason = reason


class BodyExitError(SyncflowError):
    """A body raised something that is no `Exception`; ``__cause__`` is what it raised.

    It is not retried unless ``retry_on`` names the type of what was raised.
    """


class SerializationError(SyncflowError):
    """Something that had to cross a process border could not. It is never retried.

    Args:
        what: What it was, such as ``the function of step 'x'``.
        reason: Why it could not, in words.
    """

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"cannot serialise {what}: {reason}")
        self.what = what
        self.reason = reason


class WorkerCrashedError(SyncflowError, BrokenExecutor):
    """A worker process died while it ran a body; the pool lives on.

    Args:
        pid: The process.
        exitcode: As in `multiprocessing.Process.exitcode`; `None` when it is not known.
        signal: The name of the signal that ended it, such as ``SIGSEGV``, else `None`.
        step_name: The step it was running; `None` when the pool is used alone.
        attempt: The attempt it was running, from 1.
    """

    def __init__(
        self,
        pid: int | None,
        exitcode: int | None,
        signal: str | None = None,
        step_name: str | None = None,
        attempt: int | None = None,
    ) -> None:
        worker = "a worker process" if pid is None else f"worker process {pid}"
        if signal is not None:
            end = f"was killed by {signal}"
        else:
            end = "died" if exitcode is None else f"died with exit code {exitcode}"
        body = "" if step_name is None else f" while it ran step {step_name!r}"
        if body and attempt is not None:
            body += f" (attempt {attempt})"
        super().__init__(f"{worker} {end}{body}")
        self.pid = pid
        self.exitcode = exitcode
        self.signal = signal
        self.step_name = step_name
        self.attempt = attempt


class RemoteError(SyncflowError):
    """Stands for an error of a worker process that could not be rebuilt in the parent.

    Args:
        type_name: Name of the original type.
        message: The original message.
        traceback: The original traceback, as text.
    """

    def __init__(self, type_name: str, message: str, traceback: str) -> None:
        super().__init__(f"{type_name}: {message}")
        self.type_name = type_name
        self.message = message
        self.traceback = traceback


class StateConflictError(SyncflowError):
    """Two completed members of one group wrote the same key of the state.

    Args:
        key: The key.
        steps: The names of the two steps.
    """

    def __init__(self, key: str, steps: tuple[str, str]) -> None:
        first, second = steps
        super().__init__(f"steps {first!r} and {second!r} both wrote the state key {key!r}")
        self.key = key
        self.steps = (first, second)


class GroupFailedError(SyncflowError, ExceptionGroup[Exception]):
    """Too few members of a group completed; ``exceptions`` are theirs, in declaration order.

    Of a map: those of its items, in their order. A group of one fails with its member's own error,
    and a ``fail_fast`` one with that of the member that failed first.
    """

    def derive(self, errors: Sequence[Exception], /) -> GroupFailedError:  # type: ignore[override]
        """Keep the type in ``split`` and ``subgroup`` (and so in ``except*``)."""
        return GroupFailedError(self.message, errors)


class FlowFailedError(SyncflowError):
    """Raised by ``raise_for_status`` of a failed flow; ``__cause__`` is the flow's error.

    Args:
        result: The `FlowResult`.
    """

    def __init__(self, result: Any) -> None:
        cause = "" if result.error is None else f": {describe(result.error)}"
        super().__init__(f"flow {result.name!r} failed{cause}")
        self.result = result


class RollbackIncompleteError(FlowFailedError):
    """The flow failed, and not everything that it had done was undone.

    Args:
        result: The `FlowResult`.
        compensation_errors: What the failed compensations raised; empty when the others were
            skipped or are still owed.
    """

    def __init__(self, result: Any, compensation_errors: Iterable[BaseException]) -> None:
        super().__init__(result)
        self.compensation_errors = tuple(compensation_errors)
        failed = "; ".join(map(describe, self.compensation_errors))
        rollback = "the rollback is incomplete" + (f" ({failed})" if failed else "")
        self.args = (f"{self.args[0]}; {rollback}",)


class FlowCancelledError(SyncflowError):
    """The flow's token was cancelled.

    Args:
        reason: What ``token.cancel`` was told; `None` when nothing.
        result: The `FlowResult`; `None` while the flow is not yet done.
    """

    def __init__(self, reason: str | None, result: Any = None) -> None:
        flow = "the flow" if result is None else f"flow {result.name!r}"
        super().__init__(f"{flow} was cancelled" + (f": {reason}" if reason else ""))
        self.reason = reason
        self.result = result


class FlowTimeoutError(SyncflowError, TimeoutError):
    """The flow did not end within the time limit of its run.

    Args:
        timeout: The limit, in seconds.
    """

    def __init__(self, timeout: float) -> None:
        super().__init__(f"the flow timed out after {timeout} s")
        self.timeout = timeout


class PoolClosedError(SyncflowError, RuntimeError):
    """Work was submitted to a pool that is shut down."""


class StepInterrupt(BaseException):
    """Raised inside a body that is asked to stop: clean up, and don't catch it.

    It is no `Exception`, so that ``except Exception`` in a body does not swallow it.

    Args:
        message: Why; may be left out.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(*([message] if message else []))

    def __reduce__(self) -> _Reduced:
        return _reduce(self)
