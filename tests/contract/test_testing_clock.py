"""Flows on the fake clock: what takes how long, whatever the machine does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from contract_tools import BodyError, Gate, Pool, Recorder, do_nothing, fail, sleep_long

from syncflow import Context, Flow, FlowTimeoutError, Step, StepTimeoutError, ThreadPool
from syncflow.testing import FakeClock

#: Instants are floats, which are not exact.
close = pytest.approx


def sleeping(seconds: float) -> Callable[[Context], float]:
    """Return a body that sleeps, and returns how long."""

    def body(ctx: Context) -> float:
        ctx.sleep(seconds)
        return seconds

    return body


def sleep_item(ctx: Context, item: float) -> float:
    """Sleep as long as the item says."""
    ctx.sleep(item)
    return item


def sleepers(*seconds: float, **options: object) -> list[Step]:
    """Return steps that sleep so long each."""
    return [Step(f"s{index}", sleeping(s), **options) for index, s in enumerate(seconds)]


# --- one run ---------------------------------------------------------------------------------


def test_bodies_that_do_not_wait_take_no_time(clock: FakeClock, sharing_pool: Pool) -> None:
    """The clock stands still while they run."""
    result = Flow("flow").step("a", do_nothing, pool=sharing_pool).run()
    assert close((0.0, 0.0, 0.0), abs=0.01) == (clock.now, result.duration, result["a"].duration)


@pytest.mark.parametrize("pool", ["inline", "thread"])
def test_backoff_takes_exactly_its_time(clock: FakeClock, pool: str) -> None:
    """0.2, 0.4 and 0.8 seconds, and no more."""
    options = {"retries": 3, "retry_delay": 0.2, "backoff": "exponential", "pool": pool}
    result = Flow("flow").step("a", fail, **options).run()
    assert (1.4, 4) == (clock.now, result["a"].attempts)
    assert close(1.4) == result["a"].backoff == result.duration


def test_a_timeout_takes_exactly_its_time(clock: FakeClock) -> None:
    """Two attempts of 30 seconds, and a delay of 5."""
    flow = Flow("flow").step("a", sleep_long, timeout=30, retries=1, retry_delay=5)
    result = flow.run()
    assert (65.0, StepTimeoutError, ()) == (clock.now, type(result.error), result.abandoned)


def test_a_body_that_computes_keeps_its_timeout_away(clock: FakeClock) -> None:
    """Until the test lets the time pass by hand."""
    event = threading.Event()

    def body(ctx: Context) -> None:
        clock.advance(31)
        event.wait()

    result = Flow("flow").step("a", body, timeout=30).run()
    event.set()
    assert (31.0, "failed", ("a",)) == (clock.now, result.status, result.abandoned)


def test_a_deaf_body_is_abandoned_in_time(clock: FakeClock, gate: Gate) -> None:
    """It waits for something else, and says so."""
    result = Flow("flow").step("a", lambda ctx: gate.wait(), timeout=30).run()
    gate.open()
    assert (30.0, ("a",)) == (clock.now, result.abandoned)


def test_a_group_takes_as_long_as_its_longest_member(clock: FakeClock) -> None:
    """Members sleep beside each other."""
    result = Flow("flow").parallel("g", sleepers(3, 5, 4)).run()
    assert (5.0, close([3, 5, 4])) == (clock.now, [step.duration for step in result.steps])


def test_a_bounded_group_takes_turns(clock: FakeClock) -> None:
    """Two at a time: 3 and 5 first, then 4 after the 3."""
    Flow("flow").parallel("g", sleepers(3, 5, 4), max_concurrency=2).run()
    assert 7.0 == clock.now


def test_members_wait_for_a_thread(clock: FakeClock) -> None:
    """Who waits for a full pool does not keep the clock where it is."""
    with ThreadPool(1) as pool:
        result = Flow("flow").parallel("g", sleepers(3, 5, 4, pool=pool), max_concurrency=3).run()
    assert (12.0, close([0, 3, 8])) == (clock.now, [step.queued for step in result.steps])


def test_members_wait_for_a_seat(clock: FakeClock) -> None:
    """Tiny ones make the next ones line up beyond the bound: those start when others end."""
    for _ in range(50):
        began = clock.now
        tiny = [Step(f"tiny{number}", do_nothing) for number in range(4)]
        Flow("flow").parallel("g", [*tiny, *sleepers(*[10] * 8)], max_concurrency=2).run()
        assert close(40) == clock.now - began


def test_members_wait_for_a_foreign_thread(clock: FakeClock) -> None:
    """Nobody can tell whether an executor is full: so time passes as it does."""
    with ThreadPoolExecutor(1) as pool:
        Flow("flow").parallel("g", sleepers(0.02, 0.03, 0.04, pool=pool)).run()
    assert 0.09 <= clock.now


@pytest.mark.parametrize("late", ["run", "group"])
def test_deadlines_of_run_and_group(clock: FakeClock, late: str) -> None:
    """They come when they are due, and to members that have not started, too."""
    limits = ({"timeout": 7}, {}) if late == "group" else ({}, {"timeout": 7})
    flow = Flow("flow").parallel("g", sleepers(20, 20), max_concurrency=1, **limits[0])
    result = flow.run(**limits[1])
    error = StepTimeoutError if late == "group" else FlowTimeoutError
    assert (7.0, [1, 0]) == (clock.now, [step.attempts for step in result.steps])
    assert error in (type(result.error), type(result["s0"].error))


def test_fail_fast_stops_sleepers(clock: FakeClock) -> None:
    """They wake when the other fails, not in their own time."""
    steps = [*sleepers(1000), Step("bad", fail, retries=1, retry_delay=2)]
    result = Flow("flow").parallel("g", steps, fail_fast=True).run()
    assert (2.0, BodyError, "cancelled") == (clock.now, type(result.error), result["s0"].status)


@pytest.mark.parametrize("bound", [None, 1])
def test_a_map(clock: FakeClock, bound: int | None) -> None:
    """Items sleep beside each other, or one after the other."""
    items = [3, 1, 2, 5]
    result = Flow("flow").map("m", sleep_item, over=items, max_concurrency=bound).run()
    assert (items, 11.0 if bound else 5.0) == (result["m"].values, clock.now)


def test_the_items_of_a_map_have_their_own_time(clock: FakeClock) -> None:
    """Each attempt of each item: 4 seconds, a rest of 1, and 4 again."""
    flow = Flow("flow").map("m", sleep_item, over=[1, 9], timeout=4, retries=1, retry_delay=1)
    result = flow.run()["m"]
    assert (9.0, [1], [1, None]) == (clock.now, [*result.errors], result.values)


def test_no_item_starts_when_the_time_of_the_run_is_up(clock: FakeClock) -> None:
    """The item that wakes then makes room for another one, which must not be filled."""
    flow = Flow("flow").map("m", sleep_item, over=[1000, 0, 0], max_concurrency=1)
    result = flow.run(timeout=7)["m"]
    assert (7.0, 1, 0) == (clock.now, result.attempts, result.completed)


@pytest.mark.parametrize("pool", ["inline", "thread"])
def test_a_flow_in_a_flow(clock: FakeClock, pool: str) -> None:
    """Its own waits are waits of the outer run."""
    inner = Flow("inner").step("a", sleeping(3)).step("b", fail, retries=1, retry_delay=2)
    Flow("flow").step("sub", inner, pool=pool).run()
    assert 5.0 == clock.now


def test_a_run_within_a_body(clock: FakeClock) -> None:
    """The body waits for it, so it does not keep the clock where it is."""
    inner = Flow("inner").step("a", sleeping(3), timeout=10)
    flow = Flow("flow").parallel("g", [Step("a", lambda ctx: inner.run()), *sleepers(4)])
    flow.run()
    assert 4.0 == clock.now


def test_compensations_sleep_and_are_retried(clock: FakeClock) -> None:
    """The rollback goes by the clock, too."""

    def undo(ctx: Context) -> None:
        ctx.sleep(3)
        if ctx.attempt == 1:
            raise BodyError

    step = Step("undo", undo, retries=1, retry_delay=4)
    Flow("flow").step("a", do_nothing, compensate=step).step("bad", fail).run()
    assert 10.0 == clock.now


def test_dates_move_with_the_clock(clock: FakeClock, recorder: Recorder) -> None:
    """Those of results do, from the date that it is; those of events are for people and logs."""
    before = datetime.now(UTC)
    flow = Flow("flow", hooks=[recorder]).step("a", sleeping(86400)).step("b", do_nothing)
    result = flow.run()
    assert before <= result.started_at <= datetime.now(UTC)
    assert close(86400) == (result["b"].started_at - result.started_at).total_seconds()
    assert recorder.calls[-1][1].at <= datetime.now(UTC)


def test_remaining_counts_down(clock: FakeClock) -> None:
    """`ctx.remaining` and `ctx.cancelled` go by the clock."""
    seen: list[object] = []

    def body(ctx: Context) -> None:
        seen.append(ctx.remaining)
        ctx.sleep(4)
        seen.append(ctx.remaining)
        clock.advance(7)
        seen.extend([ctx.remaining, ctx.cancelled])

    Flow("flow").step("a", body).run(timeout=10)
    assert [close(10), close(6), 0.0, True] == seen


# --- processes -------------------------------------------------------------------------------


@pytest.mark.xdist_group("process")
def test_backoff_between_processes_takes_no_real_time(clock: FakeClock) -> None:
    """Only bodies live in real time: nobody can wait for 1000 seconds here."""
    flow = Flow("flow").step("a", fail, pool="process", retries=1, retry_delay=1000)
    result = flow.run()
    assert (2, close(1000)) == (result["a"].attempts, result["a"].backoff)
    assert 1000 <= clock.now


@pytest.mark.xdist_group("process")
def test_a_body_in_a_process_takes_its_real_time(clock: FakeClock) -> None:
    """The clock goes with the real one until it has ended."""
    flow = Flow("flow").step("a", sleeping(0.05), pool="process", timeout=100)
    result = flow.run()
    assert "completed" == result.status
    assert 0.05 <= result["a"].duration <= clock.now
    assert 0 <= result["a"].queued


@pytest.mark.xdist_group("process")
def test_a_timeout_in_a_process_takes_its_real_time(clock: FakeClock) -> None:
    """The body is interrupted when its time is up there."""
    flow = Flow("flow").step("a", sleep_long, pool="process", timeout=0.05)
    result = flow.run()
    assert (StepTimeoutError, True) == (type(result.error), clock.now < 100)
    assert 0.05 <= result["a"].duration <= clock.now


# --- several at a time -----------------------------------------------------------------------


def test_runs_in_several_threads_share_the_clock(clock: FakeClock) -> None:
    """It goes on when all of them wait, and each of them finds its own times."""
    for _ in range(50):
        began, barrier = clock.now, threading.Barrier(4)

        def run(seconds: int, barrier: threading.Barrier = barrier) -> float:
            def together(ctx: Context) -> None:
                barrier.wait(20)

            flow = Flow("flow").step("a", together)
            flow.parallel("g", [*sleepers(seconds), Step("bad", fail, retries=2, retry_delay=1)])
            return flow.run()["s0"].duration

        with ThreadPoolExecutor(4) as threads:
            durations = list(threads.map(run, [3, 4, 5, 6]))
        assert close([3, 4, 5, 6]) == durations
        assert close(6) == clock.now - began


def test_nothing_oversleeps(clock: FakeClock, recorder: Recorder) -> None:
    """Steps, retries, nested flows, maps and timeouts at once: each in its own time, every time."""
    for _ in range(50):
        inner = Flow("inner").step("x", sleeping(1)).step("y", fail, retries=2, retry_delay=1.5)
        again = Step("again", fail, retries=3, retry_delay=0.25, backoff="exponential")
        steps = [*sleepers(1, 2, 3), again, Step("slow", sleep_long, timeout=2.5, retries=1)]
        flow = Flow("flow").parallel("g", [*steps, inner]).map("m", sleep_item, over=[2, 1, 2])
        began = clock.now
        result = flow.run()
        expected = [1, 2, 3, 1.75, 5, 4, 2]
        assert close(expected) == [step.duration for step in result.steps]
        assert (close(7), ()) == (clock.now - began, result.abandoned)
