"""What the fault tests share: a sibling in flight, a good step afterwards, scripts, pids."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from fault_bodies import PATIENCE, good, in_company, sibling, write_text

from syncflow import Event, Flow, FlowResult, Hooks, Step, StepResult


class _Settled(Hooks):
    """Leaves a file once the step named ``fault`` has settled."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def on_step_complete(self, event: Event) -> None:
        if event.step_name == "fault":
            write_text(self._directory / "fault-settled", "")

    on_step_fail = on_step_cancel = on_step_complete


def run_beside(directory: Path, pool: Any, fault: Step, input: object = None) -> FlowResult:
    """Run `fault` in a group with a sibling that stays in flight until the fault has settled."""
    members = [fault, Step("sibling", partial(sibling, directory))]
    flow = Flow("faulty", hooks=[_Settled(directory)])
    return flow.parallel("group", members, pool=pool).run(input)


def check_survivors(result: FlowResult, pool: Any) -> None:
    """Check that the sibling has completed, and that the same pool runs a good step."""
    assert "sibling" == result["sibling"].value
    afterwards = Flow("good").step("good", good, pool=pool).run()
    assert afterwards.ok, afterwards.error


def survive(
    directory: Path, pool: Any, body: Callable[[Any], object], **options: Any
) -> StepResult:
    """Run a body that fails while a sibling is in flight; return its result.

    The sibling has to complete, and the same pool to run a good step afterwards.
    """
    fault = Step("fault", partial(in_company, directory, body), **options)
    result = run_beside(directory, pool, fault)
    check_survivors(result, pool)
    return result["fault"]


def is_alive(pid: int) -> bool:
    """Tell whether the process exists and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def seconds_until(what: Callable[[], bool], patience: float = PATIENCE) -> float:
    """Return the seconds until `what` is true."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < patience, "it never came true"
        time.sleep(0.002)
    return time.monotonic() - began


def wait_until_gone(*pids: int, patience: float = 2.0) -> None:
    """Return when none of the processes is alive any more."""
    seconds_until(lambda: not any(map(is_alive, pids)), patience)


class Script:
    """A Python script in a session of its own, so that signals reach nobody else."""

    def __init__(self, code: str, directory: Path, *args: object) -> None:
        path = directory / "script.py"
        path.write_text(code)
        pipe = subprocess.PIPE
        environment = {**os.environ, "PYTHONFAULTHANDLER": "1"}
        bodies = str(Path(__file__).parent)
        environment["PYTHONPATH"] = os.pathsep.join(
            [bodies, *filter(None, [environment.get("PYTHONPATH")])]
        )
        self.process = subprocess.Popen(
            [sys.executable, str(path), *map(str, args)],
            cwd=directory, env=environment, text=True, stdin=pipe,
            stdout=pipe, stderr=pipe, start_new_session=True,
        )  # fmt: skip
        self.pid = self.process.pid

    def __enter__(self) -> "Script":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def line(self) -> str:
        """Return the next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def tell(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def interrupt(self) -> None:
        """Press Ctrl-C: everybody in the foreground gets it."""
        os.killpg(self.pid, signal.SIGINT)

    def end(self, patience: float = PATIENCE) -> tuple[int, str, str]:
        """Wait for its end; return exit code, the rest of stdout, and stderr."""
        stdout, stderr = self.process.communicate(timeout=patience)
        return self.process.returncode, stdout, stderr


def run_script(code: str, directory: Path, *args: object) -> tuple[int, str, str]:
    """Run a script to its end; return exit code, stdout and stderr."""
    with Script(code, directory, *args) as script:
        return script.end(3 * PATIENCE)
