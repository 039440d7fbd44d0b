"""What `run` accepts, what it refuses, and where `pools=` sends steps."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest
from contract_tools import Pool, do_nothing, fail, return_pid

from syncflow import Context, DefinitionError, Flow, PoolClosedError, ProcessPool, Step, ThreadPool


def thread_name(ctx: Context) -> str:
    """Return the name of the thread that runs the body."""
    return threading.current_thread().name


# --- misuse ----------------------------------------------------------------------------------

SECONDS = [
    (-1, DefinitionError),
    (math.nan, DefinitionError),
    (math.inf, DefinitionError),
    (10**400, DefinitionError),
    (True, TypeError),
    ("5", TypeError),
    ([], TypeError),
]

MISUSE: list[tuple[str, Any, type[Exception]]] = [
    ("timeout", 0, DefinitionError),
    *[("timeout", *bad) for bad in SECONDS],
    *[("drain", *bad) for bad in SECONDS],
    ("drain", None, TypeError),
    ("cancel", "token", TypeError),
    ("cancel", threading.Event(), TypeError),
    ("run_id", "", DefinitionError),
    ("run_id", 5, TypeError),
    ("run_id", b"run", TypeError),
    ("pools", "thread", TypeError),
    ("pools", ["thread"], TypeError),
    ("pools", {"thread": 5}, TypeError),
    ("pools", {5: "thread"}, TypeError),
    ("pools", {"": "thread"}, DefinitionError),
    ("pools", {"mine": "proces"}, DefinitionError),
    ("pools", {"unknown": "thread"}, DefinitionError),
    ("tiemout", 5, TypeError),
]


@pytest.mark.parametrize(("argument", "value", "error"), MISUSE)
def test_misuse_raises_and_runs_nothing(argument: str, value: Any, error: type[Exception]) -> None:
    """A wrong argument raises at once; its message names it."""
    ran = []
    flow = Flow("flow", pools={"mine": "thread"}).step("a", lambda ctx: ran.append("a"))
    with pytest.raises(error, match=argument):
        flow.run(**{argument: value})
    assert [] == ran


def test_an_empty_flow_does_not_run() -> None:
    """There is nothing to do."""
    with pytest.raises(DefinitionError, match="empty"):
        Flow("flow").run()


def test_misuse_is_a_value_error_or_type_error() -> None:
    """As Python users expect."""
    with pytest.raises(ValueError, match="timeout"):
        Flow("flow").step("a", do_nothing).run(timeout=-1)


def test_options_are_given_by_name() -> None:
    """Only the input may be given by position."""
    with pytest.raises(TypeError):
        Flow("flow").step("a", do_nothing).run(None, 5)  # type: ignore[misc]


def test_the_input_is_none_by_default(pool: Pool) -> None:
    """A flow need not have one."""
    flow = Flow("flow").step("a", lambda ctx: ctx.input is None, pool=pool)
    assert flow.run()["a"].value is True


def test_the_runs_id_is_the_callers_choice(pool: Pool) -> None:
    """Any string that is not empty; used twice, it is used twice."""
    flow = Flow("flow").step("a", lambda ctx: ctx.run_id, pool=pool)
    assert ["é/1", "é/1"] == [flow.run(run_id="é/1")["a"].value for _ in range(2)]


def test_a_failing_step_never_raises(pool: Pool) -> None:
    """What steps do is in the result."""
    assert "failed" == Flow("flow").step("a", fail, pool=pool).run().status


# --- growing flows ---------------------------------------------------------------------------


def test_a_run_uses_the_nodes_present_when_it_starts(pool: Pool) -> None:
    """A step that a body adds to its own flow runs the next time."""
    flow = Flow("flow")
    add = lambda ctx: "new" in ctx.input or (flow.step("new", do_nothing) and None)  # noqa: E731
    flow.step("a", add)
    assert [["a"], ["a", "new"]] == [
        [step.name for step in flow.run(taken).steps] for taken in ([], ["new"])
    ]


# --- pools -----------------------------------------------------------------------------------


@pytest.fixture
def threads() -> Iterator[ThreadPool]:
    """Return a thread pool whose threads have a name of their own."""
    with ThreadPool(2, thread_name_prefix="mine") as pool:
        yield pool


@pytest.fixture
def processes() -> Iterator[ProcessPool]:
    """Return a process pool of one worker."""
    with ProcessPool(1) as pool:
        yield pool


def test_a_thread_pool_may_be_given(threads: ThreadPool) -> None:
    """A `ThreadPool` of one's own is as good as the shared one."""
    flow = Flow("flow").step("a", thread_name, pool=threads)
    flow.parallel("g", [Step("b", thread_name)], pool=threads)
    assert ["mine", "mine"] == [value.split("-")[0] for value in flow.run().values.values()]


@pytest.mark.xdist_group("process")
def test_a_process_pool_may_be_given(processes: ProcessPool) -> None:
    """A `ProcessPool` of one's own is as good as the shared one."""
    flow = Flow("flow").step("a", return_pid, pool=processes)
    flow.parallel("g", [Step("b", return_pid)], pool=processes)
    first, second = flow.run().values.values()
    assert first == second != os.getpid()


def test_a_flow_names_its_own_pools(threads: ThreadPool) -> None:
    """A step uses the name; the result shows it."""
    flow = Flow("flow", pools={"io": threads}).step("a", thread_name, pool="io")
    result = flow.parallel("g", [Step("b", thread_name)], pool="io").run()
    assert ["mine", "mine"] == [value.split("-")[0] for value in result.values.values()]
    assert ["io", "io"] == [step.pool for step in result.steps]


def test_a_name_may_stand_for_a_built_in_pool(pool: Pool) -> None:
    """`pools={"mine": "process"}` gives another name to the shared pool."""
    body = lambda ctx: (os.getpid(), threading.current_thread().name)  # noqa: E731
    here = (os.getpid(), threading.current_thread().name)
    flow = Flow("flow", pools={"mine": pool}).step("a", body, pool="mine")
    process, thread = flow.run()["a"].value
    assert (pool == "process", pool == "inline") == (
        process != here[0], (process, thread) == here,
    )  # fmt: skip


def test_run_replaces_a_pool(threads: ThreadPool) -> None:
    """For one run; the flow itself stays as it is."""
    flow = Flow("flow", pools={"io": "inline"}).step("a", thread_name, pool="io")
    before, replaced, after = (
        flow.run()["a"].value,
        flow.run(pools={"io": threads})["a"].value,
        flow.run()["a"].value,
    )
    here = threading.current_thread().name
    assert (here, "mine", here) == (before, replaced.split("-")[0], after)


@pytest.mark.parametrize("name", ["thread", "process"])
def test_run_replaces_a_built_in_pool(threads: ThreadPool, name: str) -> None:
    """A flow written for one pool moves to another without being touched."""
    flow = Flow("flow").step("a", thread_name, pool=name)
    flow.parallel("g", [Step("b", thread_name)], pool=name)
    values = flow.run(pools={name: threads}).values.values()
    assert ["mine", "mine"] == [value.split("-")[0] for value in values]


def test_run_replaces_the_default_pool(threads: ThreadPool) -> None:
    """Members that chose nothing run on "thread", and move with it."""
    flow = Flow("flow").parallel("g", [Step("a", thread_name)]).step("b", thread_name, timeout=100)
    values = flow.run(pools={"thread": threads}).values.values()
    assert ["mine", "mine"] == [value.split("-")[0] for value in values]


def test_run_replaces_the_pool_of_a_compensation(threads: ThreadPool) -> None:
    """Names mean the same there."""
    seen = []
    undo = Step("undo", lambda ctx: seen.append(thread_name(ctx)), pool="io")
    flow = Flow("flow", pools={"io": "inline"}).step("a", do_nothing, compensate=undo)
    flow.step("bad", fail).run(pools={"io": threads})
    assert ["mine"] == [name.split("-")[0] for name in seen]


@pytest.mark.parametrize(
    "step",
    [
        Step("a", do_nothing, pool="io", timeout=5),
        Step("a", do_nothing, compensate=Step("undo", do_nothing, pool="io", timeout=5)),
    ],
    ids=["step", "compensation"],
)
def test_run_cannot_send_a_timed_step_inline(step: Step) -> None:
    """What a definition could not say, a run cannot either."""
    flow = Flow("flow", pools={"io": "thread"}).step(step)
    with pytest.raises(DefinitionError, match="inline"):
        flow.run(pools={"io": "inline"})


def test_run_cannot_send_a_group_inline() -> None:
    """Members need workers."""
    flow = Flow("flow", pools={"io": "thread"})
    flow.parallel("g", [Step("a", do_nothing)], pool="io")
    with pytest.raises(DefinitionError, match="inline"):
        flow.run(pools={"io": "inline"})


@pytest.mark.parametrize("make", [ThreadPool, ProcessPool, ThreadPoolExecutor])
def test_a_closed_pool_fails_the_step(make: Callable[[int], Executor]) -> None:
    """Its body never started: 0 attempts, no retry."""
    pool = make(1)
    pool.shutdown()
    step = Flow("flow").step("a", do_nothing, pool=pool, retries=2).run()["a"]
    assert ("failed", 0, PoolClosedError) == (step.status, step.attempts, type(step.error))
