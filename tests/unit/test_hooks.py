"""Hooks and the event they get."""

from __future__ import annotations

import datetime as dt

import attrs
import pytest

from syncflow.hooks import Event, Hooks

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)

NAMES = [
    "on_flow_start",
    "on_flow_complete",
    "on_flow_fail",
    "on_flow_cancel",
    "on_step_start",
    "on_step_retry",
    "on_step_complete",
    "on_step_fail",
    "on_step_cancel",
    "on_compensate",
    "on_compensate_complete",
    "on_compensate_fail",
    "on_map_progress",
    "on_late_finish",
    "around",
]


def test_hooks_are_exactly_those_of_the_contract() -> None:
    """The base class has one public method a hook and nothing else."""
    assert NAMES == [name for name in vars(Hooks) if not name.startswith("_")]


@pytest.mark.parametrize("name", NAMES)
def test_hook_does_nothing(name: str) -> None:
    """Every hook of the base class takes an event and returns."""
    assert getattr(Hooks(), name)(Event("flow", "run", NOW)) is None


@pytest.mark.parametrize("name", NAMES)
def test_hook_says_when_it_is_called(name: str) -> None:
    """Every hook has its contract as docstring."""
    assert getattr(Hooks, name).__doc__


def test_a_subclass_may_keep_state() -> None:
    """A subclass needs no `super().__init__()` to have attributes of its own."""

    class Recorder(Hooks):
        def __init__(self) -> None:
            self.seen: list[Event] = []

        def on_step_start(self, event: Event) -> None:
            self.seen.append(event)

    recorder, event = Recorder(), Event("flow", "run", NOW)
    recorder.on_step_start(event)
    assert [event] == recorder.seen


def test_event_is_frozen() -> None:
    """A hook cannot change what the next hook sees."""
    event = Event("flow", "run", NOW)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.flow_name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "field", ["ctx", "step_name", "group", "attempt", "error", "delay", "result"]
)
def test_what_does_not_apply_is_none(field: str) -> None:
    """Fields that are not given are `None`."""
    assert getattr(Event("flow", "run", NOW), field) is None


def test_event_hashes_by_identity() -> None:
    """Two equal-looking events are two events, whatever they hold."""
    assert 2 == len({Event("flow", "run", NOW), Event("flow", "run", NOW)})


def test_event_repr_leaves_the_context_out() -> None:
    """The repr of an event shows no state, so that it can be logged."""
    event = Event("flow", "run", NOW, ctx="secret")  # type: ignore[arg-type]
    assert "secret" not in repr(event)
