"""Aids for testing flows: a clock that passes by itself, and faults where you want them."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncflow.testing.fake_clock import FakeClock
    from syncflow.testing.fault_plan import FaultPlan
    from syncflow.testing.faults import InjectedError, LateEnd

__all__ = ["FakeClock", "FaultPlan", "InjectedError", "LateEnd"]

#: Imported when asked for: a worker process needs the faults, but no clock and no engine.
_HOMES = {
    "FakeClock": "syncflow.testing.fake_clock",
    "FaultPlan": "syncflow.testing.fault_plan",
    "InjectedError": "syncflow.testing.faults",
    "LateEnd": "syncflow.testing.faults",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
