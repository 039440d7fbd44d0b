"""What goes wrong around the calls of a pool costs nobody else's result, and hangs nothing."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import fault_bodies as bodies
import pytest

from syncflow import (
    Context,
    Event,
    Flow,
    FlowResult,
    Hooks,
    PoolClosedError,
    ProcessPool,
    Step,
    StepTimeoutError,
    ThreadPool,
)

in_processes = pytest.mark.xdist_group("process")


def _exiting_after(then: Callable[[], object]) -> Callable[[Future[Any]], None]:
    """Return a callback that does something, and ends what it thinks is the program."""

    def callback(future: Future[Any]) -> None:
        then()
        sys.exit("a callback has had enough")

    return callback


class WaitsFor:
    """Waits, when it is pickled, for somebody else's result."""

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (self._future.result(20),)


@in_processes
@pytest.mark.parametrize("limit", [None, 1])
def test_a_result_does_not_wait_for_the_next_call(tmp_path: Path, limit: int | None) -> None:
    """It is delivered before that is serialised, and before the worker is replaced."""
    with ProcessPool(1, max_tasks_per_worker=limit) as pool:
        first = pool.submit(bodies.read_text, tmp_path / "told")
        second = pool.submit(str, WaitsFor(first))
        bodies.write_text(tmp_path / "told", "text")
        assert "text" == second.result(30)


@in_processes
def test_a_result_does_not_wait_for_the_items_of_a_map(tmp_path: Path) -> None:
    """Nor until those are serialised that the same thread takes next."""
    with ProcessPool(1) as pool:
        first = pool.submit(bodies.read_text, tmp_path / "told")
        flow = Flow("f").map("m", lambda ctx, item: item, [WaitsFor(first)], pool=pool)
        results = list[FlowResult]()
        runner = threading.Thread(target=lambda: results.append(flow.run()), daemon=True)
        runner.start()
        while not first.running() or pool.stations.crew.is_idle():  # the map is to wait behind it
            runner.join(0.001)
        bodies.write_text(tmp_path / "told", "text")
        runner.join(30)
        assert [["text"]] == [result["m"].value for result in results]


# --- callbacks that exit ---------------------------------------------------------------------


@in_processes
def test_a_callback_that_exits_mixes_up_no_results(
    tmp_path: Path, own_pool: ProcessPool, caplog: pytest.LogCaptureFixture
) -> None:
    """Each later call gets its own result, although the callback runs amid one of them."""
    # A record would keep the traceback, its frames, and a descriptor of the worker in them.
    caplog.set_level(logging.CRITICAL + 1, "syncflow")
    first, told = tmp_path / "first", tmp_path / "told"
    futures = [own_pool.submit(bodies.read_text, first)]
    futures[0].add_done_callback(_exiting_after(lambda: bodies.write_text(told, "two")))
    futures += [own_pool.submit(bodies.read_text, told)]
    futures += [own_pool.submit(str, word) for word in ("three", "four")]
    bodies.write_text(first, "one")
    assert ["one", "two", "three", "four"] == [one.result(bodies.PATIENCE) for one in futures]


@in_processes
def test_a_callback_that_exits_before_a_pause_ends_no_thread(
    tmp_path: Path, own_pool: ProcessPool
) -> None:
    """A pool with one worker takes the next call as ever."""
    word, told = tmp_path / "word", threading.Event()
    future = own_pool.submit(bodies.read_text, word)
    future.add_done_callback(_exiting_after(told.set))
    assert own_pool.submit(str, "never").cancel()
    bodies.write_text(word, "ready")
    assert told.wait(bodies.PATIENCE)
    assert "later" == own_pool.submit(str, "later").result(bodies.PATIENCE)


# --- errors that resist ----------------------------------------------------------------------


@dataclass(frozen=True)
class FrozenError(Exception):
    """An error that takes no attribute."""

    number: int


def raise_frozen() -> None:
    """Raise it."""
    raise FrozenError(3)


@in_processes
def test_a_frozen_error_ends_no_worker(own_pool: ProcessPool) -> None:
    """The next call runs on the same worker."""
    pid = own_pool.submit(os.getpid).result(bodies.PATIENCE)
    assert own_pool.submit(raise_frozen).exception(bodies.PATIENCE) is not None
    assert pid == own_pool.submit(os.getpid).result(bodies.PATIENCE)


class IncomparableError(Exception):
    """An error that cannot be compared, as one that holds an array."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value is ambiguous")

    __hash__ = Exception.__hash__


def raise_group() -> None:
    """Raise a group of errors that cannot be compared."""
    raise ExceptionGroup("group", [IncomparableError("1"), IncomparableError("2")])


@in_processes
def test_members_of_a_group_are_not_compared(own_pool: ProcessPool) -> None:
    """The group arrives with its members, in their order."""
    error = own_pool.submit(raise_group).exception(bodies.PATIENCE)
    assert isinstance(error, ExceptionGroup)
    expected = [(IncomparableError, ("1",)), (IncomparableError, ("2",))]
    assert expected == [(type(one), one.args) for one in error.exceptions]


# --- threads and workers ---------------------------------------------------------------------


@in_processes
def test_a_pool_may_idle_for_centuries() -> None:
    """An idle time that no clock can count ends no thread."""
    with ProcessPool(1, idle_timeout=1e10) as pool:
        results = [pool.submit(abs, -number).result(bodies.PATIENCE) for number in range(10)]
    assert list(range(10)) == results


def _length(traceback: TracebackType | None) -> int:
    """Return how many entries a traceback has."""
    return 0 if traceback is None else 1 + _length(traceback.tb_next)


def _refuse() -> None:
    """Be an initializer that fails."""
    raise LookupError("no licence")


def test_the_traceback_of_a_broken_pool_does_not_grow() -> None:
    """Each call that is refused gets an error of its own."""
    with ThreadPool(1, initializer=_refuse) as pool:
        assert pool.submit(int).exception(bodies.PATIENCE) is not None
        lengths = []
        for _ in range(5):
            with pytest.raises(RuntimeError) as caught:
                pool.submit(int)
            lengths.append(_length(caught.value.__traceback__))
    assert lengths[:1] * 5 == lengths


def test_the_error_of_a_broken_pool_tells_of_one_step() -> None:
    """Its notes name the step that it has failed, and no other one."""
    with ThreadPool(1, initializer=_refuse) as pool:
        steps = [Step("a", bodies.good), Step("b", bodies.good)]
        result = Flow("flow").parallel("g", steps, pool=pool).run()
    errors = [step.error for step in result.steps]
    named = [[name for name in "ab" if f"'{name}'" in str(error.__notes__)] for error in errors]
    assert [["a"], ["b"]] == named


@in_processes
def test_a_member_that_is_stopped_while_its_worker_starts_never_runs(tmp_path: Path) -> None:
    """It has no attempt, and its body leaves no trace."""
    trace = tmp_path / "trace"

    def fail(ctx: Context) -> None:
        bodies.wait_for(tmp_path / "initializing")
        raise LookupError("stop")

    def watch(ctx: Context) -> None:
        """Let the worker go on once the group was asked to stop: this member as the last."""
        while not ctx.cancelled:
            threading.Event().wait(0.001)
        bodies.write_text(tmp_path / "go-on", "")

    initialize = partial(bodies.initialize_slowly, tmp_path)
    with ProcessPool(1, initializer=initialize) as pool:
        charge = Step("charge", lambda ctx: trace.touch(), pool=pool, grace=bodies.PATIENCE)
        members = [charge, Step("fail", fail), Step("watch", watch)]
        group = Flow("flow").parallel("g", members, fail_fast=True, max_concurrency=3)
        result = group.run()
    assert ("cancelled", 0, False) == (
        result["charge"].status, result["charge"].attempts, trace.exists(),
    )  # fmt: skip


# --- executors that are not ours -------------------------------------------------------------


class Counting(ThreadPoolExecutor):
    """An executor with one thread that tells when it has been given two calls."""

    def __init__(self) -> None:
        super().__init__(1)
        self._left = 2
        self.both = threading.Event()

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(*args, **kwargs)
        self._left -= 1
        if not self._left:
            self.both.set()
        return future


def test_an_executor_that_cancels_its_queue_hangs_no_run() -> None:
    """The step whose future somebody has cancelled fails as one of a closed pool."""
    executor, go, results = Counting(), threading.Event(), list[FlowResult]()
    steps = [Step("runs", lambda ctx: go.wait()), Step("queued", lambda ctx: None)]
    flow = Flow("flow").parallel("g", steps, pool=executor)
    runner = threading.Thread(target=lambda: results.append(flow.run()), daemon=True)
    runner.start()
    assert executor.both.wait(bodies.PATIENCE)
    executor.shutdown(wait=False, cancel_futures=True)
    go.set()
    runner.join(bodies.PATIENCE)
    errors = [type(result["queued"].error) for result in results]
    assert [PoolClosedError] == errors


class Retries(Hooks):
    """Keep the numbers of the attempts that are retried."""

    def __init__(self) -> None:
        self.attempts: list[int | None] = []

    def on_step_retry(self, event: Event) -> None:
        self.attempts.append(event.attempt)


@pytest.fixture
def retried() -> tuple[FlowResult, Retries, list[int]]:
    """Return what came of a step whose time ran out in a foreign queue each time."""
    go, hooks, ran = threading.Event(), Retries(), list[int]()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(go.wait)
        flow = Flow("flow", hooks=[hooks])
        flow.step(
            "queued", lambda ctx: ran.append(ctx.attempt), pool=executor, timeout=0.05, retries=2
        )
        result = flow.run()
        go.set()
    return result, hooks, ran


def test_time_that_passes_in_a_foreign_queue_is_retried(
    retried: tuple[FlowResult, Retries, list[int]],
) -> None:
    """As often as allowed; then the step has timed out."""
    result, hooks, _ = retried
    assert (2, StepTimeoutError) == (len(hooks.attempts), type(result.error))


def test_a_body_whose_time_passes_in_a_foreign_queue_never_runs(
    retried: tuple[FlowResult, Retries, list[int]],
) -> None:
    """Not even when the executor has a thread again."""
    assert [] == retried[2]
