"""What a board tells of a run, from its events alone."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from syncflow import Flow, Step
from syncflow.hooks import Event, MapProgress
from syncflow.progress import Board
from syncflow.result import MapResult, StepStatus

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


def nothing(ctx: object, item: object = None) -> None:
    """Do nothing."""


class Run:
    """Tells a board what happens, at times of the test's choice."""

    def __init__(self, flow: Flow) -> None:
        self.now = 100.0
        self.board = Board(flow.name, flow.nodes, lambda: self.now)

    def tell(self, hook: str, *steps: str, **fields: Any) -> None:
        """Call a hook for each of the steps, or for the flow."""
        for step in steps or (None,):
            getattr(self.board, f"on_{hook}")(Event("flow", "run", NOW, step_name=step, **fields))

    def lines(self, most: int = 99) -> list[str]:
        """Return what the board tells of nodes."""
        return [str(line) for line in self.board.lines(most)]


def members(count: int, **options: Any) -> list[Step]:
    """Return steps named 0, 1, 2 ..."""
    return [Step(str(number), nothing, **options) for number in range(count)]


def map_result(completed: int, failed: int, cancelled: int = 0) -> MapResult:
    """Return the result of a map."""
    return MapResult(
        *("m", None, StepStatus.COMPLETED, [], None, completed + failed, 0.0, 0.0, 0.0, None),
        *("thread", None, None, {}, completed, failed, cancelled),
    )


def test_tells_of_no_node_before_it_is_reached() -> None:
    """Only the flow has a line until a first step starts."""
    run = Run(Flow("f").step("a", nothing).step("b", nothing))
    assert ([], "f: 0 of 2 done, 0.0 s") == (run.lines(), str(run.board.summary()))


def test_tells_how_a_step_is() -> None:
    """The line of a step has its state and its time, which ends with it."""
    run = Run(Flow("f").step("a", nothing))
    told = []
    for hook in ("step_start", "step_retry", "step_complete"):
        run.tell(hook, "a")
        run.now += 1.5
        told += run.lines()
    assert ["a: running, 1.5 s", "a: retrying, 3.0 s", "a: completed, 3.0 s"] == told


def test_counts_the_members_of_a_group() -> None:
    """The line of a group tells how many are done, failed, cancelled, running and retrying."""
    run = Run(Flow("f").parallel("g", members(10)))
    run.tell("step_start", *"0123456")
    run.tell("step_retry", *"34")
    run.tell("step_complete", *"01")
    run.tell("step_fail", "2")
    run.tell("step_cancel", "9")
    run.now += 2
    counts = "2 of 10 done, 1 failed, 1 cancelled, 2 running, 2 retrying"
    assert [f"g: {counts}, 2.0 s, 2.0/s"] == run.lines()


def test_counts_a_member_that_was_retried_once() -> None:
    """A member that completes in a later attempt is no longer retrying."""
    run = Run(Flow("f").parallel("g", members(2)))
    run.tell("step_start", "0")
    run.tell("step_retry", *"000")
    run.tell("step_complete", "0")
    assert ["g: 1 of 2 done, 0.0 s"] == run.lines()


def test_stops_the_clock_of_a_group_that_has_settled() -> None:
    """Time and rate of a group are those of its end."""
    run = Run(Flow("f").parallel("g", members(2)).step("next", nothing))
    run.tell("step_start", *"01")
    run.now += 4
    run.tell("step_complete", *"01")
    run.now += 60
    assert ["g: 2 of 2 done, 4.0 s, 0.5/s"] == run.lines()


def test_tells_no_rate_that_means_nothing() -> None:
    """In the first tenth of a second there is no rate."""
    run = Run(Flow("f").parallel("g", members(2)))
    run.tell("step_start", "0")
    run.now += 0.09
    run.tell("step_complete", "0")
    assert ["g: 1 of 2 done, 0.1 s"] == run.lines()


@pytest.mark.parametrize(
    ("hook", "status"),
    [("complete", "completed"), ("fail", "failed"), ("cancel", "cancelled")],
)
def test_tells_how_a_group_ended(hook: str, status: str) -> None:
    """A group is marked by the worst that came of its members, once all have settled."""
    run = Run(Flow("f").parallel("g", members(2)))
    run.tell("step_complete", "0")
    before = run.board.lines(1)[0].status
    run.tell(f"step_{hook}", "1")
    assert ("running", status) == (before, run.board.lines(1)[0].status)


def test_counts_the_items_of_a_map() -> None:
    """The line of a map has the counts of its latest report; a retry of an item is no step's."""
    run = Run(Flow("f").map("m", nothing, over=[1]))
    run.tell("step_start", "m")
    run.tell("step_retry", "m")
    run.now += 10
    run.tell("map_progress", "m", progress=MapProgress(5000, 1, 0, 3, None))
    unknown = run.lines()
    run.tell("map_progress", "m", progress=MapProgress(5000, 1, 0, 3, 9000))
    assert [
        "m: 5000 done, 1 failed, 3 retrying, 10.0 s, 500.1/s",
        "m: 5000 of 9000 done, 1 failed, 3 retrying, 10.0 s, 500.1/s",
    ] == unknown + run.lines()


def test_counts_the_items_of_a_map_that_has_settled() -> None:
    """A map's result has the last word, however long ago its latest report was."""
    run = Run(Flow("f").map("m", nothing, over=[1]))
    run.tell("step_start", "m")
    run.tell("map_progress", "m", progress=MapProgress(1, 0, 0, 2, None))
    run.now += 1
    run.tell("step_complete", "m", result=map_result(7, 1))
    assert ["m: 7 of 8 done, 1 failed, 1.0 s, 8.0/s"] == run.lines()


def test_tells_of_a_map_without_items() -> None:
    """A map that had nothing to do has completed."""
    run = Run(Flow("f").map("m", nothing, over=[]))
    run.tell("step_complete", "m", result=map_result(0, 0))
    assert ("m: 0 of 0 done, 0.0 s", "completed") == (
        run.lines()[0],
        run.board.lines(1)[0].status,
    )


@pytest.mark.parametrize(("hook", "status"), [("fail", "failed"), ("cancel", "cancelled")])
@pytest.mark.parametrize("cancelled", [0, 2])
def test_tells_how_a_map_ended(hook: str, status: str, cancelled: int) -> None:
    """A map whose source raises has failed, though none of its items has."""
    run = Run(Flow("f").map("m", nothing, over=[1]))
    run.tell(f"step_{hook}", "m", result=map_result(3, 0, cancelled))
    assert status == run.board.lines(1)[0].status


def test_counts_what_is_undone() -> None:
    """The rollback has a line once it begins: of all that is to be undone, what has been."""
    flow = Flow("f").step("a", nothing, compensate=nothing).step("b", nothing)
    flow.parallel("g", members(3, compensate=nothing))
    run = Run(flow)
    run.tell("step_start", "a", "b", *"012")
    run.tell("step_complete", "a", "b", *"01")
    run.tell("step_fail", "2")
    run.now += 5
    run.tell("compensate", "1")
    run.tell("compensate_complete", "1")
    run.tell("compensate", "0")
    run.tell("compensate_fail", "0")
    run.tell("compensate", "a")
    run.now += 2
    counts = "1 of 3 undone, 1 failed, 1 running"
    assert f"rollback: {counts}, 2.0 s, 1.0/s" == run.lines()[-1]


def test_counts_steps_of_unknown_outcome_among_those_to_be_undone() -> None:
    """`compensate_on="started"` undoes a member that failed, but not one that never started."""
    steps = members(3, compensate=nothing, compensate_on="started")
    run = Run(Flow("f").parallel("g", steps))
    run.tell("step_start", *"01")
    run.tell("step_fail", "0")
    run.tell("step_cancel", *"12")
    run.tell("compensate", "1")
    assert "rollback: 0 of 2 undone, 1 running, 0.0 s" == run.lines()[-1]


def test_counts_a_map_as_one_to_be_undone() -> None:
    """The items of a map are undone as one."""
    run = Run(Flow("f").map("m", nothing, over=[1], compensate=nothing))
    run.tell("step_complete", "m", result=map_result(5, 1))
    run.tell("compensate", "m")
    assert "rollback: 0 of 1 undone, 1 running, 0.0 s" == run.lines()[-1]


def test_ends_a_rollback_that_was_given_up() -> None:
    """A second Ctrl-C ends the rollback: it has failed when something is still to be undone."""
    run = Run(Flow("f").parallel("g", members(2, compensate=nothing)))
    run.tell("step_complete", *"01")
    run.tell("compensate", "1")
    run.tell("compensate_complete", "1")
    run.tell("flow_cancel")
    run.now += 9
    assert ("rollback: 1 of 2 undone, 0.0 s", "failed") == (
        run.lines()[-1],
        run.board.lines(1)[0].status,
    )


@pytest.mark.parametrize(
    ("hook", "status"),
    [("complete", "completed"), ("fail", "failed"), ("cancel", "cancelled")],
)
def test_tells_how_the_flow_ended(hook: str, status: str) -> None:
    """The flow's line has its status and the time it took."""
    run = Run(Flow("f").step("a", nothing))
    run.now += 3
    run.tell(f"flow_{hook}")
    run.now += 3
    assert (f"f: {status}, 3.0 s", status) == (
        str(run.board.summary()),
        run.board.summary().status,
    )


def test_tells_of_the_latest_nodes_when_there_is_little_room() -> None:
    """The rollback and the nodes reached last are told of."""
    flow = Flow("f")
    for name in "abc":
        flow.step(name, nothing, compensate=nothing)
    run = Run(flow)
    run.tell("step_complete", *"abc")
    run.tell("compensate", "c")
    assert ["c:", "rollback:"] == [line.split()[0] for line in run.lines(2)]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (61, "1:01 min"), (3600 * 25 + 61, "25:01:01")],
)
def test_tells_times_for_people(seconds: float, told: str) -> None:
    """Long times are minutes or hours."""
    run = Run(Flow("f").step("a", nothing))
    run.now += seconds
    assert f"f: 0 of 1 done, {told}" == str(run.board.summary())


def test_lets_no_control_character_through() -> None:
    """Names of flows, steps and groups are shown in one line, escaped and cut."""
    flow = Flow("f\x1b[2J").step("a\nb", nothing).parallel("g" * 200, members(1))
    run = Run(flow)
    run.tell("step_complete", "a\nb", "0")
    assert ["a\\nb: completed, 0.0 s", f"{'g' * 37}...: 1 of 1 done, 0.0 s"] == run.lines()
    assert "f\\x1b[2J: 2 of 2 done, 0.0 s" == str(run.board.summary())
