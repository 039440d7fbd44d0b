"""Interpreter exit is quick and quiet; many runs leave nothing behind."""

import time
from pathlib import Path

import pytest
from fault_tools import Script, run_script, wait_until_gone

pytestmark = pytest.mark.xdist_group("process")

PRELUDE = """
import os, sys, threading, time
import fault_bodies as bodies
from syncflow import Flow, ProcessPool, Step, ThreadPool

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def tell_and_sleep(ctx):
    say(os.getpid())
    time.sleep(30)

def tell_and_hold(ctx):
    say(os.getpid())
    sum(range(10**11))

def in_background(flow):
    threading.Thread(target=flow.run, daemon=True).start()
"""

#: What is going on when the script ends. Each says a pid (0: none), and then "leaving".
SCENES = {
    "idle-shared-worker": """
say(Flow("f").step("s", bodies.good, pool="process").run()["s"].value)
""",
    "idle-own-worker": """
pool = ProcessPool(1)
say(pool.submit(os.getpid).result())
""",
    "abandoned-thread": """
say(0)
hung = Flow("f").step("s", lambda ctx: time.sleep(30), timeout=0.05).run()
assert hung.abandoned == ("s",)
""",
    "running-thread-step": """
ready = threading.Event()
in_background(Flow("f").step("s", lambda ctx: (ready.set(), time.sleep(30)), pool="thread"))
ready.wait()
say(0)
""",
    "running-process-step": """
in_background(Flow("f").step("s", tell_and_sleep, pool="process"))
""",
    "process-step-in-c": """
in_background(Flow("f").step("s", tell_and_hold, pool="process"))
""",
    "queued-process-steps": """
steps = [Step(f"s{i}", tell_and_sleep if i == 0 else bodies.sleep_long) for i in range(20)]
in_background(Flow("f").parallel("g", steps, pool="process", max_concurrency=1))
""",
    "pending-calls": """
pool = ProcessPool(1)
pool.submit(tell_and_sleep, None)
pending = [pool.submit(time.sleep, 30) for _ in range(10)]
""",
}

LEAVE = """
sys.stdin.readline()
say("leaving")
"""


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_interpreter_exit_is_quick_and_quiet(tmp_path: Path, scene: str) -> None:
    """Whatever still runs delays it by less than a second, and prints nothing."""
    with Script(PRELUDE + scene + LEAVE, tmp_path) as script:
        pid = int(script.line())
        script.tell("leave")
        assert "leaving" == script.line()
        began = time.monotonic()
        assert (0, "", "") == script.end()
        assert 1.0 > time.monotonic() - began
        if pid:
            wait_until_gone(pid)


COLD_EXIT = (
    PRELUDE
    + """
in_background(Flow("f").step("s", bodies.sleep_long, pool="process"))
time.sleep(float(sys.argv[1]))
"""
)


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2])
def test_interpreter_exit_while_a_worker_starts_is_quiet(tmp_path: Path, delay: float) -> None:
    """Nobody complains that the parent has gone."""
    assert (0, "", "") == run_script(COLD_EXIT, tmp_path, delay)


UNGUARDED = """
from syncflow import Flow, ProcessPool, Step
factor = 3

def triple(ctx):
    return factor * ctx.input

class Result:
    def __init__(self, value):
        self.value = value

flow = Flow("unguarded").parallel("group", [
    Step("lambda", lambda ctx: factor * ctx.input, pool="process"),
    Step("function", triple, pool="process"),
    Step("closure", (lambda extra: lambda ctx: ctx.input + extra)(4), pool="process"),
    Step("instance", lambda ctx: Result(ctx.input), pool="process"),
])
result = flow.run(5).raise_for_status()
print(result["lambda"].value, result["function"].value, result["closure"].value)
print(type(result["instance"].value) is Result, result["instance"].value.value)
with ProcessPool(1) as pool:
    print(list(pool.map(lambda x: x * factor, [1, 2])))
"""


def test_a_script_without_a_main_guard(tmp_path: Path) -> None:
    """Lambdas, closures and classes of the script itself work; it is not run again in workers."""
    expected = "15 15 9\nTrue 5\n[3, 6]\n"
    assert (0, expected, "") == run_script(UNGUARDED, tmp_path)


MANY_RUNS = (
    PRELUDE
    + """
import gc, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

foreign = ThreadPoolExecutor(2)

def fail(ctx):
    raise LookupError("as planned")

flow = Flow("many").step("inline", lambda ctx: ctx.set("key", 1))
flow.parallel("group", [
    Step("thread", lambda ctx: ctx.get("key"), timeout=5),
    Step("process", bodies.good, pool="process", timeout=5),
    Step("foreign", lambda ctx: ctx.get("key"), pool=foreign, timeout=5),
    Step("failing", fail, retries=1),
    Step("failing-too", fail, pool=foreign),
])
failing = Flow("failing").step("first", lambda ctx: None, compensate=lambda ctx: None)
failing.step("fail", fail)

def figures():
    me = Path("/proc/self")
    children = 0
    for task in (me / "task").iterdir():
        children += len((task / "children").read_text().split())
    pages = int((me / "statm").read_text().split()[1])
    return threading.active_count(), children, len(os.listdir("/proc/self/fd")), pages

def runs(count):
    for _ in range(count):
        assert flow.run().status == "completed"
        assert failing.run().status == "failed"

runs(200)
gc.collect()
gc.disable()
before = figures()
runs(4800)
after = figures()
assert before[:3] == after[:3], (before, after)
grown = (after[3] - before[3]) * os.sysconf("SC_PAGE_SIZE")
assert grown < 1 << 20, grown
print("flat")
"""
)


def test_ten_thousand_runs_leave_nothing_behind(tmp_path: Path) -> None:
    """Threads, children, descriptors and memory stay the same, with no help by the collector."""
    assert (0, "flat\n", "") == run_script(MANY_RUNS, tmp_path)
