"""Ten thousand runs of all kinds in one process; ends with an error when something grows.

For `test_leaks.py`, in an interpreter of its own. What is allocated is measured over stretches of
runs of one kind: a leak shows in every stretch, what a cache or a pool takes once shows in one.
"""

import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from pickle import PickleBuffer
from typing import Any

from syncflow import CancelToken, Context, Flow, FlowResult, Step
from syncflow.pools.thread import shared_thread_pool

#: Stretches of runs of each kind, after one that warms up.
STRETCHES = 4

#: Most threads there may be: the main one, two of the crew of each pool, a watcher, and some that
#: abandoned bodies made a crew hire.
THREADS = 16

#: Blocks and bytes that a stretch may always take: a worker that was replaced, say.
BLOCKS, BYTES = 10, 1 << 18

#: Seconds that threads, workers and descriptors have to go.
PATIENCE = 10.0


def note(ctx: Context) -> None:
    """Write to the state."""
    ctx.set(ctx.step_name, ctx.run_id)


def read_input(ctx: Context) -> Any:
    """Return the input."""
    return ctx.input


def send_back(ctx: Context) -> PickleBuffer:
    """Return the input, which is large."""
    return PickleBuffer(ctx.input)


def fail(ctx: Context) -> None:
    """Fail."""
    raise LookupError(ctx.run_id)


def fail_once(ctx: Context) -> None:
    """Fail at the first attempt."""
    if ctx.attempt == 1:
        fail(ctx)


def wait(ctx: Context) -> None:
    """Wait until asked to stop."""
    ctx.sleep(60)


def crash(ctx: Context) -> None:
    """End the worker."""
    os._exit(1)


def cancel(ctx: Context) -> None:
    """Cancel the run, by the token that it was given."""
    ctx.input.cancel("as planned")


def group(*bodies: Callable[[Context], object], **options: Any) -> Flow:
    """Return a flow of one group, after a step that can be undone."""
    step_options = {name: options.pop(name) for name in ("timeout", "retries") if name in options}
    steps = [Step(f"member-{i}", body, **step_options) for i, body in enumerate(bodies)]
    flow = Flow("group").step("first", note, compensate=note)
    return flow.parallel("group", steps, **options)


def run_cancelled(flow: Flow) -> FlowResult:
    """Run a flow of which one step cancels it."""
    token = CancelToken()
    return flow.run(token, cancel=token)


Kind = tuple[int, str, Callable[[], FlowResult]]


def kinds() -> dict[str, Kind]:
    """Return name -> how many runs, how each ends, what runs."""
    inline = Flow("inline").step("a", note).step("b", read_input, compensate=note)
    failed = Flow("failed").step("a", note, compensate=note).step("b", fail)
    undoing_fails = Flow("failed").step("a", note, compensate=fail).step("b", fail)
    retried = Flow("retried").step("a", fail_once, retries=1)
    threads = group(note, read_input, timeout=5)
    processes = group(note, read_input, timeout=5, pool="process")
    failed_thread = group(fail, wait, fail_fast=True)
    failed_process = group(fail, fail, pool="process")
    retried_thread = group(fail_once, note, retries=1)
    retried_process = group(fail_once, note, retries=1, pool="process")
    late_thread = group(wait, note, timeout=0.001, min_success=2)
    late_process = group(wait, wait, timeout=0.001, pool="process")
    waiting = group(wait, note)
    stopped = group(cancel, wait)
    cancelled = Flow("cancelled").step("a", note, compensate=note).step("b", cancel)
    cancelled.step("c", note)
    large = group(send_back, send_back, pool="process")
    crashed = group(crash, note, pool="process", min_success=2)
    return {
        "inline": (3000, "completed", lambda: inline.run(1)),
        "inline, failed": (1000, "failed", failed.run),
        "inline, rollback incomplete": (500, "failed", undoing_fails.run),
        "inline, retried": (600, "completed", retried.run),
        "inline, cancelled": (600, "cancelled", lambda: run_cancelled(cancelled)),
        "thread": (1200, "completed", lambda: threads.run(1)),
        "thread, failed": (400, "failed", failed_thread.run),
        "thread, retried": (400, "completed", retried_thread.run),
        "thread, timed out": (200, "failed", late_thread.run),
        "thread, run timed out": (200, "failed", lambda: waiting.run(timeout=0.001)),
        "thread, cancelled": (200, "cancelled", lambda: run_cancelled(stopped)),
        "process, large": (200, "completed", lambda: large.run(PickleBuffer(bytearray(1 << 18)))),
        "process": (800, "completed", lambda: processes.run(1)),
        "process, failed": (280, "failed", failed_process.run),
        "process, retried": (280, "completed", retried_process.run),
        "process, timed out": (120, "failed", late_process.run),
        "process, crashed": (20, "failed", crashed.run),
    }


def children() -> int:
    """Return how many child processes there are."""
    tasks = Path("/proc/self/task").iterdir()
    return sum(len((task / "children").read_text().split()) for task in tasks)


def counts() -> tuple[int, int, int, int]:
    """Return how many children, descriptors, mappings and files in shared memory there are."""
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a path would open one itself
    mappings = Path("/proc/self/maps").read_text().count("memfd:syncflow")
    pid = str(os.getpid())
    files = sum(pid in path.name or "syncflow" in path.name for path in Path("/dev/shm").iterdir())
    return children(), descriptors, mappings, files


def settled(count: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
    """Return the count once it is as wanted, or what it is when patience is over."""
    until = time.monotonic() + PATIENCE
    while not wanted(found := count()) and time.monotonic() < until:
        time.sleep(0.005)
    return found


def abandoned() -> int:
    """Return how many threads are still at an abandoned body, or about to end after it."""
    desks = shared_thread_pool().crew._desks
    live = [thread for thread in threading.enumerate() if thread not in desks]
    return sum(thread.name.startswith("syncflow-thread") for thread in live)


def memory() -> tuple[int, int]:
    """Return the blocks that Python has allocated, and the bytes that the process occupies."""
    assert not settled(abandoned, lambda left: not left), "an abandoned body does not end"
    gc.collect()
    # It keeps names of attributes, by their addresses: new ones as long as it has free places.
    sys._clear_type_cache()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return sys.getallocatedblocks(), pages * os.sysconf("SC_PAGE_SIZE")


def run_many(count: int, status: str, run: Callable[[], FlowResult]) -> None:
    """Run it so often."""
    for _ in range(count):
        # Nothing of a result stays here: the frames of an inline body's error lead to this one.
        assert status == run().status


def check(name: str, total: int, status: str, run: Callable[[], FlowResult]) -> int:
    """Run all runs of a kind, and check that nothing grows; return how many there were."""
    each = total // (STRETCHES + 1)
    run_many(total - STRETCHES * each, status, run)
    before, grown = counts(), list[tuple[int, int]]()
    for _ in range(STRETCHES):
        blocks, occupied = memory()
        run_many(each, status, run)
        now = memory()
        grown.append((now[0] - blocks, now[1] - occupied))
    blocks, occupied = (min(figures) for figures in zip(*grown, strict=True))
    assert blocks < each // 2 + BLOCKS, f"{name}: {each} runs allocate {blocks} blocks or more"
    assert occupied < each * 1024 + BYTES, f"{name}: {each} runs take {occupied} bytes or more"
    assert threading.active_count() <= THREADS, f"{name}: {threading.enumerate()}"
    after = settled(counts, before.__eq__)
    assert before == after, f"{name}: {before} became {after}"
    return total


def main() -> None:
    """Run all kinds; each a few times before anything is measured."""
    gc.disable()  # it would run at a time of its own
    every = kinds()
    for _, status, run in every.values():
        run_many(10, status, run)
    runs = sum(check(name, *kind) for name, kind in every.items())
    print(runs, "runs leave nothing behind")  # noqa: T201
