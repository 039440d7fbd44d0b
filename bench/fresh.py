"""Fresh interpreters, for what can only be measured in one."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial

from syncflow.bench.case import Prepare, Reading
from syncflow.bench.peers import LIMIT

__all__ = ["taking", "telling"]


def _run(code: str) -> str:
    # Not from the current directory: in a checkout, that holds a `syncflow` without its benchmarks.
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    if done.returncode:
        why = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RuntimeError(why[-1])
    return done.stdout


def telling(code: str) -> Prepare:
    """Return a side that runs code which prints a figure and a result, as a JSON array."""

    def work() -> Reading:
        figure, result = json.loads(_run(code))
        return Reading(figure, result)

    return lambda _: work


def taking(code: str) -> Prepare:
    """Return a side that is an interpreter from start to end; the result is what it prints."""
    return lambda _: partial(_run, code)
