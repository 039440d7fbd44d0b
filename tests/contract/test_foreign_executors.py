"""What holds on every executor that is not ours: threads, processes, loky and Dask."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest
from foreign_tools import EVERY_KIND, PROCESS, make_executor

from syncflow import (
    BodyExitError,
    CancelToken,
    Context,
    Flow,
    FlowResult,
    Hooks,
    PoolClosedError,
    SerializationError,
    StateConflictError,
    Step,
    StepCancelledError,
    StepTimeoutError,
)


def new_executor(request: pytest.FixtureRequest, kind: str) -> Executor:
    """Return a new executor with two workers."""
    if kind == "dask":
        return request.getfixturevalue("cluster").get_executor(pure=False)
    return make_executor(kind)


@pytest.fixture(params=EVERY_KIND, scope="module")
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """An executor whose workers have started; shared by the tests of this module."""
    with new_executor(request, request.param) as executor:
        for future in [executor.submit(os.getpid) for _ in range(4)]:
            future.result()
        yield executor


def run(executor: Executor, *steps: Step, input: Any = None, **options: Any) -> FlowResult:
    """Run steps as one group, and a good step after it on the same executor."""
    flow = Flow("flow").parallel("g", steps, pool=executor, **options)
    result = flow.run(input)
    assert "good" == Flow("after").step("s", lambda ctx: "good", pool=executor).run()["s"].value
    return result


def read_all(ctx: Context) -> tuple[Any, ...]:
    """Read input, state and an earlier value."""
    ctx.set("written", ctx["key"] + 1)
    return ctx.input, ctx["key"], ctx.value("before"), sorted(ctx.results), ctx.attempt


def test_bodies_read_what_was_before_them(executor: Executor) -> None:
    """Input, state, values and results reach them, and their writes take effect."""
    flow = Flow("flow").step("before", lambda ctx: ctx.set("key", 1) or "value")
    flow.step("a", read_all, pool=executor).step("after", lambda ctx: ctx["written"])
    result = flow.run("input").raise_for_status()
    assert ("input", 1, "value", ["before"], 1) == result["a"].value
    assert 2 == result["after"].value


def fail(ctx: Context) -> None:
    """Fail."""
    raise LookupError(f"attempt {ctx.attempt}")


def test_errors_keep_type_and_message_and_tell_where(executor: Executor) -> None:
    """The error of the last attempt is on record, with a note."""
    result = run(executor, Step("a", fail, retries=2))
    error = result["a"].error
    assert (LookupError, "attempt 3", 3) == (type(error), error.args[0], result["a"].attempts)
    assert "step 'a' of flow 'flow', attempt 3 of 3" in error.__notes__


def leave(ctx: Context) -> None:
    """Raise what is no `Exception`."""
    raise SystemExit(3)


def test_a_body_that_exits_is_a_failed_step(executor: Executor) -> None:
    """It ends neither the caller nor a worker."""
    assert isinstance(run(executor, Step("a", leave)).error, BodyExitError)


@PROCESS
def test_what_cannot_be_sent_fails_who_needs_it(tmp_path: Path) -> None:
    """A value that cannot be pickled matters where it is read; a function at once."""
    lock = threading.Lock()
    with make_executor("loky") as executor:
        flow = Flow("flow").step("before", lambda ctx: ctx.set("lock", lock))
        steps = [
            Step("reads", lambda ctx: ctx["lock"]),
            Step("does not", lambda ctx: "fine"),
            Step("function", lambda ctx: lock),
        ]
        result = flow.parallel("g", steps, pool=executor).run()
    assert ["failed", "completed", "failed"] == [step.status for step in result.steps[1:]]
    assert "the state value 'lock'" == result["reads"].error.what
    assert isinstance(result["function"].error, SerializationError)
    assert (1, 0) == (result["reads"].attempts, result["function"].attempts)


def look_up(ctx: Context) -> tuple[Any, ...]:
    """Look a result up, and one that is not there."""
    return ctx.results["fine"].value, "none" in ctx.results, list(ctx.results)


def test_a_result_that_cannot_be_sent_does_not_hide_the_others(executor: Executor) -> None:
    """Results matter one by one, as they are looked at."""
    flow = Flow("flow").step("lock", lambda ctx: threading.Lock())
    flow.step("fine", lambda ctx: "fine")
    result = flow.step("a", look_up, pool=executor).run()
    assert ("fine", False, ["lock", "fine"]) == result["a"].value


def wait_for(path: Path) -> None:
    """Return when the file is there, or nobody will make it any more."""
    until = time.monotonic() + 30
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.001)


class Waits:
    """A body that tells that it has begun, and returns when a file appears."""

    def __init__(self, folder: Path) -> None:
        self.begun = folder / "begun"
        self.go = folder / "go"

    def __call__(self, ctx: Context) -> str:
        """Begin, wait, return."""
        self.begun.touch()
        wait_for(self.go)
        ctx.set("late", "written")
        return "returned"


def test_a_body_whose_time_is_up_is_abandoned_and_undone(
    executor: Executor, tmp_path: Path
) -> None:
    """The step fails on time; what the body does later is compensated with its own writes."""
    body, seen = Waits(tmp_path), []

    class LetGo(Hooks):
        def on_step_fail(self, event: Any) -> None:
            body.go.touch()

    def undo(ctx: Context) -> None:
        seen.append((ctx["late"], ctx.value("a")))

    flow = Flow("flow", hooks=[LetGo()])
    flow.step("a", body, pool=executor, timeout=1.0, compensate=undo)
    result = flow.run(drain=30)
    assert isinstance(result.error, StepTimeoutError)
    assert [("written", "returned")] == seen
    assert [True] == [compensation.late for compensation in result.compensations]


def when_begun(folder: Path, react: Callable[[], object]) -> threading.Thread:
    """Call a function when a body that `Waits` in the folder has begun."""

    def watch() -> None:
        wait_for(folder / "begun")
        react()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


#: Executors of processes call up to seven "running", of which five wait at a worker's door.
MANY = 12
LAST = f"s{MANY - 1}"


def is_ordered(executor: Executor) -> bool:
    """Tell whether it begins first what was submitted first; Dask's scheduler does not say."""
    return type(executor).__name__ != "ClientExecutor"


def never_began(result: FlowResult, executor: Executor) -> bool:
    """Tell whether some of the steps never did; where there is an order, the last one."""
    names = {step.name for step in result.steps if not step.attempts}
    return LAST in names if is_ordered(executor) else bool(names)


def test_cancelling_takes_back_what_is_queued_and_abandons_what_runs(
    executor: Executor, tmp_path: Path
) -> None:
    """The last of many never begins, nor is it undone; what runs is undone when it returns."""
    token, undone = CancelToken(), []
    steps = [
        Step(
            f"s{number}", Waits(tmp_path), grace=0,
            compensate=lambda ctx: undone.append(ctx.step_name),
        )
        for number in range(MANY)
    ]  # fmt: skip
    canceller = when_begun(tmp_path, lambda: token.cancel("enough"))

    settled: list[str] = []

    class LetGo(Hooks):
        def on_step_cancel(self, event: Any) -> None:
            settled.append(event.step_name)
            if len(settled) == len(steps):
                (tmp_path / "go").touch()

    flow = Flow("flow", hooks=[LetGo()]).parallel("g", steps, pool=executor)
    result = flow.run(cancel=token, drain=30)
    canceller.join()
    assert ("cancelled", ()) == (result.status, result.abandoned)
    assert all(isinstance(step.error, StepCancelledError) for step in result.steps)
    begun = {step.name for step in result.steps if step.attempts}
    assert begun == set(undone)
    assert begun
    assert never_began(result, executor)


def test_fail_fast_takes_back_what_is_queued(executor: Executor, tmp_path: Path) -> None:
    """The last of many never begins, and what runs is waited for."""

    class LetGo(Hooks):
        def on_step_cancel(self, event: Any) -> None:
            if event.step_name == LAST or not is_ordered(executor):
                (tmp_path / "go").touch()

    flow = Flow("flow", hooks=[LetGo()])
    waiting = [Step(f"s{number}", Waits(tmp_path)) for number in range(MANY)]
    steps = [Step("fails", fail), *waiting]
    result = flow.parallel("g", steps, pool=executor, fail_fast=True).run()
    assert isinstance(result.error, LookupError)
    assert never_began(result, executor)
    assert {"completed", "cancelled"} >= {result[step.name].status for step in waiting}


def test_a_body_knows_its_time_and_ends_with_it(executor: Executor) -> None:
    """Where it cannot be interrupted, its context still tells it."""
    result = Flow("flow").step("a", sleep_long, pool=executor, timeout=0.7).run(drain=30)
    assert isinstance(result.error, StepTimeoutError)
    assert () == result.abandoned


def sleep_long(ctx: Context) -> None:
    """Sleep for longer than anybody waits."""
    assert ctx.remaining is not None
    assert 0.7 >= ctx.remaining
    ctx.sleep(1000)


def write_and_fail_once(ctx: Context) -> list[Any]:
    """Write in every attempt, fail in the first; return what was there before."""
    before = [ctx.get("own"), ctx.get("shared")]
    ctx.set("own" if ctx.attempt == 1 else "second", ctx.attempt)
    if ctx.attempt == 1:
        raise LookupError("once")
    return before


def test_a_failed_attempt_leaves_no_writes_and_its_delay_is_on_record(executor: Executor) -> None:
    """The next attempt, and later steps, see none of them."""
    flow = Flow("flow").step("before", lambda ctx: ctx.set("shared", 1))
    flow.step("a", write_and_fail_once, pool=executor, retries=1, retry_delay=0.02)
    flow.step("after", lambda ctx: [ctx.get("own"), ctx.get("second")])
    result = flow.run().raise_for_status()
    assert ([None, 1], [None, 2]) == (result["a"].value, result["after"].value)
    assert 0.02 <= result["a"].backoff


def write_own(ctx: Context) -> Any:
    """Write a key of one's own; return that of the other member, as far as it is seen."""
    ctx.set(ctx.step_name, 1)
    return ctx.get("a"), ctx.get("b")


def test_members_do_not_see_each_others_writes(executor: Executor) -> None:
    """What they write is merged when all have settled."""
    steps = [Step("a", write_own), Step("b", write_own)]
    flow = Flow("flow").parallel("g", steps, pool=executor, max_concurrency=1)
    result = flow.step("after", lambda ctx: (ctx["a"], ctx["b"])).run().raise_for_status()
    assert [(1, None), (None, 1), (1, 1)] == [step.value for step in result.steps]


def write_same(ctx: Context) -> None:
    """Write the same key as another member."""
    ctx.set("same", ctx.step_name)


def test_members_that_write_the_same_key_clash(executor: Executor) -> None:
    """The group fails, naming both."""
    error = run(executor, Step("a", write_same), Step("b", write_same)).error
    assert isinstance(error, StateConflictError)
    assert ("same", ("a", "b")) == (error.key, error.steps)


def undo(ctx: Context) -> None:
    """Tell what a compensation sees."""
    Path(ctx.input, ctx.step_name).write_text(f"{ctx['a']} {type(ctx.error).__name__}")


def test_compensations_run_there_too(executor: Executor, tmp_path: Path) -> None:
    """They see the writes of their step and what caused the rollback."""
    flow = Flow("flow").step(
        "a", write_own, pool=executor, compensate=Step("u", undo, pool=executor)
    )
    result = flow.step("fail", fail, pool=executor).run(str(tmp_path))
    assert ("complete", "1 LookupError") == (result.rollback, (tmp_path / "a").read_text())


def half(ctx: Context, item: int) -> float:
    """Divide; fail for what cannot be."""
    if item == 7:
        ctx.set("seen", item)
    return 1 / item


def test_maps_run_there(executor: Executor) -> None:
    """Each item has its own value or error, and its attempts; writes of items take effect."""
    flow = Flow("flow").map("m", half, over=range(300), pool=executor, retries=1)
    result = flow.step("after", lambda ctx: ctx["seen"]).run()
    assert [1 / item for item in range(1, 300)] == result["m"].values[1:]
    assert {0: ZeroDivisionError} == {at: type(e) for at, e in result["m"].errors.items()}
    assert (301, 7) == (result["m"].attempts, result["after"].value)


def swap(ctx: Context) -> tuple[int, bytes]:
    """Return large values for large values."""
    return len(ctx.input), bytes(len(ctx["large"]))


def test_large_values_go_there_and_back(executor: Executor) -> None:
    """As many bytes as were sent, however they travel."""
    flow = Flow("flow").step("large", lambda ctx: ctx.set("large", bytes(3_000_000)))
    steps = [Step(name, swap) for name in "ab"]
    result = flow.parallel("g", steps, pool=executor).run(bytes(2_000_000)).raise_for_status()
    assert [(2_000_000, bytes(3_000_000))] * 2 == [result[name].value for name in "ab"]


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_an_executor_that_was_shut_down_fails_the_step(
    request: pytest.FixtureRequest, kind: str
) -> None:
    """The error is `PoolClosedError`, and nothing was attempted."""
    executor = new_executor(request, kind)
    executor.submit(os.getpid).result()
    executor.shutdown()
    result = Flow("flow").step("a", fail, pool=executor, retries=3).run()
    assert isinstance(result.error, PoolClosedError)
    assert 0 == result["a"].attempts


def die(ctx: Context) -> None:
    """End the worker process."""
    os._exit(7)


@PROCESS
def test_a_broken_executor_fails_the_step() -> None:
    """The executor's own error is on record, and the flow is rolled back."""
    undone: list[str] = []
    with make_executor("processes") as executor:
        flow = Flow("flow").step("a", fail_not, compensate=lambda ctx: undone.append("a"))
        result = flow.step("b", die, pool=executor).run()
    assert "BrokenProcessPool" == type(result.error).__name__
    assert ["a"] == undone


def fail_not(ctx: Context) -> str:
    """Complete."""
    return "done"


def test_a_flow_moves_by_naming_another_pool(executor: Executor) -> None:
    """`run(pools=)` sends process steps to an executor; nothing else about the flow changes."""
    flow = Flow("flow").step("a", read_input, pool="process")
    result = flow.run(5, pools={"process": executor})
    assert (5, "process") == (result["a"].value, result["a"].pool)


def read_input(ctx: Context) -> Any:
    """Return the input."""
    return ctx.input
