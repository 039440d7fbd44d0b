"""What syncflow does without, where a system lacks or refuses something that Linux has."""

import os
import signal
from pathlib import Path

import pytest
from fault_tools import Script, run_script, wait_until_gone

pytestmark = pytest.mark.xdist_group("process")

#: What is missing -> how an interpreter, and each that it starts, comes to lack it.
LACKS = {
    "memfd": "import os; del os.memfd_create",
    "memfd-is-refused": """
import os
def refuse(*_):
    raise PermissionError(1, "refused")
os.memfd_create = refuse
""",
    "proc": """
import os
def without_proc(path, *args, really=os.open, **options):
    if str(path).startswith("/proc"):
        raise FileNotFoundError(2, "no such file", path)
    return really(path, *args, **options)
os.open = without_proc
""",
    "pidfd": "import os; del os.pidfd_open",
    "pidfd-is-refused": """
import os
def refuse(*_):
    raise OSError(38, "not implemented")
os.pidfd_open = refuse
""",
    "setsig": "import fcntl; del fcntl.F_SETSIG",
}
LACKS["all-of-these"] = "\n".join(LACKS[name] for name in ("memfd", "proc", "pidfd", "setsig"))

#: Those of them without which large buffers go through the pipe.
COPIED = {"memfd", "memfd-is-refused", "proc", "all-of-these"}


@pytest.fixture(params=LACKS)
def lack(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what scripts lack from now on, their workers included."""
    directory = tmp_path / "lacking"
    directory.mkdir()
    (directory / "sitecustomize.py").write_text(LACKS[request.param])
    path = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(directory), path])))
    return str(request.param)


BUFFERS = """
import pickle
import payload_bodies as payloads
from syncflow import Flow, ProcessPool

data = bytes(range(256)) * 4096
with ProcessPool(1) as pool:
    flow = Flow("echo").step("echo", payloads.echo_large, pool=pool, retries=1)
    echo, readonly = flow.run(pickle.PickleBuffer(bytearray(data))).raise_for_status()["echo"].value
    memoryview(echo)[0] = 7
    call = pool.submit(bytes, pickle.PickleBuffer(bytearray(data)))
    print(data[1:] == bytes(echo)[1:], readonly, data == call.result())
"""


def test_large_buffers_arrive_all_the_same(lack: str, tmp_path: Path) -> None:
    """Through shared memory, read-only, or through the pipe; what comes back may be written to."""
    expected = f"True {lack not in COPIED} True\n"
    assert (0, expected, "") == run_script(BUFFERS, tmp_path)


FAULTS = """
import os, signal
from functools import partial
from pathlib import Path
import fault_bodies as bodies
from syncflow import Flow, ProcessPool, Step

def outcome(body, input=None, **options):
    step = Step("step", body, pool=pool, **options)
    result = Flow("flow").step(step).run(input)["step"]
    return type(result.error).__name__ if result.error else "ok"

here = Path()
with ProcessPool(1) as pool:
    print("crash", outcome(partial(bodies.exit_with, 7)))
    leave_children = partial(bodies.with_child_processes, here, partial(bodies.exit_with, 1))
    print("crash, pipe held", outcome(leave_children))
    print("crash amid an answer", outcome(bodies.die_while_being_answered, bytes(8 << 20)))
    print("interrupted", outcome(bodies.sleep_long, timeout=0.1, grace=bodies.PATIENCE))
    print("killed", outcome(bodies.hold_the_lock, timeout=0.1, grace=0.1))
    idle = pool.submit(os.getpid).result()
    os.kill(idle, signal.SIGKILL)
    print("idle worker killed", outcome(bodies.good))
print(Flow("shared").step("step", bodies.good, pool="process").run().status)
"""

OUTCOMES = """\
crash WorkerCrashedError
crash, pipe held WorkerCrashedError
crash amid an answer WorkerCrashedError
interrupted StepTimeoutError
killed StepTimeoutError
idle worker killed ok
completed
"""


@pytest.mark.usefixtures("lack")
def test_faults_are_survived_all_the_same(tmp_path: Path) -> None:
    """Crashes are seen, bodies stopped, workers replaced, children ended; the exit is quiet."""
    assert (0, OUTCOMES, "") == run_script(FAULTS, tmp_path)
    wait_until_gone(*map(int, (tmp_path / "children").read_text().split()))


ORPHANS = """
import threading
import payload_bodies as payloads
from fault_bodies import sleep_long
from syncflow import Flow, Step, ProcessPool

idle = ProcessPool(1)
idle.submit(payloads.say_pid).result()
Flow("busy").step("busy", lambda ctx: (payloads.say_pid(), sleep_long(ctx)), pool="process").run()
"""


@pytest.mark.usefixtures("lack")
def test_workers_end_with_their_parent_all_the_same(tmp_path: Path) -> None:
    """An idle worker and a busy one are gone soon after the parent was killed."""
    with Script(ORPHANS, tmp_path) as script:
        pids = [int(script.line()) for _ in range(2)]
        os.kill(script.pid, signal.SIGKILL)
        wait_until_gone(*pids, patience=20.0)
