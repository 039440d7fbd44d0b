"""The pools that faults are tried on."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fault_bodies as bodies
import pytest

from syncflow import Flow, ProcessPool, Step


def _warm(pool: Any, directory: Path) -> None:
    """Have both workers up, so that no short timeout runs out while one of them starts."""
    steps = [Step(f"s{i}", partial(bodies.meet, directory, i)) for i in range(2)]
    Flow("warm").parallel("group", steps, pool=pool).run().raise_for_status()


@pytest.fixture(params=["shared", "own"])
def process_pool(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """Return a process pool with two workers as a step names it: the shared one, or one's own."""
    directory = tmp_path_factory.mktemp("warm")
    if request.param == "own":
        with ProcessPool(2) as pool:
            _warm(pool, directory)
            yield pool
    else:
        from syncflow.pools.process import usable_cores

        if usable_cores() < 2:
            pytest.skip("the shared pool has one worker here: no sibling can be in flight")
        _warm("process", directory)
        yield "process"


@pytest.fixture
def own_pool() -> Iterator[ProcessPool]:
    """Return a process pool with one worker."""
    with ProcessPool(1) as pool:
        yield pool
