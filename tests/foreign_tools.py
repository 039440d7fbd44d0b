"""Executors that are not ours."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

__all__ = ["KINDS", "make_executor"]

KINDS = ["threads", "processes", "loky"]


def make_executor(kind: str) -> Executor:
    """Return a new executor with two workers."""
    if kind == "threads":
        return ThreadPoolExecutor(2)
    if kind == "processes":
        return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    import loky

    return loky.ProcessPoolExecutor(2)
