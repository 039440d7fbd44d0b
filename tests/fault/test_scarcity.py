"""What runs short costs no more than the steps that need it: descriptors, disk, terminal, pools."""

from __future__ import annotations

import errno
import os
import pty
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from fault_tools import run_script

from syncflow import Flow, ProcessPool, Step

pytestmark = pytest.mark.xdist_group("process")

MANY_LARGE = """
import resource, sys
from syncflow import Flow, ProcessPool
import numpy

resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
size = int(sys.argv[1])

def make(ctx, number):
    return numpy.full(size // 8, number)

with ProcessPool(1) as pool:
    values = Flow("f").map("m", make, over=range(150), pool=pool).run().raise_for_status().values
    assert list(range(150)) == [int(value[-1]) for value in values["m"]]
    values["m"][0][0] = 7
print("done")
"""


@pytest.mark.parametrize("size", [100_000, 1_200_000])
def test_more_large_results_than_descriptors(tmp_path: Path, size: int) -> None:
    """A small block is copied, and so is a large one once no descriptor is left to map it."""
    pytest.importorskip("numpy")
    assert (0, "done\n", "") == run_script(MANY_LARGE, tmp_path, size)


def test_a_full_disk_is_an_ordinary_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told when a worker starts: it is no signal when its page is first used.

    Nor is a descriptor leaked, for which each test is searched.
    """

    def full(**options: Any) -> Any:
        return Path("/dev/full").open("r+b", **options)

    with ProcessPool(1) as pool:
        monkeypatch.setattr(tempfile, "TemporaryFile", full)
        errors = [pool.submit(os.getpid).exception(10) for _ in range(10)]
        assert [errno.ENOSPC] * 10 == [getattr(error, "errno", error) for error in errors]
        monkeypatch.undo()
        assert os.getpid() != pool.submit(os.getpid).result(10)


def fail_to_make() -> Any:
    """Make no pool."""
    raise ValueError("no such setting")


@pytest.mark.parametrize("shape", ["step", "group", "map", "undo"])
def test_a_pool_that_cannot_be_made_fails_its_steps(
    monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    """What completed before is undone; each step has an error of its own."""
    from syncflow.pools import process

    monkeypatch.setattr(process, "shared_process_pool", fail_to_make)
    undone = []
    flow = Flow("f").step("a", lambda ctx: 1, compensate=lambda ctx: undone.append(ctx.step_name))
    if shape == "group":
        flow.parallel("g", [Step(name, lambda ctx: 2) for name in "bc"], pool="process")
    elif shape == "map":
        flow.map("m", lambda ctx, item: item, over=range(3), pool="process")
    elif shape == "step":
        flow.step("b", lambda ctx: 2, pool="process")
    else:
        undo = Step("undo", lambda ctx: undone.append("never"), pool="process")
        flow.step("b", lambda ctx: 2, compensate=undo).step("c", lambda ctx: 1 / 0)
    result = flow.run()
    assert ("failed", ["a"]) == (result.status, undone)
    if shape == "undo":
        assert "incomplete" == result.rollback
        errors = [undo.error for undo in result.compensations if undo.error]
    else:
        errors = [step.error for step in result.steps if step.status == "failed"]
    assert len(errors) == len({id(error) for error in errors}) == (2 if shape == "group" else 1)
    for error in errors:
        assert "the pool 'process' cannot be had: ValueError: no such setting" in str(error)


ASKS = """
from syncflow import Flow

def ask(ctx):
    with open("/dev/tty") as terminal:
        return terminal.readline()

result = Flow("f").step("asks", ask, pool="process").run()
print(type(result.error).__name__, flush=True)
"""


def test_a_body_that_asks_the_terminal_is_refused() -> None:
    """It would be stopped for ever: its process is in the background."""
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover - the child becomes the script
        os.execv(sys.executable, [sys.executable, "-c", ASKS])
    told = b""
    try:
        while b"\n" not in told:
            told += os.read(terminal, 1000)
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
    assert b"OSError\r\n" == told
