"""The fixtures that pytest finds, in a project of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from shell import call

CONFTEST = """
from importlib import import_module

def pytest_configure(config):
    if not config.pluginmanager.hasplugin("syncflow"):  # on the path only, and not installed
        config.pluginmanager.register(import_module("syncflow.pytest_plugin"), "syncflow")
"""

CLOCK = """
from syncflow import Flow

def test_passes_at_once(syncflow_clock):
    Flow("flow").step("a", lambda ctx: ctx.sleep(86400)).run()
    assert 86400 == syncflow_clock.now
"""

FAULTS = """
from syncflow import Flow

def test_plans(syncflow_faults):
    syncflow_faults.fail("a").fail("a", attempt={attempt})
    syncflow_faults.on(Flow("flow").step("a", lambda ctx: None, retries=1)).run()
"""

LIGHT = """
import sys

def test_loads_little():
    heavy = {"loky", "multiprocessing", "attrs", "syncflow.flow", "syncflow.testing"}
    assert not heavy & sys.modules.keys()
    assert "syncflow.pytest_plugin" in sys.modules
"""


def outcome(directory: Path, test: str) -> tuple[int, str]:
    """Run a test in a project of its own; return pytest's exit code and what it printed."""
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "test_it.py").write_text(test)
    options = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest")
    code, stdout, _ = call(sys.executable, "-m", "pytest", "-q", *options, cwd=directory)
    return code, stdout


def test_the_clock_is_a_fixture(tmp_path: Path) -> None:
    """All runs of the test go by it."""
    assert 0 == outcome(tmp_path, CLOCK)[0]


@pytest.mark.parametrize(("attempt", "code"), [(2, 0), (3, 1)])
def test_the_plan_is_a_fixture(tmp_path: Path, attempt: int, code: int) -> None:
    """A test in which a planned fault does not happen ends with an error, which names it."""
    ended, printed = outcome(tmp_path, FAULTS.format(attempt=attempt))
    assert (code, attempt == 3) == (ended, "fail('a', attempt=3)" in printed)


def test_costs_next_to_nothing_when_it_is_not_used(tmp_path: Path) -> None:
    """The engine is imported by those who ask for a fixture."""
    assert 0 == outcome(tmp_path, LIGHT)[0]
