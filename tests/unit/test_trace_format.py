"""Results made by hand as traces: what is drawn, where, and that nothing breaks the file."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from result_makers import at, flow, lap, step, undo
from trace_tools import SCHEMA, Event, of_kind, rows, traced, waits

from syncflow import FlowResult, trace
from syncflow.result import CompensationStatus, FlowStatus, StepStatus

MAIN = "MainThread"


def spans(events: list[Event], *kinds: str) -> list[tuple[str, str, int, int]]:
    """Return row, name, start and end (microseconds) of the complete events of some kinds."""
    return [
        (row, event["name"], event["ts"], event["ts"] + event["dur"])
        for row, found in rows(events).items()
        for event in found
        if event["cat"] in kinds
    ]


def test_the_schema_is_one() -> None:
    """What traces are validated with is itself valid, and does refuse."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"traceEvents": [{"ph": "X"}]}, SCHEMA)


def test_returns_none(tmp_path: Path) -> None:
    """The file is all there is; a path may be a string."""
    assert None is flow().trace(str(tmp_path / "a.json"))
    assert (tmp_path / "a.json").exists()


def test_raises_oserror_where_it_cannot_write(tmp_path: Path) -> None:
    """A directory is no file."""
    with pytest.raises(IsADirectoryError):
        flow().trace(tmp_path)


@pytest.mark.parametrize("path", [None, 1, True, b"trace.json"])
def test_takes_a_path(path: Any) -> None:
    """What is none is refused, by name and value."""
    with pytest.raises(TypeError, match=re.escape(f"trace: path must be a path, not {path!r}")):
        flow(step("a")).trace(path)


def test_the_flow_is_the_first_row(tmp_path: Path) -> None:
    """It is drawn on the row of the thread that called `run`, around everything."""
    events = traced(flow(step("a", 0.5)), tmp_path)
    assert [(MAIN, "checkout", 0, 1_500_000)] == spans(events, "flow")
    assert [MAIN, "thread-0"] == list(rows(events))
    assert "flow checkout" == events[0]["args"]["name"]


def test_a_step_is_drawn_where_it_ran(tmp_path: Path) -> None:
    """Its attempt is on the row of its worker; the thread that waits for it shows the step."""
    events = traced(flow(step("a", 0.5)), tmp_path)
    assert [("thread-0", "a", 500_000, 750_000)] == spans(events, "attempt")
    assert [(MAIN, "a", 500_000, 750_000)] == spans(events, "step")


def test_an_inline_step_is_drawn_once(tmp_path: Path) -> None:
    """There is no need to show that its thread waits for it."""
    events = traced(flow(step("a", 0.5, worker=MAIN, pool="inline")), tmp_path)
    assert [(MAIN, "a", 500_000, 750_000)] == spans(events, "attempt", "step")


def test_a_body_ends_before_its_step_settles(tmp_path: Path) -> None:
    """The worker may have run something else by the time its end was noticed."""
    first, second = step("a", 0.0, group="g"), step("b", 0.1, group="g")
    first._took = 0.1
    events = traced(flow(first, second), tmp_path)
    assert [("thread-0", "a", 0, 100_000), ("thread-0", "b", 100_000, 350_000)] == spans(
        events, "attempt"
    )


def test_a_pid_is_the_row_of_a_process(tmp_path: Path) -> None:
    """Its name says so."""
    events = traced(flow(step("a", worker=4321)), tmp_path)
    assert ["process 4321"] == [row for row, *_ in spans(events, "attempt")]


def test_a_retried_step_shows_every_attempt(tmp_path: Path) -> None:
    """Each on its own worker, with what it waited for between them in a row of the step's."""
    laps = (
        lap(1, 0.0, 0.1, 0.2),
        lap(2, 0.4, 0.5, 0.6, worker="thread-1", error=None),
    )
    events = traced(flow(step("a", 0.1, *laps, duration=0.6)), tmp_path)
    assert [
        ("thread-0", "a (failed)", 100_000, 200_000),
        ("thread-1", "a, attempt 2", 500_000, 600_000),
    ] == spans(events, "attempt")
    assert [
        ("a", "queued", 0, 100_000),
        ("a", "backoff", 200_000, 400_000),
        ("a", "queued", 400_000, 500_000),
    ] == list(waits(events))


def test_an_attempt_that_never_came_is_a_wait(tmp_path: Path) -> None:
    """A step that was stopped between two attempts has waited until then."""
    laps = (lap(1, 0.0, 0.0, 0.2), lap(1, 0.2, None, 0.9, error=None))
    result = flow(step("a", 0.0, *laps, status=StepStatus.FAILED, duration=0.9))
    events = traced(result, tmp_path)
    assert [("thread-0", "a (failed)", 0, 200_000)] == spans(events, "attempt")
    assert [("a", "backoff", 200_000, 900_000)] == list(waits(events))


def test_attempts_that_are_not_known_are_no_wait(tmp_path: Path) -> None:
    """Of very many, those in the middle are dropped; the step did not wait meanwhile."""
    laps = (lap(1, 0.0, 0.0, 0.2), lap(2, 0.3, 0.3, 0.4), lap(9, 0.9, 0.9, 1.0, error=None))
    events = traced(flow(step("a", 0.0, *laps, duration=1.0)), tmp_path)
    assert [("a", "backoff", 200_000, 300_000)] == list(waits(events))


def test_a_wait_for_a_worker_is_drawn(tmp_path: Path) -> None:
    """It ends when the body starts; one that cannot be seen is left out."""
    queued, at_once = step("a", 0.5, queued=0.25), step("b", 0.5, queued=0.0005)
    assert [("a", "queued", 250_000, 500_000)] == list(
        waits(traced(flow(queued, at_once), tmp_path))
    )


@pytest.mark.parametrize(
    ("status", "name", "colour"),
    [("failed", "a (failed)", "terrible"), ("cancelled", "a (cancelled)", "bad")],
)
def test_what_failed_is_coloured_and_named(
    tmp_path: Path, status: str, name: str, colour: str
) -> None:
    """Perfetto has no ears for colours: so the name says it, too, and `args` say why."""
    error = ValueError("the bank is closed")
    result = flow(step("a", status=StepStatus(status), error=error))
    [event] = of_kind(traced(result, tmp_path), "attempt")
    assert (name, colour, status, "ValueError: the bank is closed") == (
        event["name"], event["cname"], event["args"]["status"], event["args"]["error"],
    )  # fmt: skip


def test_what_completed_has_no_colour_of_its_own(tmp_path: Path) -> None:
    """Viewers give it one."""
    [event] = of_kind(traced(flow(step("a")), tmp_path), "attempt")
    assert "cname" not in event


def test_a_group_is_around_its_steps(tmp_path: Path) -> None:
    """It is drawn on the row of the thread that waits for it."""
    events = traced(flow(step("a", group="g"), step("b", 0.1, group="g", worker=7)), tmp_path)
    assert [(MAIN, "g", 0, 500_000)] == spans(events, "group", "step")


def test_skipped_steps_are_not_drawn(tmp_path: Path) -> None:
    """Nor is anything else that never began."""
    skipped = step("a", None, status=StepStatus.SKIPPED, attempts=0, worker=None)
    result = flow(skipped, compensations=(undo("b", None, status=CompensationStatus.SKIPPED),))
    assert ["flow"] == [event["cat"] for event in traced(result, tmp_path) if event["ph"] == "X"]


def test_a_map_shows_what_its_workers_did(tmp_path: Path) -> None:
    """Each stretch tells how many items it stands for."""
    laps = (
        lap(0, 0.0, 0.1, 0.3, error=None, items=5, failed=1, retries=2),
        lap(0, 0.0, 0.1, 0.4, error=None, items=3, worker=99),
    )
    events = traced(flow(step("m", 0.1, *laps, queued=0.1, duration=0.4)), tmp_path)
    assert [
        ("thread-0", "m (1 of 5 failed)", 100_000, 300_000),
        ("process 99", "m", 100_000, 400_000),
    ] == spans(events, "items")
    assert [(MAIN, "m", 0, 500_000)] == spans(events, "map")
    assert [(5, 1, 2), (3, 0, 0)] == [
        (event["args"]["items"], event["args"]["failed"], event["args"]["retries"])
        for event in of_kind(events, "items")
    ]


def test_a_map_of_which_nothing_is_known_is_drawn(tmp_path: Path) -> None:
    """A body began, and its worker broke before it could say what it did."""
    laps = (lap(0, 0.0, 0.0, 0.1, items=1),)
    result = step("m", 0.1, *laps)
    result._laps = ()
    events = traced(flow(result), tmp_path)
    assert [(MAIN, "m", 100_000, 350_000)] == spans(events, "map", "items")


def test_a_rollback_is_around_its_compensations(tmp_path: Path) -> None:
    """Late ones are none of it: they run beside."""
    late = undo("b", 0.2, late=True, duration=0.75)
    late._worker = "thread-3"
    undone = (late, undo("a", 0.75), undo("c", 0.875))
    result = flow(step("a"), compensations=undone, status=FlowStatus.FAILED)
    events = traced(result, tmp_path)
    assert [(MAIN, "rollback", 750_000, 1_000_000)] == spans(events, "rollback")
    assert [
        (MAIN, "undo a", 750_000, 875_000),
        (MAIN, "undo c", 875_000, 1_000_000),
        ("thread-3", "undo b, late", 200_000, 950_000),
    ] == spans(events, "compensation")


def inner(**fields: Any) -> FlowResult:
    """Return the result of a flow that ran as the step `sub`, on a thread."""
    result = flow(
        step("x", 0.5, worker="thread-0"), started=0.4, name="inner", run_id="run-1:sub",
        duration=0.5, **fields,
    )  # fmt: skip
    result._thread = "thread-0"
    return result


def test_a_flow_in_a_step_is_drawn_in_it(tmp_path: Path) -> None:
    """At its true time, on the row of the thread that ran it."""
    events = traced(flow(step("sub", 0.4, value=inner(), duration=0.6)), tmp_path)
    assert ["sub", "inner", "x"] == [event["name"] for event in rows(events)["thread-0"]]
    assert "sub / x" == rows(events)["thread-0"][-1]["args"]["step"]


def test_a_flow_that_failed_in_a_step_is_drawn_in_it(tmp_path: Path) -> None:
    """Its result is in the step's error."""
    failed = inner(status=FlowStatus.FAILED)
    with pytest.raises(Exception) as raised:  # noqa: PT011
        failed.raise_for_status()
    result = flow(step("sub", 0.4, status=StepStatus.FAILED, error=raised.value, duration=0.6))
    assert ["checkout", "inner (failed)"] == [
        event["name"] for event in of_kind(traced(result, tmp_path), "flow")
    ]


def test_some_other_result_as_a_value_is_not_drawn(tmp_path: Path) -> None:
    """A body may return the result of any run, which may have been yesterday."""
    events = traced(flow(step("a", value=flow(step("b"), run_id="other"))), tmp_path)
    assert ["a"] == [event["name"] for event in of_kind(events, "attempt")]


def test_what_overlaps_on_a_row_gets_another(tmp_path: Path) -> None:
    """Where the worker is not known, several may have been at it."""
    steps = [step(name, 0.1 * at, group="g", worker=None) for at, name in enumerate("abc")]
    events = traced(flow(*steps), tmp_path)
    unknown = "thread (worker not known)"
    assert [(unknown, "a"), (f"{unknown} (2)", "b"), (f"{unknown} (3)", "c")] == [
        (row, name) for row, name, *_ in spans(events, "attempt")
    ]


def test_rounding_makes_no_rows(tmp_path: Path) -> None:
    """Spans that touch may overlap by a microsecond."""
    first, second = step("a", 0.0, group="g"), step("b", 0.1, group="g")
    first._took = 0.100001
    events = traced(flow(first, second), tmp_path)
    assert [MAIN, "thread-0"] == list(rows(events))


def test_rows_are_numbered_in_the_order_they_begin(tmp_path: Path) -> None:
    """Viewers sort by number, or by the index that is there for it."""
    events = traced(flow(step("b", 0.5, worker=1), step("a", 0.2, worker=2)), tmp_path)
    assert [1, 2, 3] == [
        event["args"]["sort_index"] for event in events if event["name"] == "thread_sort_index"
    ]
    assert [MAIN, "process 2", "process 1"] == list(rows(events))


NASTY = 'a"\\\n\x00\x1b[31m\u202e\ud800</script><b>&é' + "x" * 1000


def test_names_cannot_break_the_file(tmp_path: Path) -> None:
    """Controls are escaped and long texts cut; nothing ends a script or starts a tag."""
    laps = (lap(1, 0.0, 0.0, 0.2, worker=NASTY, error=NASTY), lap(2, 0.4, 0.4, 0.6, worker=NASTY))
    result = flow(
        step(NASTY, 0.0, *laps, pool=NASTY, error=ValueError(NASTY)), name=NASTY, run_id=NASTY
    )
    events = traced(result, tmp_path)
    text = (tmp_path / "trace.json").read_text(encoding="ascii")
    assert not set("<>&\n\x1b") & set(text)
    assert {True} == {event["name"].isprintable() for event in events}
    assert max(len(event["name"]) for event in events) <= 140


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -1.0, 1e300])
def test_numbers_cannot_break_the_file(tmp_path: Path, number: float) -> None:
    """Every time is a whole number of microseconds in the run, whatever was given."""
    odd = step("a", 0.5, duration=number, queued=number)
    result = flow(odd, step("b", group="g"), compensations=(undo("a", 0.75, duration=number),))
    result.groups["g"].duration = number
    assert {"attempt", "compensation"} <= {event.get("cat") for event in traced(result, tmp_path)}
    result.duration = number
    if number < 1e300:
        assert {0} == {event.get("ts", 0) for event in traced(result, tmp_path)}


def test_replaces_the_file(tmp_path: Path) -> None:
    """Nothing of a longer one is left."""
    path = tmp_path / "trace.json"
    path.write_text("x" * 100_000)
    traced(flow(), tmp_path)
    assert "run-1" == json.loads(path.read_text())["otherData"]["run_id"]


def test_events_are_what_is_written(tmp_path: Path) -> None:
    """Whoever wants the events themselves has them as plain data."""
    result = flow(step("a", 0.5))
    assert trace.events(result) == traced(result, tmp_path)
    assert at(0.5) == result["a"].started_at
