"""Every error survives pickle and copy with its type, message, fields and notes."""

from __future__ import annotations

import copy
import inspect
import pickle
from types import SimpleNamespace

import pytest

from syncflow import errors

RESULT = SimpleNamespace(name="checkout", error=ValueError("boom"))

#: One of each, and one that holds the optional fields where there are some.
EXAMPLES = [
    errors.SyncflowError("message"),
    errors.DefinitionError("message"),
    errors.DefinitionTypeError("message"),
    errors.DuplicateStepError("message"),
    errors.InputValidationError("message"),
    errors.StepTimeoutError("fetch", 2.0, 1),
    errors.StepTimeoutError("fetch", 2.0, 0),
    errors.StepCancelledError("fetch", "the user left"),
    errors.StepCancelledError("fetch", None),
    errors.BodyExitError("message"),
    errors.SerializationError("the function of step 'fetch'", "it holds a lock"),
    errors.WorkerCrashedError(4711, 7),
    errors.WorkerCrashedError(4711, -11, "SIGSEGV", "fetch", 2),
    errors.RemoteError("KeyError", "'sku'", "Traceback ..."),
    errors.StateConflictError("sku", ("a", "b")),
    errors.GroupFailedError("both failed", [ValueError("a"), KeyError("b")]),
    errors.FlowFailedError(RESULT),
    errors.RollbackIncompleteError(RESULT, [OSError("gone")]),
    errors.FlowCancelledError("the user left"),
    errors.FlowCancelledError(None, RESULT),
    errors.FlowTimeoutError(5.0),
    errors.PoolClosedError("message"),
    errors.StepInterrupt(),
    errors.StepInterrupt("time is up"),
]


class OwnTimeoutError(errors.StepTimeoutError):
    """A user's subclass whose arguments are not its parent's."""

    def __init__(self, url: str) -> None:
        super().__init__("fetch", 1.5, 3)
        self.url = url


class OwnGroupError(errors.GroupFailedError):
    """A user's subclass of a group."""


class OwnInterrupt(errors.StepInterrupt):
    """A user's subclass that demands two arguments."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)
        self.second = second


SUBCLASSED = [
    OwnTimeoutError("http://localhost"),
    OwnGroupError("both failed", [ValueError("a")]),
    OwnInterrupt("a", "b"),
]


def described(error: BaseException) -> tuple[object, ...]:
    """Return all that must survive; reprs stand for errors within, which have no equality."""
    fields = {name: repr(value) for name, value in vars(error).items()}
    members = repr(getattr(error, "exceptions", ()))
    return type(error), str(error), repr(error.args), fields, members


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("error", EXAMPLES + SUBCLASSED, ids=repr)
def test_pickle_keeps_everything(error: BaseException, protocol: int) -> None:
    """A pickled error has the same type, message, fields and notes."""
    noted = copy.copy(error)
    noted.__notes__ = ["step 'fetch' of flow 'checkout', attempt 1 of 1"]
    assert described(noted) == described(pickle.loads(pickle.dumps(noted, protocol)))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("error", EXAMPLES + SUBCLASSED, ids=repr)
def test_copy_keeps_everything(error: BaseException, copied) -> None:
    """A copied error has the same type, message, fields and notes."""
    noted = copy.copy(error)
    noted.__notes__ = ["a note"]
    twin = copied(noted)
    assert twin is not noted
    assert described(noted) == described(twin)


def test_every_error_has_an_example() -> None:
    """No class of the module is left out of this test."""
    classes = {cls for _, cls in inspect.getmembers(errors, inspect.isclass)}
    ours = {cls for cls in classes if cls.__module__ == errors.__name__}
    assert ours == {type(error) for error in EXAMPLES}


def test_all_lists_every_error_but_the_detail() -> None:
    """What is public is what the tree in the contract holds."""
    names = {type(error).__name__ for error in EXAMPLES} - {"DefinitionTypeError"}
    assert sorted(names) == sorted(errors.__all__)


@pytest.mark.parametrize(
    ("cls", "base"),
    [
        (errors.DefinitionError, ValueError),
        (errors.DefinitionTypeError, TypeError),
        (errors.DefinitionTypeError, errors.DefinitionError),
        (errors.DuplicateStepError, errors.DefinitionError),
        (errors.StepTimeoutError, TimeoutError),
        (errors.FlowTimeoutError, TimeoutError),
        (errors.GroupFailedError, ExceptionGroup),
        (errors.RollbackIncompleteError, errors.FlowFailedError),
        (errors.PoolClosedError, RuntimeError),
    ],
)
def test_an_error_is_what_a_python_user_catches(cls: type, base: type) -> None:
    """Each error is caught as the built-in it stands for, too."""
    assert issubclass(cls, base)
    assert issubclass(cls, errors.SyncflowError)


def test_an_interrupt_is_no_exception() -> None:
    """``except Exception`` in a body does not swallow an interrupt."""
    assert not issubclass(errors.StepInterrupt, Exception)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("step 'x' timed out after 2.0 s (attempt 1)", errors.StepTimeoutError("x", 2.0, 1)),
        ("step 'x' timed out after 2.0 s before it started", errors.StepTimeoutError("x", 2.0, 0)),
        ("step 'x' was cancelled: why", errors.StepCancelledError("x", "why")),
        ("cannot serialise the input: why", errors.SerializationError("the input", "why")),
        ("worker process 7 died with exit code 3", errors.WorkerCrashedError(7, 3)),
        (
            "worker process 7 was killed by SIGKILL while it ran step 'x' (attempt 2)",
            errors.WorkerCrashedError(7, -9, "SIGKILL", "x", 2),
        ),
        ("KeyError: 'sku'", errors.RemoteError("KeyError", "'sku'", "")),
        (
            "steps 'a' and 'b' both wrote the state key 'k'",
            errors.StateConflictError("k", ("a", "b")),
        ),
        ("flow 'checkout' failed: ValueError: boom", errors.FlowFailedError(RESULT)),
        (
            "flow 'checkout' failed: ValueError: boom; the rollback is incomplete (OSError: gone)",
            errors.RollbackIncompleteError(RESULT, [OSError("gone")]),
        ),
        (
            "flow 'checkout' failed: ValueError: boom; the rollback is incomplete",
            errors.RollbackIncompleteError(RESULT, []),
        ),
        ("flow 'checkout' was cancelled: why", errors.FlowCancelledError("why", RESULT)),
        ("the flow timed out after 5.0 s", errors.FlowTimeoutError(5.0)),
    ],
)
def test_messages_say_what_happened(message: str, error: Exception) -> None:
    """A message holds the fields that a reader of a log needs."""
    assert message == str(error)


def test_a_broken_str_does_not_hide_the_failure() -> None:
    """A flow's error is made even when the message of its cause cannot be."""

    class BrokenError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    error = errors.FlowFailedError(SimpleNamespace(name="checkout", error=BrokenError()))
    assert "BrokenError" in str(error)


def test_splitting_a_group_keeps_its_type_and_notes() -> None:
    """``except*`` and ``split`` hand out groups of the same type."""
    group = errors.GroupFailedError("both failed", [ValueError("a"), KeyError("b")])
    group.add_note("a note")
    matched, rest = group.split(ValueError)
    assert [errors.GroupFailedError] * 2 == [type(matched), type(rest)]
    assert ["a note"] == matched.__notes__
