"""Undoing the items of a map, and items that finish late."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from contract_tools import BodyError, Gate, Journal, Pool, Recorder, do_nothing, fail, wait_until
from map_tools import Aside, double, fail_item, fail_odd, run_aside, same

from syncflow import Context, Flow, FlowResult, GroupFailedError, Hooks, Step, StepTimeoutError

#: Runs go by a fake clock; bodies in processes, and whoever waits for them, by the real one.
pytestmark = pytest.mark.usefixtures("clock")

SIZES = pytest.mark.parametrize("chunk_size", ["auto", 1, 3])

#: Seconds after which an item is abandoned.
SHORT = 0.1


def undoing(journal: Journal) -> Callable[[Context, Any], None]:
    """Return a compensation that notes its item, and what it sees of it."""

    def undo(ctx: Context, item: Any) -> None:
        journal.add(item, ctx.value("m", "no value"), ctx.idempotency_key, type(ctx.error).__name__)

    return undo


def undone(journal: Journal) -> list[int]:
    """Return the items that were undone, in that order."""
    return [int(line.split()[0]) for line in journal.lines]


def failing(flow: Flow, **options: Any) -> FlowResult:
    """Run a flow that fails in a last step."""
    return run_aside(flow.step("bad", fail), **options)


# --- order and what is seen ------------------------------------------------------------------


@SIZES
def test_completed_items_are_undone_from_the_last(
    worker_pool: Pool, journal: Journal, chunk_size: Any
) -> None:
    """In reverse item order; those that failed are not."""
    flow = Flow("flow").map(
        "m",
        fail_odd,
        range(7),
        pool=worker_pool,
        chunk_size=chunk_size,
        compensate=undoing(journal),
    )
    result = failing(flow)
    assert [6, 4, 2, 0] == undone(journal)
    assert ("complete", "completed") == (result.rollback, result["m"].compensation)


def test_a_compensation_sees_its_own_item(worker_pool: Pool, journal: Journal) -> None:
    """Item and value, the key of its attempt, and what the rollback is for."""
    flow = Flow("flow").map("m", double, [1, 2], pool=worker_pool, compensate=undoing(journal))
    failing(flow, run_id="id")
    assert ["2 4 id:m:1 BodyError", "1 2 id:m:0 BodyError"] == journal.lines


def test_a_compensation_sees_the_writes_of_its_own_item(worker_pool: Pool) -> None:
    """On top of the flow's state."""
    seen: list[Any] = []

    def body(ctx: Context, item: int) -> None:
        ctx.set(f"key {item}", item)

    def undo(ctx: Context, item: int) -> None:
        seen.append((item, ctx.get("before"), ctx.get(f"key {item}")))

    flow = Flow("flow").step("a", lambda ctx: ctx.set("before", "state"))
    failing(flow.map("m", body, [1, 2], pool=worker_pool, compensate=undo))
    assert [(2, "state", 2), (1, "state", 1)] == seen


def test_items_of_a_failed_map_are_undone(worker_pool: Pool, journal: Journal) -> None:
    """Those that completed: their writes are seen by their own compensation alone."""

    def body(ctx: Context, item: int) -> int:
        ctx.set(f"key {item}", item)
        return fail_odd(ctx, item)

    def undo(ctx: Context, item: int) -> None:
        journal.add(item, ctx.value("m"), *(key for key in range(4) if ctx.has(f"key {key}")))

    flow = Flow("flow").map("m", body, range(4), pool=worker_pool, min_success=3, compensate=undo)
    result = run_aside(flow)
    assert ["2 2 2", "0 0 0"] == journal.lines
    assert ("failed", "complete") == (result.status, result.rollback)


def test_maps_and_steps_are_undone_in_one_order(worker_pool: Pool, journal: Journal) -> None:
    """The reverse of their definition."""

    def noting(word: str) -> Callable[..., None]:
        return lambda ctx, *item: journal.add(word, *item)

    flow = Flow("flow").step("a", do_nothing, compensate=noting("a"))
    flow.map("m", same, [0, 1], pool=worker_pool, compensate=noting("m"))
    flow.step("b", do_nothing, compensate=noting("b"))
    failing(flow)
    assert ["b", "m 1", "m 0", "a"] == journal.lines


def test_values_need_not_be_kept(worker_pool: Pool, journal: Journal) -> None:
    """Then compensations do without."""
    flow = Flow("flow").map(
        "m", double, [1, 2], pool=worker_pool, keep_values=False, compensate=undoing(journal)
    )
    failing(flow)
    assert [2, 1] == undone(journal)


def test_a_map_without_items_has_nothing_to_undo(worker_pool: Pool, journal: Journal) -> None:
    """Its compensation is none."""
    flow = Flow("flow").map("m", double, [], pool=worker_pool, compensate=undoing(journal))
    assert "failed" == failing(flow).status
    assert [] == journal.lines


def test_items_are_not_undone_when_the_flow_completes(worker_pool: Pool, journal: Journal) -> None:
    """Failed ones neither: the map tolerates them."""
    flow = Flow("flow").map("m", fail_odd, range(3), pool=worker_pool, compensate=undoing(journal))
    assert ("not_needed", []) == (run_aside(flow).rollback, journal.lines)


@pytest.mark.parametrize("pool", ["inline", "thread", "process"])
@pytest.mark.xdist_group("process")
def test_a_compensation_may_run_anywhere(pool: str, journal: Journal) -> None:
    """One at a time, wherever; as a `Step` with options of its own."""
    attempts: dict[str, Any] = {"retries": 1} if pool != "inline" else {}

    def undo(ctx: Context, item: int) -> None:
        journal.add(item, ctx.attempt, ctx.value("m"), ctx.idempotency_key)
        if attempts and ctx.attempt == 1:
            raise BodyError

    flow = Flow("flow").map(
        "m", double, [1, 2], compensate=Step("undo", undo, pool=pool, **attempts)
    )
    assert "complete" == failing(flow, run_id="id").rollback
    numbers = (1, 2) if attempts else (1,)
    expected = [
        f"{item} {number} {2 * item} id:m:{item - 1}" for item in (2, 1) for number in numbers
    ]
    assert expected == journal.lines


# --- the record ------------------------------------------------------------------------------


def test_the_record_has_one_compensation(worker_pool: Pool, recorder: Recorder) -> None:
    """With the attempts of all items; hooks fire once."""
    flow = Flow("flow", hooks=recorder)
    flow.map("m", same, range(5), pool=worker_pool, compensate=same)
    result = failing(flow)
    (record,) = result.compensations
    assert ("m", "completed", None, 5, False) == (
        record.step_name, record.status, record.error, record.attempts, record.late,
    )  # fmt: skip
    assert record.started_at is not None
    names = [name for name in recorder.names() if "compensate" in name]
    assert ["on_compensate m", "on_compensate_complete m"] == names


def test_a_compensation_that_fails_stops_no_other(worker_pool: Pool, journal: Journal) -> None:
    """It is on record, and the rollback is incomplete."""

    def undo(ctx: Context, item: int) -> None:
        journal.add(item)
        if item == 2:
            raise LookupError(item)

    flow = Flow("flow").map("m", same, range(4), pool=worker_pool, compensate=undo)
    result = failing(flow)
    (record,) = result.compensations
    assert [3, 2, 1, 0] == undone(journal)
    assert ("incomplete", "failed", LookupError, 4) == (
        result.rollback, record.status, type(record.error), record.attempts,
    )  # fmt: skip
    assert BodyError is type(result.error)


def test_several_that_fail_are_a_group(worker_pool: Pool, recorder: Recorder) -> None:
    """Of their errors, in the order in which they came up."""
    flow = Flow("flow", hooks=recorder)
    flow.map("m", same, range(3), pool=worker_pool, compensate=fail_item)
    (record,) = failing(flow).compensations
    assert isinstance(record.error, GroupFailedError)
    assert [2, 1, 0] == [error.args[0] for error in record.error.exceptions]
    assert ["on_compensate_fail m"] == [x for x in recorder.names() if "compensate_fail" in x]


# --- what has started ------------------------------------------------------------------------


def test_what_started_is_undone_on_demand(worker_pool: Pool, journal: Journal) -> None:
    """`compensate_on="started"`: the outcome of an item that failed is not known, nor its value."""
    flow = Flow("flow").map(
        "m", fail_odd, range(4), pool=worker_pool,
        compensate=undoing(journal), compensate_on="started",
    )  # fmt: skip
    failing(flow, run_id="id")
    assert [
        "3 no value id:m:3 BodyError", "2 2 id:m:2 BodyError",
        "1 no value id:m:1 BodyError", "0 0 id:m:0 BodyError",
    ] == journal.lines  # fmt: skip


def test_what_never_started_is_not_undone(worker_pool: Pool, journal: Journal) -> None:
    """Items that were waiting when another one failed fast."""
    flow = Flow("flow").map(
        "m", fail_item, range(4), pool=worker_pool, fail_fast=True, max_concurrency=1,
        compensate=undoing(journal), compensate_on="started", chunk_size=1,
    )  # fmt: skip
    result = run_aside(flow)
    assert ([0], 1) == (undone(journal), result["m"].attempts)


@pytest.mark.xdist_group("process")
def test_an_item_that_crashed_has_started(journal: Journal) -> None:
    """Nobody knows how far it came."""

    def body(ctx: Context, item: int) -> None:
        if item == 1:
            os._exit(1)

    flow = Flow("flow").map(
        "m", body, range(3), pool="process", chunk_size=3,
        compensate=undoing(journal), compensate_on="started",
    )  # fmt: skip
    failing(flow)
    assert [2, 1, 0] == undone(journal)


# --- late finishers --------------------------------------------------------------------------


class Late:
    """A map over two items, the first of which hangs in its first attempt until it is let go."""

    def __init__(self, pool: Pool, gates: Callable[[str], Gate], journal: Journal) -> None:
        self.pool = pool
        self.release = gates("release")
        self.undone = gates("undone")
        self.journal = journal
        self.finished = threading.Event()

    def body(self, ctx: Context, item: int) -> str:
        """Hang, write and return."""
        if item == 0 and ctx.attempt == 1:
            self.release.wait()
        ctx.set(f"key {item}", f"attempt {ctx.attempt}")
        return f"value {item} of attempt {ctx.attempt}"

    def undo(self, ctx: Context, item: int) -> None:
        """Note what is undone."""
        self.journal.add(item, ctx.get(f"key {item}"), ctx.value("m"), ctx.idempotency_key)
        self.undone.open()

    def flow(self, **options: Any) -> Flow:
        """Return the flow."""
        known = {"timeout": SHORT, "compensate": self.undo, "chunk_size": 1}
        late = self

        class Watch(Hooks):
            def on_late_finish(self, event: Any) -> None:
                late.finished.set()

        flow = Flow("flow", hooks=Watch())
        return flow.map("m", self.body, [0, 1], pool=self.pool, **(known | options))

    def let_go(self, ctx: Context) -> None:
        """Let the hanging body return, and wait until it was undone."""
        self.release.open()
        self.undone.wait()


@pytest.fixture
def late(abandoning_pool: Pool, gates: Callable[[str], Gate], journal: Journal) -> Late:
    """Return a map with an item that can finish late."""
    return Late(abandoning_pool, gates, journal)


def test_an_item_that_finishes_late_is_undone(late: Late) -> None:
    """The record says that it failed: with what it wrote and returned, while the flow goes on."""
    result = run_aside(late.flow().step("next", late.let_go), run_id="id", drain=20)
    assert ["0 attempt 1 value 0 of attempt 1 id:m:0"] == late.journal.lines
    assert ("completed", StepTimeoutError, (), [True]) == (
        result.status, type(result["m"].errors[0]), result.abandoned,
        [each.late for each in result.compensations],
    )  # fmt: skip
    assert late.finished.wait(20)


def test_a_run_that_drains_waits_until_a_late_item_is_undone(
    late: Late, gates: Callable[[str], Gate]
) -> None:
    """The body has ended; what it did is not undone before its compensation has."""
    begun, go_on = gates("begun"), gates("go on")

    def undo(ctx: Context, item: int) -> None:
        begun.open()
        wait_until(lambda: go_on.is_open)  # without letting time pass: `drain` has an end

    flow = late.flow(compensate=undo).step("next", lambda ctx: late.release.open())
    run = Aside(flow, drain=20)
    begun.wait()
    # What would be wrong has all the time it needs.
    threading.Event().wait(0.05)
    go_on.open()
    result = run.result()
    (record,) = result.compensations
    assert ((), "m", "completed", True) == (
        result.abandoned, record.step_name, record.status, record.late,
    )  # fmt: skip


def test_an_item_that_finishes_after_the_run_is_undone(late: Late) -> None:
    """On its own thread, whenever that is."""
    result = run_aside(late.flow(), run_id="id")
    assert (("m",), []) == (result.abandoned, late.journal.lines)
    late.release.open()
    assert late.finished.wait(20)
    assert ["0 attempt 1 value 0 of attempt 1 id:m:0"] == late.journal.lines


def test_an_item_whose_retry_completed_is_in_effect(late: Late) -> None:
    """Its late body has done the same again: nothing is undone."""
    flow = late.flow(retries=1)

    def let_go(ctx: Context) -> None:
        late.release.open()

    result = run_aside(flow.step("next", let_go), drain=20)
    assert (["value 0 of attempt 2", "value 1 of attempt 1"], (), []) == (
        result["m"].values, result.abandoned, late.journal.lines,
    )  # fmt: skip


def test_what_the_rollback_has_undone_is_not_forgotten(late: Late) -> None:
    """An item that finishes late after its compensation is undone once more."""
    flow = late.flow(retries=1).step("bad", fail)
    result = run_aside(flow, run_id="id")
    assert [
        "1 attempt 1 value 1 of attempt 1 id:m:1",
        "0 attempt 2 value 0 of attempt 2 id:m:0",
    ] == (late.journal.lines)
    assert ("incomplete", ("m",)) == (result.rollback, result.abandoned)
    late.release.open()
    wait_until(lambda: len(late.journal.lines) == 3, "the late body to be undone")
    assert "0 attempt 1 value 0 of attempt 1 id:m:0" == late.journal.lines[2]
    assert late.finished.wait(20)
