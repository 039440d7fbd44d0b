"""Executors that are not ours."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

import pytest

__all__ = ["EVERY_KIND", "KINDS", "PROCESS", "make_executor"]

KINDS = ["threads", "processes", "loky"]

PROCESS = pytest.mark.xdist_group("process")

#: For `parametrize`; the executor of a cluster is that of the fixture `cluster`.
EVERY_KIND = [
    *(pytest.param(kind, marks=PROCESS) for kind in KINDS),
    pytest.param("dask", marks=pytest.mark.xdist_group("cluster")),
]


def make_executor(kind: str) -> Executor:
    """Return a new executor with two workers."""
    if kind == "threads":
        return ThreadPoolExecutor(2)
    if kind == "processes":
        return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    import loky

    return loky.ProcessPoolExecutor(2)
