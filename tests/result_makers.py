"""Results made by hand, everything with a default."""

from __future__ import annotations

import datetime as dt
from typing import Any

from syncflow.laps import Lap
from syncflow.result import (
    CompensationResult,
    CompensationStatus,
    FlowResult,
    FlowStatus,
    GroupResult,
    MapResult,
    RollbackStatus,
    StepResult,
    StepStatus,
)

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def at(seconds: float) -> dt.datetime:
    """Return the instant so many seconds after the start of the run."""
    return NOW + dt.timedelta(seconds=seconds)


def lap(number: int, ready: float, start: float | None, end: float, **fields: Any) -> Lap:
    """Return a lap, its instants in seconds from the start of the run."""
    zero = NOW.timestamp()
    started_at = None if start is None else zero + start
    known = {"worker": "thread-0", "error": "ValueError: no"} | fields
    return Lap(number, zero + ready, started_at, zero + end, **known)


def step(name: str = "a", start: float | None = 0.0, *laps: Lap, **fields: Any) -> StepResult:
    """Return the result of a step that started so many seconds after the run."""
    defaults: dict[str, Any] = {
        "group": None, "status": StepStatus.COMPLETED, "value": None, "error": None,
        "attempts": max(1, len(laps)), "queued": 0.0, "duration": 0.25, "backoff": 0.0,
        "started_at": None if start is None else at(start), "pool": "thread",
        "worker": "thread-0",
    }  # fmt: skip
    kind = MapResult if laps and laps[0].items else StepResult
    result = kind(name=name, **(defaults | fields))
    result._laps = laps
    return result


def undo(step_name: str, start: float | None, **fields: Any) -> CompensationResult:
    """Return the result of a compensation that started so many seconds after the run."""
    defaults: dict[str, Any] = {
        "status": CompensationStatus.COMPLETED, "error": None, "attempts": 1,
        "started_at": None if start is None else at(start), "duration": 0.125,
    }  # fmt: skip
    return CompensationResult(step_name=step_name, **(defaults | fields))


def flow(*steps: StepResult, started: float = 0.0, **fields: Any) -> FlowResult:
    """Return the result of a flow of these steps, and of the groups that they name."""
    groups = {}
    for name in {one.group: None for one in steps if one.group is not None}:
        members = tuple(one for one in steps if one.group == name)
        groups[name] = GroupResult(name, StepStatus.COMPLETED, None, 0.5, members)
        groups[name]._started_at = at(started)
    defaults: dict[str, Any] = {
        "name": "checkout", "run_id": "run-1", "status": FlowStatus.COMPLETED, "error": None,
        "rollback": RollbackStatus.NOT_NEEDED, "groups": groups, "compensations": (),
        "abandoned": (), "started_at": at(started), "duration": 1.5,
    }  # fmt: skip
    result = FlowResult(steps=steps, **(defaults | fields))
    result._thread = "MainThread"
    return result
