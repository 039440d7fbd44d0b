"""What is on record for what a body raised, on whatever worker it ran."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from contract_tools import BodyError, Pool, UnpicklableError, do_nothing, return_pid

from syncflow import (
    BodyExitError,
    Context,
    Flow,
    ProcessPool,
    RemoteError,
    Step,
    StepInterrupt,
    StepResult,
    StepTimeoutError,
)


def raising(make: Callable[[], BaseException]) -> Callable[[Context], None]:
    """Return a body that raises what `make` makes."""

    def body(ctx: Context) -> None:
        raise make()

    return body


def run_one(body: Callable[[Context], Any], pool: Pool, **options: Any) -> StepResult:
    """Return the result of a flow's only step."""
    return Flow("flow").step("a", body, pool=pool, **options).run()["a"]


# --- the error -------------------------------------------------------------------------------


def test_the_very_error_is_on_record(sharing_pool: Pool) -> None:
    """An error that crosses no process is the same object in the results of step and flow."""
    error = BodyError("message")
    result = Flow("flow").step("a", raising(lambda: error), pool=sharing_pool).run()
    assert error is result.error
    assert error is result["a"].error


def test_the_very_error_of_a_fail_fast_member_is_on_record() -> None:
    """The error of the first failing `fail_fast` member is the flow's, too."""
    error = BodyError("message")
    steps = [Step("a", raising(lambda: error)), Step("b", do_nothing)]
    assert error is Flow("flow").parallel("g", steps, fail_fast=True).run().error


def test_type_and_message_survive(pool: Pool) -> None:
    """An error keeps its type and message everywhere."""
    error = run_one(raising(lambda: BodyError("message", 5)), pool).error
    assert (BodyError, ("message", 5)) == (type(error), error.args)


def test_notes_survive(pool: Pool) -> None:
    """Notes that the body added come before the one that tells where it happened."""

    def body(ctx: Context) -> None:
        error = BodyError("message")
        error.add_note("of the body")
        raise error

    assert "of the body" == run_one(body, pool).error.__notes__[0]


def test_the_chain_of_causes_survives(pool: Pool) -> None:
    """`raise ... from ...` can be followed to its end."""

    def body(ctx: Context) -> None:
        try:
            try:
                raise KeyError("first")
            except KeyError as first:
                raise ValueError("second") from first
        except ValueError as second:
            raise BodyError("third") from second

    error = run_one(body, pool).error
    chain = [error, error.__cause__, error.__cause__.__cause__]
    expected = [(BodyError, ("third",)), (ValueError, ("second",)), (KeyError, ("first",))]
    assert expected == [(type(link), link.args) for link in chain]


def test_the_context_of_an_error_survives(pool: Pool) -> None:
    """An error raised while another was handled keeps that one."""

    def body(ctx: Context) -> None:
        try:
            raise KeyError("first")
        except KeyError:
            raise BodyError("second")  # noqa: B904 - without `from` is what this is about

    error = run_one(body, pool).error
    assert (KeyError, ("first",)) == (type(error.__context__), error.__context__.args)


def fail_in_some_function(ctx: Context) -> None:
    """Raise, one level down."""
    raise BodyError("deep down")


def test_the_traceback_shows_where_it_was_raised(pool: Pool) -> None:
    """The printed error names the function that raised, also one that ran elsewhere."""
    error = run_one(lambda ctx: fail_in_some_function(ctx), pool).error  # noqa: PLW0108
    assert "in fail_in_some_function" in "".join(traceback.format_exception(error))


def test_a_note_tells_where_it_happened(pool: Pool) -> None:
    """The note names step, flow and attempt."""
    error = Flow("y").step("x", raising(BodyError), pool=pool, retries=3, retry_on=()).run().error
    assert "step 'x' of flow 'y', attempt 1 of 4" in error.__notes__


def test_the_note_counts_attempts(pool: Pool) -> None:
    """The error of the second attempt says that it is."""

    def body(ctx: Context) -> None:
        raise (KeyError if ctx.attempt == 1 else BodyError)("message")

    error = run_one(body, pool, retries=3, retry_on=KeyError).error
    assert "step 'a' of flow 'flow', attempt 2 of 4" in error.__notes__


def test_an_error_group_survives(pool: Pool) -> None:
    """A body may raise an `ExceptionGroup`."""
    error = run_one(raising(lambda: ExceptionGroup("all", [ValueError("x"), KeyError("y")])), pool)
    assert [("x",), ("y",)] == [inner.args for inner in error.error.exceptions]


def test_an_error_that_is_returned_is_a_value(pool: Pool) -> None:
    """Only what is raised is a failure."""
    result = run_one(lambda ctx: BodyError("returned"), pool)
    assert ("completed", BodyError, None) == (result.status, type(result.value), result.error)


@pytest.mark.parametrize("error", [StopIteration, RecursionError, MemoryError, StopAsyncIteration])
def test_peculiar_exceptions_are_failures_like_any_other(pool: Pool, error: type) -> None:
    """They keep their type and are retried as others are."""
    result = run_one(raising(error), pool, retries=1)
    assert ("failed", error, 2) == (result.status, type(result.error), result.attempts)


def recurse(ctx: Context) -> None:
    """Recurse for ever."""
    recurse(ctx)


def test_endless_recursion_fails_the_step(pool: Pool) -> None:
    """A real `RecursionError` is on record, and the run goes on."""
    result = Flow("flow").step("a", recurse, pool=pool).run()
    assert RecursionError is type(result.error)


# --- what is no Exception --------------------------------------------------------------------

EXITS: list[tuple[type[BaseException], tuple[Any, ...]]] = [
    (SystemExit, (3,)),
    (GeneratorExit, ()),
    (StepInterrupt, ("mine",)),
    (BaseException, ("base",)),
]


@pytest.mark.parametrize(("kind", "args"), EXITS)
def test_a_body_that_exits_has_failed(pool: Pool, kind: Any, args: tuple[Any, ...]) -> None:
    """The error is a `BodyExitError` whose cause is what was raised."""
    result = run_one(raising(lambda: kind(*args)), pool)
    assert ("failed", BodyExitError) == (result.status, type(result.error))
    assert (kind, args) == (type(result.error.__cause__), result.error.__cause__.args)


def test_a_keyboard_interrupt_on_a_worker_is_a_failure(worker_pool: Pool) -> None:
    """Raised by a body on a worker, it is no Ctrl-C: `run` returns."""
    result = run_one(raising(KeyboardInterrupt), worker_pool)
    assert (BodyExitError, KeyboardInterrupt) == (
        type(result.error), type(result.error.__cause__),
    )  # fmt: skip


@pytest.mark.parametrize("exit_with", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_exit_does_not_end_the_worker(worker_pool: Pool, exit_with: type[BaseException]) -> None:
    """The next step runs on the same worker."""
    steps = [Step("a", raising(exit_with)), Step("b", do_nothing)]
    flow = Flow("flow").parallel("g", steps, pool=worker_pool)
    assert "completed" == flow.step("c", do_nothing, pool=worker_pool).run()["c"].status


@pytest.mark.xdist_group("process")
@pytest.mark.parametrize("exit_with", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_exit_does_not_end_the_process(exit_with: type[BaseException]) -> None:
    """A worker process serves on after a body that wanted to leave."""
    with ProcessPool(1) as pool:
        flow = Flow("flow").step("before", return_pid, pool=pool)
        flow.parallel("g", [Step("a", raising(exit_with)), Step("b", do_nothing)], pool=pool)
        values = flow.step("after", return_pid, pool=pool).run().values
    assert values["before"] == values["after"]


@pytest.mark.parametrize(
    "retry_on", [Exception, BodyExitError, lambda error: True, (ValueError, GeneratorExit)]
)
def test_an_exit_is_not_retried(pool: Pool, retry_on: Any) -> None:
    """Only naming the very type that was raised makes it one to retry."""
    result = run_one(raising(SystemExit), pool, retries=2, retry_on=retry_on)
    assert 1 == result.attempts


@pytest.mark.parametrize("retry_on", [SystemExit, (ValueError, SystemExit)])
def test_an_exit_is_retried_when_named(pool: Pool, retry_on: Any) -> None:
    """`retry_on=SystemExit` retries it."""
    result = run_one(raising(SystemExit), pool, retries=2, retry_on=retry_on)
    assert 3 == result.attempts


# --- across processes ------------------------------------------------------------------------


@pytest.mark.xdist_group("process")
def test_an_error_that_cannot_be_rebuilt_is_a_remote_error() -> None:
    """It names the original type, message and traceback."""

    def body_that_raises(ctx: Context) -> None:
        raise UnpicklableError("first", "second")

    error = run_one(body_that_raises, "process").error
    assert isinstance(error, RemoteError)
    assert "UnpicklableError" in error.type_name
    assert "first" in str(error)
    assert "body_that_raises" in error.traceback


@pytest.mark.xdist_group("process")
def test_a_cause_that_cannot_be_rebuilt_is_a_remote_error() -> None:
    """The rest of the chain is what it was."""

    def body(ctx: Context) -> None:
        raise BodyError("outer") from UnpicklableError("first", "second")

    error = run_one(body, "process").error
    assert (BodyError, RemoteError) == (type(error), type(error.__cause__))


class FromWorker(Exception):
    """An error with fields."""

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code

    def __reduce__(self) -> Any:
        return FromWorker, (self.code,)


@pytest.mark.xdist_group("process")
def test_an_error_keeps_its_fields() -> None:
    """What an error carries comes along."""
    error = run_one(raising(lambda: FromWorker(7)), "process").error
    assert (FromWorker, 7) == (type(error), error.code)


@pytest.mark.xdist_group("process")
def test_errors_of_syncflow_keep_their_fields() -> None:
    """A body may raise one of the library's own errors."""
    error = run_one(raising(lambda: StepTimeoutError("x", 1.5, 2)), "process").error
    assert (StepTimeoutError, "x", 1.5, 2) == (
        type(error), error.step_name, error.timeout, error.attempt,
    )  # fmt: skip


@pytest.mark.xdist_group("process")
def test_an_error_of_a_process_does_not_touch_its_siblings() -> None:
    """Exactly the step that raised has failed."""
    steps = [Step("bad", raising(BodyError)), Step("exit", raising(SystemExit))]
    steps += [Step(f"good-{number}", return_pid) for number in range(4)]
    result = Flow("flow").parallel("g", steps, pool="process").run()
    assert ["failed"] * 2 + ["completed"] * 4 == [step.status for step in result.steps]
    assert os.getpid() not in result.values.values()
