"""The error of a dead worker as code written for `concurrent.futures` expects it.

A module of its own, imported when there is such an error: its base class imports multiprocessing.
"""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

from syncflow.errors import WorkerCrashedError

__all__ = ["BrokenWorkerError"]


class BrokenWorkerError(WorkerCrashedError, BrokenProcessPool):
    """A worker process died while it ran a call. Unlike its name says, the pool lives on."""
