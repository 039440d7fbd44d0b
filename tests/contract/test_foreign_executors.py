"""Steps on executors that are not ours: threads, processes and loky."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from foreign_tools import KINDS, make_executor

from syncflow import (
    BodyExitError,
    CancelToken,
    Context,
    Flow,
    FlowResult,
    Hooks,
    PoolClosedError,
    SerializationError,
    Step,
    StepCancelledError,
    StepTimeoutError,
)

pytestmark = pytest.mark.xdist_group("process")


@pytest.fixture(params=KINDS, scope="module")
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """An executor whose workers have started; shared by the tests of this module."""
    with make_executor(request.param) as executor:
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


@pytest.mark.parametrize("kind", ["processes", "loky"])
def test_a_result_that_cannot_be_sent_does_not_hide_the_others(kind: str) -> None:
    """Results matter one by one, as they are looked at."""
    flow = Flow("flow").step("lock", lambda ctx: threading.Lock())
    flow.step("fine", lambda ctx: "fine")
    with make_executor(kind) as executor:
        result = flow.step("a", look_up, pool=executor).run()
    assert ("fine", False, ["lock", "fine"]) == result["a"].value


def wait_for(path: Path) -> None:
    """Return when the file is there."""
    while not path.exists():
        threading.Event().wait(0.001)


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


def test_a_queued_attempt_is_taken_back(tmp_path: Path) -> None:
    """Cancelling cancels the futures that have not begun: 0 attempts."""
    token, bodies = CancelToken(), [Waits(tmp_path), Waits(tmp_path)]
    with ThreadPoolExecutor(1) as executor:
        steps = [Step("runs", bodies[0], grace=0), Step("queued", bodies[1], grace=0)]
        flow = Flow("flow").parallel("g", steps, pool=executor)

        def cancel() -> None:
            wait_for(bodies[0].begun)
            token.cancel("enough")

        canceller = threading.Thread(target=cancel)
        canceller.start()
        result = flow.run(cancel=token)
        canceller.join()
        bodies[0].go.touch()
    assert "cancelled" == result.status
    assert [1, 0] == [step.attempts for step in result.steps]
    assert all(isinstance(step.error, StepCancelledError) for step in result.steps)


@pytest.mark.parametrize("kind", KINDS)
def test_an_executor_that_was_shut_down_fails_the_step(kind: str) -> None:
    """The error is `PoolClosedError`, and nothing was attempted."""
    executor = make_executor(kind)
    executor.submit(os.getpid).result()
    executor.shutdown()
    result = Flow("flow").step("a", fail, pool=executor, retries=3).run()
    assert isinstance(result.error, PoolClosedError)
    assert 0 == result["a"].attempts


def die(ctx: Context) -> None:
    """End the worker process."""
    os._exit(7)


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
