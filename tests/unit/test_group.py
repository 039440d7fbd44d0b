"""How a group starts, retries, stops and settles its members: decisions, told and answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from syncflow.definition import Step
from syncflow.errors import (
    BodyExitError,
    GroupFailedError,
    SerializationError,
    StepCancelledError,
    StepTimeoutError,
)
from syncflow.result import StepStatus
from syncflow.run.group import Group, InvalidEvent, Lane, Order, Verb

COMPLETED, FAILED, CANCELLED = StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.CANCELLED

#: Seconds of a body that is not tiny.
LONG = 1.0

#: The members of every group here.
A, B, C, D = range(4)


def body(ctx: object) -> None:
    """Do nothing."""


def steps(count: int, **options: Any) -> list[Step]:
    """Return steps named a, b, c and so on."""
    return [Step(name, body, **options) for name in "abcdefgh"[:count]]


def largest(low: float, high: float) -> float:
    """Draw the upper end."""
    return high


def begun(
    members: Sequence[Step],
    *,
    bound: int = 32,
    lanes: Sequence[Lane] | None = None,
    **options: Any,
) -> Group:
    """Return a group that has begun, on one lane unless told otherwise."""
    group = Group(members, lanes or [Lane(bound)] * len(members), uniform=largest, **options)
    group.begin()
    return group


def starting(*members: int) -> list[Order]:
    """Return the orders to start some members."""
    return [(Verb.START, member, None) for member in members]


def settling(member: int, status: StepStatus, error: Exception | None = None) -> Order:
    """Return the order that says how a member has settled."""
    return Verb.SETTLE, member, (status, error)


def of_verb(verb: Verb, orders: Sequence[Order]) -> list[int]:
    """Return the members that some orders of one kind are about."""
    return [member for ordered, member, _ in orders if ordered is verb]


# --- starting --------------------------------------------------------------------------------


def test_members_start_in_declaration_order() -> None:
    """With room for all, all start at once, first declared first."""
    group = Group(steps(3), [Lane(32)] * 3, uniform=largest)
    assert starting(A, B, C) == group.begin()


def test_no_more_start_than_the_bound() -> None:
    """The bound says how many members start at first."""
    group = Group(steps(4), [Lane(2)] * 4, uniform=largest)
    assert starting(A, B) == group.begin()


def test_a_settled_member_makes_room() -> None:
    """The next in declaration order starts when one has completed."""
    group = begun(steps(4), bound=2)
    assert [settling(B, COMPLETED), *starting(C)] == group.completed(B, LONG)


def test_a_failed_member_makes_room() -> None:
    """The next in declaration order starts when one has failed."""
    group, error = begun(steps(3), bound=1), ValueError()
    assert [settling(A, FAILED, error), *starting(B)] == group.failed(A, error)


def test_each_lane_has_its_own_bound() -> None:
    """Members of one lane never wait for those of another."""
    threads, processes = Lane(1), Lane(2)
    lanes = [threads, threads, processes, processes]
    group = Group(steps(4), lanes, uniform=largest)
    assert [A, C, D] == sorted(of_verb(Verb.START, group.begin()))


def test_room_in_one_lane_is_not_room_in_another() -> None:
    """A settled member starts only those that share its lane."""
    first, second = Lane(1), Lane(1)
    group = begun(steps(4), lanes=[first, second, second, first])
    assert [D] == of_verb(Verb.START, group.completed(A, LONG))


def test_starts_are_counted_as_attempts() -> None:
    """A started member has one attempt, a waiting one none."""
    assert [1, 1, 0] == begun(steps(3), bound=2).attempts


def test_unsettled_counts_down() -> None:
    """Each settled member is one fewer to wait for."""
    group = begun(steps(3))
    group.completed(B, LONG)
    assert 2 == group.unsettled


def test_a_group_that_is_stopped_before_it_begins_starts_nothing() -> None:
    """A stop that comes first leaves nothing to begin with."""
    group = Group(steps(2), [Lane(32)] * 2, uniform=largest)
    group.stop("the user left")
    assert [] == group.begin()


# --- queueing ahead --------------------------------------------------------------------------


def test_a_tiny_body_lets_one_more_be_queued() -> None:
    """On an eager lane a tiny body is followed by two members, not one."""
    group = begun(steps(4), lanes=[Lane(1, eager=True)] * 4)
    assert [B, C] == of_verb(Verb.START, group.completed(A, Lane.TINY))


def test_queueing_ahead_has_a_limit() -> None:
    """However many tiny bodies there were, `MOST_AHEAD` members are queued beyond the bound."""
    lane = Lane(1, eager=True)
    for _ in range(Lane.MOST_AHEAD + 1):
        lane.took(0.0)
    assert Lane.MOST_AHEAD == lane.ahead


def test_a_body_that_is_not_tiny_ends_queueing_ahead() -> None:
    """After it nothing starts until the lane is down to its bound again."""
    group = begun(steps(6), lanes=[Lane(1, eager=True)] * 6)
    group.completed(A, 0.0)
    assert [] == of_verb(Verb.START, group.completed(B, LONG))


def test_an_ordinary_lane_never_queues_ahead() -> None:
    """Where the pool does not keep to the bound, the lane does."""
    group = begun(steps(4), bound=1)
    assert [B] == of_verb(Verb.START, group.completed(A, 0.0))


# --- retries ---------------------------------------------------------------------------------


def test_a_failed_attempt_is_retried() -> None:
    """While there are retries, a failure orders a rest, not the end."""
    group = begun(steps(1, retries=1, retry_delay=2))
    assert [(Verb.RETRY, A, 2.0)] == group.failed(A, ValueError())


def test_a_resting_member_holds_no_room() -> None:
    """Another member starts while one waits for its retry."""
    group = begun(steps(2, retries=1), bound=1)
    assert [B] == of_verb(Verb.START, group.failed(A, ValueError()))


def test_a_rested_member_starts_its_next_attempt() -> None:
    """When its delay is over and there is room, the retry starts at once."""
    group = begun(steps(1, retries=1))
    group.failed(A, ValueError())
    assert starting(A) == group.rested(A)


def test_a_retry_is_counted() -> None:
    """The second start is the second attempt."""
    group = begun(steps(1, retries=1))
    group.failed(A, ValueError())
    group.rested(A)
    assert [2] == group.attempts


def test_a_rested_member_waits_for_room() -> None:
    """A retry does not exceed the bound."""
    group = begun(steps(2, retries=1), bound=1)
    group.failed(A, ValueError())
    assert [] == group.rested(A)


def test_retries_start_before_members_that_never_started() -> None:
    """A member that waits for its retry goes first when there is room."""
    group = begun(steps(3, retries=1), bound=1)
    group.failed(A, ValueError())
    group.rested(A)
    assert [A] == of_verb(Verb.START, group.completed(B, LONG))


def test_of_two_retries_the_earlier_starts_first() -> None:
    """The retry that is declared first, and has waited longest, is not overtaken by another."""
    group = begun(steps(4, retries=1), bound=1)
    group.failed(A, ValueError())
    group.failed(B, ValueError())
    group.rested(A)
    group.rested(B)
    assert [A] == of_verb(Verb.START, group.completed(C, LONG))


def test_a_member_without_retries_left_has_failed() -> None:
    """The last attempt's error is the one on record."""
    group, last = begun(steps(1, retries=1)), ValueError("second")
    group.failed(A, ValueError("first"))
    group.rested(A)
    assert [settling(A, FAILED, last)] == group.failed(A, last)


def test_a_retry_that_completes_leaves_no_error() -> None:
    """A member that completed in the end has no error on record."""
    group = begun(steps(1, retries=1))
    group.failed(A, ValueError())
    group.rested(A)
    assert [settling(A, COMPLETED)] == group.completed(A, LONG)


@pytest.mark.parametrize(
    ("options", "delays"),
    [
        ({}, [0.0, 0.0, 0.0]),
        ({"retry_delay": 2}, [2.0, 2.0, 2.0]),
        ({"retry_delay": 2, "backoff": "linear"}, [2.0, 4.0, 6.0]),
        ({"retry_delay": 2, "backoff": "exponential"}, [2.0, 4.0, 8.0]),
        ({"retry_delay": 2, "backoff": "exponential", "max_retry_delay": 5}, [2.0, 4.0, 5.0]),
        ({"retry_delay": 2, "backoff": "linear", "jitter": True}, [1.0, 2.0, 3.0]),
        ({"jitter": True}, [0.0, 0.0, 0.0]),
    ],
    ids=str,
)
def test_delays_between_attempts(options: dict[str, Any], delays: list[float]) -> None:
    """The delay before each retry follows the step's backoff, cap and jitter."""
    group = Group(
        steps(1, retries=3, **options), [Lane(1)], uniform=lambda low, high: (low + high) / 2
    )
    group.begin()
    seen = []
    for _ in delays:
        [(_, _, delay)] = group.failed(A, ValueError())
        seen.append(delay)
        group.rested(A)
    assert delays == seen


def exit_error() -> BodyExitError:
    """Return what is on record for a body that called `sys.exit`."""
    error = BodyExitError()
    error.__cause__ = SystemExit()
    return error


@pytest.mark.parametrize(
    ("retry_on", "error", "retried"),
    [
        (Exception, ValueError(), True),
        (KeyError, ValueError(), False),
        (LookupError, KeyError(), True),
        ((OSError, KeyError), KeyError(), True),
        (lambda error: True, ValueError(), True),
        (lambda error: False, ValueError(), False),
        (Exception, StepTimeoutError("a", 1.0, 1), True),
        (Exception, SerializationError("the value", "no"), False),
        (lambda error: True, SerializationError("the value", "no"), False),
        (Exception, StepCancelledError("a", None), False),
        (Exception, exit_error(), False),
        (SystemExit, exit_error(), True),
        (BaseException, exit_error(), True),
        (lambda error: True, exit_error(), False),
    ],
)
def test_what_is_retried(retry_on: Any, error: Exception, retried: bool) -> None:
    """Only errors that `retry_on` accepts, and none that could only happen again."""
    group = begun(steps(1, retries=1, retry_on=retry_on))
    assert retried == bool(of_verb(Verb.RETRY, group.failed(A, error)))


def failing_filter(mistake: BaseException) -> Callable[[Exception], bool]:
    """Return a predicate with a mistake."""

    def accept(error: Exception) -> bool:
        raise mistake

    return accept


@pytest.mark.parametrize("mistake", [ZeroDivisionError("mistake"), SystemExit("mistake")], ids=repr)
def test_a_broken_retry_filter_is_no_retry(mistake: BaseException) -> None:
    """A predicate that raises, or exits, does not hide the step's own error."""
    group, error = begun(steps(1, retries=1, retry_on=failing_filter(mistake))), ValueError()
    assert [settling(A, FAILED, error)] == group.failed(A, error)


@pytest.mark.parametrize("mistake", [ZeroDivisionError("mistake"), SystemExit("mistake")], ids=repr)
def test_a_broken_retry_filter_is_told(mistake: BaseException) -> None:
    """A note on the step's error tells what its predicate raised."""
    group, error = begun(steps(1, retries=1, retry_on=failing_filter(mistake))), ValueError()
    group.failed(A, error)
    told = f"{type(mistake).__name__}: mistake"
    assert [f"not retried: retry_on of step 'a' raised {told}"] == error.__notes__


def test_an_attempt_that_could_not_start_is_not_retried() -> None:
    """A closed pool or a function that cannot be pickled is final."""
    group, error = begun(steps(1, retries=3)), RuntimeError("closed")
    assert [settling(A, FAILED, error)] == group.failed(A, error, started=False)


def test_an_attempt_that_could_not_start_is_not_counted() -> None:
    """A member whose only body never started has made 0 attempts."""
    group = begun(steps(1))
    group.failed(A, RuntimeError("closed"), started=False)
    assert [0] == group.attempts


# --- fail_fast -------------------------------------------------------------------------------


def failed_fast(count: int, bound: int, **options: Any) -> tuple[Group, Exception, list[Order]]:
    """Return a fail-fast group whose first member has failed, with the error and the orders."""
    group, error = begun(steps(count, **options), bound=bound, fail_fast=True), ValueError("first")
    return group, error, group.failed(A, error)


def test_fail_fast_asks_running_members_to_stop() -> None:
    """Every running member is asked, with the reason, and waited for."""
    _, error, orders = failed_fast(3, bound=3)
    reason = "step 'a' failed"
    expected = [settling(A, FAILED, error), (Verb.STOP, B, reason), (Verb.STOP, C, reason)]
    assert expected == orders


def test_fail_fast_cancels_members_that_never_started() -> None:
    """They settle at once, and no other member takes the free place."""
    group, _, orders = failed_fast(3, bound=1)
    assert ([A, B, C], [FAILED, CANCELLED, CANCELLED]) == (
        of_verb(Verb.SETTLE, orders),
        group.statuses,
    )


def test_a_member_cancelled_by_fail_fast_made_no_attempt() -> None:
    """A member that never started has made 0 attempts."""
    group, _, _ = failed_fast(2, bound=1)
    assert [1, 0] == group.attempts


def test_a_member_cancelled_by_fail_fast_knows_why() -> None:
    """Its error names it and the member that failed."""
    group, _, _ = failed_fast(2, bound=1)
    assert "step 'b' was cancelled: step 'a' failed" == str(group.errors[B])


def test_fail_fast_fails_a_member_that_waits_for_its_retry() -> None:
    """It settles as failed with its last error, not as cancelled."""
    members = [*steps(1), Step("b", body, retries=5, retry_delay=60)]
    group, last = begun(members, fail_fast=True), KeyError("last")
    group.failed(B, last)
    assert settling(B, FAILED, last) in group.failed(A, ValueError())


def test_a_retry_that_is_due_after_the_stop_is_nothing() -> None:
    """The delay of a member that was stopped meanwhile may end without harm."""
    members = [*steps(1), Step("b", body, retries=5, retry_delay=60)]
    group = begun(members, fail_fast=True)
    group.failed(B, KeyError())
    group.failed(A, ValueError())
    assert [] == group.rested(B)


def test_fail_fast_waits_for_retries_to_be_used_up() -> None:
    """A failed attempt that will be retried stops nobody."""
    group = begun(steps(2, retries=1), fail_fast=True)
    assert [(Verb.RETRY, A, 0.0)] == group.failed(A, ValueError())


def test_a_member_that_completes_in_spite_of_fail_fast_is_completed() -> None:
    """What is done is on record as done, and starts nobody."""
    group, _, _ = failed_fast(3, bound=2)
    assert [settling(B, COMPLETED)] == group.completed(B, LONG)


def test_a_member_that_stops_for_fail_fast_is_cancelled() -> None:
    """The error of a body that did as it was asked is on record."""
    group, _, _ = failed_fast(3, bound=2)
    error = StepCancelledError("b", "step 'a' failed")
    assert [settling(B, CANCELLED, error)] == group.cancelled(B, error)


def test_a_member_that_fails_after_fail_fast_is_not_retried() -> None:
    """Once the group has failed, no attempt follows another."""
    members = [*steps(1), Step("b", body, retries=5)]
    group, error = begun(members, fail_fast=True), KeyError()
    group.failed(A, ValueError())
    assert [settling(B, FAILED, error)] == group.failed(B, error)


def test_an_attempt_taken_back_is_cancelled() -> None:
    """A member whose body was queued, and never started, settles as cancelled."""
    group, _, _ = failed_fast(2, bound=2)
    group.revoked(B, "step 'a' failed")
    assert CANCELLED == group.statuses[B]


def test_an_attempt_taken_back_is_not_counted() -> None:
    """A body that never started is no attempt."""
    group, _, _ = failed_fast(2, bound=2)
    group.revoked(B, "step 'a' failed")
    assert [1, 0] == group.attempts


def test_a_retry_taken_back_has_failed() -> None:
    """A member that had failed before its attempt was taken back keeps its last error."""
    group, last = begun(steps(2, retries=1), fail_fast=True), KeyError("last")
    group.failed(B, last)
    group.rested(B)
    group.failed(A, ValueError())
    group.rested(A)
    group.failed(A, ValueError())
    assert [settling(B, FAILED, last)] == group.revoked(B, "step 'a' failed")


def test_fail_fast_is_judged_by_who_failed_first() -> None:
    """The group's error is that of the first to fail, not of the first declared."""
    group, first = begun(steps(2), fail_fast=True), ValueError("first")
    group.failed(B, first)
    group.failed(A, ValueError("second"))
    assert (FAILED, first) == group.verdict("g")


def test_one_failure_is_enough_for_fail_fast() -> None:
    """Members that completed do not save a fail-fast group."""
    group, error = begun(steps(2), fail_fast=True), ValueError()
    group.completed(A, LONG)
    group.failed(B, error)
    assert (FAILED, error) == group.verdict("g")


def test_a_fail_fast_group_of_completed_members_is_completed() -> None:
    """Without a failure `fail_fast` changes nothing."""
    group = begun(steps(2), fail_fast=True)
    group.completed(A, LONG)
    group.completed(B, LONG)
    assert (COMPLETED, None) == group.verdict("g")


def test_without_fail_fast_a_failure_stops_nobody() -> None:
    """By default everything runs to its end."""
    group, error = begun(steps(3), bound=2), ValueError()
    assert [settling(A, FAILED, error), *starting(C)] == group.failed(A, error)


# --- stop ------------------------------------------------------------------------------------


def test_stop_gives_running_bodies_their_grace() -> None:
    """Every running member is asked to stop and given up on later, for the reason given."""
    orders = begun(steps(2)).stop("the user left")
    assert [(Verb.DROP, A, "the user left"), (Verb.DROP, B, "the user left")] == orders


def test_stop_cancels_members_that_never_started() -> None:
    """They settle at once, with 0 attempts and the reason."""
    group = begun(steps(2), bound=1)
    group.stop("the user left")
    assert (CANCELLED, 0, "step 'b' was cancelled: the user left") == (
        group.statuses[B],
        group.attempts[B],
        str(group.errors[B]),
    )


def test_stop_fails_a_member_that_waits_for_its_retry() -> None:
    """It settles at once as failed with its last error."""
    group, last = begun(steps(1, retries=1, retry_delay=60)), ValueError()
    group.failed(A, last)
    assert [settling(A, FAILED, last)] == group.stop("the user left")


def test_nothing_starts_after_a_stop() -> None:
    """A member that completes makes no room for another."""
    group = begun(steps(3), bound=2)
    group.stop("the user left")
    assert [settling(A, COMPLETED)] == group.completed(A, LONG)


def test_nothing_is_retried_after_a_stop() -> None:
    """A member that fails while it is asked to stop has failed."""
    group, error = begun(steps(1, retries=1)), ValueError()
    group.stop("the user left")
    assert [settling(A, FAILED, error)] == group.failed(A, error)


def test_a_second_stop_changes_nothing() -> None:
    """The first stop has asked everybody already."""
    group = begun(steps(2))
    group.stop("the user left")
    assert ([], "the user left") == (group.stop("again"), group.reason)


def test_stop_hurries_bodies_that_fail_fast_is_waiting_for() -> None:
    """A body that `fail_fast` waits for without limit is given its grace by a stop."""
    group, _, _ = failed_fast(2, bound=2)
    assert [(Verb.DROP, B, "the user left")] == group.stop("the user left")


def test_a_stopped_group_is_cancelled() -> None:
    """A group with a cancelled member that was asked to stop is on record as cancelled."""
    group = begun(steps(2), bound=1)
    group.stop("the user left")
    group.completed(A, LONG)
    assert (CANCELLED, None) == group.verdict("g")


def test_a_stop_that_comes_too_late_changes_no_verdict() -> None:
    """A group whose members had all completed anyway is completed."""
    group = begun(steps(2))
    group.stop("the user left")
    group.completed(A, LONG)
    group.completed(B, LONG)
    assert (COMPLETED, None) == group.verdict("g")


# --- time_up ---------------------------------------------------------------------------------


def test_time_up_expires_running_members() -> None:
    """They are to be interrupted or abandoned, and reported as failed."""
    assert [(Verb.EXPIRE, A, None), (Verb.EXPIRE, B, None)] == begun(steps(2)).time_up(5.0)


def test_time_up_fails_members_that_never_started() -> None:
    """They time out with the group, before they started."""
    group = begun(steps(2), bound=1)
    group.time_up(5.0)
    error = group.errors[B]
    assert isinstance(error, StepTimeoutError)
    assert (FAILED, "b", 5.0, 0) == (
        group.statuses[B],
        error.step_name,
        error.timeout,
        error.attempt,
    )


def test_time_up_fails_a_member_that_waits_for_its_retry() -> None:
    """Its last error is the cause of the timeout on record."""
    group, last = begun(steps(1, retries=1, retry_delay=60)), ValueError()
    group.failed(A, last)
    group.time_up(5.0)
    error = group.errors[A]
    assert isinstance(error, StepTimeoutError)
    assert last is error.__cause__


def test_nothing_starts_after_time_up() -> None:
    """A member that completes after all makes no room for another."""
    group = begun(steps(3), bound=2)
    group.time_up(5.0)
    assert [settling(A, COMPLETED)] == group.completed(A, LONG)


def test_nothing_is_retried_after_time_up() -> None:
    """A timeout of the group is final for its members."""
    group, error = begun(steps(1, retries=1)), StepTimeoutError("a", 5.0, 1)
    group.time_up(5.0)
    assert [settling(A, FAILED, error)] == group.failed(A, error)


def test_a_group_out_of_time_is_judged_as_ever() -> None:
    """One completed member is enough, whatever time it was."""
    group = begun(steps(2))
    group.completed(A, LONG)
    group.time_up(5.0)
    group.failed(B, StepTimeoutError("b", 5.0, 1))
    assert (COMPLETED, None) == group.verdict("g")


def test_time_is_up_only_once() -> None:
    """A second report changes nothing."""
    group = begun(steps(2), bound=1)
    group.time_up(5.0)
    assert [] == group.time_up(5.0)


def test_time_up_after_a_stop_changes_nothing() -> None:
    """The stop came first and has decided."""
    group = begun(steps(2))
    group.stop("the user left")
    assert [] == group.time_up(5.0)


def test_a_stop_after_time_up_orders_nothing() -> None:
    """What is timing out is not cancelled as well: the first of the two decides."""
    group = begun(steps(2))
    group.time_up(5.0)
    assert [] == group.stop("the user left")


def test_a_stop_after_time_up_changes_no_verdict() -> None:
    """A group that ran out of time has failed, whoever wanted to stop it later."""
    group, error = begun(steps(1)), StepTimeoutError("a", 5.0, 1)
    group.time_up(5.0)
    group.stop("the user left")
    group.failed(A, error)
    assert (FAILED, error) == group.verdict("g")


def test_time_up_expires_bodies_that_fail_fast_is_waiting_for() -> None:
    """A failed group does not wait beyond its time for a body that does not stop."""
    group, _, _ = failed_fast(2, bound=2)
    assert [(Verb.EXPIRE, B, None)] == group.time_up(5.0)


def test_fail_fast_counts_members_that_time_up_found_waiting() -> None:
    """A member that timed out between two attempts fails a fail-fast group."""
    group = begun(steps(2, retries=1, retry_delay=60), fail_fast=True)
    group.completed(A, LONG)
    group.failed(B, ValueError())
    group.time_up(5.0)
    assert (FAILED, group.errors[B]) == group.verdict("g")


def test_fail_fast_counts_members_that_never_started_in_time() -> None:
    """A member that timed out before it started fails a fail-fast group."""
    group = begun(steps(2), bound=1, fail_fast=True)
    group.time_up(5.0)
    group.completed(A, LONG)
    assert (FAILED, group.errors[B]) == group.verdict("g")


def test_members_that_expire_are_not_asked_to_stop_as_well() -> None:
    """The first timeout on record of a fail-fast group does not make the others cancelled."""
    group, error = begun(steps(3), fail_fast=True), StepTimeoutError("a", 5.0, 1)
    group.time_up(5.0)
    assert [settling(A, FAILED, error)] == group.failed(A, error)


# --- judging ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "failures", "min_success", "status"),
    [
        (3, 0, None, COMPLETED),
        (3, 1, None, COMPLETED),
        (3, 2, None, COMPLETED),
        (3, 3, None, FAILED),
        (3, 2, 1, COMPLETED),
        (3, 3, 1, FAILED),
        (3, 1, 2, COMPLETED),
        (3, 2, 2, FAILED),
        (3, 0, 3, COMPLETED),
        (3, 1, 3, FAILED),
        (1, 0, None, COMPLETED),
        (1, 1, None, FAILED),
    ],
)
def test_how_many_have_to_complete(
    count: int, failures: int, min_success: int | None, status: StepStatus
) -> None:
    """A group fails when fewer than `min_success` members completed, by default none."""
    group = begun(steps(count), min_success=min_success)
    for member in range(count):
        if member < failures:
            group.failed(member, ValueError())
        else:
            group.completed(member, LONG)
    assert status == group.verdict("g")[0]


def test_errors_of_a_failed_group_are_in_declaration_order() -> None:
    """Whoever failed first, the errors come as the members were declared."""
    group = begun(steps(3))
    errors = [ValueError("a"), KeyError("b"), OSError("c")]
    for member in (C, A, B):
        group.failed(member, errors[member])
    _, error = group.verdict("g")
    assert isinstance(error, GroupFailedError)
    assert tuple(errors) == error.exceptions


def test_a_failed_group_holds_only_the_errors_of_failed_members() -> None:
    """Members that completed are counted in the message and have no error."""
    group, error = begun(steps(2), min_success=2), ValueError("b")
    group.completed(A, LONG)
    group.failed(B, error)
    _, failure = group.verdict("g")
    assert isinstance(failure, GroupFailedError)
    assert ("group 'g': 1 of 2 steps completed, 2 needed", (error,)) == (
        failure.message,
        failure.exceptions,
    )


def test_a_single_member_fails_with_its_own_error() -> None:
    """One error is not wrapped in a group."""
    group, error = begun(steps(1)), ValueError()
    group.failed(A, error)
    assert (FAILED, error) == group.verdict("g")


# --- what cannot have happened ---------------------------------------------------------------


def waiting() -> Group:
    """Return a group whose member b is READY."""
    return begun(steps(2), bound=1)


def running() -> Group:
    """Return a group whose member b is RUNNING."""
    return begun(steps(2))


def resting() -> Group:
    """Return a group whose member b is RESTING."""
    group = begun(steps(2, retries=1))
    group.failed(B, ValueError())
    return group


def settled() -> Group:
    """Return a group whose member b is SETTLED."""
    group = begun(steps(2))
    group.completed(B, LONG)
    return group


EVENTS: dict[str, Callable[[Group], object]] = {
    "completed": lambda group: group.completed(B, 0.0),
    "failed": lambda group: group.failed(B, ValueError()),
    "failed to start": lambda group: group.failed(B, ValueError(), started=False),
    "cancelled": lambda group: group.cancelled(B, StepCancelledError("b", None)),
    "revoked": lambda group: group.revoked(B, "reason"),
    "rested": lambda group: group.rested(B),
    "verdict": lambda group: group.verdict("g"),
}

INVALID = [
    *[
        (event, phase)
        for event in ("completed", "failed", "failed to start", "cancelled", "revoked")
        for phase in (waiting, resting, settled)
    ],
    *[("rested", phase) for phase in (waiting, running)],
    *[("verdict", phase) for phase in (waiting, running, resting, settled)],
]


def picture(group: Group) -> dict[str, object]:
    """Return all that a group and its lanes know."""
    lanes = [
        [repr(getattr(lane, name)) for name in Lane.__slots__]
        for lane in dict.fromkeys(group._lanes)
    ]
    return {name: repr(value) for name, value in vars(group).items()} | {"_lanes": lanes}


@pytest.mark.parametrize(("event", "phase"), INVALID)
def test_an_impossible_event_is_refused(event: str, phase: Callable[[], Group]) -> None:
    """What a member's phase does not allow raises."""
    group = phase()
    with pytest.raises(InvalidEvent):
        EVENTS[event](group)


@pytest.mark.parametrize(("event", "phase"), INVALID)
def test_an_impossible_event_changes_nothing(event: str, phase: Callable[[], Group]) -> None:
    """After it was refused, the group is as it was."""
    group = phase()
    before = picture(group)
    with pytest.raises(InvalidEvent):
        EVENTS[event](group)
    assert before == picture(group)


def test_an_impossible_event_says_what_was_wrong() -> None:
    """The message names the member, its phase and the phase that the event needs."""
    with pytest.raises(InvalidEvent, match=r"member 1 \('b'\) is settled, not running"):
        settled().completed(B, 0.0)


# --- random events ---------------------------------------------------------------------------


class RandomGroup(RuleBasedStateMachine):
    """Throw legal events at a group, in any order, and keep books of what it orders."""

    @initialize(
        retries=st.lists(st.integers(0, 3), min_size=1, max_size=8),
        bounds=st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=3),
        judged_by=st.one_of(st.just("fail_fast"), st.none(), st.integers(1, 8)),
        patience=st.integers(0, 30),
        data=st.data(),
    )
    def begin(
        self,
        retries: list[int],
        bounds: list[tuple[int, bool]],
        judged_by: str | int | None,
        patience: int,
        data: st.DataObject,
    ) -> None:
        """Make a group of random members and begin."""
        count = len(retries)
        self.lanes = [Lane(bound, eager) for bound, eager in bounds]
        self.lane_of = [data.draw(st.sampled_from(range(len(bounds)))) for _ in retries]
        self.steps = [Step(f"s{i}", body, retries=most) for i, most in enumerate(retries)]
        self.fail_fast = judged_by == "fail_fast"
        self.min_success = min(judged_by, count) if isinstance(judged_by, int) else None
        self.group = Group(
            self.steps,
            [self.lanes[lane] for lane in self.lane_of],
            fail_fast=self.fail_fast,
            min_success=self.min_success,
            uniform=largest,
        )
        self.fresh = set(range(count))
        self.running: set[int] = set()
        self.resting: set[int] = set()
        self.rested_waiting: set[int] = set()
        self.settled: dict[int, tuple[StepStatus, Exception | None]] = {}
        self.attempts = [0] * count
        self.last_error: dict[int, Exception] = {}
        #: Delays that are still to end, also of members that have settled meanwhile.
        self.due: list[int] = []
        #: The last order that a running member got, when it was one to end.
        self.asked: dict[int, Verb] = {}
        self.decided: str | None = None
        self.closed = False
        #: Events before the group may be stopped or out of time: most groups live for a while.
        self.patience = patience
        self.obey(self.group.begin())

    # --- books --------------------------------------------------------------------------------

    def obey(self, orders: list[Order], closes: bool = False) -> None:
        """Note what is ordered; refuse what may not be."""
        self.patience -= 1
        for verb, member, detail in orders:
            if verb is Verb.START:
                self.note_start(member)
            elif verb is Verb.RETRY:
                assert not self.closed, "retried after the close"
                assert detail == 0.0
                self.resting.add(member)
                self.due.append(member)
            elif verb is Verb.SETTLE:
                self.note_settled(member, *detail)
            else:
                assert closes, f"{verb} out of the blue"
                assert member in self.running, f"{verb} of a member that does not run"
                self.asked[member] = verb

    def note_start(self, member: int) -> None:
        """Check that the member's turn has come."""
        lane = self.lane_of[member]
        mates = {other for other in self.fresh if self.lane_of[other] == lane}
        retries = {other for other in self.rested_waiting if self.lane_of[other] == lane}
        assert not self.closed, "started after the close"
        assert member in mates | retries, "started out of turn"
        assert member in retries or not retries, "overtook a retry"
        assert member in retries or member == min(mates), "not in declaration order"
        self.fresh.discard(member)
        self.rested_waiting.discard(member)
        self.running.add(member)
        self.attempts[member] += 1
        busy = sum(self.lane_of[other] == lane for other in self.running)
        assert busy <= self.lanes[lane].bound + self.lanes[lane].ahead, "above the bound"

    def note_settled(self, member: int, status: StepStatus, error: Exception | None) -> None:
        """Check that the member had not settled before."""
        assert member not in self.settled, "settled twice"
        assert (status is COMPLETED) == (error is None)
        for phase in (self.fresh, self.running, self.resting, self.rested_waiting):
            phase.discard(member)
        self.settled[member] = status, error

    def ended(self, data: st.DataObject, among: set[int]) -> int:
        """Choose a running member whose attempt ends now."""
        member: int = data.draw(st.sampled_from(sorted(among)))
        self.running.discard(member)
        self.asked.pop(member, None)
        return member

    def askable(self) -> set[int]:
        """Return the members whose bodies were asked to stop and may settle as cancelled."""
        return {m for m, verb in self.asked.items() if verb in (Verb.STOP, Verb.DROP)}

    # --- events -------------------------------------------------------------------------------

    @precondition(lambda self: self.running)
    @rule(data=st.data(), seconds=st.sampled_from([0.0, LONG]))
    def completes(self, data: st.DataObject, seconds: float) -> None:
        """A body returns."""
        member = self.ended(data, self.running)
        self.obey(self.group.completed(member, seconds))
        assert (COMPLETED, None) == self.settled[member]

    @precondition(lambda self: self.running)
    @rule(data=st.data(), error=st.builds(ValueError))
    def fails(self, data: st.DataObject, error: Exception) -> None:
        """A body raises."""
        member = self.ended(data, self.running)
        final = self.closed or self.attempts[member] > self.steps[member].retries
        closes = final and self.fail_fast and not self.closed
        self.last_error[member] = error
        orders = self.group.failed(member, error)
        self.closed |= closes
        self.obey(orders, closes)
        assert final == (member in self.settled)
        assert not final or (FAILED, error) == self.settled[member]

    @precondition(lambda self: self.running)
    @rule(data=st.data(), error=st.builds(RuntimeError))
    def cannot_start(self, data: st.DataObject, error: Exception) -> None:
        """A pool refuses an attempt."""
        member = self.ended(data, self.running)
        closes = self.fail_fast and not self.closed
        self.attempts[member] -= 1
        orders = self.group.failed(member, error, started=False)
        self.closed |= closes
        self.obey(orders, closes)
        assert (FAILED, error) == self.settled[member]

    @precondition(lambda self: self.askable())
    @rule(data=st.data())
    def is_cancelled(self, data: st.DataObject) -> None:
        """A body that was asked to stop does."""
        member = self.ended(data, self.askable())
        error = StepCancelledError(self.steps[member].name, None)
        self.obey(self.group.cancelled(member, error))
        assert (CANCELLED, error) == self.settled[member]

    @precondition(lambda self: self.askable())
    @rule(data=st.data())
    def is_revoked(self, data: st.DataObject) -> None:
        """An attempt that was queued is taken back."""
        member = self.ended(data, self.askable())
        self.attempts[member] -= 1
        self.obey(self.group.revoked(member, "reason"))
        last = self.last_error.get(member)
        assert (CANCELLED if last is None else FAILED) == self.settled[member][0]
        assert last is None or last is self.settled[member][1]

    @precondition(lambda self: self.due)
    @rule(data=st.data())
    def rests(self, data: st.DataObject) -> None:
        """A delay is over."""
        member = self.due.pop(data.draw(st.integers(0, len(self.due) - 1)))
        if member in self.resting:
            self.resting.discard(member)
            self.rested_waiting.add(member)
        self.obey(self.group.rested(member))

    @precondition(lambda self: self.patience <= 0 or not (self.running or self.due))
    @rule()
    def is_stopped(self) -> None:
        """The run is asked to stop."""
        running, idle = set(self.running), self.fresh | self.resting | self.rested_waiting
        decides, self.decided, self.closed = not self.decided, self.decided or "stop", True
        orders = self.group.stop("reason")
        assert (running if decides else set()) == set(of_verb(Verb.DROP, orders))
        self.obey(orders, closes=True)
        for member in idle:
            last = self.last_error.get(member)
            assert (CANCELLED if last is None else FAILED) == self.settled[member][0]

    @precondition(lambda self: self.patience <= 0 or not (self.running or self.due))
    @rule()
    def runs_out_of_time(self) -> None:
        """The group's time is up."""
        running, idle = set(self.running), self.fresh | self.resting | self.rested_waiting
        decides, self.decided, self.closed = not self.decided, self.decided or "time_up", True
        orders = self.group.time_up(5.0)
        assert (running if decides else set()) == set(of_verb(Verb.EXPIRE, orders))
        self.obey(orders, closes=True)
        for member in idle:
            error = self.settled[member][1]
            assert isinstance(error, StepTimeoutError)
            assert self.last_error.get(member) is error.__cause__

    # --- what holds at any time ---------------------------------------------------------------

    @invariant()
    def each_member_is_in_one_phase(self) -> None:
        """The phases that follow from the orders are disjoint, and those of the group."""
        phases = {
            **dict.fromkeys(self.fresh | self.rested_waiting, "ready"),
            **dict.fromkeys(self.running, "running"),
            **dict.fromkeys(self.resting, "resting"),
            **dict.fromkeys(self.settled, "settled"),
        }
        assert phases == {m: phase.value for m, phase in enumerate(self.group._phases)}

    @invariant()
    def counts_are_right(self) -> None:
        """Attempts, unsettled members and the lanes' slots are what the orders add up to."""
        assert self.attempts == self.group.attempts
        assert len(self.steps) - len(self.settled) == self.group.unsettled
        for number, lane in enumerate(self.lanes):
            assert sum(self.lane_of[m] == number for m in self.running) == lane.running

    @invariant()
    def attempts_are_bounded(self) -> None:
        """No member makes more attempts than its first and its retries."""
        for step, attempts in zip(self.steps, self.attempts, strict=True):
            assert 0 <= attempts <= step.retries + 1

    @invariant()
    def no_room_is_wasted(self) -> None:
        """While the group is open, nobody waits for a lane that has room."""
        for member in self.fresh | self.rested_waiting:
            lane = self.lanes[self.lane_of[member]]
            assert not self.closed
            assert lane.running >= lane.bound

    @invariant()
    def what_has_settled_is_on_record(self) -> None:
        """Statuses and errors are those of the orders, and none before."""
        for member in range(len(self.steps)):
            status, error = self.settled.get(member, (None, self.group.errors[member]))
            assert status is self.group.statuses[member]
            assert error is self.group.errors[member]

    def teardown(self) -> None:
        """Let what runs end and what rests rest: the group has to end, and is judged."""
        if not hasattr(self, "group"):
            return
        for _ in range(sum(step.retries + 1 for step in self.steps)):
            for member in sorted(self.running):
                self.running.discard(member)
                self.asked.pop(member, None)
                self.obey(self.group.completed(member, LONG))
            for member in list(self.due):
                self.due.remove(member)
                if member in self.resting:
                    self.resting.discard(member)
                    self.rested_waiting.add(member)
                self.obey(self.group.rested(member))
        assert 0 == self.group.unsettled
        self.is_judged()

    def is_judged(self) -> None:
        """Judge the group by the rules, from what was ordered, in the order it was."""
        statuses = [status for status, _ in self.settled.values()]
        failures = [error for status, error in self.settled.values() if status is FAILED]
        judged, error = self.group.verdict("g")
        if self.fail_fast and failures:
            assert (FAILED, failures[0]) == (judged, error)
        elif self.decided == "stop" and CANCELLED in statuses:
            assert (CANCELLED, None) == (judged, error)
        elif statuses.count(COMPLETED) >= (self.min_success or 1):
            assert (COMPLETED, None) == (judged, error)
        elif len(statuses) == 1:
            assert (FAILED, failures[0]) == (judged, error)
        else:
            assert FAILED is judged
            assert isinstance(error, GroupFailedError)
            ordered = [self.settled[member][1] for member in range(len(self.steps))]
            assert [wrong for wrong in ordered if wrong is not None] == list(error.exceptions)


RandomGroup.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, database=None
)


class TestRandomGroup(RandomGroup.TestCase):
    """Whatever happens, and in whatever order, the rules of the group hold."""
