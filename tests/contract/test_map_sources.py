"""How a map consumes its source: lazily, in the caller's thread, and to the end of its errors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import loky
import pytest
from contract_tools import BodyError, Gate, Journal, Pool, fail, wait_until
from map_tools import Ajar, Aside, counted, counts, double, run_aside, run_map, same

from syncflow import (
    BodyExitError,
    CancelToken,
    Context,
    Event,
    Flow,
    Hooks,
    ProcessPool,
    Step,
    StepInterrupt,
    ThreadPool,
)

processes = pytest.mark.xdist_group("process")


class SourceError(Exception):
    """What a source raises on purpose."""


def endless(journal: Journal) -> Callable[[Context], Any]:
    """Return a source that has no end, and notes what it makes."""

    def source(ctx: Context) -> Iterator[int]:
        number = 0
        while True:
            journal.add("made", number)
            yield number
            number += 1

    return source


# --- laziness --------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", [1, 2])
@pytest.mark.parametrize("chunk_size", [1, 3])
def test_no_more_is_made_than_two_items_or_chunks_a_worker_ahead(
    worker_pool: Pool, journal: Journal, bound: int, chunk_size: int
) -> None:
    """While all workers hang at their first, that is all that has been taken from the source."""
    token = CancelToken()

    def body(ctx: Context, item: int) -> None:
        journal.add("began", item)
        ctx.sleep(1000)  # until the run is stopped: by then nothing more is made

    flow = Flow("flow").map(
        "m", body, endless(journal), pool=worker_pool, chunk_size=chunk_size, max_concurrency=bound
    )
    workers = min(bound, loky.cpu_count()) if worker_pool == "process" else bound
    waiting = 2 * workers * (1 if worker_pool == "thread" else chunk_size)
    at_hand = workers * (1 if worker_pool == "thread" else chunk_size)
    run = Aside(flow, cancel=token)
    wait_until(lambda: workers == noted(journal, "began"), "all workers to hang")
    wait_until(lambda: waiting <= noted(journal, "made"), "the window to be filled")
    token.cancel()
    result = run.result()["m"]
    assert waiting <= noted(journal, "made") <= waiting + at_hand
    assert (noted(journal, "made"), "cancelled") == (sum(counts(result)), result.status)


def noted(journal: Journal, word: str) -> int:
    """Return how many lines of the journal begin with a word."""
    return sum(line.startswith(word) for line in journal.lines)


@processes
def test_unsized_chunks_are_taken_two_items_a_worker_ahead(journal: Journal) -> None:
    """Before a chunk has been timed, it is one item."""
    token = CancelToken()

    def body(ctx: Context, item: int) -> None:
        journal.add("began", item)
        ctx.sleep(1000)  # until the run is stopped: by then nothing more is made

    with ProcessPool(1) as pool:
        run = Aside(Flow("flow").map("m", body, endless(journal), pool=pool), cancel=token)
        wait_until(lambda: {"began 0", "made 1"} <= set(journal.lines), "the window to be filled")
        token.cancel()
        run.result()
    assert 2 <= noted(journal, "made") <= 3


def test_an_endless_source_ends_with_the_run(worker_pool: Pool, journal: Journal) -> None:
    """A body of another item may cancel it; the source is asked no more."""
    token = CancelToken()
    released = threading.Event()

    def source(ctx: Context) -> Iterator[int]:
        number = 0
        try:
            while True:
                if number == 1000:
                    token.cancel("enough")
                yield number
                number += 1
        finally:
            released.set()

    result = run_aside(Flow("flow").map("m", same, source, pool=worker_pool), cancel=token)
    assert ("cancelled", "cancelled", True) == (
        result.status, result["m"].status, released.wait(20),
    )  # fmt: skip
    found = [value for value in result["m"].values if value is not None]
    assert sorted(set(found)) == found


@pytest.mark.parametrize("chunk_size", ["auto", 1, 5])
def test_an_item_runs_before_a_slow_source_makes_the_next(
    worker_pool: Pool, gates: Callable[[str], Gate], chunk_size: Any
) -> None:
    """The source waits for a gate that the item before it opens."""
    ajar = Ajar(gates)
    made = [ajar[number] for number in range(4)]

    def source(ctx: Context) -> Iterator[int]:
        for number in range(4):
            yield number
            made[number].wait()

    def body(ctx: Context, item: int) -> int:
        made[item].open()
        return item

    assert [0, 1, 2, 3] == run_map(body, source, worker_pool, chunk_size=chunk_size).values


def test_values_of_a_step_are_taken_as_they_come(worker_pool: Pool) -> None:
    """An iterator that a step returned is a source like any other."""
    flow = Flow("flow").step("numbers", lambda ctx: iter(range(5)))
    flow.map("m", double, "numbers", pool=worker_pool)
    assert [0, 2, 4, 6, 8] == run_aside(flow)["m"].values


class Asked:
    """An iterable whose iterators note each time they are asked."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __iter__(self) -> Iterator[int]:
        return AskedIterator(self._journal)


class AskedIterator(Iterator[int]):
    """Gives 0, 1 and 2."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._numbers = iter(range(3))

    def __next__(self) -> int:
        self._journal.add("asked")
        return next(self._numbers)


def test_the_source_is_not_asked_again_once_it_has_ended(journal: Journal) -> None:
    """`next` is called until it stops, and no more."""
    assert [0, 2, 4] == run_map(double, Asked(journal)).values
    assert ["asked"] * 4 == journal.lines


# --- errors ----------------------------------------------------------------------------------


def broken_after(count: int, error: BaseException) -> Callable[[Context], Any]:
    """Return a source that raises after some items."""

    def source(ctx: Context) -> Iterator[int]:
        yield from range(count)
        raise error

    return source


def test_a_source_that_raises_at_once_fails_the_map(worker_pool: Pool) -> None:
    """With that very error; nothing ran."""
    error = SourceError()
    flow = Flow("flow").map("m", same, broken_after(0, error), pool=worker_pool)
    result = run_aside(flow)
    assert error is result.error
    assert ("failed", [], 0) == (
        result["m"].status, result["m"].values, result["m"].attempts,
    )  # fmt: skip


@pytest.mark.parametrize("chunk_size", ["auto", 1, 2])
def test_a_source_that_raises_later_fails_the_map(worker_pool: Pool, chunk_size: Any) -> None:
    """Every item is accounted for: it completed, or never started."""
    error = SourceError()
    result = run_map(same, broken_after(5, error), worker_pool, chunk_size=chunk_size)
    assert ("failed", error, 5, 0) == (
        result.status, result.error, result.completed + result.cancelled, result.failed,
    )  # fmt: skip
    assert result.completed == result.attempts == 5 - result.values.count(None)


def test_items_that_run_settle_before_the_map_fails(
    worker_pool: Pool, gates: Callable[[str], Gate], journal: Journal
) -> None:
    """They are not asked to stop; those that wait never start."""
    began, closed = gates("began"), gates("closed")

    class Watch(Hooks):
        def on_map_progress(self, event: Event) -> None:
            assert event.progress is not None
            if event.progress.cancelled:
                closed.open()

    def source(ctx: Context) -> Iterator[int]:
        yield 0
        began.wait()
        yield 1
        raise SourceError

    def body(ctx: Context, item: int) -> str:
        journal.add("began", item)
        began.open()
        closed.wait()
        return f"{item} {ctx.cancelled}"

    flow = Flow("flow", hooks=Watch())
    flow.map("m", body, source, pool=worker_pool, max_concurrency=1, chunk_size=1)
    result = run_aside(flow)["m"]
    assert (["0 False", None], (1, 0, 1), ["began 0"]) == (
        result.values, counts(result), journal.lines,
    )  # fmt: skip
    assert isinstance(result.error, SourceError)


def test_an_item_that_waits_for_its_retry_fails_with_the_source(worker_pool: Pool) -> None:
    """With its last error; the map's is the source's."""
    seen = threading.Event()

    class Watch(Hooks):
        def on_step_retry(self, event: Event) -> None:
            seen.set()

    def source(ctx: Context) -> Iterator[int]:
        yield 0
        for number in range(1, 10_000):
            if seen.is_set():
                raise SourceError
            yield number
            threading.Event().wait(0.001)

    def body(ctx: Context, item: int) -> None:
        if item == 0:
            raise BodyError

    flow = Flow("flow", hooks=Watch())
    flow.map("m", body, source, pool=worker_pool, retries=1, retry_delay=1000)
    result = run_aside(flow)
    assert (SourceError, BodyError, 1) == (
        type(result.error), type(result["m"].errors[0]), result["m"].failed,
    )  # fmt: skip


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_a_source_that_exits_fails_the_map(error: BaseException) -> None:
    """It ends nothing else; the cause is what it raised."""
    result = run_map(same, broken_after(2, error))
    assert (BodyExitError, error) == (type(result.error), result.error.__cause__)
    assert "the source of map 'm' raised" in str(result.error)


def test_a_source_that_interrupts_itself_fails_the_map() -> None:
    """Nobody had asked it to stop."""
    result = run_map(same, broken_after(0, StepInterrupt()))
    assert ("failed", BodyExitError) == (result.status, type(result.error))


def raises(ctx: Context) -> Any:
    """Raise instead of returning something to iterate."""
    raise SourceError


class RaisesAtIter:
    """Cannot be iterated after all."""

    def __iter__(self) -> Any:
        raise SourceError


class RaisesAtLen(list[int]):
    """Does not know how many it has."""

    def __len__(self) -> int:
        raise SourceError


def test_items_are_not_counted_in_advance(worker_pool: Pool) -> None:
    """Who counts them may have to fetch them all; and nobody has to know how many there are."""
    assert [1, 2] == run_map(same, RaisesAtLen([1, 2]), worker_pool).values


@pytest.mark.parametrize("over", [raises, RaisesAtIter()], ids=["call", "iter"])
def test_a_source_that_cannot_be_begun_fails_the_map(worker_pool: Pool, over: Any) -> None:
    """With what it raised."""
    result = run_map(same, over, worker_pool)
    assert ("failed", SourceError) == (result.status, type(result.error))


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ("number", "map 'm': the value of step 'number' cannot be iterated: it is of type int"),
        (
            lambda ctx: 5,
            "map 'm': what its function returned cannot be iterated: it is of type int",
        ),
        (lambda ctx: None, "what its function returned cannot be iterated: it is of type NoneType"),
    ],
    ids=["step", "function", "none"],
)
def test_what_cannot_be_iterated_fails_the_map(worker_pool: Pool, over: Any, message: str) -> None:
    """The message names map, step and type."""
    flow = Flow("flow").step("number", lambda ctx: 5)
    error = run_aside(flow.map("m", same, over, pool=worker_pool)).error
    assert isinstance(error, TypeError)
    assert message in str(error)


def test_a_step_that_did_not_complete_has_no_items(worker_pool: Pool) -> None:
    """A member that failed in a group that tolerates it."""
    flow = Flow("flow").parallel("g", [Step("bad", fail), Step("good", lambda ctx: [1])])
    error = run_aside(flow.map("m", same, "bad", pool=worker_pool)).error
    assert isinstance(error, KeyError)
    assert "map 'm': step 'bad' has not completed" in str(error)


def test_an_error_of_the_source_comes_before_too_few_successes(worker_pool: Pool) -> None:
    """It is why there were too few."""
    result = run_map(same, broken_after(2, SourceError()), worker_pool, min_success=5)
    assert SourceError is type(result.error)


def test_a_map_whose_source_fails_can_run_again(worker_pool: Pool) -> None:
    """A run leaves nothing on the definition."""
    flow = Flow("flow").map(
        "m", same, lambda ctx: range(3) if ctx.input else raises(ctx), pool=worker_pool
    )
    assert ["failed", "completed"] == [run_aside(flow, value).status for value in (False, True)]


# --- how much at a time ----------------------------------------------------------------------


@pytest.mark.parametrize("bound", [1, 2, 5])
def test_as_many_items_run_at_a_time_as_may(
    worker_pool: Pool, gates: Callable[[str], Gate], journal: Journal, bound: int
) -> None:
    """No more than `max_concurrency`, nor than there are processes; and no fewer."""
    total, workers = 12, loky.cpu_count() if worker_pool == "process" else 32
    released = [gates(str(number)) for number in range(total)]

    def body(ctx: Context, item: int) -> None:
        journal.add("began", item)
        released[item].wait()
        journal.add("ended", item)

    at_once = min(bound, workers)
    flow = Flow("flow").map(
        "m", body, range(total), pool=worker_pool, chunk_size=1, max_concurrency=bound
    )
    run = Aside(flow)
    for number in range(total):
        begun = min(number + at_once, total)
        wait_until(partial(_at_least, journal, begun), f"{begun} items to begin")
        released[number].open()
    assert "completed" == run.result().status
    running = most = 0
    for line in journal.lines:
        running += 1 if line.startswith("began") else -1
        most = max(most, running)
    assert at_once == most


def _at_least(journal: Journal, begun: int) -> bool:
    return noted(journal, "began") >= begun


def test_the_flows_bound_holds_where_the_map_has_none(journal: Journal) -> None:
    """As for groups."""
    flow = Flow("flow", max_concurrency=1)
    lock = threading.Lock()

    def body(ctx: Context, item: int) -> bool:
        alone = lock.acquire(blocking=False)
        try:
            return alone
        finally:
            if alone:
                lock.release()

    assert [True] * 200 == run_aside(flow.map("m", body, range(200)))["m"].values


def test_thirty_two_threads_are_used_where_nobody_says() -> None:
    """Items that wait for each other get as many threads as that."""
    meeting = threading.Barrier(32)
    result = run_map(lambda ctx, item: meeting.wait(20) >= 0, range(32))
    assert [True] * 32 == result.values


# --- pools that others use, too --------------------------------------------------------------


def occupied(pool: Pool, started: Gate, release: Gate) -> Aside:
    """Return a run whose only step uses a worker of the pool until it is released."""

    def occupy(ctx: Context) -> None:
        started.open()
        release.wait()

    first = Aside(Flow("first").step("s", occupy, pool=pool))
    started.wait()
    return first


@pytest.mark.parametrize("make", [ThreadPool, ProcessPool], ids=["thread", "process"])
@processes
def test_a_map_on_a_busy_pool_waits_its_turn(
    make: Callable[[int], Any], gates: Callable[[str], Gate]
) -> None:
    """It starts when there is a worker, and completes."""
    release = gates("release")
    with make(1) as pool:
        first = occupied(pool, gates("started"), release)
        second = Aside(Flow("second").map("m", double, range(10), pool=pool))
        assert not second.over
        release.open()
        assert "completed" == first.result().status
        assert [2 * item for item in range(10)] == second.result()["m"].values


@pytest.mark.parametrize("make", [ThreadPool, ProcessPool], ids=["thread", "process"])
@processes
def test_a_map_that_waits_for_a_worker_can_be_cancelled(
    make: Callable[[int], Any], gates: Callable[[str], Gate]
) -> None:
    """At once: none of its items has begun."""
    release, token = gates("release"), CancelToken()
    with make(1) as pool:
        first = occupied(pool, gates("started"), release)
        taken = threading.Event()

        def source(ctx: Context) -> Iterator[int]:
            yield 0
            taken.set()
            yield 1

        flow = Flow("second").map("m", double, source, pool=pool)
        second = Aside(flow, cancel=token)
        assert taken.wait(20)
        token.cancel("enough")
        result = second.result()["m"]
        assert ("cancelled", (0, 0, 2), 0) == (result.status, counts(result), result.attempts)
        release.open()
        assert "completed" == first.result().status
        assert [2] == run_map(double, [1], pool).values


@processes
def test_a_step_gets_a_worker_while_a_map_goes_on(journal: Journal) -> None:
    """A map on processes lets others have its worker between two chunks."""
    done, started = threading.Event(), threading.Event()

    def source(ctx: Context) -> Iterator[int]:
        number = 0
        while not done.is_set():
            yield number
            number += 1
            started.set()

    with ProcessPool(1) as pool:
        flow = Flow("first").map("m", double, source, pool=pool, keep_values=False)
        first = Aside(flow)
        assert started.wait(20)
        second = Flow("second").step("s", lambda ctx: "ran", pool=pool).run()
        done.set()
        assert ("ran", "completed") == (second["s"].value, first.result().status)


def test_what_is_made_is_what_runs(worker_pool: Pool, journal: Journal) -> None:
    """Each item once, and in the order of the source."""
    result = run_map(same, counted(range(100), journal), worker_pool)
    assert [f"made {item}" for item in range(100)] == journal.lines
    assert list(range(100)) == result.values
