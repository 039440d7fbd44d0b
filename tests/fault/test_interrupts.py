"""A body whose time is up is interrupted, else killed; no other body ever notices."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import fault_bodies as bodies
import interrupt_bodies as interrupts
import pytest
from fault_tools import run_script, survive, wait_until_gone

from syncflow import (
    CancelToken,
    Flow,
    FlowTimeoutError,
    ProcessPool,
    Step,
    StepCancelledError,
    StepTimeoutError,
)

pytestmark = pytest.mark.xdist_group("process")

#: These end by themselves when they are interrupted: long before their grace is over.
STOP = {
    "python-loop": bodies.loop,
    "time-sleep": bodies.sleep_long,
    "blocked-socket": bodies.block_on_socket,
    "swallows-once": bodies.swallow_once,
}


@pytest.mark.parametrize("body", STOP.values(), ids=STOP)
def test_a_body_is_interrupted_when_its_time_is_up(
    tmp_path: Path, process_pool: Any, body: Any
) -> None:
    """The step times out at once, and its worker goes on to serve."""
    failed = survive(tmp_path, process_pool, body, timeout=0.2, grace=bodies.PATIENCE)
    assert isinstance(failed.error, StepTimeoutError)
    assert ("fault", 0.2, 1) == (
        failed.error.step_name, failed.error.timeout, failed.error.attempt,
    )  # fmt: skip
    assert bodies.PATIENCE / 2 > failed.duration


#: These do not, and have to be killed.
KILLED = {
    "holds-the-lock": bodies.hold_the_lock,
    "swallows-and-hangs": bodies.swallow_and_hang,
    "ignores-sigterm": bodies.ignore_sigterm,
    "blocks-the-signal": bodies.block_the_alarm,
}


@pytest.mark.parametrize("body", KILLED.values(), ids=KILLED)
def test_a_body_that_does_not_stop_is_killed_after_its_grace(
    tmp_path: Path, process_pool: Any, body: Any
) -> None:
    """The step times out, its worker is gone; the sibling has not noticed."""
    failed = survive(tmp_path, process_pool, body, timeout=0.2, grace=0.2)
    assert isinstance(failed.error, StepTimeoutError)
    assert isinstance(failed.worker, int)
    wait_until_gone(failed.worker)
    assert bodies.PATIENCE / 2 > failed.duration


def test_each_attempt_has_its_own_time(tmp_path: Path, process_pool: Any) -> None:
    """A killed attempt is retried on a new worker, and killed again."""
    failed = survive(
        tmp_path, process_pool, bodies.hold_the_lock, timeout=0.1, grace=0.1, retries=1
    )
    assert isinstance(failed.error, StepTimeoutError)
    assert (2, 2) == (failed.attempts, failed.error.attempt)


@pytest.mark.parametrize("body", [bodies.clean_up, bodies.clean_up_at_leisure])
def test_finally_blocks_run(tmp_path: Path, process_pool: Any, body: Any) -> None:
    """A body that is interrupted cleans up, and is not interrupted again meanwhile."""
    path = tmp_path / "trace"
    failed = survive(
        tmp_path, process_pool, partial(body, path), timeout=0.2, grace=bodies.PATIENCE
    )
    assert isinstance(failed.error, StepTimeoutError)
    assert "cleaned up" == path.read_text()


@pytest.mark.parametrize("spoiler", [bodies.replace_the_handler, bodies.leave_the_alarm_blocked])
def test_a_body_cannot_spoil_the_interrupt_of_the_next(
    tmp_path: Path, own_pool: ProcessPool, spoiler: Any
) -> None:
    """What a body did to the signal is put right before the next one runs."""
    Flow("spoil").step("spoil", spoiler, pool=own_pool).run().raise_for_status()
    body = partial(bodies.clean_up, tmp_path / "trace")
    Flow("next").step("next", body, pool=own_pool, timeout=0.2, grace=1).run()
    assert "cleaned up" == (tmp_path / "trace").read_text()


# --- the right body ------------------------------------------------------------------------


def _pelt(pool: ProcessPool, finished: threading.Event, sent: list[int]) -> None:
    """Ask tasks to stop that are already over, as fast as it goes."""
    from syncflow.pools import handle

    while not finished.is_set():
        with handle._starting:  # who adds to the set holds it
            workers = list(handle._live)
        for worker in workers:
            task = worker.tasks
            # The body of `task` may be running: it is not meant. All before it are over.
            if not worker.ended and task > 1:
                worker.stop(task - 1)
                sent[0] += 1


@pytest.mark.parametrize("rounds", [0, 200])
def test_an_interrupt_for_a_finished_body_hits_no_other(own_pool: ProcessPool, rounds: int) -> None:
    """Signals that name an earlier task do nothing, wherever they land."""
    finished, sent = threading.Event(), [0]
    pelting = threading.Thread(target=_pelt, args=(own_pool, finished, sent))
    steps = [Step(f"s{i}", partial(interrupts.tiny_step, rounds)) for i in range(400)]
    flow = Flow("tiny").parallel("group", steps, pool=own_pool)
    pelting.start()
    try:
        result = flow.run()
    finally:
        finished.set()
        pelting.join()
    assert {1} == set(result.values.values())
    assert 400 == len(result.values)
    assert sent[0] > 0


def test_short_timeouts_hit_only_their_own_bodies(own_pool: ProcessPool) -> None:
    """Bodies without a time limit survive between bodies that hit theirs."""
    steps = []
    for number in range(150):
        steps.append(Step(f"t{number}", partial(interrupts.spin_for, 0.002), timeout=0.002))
        steps.append(Step(f"n{number}", partial(interrupts.tiny_step, 50)))
    result = Flow("mixed").parallel("group", steps, pool=own_pool).run()
    assert 150 == sum(result[f"n{number}"].ok for number in range(150))
    errors = {type(result[f"t{number}"].error) for number in range(150)}
    assert errors <= {type(None), StepTimeoutError}


@pytest.mark.parametrize("body", [interrupts.sleep_for, interrupts.spin_for])
def test_a_timeout_that_races_with_the_value_has_exactly_one_outcome(
    own_pool: ProcessPool, body: Any
) -> None:
    """Either the value, or a timeout without a value; and every attempt is over."""
    outcomes = []
    for number in range(200):
        timeout = 0.004 + number * 1e-5
        step = Step("race", partial(body, 0.005), timeout=timeout, pool=own_pool)
        raced = Flow("race").step(step).run()["race"]
        outcomes.append((raced.status, raced.value, type(raced.error), raced.attempts))
    possible = {
        ("completed", "returned", type(None), 1),
        ("failed", None, StepTimeoutError, 1),
    }
    assert set(outcomes) <= possible
    assert 1 == len({raced.worker})


def test_an_interrupt_lands_at_each_bytecode_in_turn(tmp_path: Path) -> None:
    """Before, in and after a body: the body alone is interrupted, and the worker serves on."""
    code, shots, stderr = run_script("import interrupt_script; interrupt_script.main()", tmp_path)
    assert (0, "") == (code, stderr)
    assert 1000 < int(shots.removesuffix(" shots\n"))


# --- on the pipe ---------------------------------------------------------------------------


@pytest.mark.parametrize("body", [interrupts.read_for_ever, interrupts.read_large])
def test_an_interrupt_waits_until_a_message_is_whole(own_pool: ProcessPool, body: Any) -> None:
    """A body that is interrupted while it reads from the parent leaves the pipe in order."""

    def fill(ctx: Any) -> None:
        for number in range(200):
            ctx.set(f"large-{number}", bytes(300_000))

    flow = Flow("reading").step("fill", fill)
    steps = [Step(f"r{i}", body, timeout=0.01 + i * 0.003, grace=10) for i in range(12)]
    workers = set()
    result = flow.parallel("group", steps, pool=own_pool).run()
    for step in result.groups["group"].steps:
        assert isinstance(step.error, StepTimeoutError)
        workers.add(step.worker)
    assert 1 == len(workers)
    good = Flow("good").step("good", bodies.good, pool=own_pool).run()
    assert workers == set(good.values.values())


def test_a_sleep_of_the_context_ends_when_the_body_is_asked_to_stop(
    tmp_path: Path, process_pool: Any
) -> None:
    """`ctx.sleep` wakes with `StepInterrupt`, and `ctx.cancelled` says why."""
    body = partial(interrupts.sleep_in_context, tmp_path / "cancelled")
    failed = survive(tmp_path, process_pool, body, timeout=0.2, grace=bodies.PATIENCE)
    assert isinstance(failed.error, StepTimeoutError)
    assert "True" == (tmp_path / "cancelled").read_text()


def test_several_threads_of_a_body_may_read_at_once(own_pool: ProcessPool) -> None:
    """Each gets its own answer."""

    def fill(ctx: Any) -> None:
        for number in range(8):
            ctx.set(f"key-{number}", number)

    flow = Flow("threads").step("fill", fill)
    flow.step("read", interrupts.read_in_many_threads, pool=own_pool)
    assert list("01234567") == flow.run()["read"].value


def test_a_thread_that_a_body_left_behind_cannot_spoil_the_pipe(
    tmp_path: Path, own_pool: ProcessPool
) -> None:
    """Its late read is refused; the worker goes on to serve."""
    flow = Flow("leave").step("leave", partial(interrupts.leave_a_thread, tmp_path), pool=own_pool)
    left = flow.run().raise_for_status()
    bodies.write_text(tmp_path / "over", "")
    assert "read" != bodies.read_text(tmp_path / "late")
    for _ in range(3):
        good = Flow("good").step("good", bodies.good, pool=own_pool).run(timeout=10)
        assert left["leave"].worker == good["good"].value


# --- before the body has begun -------------------------------------------------------------


def _fail_when(path: Path) -> Step:
    """Return a thread step that fails once the file exists."""

    def fail(ctx: object) -> None:
        bodies.wait_for(path)
        raise LookupError("stop")

    return Step("fail", fail, pool="thread")


def test_a_member_stopped_while_its_function_is_unpickled_is_cancelled(
    tmp_path: Path, own_pool: ProcessPool
) -> None:
    """It is no crash; the body is interrupted when it begins, or never begins."""
    Flow("warm").step("warm", bodies.good, pool=own_pool).run().raise_for_status()
    slow = Step("slow", interrupts.SlowToLoad(tmp_path), pool=own_pool, grace=bodies.PATIENCE)
    flow = Flow("stop").parallel("group", [slow, _fail_when(tmp_path / "loading")], fail_fast=True)
    threading.Timer(0.3, bodies.write_text, [tmp_path / "go-on", ""]).start()
    result = flow.run()
    assert "cancelled" == result["slow"].status
    assert isinstance(result["slow"].error, StepCancelledError)
    assert bodies.PATIENCE / 2 > result.duration


@pytest.mark.parametrize("grace", [0.0, 0.1, 5.0])
@pytest.mark.parametrize("delay", [0.01, 0.03, 0.06, 0.1, 0.15])
def test_a_member_stopped_while_its_worker_starts_is_cancelled(delay: float, grace: float) -> None:
    """However early the stop comes, and however short the grace is."""
    token = CancelToken()
    with ProcessPool(1) as pool:
        flow = Flow("cold").step("slow", bodies.sleep_long, pool=pool, grace=grace)
        timer = threading.Timer(delay, token.cancel)
        timer.start()
        result = flow.run(cancel=token)
        timer.join()
        assert "cancelled" == result.status
        # Skipped: on a busy machine the stop may come before it is the step's turn.
        assert result["slow"].status in {"cancelled", "skipped"}
        assert 3 > result.duration
        assert Flow("good").step("good", bodies.good, pool=pool).run().ok


def test_work_that_was_given_up_on_is_not_sent_again(tmp_path: Path, own_pool: ProcessPool) -> None:
    """The run's time is up while the worker is stopped: its body never runs."""
    import os
    import signal

    pid = Flow("warm").step("warm", bodies.good, pool=own_pool).run()["warm"].value
    os.kill(pid, signal.SIGSTOP)
    body = partial(interrupts.write_and_return, tmp_path)
    flow = Flow("stopped").step("late", body, pool=own_pool, grace=0.1)
    result = flow.run(timeout=0.2)
    assert isinstance(result.error, FlowTimeoutError)
    assert not (tmp_path / "ran").exists()
    assert Flow("good").step("good", bodies.good, pool=own_pool).run().ok


# --- threads -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["thread", "foreign"])
def test_fifty_abandoned_threads_take_no_slot(kind: str) -> None:
    """The next step starts at once; on somebody else's executor, if it has a thread left."""
    executor = ThreadPoolExecutor(51)
    pool = executor if kind == "foreign" else kind
    gate = threading.Event()
    steps = [Step(f"s{i}", lambda ctx: gate.wait(bodies.PATIENCE), timeout=0.05) for i in range(50)]
    try:
        abandoned = Flow("hang").parallel("group", steps, max_concurrency=50, pool=pool).run()
        assert 50 == len(abandoned.abandoned)
        began = time.monotonic()
        assert Flow("good").step("good", bodies.good, pool=pool).run().ok
        assert 0.5 > time.monotonic() - began
    finally:
        gate.set()
        executor.shutdown()


NO_TRACEBACKS = """
from functools import partial
import fault_bodies as bodies, interrupt_bodies as interrupts
from syncflow import Flow, Step
steps = [
    Step("loop", bodies.loop, timeout=0.1, pool="process"),
    Step("lock", bodies.hold_the_lock, timeout=0.1, grace=0.1, pool="process"),
    Step("swallow", bodies.swallow_once, timeout=0.1, pool="process"),
]
print(Flow("quiet").parallel("group", steps).run().status)
"""


def test_interrupted_and_killed_workers_print_nothing(tmp_path: Path) -> None:
    """Time that is up is a result, no noise."""
    assert (0, "failed\n", "") == run_script(NO_TRACEBACKS, tmp_path)
