"""Say what went wrong: the error to put on record for a body that did not return."""

from __future__ import annotations

from typing import NamedTuple

from syncflow.errors import (
    BodyExitError,
    StepCancelledError,
    StepInterrupt,
    StepTimeoutError,
    WorkerCrashedError,
    annotate,
)
from syncflow.run.attempt import Outcome
from syncflow.run.group import EXPIRE
from syncflow.run.jobs import Attempt

__all__ = ["Terms", "failure_of", "noted", "stopped", "timed_out"]


class Terms(NamedTuple):
    """The time limits that a group is driven under. Deadlines are monotonic instants."""

    #: Seconds for the whole group.
    timeout: float | None
    group_deadline: float | None
    run_deadline: float | None
    #: It is the compensation of a step.
    compensation: bool

    @property
    def limit(self) -> float | None:
        """The nearer of both deadlines."""
        group, run = self.group_deadline, self.run_deadline
        if run is None:
            return group
        return run if group is None or run < group else group


def failure_of(attempt: Attempt, outcome: Outcome, terms: Terms, reason: str | None) -> Exception:
    """Return the error to put on record; a `StepCancelledError` when the body was asked to stop.

    Args:
        attempt: Has ended, with an error.
        outcome: Its own.
        terms: What it was driven under.
        reason: Why bodies were asked to stop, if they were.
    """
    raised, name = outcome.error, attempt.context.step_name
    assert raised is not None
    crashed_by_us = attempt.killed and isinstance(raised, WorkerCrashedError)
    if isinstance(raised, StepInterrupt) or crashed_by_us:
        if attempt.stopping is EXPIRE or outcome.overdue:
            return _because(raised, timed_out(attempt, terms))
        if attempt.stopping is not None or attempt.context._asked:
            return stopped(raised, name, reason)
        # The context raised it by itself when it saw a deadline pass; or the worker had to be
        # killed, because its body's time was up.
        if crashed_by_us or _overdue(attempt, outcome, terms):
            return _because(raised, timed_out(attempt, terms))
        if terms.run_deadline is not None and outcome.ended_at >= terms.run_deadline:
            return stopped(raised, name, "the flow timed out")
    if isinstance(raised, Exception):
        return raised
    error = BodyExitError(f"step {name!r} raised {type(raised).__name__}")
    error.__cause__ = raised
    return error


def stopped(raised: BaseException, name: str, reason: str | None) -> Exception:
    """Return the error of a step whose body has raised this because it was stopped."""
    return _because(raised, StepCancelledError(name, reason))


def _because(raised: BaseException, error: Exception) -> Exception:
    """Keep the cause that the body gave: of a flow, what became of it."""
    error.__cause__ = raised.__cause__
    return error


def _overdue(attempt: Attempt, outcome: Outcome, terms: Terms) -> bool:
    """Tell whether the attempt's or the group's time was up when the body ended."""
    if attempt.step.timeout is not None and _own_time_is_up(attempt, outcome):
        return True
    return terms.group_deadline is not None and outcome.ended_at >= terms.group_deadline


def _own_time_is_up(attempt: Attempt, outcome: Outcome | None) -> bool:
    """Tell whether the body had its own timeout when it ended; it has when it has not ended."""
    timeout = attempt.step.timeout
    if outcome is None or outcome.started_at is None or timeout is None:
        return True
    return outcome.ended_at >= outcome.started_at + timeout


def timed_out(attempt: Attempt, terms: Terms) -> Exception:
    """Return the error of an attempt whose time, or whose group's time, is up."""
    timeout, outcome = attempt.step.timeout, attempt.outcome
    if timeout is None or attempt.stopping is EXPIRE or not _own_time_is_up(attempt, outcome):
        timeout = terms.timeout if terms.timeout is not None else timeout
    assert timeout is not None
    context = attempt.context
    number = 0 if attempt.never_ran else context.attempt
    return noted(attempt, StepTimeoutError(context.step_name, timeout, number), terms)


def noted(attempt: Attempt, error: Exception, terms: Terms) -> Exception:
    """Add to the error where it happened."""
    context = attempt.context
    note = (
        f"step {context.step_name!r} of flow {context.flow_name!r}, "
        f"attempt {context.attempt} of {attempt.step.retries + 1}"
    )
    if context._index is not None:
        note = f"item {context._index} of {note}"
    if terms.compensation:
        note = f"compensation of {note}"
    annotate(error, note)
    return error
