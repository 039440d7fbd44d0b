"""What holds after every test: nothing is left behind."""

from __future__ import annotations

import gc
import io
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
from frames import current_frames

#: Seconds that threads, processes and descriptors have to go after a test. What a body blocks on
#: is released by the test, so this is only ever used up by a leak.
PATIENCE = 5.0

#: Descriptors that the pool keeps for one worker: pipe, lifeline, shared page, pidfd, and the
#: sentinel and the data pipe of loky's process object.
FDS_OF_A_WORKER = 6

#: Descriptors of a resource tracker, which lives as long as the interpreter.
FDS_OF_A_TRACKER = 1

#: In the command lines of worker processes, and of the trackers of loky and multiprocessing.
WORKER, TRACKER = "syncflow-worker", "resource_tracker"

#: How the names of threads begin that the shared pools keep, and that Dask keeps for itself.
SHARED_THREADS = ("syncflow-thread-", "syncflow-process-", "Dask-")

#: How the names of shared-memory files begin that can be ours; others use /dev/shm, too.
OURS_IN_SHM = (f"syncflow-{os.getpid()}-", f"sem.loky-{os.getpid()}-")


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a job that a script has put into the background. Programs that tests start would inherit
    # it, and be deaf to the Ctrl-C that the tests are about.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class ViewlessBytesIO(io.BytesIO):
    """Copies what others look at."""

    def getbuffer(self) -> Any:
        return self.getvalue()


if (3, 12) <= sys.version_info < (3, 12, 3):
    # These Pythons crash when they collect a view of a BytesIO (CPython issue 111049), and the
    # executors of multiprocessing and loky, on which steps run here, leave such views in cycles.
    for name in (
        "multiprocessing.connection",
        "multiprocessing.reduction",
        "loky.backend.reduction",
    ):
        import_module(name).io = SimpleNamespace(BytesIO=ViewlessBytesIO)  # type: ignore[attr-defined]


#: The Dask clusters that are up. They open connections, and start workers, as they need them; what
#: is left of them is looked at when they end.
clusters: list[Any] = []


def in_a_body(frame: FrameType | None) -> bool:
    """Tell whether a thread is inside the body of a step: after a test, an abandoned one."""
    while frame is not None:
        if frame.f_code.co_name == "call_body":
            return True
        frame = frame.f_back
    return False


def foreign_threads() -> set[threading.Thread]:
    """Return all threads but the idle ones of the shared pools."""
    frames = current_frames()
    return {
        thread
        for thread in threading.enumerate()
        if not thread.name.startswith(SHARED_THREADS) or in_a_body(frames.get(thread.ident or 0))
    }


def worker_threads() -> int:
    """Return how many threads of process pools there are: each has one worker."""
    return sum(thread.name.startswith("syncflow-process-") for thread in threading.enumerate())


def children() -> dict[int, str]:
    """Return the child processes of this one, pid and command line."""
    found = {}
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                # The fields after the name, which may hold anything: state, parent, ...
                parent = (process / "stat").read_bytes().rpartition(b")")[2].split()[1]
                if int(parent) == os.getpid():
                    command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(process.name)] = command.decode(errors="replace")
            except OSError:
                continue  # it has ended meanwhile
    return found


def usable_cores() -> int:
    """Return how many workers the shared process pool may have."""
    import loky

    return loky.cpu_count()


def descriptors() -> dict[int, str]:
    """Return the open file descriptors and what they lead to."""
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        try:
            found[int(path.name)] = str(path.readlink())
        except OSError:
            continue  # the descriptor of the listing itself
    return found


def shared_memory() -> set[str]:
    """Return the names of the files in shared memory that can be ours."""
    return {path.name for path in Path("/dev/shm").iterdir() if path.name.startswith(OURS_IN_SHM)}


class Snapshot:
    """What there is before a test."""

    def __init__(self) -> None:
        self.threads = foreign_threads()
        self.children = children()
        self.descriptors = descriptors()
        self.shared_memory = shared_memory()

    def leaks(self) -> list[str]:
        """Return what there is now that neither was there before nor belongs to a shared pool."""
        if clusters:
            return []
        found = [f"/dev/shm/{name}" for name in shared_memory() - self.shared_memory]
        found += [f"thread {thread.name}" for thread in foreign_threads() - self.threads]
        now = children()
        workers = {pid for pid, command in now.items() if WORKER in command}
        allowed = min(worker_threads(), usable_cores()) if workers else 0
        if len(workers) > allowed:
            found.append(f"{len(workers)} workers, where the shared pool may have {allowed}")
        trackers = {pid for pid, command in now.items() if TRACKER in command}
        found += [
            f"child process {pid}: {now[pid]}"
            for pid in now.keys() - self.children.keys() - workers - trackers
        ]
        known = sum(WORKER in command for command in self.children.values())
        open_now = descriptors()
        grown = len(open_now) - len(self.descriptors)
        grown -= FDS_OF_A_WORKER * max(0, len(workers) - known)
        grown -= FDS_OF_A_TRACKER * len(trackers - self.children.keys())
        if grown > 0:
            new = {fd: path for fd, path in open_now.items() if self.descriptors.get(fd) != path}
            found.append(f"{grown} more file descriptors; new are {new}")
        return found


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until the condition holds, at most so long; return whether it does."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True


def pytest_configure(config: pytest.Config) -> None:
    """Load the plugin where syncflow is on the path only, and not installed."""
    if not config.pluginmanager.hasplugin("syncflow"):
        config.pluginmanager.register(import_module("syncflow.pytest_plugin"), "syncflow")


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Check that a test leaves no thread, process, descriptor or shared-memory file behind.

    The shared pools keep idle threads and workers: those are theirs, with their descriptors. An
    abandoned body counts as left behind as long as it runs.
    """
    before = Snapshot()
    yield
    if not before.leaks():
        return
    gc.collect()  # what hangs in a cycle of the test's own making is no leak
    if not wait_until(lambda: not before.leaks(), PATIENCE):
        pytest.fail("left behind: " + "; ".join(before.leaks()))


@pytest.fixture
def no_gc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Collect nothing but what its last reference lets go; pytest keeps no log records."""
    monkeypatch.setattr(logging.getLogger("syncflow"), "disabled", True)
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def shared_pools_end() -> Iterator[None]:
    """Shut the shared pools down in the end: their workers go."""
    yield
    for module, name in (("process", "shared_process_pool"), ("thread", "shared_thread_pool")):
        loaded = sys.modules.get(f"syncflow.pools.{module}")
        if loaded is not None:
            getattr(loaded, name)().shutdown(wait=True, cancel_futures=True)
    left = [command for command in children().values() if WORKER in command]
    assert [] == left


@contextmanager
def dask_cluster(workers: int) -> Iterator[Any]:
    """Start a Dask cluster; check that it leaves no process behind."""
    distributed = pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
    import dask

    before = children().keys()
    with (
        # A worker that dies twice within these seconds is not started again.
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 day"}),
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as started,
    ):
        clusters.append(started)
        yield started
    clusters.remove(started)

    def left() -> list[str]:
        now = children()
        return [now[pid] for pid in now.keys() - before if TRACKER not in now[pid]]

    assert wait_until(lambda: not left(), PATIENCE), left()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Return a client of a Dask cluster with two worker processes."""
    with dask_cluster(2) as started:
        from distributed import Client

        with Client(started, set_as_default=False) as client:
            yield client


@pytest.fixture
def short_lived() -> Iterator[Any]:
    """Return a Dask cluster with two workers for one test, which may break it."""
    import dask

    with dask_cluster(2) as started:
        yield started
        with dask.config.set({"distributed.comm.timeouts.connect": "1 s"}):
            started.close()  # asks the scheduler, which may be gone
