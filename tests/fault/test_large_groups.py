"""A hundred thousand steps need memory for their results, and end when they are told to."""

from pathlib import Path

import pytest
from fault_tools import run_script

pytestmark = pytest.mark.xdist_group("process")

SCRIPT = """
import resource, sys, threading
from concurrent.futures import ThreadPoolExecutor
from syncflow import CancelToken, Flow, Hooks, Step
import fault_bodies as bodies

COUNT = {count}

def nothing(ctx):
    return None

def define(count):
    steps = [Step(f"s{number}", nothing) for number in range(count)]
    flow = Flow("large", hooks=[watcher])
    if pool != "inline":
        return flow.parallel("group", steps, pool=pool)
    for step in steps:
        flow.step(step)
    return flow

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

class Watcher(Hooks):
    '''Count the threads; cancel the run at a given step.'''
    def __init__(self):
        self.threads = self.seen = 0
        self.token = None
    def on_step_complete(self, event):
        self.seen += 1
        self.threads = max(self.threads, threading.active_count())
        if self.token is not None and self.seen == COUNT // 10:
            self.token.cancel("enough")

if __name__ == "__main__":
    watcher = Watcher()
    foreign = ThreadPoolExecutor(32)
    pool = foreign if sys.argv[1] == "foreign" else sys.argv[1]
    define(1000).run().raise_for_status()
    flow = define(COUNT)
    before = peak()
    result = flow.run()
    grown = (peak() - before) / COUNT
    assert len(result.values) == COUNT
    assert grown < 1024, grown
    assert watcher.threads <= 32 + 10, watcher.threads
    print("bounded")
    del result
    watcher.seen, watcher.token = 0, CancelToken()
    result = flow.run(cancel=watcher.token)
    done = sum(step.ok for step in result.steps)
    assert result.status == "cancelled" and COUNT // 10 <= done < COUNT // 2, (result, done)
    assert Flow("good").step("good", bodies.good, pool=pool).run().ok
    print("ended")
"""


@pytest.mark.parametrize(
    ("pool", "count"),
    [("inline", 100_000), ("thread", 100_000), ("foreign", 20_000), ("process", 20_000)],
)
def test_a_hundred_thousand_steps(tmp_path: Path, pool: str, count: int) -> None:
    """Less than 1 kB each, on no more threads than run at a time; a cancel ends them midway."""
    code = SCRIPT.replace("{count}", str(count))
    assert (0, "bounded\nended\n", "") == run_script(code, tmp_path, pool)
