"""What hooks have bodies run in: on each pool, and whatever it does."""

from __future__ import annotations

from typing import Any

import pytest
from around_tools import (
    BadEntry,
    BadExit,
    Making,
    Naming,
    Stuck,
    Swallowing,
    inside,
    look,
    look_then_fail_once,
    named,
    refuse,
)
from contract_tools import BodyError, Pool, Unpicklable, fail, return_input
from foreign_tools import KINDS, make_executor

from syncflow import Context, Event, Flow, Hooks, Step

#: What a maker may do wrong, wherever the body runs.
BROKEN: list[Any] = [refuse, BadEntry, BadExit, 42, int]


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what syncflow has logged."""
    return [record.getMessage() for record in caplog.records if record.name == "syncflow"]


# --- where it is entered ---------------------------------------------------------------------


def test_surrounds_a_body(pool: Pool) -> None:
    """The body of a step runs in what the hooks say, on each pool."""
    flow = Flow("f", hooks=[Naming("n")]).step("a", look, pool=pool)
    assert ("n a 1",) == flow.run().raise_for_status()["a"].value


@pytest.mark.xdist_group("process")
@pytest.mark.parametrize("kind", KINDS)
def test_surrounds_a_body_on_any_executor(kind: str) -> None:
    """It travels to executors that pickle, with steps and with items."""
    with make_executor(kind) as executor:
        flow = Flow("f", hooks=[Naming("n")]).step("a", look, pool=executor)
        flow.map("m", look, over=[1], pool=executor)
        values = flow.run().raise_for_status().values
    assert {"a": ("n a 1",), "m": [("n m None",)]} == values


def test_surrounds_a_body_with_several(pool: Pool) -> None:
    """The first hooks are the outermost."""
    flow = Flow("f", hooks=[Naming("x"), Naming("y")]).step("a", look, pool=pool)
    assert ("x a 1", "y a 1") == flow.run().raise_for_status()["a"].value


def test_surrounds_each_attempt(pool: Pool) -> None:
    """Hooks are asked anew for each attempt."""
    hooks = Naming("n")
    flow = Flow("f", hooks=[hooks]).step("a", look_then_fail_once, retries=1, pool=pool)
    assert ("n a 2",) == flow.run().raise_for_status()["a"].value
    assert [1, 2] == [event.attempt for event in hooks.events]


def test_surrounds_the_items_of_a_map(worker_pool: Pool) -> None:
    """Hooks are asked once for a map, whatever becomes of its items."""
    hooks = Naming("n")
    flow = Flow("f", hooks=[hooks])
    flow.map("m", look_then_fail_once, over=range(20), retries=1, pool=worker_pool)
    assert [("n m None",)] * 20 == flow.run().raise_for_status()["m"].value
    assert [None] == [event.attempt for event in hooks.events]


def test_surrounds_a_compensation(pool: Pool) -> None:
    """Hooks that are asked for a compensation are told what it is for."""
    hooks, seen = Naming("n"), []
    undo = Step("undo", look, pool=pool)

    def take_note(ctx: Context) -> None:
        seen.append(inside.get())

    flow = Flow("f", hooks=[hooks]).step("a", return_input, compensate=undo)
    flow.step("b", return_input, compensate=take_note).step("c", fail)
    error = flow.run().error
    assert [("n b 1",)] == seen
    assert [("b", error), ("a", error)] == [
        (event.step_name, event.error) for event in hooks.events[3:]
    ]


def test_tells_the_group() -> None:
    """The event has what those of a step have."""
    hooks = Naming("n")
    flow = Flow("f", hooks=[hooks]).parallel("g", [Step("a", look)])
    result = flow.run(run_id="r").raise_for_status()
    assert [("f", "r", "a", "g", 1, None)] == [
        (each.flow_name, each.run_id, each.step_name, each.group, each.attempt, each.error)
        for each in hooks.events
    ]
    assert result.ok


def test_is_left_with_the_body(sharing_pool: Pool) -> None:
    """What a body ran in is over when the body is, also when it failed."""
    depth: list[int] = []

    class Counting(Hooks):
        def around(self, event: Event) -> Any:
            return lambda: named("n")

        def on_step_fail(self, event: Event) -> None:
            depth.append(len(inside.get()))

    Flow("f", hooks=[Counting()]).step("a", fail, pool=sharing_pool).run()
    assert [0] == depth


def test_nothing_is_asked_for(pool: Pool) -> None:
    """Hooks may have nothing to say."""
    flow = Flow("f", hooks=[Making(None), Naming("n")]).step("a", look, pool=pool)
    assert ("n a 1",) == flow.run().raise_for_status()["a"].value


# --- hooks that misbehave --------------------------------------------------------------------


@pytest.mark.parametrize("broken", BROKEN, ids=["maker", "entry", "exit", "number", "type"])
def test_changes_nothing_when_it_raises(
    pool: Pool, broken: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The body runs, in what the other hooks say; in this process it is logged once."""
    flow = Flow("f", hooks=[Making(broken), Naming("n")])
    flow.step("a", look, pool=pool).step("b", look, pool=pool)
    result = flow.run().raise_for_status()
    assert (("n a 1",), ("n b 1",)) == (result["a"].value, result["b"].value)
    expected = 0 if pool == "process" else 1
    assert expected == len([line for line in logged(caplog) if "around of Making" in line])


@pytest.mark.parametrize("broken", BROKEN, ids=["maker", "entry", "exit", "number", "type"])
def test_changes_nothing_for_items_when_it_raises(worker_pool: Pool, broken: Any) -> None:
    """So do the bodies of a map."""
    flow = Flow("f", hooks=[Making(broken), Naming("n")])
    flow.map("m", look, over=range(5), pool=worker_pool)
    assert [("n m None",)] * 5 == flow.run().raise_for_status()["m"].value


def test_changes_nothing_when_asking_raises(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    """Hooks that raise when they are asked are logged once, and are asked again."""
    asked = []

    class Raising(Hooks):
        def around(self, event: Event) -> Any:
            asked.append(event.step_name)
            raise LookupError("around")

    flow = Flow("f", hooks=[Raising()]).step("a", look, pool=pool).step("b", look, pool=pool)
    assert ((), ()) == tuple(flow.run().raise_for_status().values.values())
    assert ["a", "b"] == asked
    (line,) = logged(caplog)
    assert line.startswith("around of Raising raised (flow 'f'")


def test_changes_nothing_when_there_is_nothing_to_ask(caplog: pytest.LogCaptureFixture) -> None:
    """Where even to look for the method raises, that is logged as if it had raised."""

    class Wicked(Hooks):
        @property
        def around(self) -> Any:
            raise LookupError("around")

    assert () == Flow("f", hooks=[Wicked()]).step("a", look).run().raise_for_status()["a"].value
    (line,) = logged(caplog)
    assert line.startswith("around of Wicked raised (flow 'f'")


def test_does_not_swallow_the_error_of_a_body(pool: Pool) -> None:
    """What a body raised is its outcome, whatever it ran in."""
    result = Flow("f", hooks=[Making(Swallowing)]).step("a", fail, pool=pool).run()
    assert isinstance(result.error, BodyError)


@pytest.mark.xdist_group("process")
def test_stays_here_when_it_cannot_be_sent(caplog: pytest.LogCaptureFixture) -> None:
    """A step on a process runs without what cannot be pickled, which is logged once."""

    class Local(Unpicklable):
        def __call__(self) -> Any:
            return named("local")

    flow = Flow("f", hooks=[Making(Local()), Naming("n")])
    flow.step("a", look, pool="process").map("m", look, over=[1], pool="process").step("b", look)
    values = flow.run().raise_for_status().values
    assert {"a": ("n a 1",), "m": [("n m None",)], "b": ("local", "n b 1")} == values
    (line,) = logged(caplog)
    assert line.startswith("around of Making raised (flow 'f'")


@pytest.mark.xdist_group("process")
def test_changes_nothing_when_it_cannot_be_rebuilt() -> None:
    """A step on a process runs without what arrives broken there, say for want of a module."""
    flow = Flow("f", hooks=[Making(Stuck()), Naming("n")])
    flow.step("a", look, pool="process").map("m", look, over=[1], pool="process").step("b", look)
    values = flow.run().raise_for_status().values
    assert {"a": ("n a 1",), "m": [("n m None",)], "b": ("stuck", "n b 1")} == values
