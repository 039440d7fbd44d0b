"""One function over many items: values, sources by kind, and what bodies see."""

from __future__ import annotations

import contextvars
import gc
import json
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import loky
import pytest
from contract_tools import BodyError, Pool, Recorder, Unpicklable, do_nothing, fail, wait_until
from map_tools import (
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
    Context,
    Event,
    Flow,
    GroupFailedError,
    Hooks,
    MapResult,
    StateConflictError,
    Step,
    current_context,
)

SIZES = pytest.mark.parametrize("chunk_size", ["auto", 1, 3, 1000])


class Numbers:
    """An iterable of one's own, which does not know how many there are."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._count))


class OldSequence:
    """Can be iterated by index only."""

    def __getitem__(self, index: int) -> int:
        return [10, 20, 30][index]


# --- values ----------------------------------------------------------------------------------


@SIZES
def test_values_come_in_item_order(worker_pool: Pool, chunk_size: Any) -> None:
    """However the items travel, and whoever runs them."""
    result = run_map(double, range(200), worker_pool, chunk_size=chunk_size)
    assert [2 * item for item in range(200)] == result.values
    assert ("completed", (200, 0, 0), 200) == (result.status, counts(result), result.attempts)


def test_values_come_in_item_order_when_items_do_not_end_in_it(
    worker_pool: Pool, gates: Callable[[str], Any]
) -> None:
    """The first item ends last."""
    gate = gates("last")

    def body(ctx: Context, item: int) -> int:
        if item == 0:
            gate.wait()
        else:
            gate.open()
        return item

    assert [0, 1] == run_map(body, [0, 1], worker_pool, chunk_size=1, max_concurrency=2).values


@pytest.mark.parametrize(
    "over",
    [[], (), {}, Numbers(0), lambda ctx: []],
    ids=["list", "tuple", "dict", "length", "function"],
)
def test_no_items_complete_at_once(worker_pool: Pool, over: Any) -> None:
    """With an empty list of values; nobody has to come along for the run to end."""
    result = run_map(double, over, worker_pool)
    assert ("completed", [], (0, 0, 0), 0, None) == (
        result.status, result.values, counts(result), result.attempts, result.started_at,
    )  # fmt: skip


def test_one_item(worker_pool: Pool) -> None:
    """It is a map all the same."""
    assert [2] == run_map(double, [1], worker_pool).values


def test_items_may_be_none(worker_pool: Pool) -> None:
    """So may their values."""
    result = run_map(same, [None, 0, None], worker_pool)
    assert ([None, 0, None], 3) == (result.values, result.completed)


@pytest.mark.parametrize("chunk_size", ["auto", 1, 10])
def test_values_may_be_dropped(worker_pool: Pool, chunk_size: Any) -> None:
    """Then there are only counts."""
    result = run_map(double, range(30), worker_pool, chunk_size=chunk_size, keep_values=False)
    assert ([], [], 30) == (result.values, result.value, result.completed)


# --- over ------------------------------------------------------------------------------------


def naturals(ctx: Context) -> Iterator[int]:
    """Make as many numbers as the input says."""
    yield from range(ctx.input)


def test_over_an_iterable(worker_pool: Pool) -> None:
    """In every run anew."""
    flow = Flow("flow").map("m", double, Numbers(3), pool=worker_pool)
    assert [[0, 2, 4]] * 2 == [run_aside(flow)["m"].values for _ in range(2)]


def test_over_a_dict_and_a_text(worker_pool: Pool) -> None:
    """As Python iterates them: keys, and characters when a function says so."""
    assert ["aa", "bb"] == run_map(double, {"a": 1, "b": 2}, worker_pool).values
    assert ["aa", "bb"] == run_map(double, lambda ctx: "ab", worker_pool).values


def test_over_a_step(worker_pool: Pool) -> None:
    """The value of an earlier step is iterated."""
    flow = Flow("flow").step("numbers", lambda ctx: [1, 2, 3])
    assert [2, 4, 6] == run_aside(flow.map("m", double, "numbers", pool=worker_pool))["m"].values


def test_over_a_member_of_a_group(worker_pool: Pool) -> None:
    """Its name is one of the flow's."""
    flow = Flow("flow").parallel("g", [Step("numbers", lambda ctx: (1, 2))])
    assert [2, 4] == run_aside(flow.map("m", double, "numbers", pool=worker_pool))["m"].values


def test_over_a_map(worker_pool: Pool) -> None:
    """The list of its values is iterated: None where an item failed."""
    flow = Flow("flow").map("first", fail_odd, range(4), pool=worker_pool)
    flow.map("second", same, "first", pool=worker_pool)
    assert [0, None, 2, None] == run_aside(flow)["second"].values


def test_over_a_function(worker_pool: Pool) -> None:
    """A generator function, say; it reads what the map reads."""
    flow = Flow("flow").map("m", double, naturals, pool=worker_pool)
    assert [[0, 2, 4], [0]] == [run_aside(flow, count)["m"].values for count in (3, 1)]


def test_over_what_can_only_be_indexed(worker_pool: Pool) -> None:
    """The old way to be iterable is one."""
    assert [20, 40, 60] == run_map(double, lambda ctx: OldSequence(), worker_pool).values


def test_the_source_knows_where_it_is() -> None:
    """It has a context, the current one, and reads state, input and values."""
    seen: list[Any] = []

    def source(ctx: Context) -> Iterator[int]:
        seen.extend([ctx.input, ctx["key"], ctx.value("before"), ctx.step_name, ctx.attempt])
        seen.append(current_context() is ctx)
        yield 1

    flow = Flow("flow").step("before", lambda ctx: ctx.set("key", "state") or "value")
    run_aside(flow.map("m", double, source), "input").raise_for_status()
    assert ["input", "state", "value", "m", 1, True] == seen


def test_the_source_runs_in_the_thread_that_called_run() -> None:
    """Every item of it."""
    threads: set[str] = set()

    def source(ctx: Context) -> Iterator[int]:
        for number in range(5):
            threads.add(threading.current_thread().name)
            yield number

    run_map(double, source)
    assert {"aside"} == threads


# --- what bodies see -------------------------------------------------------------------------


@SIZES
def test_bodies_read_the_flow(worker_pool: Pool, chunk_size: Any) -> None:
    """Input, state, earlier values and results."""

    def body(ctx: Context, item: int) -> Any:
        return ctx.input, ctx["key"], ctx.value("before"), sorted(ctx.results), item

    flow = Flow("flow").step("before", lambda ctx: ctx.set("key", "state") or "value")
    flow.map("m", body, range(5), pool=worker_pool, chunk_size=chunk_size)
    expected = [("input", "state", "value", ["before"], item) for item in range(5)]
    assert expected == run_aside(flow, "input")["m"].values


@SIZES
def test_bodies_know_where_they_are(worker_pool: Pool, chunk_size: Any) -> None:
    """Flow, map, run and attempt; the key names the item."""

    def body(ctx: Context, item: int) -> Any:
        same_one = current_context() is ctx
        return ctx.flow_name, ctx.step_name, ctx.attempt, ctx.idempotency_key, same_one

    flow = Flow("flow").map("m", body, range(7), pool=worker_pool, chunk_size=chunk_size)
    expected = [("flow", "m", 1, f"id:m:{item}", True) for item in range(7)]
    assert expected == run_aside(flow, run_id="id")["m"].values


@SIZES
def test_the_key_is_the_same_in_every_attempt(worker_pool: Pool, chunk_size: Any) -> None:
    """The index is the item's, wherever it travels the next time."""

    def body(ctx: Context, item: int) -> Any:
        if ctx.attempt == 1 and item % 2:
            raise BodyError(ctx.idempotency_key)
        return ctx.idempotency_key, ctx.attempt

    flow = Flow("flow").map("m", body, range(6), pool=worker_pool, chunk_size=chunk_size, retries=1)
    expected = [(f"id:m:{item}", 1 + item % 2) for item in range(6)]
    assert expected == run_aside(flow, run_id="id")["m"].values


def test_context_variables_reach_bodies_on_threads() -> None:
    """Those of the thread that called `run`."""
    variable = contextvars.ContextVar("variable", default="default")

    def body(ctx: Context, item: int) -> str:
        seen = variable.get()
        variable.set(f"of item {item}")
        return seen

    flow = Flow("flow").map("m", body, range(4), max_concurrency=1)
    variable.set("of the caller")
    assert ["of the caller"] * 4 == flow.run()["m"].values


# --- state -----------------------------------------------------------------------------------


@SIZES
def test_writes_take_effect_when_the_map_completes(worker_pool: Pool, chunk_size: Any) -> None:
    """Those of all items that completed; items do not see each other's."""

    def body(ctx: Context, item: int) -> Any:
        if item % 3 == 0:
            ctx.set(f"key {item}", item)
        if item == 6:
            raise BodyError
        return [key for key in range(9) if ctx.has(f"key {key}")]

    def read(ctx: Context) -> list[int]:
        return [key for key in range(9) if ctx.has(f"key {key}")]

    flow = Flow("flow").map("m", body, range(9), pool=worker_pool, chunk_size=chunk_size)
    result = run_aside(flow.step("after", read))
    assert [[0], [], [], [3], [], [], None, [], []] == result["m"].values
    assert [0, 3] == result["after"].value


@SIZES
def test_two_items_that_write_one_key_clash(worker_pool: Pool, chunk_size: Any) -> None:
    """The map fails, and names the items; nothing is written."""

    def body(ctx: Context, item: int) -> None:
        ctx.set("key" if item in (1, 4) else f"key {item}", item)

    flow = Flow("flow").map("m", body, range(6), pool=worker_pool, chunk_size=chunk_size)
    error = run_aside(flow).error
    assert isinstance(error, StateConflictError)
    assert ("key", ("m[1]", "m[4]")) == (error.key, error.steps)


def test_writes_of_a_failed_attempt_are_dropped(worker_pool: Pool) -> None:
    """Only those of the attempt that completed count."""

    def body(ctx: Context, item: int) -> None:
        ctx.set(f"attempt {ctx.attempt}", item)
        if ctx.attempt == 1:
            raise BodyError

    flow = Flow("flow").map("m", body, [7], pool=worker_pool, retries=1)
    flow.step("after", lambda ctx: (ctx.get("attempt 1"), ctx.get("attempt 2")))
    assert (None, 7) == run_aside(flow)["after"].value


def test_writes_of_a_failed_map_are_dropped(worker_pool: Pool) -> None:
    """A compensation after it does not see them."""
    seen: list[Any] = []

    def body(ctx: Context, item: int) -> None:
        ctx.set(f"key {item}", item)
        if item:
            raise BodyError

    flow = Flow("flow").step("a", do_nothing, compensate=lambda ctx: seen.append(ctx.get("key 0")))
    run_aside(flow.map("m", body, [0, 1], pool=worker_pool, min_success=2))
    assert [None] == seen


# --- the result ------------------------------------------------------------------------------


def test_the_result_tells_all_of_it(worker_pool: Pool) -> None:
    """Values, errors and counts; it is a step's result as well."""
    result = run_map(fail_odd, range(5), worker_pool, chunk_size=2)
    assert [0, None, 2, None, 4] == result.values
    assert {1: BodyError, 3: BodyError} == {at: type(error) for at, error in result.errors.items()}
    assert ("completed", True, None, (3, 2, 0), 5) == (
        result.status, result.ok, result.error, counts(result), result.attempts,
    )  # fmt: skip
    assert (None, None) == (result.group, result.worker)
    assert result.duration >= 0
    assert result.started_at is not None


def test_a_flow_with_failed_items_is_partial(worker_pool: Pool) -> None:
    """It has completed, but not with everything."""
    flow = Flow("flow").map("m", fail_odd, range(2), pool=worker_pool)
    assert (True, True) == ((found := run_aside(flow)).ok, found.partial)
    whole = Flow("flow").map("m", double, range(2), pool=worker_pool)
    assert (True, False) == ((found := run_aside(whole)).ok, found.partial)


def test_an_error_tells_item_map_and_attempt(worker_pool: Pool) -> None:
    """In a note."""
    error = run_map(fail_item, [1, 2], worker_pool, retries=1, chunk_size=2).errors[1]
    assert "item 1 of step 'm' of flow 'flow', attempt 2 of 2" in error.__notes__


def test_later_steps_read_values_and_result(worker_pool: Pool) -> None:
    """`ctx.value` is the list of values, `ctx.results` has the result."""

    def read(ctx: Context) -> Any:
        result = ctx.results["m"]
        return ctx.value("m"), result.status, type(result).__name__, sorted(result.errors)

    flow = Flow("flow").map("m", fail_odd, range(3), pool=worker_pool)
    found = run_aside(flow.step("after", read, pool=worker_pool))["after"].value
    assert ([0, None, 2], "completed", "MapResult", [1]) == found


def test_a_map_that_was_never_reached_is_skipped(worker_pool: Pool) -> None:
    """It has no items, and is a map's result all the same."""
    flow = Flow("flow").step("bad", fail).map("m", double, [1], pool=worker_pool)
    result = run_aside(flow)["m"]
    assert isinstance(result, MapResult)
    assert ("skipped", 0, (0, 0, 0)) == (result.status, result.attempts, counts(result))


def test_a_result_can_be_shown_and_sent(worker_pool: Pool) -> None:
    """As a table, as data for JSON, and pickled."""
    result = run_aside(Flow("flow").map("m", fail_odd, range(4), pool=worker_pool))
    assert "2 items completed, 2 failed" in result.table()
    assert "2 items completed, 2 failed" in result._repr_html_()
    (data,) = json.loads(json.dumps(result.to_dict(), allow_nan=False))["steps"]
    assert ([0, None, 2, None], 2, 2, 0, 4) == (
        data["value"], data["completed"], data["failed"], data["cancelled"], data["attempts"],
    )  # fmt: skip
    assert {"1": "BodyError", "3": "BodyError"} == {
        index: error["type"] for index, error in data["errors"].items()
    }
    copy = pickle.loads(pickle.dumps(result))["m"]
    assert [0, None, 2, None] == copy.values
    assert ((2, 2, 0), [1, 3]) == (counts(copy), list(copy.errors))
    assert "<MapResult 'm' completed>" == repr(copy)


# --- hooks -----------------------------------------------------------------------------------


@SIZES
def test_hooks_fire_for_the_map_as_one_step(
    worker_pool: Pool, recorder: Recorder, chunk_size: Any
) -> None:
    """Once each, whatever the number of items; retries as they come."""

    def body(ctx: Context, item: int) -> None:
        if ctx.attempt == 1 and item == 2:
            raise BodyError

    flow = Flow("flow", hooks=recorder)
    flow.map("m", body, range(5), pool=worker_pool, chunk_size=chunk_size, retries=1)
    run_aside(flow).raise_for_status()
    names = [name for name in recorder.names() if not name.startswith("on_map_progress")]
    assert [
        "on_flow_start", "on_step_start m", "on_step_retry m", "on_step_complete m",
        "on_flow_complete",
    ] == names  # fmt: skip
    (retry,) = recorder.of("on_step_retry")
    assert (2, BodyError, 0.0) == (retry.attempt, type(retry.error), retry.delay)


def test_a_failed_map_is_told_once(worker_pool: Pool, recorder: Recorder) -> None:
    """With the error of the map, and its result."""
    flow = Flow("flow", hooks=recorder).map("m", fail_item, range(3), pool=worker_pool)
    run_aside(flow)
    (event,) = recorder.of("on_step_fail")
    assert isinstance(event.error, GroupFailedError)
    assert isinstance(event.result, MapResult)
    assert 3 == event.result.failed


def test_progress_is_told_while_items_run(worker_pool: Pool, gates: Callable[[str], Any]) -> None:
    """An item waits until the progress of the others was told."""
    gate = gates("told")
    seen: list[Any] = []

    class Watch(Hooks):
        def on_map_progress(self, event: Event) -> None:
            assert event.progress is not None
            seen.append((event.step_name, event.progress))
            if event.progress.completed == 3:
                gate.open()

    def body(ctx: Context, item: int) -> None:
        if item == 3:
            gate.wait()
        if item == 0:
            raise BodyError

    flow = Flow("flow", hooks=Watch())
    flow.map("m", body, range(5), pool=worker_pool, chunk_size=1, max_concurrency=2)
    run_aside(flow).raise_for_status()
    name, last = seen[-1]
    assert ("m", 3, 1, 0, 0, 5) == (
        name, last.completed, last.failed, last.cancelled, last.retrying, last.total,
    )  # fmt: skip


# --- many at once ----------------------------------------------------------------------------


def naturals_of(ctx: Context) -> Iterator[int]:
    """Make fifty numbers."""
    yield from range(50)


def test_a_flow_with_a_map_may_run_many_times_at_once(worker_pool: Pool) -> None:
    """Runs are independent."""
    flow = Flow("flow").map("m", lambda ctx, item: (ctx.input, item), naturals_of, pool=worker_pool)
    found: dict[int, Any] = {}

    def run(number: int) -> None:
        found[number] = flow.run(number)["m"].values

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: [(number, item) for item in range(50)] for number in range(6)} == found


def test_items_may_run_flows_with_maps() -> None:
    """Threads are made as they are needed: nobody waits for a thread that waits."""

    def body(ctx: Context, item: int) -> list[int]:
        inner = Flow("inner").map("m", double, range(item), max_concurrency=2)
        return inner.run()["m"].values

    expected = [[2 * number for number in range(item)] for item in range(20)]
    assert expected == run_map(body, range(20), max_concurrency=20).values


def test_items_on_threads_may_run_maps_on_processes(worker_pool: Pool) -> None:
    """Many maps share the workers of one pool."""

    def body(ctx: Context, item: int) -> list[int]:
        return Flow("inner").map("m", double, range(item), pool=worker_pool).run()["m"].values

    expected = [[2 * number for number in range(item)] for item in range(12)]
    assert expected == run_map(body, range(12), max_concurrency=12).values


@pytest.mark.xdist_group("process")
def test_small_items_share_messages_and_workers() -> None:
    """A thousand of them run on no more processes than the pool has."""
    result = run_map(return_item_pid, range(1000), "process")
    assert len(set(result.values)) <= loky.cpu_count()


# --- memory ----------------------------------------------------------------------------------


class Thing:
    """A value that can be watched."""

    def __init__(self, number: int) -> None:
        self.number = number


def make_thing(ctx: Context, item: int) -> Thing:
    """Return a value that can be watched, or fail with one."""
    if item == 3:
        raise ThingError(Thing(item))
    return Thing(item)


class ThingError(Exception):
    """An error that can be watched."""


@pytest.mark.parametrize("chunk_size", [1, 3])
def test_nothing_stays_once_the_result_is_dropped(worker_pool: Pool, chunk_size: int) -> None:
    """Neither values nor errors, without the collector."""
    flow = Flow("flow").map("m", make_thing, range(6), pool=worker_pool, chunk_size=chunk_size)
    gc.collect()
    gc.disable()
    try:
        result = flow.run()
        watched = [weakref.ref(result["m"].values[0]), weakref.ref(result["m"].errors[3])]
        del result
        wait_until(lambda: [None, None] == [each() for each in watched], "the last references")
    finally:
        gc.enable()


def test_values_that_are_not_kept_are_gone_when_the_map_is_over() -> None:
    """A later step finds none of them."""
    watched: list[weakref.ref[Thing]] = []

    def body(ctx: Context, item: int) -> Thing:
        made = Thing(item)
        watched.append(weakref.ref(made))
        return made

    flow = Flow("flow").map("m", body, range(6), keep_values=False)
    flow.step("after", lambda ctx: [each() for each in watched])
    assert [None] * 6 == run_aside(flow)["after"].value


# --- what cannot travel ----------------------------------------------------------------------


@pytest.mark.xdist_group("process")
def test_what_bodies_do_not_read_need_not_travel() -> None:
    """A flow may keep anything in its state beside a map on processes."""
    flow = Flow("flow").step("a", lambda ctx: ctx.set("key", Unpicklable()))
    assert [2] == run_aside(flow.map("m", double, [1], pool="process"))["m"].values
