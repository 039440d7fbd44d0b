"""When a worker process starts, what it starts with, and when it ends."""

import os
import pickle
from functools import partial
from pathlib import Path

import fault_bodies as bodies
import loky
import pytest
from fault_tools import is_alive, seconds_until, wait_until_gone

from syncflow import Flow, ProcessPool, Step

pytestmark = pytest.mark.xdist_group("process")


def _pid(*_: object) -> int:
    """Return the worker's pid, whatever it is called with."""
    return os.getpid()


def _shown(pids: list[int]) -> str:
    """Return which of the pids are the same: `aab` for two of one worker, and one of another."""
    return "".join("abcdefgh"[list(dict.fromkeys(pids)).index(pid)] for pid in pids)


def test_an_idle_worker_ends() -> None:
    """After `idle_timeout`; the next call starts another one."""
    with ProcessPool(1, idle_timeout=0.05) as pool:
        first = pool.submit(_pid).result(bodies.PATIENCE)
        wait_until_gone(first, patience=bodies.PATIENCE)
        assert first != pool.submit(_pid).result(bodies.PATIENCE)


def test_a_busy_worker_does_not_end(tmp_path: Path) -> None:
    """Only idle time counts: a worker with the same time ends while this one is busy."""
    with ProcessPool(1, idle_timeout=0.01) as pool, ProcessPool(1, idle_timeout=0.01) as other:
        call = pool.submit(bodies.read_text, tmp_path / "word")
        wait_until_gone(other.submit(_pid).result(bodies.PATIENCE), patience=bodies.PATIENCE)
        bodies.write_text(tmp_path / "word", "still there")
        assert "still there" == call.result(bodies.PATIENCE)


def test_a_worker_starts_with_the_first_call(own_pool: ProcessPool) -> None:
    """A pool that is not used costs no process."""
    assert not own_pool.stations.crew._desks
    own_pool.submit(_pid).result(bodies.PATIENCE)
    assert 1 == len(own_pool.stations.crew._desks)


def test_a_worker_is_replaced_after_its_calls() -> None:
    """After `max_tasks_per_worker` of them; the old one is gone by then."""
    with ProcessPool(1, max_tasks_per_worker=2) as pool:
        pids = [pool.submit(_pid).result(bodies.PATIENCE) for _ in range(5)]
        assert "aabbc" == _shown(pids)
        assert not is_alive(pids[0])


def test_a_worker_is_replaced_after_its_attempts() -> None:
    """Each attempt of a step counts."""
    with ProcessPool(1, max_tasks_per_worker=2) as pool:
        steps = [Step(f"s{number}", _pid, pool=pool) for number in range(5)]
        flow = Flow("flow")
        for step in steps:
            flow.step(step)
        pids = list(flow.run().raise_for_status().values.values())
    assert "aabbc" == _shown(pids)


def test_a_worker_is_replaced_after_its_chunks() -> None:
    """The items of a chunk share one message, which counts once."""
    with ProcessPool(1, max_tasks_per_worker=1) as pool:
        assert "aaabbb" == _shown(list(pool.map(_pid, range(6), chunksize=3)))


def _invert(number: int) -> float:
    """Return one divided by the number."""
    return 1 / number


def test_an_error_costs_the_results_of_its_chunk() -> None:
    """Those of the chunks before it arrive."""
    with ProcessPool(1) as pool:
        results = pool.map(_invert, [1, 2, 4, 0], chunksize=2)
        assert [1.0, 0.5] == [next(results), next(results)]
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_the_initializer_runs_in_each_new_worker(tmp_path: Path) -> None:
    """Once in each, before its first call."""
    initialize = partial(bodies.count_call, tmp_path)
    with ProcessPool(1, max_tasks_per_worker=1, initializer=initialize) as pool:
        pids = [pool.submit(_pid).result(bodies.PATIENCE) for _ in range(3)]
    assert {f"call-{pid}" for pid in pids} == {path.name for path in tmp_path.iterdir()}


def test_the_initializer_gets_its_arguments(tmp_path: Path) -> None:
    """As they were given."""
    with ProcessPool(1, initializer=bodies.write_text, initargs=(tmp_path / "told", 5)) as pool:
        pool.submit(_pid).result(bodies.PATIENCE)
    assert "5" == (tmp_path / "told").read_text()


def test_a_pool_that_nobody_has_any_more_finishes_its_work(tmp_path: Path) -> None:
    """Then its worker ends."""
    pool = ProcessPool(1)
    running = pool.submit(bodies.read_text, tmp_path / "word")
    queued = pool.submit(_pid)
    del pool
    bodies.write_text(tmp_path / "word", "ready")
    assert "ready" == running.result(bodies.PATIENCE)
    wait_until_gone(queued.result(bodies.PATIENCE), patience=bodies.PATIENCE)


@pytest.mark.parametrize("wait", [True, False])
def test_shutdown_ends_the_workers(*, wait: bool) -> None:
    """At once if it waits, else soon."""
    pool = ProcessPool(2)
    pid = pool.submit(_pid).result(bodies.PATIENCE)
    pool.shutdown(wait=wait)
    assert not wait or not is_alive(pid)
    seconds_until(lambda: not is_alive(pid))


# --- what it starts with -----------------------------------------------------------------------

_LIBRARIES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


@pytest.mark.parametrize("max_workers", [1, 2, 1000])
def test_thread_libraries_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, max_workers: int
) -> None:
    """Each worker has its share, and at least one; this process has what it had."""
    for name in _LIBRARIES:
        monkeypatch.delenv(name, raising=False)
    with ProcessPool(max_workers) as pool:
        found = {name: pool.submit(os.getenv, name) for name in _LIBRARIES}
        told = {name: call.result(bodies.PATIENCE) for name, call in found.items()}
    share = str(max(1, loky.cpu_count() // max_workers))
    assert dict.fromkeys(_LIBRARIES, share) == told
    assert not set(_LIBRARIES) & set(os.environ)


def test_what_the_user_told_thread_libraries_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is inherited."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with ProcessPool(1) as pool:
        assert "7" == pool.submit(os.getenv, "OMP_NUM_THREADS").result(bodies.PATIENCE)


def _fill(buffer: memoryview) -> bytes:
    """Write into what was given, and return its beginning."""
    buffer[:3] = b"new"
    return bytes(buffer[:3])


def test_arguments_of_a_call_may_be_written_to(own_pool: ProcessPool) -> None:
    """Large buffers, too; the caller's own stay as they were."""
    data = bytearray(1 << 20)
    call = own_pool.submit(_fill, pickle.PickleBuffer(data))  # type: ignore[arg-type]
    assert (b"new", bytes(3)) == (call.result(bodies.PATIENCE), bytes(data[:3]))
