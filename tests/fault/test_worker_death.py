"""A worker that dies costs the step it was running, and nothing else."""

import os
import signal
import threading
from functools import partial
from pathlib import Path
from typing import Any

import fault_bodies as bodies
import pytest
from fault_tools import (
    Script,
    check_survivors,
    is_alive,
    run_beside,
    run_script,
    seconds_until,
    survive,
    wait_until_gone,
)

from syncflow import Flow, ProcessPool, Step, StepTimeoutError, WorkerCrashedError

pytestmark = pytest.mark.xdist_group("process")

DEATHS = {
    "exit-0": (partial(bodies.exit_with, 0), 0, None),
    "exit-7": (partial(bodies.exit_with, 7), 7, None),
    "segfault": (partial(bodies.kill_oneself, signal.SIGSEGV), -signal.SIGSEGV, "SIGSEGV"),
    "abort": (partial(bodies.kill_oneself, signal.SIGABRT), -signal.SIGABRT, "SIGABRT"),
    "sigterm": (partial(bodies.kill_oneself, signal.SIGTERM), -signal.SIGTERM, "SIGTERM"),
    "signal-without-a-name": (
        partial(bodies.kill_oneself, signal.SIGRTMIN + 1),
        -signal.SIGRTMIN - 1,
        f"signal {signal.SIGRTMIN + 1}",
    ),
}


@pytest.mark.parametrize(("body", "exitcode", "name"), DEATHS.values(), ids=DEATHS)
def test_a_worker_that_dies_fails_exactly_its_step(
    tmp_path: Path, process_pool: Any, body: Any, exitcode: int, name: str | None
) -> None:
    """The step fails with pid and exit code or signal; siblings and the pool live on."""
    failed = survive(tmp_path, process_pool, body)
    error = failed.error
    assert isinstance(error, WorkerCrashedError)
    pid = int((tmp_path / "fault-began").read_text())
    assert ("fault", 1, pid, exitcode, name) == (
        error.step_name, error.attempt, error.pid, error.exitcode, error.signal,
    )  # fmt: skip
    assert (pid, 1) == (failed.worker, failed.attempts)


def _once_both_run(directory: Path, number: int) -> threading.Thread:
    """Send a signal to the worker of the fault once the sibling runs, too."""

    def send() -> None:
        bodies.wait_for(directory / "sibling-began")
        os.kill(int(bodies.read_text(directory / "fault-began")), number)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_a_worker_killed_from_outside_fails_exactly_its_step(
    tmp_path: Path, process_pool: Any
) -> None:
    """SIGKILL by a stranger is on record as what it is."""
    killer = _once_both_run(tmp_path, signal.SIGKILL)
    error = survive(tmp_path, process_pool, bodies.sleep_long).error
    killer.join()
    assert isinstance(error, WorkerCrashedError)
    assert "SIGKILL" == error.signal


def test_a_stopped_worker_is_killed_when_its_time_is_up(tmp_path: Path, process_pool: Any) -> None:
    """A body that SIGSTOP keeps from running times out, and its worker is replaced."""
    stopper = _once_both_run(tmp_path, signal.SIGSTOP)
    failed = survive(tmp_path, process_pool, bodies.sleep_long, timeout=0.3, grace=0.1)
    stopper.join()
    assert isinstance(failed.error, StepTimeoutError)
    assert isinstance(failed.worker, int)
    wait_until_gone(failed.worker)


def _pid_of_worker(pool: Any) -> int:
    """Return the pid of the pool's only worker, which is then idle."""
    pid = Flow("warm").step("warm", bodies.good, pool=pool).run().values["warm"]
    assert isinstance(pid, int)
    return pid


def test_the_death_of_an_idle_worker_fails_no_step(own_pool: ProcessPool) -> None:
    """The next step runs at the first attempt, on a new worker."""
    pid = _pid_of_worker(own_pool)
    os.kill(pid, signal.SIGKILL)
    wait_until_gone(pid)
    result = Flow("after").step("after", bodies.good, pool=own_pool).run()
    assert (True, 1) == (result.ok, result["after"].attempts)
    assert pid != result["after"].value


def test_a_worker_that_dies_as_it_is_given_work_fails_no_step(own_pool: ProcessPool) -> None:
    """A dying idle worker still accepts a send: unacknowledged work is sent again."""
    for _ in range(10):
        os.kill(_pid_of_worker(own_pool), signal.SIGKILL)
        result = Flow("after").step("after", bodies.good, pool=own_pool).run()
        assert (True, 1) == (result.ok, result["after"].attempts)


def _children() -> set[int]:
    """Return the pids of the workers of this process."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes()
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == os.getpid() and b"loky" in line and b"tracker" not in line:
            found.add(int(entry.name))
    return found


def test_a_worker_killed_while_it_starts_fails_no_step() -> None:
    """Work that was on its way to a worker that was still starting goes to another."""
    with ProcessPool(1) as pool:
        before = _children()
        future = pool.submit(os.getpid)
        seconds_until(lambda: bool(_children() - before))
        (cold,) = _children() - before
        os.kill(cold, signal.SIGKILL)
        assert cold != future.result(bodies.PATIENCE)


@pytest.mark.parametrize("end", ["crash", "timeout"])
def test_what_a_worker_has_started_dies_with_it(
    tmp_path: Path, process_pool: Any, end: str
) -> None:
    """Programs and forked children are gone, be the worker dead or killed."""
    then = partial(bodies.exit_with, 1) if end == "crash" else bodies.hold_the_lock
    body = partial(bodies.with_child_processes, tmp_path, then)
    failed = survive(tmp_path, process_pool, body, timeout=0.3, grace=0.1)
    assert isinstance(failed.error, WorkerCrashedError if end == "crash" else StepTimeoutError)
    wait_until_gone(*map(int, (tmp_path / "children").read_text().split()))


def test_a_grandchild_that_holds_the_pipe_does_not_hide_the_death(
    tmp_path: Path, own_pool: ProcessPool
) -> None:
    """The worker's death is seen although a forked child keeps its end of the pipe open."""
    body = partial(bodies.with_child_processes, tmp_path, partial(bodies.exit_with, 3))
    result = Flow("forked").step("fault", body, pool=own_pool).run()
    assert isinstance(result.error, WorkerCrashedError)
    assert 3 == result.error.exitcode
    assert result.duration < bodies.PATIENCE / 2


def test_a_death_amid_a_long_answer_is_seen_although_a_grandchild_holds_the_pipe(
    own_pool: ProcessPool,
) -> None:
    """The parent never waits to write to a worker that is dead."""
    flow = Flow("forked").step("fault", bodies.die_while_being_answered, pool=own_pool)
    results: list[Any] = []
    runner = threading.Thread(target=lambda: results.append(flow.run(bytes(8 << 20))), daemon=True)
    runner.start()
    runner.join(bodies.PATIENCE / 4)
    assert [7] == [result.error.exitcode for result in results]
    assert Flow("good").step("good", bodies.good, pool=own_pool).run().ok


def test_a_step_that_always_crashes_has_as_many_attempts_as_allowed(
    tmp_path: Path, process_pool: Any
) -> None:
    """Each attempt costs a worker; then the step has failed."""
    fault = Step("fault", partial(bodies.exit_with, 9), retries=3)
    result = run_beside(tmp_path, process_pool, fault)
    check_survivors(result, process_pool)
    assert isinstance(result["fault"].error, WorkerCrashedError)
    assert (4, 4) == (result["fault"].attempts, result["fault"].error.attempt)


def test_a_crash_can_be_retried(process_pool: Any) -> None:
    """The second attempt runs on a new worker."""
    flow = Flow("again").step(
        "fault", bodies.exit_on_first_attempt, pool=process_pool, retries=1, timeout=20
    )
    assert 2 == flow.run()["fault"].value


INITIALIZERS = {
    "raises": (bodies.raise_in_initializer, "no licence"),
    "exits": (bodies.exit_in_initializer, "exit code 5"),
}


@pytest.mark.parametrize(("initializer", "message"), INITIALIZERS.values(), ids=INITIALIZERS)
def test_an_initializer_that_fails_gives_one_clear_error(
    tmp_path: Path, initializer: Any, message: str
) -> None:
    """Work fails with the initializer's own error as the cause; no worker is started again."""
    with ProcessPool(1, initializer=initializer, initargs=(tmp_path,)) as pool:
        members = [Step(f"s{i}", bodies.good, retries=2) for i in range(3)]
        result = Flow("unfit").parallel("group", members, pool=pool).run()
    assert ["failed"] * 3 == [step.status for step in result.steps]
    for step in result.steps:
        assert message in str(step.error.__cause__)
    assert 1 == len(list(tmp_path.glob("call-*")))


def test_the_error_of_an_initializer_shows_its_traceback(tmp_path: Path) -> None:
    """The line that raised can be read in the parent."""
    import traceback

    unfit = partial(bodies.raise_in_initializer, tmp_path)
    with ProcessPool(1, initializer=unfit) as pool:
        error = pool.submit(os.getpid).exception(bodies.PATIENCE)
    assert error is not None
    assert "in raise_in_initializer" in "".join(traceback.format_exception(error))


def test_an_initializer_is_not_to_blame_for_a_group_that_stops(tmp_path: Path) -> None:
    """A member that is asked to stop while its worker starts does not break the pool."""

    def fail(ctx: object) -> None:
        bodies.wait_for(tmp_path / "initializing")
        raise LookupError("stop")

    def go_on() -> None:
        seconds_until(lambda: bool(settled))
        bodies.write_text(tmp_path / "go-on", "")

    settled: list[str] = []
    initialize = partial(bodies.initialize_slowly, tmp_path)
    with ProcessPool(1, initializer=initialize) as pool:
        helper = threading.Thread(target=go_on)
        helper.start()
        members = [
            Step("slow", bodies.sleep_long, pool=pool, grace=0.1),
            Step("fail", fail),
        ]
        result = Flow("stop").parallel("group", members, fail_fast=True).run()
        settled.append(result.status)
        helper.join()
        assert "cancelled" == result["slow"].status
        assert Flow("good").step("good", bodies.good, pool=pool).run().ok


def test_a_result_is_not_held_back_by_a_cancelled_call(
    tmp_path: Path, own_pool: ProcessPool
) -> None:
    """A call that is cancelled in the queue delays nobody else's result."""
    running = own_pool.submit(bodies.read_text, tmp_path / "word")
    seconds_until(running.running)
    assert own_pool.submit(os.getpid).cancel()
    bodies.write_text(tmp_path / "word", "ready")
    assert "ready" == running.result(bodies.PATIENCE / 4)


ORPHANS = """
import os, sys, threading
from functools import partial
import fault_bodies as bodies
from syncflow import Flow, ProcessPool, Step

body = {"idle": bodies.good, "sleep": bodies.sleep_long, "lock": bodies.hold_the_lock}[sys.argv[1]]

def tell(ctx):
    os.write(fd, f"{os.getpid()}\\n".encode())
    return body(ctx)

fd = 1
Flow("orphan").parallel("group", [Step(n, tell, pool="process") for n in "ab"]).run()
print("idle", flush=True)
threading.Event().wait()
"""


@pytest.mark.parametrize("busy", ["idle", "sleep", "lock"])
def test_workers_are_gone_soon_after_their_parent_was_killed(tmp_path: Path, busy: str) -> None:
    """SIGKILL of the parent ends its workers within 2 s, idle or busy, even in a C loop."""
    with Script(ORPHANS, tmp_path, busy) as script:
        pids = [int(script.line()) for _ in "ab"]
        if busy == "idle":
            assert "idle" == script.line()
        assert all(map(is_alive, pids))
        os.kill(script.pid, signal.SIGKILL)
        wait_until_gone(*pids, patience=2.0)


FORKED = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and newer warn of any such fork
import fault_bodies as bodies
from syncflow import Flow, ProcessPool, Step

own = ProcessPool(1)

def pids():
    flow = Flow("fork").parallel("group", [
        Step("thread", lambda ctx: os.getpid()),
        Step("shared", bodies.good, pool="process"),
        Step("own", bodies.good, pool=own),
    ])
    return flow.run().raise_for_status().values

mine = pids()
child = os.fork()
if child == 0:
    theirs = pids()
    assert theirs["thread"] == os.getpid()
    assert not set(mine.values()) & set(theirs.values())
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert pids() == mine
print("done")
"""


def test_a_forked_child_has_pools_of_its_own(tmp_path: Path) -> None:
    """The child's steps run on its own workers, its exit leaves the parent's alone."""
    assert (0, "done\n", "") == run_script(FORKED, tmp_path)


def test_a_killed_worker_leaves_no_descriptor_behind(own_pool: ProcessPool) -> None:
    """What a dead worker held is free once it was replaced, with no help by the collector."""
    import gc

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a path would open one itself

    crash = Flow("crash").step("crash", partial(bodies.exit_with, 1), pool=own_pool)
    crash.run()
    gc.collect()
    gc.disable()
    try:
        before = descriptors()
        for _ in range(5):
            crash.run()
        assert before == descriptors()
    finally:
        gc.enable()


def test_stderr_of_a_worker_is_the_parents(tmp_path: Path) -> None:
    """What a body prints is not lost."""
    code = """
import fault_bodies as bodies
from syncflow import Flow
Flow("f").step("s", bodies.print_to_stderr, pool="process").run().raise_for_status()
"""
    assert (0, "", "from the worker\n") == run_script(code, tmp_path)
