"""A clock that is set back by an hour, in the middle of a run, changes nothing."""

import os
from pathlib import Path

import pytest
from fault_tools import run_script

pytestmark = pytest.mark.xdist_group("process")

#: Read by every interpreter that starts, workers too: the clock of all goes back at once.
SITE = """
import os, time
def shifted(real=time.time):
    return real() - (3600 if os.path.exists({mark!r}) else 0)
time.time = shifted
"""

SCRIPT = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from syncflow import Flow, StepTimeoutError

def set_back(ctx):
    before = time.time()
    (Path(ctx.input) / "set-back").touch()
    assert 3000 < before - time.time(), "the clock of this test cannot be set back"

def fail_once(ctx):
    if ctx.attempt == 1:
        raise LookupError
    ctx.sleep(0.01)
    return ctx.remaining

def hang(ctx):
    ctx.sleep(1000)

if __name__ == "__main__":
    pools = {"inline": "inline", "thread": "thread", "process": "process",
             "foreign": ThreadPoolExecutor(2)}
    pool, began = pools[sys.argv[1]], time.monotonic()
    flow = Flow("clock").step("before", set_back, pool=pool)
    flow.step("again", fail_once, pool=pool, retries=1, retry_delay=0.05)
    limits = {} if pool == "inline" else {"timeout": 0.2}
    flow.step("hang", hang, pool=pool, **limits)
    result = flow.run(str(Path.cwd()), timeout=0.5 if pool == "inline" else 100)
    took = time.monotonic() - began
    again, hung = result["again"], result["hang"]
    error = result.error if pool == "inline" else hung.error
    assert isinstance(error, TimeoutError), error
    assert 0 < again.value < 100
    assert 0.05 <= again.backoff < again.duration < took
    assert all(0 <= figure <= took for step in result.steps for figure in (
        step.queued, step.duration, step.backoff))
    instants = [result.started_at] + [step.started_at for step in result.steps]
    assert instants == sorted(instants), instants
    assert (instants[-1] - instants[0]).total_seconds() <= took
    print("nothing changed")
"""


@pytest.mark.parametrize("pool", ["inline", "thread", "process", "foreign"])
def test_a_clock_that_is_set_back_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: str
) -> None:
    """Time limits, delays, durations and the order of instants are what they would have been."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE.format(mark=str(tmp_path / "set-back")))
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    assert (0, "nothing changed\n", "") == run_script(SCRIPT, tmp_path, pool)
