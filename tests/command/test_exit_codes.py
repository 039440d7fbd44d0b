"""One real process per exit code."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from shell import SYNCFLOW, call, start

FLOWS = """
import sys, time
from syncflow import Flow, Step

def fail(ctx):
    raise RuntimeError("no")

def tell_and_wait(ctx):
    print("waiting", file=sys.stderr, flush=True)
    time.sleep(60)

def undo(ctx):
    print("undone", file=sys.stderr, flush=True)

def undo_and_wait(ctx):
    print("undoing", file=sys.stderr, flush=True)
    time.sleep(60)

completed = Flow("completed").step("a", print)
failed = Flow("failed").step("a", print, compensate=undo).step("b", fail)
incomplete = Flow("incomplete").step("a", print, compensate=fail).step("b", fail)

def waiting(pool):
    step = Step("b", tell_and_wait, pool=pool, grace=0)
    return Flow(pool).step("a", print, compensate=undo).step(step)

stuck = Flow("stuck").step("a", print, compensate=undo_and_wait).step("b", tell_and_wait)
inline, thread, process = map(waiting, ("inline", "thread", "process"))
"""


@pytest.fixture
def target(tmp_path):
    """Return the path of a file with one flow for each case."""
    (tmp_path / "flows.py").write_text(FLOWS)
    return f"{tmp_path}/flows.py"


@pytest.mark.parametrize(
    ("flow", "code"), [("completed", 0), ("failed", 1), ("missing", 2), ("incomplete", 3)]
)
def test_exits_with_what_happened(target, tmp_path, flow, code):
    """The exit code of the console script tells how the flow ended."""
    exit_code, _, stderr = call(SYNCFLOW, "run", f"{target}:{flow}", cwd=tmp_path)
    assert code == exit_code
    assert "Traceback" not in stderr


def interrupted(
    process: subprocess.Popen[str], number: signal.Signals, *marks: str
) -> tuple[int, str, str]:
    """Send a signal at each mark on stderr; return exit code, stdout and what came after."""
    assert process.stderr is not None
    with process:
        for mark in marks or ("waiting",):
            while process.stderr.readline() != f"{mark}\n":
                assert process.poll() is None
            process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
    return process.returncode, stdout, stderr


@pytest.mark.xdist_group("process")
@pytest.mark.parametrize("flow", ["inline", "thread", "process"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_rolls_back_before_it_ends(target, tmp_path, flow, number, code):
    """Ctrl-C and SIGTERM undo what is done, print the table, and show in the exit code."""
    process = start(SYNCFLOW, "run", f"{target}:{flow}", cwd=tmp_path)
    exit_code, stdout, stderr = interrupted(process, number)
    assert code == exit_code
    assert ["undone", f"syncflow: flow {flow!r} was cancelled: Ctrl-C"] == stderr.splitlines()
    assert "rollback complete" in stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ends_the_rollback_when_asked_again(target, tmp_path, number, code):
    """The second signal ends the command although a compensation hangs, and the table says so."""
    process = start(SYNCFLOW, "run", f"{target}:stuck", cwd=tmp_path)
    exit_code, stdout, _ = interrupted(process, number, "waiting", "undoing")
    assert code == exit_code
    assert "rollback incomplete" in stdout


def test_ends_by_sigterm_where_ctrl_c_is_ignored(target, tmp_path):
    """A command in the background of a script, which Ctrl-C must not reach, still obeys SIGTERM."""
    script = 'trap "" INT; exec "$@"'
    process = start("sh", "-c", script, "sh", SYNCFLOW, "run", f"{target}:inline", cwd=tmp_path)
    exit_code, _, stderr = interrupted(process, signal.SIGTERM)
    assert (143, True) == (exit_code, stderr.startswith("undone\n"))


def test_stops_while_the_target_is_imported(tmp_path):
    """Ctrl-C before the flow runs ends the command with 130, and without a traceback."""
    (tmp_path / "slow.py").write_text(
        "import sys, time\nprint('waiting', file=sys.stderr, flush=True)\ntime.sleep(60)"
    )
    process = start(SYNCFLOW, "run", "slow.py", cwd=tmp_path)
    assert (130, "", "syncflow: interrupted\n") == interrupted(process, signal.SIGINT)


def test_is_a_module_too(target, tmp_path):
    """`python -m syncflow` is the same command."""
    command = (sys.executable, "-m", "syncflow", "run", f"{target}:completed")
    assert 0 == call(*command, cwd=tmp_path)[0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
def test_exits_with_1_when_it_cannot_print_the_result(target, tmp_path):
    """A result that is lost is told in one line, and is no success."""
    command = ("sh", "-c", 'exec "$@" > /dev/full', "sh", SYNCFLOW, "run", f"{target}:completed")
    code, _, stderr = call(*command, cwd=tmp_path)
    assert (1, "syncflow: cannot write the result: No space left on device") == (
        code,
        stderr.splitlines()[-1],
    )
