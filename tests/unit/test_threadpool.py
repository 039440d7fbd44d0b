"""`ThreadPool` as an executor, and the crew of threads behind it."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ALL_COMPLETED, CancelledError, Executor, Future, as_completed, wait
from concurrent.futures.thread import BrokenThreadPool
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from syncflow.errors import PoolClosedError
from syncflow.pools.crew import Crew, FutureJob
from syncflow.pools.thread import ThreadPool, shared_thread_pool

#: Seconds after which what should have happened has not.
PATIENCE = 10.0

#: Seconds to see whether something happens that must not.
MOMENT = 0.2


class Gate:
    """A job that has started, and goes on when it is told to."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.thread: threading.Thread | None = None

    def __call__(self, *args: object) -> str:
        """Wait inside."""
        self.thread = threading.current_thread()
        self.entered.set()
        assert self.opened.wait(PATIENCE)
        return "through"

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *error: object) -> None:
        self.opened.set()


def in_thread(call: Callable[[], object]) -> threading.Thread:
    """Make a call in a thread of its own."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def result_of(future: Future[Any]) -> Any:
    """Return the result of a future that will not take long."""
    return future.result(PATIENCE)


def enter(gate: Gate) -> None:
    """Wait until the gate's job is running."""
    assert gate.entered.wait(PATIENCE)


# --- an executor -----------------------------------------------------------------------------


def test_pool_is_an_executor() -> None:
    """It may stand wherever `concurrent.futures` wants one."""
    with ThreadPool() as pool:
        assert isinstance(pool, Executor)


def test_submit_returns_the_result() -> None:
    """Positional and keyword arguments reach the function."""
    with ThreadPool() as pool:
        assert 7 == result_of(pool.submit(int, "111", base=2))


def test_submit_passes_arguments_named_like_its_own() -> None:
    """A function may have parameters called `self` and `fn`."""
    with ThreadPool() as pool:
        future = pool.submit(lambda **given: sorted(given), self=1, fn=2)
        assert ["fn", "self"] == result_of(future)


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_a_function_raises_is_in_its_future(kind: type[BaseException]) -> None:
    """The very error arrives, whatever kind it is."""
    error = kind()

    def fail() -> None:
        raise error

    with ThreadPool() as pool:
        assert error is pool.submit(fail).exception(PATIENCE)


def test_a_thread_survives_what_a_function_raises() -> None:
    """`sys.exit` in a job ends neither its thread nor its pool."""
    with ThreadPool(1) as pool:
        pool.submit(sys.exit)
        assert 0 == result_of(pool.submit(int))


def test_map_keeps_the_order() -> None:
    """Results come in the order of the items."""
    with ThreadPool() as pool:
        assert [0, 1, 4, 9] == list(pool.map(pow, range(4), [2] * 4, timeout=PATIENCE))


def test_map_raises_what_the_function_raises() -> None:
    """The results before the failed item come first."""
    with ThreadPool() as pool:
        results = pool.map(lambda x: 1 // x, [1, 0])
        assert 1 == next(results)
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_map_has_a_timeout() -> None:
    """A result that does not come in time is a `TimeoutError`."""
    with ThreadPool() as pool, Gate() as gate, pytest.raises(TimeoutError):
        next(pool.map(gate, [1], timeout=0.01))


def test_futures_can_be_waited_for() -> None:
    """`concurrent.futures.wait` and `as_completed` understand the futures."""
    with ThreadPool() as pool:
        futures = {pool.submit(int) for _ in range(3)}
        assert futures == set(as_completed(futures, PATIENCE))
        assert futures == wait(futures, PATIENCE, ALL_COMPLETED).done


def test_a_queued_call_can_be_cancelled() -> None:
    """A function that has not started never does."""
    called = threading.Event()
    with ThreadPool(1) as pool:
        with Gate() as gate:
            pool.submit(gate)
            enter(gate)
            future = pool.submit(called.set)
            assert future.cancel()
        result_of(pool.submit(int))
        assert not called.is_set()


def test_a_running_call_cannot_be_cancelled() -> None:
    """A thread cannot be stopped."""
    with ThreadPool() as pool, Gate() as gate:
        future = pool.submit(gate)
        enter(gate)
        assert not future.cancel()


def test_a_callback_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A broken callback of a future is told, and harms nobody."""
    caplog.set_level(logging.ERROR)
    with ThreadPool() as pool:
        with Gate() as gate:
            pool.submit(gate).add_done_callback(lambda future: 1 / 0)
        pool.shutdown()
    assert "ZeroDivisionError" in caplog.text


def test_a_callback_that_exits_harms_nobody() -> None:
    """`sys.exit` in a callback ends no thread that others count on."""
    with ThreadPool(1) as pool:
        with Gate() as gate:
            pool.submit(gate).add_done_callback(lambda future: sys.exit())
        assert 0 == result_of(pool.submit(int))


# --- threads ---------------------------------------------------------------------------------


def test_no_thread_before_the_first_job() -> None:
    """A pool that is not used costs no thread."""
    before = threading.active_count()
    with ThreadPool(8):
        assert before == threading.active_count()


def test_threads_are_daemonic() -> None:
    """A body that hangs does not keep the interpreter from exiting."""
    with ThreadPool() as pool:
        assert result_of(pool.submit(lambda: threading.current_thread().daemon))


def test_threads_are_named() -> None:
    """A prefix of one's own is seen in every thread's name."""
    with ThreadPool(thread_name_prefix="mine") as pool:
        assert "mine-0" == result_of(pool.submit(lambda: threading.current_thread().name))


def test_threads_of_two_pools_have_different_names() -> None:
    """Without a prefix each pool makes up its own."""
    names = set()
    for _ in range(2):
        with ThreadPool() as pool:
            names.add(result_of(pool.submit(lambda: threading.current_thread().name)))
    assert 2 == len(names)


def test_a_thread_is_reused() -> None:
    """Who gets a result and submits the next job finds the thread that is free again."""
    with ThreadPool() as pool:
        threads = {result_of(pool.submit(threading.current_thread)) for _ in range(100)}
    assert 1 == len(threads)


def test_jobs_run_at_the_same_time() -> None:
    """Without a limit there is a thread for each job that is running."""
    barrier = threading.Barrier(20)
    with ThreadPool() as pool:
        futures = [pool.submit(barrier.wait, PATIENCE) for _ in range(20)]
        assert list(range(20)) == sorted(map(result_of, futures))


def test_jobs_may_wait_for_jobs() -> None:
    """A job that waits for a job that waits for a job, 50 deep, never deadlocks."""
    with ThreadPool() as pool:

        def nested(depth: int) -> int:
            return depth and 1 + result_of(pool.submit(nested, depth - 1))

        assert 50 == result_of(pool.submit(nested, 50))


def test_many_jobs_may_wait_for_jobs() -> None:
    """Jobs that all wait for one more each find a thread for it."""
    barrier = threading.Barrier(10)
    with ThreadPool() as pool:

        def outer() -> int:
            barrier.wait(PATIENCE)
            return int(result_of(pool.submit(int)))

        assert [0] * 10 == [result_of(future) for future in [pool.submit(outer) for _ in range(10)]]


def test_no_more_threads_than_max_workers() -> None:
    """Jobs that come in pairs run in pairs, and on two threads."""
    lock, pair = threading.Lock(), threading.Barrier(2)
    running, most = 0, 0

    def body() -> threading.Thread:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        pair.wait(PATIENCE)
        with lock:
            running -= 1
        pair.wait(PATIENCE)
        return threading.current_thread()

    with ThreadPool(2) as pool:
        threads = {result_of(future) for future in [pool.submit(body) for _ in range(10)]}
    assert (2, 2) == (most, len(threads))


def test_jobs_start_in_the_order_of_submission() -> None:
    """One thread takes what was submitted first."""
    order: list[int] = []
    with ThreadPool(1) as pool, Gate() as gate:
        pool.submit(gate)
        for number in range(10):
            pool.submit(order.append, number)
    assert list(range(10)) == order


def test_an_idle_thread_ends() -> None:
    """A thread that has had nothing to do for a while is given back."""
    crew = Crew(None, "crew", idle_seconds=0.001)
    job = FutureJob(threading.current_thread, (), {})
    crew.start(job)
    thread = result_of(job.future)
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_crew_whose_threads_have_ended_works_on() -> None:
    """After all threads have ended, the next job gets a new one."""
    crew = Crew(None, "crew", idle_seconds=0.001)
    threads = []
    for _ in range(2):
        job = FutureJob(threading.current_thread, (), {})
        crew.start(job)
        threads.append(result_of(job.future))
        threads[-1].join(PATIENCE)
    assert threads[0] is not threads[1]


def test_no_job_is_lost_while_idle_threads_end() -> None:
    """Jobs that arrive in the very moment in which threads give up are run all the same."""
    crew = Crew(4, "crew", idle_seconds=0.0001)
    for _ in range(200):
        jobs = [FutureJob(int, (), {}) for _ in range(3)]
        for job in jobs:
            crew.start(job)
        assert [0, 0, 0] == [result_of(job.future) for job in jobs]
    crew.shutdown(wait=True, drop=False)


class LyingQueue(SimpleQueue[Any]):
    """Says once that nothing has come, although a job has."""

    lied = False

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Lie, then tell the truth."""
        if not self.lied:
            self.lied = True
            raise Empty
        return super().get(block, timeout)


def test_a_thread_that_gives_up_too_early_stays() -> None:
    """A thread whose wait ended just before a job came does not leave that job behind."""
    crew = Crew(1, "crew")
    crew._jobs = LyingQueue()
    job = FutureJob(int, (), {})
    crew.start(job)
    assert 0 == result_of(job.future)
    crew.shutdown(wait=True, drop=False)


def test_a_system_without_threads_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """When no thread can be started, and there is none, `submit` raises what the system said."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with ThreadPool() as pool:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            pool.submit(int)


def test_a_pool_recovers_when_threads_can_be_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread that could not be started is not counted on."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with ThreadPool() as pool:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError):
                pool.submit(int)
        assert 0 == result_of(pool.submit(int))


def test_a_pool_works_with_the_threads_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """When one more thread cannot be started, the job waits for one that is there."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with ThreadPool() as pool:
        with Gate() as gate:
            pool.submit(gate)
            enter(gate)
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", refuse)
                future = pool.submit(int)
        assert 0 == result_of(future)


# --- initializer -----------------------------------------------------------------------------


def test_the_initializer_runs_once_in_each_thread() -> None:
    """Each thread is prepared before its first job, and not again."""
    prepared: list[threading.Thread] = []
    pair = threading.Barrier(2)

    def prepare(*args: object) -> None:
        prepared.append(threading.current_thread())

    with ThreadPool(2, initializer=prepare) as pool:
        for future in [pool.submit(pair.wait, PATIENCE) for _ in range(6)]:
            result_of(future)
    assert 2 == len(prepared) == len(set(prepared))


def test_the_initializer_gets_its_arguments() -> None:
    """`initargs` are passed on."""
    seen: list[int] = []
    with ThreadPool(1, initializer=seen.extend, initargs=([1, 2],)) as pool:
        result_of(pool.submit(int))
    assert [1, 2] == seen


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_a_failing_initializer_fails_the_job(kind: type[BaseException]) -> None:
    """The job fails with `BrokenThreadPool`, and its cause is what the initializer raised."""
    error = kind()

    def fail() -> None:
        raise error

    with ThreadPool(initializer=fail) as pool:
        broken = pool.submit(int).exception(PATIENCE)
    assert isinstance(broken, BrokenThreadPool)
    assert error is broken.__cause__


def test_a_failing_initializer_fails_all_pending_jobs() -> None:
    """No job waits for a thread that will never be fit."""
    with Gate() as gate:

        def fail() -> None:
            gate()
            raise ValueError

        with ThreadPool(1, initializer=fail) as pool:
            futures = [pool.submit(int) for _ in range(3)]
            gate.opened.set()
            kinds = [type(future.exception(PATIENCE)) for future in futures]
    assert [BrokenThreadPool] * 3 == kinds


def test_a_broken_pool_takes_no_more_work() -> None:
    """After its initializer has failed, `submit` raises at once."""
    with ThreadPool(initializer=sys.exit) as pool:
        pool.submit(int).exception(PATIENCE)
        with pytest.raises(BrokenThreadPool):
            pool.submit(int)


def test_a_broken_pool_starts_no_more_threads() -> None:
    """A failing initializer is called once, not again and again."""
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise ValueError

    with ThreadPool(1, initializer=fail) as pool:
        pool.submit(int).exception(PATIENCE)
        with pytest.raises(BrokenThreadPool):
            pool.submit(int)
    assert 1 == len(calls)


# --- shutdown --------------------------------------------------------------------------------


def test_a_closed_pool_takes_no_more_work() -> None:
    """After `shutdown`, `submit` raises `PoolClosedError`."""
    pool = ThreadPool()
    pool.shutdown()
    with pytest.raises(PoolClosedError):
        pool.submit(int)


def test_a_closed_pool_is_a_runtime_error() -> None:
    """Code that was written for other executors catches it."""
    pool = ThreadPool()
    pool.shutdown()
    with pytest.raises(RuntimeError):
        pool.submit(int)


def test_leaving_the_with_block_waits() -> None:
    """All jobs are done, and all threads have ended."""
    with ThreadPool(2) as pool:
        futures = [pool.submit(threading.current_thread) for _ in range(10)]
    assert [False] * 10 == [future.result(0).is_alive() for future in futures]


def test_shutdown_waits_for_running_and_queued_jobs() -> None:
    """What was submitted is done when `shutdown` returns."""
    pool = ThreadPool(1)
    with Gate() as gate:
        futures = [pool.submit(gate), pool.submit(int)]
        enter(gate)
        closing = in_thread(pool.shutdown)
        gate.opened.set()
        closing.join(PATIENCE)
    assert ["through", 0] == [future.result(0) for future in futures]


def test_shutdown_without_waiting_returns_at_once() -> None:
    """A running job does not hold it up, and what is queued is still run."""
    pool = ThreadPool(1)
    with Gate() as gate:
        pool.submit(gate)
        enter(gate)
        queued = pool.submit(int)
        pool.shutdown(wait=False)
        assert not queued.done()
    assert 0 == result_of(queued)


def test_threads_end_after_a_shutdown_that_did_not_wait() -> None:
    """Each thread ends when there is no job left."""
    pool = ThreadPool()
    thread = result_of(pool.submit(threading.current_thread))
    pool.shutdown(wait=False)
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_shutdown_may_be_called_again() -> None:
    """A second call waits for what the first has not waited for."""
    pool = ThreadPool()
    with Gate() as gate:
        future = pool.submit(gate)
        pool.shutdown(wait=False)
    pool.shutdown()
    assert future.done()


def test_shutdown_can_cancel_what_is_queued() -> None:
    """Queued calls are cancelled, running ones are not."""
    pool = ThreadPool(1)
    with Gate() as gate:
        running = pool.submit(gate)
        enter(gate)
        queued = [pool.submit(int) for _ in range(3)]
        pool.shutdown(wait=False, cancel_futures=True)
        assert [True] * 3 == [future.cancelled() for future in queued]
    assert "through" == result_of(running)


def test_who_waits_for_what_is_queued_is_told_that_it_is_cancelled() -> None:
    """`concurrent.futures.wait` returns for a call that a shutdown has cancelled."""
    pool = ThreadPool(1)
    with Gate() as gate:
        pool.submit(gate)
        enter(gate)
        queued = pool.submit(int)
        pool.shutdown(wait=False, cancel_futures=True)
        assert {queued} == wait([queued], MOMENT).done
    pool.shutdown()


def test_a_cancelled_call_has_no_result() -> None:
    """Who wants its result gets a `CancelledError`."""
    pool = ThreadPool(1)
    with Gate() as gate:
        pool.submit(gate)
        enter(gate)
        queued = pool.submit(int)
        pool.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(CancelledError):
        result_of(queued)
    pool.shutdown()


def test_a_job_may_shut_its_pool_down() -> None:
    """A thread does not wait for itself."""
    pool = ThreadPool()
    assert result_of(pool.submit(pool.shutdown)) is None
    pool.shutdown()


def test_two_jobs_may_shut_their_pool_down() -> None:
    """They do not wait for each other, nor for what comes after that, but for every other job."""
    pool, both = ThreadPool(), threading.Barrier(2)
    with Gate() as gate:
        other = pool.submit(gate)
        enter(gate)

        def shut_down() -> bool:
            pool.shutdown()
            both.wait(PATIENCE)
            return other.done()

        closing = [pool.submit(shut_down) for _ in range(2)]
        while len(pool.crew._closing) < 2:
            assert not wait(closing, 0.001).done
    assert [True, True] == [result_of(future) for future in closing]
    pool.shutdown()


def test_who_is_outside_waits_for_a_job_that_shuts_its_pool_down() -> None:
    """Also for what that job does afterwards."""
    pool, ended = ThreadPool(), threading.Event()
    with Gate() as gate, Gate() as other:
        pool.submit(other)
        enter(other)

        def shut_down() -> None:
            pool.shutdown()
            gate()
            ended.set()

        pool.submit(shut_down)
        closing = in_thread(pool.shutdown)
        while not pool.crew._closing:
            closing.join(0.001)
        other.opened.set()
        enter(gate)
        closing.join(MOMENT)
        assert closing.is_alive()
        gate.opened.set()
        closing.join(PATIENCE)
        assert ended.is_set()
    assert not closing.is_alive()


def test_shutdown_waits_for_a_thread_that_is_leaving() -> None:
    """It has been idle for too long, and has yet to let go of what it had, a worker say."""
    with Gate() as gate:
        crew = Crew(1, "crew", idle_seconds=0.001, leave=gate)
        crew.start(FutureJob(int, (), {}))
        enter(gate)
        assert not crew._desks
        closing = in_thread(lambda: crew.shutdown(wait=True, drop=False))
        while not crew._closed:
            closing.join(0.001)
        closing.join(MOMENT)
        assert closing.is_alive()
        gate.opened.set()
        closing.join(PATIENCE)
    assert not closing.is_alive()


def test_shutdown_waits_for_a_thread_that_takes_the_place_of_an_abandoned_one() -> None:
    """What is queued behind a body that is given up on is done when `shutdown` returns."""
    with Gate() as hangs, Gate() as gate:
        crew = Crew(1, "crew")
        job, queued = FutureJob(hangs, (), {}), FutureJob(gate, (), {})
        crew.start(job)
        crew.start(queued)
        enter(hangs)
        closing = in_thread(lambda: crew.shutdown(wait=True, drop=False))
        while not crew._closed:
            closing.join(0.001)
        crew.abandon(job)
        enter(gate)
        closing.join(3 * MOMENT)  # by then it has seen that nobody waits for the first one
        assert closing.is_alive()
        gate.opened.set()
        closing.join(PATIENCE)
        assert not closing.is_alive()
        assert queued.future.done()


def test_a_thread_that_is_just_being_started_can_be_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A shutdown that comes between a thread's making and its start raises nothing."""
    pool = ThreadPool()
    raised: list[BaseException] = []

    def shut_down() -> None:
        try:
            pool.shutdown()
        except RuntimeError as error:
            raised.append(error)

    closing = threading.Thread(target=shut_down, daemon=True)
    start = threading.Thread.start

    def start_late(thread: threading.Thread) -> None:
        start(closing)
        closing.join(MOMENT)  # it may well wait until the thread has started
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_late)
        future = pool.submit(int)
    closing.join(PATIENCE)
    assert (0, []) == (result_of(future), raised)


def test_jobs_of_a_pool_that_nobody_has_any_more_are_run() -> None:
    """What was submitted to a pool that is collected then is done all the same."""
    with Gate() as gate:
        pool = ThreadPool(1)
        pool.submit(gate)
        queued = pool.submit(int)
        del pool
    assert 0 == result_of(queued)


def test_threads_of_a_pool_that_nobody_has_any_more_end() -> None:
    """A pool that is collected takes its idle threads along."""
    pool = ThreadPool()
    thread = result_of(pool.submit(threading.current_thread))
    del pool
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_threads_of_a_pool_in_a_cycle_end() -> None:
    """A pool that hangs in a cycle is collected with it."""
    pool = ThreadPool()
    pool.itself = pool  # type: ignore[attr-defined]
    thread = result_of(pool.submit(threading.current_thread))
    del pool
    gc.collect()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_job_may_hold_its_pool() -> None:
    """A pool whose last reference is in its own job is collected when that has run."""

    def submitted(gate: Gate) -> Future[str]:
        pool = ThreadPool()
        return pool.submit(gate, pool)

    with Gate() as gate:
        future = submitted(gate)
    assert "through" == result_of(future)


# --- abandoning ------------------------------------------------------------------------------


def hung(pool: ThreadPool, gate: Gate) -> FutureJob:
    """Start a job that does not end before its gate is opened."""
    job = FutureJob(gate, (), {})
    pool.crew.start(job)
    enter(gate)
    return job


def test_an_abandoned_job_frees_its_place() -> None:
    """In a pool of one thread the next job starts although the first hangs."""
    with ThreadPool(1) as pool, Gate() as gate:
        pool.crew.abandon(hung(pool, gate))
        assert 0 == result_of(pool.submit(int))


def test_what_waits_behind_an_abandoned_job_is_run() -> None:
    """A job that was queued while the pool was full gets a thread."""
    with ThreadPool(1) as pool, Gate() as gate:
        job = hung(pool, gate)
        queued = pool.submit(int)
        pool.crew.abandon(job)
        assert 0 == result_of(queued)


def test_many_abandoned_jobs_free_their_places() -> None:
    """After 50 of them a pool of one thread still works."""
    with ThreadPool(1) as pool, Gate() as gate:
        for _ in range(50):
            pool.crew.abandon(hung(pool, gate))
            gate.entered.clear()
        assert 0 == result_of(pool.submit(int))


def test_the_thread_of_an_abandoned_job_ends_with_it() -> None:
    """A thread that was given up on is not taken back."""
    with ThreadPool() as pool, Gate() as gate:
        pool.crew.abandon(hung(pool, gate))
        gate.opened.set()
        assert gate.thread is not None
        gate.thread.join(PATIENCE)
        assert not gate.thread.is_alive()


def test_an_abandoned_job_still_has_a_result() -> None:
    """When it ends after all, its future tells."""
    with ThreadPool() as pool, Gate() as gate:
        job = hung(pool, gate)
        pool.crew.abandon(job)
        gate.opened.set()
        assert "through" == result_of(job.future)


def test_shutdown_does_not_wait_for_an_abandoned_job() -> None:
    """`shutdown` returns although a body hangs that was given up on before."""
    pool = ThreadPool()
    with Gate() as gate:
        pool.crew.abandon(hung(pool, gate))
        closing = in_thread(pool.shutdown)
        closing.join(PATIENCE / 2)
        assert not closing.is_alive()


def test_shutdown_does_not_wait_for_a_job_that_is_abandoned_meanwhile() -> None:
    """`shutdown` returns when the body that it waits for is given up on."""
    pool = ThreadPool()
    with Gate() as gate:
        job = hung(pool, gate)
        closing = in_thread(pool.shutdown)
        while not pool.crew._closed:
            closing.join(0.001)
        pool.crew.abandon(job)
        closing.join(PATIENCE / 2)
        assert not closing.is_alive()


def test_a_job_that_has_ended_can_be_abandoned() -> None:
    """Who gives up too late changes nothing: the thread is still there."""
    with ThreadPool() as pool:
        job = FutureJob(threading.current_thread, (), {})
        pool.crew.start(job)
        thread = result_of(job.future)
        pool.crew.abandon(job)
        assert thread is result_of(pool.submit(threading.current_thread))


# --- nothing is kept -------------------------------------------------------------------------


class Marker:
    """Can be referred to weakly."""


def test_a_result_is_freed_with_its_future() -> None:
    """The pool keeps nothing of a call that is done."""
    with ThreadPool(1) as pool:
        future = pool.submit(Marker)
        marker = weakref.ref(result_of(future))
        result_of(pool.submit(int))  # on the same thread, which has let go of the first job by now
        del future
        assert marker() is None


def test_an_idle_thread_keeps_no_result() -> None:
    """A thread that waits for its next job has let go of what the last one returned."""
    rests: SimpleQueue[None] = SimpleQueue()
    crew = Crew(1, "crew", before_sleep=lambda: rests.put(None))
    with Gate() as gate:
        job = FutureJob(lambda: (gate(), Marker())[1], (), {})
        crew.start(job)
        enter(gate)
        while not rests.empty():
            rests.get()
    marker = weakref.ref(result_of(job.future))
    del job
    rests.get(timeout=PATIENCE)
    assert marker() is None
    crew.shutdown(wait=True, drop=False)


def test_arguments_are_freed_when_the_call_is_done() -> None:
    """A future that is kept keeps no arguments."""
    with ThreadPool(1) as pool:
        given = Marker()
        marker = weakref.ref(given)
        future = pool.submit(repr, given)
        del given
        result_of(future)
        result_of(pool.submit(int))
        assert marker() is None


def test_an_error_is_freed_without_gc() -> None:
    """An error and its frames hang in no cycle."""

    def fail() -> None:
        marker = Marker()
        markers.append(weakref.ref(marker))
        raise ValueError

    markers: list[weakref.ref[Marker]] = []
    gc.disable()
    try:
        with ThreadPool(1) as pool:
            future = pool.submit(fail)
            assert isinstance(future.exception(PATIENCE), ValueError)
            result_of(pool.submit(int))
            del future
            assert [None] == [marker() for marker in markers]
    finally:
        gc.enable()


# --- the shared pool, and forking ------------------------------------------------------------


def test_there_is_one_shared_pool() -> None:
    """Every run gets the same one, whichever thread asks."""
    with ThreadPool() as pool:
        barrier = threading.Barrier(8)

        def ask(number: int) -> ThreadPool:
            barrier.wait(PATIENCE)
            return shared_thread_pool()

        assert {shared_thread_pool()} == set(pool.map(ask, range(8)))


def forked(body: str) -> subprocess.CompletedProcess[str]:
    """Run a script whose child process runs `body`; its exit code is the child's."""
    script = f"""
import os, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
from syncflow import PoolClosedError, ThreadPool
from syncflow.pools.thread import shared_thread_pool

shared, own, closed = shared_thread_pool(), ThreadPool(1), ThreadPool()
closed.shutdown()
gate, entered = threading.Event(), threading.Event()
for pool in (shared, own):
    pool.submit(entered.set).result(10)
busy = own.submit(gate.wait)
queued = own.submit(print, "queued")

child = os.fork()
if child == 0:
    try:
{chr(10).join("        " + line for line in body.strip().splitlines())}
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
gate.set()
assert busy.result(10)
assert shared.submit(int).result(10) == 0
own.shutdown()
os._exit(code)
"""
    return subprocess.run(
        [sys.executable, "-u", "-c", script],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize(
    "body",
    [
        "assert shared_thread_pool() is not shared",
        "assert shared_thread_pool().submit(int).result(10) == 0",
        "assert own.submit(int).result(10) == 0",
        "own.submit(int).result(10); own.shutdown()",
        """
try:
    closed.submit(int)
except PoolClosedError:
    pass
else:
    raise AssertionError("the child has opened it again")
""",
    ],
    ids=["shared is fresh", "shared works", "own works", "own shuts down", "closed stays closed"],
)
def test_a_forked_child_has_pools_of_its_own(body: str) -> None:
    """A child of `os.fork` has none of its parent's threads, and pools that work."""
    done = forked(body)
    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_run_its_parents_jobs() -> None:
    """What was queued in the parent runs there, once."""
    done = forked("own.submit(int).result(10); own.shutdown()")
    assert "queued\n" == done.stdout
