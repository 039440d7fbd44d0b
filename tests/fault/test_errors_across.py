"""Errors keep what they are and say across processes; if not, a `RemoteError` says it."""

import traceback
from functools import partial
from pathlib import Path
from typing import Any

import payload_bodies as payloads
import pytest
from fault_tools import survive

from syncflow import Flow, RemoteError, Step

pytestmark = pytest.mark.xdist_group("process")

#: Body, name of the original type, its message.
NOT_REBUILT = {
    "cannot-be-pickled": (payloads.raise_unpicklable, "Unpicklable", "a message"),
    "raises-at-unpickling": (payloads.raise_at_unpickling, "RaisesAtUnpickling", "a message"),
    "exits-at-unpickling": (payloads.exit_at_unpickling, "ExitsAtUnpickling", "a message"),
    "is-no-error": (payloads.become_something_else, "BecomesSomethingElse", "a message"),
    "unknown-class": (payloads.raise_unknown_class, "Unknown", "a message"),
}


@pytest.mark.parametrize(("body", "name", "message"), NOT_REBUILT.values(), ids=NOT_REBUILT)
def test_an_error_that_cannot_be_rebuilt(
    tmp_path: Path, any_process_pool: Any, body: Any, name: str, message: str
) -> None:
    """A `RemoteError` names the original type, message and traceback."""
    error = survive(tmp_path, any_process_pool, body).error
    assert isinstance(error, RemoteError)
    assert (name, message) == (error.type_name.rpartition(".")[2], error.message)
    assert f"in {body.__name__}" in error.traceback


#: Body, name of the type, message.
REBUILT = {
    "local-class": (payloads.raise_local_class, "Local", "a message"),
    "group": (payloads.raise_group, "ExceptionGroup", "a message (2 sub-exceptions)"),
    "needs-arguments": (payloads.raise_needs_arguments, "NeedsArguments", "code 5: a message"),
    "changes-its-message": (payloads.raise_changes_its_message, "ChangesItsMessage", "code 5"),
    "circle": (payloads.raise_circle, "ValueError", "a message"),
    "broken-notes": (payloads.raise_with_broken_notes, "ValueError", "a message"),
}


@pytest.mark.parametrize(("body", "name", "message"), REBUILT.values(), ids=REBUILT)
def test_an_error_that_can_be_rebuilt(
    tmp_path: Path, any_process_pool: Any, body: Any, name: str, message: str
) -> None:
    """It arrives as what it was, whatever its `__init__` would make of its args."""
    error = survive(tmp_path, any_process_pool, body).error
    assert (name, message) == (type(error).__name__, str(error))


def test_an_error_need_not_look_the_same_everywhere(any_process_pool: Any) -> None:
    """It is what it was, and is retried as such, though sets and addresses are shown otherwise."""
    body = payloads.raise_shown_otherwise_elsewhere
    step = Step("a", body, retries=1, retry_on=ValueError)
    result = Flow("f").parallel("g", [step], pool=any_process_pool).run()["a"]
    assert isinstance(result.error, ValueError)
    assert (2, {"alpha", "beta", "gamma", "delta"}) == (result.attempts, result.error.args[0])


@pytest.mark.parametrize("body", [payloads.raise_broken_str, payloads.raise_exiting_str])
def test_an_error_that_cannot_be_shown(any_pool: Any, body: Any) -> None:
    """A `__str__` that raises, whatever it raises, fails nothing but the step."""
    result = Flow("broken").step("fault", body, pool=any_pool).run()
    name = getattr(result.error, "type_name", type(result.error).__name__)
    assert name in {"BrokenStr", "ExitingStr"}
    assert f"in {body.__name__}" in "".join(traceback.format_tb(result.error.__traceback__)) + (
        "".join(result.error.__notes__)
    )


@pytest.mark.parametrize("body", [payloads.raise_frozen, payloads.raise_frozen_from_frozen])
def test_an_error_that_lets_nobody_set_an_attribute(any_pool: Any, body: Any) -> None:
    """A frozen error fails nothing but the step, although no note can be added to it."""
    result = Flow("frozen").step("fault", body, pool=any_pool).run(timeout=10)
    error = result.error
    name = error.type_name if isinstance(error, RemoteError) else type(error).__name__
    assert ("failed", "Frozen", 1) == (result.status, name.split(".")[-1], result["fault"].attempts)


def test_notes_arrive_with_the_error(tmp_path: Path, any_process_pool: Any) -> None:
    """In the order in which they were added, before what is added on the way."""
    error = survive(tmp_path, any_process_pool, payloads.raise_noted).error
    assert ["first note", "second note"] == getattr(error, "__notes__", [])[:2]
    assert "step 'fault' of flow 'faulty', attempt 1 of 1" in error.__notes__


def test_the_chain_of_causes_arrives(tmp_path: Path, any_process_pool: Any) -> None:
    """Cause and context are what they were in the worker."""
    error = survive(tmp_path, any_process_pool, payloads.raise_chain).error
    assert isinstance(error, ValueError)
    cause = error.__cause__
    assert (FileNotFoundError, (2, "in between")) == (type(cause), cause.args)
    assert (KeyError, ("innermost",)) == (type(cause.__context__), cause.__context__.args)


def test_a_hidden_context_stays_hidden(tmp_path: Path, any_process_pool: Any) -> None:
    """`raise ... from None` means the same across processes."""
    error = survive(tmp_path, any_process_pool, payloads.raise_from_none).error
    assert (None, True) == (error.__cause__, error.__suppress_context__)


def test_the_members_of_a_group_arrive(tmp_path: Path, any_process_pool: Any) -> None:
    """With types, messages and notes."""
    error = survive(tmp_path, any_process_pool, payloads.raise_group).error
    assert isinstance(error, ExceptionGroup)
    first, second = error.exceptions
    assert [ValueError, FileNotFoundError] == [type(first), type(second)]
    assert ["noted"] == first.__notes__


def test_the_remote_traceback_is_printed(
    tmp_path: Path, any_process_pool: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """`traceback.print_exception` shows the lines of the worker."""
    body = partial(payloads.raise_through_frames, tmp_path)
    traceback.print_exception(survive(tmp_path, any_process_pool, body).error)
    assert "in a_telling_name" in capsys.readouterr().err
