"""The pools that the contract holds on, and events and records that work on each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from contract_tools import Gate, Journal, Pool, Recorder, clocks, warm_up
from late_scene import Scene

from syncflow.testing import FakeClock

_PROCESS = pytest.param("process", marks=pytest.mark.xdist_group("process"))


def _as_named(kind: str, directory: Path) -> Iterator[Pool]:
    """Return a pool as a step names it; "foreign" is a `ThreadPoolExecutor`, large enough."""
    if kind == "foreign":
        with ThreadPoolExecutor(32) as executor:
            yield executor
    else:
        if kind == "process":
            warm_up(directory)
        yield kind


@pytest.fixture(params=["inline", "thread", _PROCESS, "foreign"])
def pool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pool]:
    """Return each kind of pool."""
    yield from _as_named(request.param, tmp_path)


@pytest.fixture(params=["thread", _PROCESS, "foreign"])
def worker_pool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pool]:
    """Return each kind of pool that has workers: for groups and timeouts."""
    yield from _as_named(request.param, tmp_path)


@pytest.fixture(params=["inline", "thread", "foreign"])
def sharing_pool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pool]:
    """Return each kind of pool whose bodies share objects with the caller."""
    yield from _as_named(request.param, tmp_path)


@pytest.fixture(params=["thread", "foreign"])
def abandoning_pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    """Return each kind of pool whose bodies are abandoned when they do not stop."""
    if request.param == "foreign":
        executor = ThreadPoolExecutor(32)
        yield executor
        executor.shutdown(wait=False)  # the gates that its bodies wait at may still be shut
    else:
        yield request.param


@pytest.fixture
def clock(syncflow_clock: FakeClock) -> Iterator[FakeClock]:
    """Let runs go by a fake clock, which passes while bodies wait at a gate."""
    clocks.append(syncflow_clock)
    yield syncflow_clock
    clocks.clear()


@pytest.fixture
def gates(tmp_path: Path) -> Iterator[Callable[[str], Gate]]:
    """Return a function that makes gates; those still shut are opened when the test is over."""
    made: list[Gate] = []

    def make(name: str) -> Gate:
        made.append(Gate(tmp_path / f"gate-{name}"))
        return made[-1]

    yield make
    for gate in made:
        gate.open()


@pytest.fixture
def gate(gates: Callable[[str], Gate]) -> Gate:
    """Return one gate, shut."""
    return gates("gate")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Return an empty journal."""
    return Journal(tmp_path / "journal")


@pytest.fixture
def recorder() -> Recorder:
    """Return hooks that keep every event."""
    return Recorder()


@pytest.fixture
def scene(abandoning_pool: Pool, gates: Callable[[str], Gate], journal: Journal) -> Scene:
    """Return a step that can finish late, and what was undone of it."""
    return Scene(abandoning_pool, gates, journal)
