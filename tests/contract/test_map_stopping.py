"""Stopping a map: by a token, by the run's time, and by Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from contract_tools import (
    BodyError,
    Gate,
    Journal,
    Pool,
    Recorder,
    When,
    do_nothing,
    swallow_everything,
)
from map_tools import Aside, counts, run_aside, same

from syncflow import (
    CancelToken,
    Context,
    Event,
    Flow,
    FlowCancelledError,
    FlowTimeoutError,
    Hooks,
    StepCancelledError,
)

processes = pytest.mark.xdist_group("process")

#: Seconds. Short, and long enough for a body that has nothing to do.
SHORT = 0.1


@pytest.fixture
def token() -> CancelToken:
    """Return a token."""
    return CancelToken()


def opening(gate: Gate, *, at: int = 0) -> Callable[[Context, int], int]:
    """Return a body that opens a gate at one item, and sleeps there until it is stopped."""

    def body(ctx: Context, item: int) -> int:
        if item == at:
            gate.open()
            ctx.sleep(1000)
        return item

    return body


# --- the token -------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", ["auto", 1, 3, 10])
def test_a_cancelled_map_stops(
    worker_pool: Pool, token: CancelToken, gate: Gate, chunk_size: Any
) -> None:
    """What completed has; what runs is stopped; what waits never starts."""
    flow = Flow("flow").map(
        "m", opening(gate, at=4), range(10), pool=worker_pool, max_concurrency=1,
        chunk_size=chunk_size,
    ).step("next", do_nothing)  # fmt: skip
    run = Aside(flow, cancel=token)
    gate.wait()
    token.cancel("enough")
    result = run.result()
    found = result["m"]
    assert ("cancelled", "cancelled", "skipped", "enough") == (
        result.status, found.status, result["next"].status, result.error.reason,
    )  # fmt: skip
    assert StepCancelledError is type(found.error)
    assert ([0, 1, 2, 3], 4, 0, 5) == (
        found.values[:4], found.completed, found.failed, found.attempts,
    )  # fmt: skip
    assert len(found.values) == sum(counts(found))


def test_completed_items_of_a_cancelled_map_are_undone(
    worker_pool: Pool, token: CancelToken, gate: Gate, journal: Journal
) -> None:
    """Each of them."""
    flow = Flow("flow").map(
        "m", opening(gate, at=3), range(6), pool=worker_pool, max_concurrency=1, chunk_size=1,
        compensate=lambda ctx, item: journal.add(item),
    )  # fmt: skip
    run = Aside(flow, cancel=token)
    gate.wait()
    token.cancel()
    assert ("complete", ["2", "1", "0"]) == (run.result().rollback, journal.lines)


def test_a_waiting_retry_ends_at_once(worker_pool: Pool, token: CancelToken) -> None:
    """The item has failed, with its last error."""

    def body(ctx: Context, item: int) -> None:
        raise BodyError(item)

    flow = Flow("flow", hooks=[When("on_step_retry", token.cancel)])
    flow.map("m", body, [0], pool=worker_pool, retries=3, retry_delay=1000)
    result = run_aside(flow, cancel=token)
    assert ("cancelled", BodyError, 1) == (
        result.status, type(result["m"].errors[0]), result["m"].attempts,
    )  # fmt: skip


def test_cancelled_items_are_not_retried(worker_pool: Pool, token: CancelToken, gate: Gate) -> None:
    """Whatever `retry_on` says."""
    flow = Flow("flow").map(
        "m", opening(gate), [0], pool=worker_pool, retries=3, retry_on=BaseException
    )
    run = Aside(flow, cancel=token)
    gate.wait()
    token.cancel()
    assert 1 == run.result()["m"].attempts


def test_a_token_reaches_the_source(token: CancelToken, gate: Gate) -> None:
    """Through its context: the thread that could hear of it is in there."""

    def source(ctx: Context) -> Iterator[int]:
        yield 0
        ctx.sleep(1000)
        yield 1

    def body(ctx: Context, item: int) -> int:
        gate.open()
        return item

    run = Aside(Flow("flow").map("m", body, source), cancel=token)
    gate.wait()
    token.cancel()
    result = run.result()
    assert ("cancelled", "cancelled", [0]) == (
        result.status, result["m"].status, result["m"].values,
    )  # fmt: skip


def test_a_token_reaches_a_source_that_has_not_begun(
    worker_pool: Pool, token: CancelToken, recorder: Recorder
) -> None:
    """A function that waits before it returns its items: the map is cancelled, not complete."""

    def source(ctx: Context) -> list[int]:
        token.cancel()
        ctx.sleep(1000)
        return [1]

    flow = Flow("flow", hooks=recorder).map("m", same, source, pool=worker_pool)
    result = run_aside(flow, cancel=token)
    assert ("cancelled", "cancelled", []) == (
        result.status, result["m"].status, recorder.of("on_step_complete"),
    )  # fmt: skip


def test_deaf_thread_bodies_are_abandoned(
    abandoning_pool: Pool, token: CancelToken, gates: Callable[[str], Gate]
) -> None:
    """After their grace; the run does not wait for them."""
    started, release = gates("started"), gates("release")

    def body(ctx: Context, item: int) -> None:
        started.open()
        release.wait()

    flow = Flow("flow").map("m", body, range(3), pool=abandoning_pool, grace=0.05,
                            max_concurrency=1, chunk_size=1)  # fmt: skip
    run = Aside(flow, cancel=token)
    started.wait()
    token.cancel()
    result = run.result()
    found = result["m"]
    assert ("cancelled", ("m",), 0, 0, 1) == (
        found.status, result.abandoned, found.completed, found.failed, found.attempts,
    )  # fmt: skip


@processes
@pytest.mark.parametrize("chunk_size", [1, 3])
def test_deaf_process_bodies_are_killed(token: CancelToken, gate: Gate, chunk_size: int) -> None:
    """After their grace; they are on record as cancelled, and so is their chunk."""

    def body(ctx: Context, item: int) -> None:
        gate.open()
        swallow_everything(ctx)

    flow = Flow("flow").map("m", body, range(3), pool="process", grace=0.1,
                            max_concurrency=1, chunk_size=chunk_size)  # fmt: skip
    run = Aside(flow, cancel=token)
    gate.wait()
    token.cancel()
    result = run.result()
    found = result["m"]
    assert ("cancelled", (), 0, {}, 1) == (
        found.status, result.abandoned, found.completed, found.errors, found.attempts,
    )  # fmt: skip


@processes
def test_deaf_processes_of_a_fail_fast_map_are_killed(gate: Gate) -> None:
    """The map waits for them no longer than their grace."""

    def body(ctx: Context, item: int) -> None:
        if item == 0:
            gate.open()
            swallow_everything(ctx)
        gate.wait()
        raise BodyError(item)

    flow = Flow("flow").map("m", body, [0, 1], pool="process", grace=0.1, chunk_size=1,
                            fail_fast=True)  # fmt: skip
    result = run_aside(flow)
    assert ((1,), (0, 1, 1)) == (result.error.args, counts(result["m"]))


def test_cancelled_after_the_last_item_nothing_is_lost(
    worker_pool: Pool, token: CancelToken
) -> None:
    """The map has completed, the flow has not."""
    flow = Flow("flow", hooks=[When("on_step_complete", token.cancel)])
    flow.map("m", same, range(5), pool=worker_pool).step("next", do_nothing)
    result = run_aside(flow, cancel=token)
    assert ("cancelled", "completed", list(range(5)), "skipped") == (
        result.status, result["m"].status, result["m"].values, result["next"].status,
    )  # fmt: skip


@pytest.mark.parametrize("items", [1, 50])
def test_a_token_may_come_at_any_moment(worker_pool: Pool, items: int) -> None:
    """Whenever it does: the run ends, and every item that was taken is accounted for."""
    for pause in range(20):
        token = CancelToken()
        moment = threading.Event()

        def source(ctx: Context, moment: threading.Event = moment) -> Iterator[int]:
            moment.set()
            yield from range(items)

        run = Aside(Flow("flow").map("m", same, source, pool=worker_pool), cancel=token)
        assert moment.wait(20)
        for _ in range(pause * 50):
            pass
        token.cancel()
        result = run.result()
        found = result["m"]
        assert len(found.values) == sum(counts(found))
        assert found.completed == len([value for value in found.values if value is not None])
        if found.status == "completed":
            assert items == found.completed


# --- the run's time --------------------------------------------------------------------------


@pytest.mark.usefixtures("clock")
def test_the_time_of_the_run_ends_the_map(worker_pool: Pool, gate: Gate) -> None:
    """Its items are cancelled, the flow has failed."""
    flow = Flow("flow").map("m", opening(gate), range(3), pool=worker_pool, max_concurrency=1,
                            chunk_size=1)  # fmt: skip
    result = run_aside(flow, timeout=2 * SHORT)
    found = result["m"]
    assert ("failed", FlowTimeoutError, "cancelled", 0, 0) == (
        result.status, type(result.error), found.status, found.completed, found.failed,
    )  # fmt: skip
    assert found.attempts <= 1  # the item that saw the end was the last to start


@pytest.mark.usefixtures("clock")
def test_the_time_of_the_run_ends_the_source() -> None:
    """It sees it in its context."""

    def source(ctx: Context) -> Iterator[int]:
        assert ctx.remaining is not None
        yield 0
        ctx.sleep(1000)

    result = run_aside(Flow("flow").map("m", same, source), timeout=SHORT)
    assert ("failed", FlowTimeoutError, "cancelled", 1) == (
        result.status, type(result.error), result["m"].status, len(result["m"].values),
    )  # fmt: skip


@pytest.mark.usefixtures("clock")
def test_the_time_of_the_run_ends_a_source_that_has_not_begun() -> None:
    """The map is cancelled, not complete."""

    def source(ctx: Context) -> list[int]:
        ctx.sleep(1000)
        return []

    result = run_aside(Flow("flow").map("m", same, source), timeout=SHORT)
    assert (FlowTimeoutError, "cancelled") == (type(result.error), result["m"].status)


# --- Ctrl-C ----------------------------------------------------------------------------------


def press() -> None:
    """Press Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


def interrupted(flow: Flow) -> Any:
    """Run a flow in the main thread until Ctrl-C ends it; return its result."""
    with pytest.raises(KeyboardInterrupt) as raised:
        flow.run()
    return raised.value.flow_result


class Presses(Hooks):
    """Presses Ctrl-C from another thread once a gate is open, if the run is still in progress."""

    def __init__(self, gate: Gate) -> None:
        self._over = False
        self._thread = threading.Thread(target=self._press, args=(gate,))
        self._thread.start()

    def _press(self, gate: Gate) -> None:
        gate.wait()
        if not self._over:
            press()

    def on_flow_cancel(self, event: Event) -> None:
        """Be over when the run is."""
        self._over = True
        self._thread.join()

    def on_flow_complete(self, event: Event) -> None:
        """Press no more: it would hit the test."""
        self._over = True

    on_flow_fail = on_flow_complete


def test_ctrl_c_while_items_run(worker_pool: Pool, gate: Gate, journal: Journal) -> None:
    """They are stopped, completed ones are undone, and the result comes with the interrupt."""
    flow = Flow("flow", hooks=Presses(gate)).map(
        "m", opening(gate, at=2), range(5), pool=worker_pool, max_concurrency=1, chunk_size=1,
        compensate=lambda ctx, item: journal.add(item),
    )  # fmt: skip
    result = interrupted(flow)
    found = result["m"]
    assert ("cancelled", FlowCancelledError, "cancelled", 2, 0, 3) == (
        result.status, type(result.error), found.status,
        found.completed, found.failed, found.attempts,
    )  # fmt: skip
    assert ["1", "0"] == journal.lines


def test_ctrl_c_in_the_source(worker_pool: Pool, journal: Journal) -> None:
    """It is raised there; the source's own `finally` runs."""

    def source(ctx: Context) -> Iterator[int]:
        try:
            yield 0
            yield 1
            press()
            ctx.sleep(20)
        finally:
            journal.add("left")

    result = interrupted(Flow("flow").map("m", same, source, pool=worker_pool))
    assert ("cancelled", "cancelled", ["left"]) == (
        result.status, result["m"].status, journal.lines,
    )  # fmt: skip


def test_ctrl_c_in_a_source_that_has_not_begun(worker_pool: Pool) -> None:
    """The map is cancelled, not complete."""

    def source(ctx: Context) -> list[int]:
        press()
        ctx.sleep(20)
        return []

    result = interrupted(Flow("flow").map("m", same, source, pool=worker_pool))
    assert ("cancelled", "cancelled") == (result.status, result["m"].status)


def failing_at_the_end(undo: Callable[[Context, int], None]) -> Flow:
    """Return a flow with a map that has to be undone."""

    def fail(ctx: Context) -> None:
        raise BodyError

    return Flow("flow").map("m", same, range(4), compensate=undo).step("bad", fail)


def test_the_first_ctrl_c_in_a_rollback_waits_for_its_end(journal: Journal) -> None:
    """All items are undone."""

    def undo(ctx: Context, item: int) -> None:
        if item == 2:
            press()
        journal.add(item)

    result = interrupted(failing_at_the_end(undo))
    assert (["3", "2", "1", "0"], "failed", "complete") == (
        journal.lines, result.status, result.rollback,
    )  # fmt: skip


def test_the_second_ctrl_c_ends_a_rollback(journal: Journal) -> None:
    """The compensation at hand is interrupted; the others of the map are not begun."""

    def undo(ctx: Context, item: int) -> None:
        journal.add(item)
        if item == 2:
            press()
            press()
            ctx.sleep(20)

    result = interrupted(failing_at_the_end(undo))
    (record,) = result.compensations
    assert (["3", "2"], "failed", "incomplete", "failed", 2) == (
        journal.lines, result.status, result.rollback, record.status, record.attempts,
    )  # fmt: skip


def test_a_second_ctrl_c_before_its_turn_skips_a_map(journal: Journal) -> None:
    """None of its items is undone, and the record says so."""

    def undo_step(ctx: Context) -> None:
        press()
        press()
        ctx.sleep(20)

    def fail(ctx: Context) -> None:
        raise BodyError

    flow = Flow("flow").map("m", same, range(4), compensate=lambda ctx, item: journal.add(item))
    flow.step("later", do_nothing, compensate=undo_step).step("bad", fail)
    result = interrupted(flow)
    assert ([], "incomplete", "skipped") == (
        journal.lines, result.rollback, result["m"].compensation,
    )  # fmt: skip
