"""`syncflow run` on a terminal: what it draws there, and how it leaves it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell import ROOT, SYNCFLOW
from terminal import Terminal

FLOWS = """
import os, time
from pathlib import Path
from syncflow import Flow, Step

def wait(ctx):
    while not Path("gate").exists():
        time.sleep(0.001)

def undo(ctx):
    print("undone")

def loud(ctx):
    wait(ctx)
    os.write(1, b"from a process\\n")
    print("its second line", flush=True)

def fail(ctx):
    raise RuntimeError("no")

calm = Flow("calm").parallel("g", [Step("a", wait), Step("b", wait)])
loud = Flow("loud").parallel("g", [Step("a", loud, pool="process")])
stuck = Flow("stuck").step("a", print, compensate=undo).step("b", lambda ctx: time.sleep(60))
failing = Flow("failing").step("a", print, compensate=undo).step("b", wait).step("c", fail)
"""


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """Return a terminal."""
    terminal = Terminal()
    yield terminal
    terminal.end()


@pytest.fixture
def target(tmp_path: Path) -> str:
    """Return the path of a file with the flows; they wait for the file `gate` beside it."""
    (tmp_path / "flows.py").write_text(FLOWS)
    return f"{tmp_path}/flows.py"


@pytest.fixture(params=["rich", "no rich"])
def hiding(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Return the environment of a Python that has rich, and of one that has not."""
    if request.param == "rich":
        return {}
    (tmp_path / "hiding").mkdir()
    (tmp_path / "hiding" / "sitecustomize.py").write_text("import sys; sys.modules['rich'] = None")
    path = [str(tmp_path / "hiding"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(path)}


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end of a program; return its exit code and stdout."""
    with process:
        stdout, _ = process.communicate(timeout=60)
    return process.returncode, stdout


def test_draws_while_the_flow_runs(terminal: Terminal, target: str, tmp_path: Path) -> None:
    """The terminal shows the group live, then the result's table below it."""
    process = terminal.start(SYNCFLOW, "run", f"{target}:calm", cwd=tmp_path)
    terminal.wait_for("0 of 2 done, 2 running")
    (tmp_path / "gate").touch()
    assert 0 == end(process)[0]
    lines = [line.split() for line in terminal.end() if line]
    assert ["g", "calm", "step"] == [words[0] for words in lines[:3]]
    assert ["calm:", "completed"] == lines[-1][:2]


@pytest.mark.xdist_group("process")
def test_leaves_stdout_to_the_result(
    terminal: Terminal, tmp_path: Path, hiding: dict[str, str]
) -> None:
    """The example's result is JSON on stdout, while the terminal shows how it goes."""
    command = (SYNCFLOW, "run", "examples/fetch_transform.py", "--json", "--progress")
    process = terminal.start(*command, cwd=ROOT, stdout=subprocess.PIPE, **hiding)
    code, stdout = end(process)
    assert (0, "completed") == (code, json.loads(stdout)["status"])
    shown = " ".join("\n".join(terminal.end()).split())
    assert "40 of 40 done" in shown
    assert bool(hiding) == ("fetch-transform: completed" in shown)


@pytest.mark.parametrize(
    ("option", "environment"), [("--no-progress", {}), ("--progress", {"CI": "1"})]
)
def test_draws_nothing_when_told_so_or_in_ci(
    terminal: Terminal, target: str, tmp_path: Path, option: str, environment: dict[str, str]
) -> None:
    """The terminal stays empty with `--no-progress`, and with `CI` set."""
    (tmp_path / "gate").touch()
    command = (SYNCFLOW, "run", f"{target}:calm", option)
    process = terminal.start(*command, cwd=tmp_path, stdout=subprocess.PIPE, **environment)
    assert 0 == end(process)[0]
    assert [""] == terminal.end()


@pytest.mark.xdist_group("process")
def test_loses_nothing_that_a_process_prints(
    terminal: Terminal, target: str, tmp_path: Path
) -> None:
    """What a worker process writes to the terminal is still there in the end."""
    command = (SYNCFLOW, "run", f"{target}:loud", "--json")
    process = terminal.start(*command, cwd=tmp_path, stdout=subprocess.PIPE)
    terminal.wait_for("0 of 1 done, 1 running")
    (tmp_path / "gate").touch()
    assert 0 == end(process)[0]
    lines = terminal.end()
    assert "from a process" == lines[0]
    assert lines[1].startswith("its second line")
    assert ["g", "loud"] == [line.split()[0] for line in lines[-2:]]


def test_tells_why_the_flow_failed_below_it(
    terminal: Terminal, target: str, tmp_path: Path
) -> None:
    """The rollback has a line, and the reason comes after the display."""
    (tmp_path / "gate").touch()
    command = (SYNCFLOW, "run", f"{target}:failing", "--json")
    process = terminal.start(*command, cwd=tmp_path, stdout=subprocess.PIPE)
    assert 1 == end(process)[0]
    assert ["rollback", "failing", "syncflow:"] == [line.split()[0] for line in terminal.end()[-3:]]


def test_leaves_the_terminal_as_it_was_on_ctrl_c(
    terminal: Terminal, target: str, tmp_path: Path, hiding: dict[str, str]
) -> None:
    """After Ctrl-C the rollback is shown, the cursor was never hidden, and the exit code is 130."""
    command = (SYNCFLOW, "run", f"{target}:stuck", "--json")
    process = terminal.start(*command, cwd=tmp_path, stdout=subprocess.PIPE, **hiding)
    terminal.wait_for("b: running" if hiding else "1 of 2 done")
    terminal.press_ctrl_c()
    assert 130 == end(process)[0]
    lines = terminal.end()  # checks the terminal's modes, and refuses sequences that set others
    assert "undone" in " ".join(lines)
    assert "1 of 1 undone" in "\n".join(lines)
