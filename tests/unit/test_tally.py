"""How the items of a map retry, settle and are judged: decisions, told and answered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from syncflow.errors import (
    DefinitionError,
    GroupFailedError,
    SerializationError,
    StateConflictError,
    StepCancelledError,
)
from syncflow.flow import Flow
from syncflow.hooks import MapProgress
from syncflow.mapping import Map
from syncflow.result import StepStatus
from syncflow.run.tally import Tally

COMPLETED, FAILED, CANCELLED = StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.CANCELLED

#: Items of every map here.
A, B, C, D = range(4)


def body(ctx: object, item: object) -> None:
    """Do nothing."""


def largest(low: float, high: float) -> float:
    """Draw the upper end."""
    return high


def tally_of(items: Iterable[Any] = "abcd", **options: Any) -> Tally:
    """Return the books of a map named m, whose source has given all its items."""
    node = Flow("flow").map("m", body, [], **options).nodes[0]
    assert isinstance(node, Map)
    tally = Tally(node, largest)
    tally.take(list(items))
    tally.exhausted = True
    return tally


def complete(tally: Tally, *indices: int) -> None:
    """Let some items complete with the values `v0`, `v1` and so on."""
    for index in indices:
        tally.complete(index, f"v{index}", {})


def counts(tally: Tally) -> tuple[int, int, int]:
    """Return how many items completed, failed and were cancelled."""
    return tally.completed, tally.failed, tally.cancelled


def undone(tally: Tally) -> list[tuple[int, Any, Any, bool]]:
    """Return what a rollback gets, in its order."""
    return [(done.index, done.item, done.value, done.completed) for done in tally.done()]


# --- values and counts -----------------------------------------------------------------------


def test_values_stand_in_item_order() -> None:
    """Whoever completes first."""
    tally = tally_of()
    complete(tally, C, A, D, B)
    assert ["v0", "v1", "v2", "v3"] == tally.values


def test_what_did_not_complete_has_no_value() -> None:
    """Its place holds None."""
    tally = tally_of()
    complete(tally, B)
    tally.fail(A, 1, ValueError())
    tally.cancel(C, 1, started=False)
    assert [None, "v1", None, None] == tally.values
    assert (1, 1, 1) == counts(tally)


def test_items_in_a_row_complete_at_once() -> None:
    """With one call for a whole chunk."""
    tally = tally_of()
    tally.complete_all(B, ["x", "y"])
    complete(tally, A, D)
    assert (["v0", "x", "y", "v3"], 4, 4) == (tally.values, tally.completed, tally.attempts)


def test_values_are_dropped_on_demand() -> None:
    """`keep_values=False` counts, and keeps nothing."""
    tally = tally_of(keep_values=False)
    complete(tally, A, B)
    tally.complete_all(C, ["x", "y"])
    assert ([], 4, (COMPLETED, None)) == (tally.values, tally.completed, tally.verdict())


def test_attempts_are_counted_over_all_items() -> None:
    """Each body that started is one, the failed ones included."""
    tally = tally_of(retries=1)
    tally.fail(A, 1, ValueError())
    tally.rested(A)
    complete(tally, A, B)
    tally.cancel(C, 1, started=True)
    tally.cancel(D, 1, started=False)
    assert 4 == tally.attempts


def test_progress() -> None:
    """It tells what has settled, what rests, and how many there are."""
    tally = tally_of(retries=1)
    complete(tally, A)
    tally.fail(B, 1, ValueError())
    tally.fail(C, 2, ValueError())
    tally.cancel(D, 1, started=False)
    assert MapProgress(1, 1, 1, 1, 4) == tally.progress


@pytest.mark.parametrize("expected", [None, 10])
def test_the_total_is_what_the_source_says(expected: int | None) -> None:
    """Until it has ended: then it is what there was."""
    tally = tally_of()
    tally.exhausted = False
    tally.expect(expected)
    assert expected == tally.progress.total
    tally.exhausted = True
    assert 4 == tally.progress.total


# --- retries ---------------------------------------------------------------------------------


def test_a_failed_attempt_rests() -> None:
    """While there are retries, the answer is the delay; the item has not settled."""
    tally = tally_of(retries=1, retry_delay=2)
    assert 2.0 == tally.fail(A, 1, ValueError())
    assert ((0, 0, 0), 1, 2.0, {}) == (counts(tally), tally.retrying, tally.backoff, tally.errors)


def test_the_last_attempt_settles() -> None:
    """With the error that it failed with."""
    tally, last = tally_of(retries=1), ValueError("last")
    tally.fail(A, 1, ValueError("first"))
    tally.rested(A)
    assert tally.fail(A, 2, last) is None
    assert ({A: last}, (0, 1, 0)) == (tally.errors, counts(tally))


def test_a_retry_that_completes_leaves_no_error() -> None:
    """The item has completed, and that is all."""
    tally = tally_of(retries=1)
    tally.fail(A, 1, ValueError())
    tally.rested(A)
    complete(tally, A, B, C, D)
    assert ({}, (COMPLETED, None)) == (tally.errors, tally.verdict())


def test_a_retry_may_complete_with_its_chunk() -> None:
    """An item that failed before may be among those that complete together."""
    tally = tally_of(retries=1)
    tally.fail(B, 1, ValueError())
    tally.rested(B)
    tally.complete_all(A, [1, 2, 3, 4])
    assert [] == tally.close("over")
    assert (COMPLETED, None) == tally.verdict()


def test_each_item_has_its_own_retries() -> None:
    """The attempts of one do not count for another."""
    tally = tally_of(retries=1, retry_delay=1)
    assert [1.0, 1.0] == [tally.fail(index, 1, ValueError()) for index in (A, B)]


def test_delays_grow_with_the_attempts() -> None:
    """As the options say; `backoff` is their sum."""
    tally = tally_of(retries=3, retry_delay=1, backoff="exponential")
    delays = []
    for attempt in (1, 2, 3):
        delays.append(tally.fail(A, attempt, ValueError()))
        tally.rested(A)
    assert ([1.0, 2.0, 4.0], 7.0) == (delays, tally.backoff)


@pytest.mark.parametrize("error", [KeyError(), SerializationError("the value", "no")])
def test_what_is_not_retried_settles_at_once(error: Exception) -> None:
    """`retry_on` does not accept it, or nobody would."""
    tally = tally_of(retries=5, retry_on=(ValueError, SerializationError))
    assert tally.fail(A, 1, error) is None
    assert {A: error} == tally.errors


def test_a_body_that_never_started_is_no_attempt() -> None:
    """It fails for good, and is not counted."""
    tally = tally_of(retries=5)
    assert tally.fail(A, 1, ValueError(), started=False) is None
    assert (0, 1) == (tally.attempts, tally.failed)


def test_the_end_of_a_rest_is_told_once() -> None:
    """An item rests once for each failed attempt."""
    tally = tally_of(retries=1)
    tally.fail(A, 1, ValueError())
    assert [True, False] == [tally.rested(A), tally.rested(A)]


# --- closing ---------------------------------------------------------------------------------


def test_closing_settles_what_rests() -> None:
    """Those items have failed with their last errors, and are told in order."""
    tally, first, second = tally_of(retries=1), ValueError(1), ValueError(2)
    tally.fail(C, 1, second)
    tally.fail(A, 1, first)
    assert [A, C] == tally.close("enough")
    assert ({A: first, C: second}, 0) == (tally.errors, tally.retrying)


def test_a_rest_that_ends_after_closing_comes_to_nothing() -> None:
    """The item has settled meanwhile."""
    tally = tally_of(retries=1)
    tally.fail(A, 1, ValueError())
    tally.close("enough")
    assert tally.rested(A) is False


def test_nothing_is_retried_after_closing() -> None:
    """An attempt that fails then is the last."""
    tally = tally_of(retries=1)
    tally.close("enough")
    assert tally.fail(A, 1, ValueError()) is None


def test_the_first_reason_is_kept() -> None:
    """Closing again changes nothing but that the run may be stopped by then."""
    tally = tally_of()
    tally.close("first")
    tally.close("second", stopped=True)
    assert ("first", True) == (tally.reason, tally.stopped)


def test_an_item_that_failed_before_has_failed_when_it_is_stopped() -> None:
    """It waits for its next attempt, which never comes."""
    tally, error = tally_of(retries=1), ValueError()
    tally.fail(A, 1, error)
    tally.rested(A)
    tally.cancel(A, 2, started=False)
    assert ({A: error}, (0, 1, 0)) == (tally.errors, counts(tally))


def test_an_item_that_is_stopped_in_its_next_attempt_is_cancelled() -> None:
    """What that attempt would have come to, nobody knows."""
    tally = tally_of(retries=1)
    tally.fail(A, 1, ValueError())
    tally.rested(A)
    tally.cancel(A, 2, started=True)
    assert ({}, (0, 0, 1)) == (tally.errors, counts(tally))


@pytest.mark.parametrize("again", ["complete", "complete_all", "fail", "cancel"])
def test_an_item_settles_once(again: str) -> None:
    """To tell twice is a mistake of whoever tells."""
    tally = tally_of()
    complete(tally, A)
    with pytest.raises(AssertionError, match="settled before"):
        {
            "complete": lambda: tally.complete(A, 1, {}),
            "complete_all": lambda: tally.complete_all(A, [1]),
            "fail": lambda: tally.fail(A, 1, ValueError()),
            "cancel": lambda: tally.cancel(A, 1, started=True),
        }[again]()


# --- the verdict -----------------------------------------------------------------------------


def test_no_items_complete() -> None:
    """There is nothing that could fail, whatever is needed."""
    assert (COMPLETED, None) == tally_of([]).verdict()
    assert (COMPLETED, None) == tally_of([], min_success=3).verdict()


def test_a_verdict_needs_all_items() -> None:
    """To judge early is a mistake."""
    tally = tally_of()
    complete(tally, A)
    with pytest.raises(AssertionError, match="unsettled"):
        tally.verdict()


@pytest.mark.parametrize(
    ("needed", "completed", "status"),
    [
        (None, 1, COMPLETED),
        (None, 0, FAILED),
        (1, 1, COMPLETED),
        (3, 2, FAILED),
        (3, 3, COMPLETED),
        (4, 4, COMPLETED),
        (5, 3, FAILED),
    ],
)
def test_how_many_must_complete(needed: int | None, completed: int, status: StepStatus) -> None:
    """One, unless `min_success` says more."""
    tally = tally_of(min_success=needed)
    complete(tally, *range(completed))
    errors = [ValueError(index) for index in range(completed, 4)]
    for error in reversed(errors):
        tally.fail(error.args[0], 1, error)
    judged, cause = tally.verdict()
    assert status is judged
    if status is FAILED:
        assert isinstance(cause, GroupFailedError)
        assert errors == list(cause.exceptions)
        assert f"map 'm': {completed} of 4 items completed, {needed or 1} needed" in str(cause)


def test_the_only_item_gives_its_own_error() -> None:
    """There is no group of one."""
    tally, error = tally_of("a"), ValueError()
    tally.fail(A, 1, error)
    assert (FAILED, error) == tally.verdict()


def test_more_is_needed_than_there_is() -> None:
    """Nobody could know before: the error says so."""
    tally = tally_of("ab", min_success=3)
    complete(tally, A, B)
    status, error = tally.verdict()
    assert (FAILED, DefinitionError) == (status, type(error))
    assert "map 'm': min_success=3 exceeds the number of its items, 2" in str(error)


def test_fail_fast_gives_the_error_that_came_first() -> None:
    """First in time, not in order."""
    tally, first = tally_of(fail_fast=True), ValueError("first")
    assert tally.fails_fast is False
    tally.fail(C, 1, first)
    assert tally.fails_fast is True
    tally.fail(A, 1, ValueError("second"))
    complete(tally, B)
    tally.cancel(D, 1, started=False)
    assert (FAILED, first) == tally.verdict()


def test_a_retry_is_no_failure_yet() -> None:
    """`fail_fast` waits for the last attempt."""
    tally = tally_of(fail_fast=True, retries=1)
    tally.fail(A, 1, ValueError())
    assert tally.fails_fast is False


def test_a_stopped_map_is_cancelled() -> None:
    """When that made a difference."""
    tally = tally_of()
    complete(tally, A, B, C)
    tally.close("Ctrl-C", stopped=True)
    tally.cancel(D, 1, started=True)
    status, error = tally.verdict()
    assert (CANCELLED, StepCancelledError) == (status, type(error))
    assert "Ctrl-C" in str(error)


def test_a_stop_that_came_too_late_changes_nothing() -> None:
    """All items had completed."""
    tally = tally_of()
    complete(tally, A, B, C, D)
    tally.close("late", stopped=True)
    assert (COMPLETED, None) == tally.verdict()


def test_a_stop_before_the_last_item_was_made_cancels() -> None:
    """Nobody knows what else the source had."""
    tally = tally_of()
    tally.exhausted = False
    complete(tally, A, B, C, D)
    tally.close("early", stopped=True)
    assert CANCELLED is tally.verdict()[0]


@pytest.mark.parametrize(
    ("causes", "expected"),
    [
        ({"fail_fast", "broken", "stopped"}, "fail_fast"),
        ({"broken", "stopped", "few"}, "broken"),
        ({"stopped", "few"}, "stopped"),
        ({"few"}, "few"),
        ({"conflict"}, "conflict"),
        ({"conflict", "few"}, "few"),
        ({"conflict", "broken"}, "broken"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(sorted(value)),
)
def test_which_cause_wins(causes: set[str], expected: str) -> None:
    """An item that failed fast, then the source, then the stop, then too few, then a clash."""
    needed = None if "fail_fast" in causes else 3 if "few" in causes else 1
    tally = tally_of(fail_fast="fail_fast" in causes, min_success=needed)
    failed, broken = ValueError("item"), OSError("source")
    writes = {"key": 1} if "conflict" in causes else {}
    tally.complete(A, 1, writes)
    tally.complete(B, 2, writes)
    tally.fail(C, 1, failed)
    if "broken" in causes:
        tally.broken = broken
    if "stopped" in causes:
        tally.close("stopped", stopped=True)
    tally.cancel(D, 1, started=False)
    status, error = tally.verdict()
    assert (CANCELLED if expected == "stopped" else FAILED) is status
    kinds = {
        "fail_fast": ValueError, "broken": OSError, "stopped": StepCancelledError,
        "few": GroupFailedError, "conflict": StateConflictError,
    }  # fmt: skip
    assert kinds[expected] is type(error)


# --- state and rollback ----------------------------------------------------------------------


def test_writes_of_completed_items_are_merged() -> None:
    """Those of others never reach the books."""
    tally = tally_of()
    tally.complete(A, None, {"a": 1})
    tally.complete(C, None, {"c": 2, "d": 3})
    assert {"a": 1, "c": 2, "d": 3} == tally.writes()


def test_two_items_that_write_one_key_clash() -> None:
    """The error names key and items, in item order, whoever completed first."""
    tally = tally_of()
    tally.complete(D, None, {"other": 1, "key": 1})
    tally.complete(B, None, {"key": 1})
    complete(tally, A, C)
    status, error = tally.verdict()
    assert isinstance(error, StateConflictError)
    assert (FAILED, "key", ("m[1]", "m[3]")) == (status, error.key, error.steps)


def test_completed_items_are_undone_from_the_last() -> None:
    """In reverse item order, each with its item, value and writes."""
    tally = tally_of(compensate=body)
    complete(tally, C, A)
    tally.complete(D, "v3", {"key": 1})
    tally.fail(B, 1, ValueError())
    assert [(D, "d", "v3", True), (C, "c", "v2", True), (A, "a", "v0", True)] == undone(tally)
    assert [{"key": 1}, {}, {}] == [done.writes for done in tally.done()]


def test_what_started_is_undone_on_demand() -> None:
    """`compensate_on="started"`: failed and cancelled items whose bodies began have no value."""
    tally = tally_of("abcdef", compensate=body, compensate_on="started", retries=1)
    complete(tally, A)
    tally.fail(B, 2, ValueError())
    tally.cancel(C, 1, started=True)
    tally.cancel(D, 1, started=False)
    tally.cancel(4, 2, started=False)
    tally.fail(5, 1, ValueError(), started=False)
    assert [(4, "e", None, False), (C, "c", None, False), (B, "b", None, False),
            (A, "a", "v0", True)] == undone(tally)  # fmt: skip


def test_items_that_rested_when_the_map_was_closed_had_started() -> None:
    """Their first attempts have."""
    tally = tally_of("a", compensate=body, compensate_on="started", retries=1)
    tally.fail(A, 1, ValueError())
    tally.close("enough")
    assert [(A, "a", None, False)] == undone(tally)


def test_a_rollback_needs_no_values() -> None:
    """Without `keep_values` an item is undone all the same."""
    tally = tally_of("ab", compensate=body, keep_values=False)
    complete(tally, A, B)
    assert [(B, "b", None, True), (A, "a", None, True)] == undone(tally)


def test_without_a_compensation_nothing_is_undone_and_no_item_kept() -> None:
    """The books hold no item that nobody will ask for."""
    tally = tally_of()
    complete(tally, A, B, C, D)
    assert ([], None) == (undone(tally), tally._items)


# --- any order -------------------------------------------------------------------------------


class Books(RuleBasedStateMachine):
    """Tell a tally anything that may happen, in any order, and keep simple books beside it."""

    @initialize(
        retries=st.integers(0, 2),
        fail_fast=st.booleans(),
        needed=st.none() | st.integers(1, 6),
        started=st.booleans(),
        keep=st.booleans(),
    )
    def begin(
        self, retries: int, fail_fast: bool, needed: int | None, started: bool, keep: bool
    ) -> None:
        """Make a map."""
        self.needed = None if fail_fast else needed
        self.fail_fast, self.retries, self.keep = fail_fast, retries, keep
        self.also_started = started
        node = Flow("flow").map(
            "m", body, [], retries=retries, retry_delay=1, fail_fast=fail_fast,
            min_success=self.needed, keep_values=keep, compensate=body,
            compensate_on="started" if started else "completed",
        ).nodes[0]  # fmt: skip
        assert isinstance(node, Map)
        self.tally = Tally(node, largest)
        #: The items of which a body has started.
        self.begun: set[int] = set()
        #: Of each item: `ready`, `running`, `resting`, or how it has settled.
        self.phases: list[str] = []
        #: Of each item: attempts that were begun, and its last error.
        self.attempts: list[int] = []
        self.last: dict[int, Exception] = {}
        self.first: Exception | None = None
        self.broken: Exception | None = None
        self.bodies = self.rests = 0
        self.closed = self.stopped = self.exhausted = False

    def within(self, phase: str) -> list[int]:
        """Return the items in one phase."""
        return [index for index, now in enumerate(self.phases) if now == phase]

    def settle_failed(self, index: int) -> None:
        """Note that an item has failed."""
        self.phases[index] = "failed"
        self.first = self.first or self.last[index]

    @precondition(lambda self: not (self.exhausted or self.closed) and len(self.phases) < 8)
    @rule(count=st.integers(1, 3))
    def take(self, count: int) -> None:
        """The source gives some items."""
        start = len(self.phases)
        self.tally.take(range(start, start + count))
        self.phases += ["ready"] * count
        self.attempts += [0] * count

    @precondition(lambda self: not self.closed)
    @rule()
    def end(self) -> None:
        """The source has no more."""
        self.tally.exhausted = self.exhausted = True

    @precondition(lambda self: not self.closed and self.within("ready"))
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        """A worker takes an item."""
        index = data.draw(st.sampled_from(self.within("ready")))
        self.phases[index] = "running"
        self.attempts[index] += 1

    @precondition(lambda self: self.within("running"))
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        """A body returns."""
        index = data.draw(st.sampled_from(self.within("running")))
        self.tally.complete(index, index, {f"key {index}": index})
        self.phases[index] = "completed"
        self.bodies += 1

    @precondition(lambda self: self.within("running"))
    @rule()
    def complete_row(self) -> None:
        """The bodies of a chunk return."""
        start = stop = self.within("running")[0]
        while stop < len(self.phases) and self.phases[stop] == "running":
            self.phases[stop] = "completed"
            stop += 1
        self.tally.complete_all(start, list(range(start, stop)))
        self.bodies += stop - start

    @precondition(lambda self: self.within("running"))
    @rule(data=st.data(), started=st.booleans())
    def fail(self, data: st.DataObject, started: bool) -> None:
        """A body raises, or could not be begun."""
        index = data.draw(st.sampled_from(self.within("running")))
        error = self.last[index] = ValueError(index)
        number = self.attempts[index]
        delay = self.tally.fail(index, number, error, started=started)
        self.bodies += started
        self.begun |= {index} if started else set()
        again = started and not self.closed and number <= self.retries
        assert (1.0 if again else None) == delay
        if again:
            self.phases[index] = "resting"
            self.rests += 1
        else:
            self.settle_failed(index)

    @precondition(lambda self: self.within("resting"))
    @rule(data=st.data())
    def rest(self, data: st.DataObject) -> None:
        """A delay is over."""
        index = data.draw(st.sampled_from(self.within("resting")))
        assert self.tally.rested(index)
        self.phases[index] = "ready"

    @precondition(lambda self: self.closed and self.within("running"))
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        """A body that was asked to stop does."""
        index = data.draw(st.sampled_from(self.within("running")))
        self.tally.cancel(index, self.attempts[index], started=True)
        self.phases[index] = "cancelled"
        self.bodies += 1
        self.begun.add(index)

    @rule(stopped=st.booleans(), broken=st.booleans())
    def close(self, stopped: bool, broken: bool) -> None:
        """Nothing starts any more: what is ready never does, what rests has failed."""
        if broken and not self.closed:
            self.tally.broken = self.broken = OSError()
        resting = self.within("resting")
        assert resting == self.tally.close("enough", stopped=stopped)
        for index in resting:
            self.settle_failed(index)
        for index in self.within("ready"):
            self.tally.cancel(index, self.attempts[index] + 1, started=False)
            if index in self.last:
                self.settle_failed(index)
            else:
                self.phases[index] = "cancelled"
        self.closed = True
        self.stopped = self.stopped or stopped

    @invariant()
    def the_books_agree(self) -> None:
        """Counts, values, errors and attempts are what the simple books say."""
        tally, phases = self.tally, self.phases
        assert counts(tally) == tuple(map(phases.count, ("completed", "failed", "cancelled")))
        assert phases.count("resting") == tally.retrying
        assert (self.bodies, float(self.rests)) == (tally.attempts, tally.backoff)
        assert {index: self.last[index] for index in self.within("failed")} == tally.errors
        values = [index if phases[index] == "completed" else None for index in range(len(phases))]
        assert (values if self.keep else []) == tally.values
        assert (self.fail_fast and self.first is not None) == tally.fails_fast

    @invariant()
    def what_is_undone_agrees(self) -> None:
        """Completed items, and on demand those that have started, from the last to the first."""
        found = []
        for index in reversed(range(len(self.phases))):
            phase = self.phases[index]
            if phase == "completed":
                found.append((index, index, index if self.keep else None, True))
            elif self.also_started and phase in ("failed", "cancelled") and index in self.begun:
                found.append((index, index, None, False))
        assert found == undone(self.tally)

    @invariant()
    def the_verdict_agrees(self) -> None:
        """Once all have settled, the causes are judged in their order."""
        if self.within("running") or self.within("ready") or self.within("resting"):
            return
        total, completed = len(self.phases), self.phases.count("completed")
        status, error = self.tally.verdict()
        if self.fail_fast and self.first is not None:
            assert (FAILED, self.first) == (status, error)
        elif self.broken is not None:
            assert (FAILED, self.broken) == (status, error)
        elif self.stopped and ("cancelled" in self.phases or not self.exhausted):
            assert (CANCELLED, StepCancelledError) == (status, type(error))
        elif not total or completed >= (self.needed or 1):
            assert (COMPLETED, None) == (status, error)
        else:
            assert FAILED is status


Books.TestCase.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, database=None
)


class TestBooks(Books.TestCase):
    """Whatever happens, and in whatever order, the books are right."""
