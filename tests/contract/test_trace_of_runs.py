"""Traces and timelines of runs: each worker a row, and everything at its time."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from contract_tools import PATIENCE, BodyError, Gate, Pool, When, do_nothing, fail
from late_scene import Scene
from trace_tools import Event, of_kind, rows, traced, waits

from syncflow import Context, Flow, FlowResult, Step
from syncflow.laps import Stretches
from syncflow.run.member import MOST_LAPS

processes = pytest.mark.xdist_group("process")


def who(ctx: Context) -> str | int:
    """Return the worker that this runs on, as results call it."""
    thread = threading.current_thread()
    return os.getpid() if thread is threading.main_thread() else thread.name


def fail_twice(ctx: Context) -> str | int:
    """Complete at the third attempt."""
    if ctx.attempt < 3:
        raise BodyError(f"attempt {ctx.attempt}")
    return who(ctx)


def fail_early(ctx: Context, item: int) -> int:
    """Complete at the second attempt, for one item."""
    if item == 3 and ctx.attempt == 1:
        raise BodyError("again")
    return item


def undo_item(ctx: Context, item: int) -> None:
    """Undo nothing."""


def label(worker: str | int | None) -> str:
    """Return the name of a worker's row."""
    return f"process {worker}" if isinstance(worker, int) else str(worker)


def named(events: list[Event], kind: str) -> list[str]:
    """Return the names of the complete events of one kind, in the order of their start."""
    return [event["name"] for event in of_kind(events, kind)]


def row_of(events: list[Event], name: str) -> str:
    """Return the row that the one attempt, or compensation, of this name is on."""
    [found] = [
        row
        for row, inside in rows(events).items()
        if any(e["name"] == name and e["cat"] in ("attempt", "compensation") for e in inside)
    ]
    return found


# --- attempts --------------------------------------------------------------------------------


def test_a_retried_step_shows_every_attempt(pool: Pool, tmp_path: Path) -> None:
    """Between them is the backoff, on a row of the step's own."""
    flow = Flow("flow").step("a", fail_twice, pool=pool, retries=2, retry_delay=0.02)
    result = flow.run()
    events = traced(result, tmp_path)
    attempts = of_kind(events, "attempt")
    assert ["a (failed)", "a, attempt 2 (failed)", "a, attempt 3"] == [e["name"] for e in attempts]
    backoff = [(start, end) for _, kind, start, end in waits(events) if kind == "backoff"]
    assert 2 == len(backoff)
    for wait, before, after in zip(backoff, attempts, attempts[1:], strict=False):
        assert before["ts"] + before["dur"] <= wait[0] < wait[1] <= after["ts"]
        assert wait[1] - wait[0] >= 20_000


def test_a_retried_step_says_why_attempts_failed(pool: Pool, tmp_path: Path) -> None:
    """Each has its own error, and its colour."""
    result = Flow("flow").step("a", fail_twice, pool=pool, retries=2).run()
    attempts = of_kind(traced(result, tmp_path), "attempt")
    assert [("terrible", "BodyError: attempt 1"), ("terrible", "BodyError: attempt 2"), None] == [
        (event["cname"], event["args"]["error"]) if "cname" in event else None for event in attempts
    ]


def test_an_attempt_is_on_the_row_of_its_worker(pool: Pool, tmp_path: Path) -> None:
    """The caller's row is the first, and shows inline steps itself."""
    result = Flow("flow").step("a", who, pool=pool).run()
    worker = threading.current_thread().name if pool == "inline" else result["a"].value
    events = traced(result, tmp_path)
    assert label(worker) == row_of(events, "a")
    assert threading.current_thread().name == next(iter(rows(events)))


def test_a_group_has_a_row_for_each_worker(worker_pool: Pool, tmp_path: Path) -> None:
    """However many steps there are, and whichever worker took which."""
    steps = [Step(f"s{at}", who) for at in range(40)]
    result = Flow("flow").parallel("g", steps, pool=worker_pool).run()
    workers = {label(step.value) for step in result.steps}
    events = traced(result, tmp_path)
    assert {threading.current_thread().name} | workers == set(rows(events))
    assert sorted(f"s{at}" for at in range(40)) == sorted(named(events, "attempt"))
    assert ["g"] == named(events, "group")


def test_a_timed_out_body_ends_where_it_was_abandoned(
    abandoning_pool: Pool, gate: Gate, tmp_path: Path
) -> None:
    """Not where its thread came back; and the next attempt is on another thread."""
    flow = Flow("flow").parallel(
        "g", [Step("a", lambda ctx: gate.wait(), timeout=0.05, retries=1), Step("b", do_nothing)],
        pool=abandoning_pool,
    )  # fmt: skip
    result = flow.run()
    gate.open()
    attempts = [e for e in of_kind(traced(result, tmp_path), "attempt") if "failed" in e["name"]]
    assert ["a (failed)", "a, attempt 2 (failed)"] == [event["name"] for event in attempts]
    assert [True, True] == [event["dur"] >= 50_000 for event in attempts]


@processes
def test_a_killed_worker_and_its_successor_have_rows(tmp_path: Path) -> None:
    """The attempt that was killed ends with its worker."""

    def crash_once(ctx: Context) -> None:
        if ctx.attempt == 1:
            os._exit(3)

    result = Flow("flow").step("a", crash_once, pool="process", retries=1).run()
    events = traced(result, tmp_path)
    assert ["a (failed)", "a, attempt 2"] == named(events, "attempt")
    assert 3 == len(rows(events))


def test_a_step_stopped_between_attempts_has_waited_until_then(
    gates: Callable[[str], Gate], tmp_path: Path
) -> None:
    """Its backoff ends when the group does, however long it was to be."""
    rests = gates("rests")

    def fail_later(ctx: Context) -> None:
        rests.wait()
        ctx.sleep(0.01)
        raise BodyError

    flow = Flow("flow", hooks=[When("on_step_retry", rests.open)]).parallel(
        "g", [Step("a", fail, retries=1, retry_delay=60), Step("b", fail_later)], fail_fast=True
    )
    events = traced(flow.run(), tmp_path)
    [(start, end)] = [
        (start, end) for step, kind, start, end in waits(events) if (step, kind) == ("a", "backoff")
    ]
    ended = {event["name"]: event["ts"] + event["dur"] for event in of_kind(events, "attempt")}
    assert ended["a (failed)"] == start < ended["b (failed)"] <= end


def test_very_many_attempts_are_remembered_in_part(tmp_path: Path) -> None:
    """The first and the last are there."""
    flow = Flow("flow").step("a", fail, pool="inline", retries=3 * MOST_LAPS)
    events = traced(flow.run(), tmp_path)
    numbers = [event["args"]["attempt"] for event in of_kind(events, "attempt")]
    assert MOST_LAPS == len(numbers)
    assert [1, 2, 3 * MOST_LAPS, 3 * MOST_LAPS + 1] == numbers[:2] + numbers[-2:]


def test_a_queue_is_drawn(worker_pool: Pool, tmp_path: Path) -> None:
    """A member that waits for its turn waits from the start of its group until its body starts."""

    def pause(ctx: Context) -> None:
        ctx.sleep(0.02)

    flow = Flow("flow").parallel(
        "g", [Step("a", pause), Step("b", pause)], pool=worker_pool, max_concurrency=1
    )
    events = traced(flow.run(), tmp_path)
    first, second = of_kind(events, "attempt")
    queued = {step: (start, end) for step, kind, start, end in waits(events) if kind == "queued"}
    assert second["ts"] == queued["b"][1]
    assert queued["b"][0] <= first["ts"]


# --- maps ------------------------------------------------------------------------------------


def test_a_map_shows_what_its_workers_did(worker_pool: Pool, tmp_path: Path) -> None:
    """Every attempt of every item is counted on some row, and retries and failures with them."""
    flow = Flow("flow").map("m", fail_early, over=range(50), pool=worker_pool, retries=1)
    events = traced(flow.run(), tmp_path)
    stretches = of_kind(events, "items")
    totals = [sum(e["args"][key] for e in stretches) for key in ("items", "failed", "retries")]
    assert [51, 1, 1] == totals
    assert ["m"] == named(events, "map")


def test_a_long_map_has_some_hundred_spans(tmp_path: Path) -> None:
    """However many items there are."""
    result = Flow("flow").map("m", lambda ctx, item: None, over=range(20_000)).run()
    stretches = of_kind(traced(result, tmp_path), "items")
    assert 20_000 == sum(event["args"]["items"] for event in stretches)
    assert len(stretches) <= Stretches.MOST


def test_the_items_of_a_map_are_undone_in_one_span(tmp_path: Path) -> None:
    """In it are stretches of what was done, where it was done."""
    flow = (
        Flow("flow")
        .map("m", fail_early, over=range(5), retries=1, compensate=undo_item)
        .step("b", fail)
    )
    events = traced(flow.run(), tmp_path)
    assert ["undo m"] == named(events, "compensation")
    assert 5 == sum(event["args"]["items"] for event in of_kind(events, "undone"))


# --- compensations ---------------------------------------------------------------------------


def test_compensations_are_in_the_rollback(pool: Pool, tmp_path: Path) -> None:
    """One after the other, on the workers that ran them, with their attempts."""
    undo = Step("undo", fail_twice, pool=pool, retries=2)
    flow = Flow("flow").step("a", do_nothing, compensate=undo).step("b", fail)
    events = traced(flow.run(), tmp_path)
    assert ["rollback"] == named(events, "rollback")
    assert ["undo a (failed)", "undo a, attempt 2 (failed)", "undo a, attempt 3"] == named(
        events, "compensation"
    )
    [rollback] = of_kind(events, "rollback")
    for event in of_kind(events, "compensation"):
        assert rollback["ts"] <= event["ts"]
        assert event["ts"] + event["dur"] <= rollback["ts"] + rollback["dur"]


def test_a_late_compensation_is_on_the_row_of_its_thread(scene: Scene, tmp_path: Path) -> None:
    """It runs beside what else there is, and is no rollback."""
    result = scene.tolerated().step("finish", scene.finish).run(drain=PATIENCE)
    events = traced(result, tmp_path)
    assert scene.body_thread is not None
    assert scene.body_thread.name == row_of(events, "undo slow, late")
    assert [] == named(events, "rollback")


# --- flows in flows --------------------------------------------------------------------------


def nested(*, outer_fails: bool = False, inner_fails: bool = False) -> FlowResult:
    """Run a flow in a flow."""
    inner = (
        Flow("inner")
        .step("x", do_nothing, compensate=do_nothing)
        .parallel(
            "ig",
            [Step("y", do_nothing, compensate=do_nothing), Step("z", do_nothing, pool="thread")],
        )
    )
    if inner_fails:
        inner.step("w", fail)
    flow = Flow("flow").parallel("g", [Step("sub", inner), Step("other", do_nothing)])
    if outer_fails:
        flow.step("b", fail)
    return flow.run()


def test_a_flow_in_a_flow_is_drawn_in_its_step(tmp_path: Path) -> None:
    """At its true time: on the row of its thread, flow in attempt, and its inline steps in that."""
    events = traced(nested(), tmp_path)
    [row] = [row for row in rows(events).values() if any(e["name"] == "inner" for e in row)]
    assert ["sub", "inner", "x", "ig"] == [event["name"] for event in row][:4]


@pytest.mark.parametrize("inner_fails", [False, True])
def test_the_rollback_of_a_flow_in_a_flow_is_drawn(tmp_path: Path, inner_fails: bool) -> None:
    """Its own, where it failed itself; else as part of that of the flow around it."""
    events = traced(nested(outer_fails=True, inner_fails=inner_fails), tmp_path)
    flows = [event["args"].get("step") for event in of_kind(events, "rollback")]
    assert (["sub"] if inner_fails else [None]) == flows
    undone = {event["args"]["step"] for event in of_kind(events, "compensation")}
    assert {"sub / x", "sub / y"} <= undone


# --- the whole -------------------------------------------------------------------------------


def test_a_pickled_result_is_drawn_the_same(tmp_path: Path) -> None:
    """What is known of its times travels with it."""
    result = nested(outer_fails=True)
    copy = pickle.loads(pickle.dumps(result))
    assert traced(result, tmp_path) == traced(copy, tmp_path)
    assert result.timeline(80) == copy.timeline(80)


def test_a_flow_that_ran_nothing_is_drawn(tmp_path: Path) -> None:
    """Its input was refused: there is the flow, and nothing else."""

    def refuse(given: object) -> None:
        raise ValueError("no")

    result = Flow("flow", validate=refuse).step("a", do_nothing).run()
    assert ["flow (failed)"] == [e["name"] for e in traced(result, tmp_path) if e["ph"] == "X"]
    assert "skipped" in result.timeline(80)


def test_a_step_that_was_never_retried_keeps_nothing() -> None:
    """Its one attempt follows from what its result says anyway."""
    result = Flow("flow").step("a", do_nothing).parallel("g", [Step("b", do_nothing)]).run()
    assert [(), ()] == [step._laps for step in result.steps]


def test_the_timeline_of_a_run_has_a_row_for_each_step() -> None:
    """And one for what was undone."""
    lines = nested(outer_fails=True).timeline(100).splitlines()
    labels = [line.split("|")[0].strip() for line in lines if "|" in line]
    assert ["g", "sub", "x", "ig", "y", "z", "other", "b"] == labels[:8]
    assert {"undo sub", "undo sub / x", "undo sub / y"} == set(labels[8:])
