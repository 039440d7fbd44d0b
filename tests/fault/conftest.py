"""The pools that faults are tried on."""

from collections.abc import Iterator
from typing import Any

import pytest

from syncflow import ProcessPool


@pytest.fixture(params=["shared", "own"])
def process_pool(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Return a process pool with two workers as a step names it: the shared one, or one's own."""
    if request.param == "own":
        with ProcessPool(2) as pool:
            yield pool
    else:
        from syncflow.pools.process import usable_cores

        if usable_cores() < 2:
            pytest.skip("the shared pool has one worker here: no sibling can be in flight")
        yield "process"


@pytest.fixture
def own_pool() -> Iterator[ProcessPool]:
    """Return a process pool with one worker."""
    with ProcessPool(1) as pool:
        yield pool
