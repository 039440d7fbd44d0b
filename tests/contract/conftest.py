"""The pools that the contract holds on, and events and records that work on each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from contract_tools import Gate, Journal, Recorder, warm_up
from late_scene import Scene

_PROCESS = pytest.param("process", marks=pytest.mark.xdist_group("process"))


@pytest.fixture(params=["inline", "thread", _PROCESS])
def pool(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the name of each built-in pool."""
    if request.param == "process":
        warm_up(tmp_path)
    return request.param


@pytest.fixture(params=["thread", _PROCESS])
def worker_pool(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the name of each built-in pool that has workers: for groups and timeouts."""
    if request.param == "process":
        warm_up(tmp_path)
    return request.param


@pytest.fixture(params=["inline", "thread"])
def sharing_pool(request: pytest.FixtureRequest) -> str:
    """Return the name of each built-in pool whose bodies share objects with the caller."""
    return request.param


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
def scene(gates: Callable[[str], Gate], journal: Journal) -> Scene:
    """Return a step that can finish late, and what was undone of it."""
    return Scene(gates, journal)
