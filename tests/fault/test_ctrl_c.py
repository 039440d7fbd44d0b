"""Ctrl-C rolls back and raises `KeyboardInterrupt`; nothing hangs, nothing is forgotten."""

import signal
from pathlib import Path

import pytest
from fault_tools import Script, run_script

pytestmark = pytest.mark.xdist_group("process")

#: What most scripts share. `say` writes whole lines, from any process.
PRELUDE = """
import os, signal, sys, threading, time
from functools import partial
import fault_bodies as bodies
from concurrent.futures import ThreadPoolExecutor
from syncflow import Flow, Step, ProcessPool, Hooks

foreign = ThreadPoolExecutor(8)

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def undo(name, ctx):
    say("undo", name)

def done(name, **options):
    return Step(name, lambda ctx: name, compensate=partial(undo, name), **options)

def hang(name, ctx):
    try:
        say("running", name)
        time.sleep(20)
    finally:
        say("left", name)

def patient(name, ctx):
    say("running", name)
    ctx.sleep(20)

def tell(interrupt):
    result = interrupt.flow_result
    say("result", result.status, result.rollback, *[
        f"{step.name}={step.status}" for step in result.steps])
    say("handler", signal.getsignal(signal.SIGINT) is signal.default_int_handler)

def run(flow):
    try:
        result = flow.run()
    except KeyboardInterrupt as interrupt:
        tell(interrupt)
    else:
        say("no interrupt", result.status)
"""

WAITING = {
    "thread": "Step('wait', partial(patient, 'wait'), pool='thread')",
    "process": "Step('wait', partial(hang, 'wait'), pool='process')",
    "lock": "Step('wait', partial(lock, 'wait'), pool='process', grace=0.1)",
    "foreign": "Step('wait', partial(patient, 'wait'), pool=foreign)",
    "abandoned": "Step('wait', partial(hang, 'wait'), pool='thread', grace=0.1)",
    "inline": "Step('wait', partial(hang, 'wait'))",
    "backoff": "Step('wait', fail, retries=1, retry_delay=20)",
}

WAIT = (
    PRELUDE
    + """
def lock(name, ctx):
    say("running", name)
    sum(range(10**11))

def fail(ctx):
    raise LookupError

class Tell(Hooks):
    def on_step_retry(self, event):
        say("running", event.step_name)

flow = Flow("waiting", hooks=[Tell()]).step(done("first")).step({step}).step(done("last"))
run(flow)
"""
)


@pytest.mark.parametrize(("kind", "step"), WAITING.items(), ids=WAITING)
def test_ctrl_c_while_a_step_runs(tmp_path: Path, kind: str, step: str) -> None:
    """What runs is asked to stop, what completed is undone, then the interrupt is raised."""
    with Script(WAIT.replace("{step}", step), tmp_path) as script:
        assert "running wait" == script.line()
        script.interrupt()
        code, output, errors = script.end()
    lines = [line for line in output.splitlines() if line != "left wait"]
    status = "failed" if kind == "backoff" else "cancelled"
    expected = [
        "undo first",
        f"result cancelled complete first=completed wait={status} last=skipped",
        "handler True",
    ]
    assert (0, expected, "") == (code, lines, errors)


GROUP = (
    PRELUDE
    + """
members = [
    Step("thread", partial(patient, "thread")),
    Step("process", partial(hang, "process"), pool="process"),
    Step("foreign", partial(patient, "foreign"), pool=foreign),
    Step("early", lambda ctx: say("running early"), compensate=partial(undo, "early")),
]
run(Flow("group").parallel("group", members, max_concurrency=4))
"""
)


def test_ctrl_c_while_a_group_runs(tmp_path: Path) -> None:
    """Completed members are undone, the others are asked to stop on whatever they run."""
    with Script(GROUP, tmp_path) as script:
        names = ["thread", "process", "foreign", "early"]
        assert {f"running {name}" for name in names} == {script.line() for _ in names}
        script.interrupt()
        code, output, errors = script.end()
    assert (0, "") == (code, errors)
    lines = output.splitlines()
    status = "thread=cancelled process=cancelled foreign=cancelled early=completed"
    assert "left process" in lines
    assert ["undo early", f"result cancelled complete {status}", "handler True"] == [
        line for line in lines if not line.startswith("left")
    ]


COLD = (
    PRELUDE
    + """
flow = Flow("cold").step(done("first")).step("start", lambda ctx: say("start"))
run(flow.step("wait", partial(hang, "wait"), pool="process"))
"""
)


@pytest.mark.parametrize("delay", [0.02, 0.05, 0.08, 0.12, 0.16, 0.2])
def test_ctrl_c_while_a_worker_starts(tmp_path: Path, delay: float) -> None:
    """A worker that is only just starting prints no traceback either."""
    import time

    with Script(COLD, tmp_path) as script:
        assert "start" == script.line()
        time.sleep(delay)
        script.interrupt()
        code, output, errors = script.end()
    assert (0, "") == (code, errors)
    assert "undo first" in output.splitlines()


ROLLBACK = (
    PRELUDE
    + """
def undo_slowly(ctx):
    say("undoing")
    bodies.wait_for(bodies.Path("go-on"), 10)
    say("undo second")

def fail(ctx):
    raise LookupError

def press_once_seen(ctx):
    say("undoing")
    time.sleep({seconds})

flow = Flow("back").step(done("first"))
flow.step("second", lambda ctx: 2, compensate={undo})
flow.step("fail", fail)
run(flow)
"""
)
UNDO_INLINE = "Step('undo', undo_slowly)"
UNDO_THREAD = "Step('undo', undo_slowly, timeout=30)"
UNDO_PROCESS = "Step('undo', undo_slowly, pool='process', timeout=30)"
UNDO_FOREIGN = "Step('undo', undo_slowly, pool=foreign, timeout=30)"
undoing = pytest.mark.parametrize(
    "undo",
    [UNDO_INLINE, UNDO_THREAD, UNDO_PROCESS, UNDO_FOREIGN],
    ids=["inline", "thread", "process", "foreign"],
)


@undoing
def test_the_first_ctrl_c_during_a_rollback_waits_for_its_end(tmp_path: Path, undo: str) -> None:
    """Compensations are shielded from it; it is raised when they are done."""
    with Script(ROLLBACK.replace("{undo}", undo).replace("{seconds}", "0"), tmp_path) as script:
        assert "undoing" == script.line()
        script.interrupt()
        (tmp_path / "go-on").touch()
        code, output, errors = script.end()
    expected = [
        "undo second",
        "undo first",
        "result failed complete first=completed second=completed fail=failed",
        "handler True",
    ]
    assert (0, expected) == (code, output.splitlines())
    assert "" == errors


@undoing
def test_the_second_ctrl_c_ends_a_rollback(tmp_path: Path, undo: str) -> None:
    """The compensation that runs is stopped, the others are skipped, and on record as that."""
    import time

    hanging = undo.replace("undo_slowly", "press_once_seen").replace("30", "30, grace=0.1")
    # An executor that is not ours waits for its threads before the interpreter exits.
    code = ROLLBACK.replace("{undo}", hanging).replace(
        "{seconds}", "2" if "foreign" in undo else "20"
    )
    with Script(code, tmp_path) as script:
        assert "undoing" == script.line()
        script.interrupt()
        time.sleep(0.05)  # two signals at once are one signal
        script.interrupt()
        code, output, errors = script.end()
    expected = [
        "result failed incomplete first=completed second=completed fail=failed",
        "handler True",
    ]
    assert (0, expected) == (code, output.splitlines())
    assert "Exception ignored" not in errors


TWICE = (
    PRELUDE
    + """
def undo_for_ever(ctx):
    say("undoing")
    time.sleep(20)

flow = Flow("twice").step(done("first")).step("second", lambda ctx: 2, compensate=undo_for_ever)
run(flow.step("wait", partial(hang, "wait")))
"""
)


def test_ctrl_c_twice(tmp_path: Path) -> None:
    """The first one starts the rollback, the second one ends it."""
    with Script(TWICE, tmp_path) as script:
        assert "running wait" == script.line()
        script.interrupt()
        assert "left wait" == script.line()
        assert "undoing" == script.line()
        script.interrupt()
        code, output, _ = script.end()
    status = "first=completed second=completed wait=cancelled"
    assert [f"result cancelled incomplete {status}", "handler True"] == output.splitlines()
    assert 0 == code


OTHER_THREAD = (
    PRELUDE
    + """
results = []
thread = threading.Thread(target=lambda: results.append(Flow("other").step(
    "wait", lambda ctx: (say("running"), bodies.wait_for(bodies.Path("go-on")))).run()))
thread.start()
try:
    while thread.is_alive():
        time.sleep(0.005)
except KeyboardInterrupt:
    say("interrupted")
thread.join()
say(results[0].status)
"""
)


def test_ctrl_c_while_another_thread_runs_a_flow(tmp_path: Path) -> None:
    """The main thread gets it as ever; the run goes on."""
    with Script(OTHER_THREAD, tmp_path) as script:
        assert "running" == script.line()
        script.interrupt()
        assert "interrupted" == script.line()
        (tmp_path / "go-on").touch()
        assert (0, "completed\n", "") == script.end()


OWN_HANDLER = (
    PRELUDE
    + """
def mine(signum, frame):
    say("mine")

for handler in [mine, signal.SIG_IGN]:
    signal.signal(signal.SIGINT, handler)
    def body(ctx):
        assert signal.getsignal(signal.SIGINT) is handler
        signal.raise_signal(signal.SIGINT)
    flow = Flow("own").step("inline", body).step("thread", lambda ctx: None, pool="thread")
    say(flow.run().status, signal.getsignal(signal.SIGINT) is handler)
"""
)


def test_a_handler_of_the_users_own_is_left_alone(tmp_path: Path) -> None:
    """Somebody who handles or ignores SIGINT goes on doing so during a run."""
    output = "mine\ncompleted True\ncompleted True\n"
    assert (0, output, "") == run_script(OWN_HANDLER, tmp_path)


NESTED = (
    PRELUDE
    + """
def outer_body(ctx):
    inner = Flow("inner").step(done("inner-first")).step("inner-wait", partial(hang, "wait"))
    inner.run()

flow = Flow("outer").step(done("outer-first")).step("outer-body", outer_body)
run(flow)
"""
)


def test_ctrl_c_in_a_nested_run(tmp_path: Path) -> None:
    """The inner run rolls back, then the outer one does."""
    with Script(NESTED, tmp_path) as script:
        assert "running wait" == script.line()
        script.interrupt()
        code, output, errors = script.end()
    expected = [
        "left wait",
        "undo inner-first",
        "undo outer-first",
        "result cancelled complete outer-first=completed outer-body=cancelled",
        "handler True",
    ]
    assert (0, expected, "") == (code, output.splitlines(), errors)


NESTED_UNDO = (
    PRELUDE
    + """
def undo_by_flow(ctx):
    def slow(ctx):
        say("undoing")
        bodies.wait_for(bodies.Path("go-on"), 10)
        say("undo by flow")
    Flow("inner").step("slow", slow).run().raise_for_status()

def fail(ctx):
    raise LookupError

flow = Flow("outer").step(done("first")).step("second", lambda ctx: 2, compensate=undo_by_flow)
run(flow.step("fail", fail))
"""
)


def test_a_compensation_that_runs_a_flow_is_shielded(tmp_path: Path) -> None:
    """The first Ctrl-C of a rollback does not stop the flow that a compensation runs."""
    with Script(NESTED_UNDO, tmp_path) as script:
        assert "undoing" == script.line()
        script.interrupt()
        (tmp_path / "go-on").touch()
        code, output, _ = script.end()
    expected = [
        "undo by flow",
        "undo first",
        "result failed complete first=completed second=completed fail=failed",
        "handler True",
    ]
    assert (0, expected) == (code, output.splitlines())


AFTERWARDS = (
    PRELUDE
    + """
for number in range(3):
    try:
        Flow("again").step("wait", lambda ctx: signal.raise_signal(signal.SIGINT)).run()
    except KeyboardInterrupt as interrupt:
        say(number, interrupt.flow_result["wait"].status)
say(Flow("fine").step("fine", lambda ctx: None).run().status)
say(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
)


def test_runs_after_an_interrupted_one_work(tmp_path: Path) -> None:
    """The handler is put back each time, and taken again."""
    output = "0 cancelled\n1 cancelled\n2 cancelled\ncompleted\nTrue\n"
    assert (0, output, "") == run_script(AFTERWARDS, tmp_path)


def test_a_worker_ignores_sigint(tmp_path: Path) -> None:
    """Ctrl-C is the parent's business."""
    code = """
import os, signal
from syncflow import Flow
def body(ctx):
    os.kill(os.getpid(), signal.SIGINT)
    return signal.getsignal(signal.SIGINT) == signal.SIG_IGN
print(Flow("ignore").step("ignore", body, pool="process").run()["ignore"].value)
"""
    assert (0, "True\n", "") == run_script(code, tmp_path)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
