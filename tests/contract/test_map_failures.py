"""Items that fail: retries, time limits, verdicts, crashes, and what cannot travel."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from typing import Any

import numpy as np
import pytest
from contract_tools import (
    BodyError,
    Gate,
    Journal,
    Pool,
    Recorder,
    Unpicklable,
    UnpicklableError,
    sleep_long,
    swallow_everything,
    wait_until,
)
from map_tools import (
    Ajar,
    counts,
    double,
    fail_item,
    fail_odd,
    return_item_pid,
    run_aside,
    run_map,
    same,
)

from syncflow import (
    BodyExitError,
    CancelToken,
    Context,
    DefinitionError,
    Event,
    Flow,
    GroupFailedError,
    Hooks,
    ProcessPool,
    RemoteError,
    SerializationError,
    StepTimeoutError,
    ThreadPool,
    WorkerCrashedError,
)

#: Runs go by a fake clock; bodies in processes, and whoever waits for them, by the real one.
pytestmark = pytest.mark.usefixtures("clock")

SIZES = pytest.mark.parametrize("chunk_size", ["auto", 1, 3, 1000])

#: Seconds. Short, and long enough for a body that has nothing to do.
SHORT = 0.1

#: Pools whose workers are processes.
processes = pytest.mark.xdist_group("process")


def kinds(errors: dict[int, BaseException]) -> dict[int, type]:
    """Return the types of errors."""
    return {index: type(error) for index, error in errors.items()}


# --- the verdict -----------------------------------------------------------------------------


@SIZES
def test_one_success_is_enough(worker_pool: Pool, chunk_size: Any) -> None:
    """A map fails only when all its items do, unless it says otherwise."""
    result = run_map(fail_odd, [1, 3, 4, 5], worker_pool, chunk_size=chunk_size)
    assert ("completed", [None, None, 4, None], (1, 3, 0)) == (
        result.status, result.values, counts(result),
    )  # fmt: skip


@SIZES
def test_a_map_whose_items_all_fail_fails(worker_pool: Pool, chunk_size: Any) -> None:
    """With their errors, in item order."""
    result = run_map(fail_item, range(7), worker_pool, chunk_size=chunk_size)
    assert isinstance(result.error, GroupFailedError)
    assert ["failed", *range(7)] == [result.status, *(e.args[0] for e in result.error.exceptions)]


def test_the_only_item_fails_with_its_own_error(worker_pool: Pool) -> None:
    """Nobody wants a group of one."""
    result = run_map(fail_item, [7], worker_pool)
    assert (BodyError, (7,)) == (type(result.error), result.error and result.error.args)


@pytest.mark.parametrize(("needed", "status"), [(3, "completed"), (4, "failed")])
def test_how_many_must_complete(worker_pool: Pool, needed: int, status: str) -> None:
    """`min_success` says it; all items run to their end in any case."""
    result = run_map(fail_odd, range(6), worker_pool, min_success=needed)
    assert (status, (3, 3, 0), [0, None, 2, None, 4, None]) == (
        result.status, counts(result), result.values,
    )  # fmt: skip


def test_more_is_needed_than_there_are(worker_pool: Pool) -> None:
    """Which is known only when the source has ended."""
    result = run_map(double, range(2), worker_pool, min_success=3)
    assert ("failed", DefinitionError) == (result.status, type(result.error))


def test_a_failed_map_fails_the_flow(worker_pool: Pool) -> None:
    """Later nodes are skipped, and the error is the flow's."""
    flow = Flow("flow").map("m", fail_item, [1], pool=worker_pool).map("n", double, [1])
    result = run_aside(flow)
    assert ("failed", True, "skipped") == (
        result.status, result.error is result["m"].error, result["n"].status,
    )  # fmt: skip


# --- fail_fast -------------------------------------------------------------------------------


@SIZES
def test_fail_fast_gives_the_error_of_the_item(worker_pool: Pool, chunk_size: Any) -> None:
    """That of the one that failed first; later items never start."""
    result = run_map(
        fail_odd, [0, 1, 2, 3, 4, 5], worker_pool,
        fail_fast=True, chunk_size=chunk_size, max_concurrency=1,
    )  # fmt: skip
    assert ("failed", BodyError, (1,)) == (
        result.status, type(result.error), result.error and result.error.args,
    )  # fmt: skip
    assert [0, None] == result.values[:2]
    assert ([None] * 4, 2, [1]) == (
        (result.values + [None] * 4)[2:6], result.attempts, list(result.errors),
    )  # fmt: skip


@pytest.mark.parametrize("chunk_size", ["auto", 1, 3])
def test_nothing_starts_after_the_first_final_failure(
    worker_pool: Pool, journal: Journal, gates: Callable[[str], Gate], chunk_size: Any
) -> None:
    """Not even while the run's thread is in the source, and hears of nothing."""
    failed = gates("failed")

    def source(ctx: Context) -> Iterator[int]:
        yield from range(4)
        failed.wait()
        # What would be wrong has all the time it needs: the lane that failed looks for more.
        threading.Event().wait(0.05)
        yield 4

    def body(ctx: Context, item: int) -> None:
        journal.add("began", item)
        failed.open()
        raise BodyError(item)

    result = run_map(
        body, source, worker_pool, fail_fast=True, max_concurrency=1, chunk_size=chunk_size
    )
    assert (["began 0"], (0, 1), 1) == (
        journal.lines, (result.completed, result.failed), result.attempts,
    )  # fmt: skip


def test_what_runs_is_asked_to_stop(worker_pool: Pool, gate: Gate) -> None:
    """It settles before the map does, as cancelled."""

    def body(ctx: Context, item: int) -> None:
        if item == 0:
            gate.open()
            ctx.sleep(1000)
        gate.wait()
        raise BodyError(item)

    result = run_map(body, [0, 1], worker_pool, fail_fast=True, chunk_size=1, max_concurrency=2)
    assert ((0, 1, 1), (1,), 2) == (counts(result), result.error.args, result.attempts)


def test_what_completes_all_the_same_has_completed(
    abandoning_pool: Pool, gates: Callable[[str], Gate]
) -> None:
    """A body that does not listen is waited for, and its value is kept."""
    started = gates("started")
    released = threading.Event()

    def body(ctx: Context, item: int) -> int:
        if item == 0:
            started.open()
            wait_until(lambda: ctx.cancelled, "the wish to stop")
            released.set()
            return item
        started.wait()
        raise BodyError(item)

    result = run_map(body, [0, 1], abandoning_pool, fail_fast=True, chunk_size=1)
    assert ("failed", [0, None], (1, 1, 0)) == (result.status, result.values, counts(result))


def test_a_retry_is_no_failure_for_fail_fast(worker_pool: Pool) -> None:
    """Only the last attempt is; the others go on meanwhile."""

    def body(ctx: Context, item: int) -> int:
        if ctx.attempt < 3 and item == 1:
            raise BodyError
        return item

    result = run_map(body, range(50), worker_pool, fail_fast=True, retries=2)
    assert ("completed", list(range(50)), 52) == (result.status, result.values, result.attempts)


def test_an_item_that_waits_for_its_retry_has_failed(worker_pool: Pool) -> None:
    """With its last error, when another one fails for good."""

    def body(ctx: Context, item: int) -> None:
        raise BodyError(item) if item == 0 else LookupError(item)

    result = run_map(
        body, [0, 1], worker_pool,
        fail_fast=True, retries=1, retry_delay=1000, retry_on=BodyError, max_concurrency=1,
    )  # fmt: skip
    assert ({0: BodyError, 1: LookupError}, LookupError) == (
        kinds(result.errors), type(result.error),
    )  # fmt: skip


def test_items_that_write_have_not_failed(worker_pool: Pool) -> None:
    """With `fail_fast`, a map whose items all write to the state completes."""

    def body(ctx: Context, item: int) -> int:
        ctx.set(f"key {item}", item)
        return item

    result = run_map(body, range(40), worker_pool, fail_fast=True, chunk_size=10)
    assert ("completed", list(range(40))) == (result.status, result.values)


# --- retries ---------------------------------------------------------------------------------


@SIZES
def test_each_item_is_retried_for_itself(
    worker_pool: Pool, journal: Journal, chunk_size: Any
) -> None:
    """With its own number of attempts; the others run once."""

    def body(ctx: Context, item: int) -> int:
        journal.add(item, ctx.attempt)
        if ctx.attempt <= item:
            raise BodyError
        return ctx.attempt

    result = run_map(body, range(4), worker_pool, retries=2, chunk_size=chunk_size)
    assert ([1, 2, 3, None], 9) == (result.values, result.attempts)
    expected = [f"{item} {attempt}" for item in range(4) for attempt in range(1, min(item, 2) + 2)]
    assert expected == sorted(journal.lines)


@pytest.mark.parametrize(
    ("options", "delays"),
    [
        ({"retry_delay": 0.01}, [0.01, 0.01, 0.01]),
        ({"retry_delay": 0.01, "backoff": "linear"}, [0.01, 0.02, 0.03]),
        ({"retry_delay": 0.01, "backoff": "exponential"}, [0.01, 0.02, 0.04]),
        (
            {"retry_delay": 0.01, "backoff": "exponential", "max_retry_delay": 0.02},
            [0.01, 0.02, 0.02],
        ),
    ],
    ids=["fixed", "linear", "exponential", "capped"],
)
def test_delays(
    worker_pool: Pool, recorder: Recorder, options: dict[str, Any], delays: list[float]
) -> None:
    """As for a step; `backoff` is their sum."""
    flow = Flow("flow", hooks=recorder)
    flow.map("m", fail_item, [1], pool=worker_pool, retries=3, **options)
    result = run_aside(flow)["m"]
    assert delays == [event.delay for event in recorder.of("on_step_retry")]
    assert pytest.approx(sum(delays)) == result.backoff


def test_a_waiting_retry_holds_no_worker(worker_pool: Pool) -> None:
    """The others run meanwhile, also where only one may run at a time."""
    token = CancelToken()

    class Watch(Hooks):
        def on_map_progress(self, event: Event) -> None:
            assert event.progress is not None
            if (19, 1) == (event.progress.completed, event.progress.retrying):
                token.cancel("enough")

    def body(ctx: Context, item: int) -> int:
        if item == 0:
            raise BodyError
        return item

    flow = Flow("flow", hooks=Watch())
    flow.map("m", body, range(20), pool=worker_pool, retries=1, retry_delay=1000,
             max_concurrency=1)  # fmt: skip
    result = run_aside(flow, cancel=token)["m"]
    assert ((19, 1, 0), {0: BodyError}) == (counts(result), kinds(result.errors))


def test_retry_on_decides(worker_pool: Pool) -> None:
    """Item by item."""

    def body(ctx: Context, item: int) -> None:
        raise BodyError if item else LookupError

    result = run_map(body, [0, 1], worker_pool, retries=2, retry_on=BodyError)
    assert 4 == result.attempts


# --- errors ----------------------------------------------------------------------------------


def raise_anything(ctx: Context, item: Any) -> None:
    """Raise what the item says."""
    raise item


def test_what_a_body_raises_is_an_error_of_its_item(worker_pool: Pool) -> None:
    """Also what is no `Exception`: it ends neither a worker nor the run."""
    raised = [ValueError("x"), SystemExit(3), GeneratorExit(), KeyboardInterrupt()]
    result = run_map(raise_anything, raised, worker_pool, chunk_size=4)
    assert [ValueError, *[BodyExitError] * 3] == list(kinds(result.errors).values())
    assert SystemExit is type(result.errors[1].__cause__)


@processes
def test_an_error_that_cannot_be_rebuilt_stays_with_its_item() -> None:
    """The others' outcomes cross as ever."""

    def body(ctx: Context, item: int) -> int:
        if item == 1:
            raise UnpicklableError("first", "second")
        return item

    result = run_map(body, range(3), "process", chunk_size=3)
    assert ([0, None, 2], {1: RemoteError}) == (result.values, kinds(result.errors))


# --- time ------------------------------------------------------------------------------------


def sleep_at(*bad: int, then: Callable[[Context], Any] = sleep_long) -> Callable[..., Any]:
    """Return a body that sleeps for some items."""

    def body(ctx: Context, item: int) -> int:
        if item in bad:
            then(ctx)
        return item

    return body


@pytest.mark.parametrize("chunk_size", ["auto", 1, 5])
def test_each_item_has_its_own_time(worker_pool: Pool, chunk_size: Any) -> None:
    """Who takes too long fails alone."""
    result = run_map(
        sleep_at(1, 3), range(5), worker_pool, timeout=2 * SHORT, chunk_size=chunk_size
    )
    if isinstance(worker_pool, str):
        assert [0, None, 2, None, 4] == result.values
        assert {1: StepTimeoutError, 3: StepTimeoutError} == kinds(result.errors)
    else:  # time counts from submission there, and is that of the whole chunk
        assert {StepTimeoutError} == set(kinds(result.errors).values())
        assert {1, 3} <= set(result.errors)


@processes
def test_a_process_body_is_interrupted(journal: Journal) -> None:
    """Its `finally` blocks run, and its worker and the items after it go on."""

    def body(ctx: Context, item: int) -> int:
        try:
            if item == 1:
                wait_until(lambda: False, "the interrupt")
        finally:
            journal.add("left", item)
        return os.getpid()

    result = run_map(body, range(4), "process", timeout=SHORT, chunk_size=4, max_concurrency=1)
    assert ["left 0", "left 1", "left 2", "left 3"] == journal.lines
    assert ({1: StepTimeoutError}, 1) == (
        kinds(result.errors), len({pid for pid in result.values if pid}),
    )  # fmt: skip


@processes
def test_a_deaf_process_body_is_killed(journal: Journal) -> None:
    """It alone has failed: the items before it in its chunk run again, those after it as well."""

    def body(ctx: Context, item: int) -> int:
        journal.add(item)
        if item == 2:
            swallow_everything(ctx)
        return item

    result = run_map(
        body, range(5), "process", timeout=SHORT, grace=0.1, chunk_size=5, max_concurrency=1
    )
    assert ([0, 1, None, 3, 4], {2: StepTimeoutError}) == (result.values, kinds(result.errors))
    assert [2, 2, 1, 1, 1] == [journal.lines.count(str(item)) for item in range(5)]


@processes
def test_a_killed_item_is_retried() -> None:
    """As any other that timed out."""

    def body(ctx: Context, item: int) -> int:
        if item == 1 and ctx.attempt == 1:
            swallow_everything(ctx)
        return ctx.attempt

    result = run_map(
        body, range(3), "process", timeout=2 * SHORT, grace=0.1, chunk_size=3, retries=1
    )
    assert ([1, 2, 1], {}) == (result.values, result.errors)


def test_a_deaf_thread_body_is_abandoned(gate: Gate) -> None:
    """Its slot is free for others; the result names the map."""

    def body(ctx: Context, item: int) -> int:
        if item == 0:
            gate.wait()
        return item

    flow = Flow("flow").map("m", body, range(4), timeout=SHORT, max_concurrency=1)
    result = run_aside(flow)
    assert ([None, 1, 2, 3], {0: StepTimeoutError}, ("m",)) == (
        result["m"].values, kinds(result["m"].errors), result.abandoned,
    )  # fmt: skip


def test_a_timeout_is_retried(worker_pool: Pool, gate: Gate) -> None:
    """As a failure of its own item."""

    def body(ctx: Context, item: int) -> int:
        if item == 1 and ctx.attempt == 1:
            gate.wait()
        return ctx.attempt

    flow = Flow("flow").map("m", body, range(3), pool=worker_pool, timeout=SHORT, retries=1,
                            grace=0.1, chunk_size=1)  # fmt: skip
    assert [1, 2, 1] == run_aside(flow)["m"].values


def test_the_error_tells_the_timeout(worker_pool: Pool) -> None:
    """Map, seconds and attempt; a note tells the item."""
    error = run_map(sleep_at(0), [0], worker_pool, timeout=SHORT, retries=1).errors[0]
    assert isinstance(error, StepTimeoutError)
    assert ("m", SHORT, 2) == (error.step_name, error.timeout, error.attempt)
    assert "item 0 of step 'm' of flow 'flow', attempt 2 of 2" in error.__notes__


# --- crashes ---------------------------------------------------------------------------------


def die_at(*bad: int, journal: Journal) -> Callable[..., Any]:
    """Return a body that notes its item, and kills its worker for some."""

    def body(ctx: Context, item: int) -> int:
        journal.add(item)
        if item in bad:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    return body


@processes
@pytest.mark.parametrize("chunk_size", ["auto", 1, 4, 10])
def test_a_poison_item_fails_alone(journal: Journal, chunk_size: Any) -> None:
    """Exactly the guilty one has a `WorkerCrashedError`."""
    result = run_map(die_at(5, journal=journal), range(10), "process", chunk_size=chunk_size)
    (error,) = result.errors.values()
    assert isinstance(error, WorkerCrashedError)
    assert ([5], "SIGKILL") == (list(result.errors), error.signal)
    assert [item for item in range(10) if item != 5] == [
        value for value in result.values if value is not None
    ]
    assert "item 5 of step 'm' of flow 'flow', attempt 1 of 1" in error.__notes__


@processes
def test_items_whose_outcome_was_lost_run_again(journal: Journal) -> None:
    """Those before the guilty one in its chunk; those after it had not begun."""
    body = die_at(3, journal=journal)
    result = run_map(body, range(6), "process", chunk_size=6, max_concurrency=1)
    assert [2, 2, 2, 1, 1, 1] == [journal.lines.count(str(item)) for item in range(6)]
    assert (5, 1, 6) == (result.completed, result.failed, result.attempts)


@processes
def test_chunks_of_one_never_run_twice(journal: Journal) -> None:
    """Whoever dies."""
    bad = (0, 3, 4, 7)
    result = run_map(die_at(*bad, journal=journal), range(8), "process", chunk_size=1)
    assert [1] * 8 == [journal.lines.count(str(item)) for item in range(8)]
    assert list(bad) == list(result.errors)


@processes
@pytest.mark.parametrize("chunk_size", [1, 3, 8])
def test_every_item_may_be_poison(journal: Journal, chunk_size: int) -> None:
    """Each has its own error."""
    body = die_at(*range(8), journal=journal)
    result = run_map(body, range(8), "process", chunk_size=chunk_size)
    assert ({WorkerCrashedError}, list(range(8))) == (
        set(kinds(result.errors).values()), list(result.errors),
    )  # fmt: skip
    assert isinstance(result.error, GroupFailedError)
    assert [1] * 8 == [journal.lines.count(str(item)) for item in range(8)]


@processes
def test_a_crash_is_retried(journal: Journal) -> None:
    """On a new worker; the others of the chunk keep their attempt's number."""

    def body(ctx: Context, item: int) -> Any:
        if item == 2 and ctx.attempt == 1:
            os._exit(3)
        return item, ctx.attempt

    result = run_map(body, range(4), "process", chunk_size=4, retries=1)
    assert [(0, 1), (1, 1), (2, 2), (3, 1)] == result.values


class DeadlyItem:
    """Kills who unpickles it."""

    def __init__(self, number: int, deadly: bool) -> None:
        self.number = number
        self.deadly = deadly

    def __reduce__(self) -> Any:
        return (_exit, ()) if self.deadly else (DeadlyItem, (self.number, False))


def _exit() -> None:
    os._exit(3)


@processes
@pytest.mark.parametrize("chunk_size", [1, 5])
def test_an_item_that_kills_who_unpickles_it_fails_alone(chunk_size: int) -> None:
    """No body had begun; the chunk is sent again, item by item."""
    items = [DeadlyItem(number, number == 2) for number in range(5)]
    result = run_map(lambda ctx, item: item.number, items, "process", chunk_size=chunk_size)
    assert ([0, 1, None, 3, 4], {2: WorkerCrashedError}) == (result.values, kinds(result.errors))


@processes
def test_with_fail_fast_a_crash_is_the_maps_error(journal: Journal) -> None:
    """And nothing runs again."""
    body = die_at(1, journal=journal)
    result = run_map(body, range(6), "process", chunk_size=3, max_concurrency=1, fail_fast=True)
    assert WorkerCrashedError is type(result.error)
    assert ["0", "1"] == journal.lines
    assert (0, 1) == (result.completed, result.failed)


@processes
def test_the_pool_of_a_crash_goes_on() -> None:
    """Whoever comes next finds a worker."""

    def body(ctx: Context, item: int) -> None:
        os._exit(1)

    with ProcessPool(1) as pool:
        assert BrokenExecutor in WorkerCrashedError.__mro__
        assert WorkerCrashedError is type(run_map(body, [1], pool).error)
        assert [2, 4] == run_map(double, [1, 2], pool).values


# --- what cannot travel ----------------------------------------------------------------------


class Picky:
    """Cannot be sent, or not be received, as it is told."""

    def __init__(self, number: int, sent: bool = True, received: bool = True) -> None:
        self.number = number
        self._sent = sent
        self._received = received

    def __reduce__(self) -> Any:
        if not self._sent:
            raise TypeError("this stays here")
        return (Picky if self._received else _refuse, (self.number,))


def _refuse(number: int) -> None:
    raise ValueError(f"{number} is not for me")


def number_of(ctx: Context, item: Picky) -> int:
    """Return the number of an item."""
    return item.number


@processes
@pytest.mark.parametrize("chunk_size", ["auto", 1, 6])
@pytest.mark.parametrize("wrong", [{"sent": False}, {"received": False}], ids=["sent", "received"])
def test_an_item_that_cannot_travel_fails_alone(chunk_size: Any, wrong: dict[str, bool]) -> None:
    """No body ran: it is no attempt, and is not retried."""
    items = [Picky(number, **(wrong if number in (1, 4) else {})) for number in range(6)]
    result = run_map(number_of, items, "process", chunk_size=chunk_size, retries=3)
    assert ([0, None, 2, 3, None, 5], 4) == (result.values, result.attempts)
    assert {1: SerializationError, 4: SerializationError} == kinds(result.errors)
    assert "item 1" in str(result.errors[1])


@processes
@pytest.mark.parametrize("chunk_size", ["auto", 1, 6])
@pytest.mark.parametrize("wrong", [{"sent": False}, {"received": False}], ids=["sent", "received"])
def test_a_value_that_cannot_travel_fails_its_item(
    journal: Journal, chunk_size: Any, wrong: dict[str, bool]
) -> None:
    """Its body ran, once."""

    def body(ctx: Context, item: int) -> Picky:
        journal.add(item)
        return Picky(item, **(wrong if item in (1, 4) else {}))

    result = run_map(body, range(6), "process", chunk_size=chunk_size, retries=3)
    assert [0, None, 2, 3, None, 5] == [value and value.number for value in result.values]
    assert ({1: SerializationError, 4: SerializationError}, 6) == (
        kinds(result.errors), result.attempts,
    )  # fmt: skip
    assert "the value of item 1 of step 'm'" in str(result.errors[1])
    assert [str(item) for item in range(6)] == sorted(journal.lines)


@processes
def test_a_write_that_cannot_travel_fails_its_item() -> None:
    """Naming the key."""

    def body(ctx: Context, item: int) -> int:
        ctx.set(f"key {item}", Unpicklable() if item == 1 else item)
        return item

    result = run_map(body, range(3), "process", chunk_size=3)
    assert ([0, None, 2], {1: SerializationError}) == (result.values, kinds(result.errors))
    assert "'key 1'" in str(result.errors[1])


@processes
def test_a_function_that_cannot_be_sent_fails_the_map(journal: Journal) -> None:
    """Before anything was made or run."""
    stays = Unpicklable()

    def source(ctx: Context) -> Iterator[int]:
        journal.add("made")
        yield 1

    result = run_map(lambda ctx, item: stays, source, "process")
    assert ("failed", SerializationError, 0, []) == (
        result.status, type(result.error), result.attempts, journal.lines,
    )  # fmt: skip


@processes
def test_what_a_body_reads_and_cannot_get_fails_its_item() -> None:
    """Where it is read."""

    def body(ctx: Context, item: int) -> Any:
        return ctx["key"] if item == 1 else item

    flow = Flow("flow").step("a", lambda ctx: ctx.set("key", Unpicklable()))
    result = run_aside(flow.map("m", body, range(3), pool="process", chunk_size=3))["m"]
    assert ([0, None, 2], {1: SerializationError}) == (result.values, kinds(result.errors))


@processes
@pytest.mark.parametrize("chunk_size", ["auto", 1, 4])
def test_large_items_and_values_go_through_shared_memory(chunk_size: Any) -> None:
    """Nothing of it is left behind, which the tests look for."""

    def body(ctx: Context, item: Any) -> Any:
        return item + ctx.input[: item.size]

    arrays = [np.full(200_000, float(number)) for number in range(8)]
    flow = Flow("flow").map("m", body, arrays, pool="process", chunk_size=chunk_size)
    values = run_aside(flow, np.ones(300_000))["m"].values
    assert [(200_000, number + 1.0, number + 1.0) for number in range(8)] == [
        (value.size, value.min(), value.max()) for value in values
    ]


# --- pools that do not work ------------------------------------------------------------------


@pytest.mark.parametrize("make", [ThreadPool, ProcessPool], ids=["thread", "process"])
@processes
def test_a_closed_pool_fails_the_map(make: Callable[[int], Any], journal: Journal) -> None:
    """With what it says; nothing ran, and nobody waits."""
    pool = make(1)
    pool.shutdown()
    result = run_map(same, lambda ctx: iter(range(10)), pool)
    assert ("failed", RuntimeError, 0) == (
        result.status, next(t for t in type(result.error).__mro__ if t is RuntimeError),
        result.attempts,
    )  # fmt: skip
    assert (0, 0) == (result.completed, result.failed)


def refuse_to_begin() -> None:
    """Fail as an initializer."""
    raise LookupError("no")


@pytest.mark.parametrize("make", [ThreadPool, ProcessPool], ids=["thread", "process"])
@processes
def test_a_pool_that_cannot_be_initialised_fails_the_map(make: Callable[..., Any]) -> None:
    """Its items do not start."""
    with make(1, initializer=refuse_to_begin) as pool:
        result = run_map(same, range(10), pool)
    assert ("failed", True, 0) == (
        result.status, isinstance(result.error, BrokenExecutor), result.attempts,
    )  # fmt: skip
    assert LookupError is type(result.error.__cause__)


@pytest.mark.parametrize("make", [ThreadPool, ProcessPool], ids=["thread", "process"])
@processes
def test_a_pool_that_is_closed_while_a_map_runs_finishes_what_it_has(
    make: Callable[..., Any], gates: Callable[[str], Gate]
) -> None:
    """The map fails or completes, as it turns out; it ends, and every item is accounted for."""
    gate = Ajar(gates)[0]
    pool = make(2)

    def source(ctx: Context) -> Iterator[int]:
        yield 0
        gate.wait()
        pool.shutdown(wait=False)
        yield from range(1, 30)

    def body(ctx: Context, item: int) -> int:
        gate.open()
        return item

    result = run_map(body, source, pool, chunk_size=1)
    pool.shutdown()
    assert 0 == result.values[0]
    assert len(result.values) == sum(counts(result))
    assert result.status in ("completed", "failed")


@processes
def test_processes_are_used_by_several_maps_at_once() -> None:
    """A pool of one worker serves them in turn."""
    with ProcessPool(1) as pool:
        flow = Flow("flow").map("m", return_item_pid, range(30), pool=pool, chunk_size=1)
        threads = [threading.Thread(target=lambda: pids.append(set(flow.run()["m"].values)))
                   for _ in range(4)]  # fmt: skip
        pids: list[set[int]] = []
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (4, 1) == (len(pids), len(set().union(*pids)))
