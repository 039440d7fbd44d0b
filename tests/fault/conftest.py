"""The pools that faults are tried on."""

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import fault_bodies as bodies
import pytest
from foreign_tools import KINDS, make_executor

from syncflow import Flow, ProcessPool, Step


def _warm(pool: Any, directory: Path) -> None:
    """Have both workers up, so that no short timeout runs out while one of them starts."""
    steps = [Step(f"s{i}", partial(bodies.meet, directory, i)) for i in range(2)]
    Flow("warm").parallel("group", steps, pool=pool).run().raise_for_status()


def _ours(kind: str, directory: Path) -> Iterator[Any]:
    """Return a process pool with two workers as a step names it."""
    if kind == "own":
        with ProcessPool(2) as pool:
            _warm(pool, directory)
            yield pool
    else:
        from syncflow.pools.process import usable_cores

        if usable_cores() < 2:
            pytest.skip("the shared pool has one worker here: no sibling can be in flight")
        _warm("process", directory)
        yield "process"


@pytest.fixture(params=["shared", "own"])
def process_pool(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """Return a process pool of ours: the shared one, or one's own."""
    yield from _ours(request.param, tmp_path_factory.mktemp("warm"))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Executor]]:
    """Return executors that have started their workers, before a test counts what there is."""
    with ExitStack() as stack:
        executors = {kind: stack.enter_context(make_executor(kind)) for kind in KINDS}
        for executor in executors.values():
            _warm(executor, tmp_path_factory.mktemp("warm"))
        yield executors


def _any(request: pytest.FixtureRequest, directory: Path) -> Iterator[Any]:
    executors = request.getfixturevalue("foreign")
    kind = request.param
    if kind in executors:
        yield executors[kind]
    elif kind in ("inline", "thread"):
        yield kind
    else:
        yield from _ours(kind, directory)


@pytest.fixture(params=["shared", "own", "processes", "loky"])
def any_process_pool(
    request: pytest.FixtureRequest, foreign: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """Return a process pool of ours, or somebody else's executor of processes."""
    yield from _any(request, tmp_path_factory.mktemp("warm"))


@pytest.fixture(params=["inline", "thread", "shared", *KINDS])
def any_pool(
    request: pytest.FixtureRequest, foreign: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """Return each kind of pool, and each kind of executor that is not ours."""
    yield from _any(request, tmp_path_factory.mktemp("warm"))


@pytest.fixture(params=["thread", *KINDS])
def abandoning_pool(request: pytest.FixtureRequest, foreign: object) -> Iterator[Any]:
    """Return each kind of pool that cannot end a body, and therefore abandons it."""
    yield from _any(request, Path())


@pytest.fixture(params=["processes", "loky"])
def mortal(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Executor]:
    """Return an executor of two worker processes that a test may break.

    They have started: CPython's does not watch a worker that it starts while another one runs a
    call, until it is given the next call or result. loky does without psutil: with it, the executor
    that broke last is kept, with a pipe and a semaphore.
    """
    monkeypatch.setattr("loky.backend.utils.psutil", None)
    with make_executor(request.param) as executor:
        _warm(executor, tmp_path_factory.mktemp("warm"))
        yield executor


@pytest.fixture
def own_pool() -> Iterator[ProcessPool]:
    """Return a process pool with one worker."""
    with ProcessPool(1) as pool:
        yield pool
