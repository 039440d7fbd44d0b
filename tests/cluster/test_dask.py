"""Steps on a real Dask cluster: two worker processes, and what may happen to them."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from functools import partial
from pathlib import Path
from typing import Any

import dask_bodies as bodies
import pytest

from syncflow import (
    CancelToken,
    Flow,
    Hooks,
    PoolClosedError,
    Step,
    StepCancelledError,
    StepTimeoutError,
    WorkerCrashedError,
)

distributed = pytest.importorskip("distributed", reason="the extra 'dask' is not installed")

pytestmark = pytest.mark.xdist_group("cluster")


@pytest.fixture
def executor(cluster: Any) -> Any:
    """Return an executor of the cluster, once both workers are there: some tests end one."""
    cluster.wait_for_workers(2, timeout=bodies.PATIENCE)
    return cluster.get_executor()


def lines(path: Path) -> list[str]:
    """Return what bodies have appended to a file."""
    return path.read_text().splitlines() if path.exists() else []


def once(ready: Callable[[], bool], react: Callable[[], object]) -> threading.Thread:
    """Call a function from another thread as soon as a condition holds."""

    def watch() -> None:
        while not ready():
            threading.Event().wait(0.005)
        react()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


# --- at work ---------------------------------------------------------------------------------


def test_members_run_at_the_same_time_on_different_workers(executor: Any, tmp_path: Path) -> None:
    """Each waits for the other to begin."""
    steps = [
        Step("a", bodies.Waits(tmp_path, "b-begun")),
        Step("b", bodies.Waits(tmp_path, "a-begun")),
    ]
    result = Flow("flow").parallel("g", steps, pool=executor).run().raise_for_status()
    assert 2 == len({step.value for step in result.steps})
    assert [step.value for step in result.steps] == [step.worker for step in result.steps]


def test_a_map_of_5000_items_has_their_values_in_order(
    executor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In far fewer tasks than items."""
    client, sent = executor._client, []
    submit = client.submit
    monkeypatch.setattr(client, "submit", lambda *a, **o: sent.append(1) or submit(*a, **o))
    result = Flow("flow").map("m", bodies.square, over=range(5000), pool=executor).run()
    assert [item * item for item in range(5000)] == result.raise_for_status()["m"].values
    assert 1000 > len(sent)


def test_retries_go_there_again(executor: Any) -> None:
    """As often as the step says, whatever the executor says of Dask's own retries."""
    stubborn = executor._client.get_executor(retries=3)
    flow = Flow("flow").step("a", bodies.fail_once, pool=stubborn, retries=1)
    result = flow.step("b", bodies.fail_once, pool=stubborn).run()
    assert (2, 1) == (result["a"].value, result["b"].attempts)
    assert isinstance(result.error, LookupError)


def test_two_runs_of_a_step_are_two_tasks(executor: Any, tmp_path: Path) -> None:
    """Dask takes a function for pure, and its first result for that of all calls."""
    flow = Flow("flow").step("a", bodies.Waits(tmp_path), pool=executor)
    assert flow.run().ok
    assert flow.run().ok
    assert 2 == len(lines(tmp_path / "a-begun"))


def test_the_dashboard_shows_the_name_of_the_step(executor: Any) -> None:
    """Tasks are grouped by it; no control character gets there."""
    names = ["fetch-user", "line\nbreak"]
    steps = [Step(name, bodies.name_of_task) for name in names]
    result = Flow("flow").parallel("g", steps, pool=executor).run().raise_for_status()
    assert ["fetch-user", r"line\nbreak"] == [step.value for step in result.steps]


def test_a_large_input_is_sent_once_a_run(executor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not with each of the steps that read it; it may have 50 MB."""
    client, sent = executor._client, []
    scatter = client.scatter

    def counting(values: list[bytes], **options: Any) -> Any:
        sent.extend(map(len, values))
        return scatter(values, **options)

    monkeypatch.setattr(client, "scatter", counting)
    steps = [Step(f"s{number}", bodies.size) for number in range(4)]
    flow = Flow("flow").parallel("g", steps, pool=executor).step("last", bodies.size, pool=executor)
    result = flow.run(bytes(50_000_000)).raise_for_status()
    assert [50_000_000] * 5 == [step.value for step in result.steps]
    assert [50] == [size // 1_000_000 for size in sent]


def test_a_value_of_50_mb_comes_back(executor: Any) -> None:
    """And goes to the step after it."""
    flow = Flow("flow").step("make", lambda ctx: bytes(50_000_000), pool=executor)
    flow.step("take", lambda ctx: len(ctx.value("make")), pool=executor)
    assert 50_000_000 == flow.run().raise_for_status()["take"].value


def test_large_items_go_there(executor: Any) -> None:
    """Each with its own chunk, past the scheduler's graph."""
    flow = Flow("flow").map(
        "m", lambda ctx, item: len(item), over=[bytes(11_000_000)] * 3, pool=executor
    )
    assert [11_000_000] * 3 == flow.run().raise_for_status()["m"].values


# --- workers that die, or leave --------------------------------------------------------------


def test_a_step_that_kills_its_worker_has_run_once(executor: Any, tmp_path: Path) -> None:
    """Dask would try it on three more workers; its sibling never notices."""
    steps = [
        Step("dies", bodies.die),
        Step("sibling", bodies.Waits(tmp_path, "go")),
    ]

    class LetGo(Hooks):
        def on_step_fail(self, event: Any) -> None:
            (tmp_path / "go").touch()

    flow = Flow("flow", hooks=[LetGo()]).parallel("g", steps, pool=executor)
    result = flow.run(str(tmp_path))
    error = result["dies"].error
    assert isinstance(error, WorkerCrashedError)
    assert ("dies", 1) == (error.step_name, error.attempt)
    assert ["1"] == lines(tmp_path / "done")
    assert "completed" == result["sibling"].status


def test_a_step_that_kills_its_worker_is_retried_as_often_as_it_says(
    executor: Any, tmp_path: Path
) -> None:
    """What it did before is undone: its outcome is not known."""
    step = Step(
        "dies", bodies.die, pool=executor, retries=1, compensate=bodies.undo,
        compensate_on="started",
    )  # fmt: skip
    result = Flow("flow").step(step).run(str(tmp_path))
    assert ["1", "2"] == lines(tmp_path / "done")
    assert ["dies WorkerCrashedError"] == lines(tmp_path / "undone")
    assert (2, "complete") == (result["dies"].attempts, result.rollback)


def test_a_function_that_kills_its_worker_kills_one(executor: Any, tmp_path: Path) -> None:
    """Tickets are taken before anything of the user's is rebuilt."""
    result = Flow("flow").step("a", bodies.DiesOnArrival(tmp_path), pool=executor).run()
    assert isinstance(result.error, WorkerCrashedError)
    assert ["arrived"] == lines(tmp_path / "done")


def test_an_item_that_kills_its_worker_fails_alone(executor: Any, tmp_path: Path) -> None:
    """With chunks of one, no item runs twice."""
    flow = Flow("flow").map("m", bodies.die_at_7, over=range(20), pool=executor, chunk_size=1)
    result = flow.run(str(tmp_path))
    assert {7: WorkerCrashedError} == {at: type(e) for at, e in result["m"].errors.items()}
    assert sorted(range(20)) == sorted(map(int, lines(tmp_path / "done")))


def test_a_chunk_whose_worker_dies_costs_the_guilty_item(executor: Any, tmp_path: Path) -> None:
    """Items whose outcome was lost are run again one by one, and no others."""
    flow = Flow("flow").map("m", bodies.die_at_7, over=range(10), pool=executor, chunk_size=5)
    result = flow.run(str(tmp_path))
    assert {7: WorkerCrashedError} == {at: type(e) for at, e in result["m"].errors.items()}
    begun = Counter(map(int, lines(tmp_path / "done")))
    assert {5: 2, 6: 2, 7: 2} == {item: times for item, times in begun.items() if times > 1}


def test_a_body_whose_worker_has_left_is_not_begun_again(short_lived: Any, tmp_path: Path) -> None:
    """Dask gives its task to another worker, which finds that it has no ticket."""
    client = distributed.Client(short_lived, set_as_default=False)
    waits = Step("a", bodies.Waits(tmp_path, "go"), pool=client.get_executor())

    class LetGo(Hooks):
        def on_step_fail(self, event: Any) -> None:
            (tmp_path / "go").touch()

    async def leave(address: str, dask_scheduler: Any = None) -> None:
        await dask_scheduler.remove_worker(address, stimulus_id="test", expected=True)

    addresses = {str(pid): address for address, pid in client.run(os.getpid).items()}
    begun = tmp_path / "a-begun"
    leaving = once(
        lambda: bool(lines(begun)),
        lambda: client.run_on_scheduler(leave, addresses[lines(begun)[0]]),
    )
    result = Flow("flow", hooks=[LetGo()]).step(waits).run()
    leaving.join()
    assert isinstance(result.error, WorkerCrashedError)
    assert "which has left" in "".join(result.error.__notes__)
    assert 1 == len(lines(begun))
    client.close()


# --- stops -----------------------------------------------------------------------------------


def test_a_running_body_is_abandoned_and_undone_when_it_returns(
    executor: Any, tmp_path: Path
) -> None:
    """Dask calls it cancelled, although it runs on."""
    token, undone = CancelToken(), []

    class LetGo(Hooks):
        def on_step_cancel(self, event: Any) -> None:
            (tmp_path / "go").touch()

    step = Step(
        "a", bodies.Waits(tmp_path, "go"), pool=executor, grace=0.0,
        compensate=lambda ctx: undone.append(ctx.step_name),
    )  # fmt: skip
    cancelling = once((tmp_path / "a-begun").exists, partial(token.cancel, "enough"))
    result = Flow("flow", hooks=[LetGo()]).step(step).run(cancel=token, drain=bodies.PATIENCE)
    cancelling.join()
    assert isinstance(result["a"].error, StepCancelledError)
    assert (["a"], "complete") == (undone, result.rollback)


def test_a_step_that_has_not_begun_in_time_never_begins(executor: Any, tmp_path: Path) -> None:
    """Both workers are busy; time counts from submission."""
    busy = [Step(name, bodies.Waits(tmp_path, "go")) for name in ("a", "b")]
    late = Step("late", bodies.Waits(tmp_path, "go"), timeout=1.0)

    class LetGo(Hooks):
        def on_step_fail(self, event: Any) -> None:
            (tmp_path / "go").touch()

    flow = Flow("flow", hooks=[LetGo()]).parallel("g", [*busy, late], pool=executor)
    result = flow.run()
    assert ["completed", "completed", "failed"] == [step.status for step in result.steps]
    assert isinstance(result["late"].error, StepTimeoutError)
    assert (0, []) == (result["late"].error.attempt, lines(tmp_path / "late-begun"))


# --- the cluster goes ------------------------------------------------------------------------


@pytest.mark.parametrize("knows", ["cluster", "address"])
def test_a_scheduler_that_goes_fails_the_step_and_the_rollback_runs_here(
    short_lived: Any, tmp_path: Path, knows: str
) -> None:
    """What the body did is not known; retries find the pool closed."""
    known = short_lived if knows == "cluster" else short_lived.scheduler_address
    client = distributed.Client(known, set_as_default=False, timeout=2)
    closing = once(
        (tmp_path / "a-begun").exists, lambda: short_lived.sync(short_lived.scheduler.close)
    )

    class LetGo(Hooks):
        def on_flow_fail(self, event: Any) -> None:
            (tmp_path / "go").touch()

    flow = Flow("flow", hooks=[LetGo()])
    flow.step("before", lambda ctx: None, compensate=bodies.undo)
    step = Step(
        "a", bodies.Waits(tmp_path, "go"), pool=client.get_executor(),
        compensate=bodies.undo, compensate_on="started",
    )  # fmt: skip
    result = flow.step(step).run(str(tmp_path))
    closing.join()
    assert isinstance(result.error, BrokenExecutor)
    assert "the connection to the Dask scheduler was lost" in str(result.error)
    assert "complete" == result.rollback
    assert ["a BrokenExecutor", "before BrokenExecutor"] == lines(tmp_path / "undone")
    client.close()
    after = Flow("after").step("a", bodies.size, pool=client.get_executor(), retries=2).run("x")
    assert isinstance(after.error, PoolClosedError)
    assert 0 == after["a"].attempts
