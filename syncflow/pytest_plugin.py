"""Fixtures for pytest, which loads this by itself once syncflow is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from syncflow.testing import FakeClock


@pytest.fixture
def syncflow_clock() -> Iterator[FakeClock]:
    """Let all runs of a test go by a `FakeClock`, and return it."""
    from syncflow.testing import FakeClock  # imports the engine: only for who asks for it

    with FakeClock() as clock:
        yield clock
