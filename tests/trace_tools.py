"""What a trace has to be: a schema of the events used, and rows on which nothing overlaps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema

from syncflow import FlowResult

Event = dict[str, Any]


def _event(phase: str, required: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the schema of an event; `more`: what it may have besides."""
    common = {"ph": {"const": phase}, "pid": {"type": "integer"}, "tid": {"type": "integer"}}
    return {
        "type": "object",
        "properties": {**common, **required, **more},
        "required": [*common, *required],
        "additionalProperties": False,
    }


_NAME = {"type": "string", "minLength": 1}
_INSTANT = {"type": "integer", "minimum": 0}
_COLOUR = {"enum": ["terrible", "bad", "grey", "olive"]}

#: The subset of the "Trace Event Format" that syncflow writes.
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["traceEvents", "displayTimeUnit", "otherData"],
    "properties": {
        "traceEvents": {
            "type": "array",
            "items": {
                "oneOf": [
                    _event(
                        "X",
                        {
                            "name": _NAME,
                            "cat": _NAME,
                            "ts": _INSTANT,
                            "dur": _INSTANT,
                            "args": {
                                "type": "object",
                                "required": ["status"],
                                "additionalProperties": {"type": ["string", "integer"]},
                            },
                        },
                        cname=_COLOUR,
                    ),
                    _event(
                        "M",
                        {
                            "name": {"enum": ["process_name", "thread_name"]},
                            "args": {"type": "object", "properties": {"name": _NAME}},
                        },
                    ),
                    _event(
                        "M",
                        {
                            "name": {"const": "thread_sort_index"},
                            "args": {"properties": {"sort_index": {"type": "integer"}}},
                        },
                    ),
                    *(
                        _event(
                            phase,
                            {
                                "name": _NAME,
                                "cat": _NAME,
                                "ts": _INSTANT,
                                "id": {"type": "string", "pattern": "^0x[0-9a-f]+$"},
                                "cname": _COLOUR,
                            },
                        )
                        for phase in "be"
                    ),
                ]
            },
        },
        "displayTimeUnit": {"const": "ms"},
        "otherData": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "additionalProperties": False,
}


def checked(text: str) -> list[Event]:
    """Return the events of a trace that is as it should be."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    document = json.loads(text, parse_constant=refuse)
    jsonschema.validate(document, SCHEMA)
    events: list[Event] = document["traceEvents"]
    lengths = [event["dur"] for event in events if event.get("cat") == "flow"]
    for event in events:
        if "ts" in event:
            assert event["ts"] + event.get("dur", 0) <= lengths[0], f"outlives the run: {event}"
    for name, row in rows(events).items():
        _check_nesting(name, row)
    _check_pairs(events)
    return events


def traced(result: FlowResult, directory: Path) -> list[Event]:
    """Return the events of the trace of a result."""
    path = directory / "trace.json"
    result.trace(path)
    return checked(path.read_text(encoding="ascii"))


def rows(events: list[Event]) -> dict[str, list[Event]]:
    """Return the complete events by the names of their rows, in the order of their start."""
    names = {
        event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"
    }
    assert len(names) == len(set(names.values())), "two rows have one name"
    found: dict[str, list[Event]] = {name: [] for name in names.values()}
    for event in events:
        if event["ph"] == "X":
            found[names[event["tid"]]].append(event)
    return found


def of_kind(events: list[Event], kind: str) -> list[Event]:
    """Return the complete events of one kind, in the order of their start."""
    found = [event for event in events if event["ph"] == "X" and event["cat"] == kind]
    return sorted(found, key=lambda event: event["ts"])


def waits(events: list[Event]) -> Iterator[tuple[str, str, int, int]]:
    """Yield step, kind, start and end of each wait."""
    for begin, end, around in _paired(events):
        if around is not None:
            yield around["name"], end["name"], begin["ts"], end["ts"]


def _paired(events: list[Event]) -> Iterator[tuple[Event, Event, Event | None]]:
    """Yield what begins and ends, the innermost first; and the outermost that it is in."""
    opened: dict[str, list[Event]] = {}
    for event in events:
        if event["ph"] == "b":
            opened.setdefault(event["id"], []).append(event)
        elif event["ph"] == "e":
            begin = opened[event["id"]].pop()
            yield begin, event, next(iter(opened[event["id"]]), None)
    assert not any(opened.values()), "something never ends"


def _check_nesting(name: str, row: list[Event]) -> None:
    """Check that spans of a row are apart or one in the other."""
    around: list[int] = []
    for event in sorted(row, key=lambda event: (event["ts"], -event["dur"])):
        end = event["ts"] + event["dur"]
        while around and around[-1] <= event["ts"]:
            around.pop()
        assert not around or end <= around[-1], f"overlaps on row {name}: {event}"
        around.append(end)


def _check_pairs(events: list[Event]) -> None:
    """Check that what begins ends, the innermost first, and not before."""
    for begin, end, _ in _paired(events):
        assert begin["name"] == end["name"]
        assert begin["ts"] <= end["ts"]
