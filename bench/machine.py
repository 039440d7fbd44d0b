"""The machine: what it is, how busy it is, and what is installed."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic
from typing import NamedTuple

__all__ = ["PACKAGES", "Others", "busy_share", "describe", "revision"]

#: The packages that figures depend on.
PACKAGES = (
    *("syncflow", "attrs", "cloudpickle", "loky"),
    *("joblib", "pebble", "taskflow", "distributed", "numpy"),
)


def describe() -> dict[str, object]:
    """Return what a reader needs to know about this machine, as JSON can hold it."""
    import loky

    return {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "cpu": _cpu(),
        "cores": loky.cpu_count(),
        "load": list(os.getloadavg()),
        "revision": revision(),
        "versions": {package: _version(package) for package in PACKAGES},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def revision() -> str | None:
    """Return the Git revision of the current directory; `None` outside a repository."""
    # With every tag excluded, what is left is the hash, and "-dirty" if files have changed.
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


class _Usage(NamedTuple):
    """What one process has used of the processors.

    Attributes:
        parent: Its parent.
        seconds: Its own, and those of the children that it has waited for.
    """

    parent: int
    seconds: float


def _usage() -> dict[int, _Usage]:
    """Return all processes that can be seen."""
    tick = os.sysconf("SC_CLK_TCK")
    found = {}
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                # The fields after the name, which may hold anything: state, parent, ...
                fields = (process / "stat").read_bytes().rpartition(b")")[2].split()
            except OSError:
                continue  # it has ended meanwhile
            spent = sum(map(int, fields[11:15])) / tick
            found[int(process.name)] = _Usage(int(fields[1]), spent)
    return found


def busy_share(
    before: Mapping[int, _Usage], after: Mapping[int, _Usage], own: int, seconds: float
) -> float:
    """Return how many cores other programs used: all but the process `own` and what it started.

    What a process has used goes over to its parent when it ends, so the sum over all tells also of
    those that were there only for a while.
    """
    spent = _used_by_others(after, own) - _used_by_others(before, own)
    return max(0.0, spent / seconds) if seconds else 0.0


def _used_by_others(usages: Mapping[int, _Usage], own: int) -> float:
    def is_ours(pid: int) -> bool:
        seen = set()
        while pid in usages and pid != own and pid not in seen:
            seen.add(pid)
            pid = usages[pid].parent
        return pid == own

    return sum(usage.seconds for pid, usage in usages.items() if not is_ours(pid))


class Others:
    """Watches, from when it is made, what other programs use of the processors."""

    def __init__(self) -> None:
        self._began = monotonic()
        self._before = self._look()

    def share(self) -> float | None:
        """Return how many cores they have used since, on average; `None` where nobody can see."""
        if self._before is None:
            return None
        after = self._look()
        if after is None:
            return None
        return busy_share(self._before, after, os.getpid(), monotonic() - self._began)

    @staticmethod
    def _look() -> dict[int, _Usage] | None:
        try:
            return _usage()
        except OSError:  # a system without /proc
            return None
