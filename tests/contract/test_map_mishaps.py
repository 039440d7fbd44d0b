"""Maps at odd moments: what comes in between, and what was lost."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

import pytest
from contract_tools import Gate, Journal, Pool, wait_until
from map_tools import Aside, run_map

from syncflow import CancelToken, Context, Flow, ProcessPool, StepCancelledError, WorkerCrashedError

processes = pytest.mark.xdist_group("process")


def same(ctx: Context, item: Any) -> Any:
    """Return the item."""
    return item


def wait(gate: Gate) -> None:
    """Wait, deaf to everything but SIGKILL."""
    while True:
        try:
            return gate.wait()
        except BaseException:  # noqa: BLE001 - that is what it is for
            continue


# --- others on the same pool -----------------------------------------------------------------


@processes
def test_a_map_ends_though_others_wait_for_its_worker(gates: Any, journal: Journal) -> None:
    """It does not wait for its turn when it has nothing left to do."""
    begin, other = gates("begin"), gates("other")

    def body(ctx: Context, item: int) -> None:
        journal.add("began")
        begin.wait()

    with ProcessPool(1) as pool:
        run = Aside(Flow("flow").map("m", body, [1], pool=pool))
        wait_until(lambda: journal.lines == ["began"], "the item")
        call = pool.submit(wait, other)
        begin.open()
        assert run.result().ok
        assert not call.done()
        other.open()


# --- executors of all kinds ------------------------------------------------------------------


class Unreachable(Executor):
    """Cannot be reached."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("no scheduler")


def test_an_executor_that_cannot_be_reached_fails_the_map() -> None:
    """With its own error, whatever that is."""
    result = run_map(same, [1, 2, 3], Unreachable())
    assert ("failed", ConnectionError, 3) == (
        result.status,
        type(result.error),
        result.cancelled,
    )


class Sudden(Future[Any]):
    """Has its outcome in the very moment in which it is to be cancelled."""

    blob: bytes | None = None

    def cancel(self) -> bool:
        blob, self.blob = self.blob, None
        if blob is not None:
            self.set_running_or_notify_cancel()
            self.set_result(pickle.loads(blob)())
        return super().cancel()


class Suddenly(Executor):
    """Runs what it got first once it has more; the others when they are cancelled."""

    def __init__(self) -> None:
        self.first: Sudden | None = None

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        future = Sudden()
        future.blob = pickle.dumps(fn)
        if self.first is None:
            self.first = future
        else:
            threading.Thread(target=self.first.cancel).start()
        return future


def test_an_outcome_that_arrives_while_it_is_taken_back_counts() -> None:
    """The map neither waits for it for ever nor forgets it."""

    def body(ctx: Context, item: int) -> int:
        if item == 0:
            raise ValueError
        return item

    flow = Flow("flow").map("m", body, [0, 1], pool=Suddenly(), fail_fast=True, chunk_size=1)
    result = Aside(flow).result()["m"]
    assert (1, 1, 0) == (result.failed, result.completed, result.cancelled)


# --- outcomes that were lost -----------------------------------------------------------------


def crash_at(ctx: Context, item: int, journal: Journal, bad: int) -> None:
    """Kill the worker at one item."""
    journal.add(item)
    if item == bad:
        os._exit(7)


@processes
def test_items_whose_outcome_was_lost_are_undone_as_started(journal: Journal) -> None:
    """They ran in the chunk that the failure ended, and do not run again."""
    undone: list[int] = []
    with ProcessPool(1) as pool:
        flow = Flow("flow").map(
            "m", partial(crash_at, journal=journal, bad=6), range(8),
            pool=pool, chunk_size=8, fail_fast=True,
            compensate=lambda ctx, item: undone.append(item), compensate_on="started",
        )  # fmt: skip
        result = flow.run()
        assert [1] == run_map(same, [1], pool).values
    assert [6, 5, 4, 3, 2, 1, 0] == undone
    assert "complete" == result.rollback


def resist_at(ctx: Context, item: int, journal: Journal, gate: Gate) -> None:
    """Do not stop at the last item."""
    journal.add(item)
    if item == 2:
        wait(gate)


@processes
def test_a_rollback_is_incomplete_when_outcomes_were_lost(journal: Journal, gate: Gate) -> None:
    """Whether they completed is not known, so that they are not undone: but that is said."""
    token = CancelToken()
    with ProcessPool(1) as pool:
        flow = Flow("flow").map(
            "m", partial(resist_at, journal=journal, gate=gate), range(3),
            pool=pool, chunk_size=3, grace=0.1, compensate=same,
        )  # fmt: skip
        run = Aside(flow, cancel=token)
        wait_until(lambda: "2" in journal.lines, "the last item")
        token.cancel()
        result = run.result()
        assert [1] == run_map(same, [1], pool).values
    assert ("cancelled", 3, "incomplete") == (
        result.status,
        result["m"].cancelled,
        result.rollback,
    )


class Deadly:
    """Kills the process that pickles it."""

    def __reduce__(self) -> Any:
        os._exit(3)


@processes
def test_a_value_that_kills_its_worker_costs_its_own_item_only() -> None:
    """Not the item that ran last."""

    def body(ctx: Context, item: int) -> Any:
        return Deadly() if item == 0 else item

    with ProcessPool(1) as pool:
        result = run_map(body, range(5), pool, chunk_size=5)
        assert [1] == run_map(same, [1], pool).values
    assert {0: WorkerCrashedError} == {at: type(error) for at, error in result.errors.items()}
    assert [None, 1, 2, 3, 4] == result.values


# --- stopping --------------------------------------------------------------------------------


def test_no_item_starts_after_the_token_was_cancelled() -> None:
    """Not even one that was waiting for its thread."""
    token, ran = CancelToken(), []

    def body(ctx: Context, item: int) -> None:
        ran.append(item)
        token.cancel()

    Flow("flow").map("m", body, range(100), max_concurrency=1).run(cancel=token)
    assert [0] == ran


def test_a_timeout_of_next_to_nothing_ends_the_map(worker_pool: Pool) -> None:
    """Its timers do not keep the run's thread from everything else."""
    flow = Flow("flow").map("m", same, range(3), pool=worker_pool, timeout=1e-9)
    assert 3 == sum(getattr(Aside(flow).result()["m"], count) for count in ("completed", "failed"))


def test_items_that_all_say_they_are_cancelled_fail_the_map() -> None:
    """The error tells how many completed."""

    def body(ctx: Context, item: int) -> None:
        raise StepCancelledError("m", "no wish")

    result = run_map(body, range(3))
    assert ("failed", "step 'm' was cancelled: 0 of 3 items completed, 1 needed") == (
        result.status,
        str(result.error),
    )


class Alarm(Exception):
    """Raised by a signal handler of the user's own."""


def test_lanes_stop_when_a_signal_handler_ends_the_run() -> None:
    """Nothing is left that takes more items."""
    begun, release, ran = threading.Event(), threading.Event(), []

    def ring(number: int, frame: Any) -> None:
        raise Alarm

    def body(ctx: Context, item: int) -> None:
        ran.append(item)
        begun.set()
        release.wait(20)

    def press() -> None:
        begun.wait(20)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, ring)
    try:
        threading.Thread(target=press).start()
        with pytest.raises(Alarm):
            Flow("flow").map("m", body, range(100), max_concurrency=1).run()
    finally:
        signal.signal(signal.SIGUSR1, before)
        release.set()
    assert [0] == ran
