"""What can be measured. A suite is a module with a function `cases`, imported when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from syncflow.bench.case import Case, Settings

__all__ = ["SUITES", "cases_of"]

#: What each suite measures, in the order in which they run.
SUITES: Mapping[str, str] = MappingProxyType(
    {
        "overhead": "steps that do nothing",
        "io": "steps that wait",
        "cpu": "steps that compute",
        "payload": "data on its way to steps",
        "timeouts": "until a step whose time is up has settled",
        "crash": "until the work goes on after a worker was killed",
        "failfast": "until a group has stopped after a failure",
        "start": "the first moments of an interpreter",
        "map": "one function over many small items",
        "memory": "what results take",
    }
)


def cases_of(suite: str, settings: Settings) -> list[Case]:
    """Return the cases of a suite; nothing is prepared yet."""
    module = import_module(f"syncflow.bench.suites.{suite}")
    cases: list[Case] = module.cases(settings)
    return cases
