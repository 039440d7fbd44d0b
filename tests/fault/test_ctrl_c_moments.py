"""Ctrl-C at every moment of a run, and at random ones: no hang, no forgotten step."""

from pathlib import Path

import pytest
from fault_tools import run_script

pytestmark = pytest.mark.xdist_group("process")

#: An effect is a file. A body that has begun is undone, so that what it left can be told: all of
#: it when the flow completed, else nothing.
PRELUDE = """
import faulthandler, os, random, signal, sys, threading, time
from functools import partial
from pathlib import Path
from concurrent.futures import ThreadPoolExecutor
from syncflow import Flow, ProcessPool, Step

foreign = ThreadPoolExecutor(2)
faulthandler.dump_traceback_later(90, exit=True)
world = Path("world")
world.mkdir()

def do(name, ctx):
    (world / name).touch()
    return name

def undo(name, ctx):
    (world / name).unlink(missing_ok=True)

def step(name, **options):
    return Step(name, partial(do, name), compensate=partial(undo, name),
                compensate_on="started", **options)

def check(result, where):
    left = sorted(path.name for path in world.iterdir())
    if result is None:
        assert left == [], (where, "forgotten", left)
        return "unborn"
    done = sorted(s.name for s in result.steps if s.ok and s.compensation is None)
    assert left == done, (where, result, left, done)
    assert done == [] or result.status == "completed", (where, result)
    for path in list(world.iterdir()):
        path.unlink()
    return str(result.status)
"""

EVERY_MOMENT = (
    PRELUDE
    + """
flow = Flow("inline").step(step("a")).step(step("b")).step(step("c"))

def run(moment):
    '''Run, with Ctrl-C at the given call, or return, of whatever Python code runs.'''
    seen, where = 0, f"moment {moment}"
    def profile(frame, event, arg):
        nonlocal seen, where
        # Where CPython looks for signals: on entering a function, and after a call into C.
        if event == "return" or frame.f_code is run.__code__:
            return
        seen += 1
        if seen == moment:
            sys.setprofile(None)
            where += f": {event} in {frame.f_code.co_qualname}, line {frame.f_lineno}"
            signal.getsignal(signal.SIGINT)(signal.SIGINT, frame)
    result = None
    sys.setprofile(profile)
    try:
        result = flow.run()
        sys.setprofile(None)
        pressed = False
    except KeyboardInterrupt as interrupt:
        result = getattr(interrupt, "flow_result", None)
        pressed = True
    assert pressed == (seen >= moment), (where, seen)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, where
    return pressed, check(result, where)

check(flow.run(), "warm")  # a first run imports what it needs
outcomes = set()
moment = 0
pressed = True
while pressed:
    moment += 1
    pressed, outcome = run(moment)
    outcomes.add(outcome)
assert moment > 300, moment
print(*sorted(outcomes))
"""
)


def test_ctrl_c_at_every_moment_of_an_inline_flow(tmp_path: Path) -> None:
    """Wherever it lands, it is raised, and what has been done is undone or in the result."""
    assert (0, "cancelled completed unborn\n", "") == run_script(EVERY_MOMENT, tmp_path)


AT_RANDOM = (
    PRELUDE
    + """
kind, runs = sys.argv[1], int(sys.argv[2])
if kind == "inline":
    flow = Flow("inline")
    for name in "abcdefgh":
        flow.step(step(name))
else:
    flow = Flow("mixed").step(step("first"))
    flow.parallel("group", [
        step("thread-1"), step("process-1", pool="process"), step("thread-2"),
        step("process-2", pool="process"), step("foreign", pool=foreign), step("thread-3"),
    ]).step(step("timed", timeout=5)).step(step("last", pool="process"))

def measure():
    began = time.monotonic()
    check(flow.run().raise_for_status(), "measuring")
    return time.monotonic() - began

measure()
usual = sorted(measure() for _ in range(9))[4]
outcomes = {}

def press(delay):
    until = time.monotonic() + delay
    while time.monotonic() < until:
        time.sleep(0)
    os.kill(os.getpid(), signal.SIGINT)

# Go on until enough of them have hit a run in progress, however slow other programs make it.
for number in range(20 * runs):
    if number >= runs and outcomes.get("cancelled", 0) > runs / 10:
        break
    delay = random.uniform(0, 1.1 * usual)
    sender = threading.Thread(target=press, args=(delay,))
    result = None
    began = time.monotonic()
    try:
        sender.start()
        result = flow.run()
        while time.monotonic() - began < 10:
            time.sleep(0.005)  # a signal that comes just before a sleep does not end it
    except KeyboardInterrupt as interrupt:
        result = getattr(interrupt, "flow_result", result)
    assert time.monotonic() - began < 8, (number, delay, usual, "hung, or was swallowed", result)
    sender.join()
    outcome = check(result, f"run {number}, {delay} s")
    outcomes[outcome] = outcomes.get(outcome, 0) + 1
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
assert flow.run().ok
assert outcomes.get("cancelled", 0) > runs / 10, outcomes
print("done")
"""
)


@pytest.mark.parametrize(("kind", "runs"), [("inline", 300), ("mixed", 200)])
def test_ctrl_c_at_random_moments(tmp_path: Path, kind: str, runs: int) -> None:
    """No hang, no forgotten step, no traceback of a worker."""
    assert (0, "done\n", "") == run_script(AT_RANDOM, tmp_path, kind, runs)
