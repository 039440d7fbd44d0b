"""Fixtures for pytest, which loads this by itself once syncflow is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from syncflow.testing import FakeClock, FaultPlan


@pytest.fixture
def syncflow_clock() -> Iterator[FakeClock]:
    """Let all runs of a test go by a `FakeClock`, and return it."""
    from syncflow.testing import FakeClock  # imports the engine: only for who asks for it

    with FakeClock() as clock:
        yield clock


@pytest.fixture
def syncflow_faults() -> Iterator[FaultPlan]:
    """Return an empty `FaultPlan`; in the end, all that was planned must have happened."""
    from syncflow.testing import FaultPlan

    plan = FaultPlan()
    yield plan
    plan.release()
    plan.assert_used()
