"""Shared memory is gone with the processes that use it, however they end."""

import gc
import os
import pickle
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import payload_bodies as payloads
import pytest
from fault_bodies import PATIENCE
from fault_tools import Script, run_script, seconds_until

from syncflow import Flow, ProcessPool, SerializationError, WorkerCrashedError

pytestmark = pytest.mark.xdist_group("process")

#: Bytes.
SIZE = 8 << 20

#: How the memory of syncflow is called among the files of a process.
NAME = "/memfd:syncflow"


def _processes() -> Iterator[Path]:
    """Return the directories of all processes."""
    return (path for path in Path("/proc").iterdir() if path.name.isdecimal())


def _session(pid: int) -> set[int]:
    """Return the live processes of a session."""
    found = set()
    for process in _processes():
        with suppress(OSError):
            state, _, _, session = (process / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == pid and state not in "ZX":
                found.add(int(process.name))
    return found


def _blocks(process: Path) -> set[int]:
    """Return the blocks that a process has open or mapped, by inode."""
    found = set()
    for line in (process / "maps").read_text().splitlines():
        if NAME in line:
            found.add(int(line.split()[4]))
    for descriptor in (process / "fd").iterdir():
        with suppress(OSError):
            if str(descriptor.readlink()).startswith(NAME):
                found.add(descriptor.stat().st_ino)
    return found


def _is_held(blocks: set[int]) -> bool:
    """Tell whether any process has one of the blocks."""
    for process in _processes():
        with suppress(OSError):
            if _blocks(process) & blocks:
                return True
    return False


def _named(pids: set[int]) -> list[str]:
    """Return the files in shared memory that are named after syncflow or one of the processes."""
    ours = re.compile("|".join(["syncflow", *(rf"\b{pid}\b" for pid in pids)]))
    return [path.name for path in Path("/dev/shm").iterdir() if ours.search(path.name)]


#: A script, and the lines that it prints once the buffers are in flight: pids, and another one.
WAYS = {
    "to-two-workers": (
        """
import pickle
import payload_bodies as payloads
from syncflow import Flow, Step
steps = [Step(name, payloads.hold_input, pool="process") for name in "ab"]
Flow("there").parallel("group", steps).run(pickle.PickleBuffer(bytearray(8 << 20)))
""",
        2,
        [],
    ),
    "to-the-parent": (
        """
from functools import partial
import payload_bodies as payloads
from syncflow import Flow
Flow("back").step("a", partial(payloads.send_large, 8 << 20), pool="process").run()
""",
        1,
        ["arriving"],
    ),
}

ENDS = [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.name)
@pytest.mark.parametrize(("code", "workers", "lines"), WAYS.values(), ids=WAYS)
def test_nothing_is_left_of_a_parent_that_was_killed(
    tmp_path: Path, code: str, workers: int, lines: list[str], end: signal.Signals
) -> None:
    """Large buffers that were under way are freed, and no process of the session lives on."""
    with Script(code, tmp_path) as script:
        pids = {script.pid, *(int(script.line()) for _ in range(workers))}
        assert lines == [script.line() for _ in lines]
        blocks = {block for pid in pids for block in _blocks(Path(f"/proc/{pid}"))}
        assert blocks
        assert pids <= _session(script.pid)
        os.kill(script.pid, end)
        seconds_until(lambda: not _session(script.pid))
    assert not _is_held(blocks)
    assert [] == _named(pids)


def test_buffers_of_a_body_that_crashed_are_freed(own_pool: ProcessPool) -> None:
    """Neither the parent nor the next worker keeps them, when the run is over."""
    flow = Flow("crash").step("crash", payloads.crash_with_large, pool=own_pool)
    result = flow.run(pickle.PickleBuffer(bytearray(SIZE)))
    assert isinstance(result.error, WorkerCrashedError)
    own_pool.submit(os.getpid).result(PATIENCE)
    assert set() == _blocks(Path("/proc/self"))


def test_buffers_are_freed_after_a_run(own_pool: ProcessPool) -> None:
    """Once nobody has the result any more, nothing is mapped in this process."""
    flow = Flow("echo").step("echo", payloads.echo_large, pool=own_pool)
    result = flow.run(pickle.PickleBuffer(bytearray(SIZE))).raise_for_status()
    assert set() != _blocks(Path("/proc/self"))
    del result
    seconds_until(lambda: not _blocks(Path("/proc/self")))


def _pid(pool: ProcessPool) -> int:
    """Return the pid of the worker."""
    return pool.submit(os.getpid).result(PATIENCE)


def _echo(pool: ProcessPool, how: str) -> object:
    """Have a worker return large buffers; return what came of it."""
    large = pickle.PickleBuffer(bytearray(SIZE))
    if how == "call":
        return pool.submit(payloads.make_large, SIZE).result(PATIENCE)
    flow = Flow("echo")
    if how == "step":
        flow.step("echo", payloads.echo_large, pool=pool)
    else:
        flow.map("echo", payloads.echo_item, [large], pool=pool)
    return flow.run(large).raise_for_status()


def _fail(pool: ProcessPool, how: str) -> BaseException | None:
    """Have a worker fail with large buffers at hand; return the error."""
    large = pickle.PickleBuffer(bytearray(SIZE))
    if how == "call":
        return pool.submit(payloads.fail_with_argument, large).exception(PATIENCE)
    flow = Flow("fail")
    if how == "step":
        flow.step("fail", payloads.fail_with_large, pool=pool)
    else:
        body = payloads.fail_with_large if how == "map" else payloads.return_large_or_fail
        flow.map("fail", body, [large, None], pool=pool, chunk_size=2, fail_fast=True)
    return flow.run(large).error


@pytest.mark.parametrize("how", ["call", "step", "map"])
def test_an_idle_worker_keeps_no_buffers(own_pool: ProcessPool, how: str) -> None:
    """Once the parent has the result, that alone holds the memory."""
    worker = Path(f"/proc/{_pid(own_pool)}")
    result = _echo(own_pool, how)
    seconds_until(lambda: not _blocks(worker))
    seconds_until(lambda: 1 == len(_blocks(Path("/proc/self"))))
    del result
    assert worker.name == str(_pid(own_pool))
    seconds_until(lambda: not _blocks(Path("/proc/self")))


@pytest.mark.parametrize("how", ["call", "step", "map", "value"])
def test_an_idle_worker_keeps_no_buffers_of_what_failed(own_pool: ProcessPool, how: str) -> None:
    """The frames of the body go with its error, which has been sent."""
    own_pool.submit(gc.disable).result(PATIENCE)
    worker = Path(f"/proc/{_pid(own_pool)}")
    assert isinstance(_fail(own_pool, how), (LookupError, SerializationError))
    seconds_until(lambda: not _blocks(worker))
    assert worker.name == str(_pid(own_pool))


AT_EXIT = """
import atexit, os

@atexit.register  # before what syncflow registers: this comes after that
def look():
    files = [os.open(f"{number}.txt", os.O_RDWR | os.O_CREAT) for number in range(50)]
    payloads.ARRIVED.set()
    future.exception(20)
    print(sum(os.fstat(file).st_size for file in files), future.done())

import payload_bodies as payloads
from syncflow import ProcessPool
pool = ProcessPool(1)
future = pool.submit(payloads.make_large_slowly, 1 << 20)
payloads.ARRIVING.wait(20)
"""


def test_a_result_that_arrives_at_exit_writes_to_no_pipe(tmp_path: Path) -> None:
    """That of its worker is closed, and its descriptor may be somebody else's."""
    assert (0, "0 True\n", "") == run_script(AT_EXIT, tmp_path)
