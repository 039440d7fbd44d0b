"""Faults on executors that are not ours: the step fails, nothing hangs, others go on."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import threading
import weakref
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import fault_bodies as bodies
import interrupt_bodies as interrupts
import loky
import payload_bodies as payloads
import pytest
from fault_tools import run_beside, run_script, seconds_until, survive
from foreign_tools import make_executor

from syncflow import (
    BodyExitError,
    CancelToken,
    Flow,
    FlowResult,
    PoolClosedError,
    Step,
    StepTimeoutError,
)

pytestmark = pytest.mark.xdist_group("process")


def check_others() -> None:
    """Check that a new executor runs a good step, and that our own pools do."""
    with make_executor("loky") as executor:
        for pool in (executor, "process", "thread", "inline"):
            good = Flow("good").step("good", bodies.good, pool=pool).run()
            assert good.ok, good.error


# --- the death of a worker -------------------------------------------------------------------

DEATHS = {
    "exit-0": partial(bodies.exit_with, 0),
    "exit-7": partial(bodies.exit_with, 7),
    "segfault": partial(bodies.kill_oneself, signal.SIGSEGV),
    "sigkill": partial(bodies.kill_oneself, signal.SIGKILL),
    "function-at-unpickling": payloads.TroubleAtUnpickling("crashes"),
    "value-at-pickling": partial(
        payloads.give_back, partial(payloads.TroubleAtPickling, "crashes")
    ),
    "write-at-pickling": partial(
        payloads.write_state, partial(payloads.TroubleAtPickling, "crashes")
    ),
}


@pytest.mark.parametrize("body", DEATHS.values(), ids=DEATHS)
def test_a_worker_that_dies_breaks_its_executor_and_no_other_pool(
    mortal: Executor, body: Any
) -> None:
    """The step fails with the executor's own error; what was done before it is undone."""
    undone: list[str] = []
    flow = Flow("flow").step("first", bodies.good, compensate=lambda ctx: undone.append("first"))
    result = flow.step("fault", body, pool=mortal).run()
    assert ("failed", "complete", ["first"]) == (result.status, result.rollback, undone)
    assert isinstance(result.error, BrokenExecutor)
    check_others()


def test_a_worker_that_dies_over_the_input_breaks_its_executor(mortal: Executor) -> None:
    """As over anything else that it unpickles."""
    flow = Flow("flow").step("fault", payloads.read_input, pool=mortal)
    assert isinstance(flow.run(payloads.TroubleAtUnpickling("crashes")).error, BrokenExecutor)
    check_others()


def test_a_member_that_dies_takes_its_siblings_on_the_executor_along(
    tmp_path: Path, mortal: Executor
) -> None:
    """All that the executor ran or had queued has failed; members on other pools complete."""
    dies = partial(bodies.in_company, tmp_path, partial(bodies.exit_with, 7))
    members = [
        Step("fault", dies, pool=mortal),
        Step("queued", bodies.sleep_long, pool=mortal),
        Step("elsewhere", partial(bodies.sibling, tmp_path), pool="process"),
    ]
    flow = Flow("flow").parallel("group", members)
    flow.step("never", bodies.good, pool=mortal)
    released = threading.Timer(0.5, bodies.write_text, [tmp_path / "fault-settled", ""])
    released.start()
    result = flow.run()
    released.join()
    assert ["failed", "failed", "completed", "failed"] == [step.status for step in result.steps]
    assert isinstance(result["queued"].error, BrokenExecutor)
    assert isinstance(result["never"].error, PoolClosedError)


def test_a_step_that_always_crashes_is_not_retried_on_a_broken_executor(mortal: Executor) -> None:
    """The executor takes no more: that is what is on record."""
    flow = Flow("flow").step("fault", partial(bodies.exit_with, 9), pool=mortal, retries=3)
    result = flow.run()
    assert isinstance(result.error, PoolClosedError)
    assert 4 > result["fault"].attempts
    check_others()


def test_a_stopped_worker_costs_its_step_only(tmp_path: Path, mortal: Executor) -> None:
    """The step times out and is abandoned; the executor's other worker goes on."""

    def stop() -> None:
        bodies.wait_for(tmp_path / "sibling-began")
        os.kill(int(bodies.read_text(tmp_path / "fault-began")), signal.SIGSTOP)

    stopper = threading.Thread(target=stop)
    stopper.start()
    body = partial(bodies.in_company, tmp_path, partial(interrupts.sleep_for, 0.5))
    result = run_beside(tmp_path, mortal, Step("fault", body, timeout=3))
    stopper.join()
    try:
        assert isinstance(result["fault"].error, StepTimeoutError)
        assert ("sibling", ("fault",)) == (result["sibling"].value, result.abandoned)
        assert Flow("good").step("good", bodies.good, pool=mortal).run().ok
    finally:
        os.kill(int((tmp_path / "fault-began").read_text()), signal.SIGCONT)


def executor_with(kind: str, initializer: Any) -> Executor:
    """Return an executor of one worker process that has to be initialized first."""
    if kind == "loky":
        return loky.ProcessPoolExecutor(1, initializer=initializer)
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=initializer)


@pytest.mark.parametrize("fails", [bodies.raise_in_initializer, bodies.exit_in_initializer])
@pytest.mark.parametrize("kind", ["processes", "loky"])
def test_an_initializer_that_fails_breaks_its_executor(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str, fails: Any
) -> None:
    """Every step has an error, and no worker is started again and again."""
    with executor_with(kind, partial(fails, tmp_path)) as executor:
        members = [Step(f"s{number}", bodies.good, retries=2) for number in range(3)]
        result = Flow("unfit").parallel("group", members, pool=executor).run()
    assert ["failed"] * 3 == [step.status for step in result.steps]
    assert all(isinstance(step.error, PoolClosedError | BrokenExecutor) for step in result.steps)
    assert 1 == len(list(tmp_path.glob("call-*")))
    capfd.readouterr()  # the executor logs what its initializer raised
    check_others()


# --- time ------------------------------------------------------------------------------------

#: They end of themselves after a while: an executor waits for them before it ends.
DEAF = {
    "python-loop": partial(interrupts.spin_for, 0.4),
    "time-sleep": partial(interrupts.sleep_for, 0.4),
    "holds-the-lock": interrupts.hold_the_lock_for_a_while,
    "blocked-socket": interrupts.block_on_socket_for_a_while,
    "swallows": interrupts.swallow_for_a_while,
}


@pytest.mark.parametrize("body", DEAF.values(), ids=DEAF)
def test_a_body_that_cannot_be_ended_is_abandoned(
    tmp_path: Path, abandoning_pool: Any, body: Any
) -> None:
    """The step has timed out; a sibling completes, and the same pool runs a good step."""
    failed = survive(tmp_path, abandoning_pool, body, timeout=0.1)
    assert isinstance(failed.error, StepTimeoutError)
    assert ("fault", 0.1, 1) == (
        failed.error.step_name, failed.error.timeout, failed.error.attempt,
    )  # fmt: skip


def test_a_cancelled_body_that_cannot_be_ended_is_abandoned(
    tmp_path: Path, abandoning_pool: Any
) -> None:
    """After its grace; the same pool runs a good step."""
    token = CancelToken()

    def cancel() -> None:
        bodies.wait_for(tmp_path / "began")
        token.cancel("enough")

    canceller = threading.Thread(target=cancel)
    canceller.start()
    body = partial(interrupts.tell_and_sleep_for, tmp_path, 0.4)
    flow = Flow("flow").step("deaf", body, pool=abandoning_pool, grace=0.05)
    result = flow.run(cancel=token)
    canceller.join()
    assert ("cancelled", ("deaf",)) == (result["deaf"].status, result.abandoned)
    assert Flow("good").step("good", bodies.good, pool=abandoning_pool).run().ok


@pytest.mark.parametrize("body", [interrupts.sleep_for, interrupts.spin_for])
def test_a_timeout_that_races_with_the_value_has_exactly_one_outcome(
    abandoning_pool: Any, body: Any
) -> None:
    """Either the value, or a timeout without a value; what came too late is undone, once."""
    undone: list[str] = []
    outcomes = []
    for number in range(60):
        step = Step(
            f"race-{number}",
            partial(body, 0.005),
            timeout=0.004 + number * 1e-4,
            pool=abandoning_pool,
            compensate=lambda ctx: undone.append(ctx.step_name),
        )
        (raced,) = Flow("race").step(step).run(drain=bodies.PATIENCE).steps
        outcomes.append((raced.status, raced.value, type(raced.error)))
        # It names no attempt when the body was taken back from a queue: it never ran.
        assert bool(raced.error and raced.error.attempt) == (raced.name in undone)
    assert set(outcomes) <= {
        ("completed", "returned", type(None)),
        ("failed", None, StepTimeoutError),
    }
    assert len(undone) == len(set(undone))


# --- exotic ends -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "recorded"),
    [
        (SystemExit, BodyExitError),
        (KeyboardInterrupt, BodyExitError),
        (GeneratorExit, BodyExitError),
        (StopIteration, StopIteration),
        (RecursionError, RecursionError),
        (MemoryError, MemoryError),
    ],
)
def test_whatever_a_body_raises_fails_its_step(
    tmp_path: Path, any_process_pool: Any, raised: type[BaseException], recorded: type
) -> None:
    """And neither its sibling nor its worker."""
    error = survive(tmp_path, any_process_pool, partial(payloads.raise_class, raised)).error
    assert recorded is type(error)
    if recorded is BodyExitError:
        assert raised is type(error.__cause__)


def test_an_exception_that_is_returned_is_a_value(any_pool: Any) -> None:
    """Only what is raised is a failure."""
    flow = Flow("flow").step("step", partial(payloads.give_back, LookupError), pool=any_pool)
    assert LookupError is type(flow.run()["step"].value)


# --- compensations ---------------------------------------------------------------------------


def undo_by(undo: Step) -> FlowResult:
    """Run a flow that fails after two steps; return what came of the undoing of the second."""
    flow = Flow("flow").step("first", bodies.good, compensate=bodies.good)
    flow.step("second", bodies.good, compensate=undo)
    return flow.step("fail", payloads.raise_noted).run()


def check_undone(result: FlowResult) -> None:
    """Check that one compensation has failed, and that the other one ran all the same."""
    assert ("failed", "incomplete") == (result.status, result.rollback)
    assert [("second", "failed"), ("first", "completed")] == [
        (one.step_name, one.status) for one in result.compensations
    ]
    assert isinstance(result.error, ValueError)


def test_a_compensation_that_crashes_its_worker_is_on_record(mortal: Executor) -> None:
    """The others run, and the flow's own error stays."""
    result = undo_by(Step("undo", partial(bodies.exit_with, 7), pool=mortal))
    check_undone(result)
    assert isinstance(result.compensations[0].error, BrokenExecutor)
    check_others()


def test_a_compensation_that_raises_is_on_record(any_pool: Any) -> None:
    """The others run; the same pool runs a good step."""
    check_undone(undo_by(Step("undo", payloads.raise_chain, pool=any_pool)))
    assert Flow("good").step("good", bodies.good, pool=any_pool).run().ok


def test_a_compensation_that_hangs_is_on_record(abandoning_pool: Any) -> None:
    """Its own timeout ends the wait for it."""
    hangs = partial(interrupts.sleep_for, 0.4)
    result = undo_by(Step("undo", hangs, timeout=0.1, pool=abandoning_pool))
    check_undone(result)
    assert isinstance(result.compensations[0].error, StepTimeoutError)
    assert Flow("good").step("good", bodies.good, pool=abandoning_pool).run().ok


def test_a_body_that_finishes_after_run_has_returned_is_undone(
    tmp_path: Path, abandoning_pool: Any
) -> None:
    """Wherever it ran, with its own writes and value, and although another undoing raises."""
    seen: list[Any] = []
    told = threading.Event()

    def undo(ctx: Any) -> None:
        seen.append((ctx["late"], ctx.value("slow")))
        told.set()
        raise LookupError("cannot be undone")

    body = partial(interrupts.write_once_released, tmp_path)
    flow = Flow("flow").step("slow", body, pool=abandoning_pool, timeout=0.3, compensate=undo)
    result = flow.run()
    assert (("slow",), "incomplete", []) == (result.abandoned, result.rollback, seen)
    bodies.write_text(tmp_path / "release", "")
    assert told.wait(bodies.PATIENCE)
    assert [("written", "returned")] == seen
    assert Flow("good").step("good", bodies.good, pool=abandoning_pool).run().ok


# --- what is left behind ---------------------------------------------------------------------


ERRORS: dict[str, dict[str, Any]] = {
    "raises": {"fn": payloads.raise_needs_arguments},
    "cannot-be-sent": {"fn": partial(payloads.give_back, payloads.unpicklable())},
    "times-out": {"fn": partial(interrupts.sleep_for, 0.3), "timeout": 0.05},
}


@pytest.mark.parametrize("options", ERRORS.values(), ids=ERRORS)
def test_an_error_is_collected_with_its_result(
    mortal: Executor, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """No cycle keeps it: it needs no help by the collector."""
    monkeypatch.setattr(logging.getLogger("syncflow"), "disabled", True)  # pytest keeps records
    flow = Flow("flow").step(Step("fault", pool=mortal, **options))
    gc.collect()
    gc.disable()
    try:
        result = flow.run(drain=bodies.PATIENCE)
        reference = weakref.ref(result.error)
        del result
        seconds_until(lambda: reference() is None, bodies.PATIENCE / 4)
    finally:
        gc.enable()


FORKED = """
import os, sys, warnings
from concurrent.futures import ThreadPoolExecutor
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and newer warn of any such fork
import fault_bodies as bodies
from syncflow import Flow, StepTimeoutError

def run(pool):
    return Flow("fork").step("step", bodies.good, pool=pool, timeout=0.5).run()

executor = ThreadPoolExecutor(1)
assert run(executor).ok
child = os.fork()
if child == 0:
    assert isinstance(run(executor).error, StepTimeoutError)
    assert run("thread").ok and run(ThreadPoolExecutor(1)).ok
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert run(executor).ok
print("done")
"""


def test_an_executor_of_the_parent_hangs_no_run_of_a_forked_child(tmp_path: Path) -> None:
    """What it takes there it never runs: the step times out; other pools run good steps."""
    assert (0, "done\n", "") == run_script(FORKED, tmp_path)
