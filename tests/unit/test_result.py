"""What the caller reads: results, their table, HTML and plain data."""

from __future__ import annotations

import datetime as dt
import json
import pickle
import subprocess
import sys
from typing import Any, NoReturn

import pytest

from syncflow.errors import FlowCancelledError, FlowFailedError, RollbackIncompleteError
from syncflow.result import (
    CompensationResult,
    CompensationStatus,
    FlowResult,
    FlowStatus,
    GroupResult,
    RollbackStatus,
    StepResult,
    StepStatus,
)

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def step(name: str = "a", status: str = "completed", **fields: Any) -> StepResult:
    """Make a step result; everything has a default."""
    defaults: dict[str, Any] = {
        "group": None,
        "value": None,
        "error": None,
        "attempts": 1,
        "queued": 0.0,
        "duration": 0.25,
        "backoff": 0.0,
        "started_at": NOW,
        "pool": "thread",
        "worker": "worker-1",
    }
    return StepResult(name=name, status=StepStatus(status), **{**defaults, **fields})


def group(name: str, *steps: StepResult, status: str = "completed", **fields: Any) -> GroupResult:
    """Make a group result of these steps."""
    defaults: dict[str, Any] = {"error": None, "duration": 0.5}
    return GroupResult(name=name, status=StepStatus(status), steps=steps, **{**defaults, **fields})


def compensation(step_name: str = "a", status: str = "completed", **fields: Any) -> Any:
    """Make a compensation result; everything has a default."""
    defaults: dict[str, Any] = {"error": None, "attempts": 1, "started_at": NOW, "duration": 0.125}
    return CompensationResult(
        step_name=step_name, status=CompensationStatus(status), **{**defaults, **fields}
    )


def flow(*steps: StepResult, status: str = "completed", **fields: Any) -> FlowResult:
    """Make a flow result of these steps, and of the groups that they name."""
    defaults: dict[str, Any] = {
        "name": "checkout",
        "run_id": "run-1",
        "error": None,
        "rollback": RollbackStatus.NOT_NEEDED,
        "groups": {
            name: group(name, *(member for member in steps if member.group == name))
            for name in {member.group: None for member in steps}
            if name is not None
        },
        "compensations": (),
        "abandoned": (),
        "started_at": NOW,
        "duration": 1.5,
    }
    return FlowResult(status=FlowStatus(status), steps=steps, **{**defaults, **fields})


def failed(**fields: Any) -> FlowResult:
    """Make the result of a flow whose only step failed."""
    error = ValueError("boom")
    return flow(step(status="failed", error=error), status="failed", error=error, **fields)


def saved(value: object) -> Any:
    """Send a step's value through `to_dict` and JSON."""
    text = json.dumps(flow(step(value=value)).to_dict(), allow_nan=False)
    return json.loads(text)["steps"][0]["value"]


def type_name(value: object) -> str:
    """Name a parameter: not every value here can be shown."""
    return type(value).__name__


class Broken:
    """An object that cannot be shown."""

    def __repr__(self) -> NoReturn:
        raise RuntimeError("no repr")


class Wicked:
    """An object that raises even when it is asked for its class."""

    def _refuse(self) -> NoReturn:
        raise RuntimeError("no class")

    __class__ = property(_refuse)

    def __repr__(self) -> str:
        return "<wicked>"


class MuteError(Exception):
    """An error that has no message to give."""

    def __str__(self) -> NoReturn:
        raise SystemExit("no str")  # no `Exception`


# Statuses


def test_a_status_equals_its_text() -> None:
    """Statuses can be compared with plain strings."""
    assert "completed" == flow(step()).status


def test_statuses_are_those_of_the_contract() -> None:
    """A step can be skipped, a flow cannot, and a rollback has its own words."""
    assert [
        ["completed", "failed", "cancelled", "skipped"],
        ["completed", "failed", "cancelled"],
        ["not_needed", "complete", "incomplete"],
        ["completed", "failed", "skipped"],
    ] == [list(kind) for kind in (StepStatus, FlowStatus, RollbackStatus, CompensationStatus)]


# Steps, groups, compensations


@pytest.mark.parametrize("status", list(StepStatus))
def test_step_is_ok_only_when_completed(status: StepStatus) -> None:
    """`ok` of a step means completed."""
    assert (status == "completed") == step(status=status).ok


def test_step_fields_are_positional() -> None:
    """The order of the fields is part of what the runner relies on."""
    made = StepResult("a", None, StepStatus.COMPLETED, 7, None, 1, 0.1, 0.2, 0.0, NOW, "inline", 42)
    assert (7, 1, 0.1, 0.2, "inline", 42, None) == (
        *(made.value, made.attempts, made.queued, made.duration, made.pool, made.worker),
        made.compensation,
    )


def test_step_repr_shows_no_value() -> None:
    """The repr of a step is short and free of what users computed."""
    assert "<StepResult 'a' completed>" == repr(step(value="secret"))


def test_step_repr_names_the_type_of_the_error() -> None:
    """The repr of a failed step says what kind of error it was."""
    failed_step = step(status="failed", error=ValueError("secret"))
    assert "<StepResult 'a' failed ValueError>" == repr(failed_step)


def test_group_counts_its_steps() -> None:
    """The counts of a group come from its steps; skipped ones are in none."""
    statuses = ["completed", "completed", "completed", "failed", "failed", "cancelled", "skipped"]
    counted = group("g", *(step(f"s{i}", status) for i, status in enumerate(statuses)))
    assert (3, 2, 1) == (counted.completed, counted.failed, counted.cancelled)


@pytest.mark.parametrize("status", list(StepStatus))
def test_group_is_ok_only_when_completed(status: StepStatus) -> None:
    """`ok` of a group means completed, not that every member did."""
    assert (status == "completed") == group("g", step(status="failed"), status=status).ok


@pytest.mark.parametrize("status", list(CompensationStatus))
def test_compensation_is_ok_only_when_completed(status: CompensationStatus) -> None:
    """`ok` of a compensation means completed."""
    assert (status == "completed") == compensation(status=status).ok


def test_compensation_is_not_late_unless_said() -> None:
    """A compensation belongs to the rollback unless it is marked as late."""
    assert not compensation().late


def test_compensation_repr_names_the_step() -> None:
    """The repr of a compensation says whose it was."""
    assert "<CompensationResult 'a' failed OSError>" == repr(
        compensation(status="failed", error=OSError("disk"))
    )


# Looking things up


@pytest.mark.parametrize("status", list(FlowStatus))
def test_flow_is_ok_only_when_completed(status: FlowStatus) -> None:
    """`ok` of a flow means completed."""
    assert (status == "completed") == flow(step(), status=status).ok


def test_flow_with_tolerated_failures_is_partial() -> None:
    """A completed flow with a failed member is partial."""
    assert flow(step(), step("b", "failed", group="g")).partial


def test_flow_without_failures_is_not_partial() -> None:
    """A completed flow whose steps all completed is whole."""
    assert not flow(step(), step("b")).partial


def test_failed_flow_is_not_partial() -> None:
    """A failed flow is failed, however much of it completed."""
    assert not flow(step(), step("b", "failed"), status="failed").partial


def test_item_is_the_step_of_that_name() -> None:
    """`result[name]` finds a step."""
    wanted = step("b")
    assert wanted is flow(step("a"), wanted)["b"]


def test_item_is_the_group_of_that_name() -> None:
    """`result[name]` finds a group, too."""
    result = flow(step("a", group="g"))
    assert result.groups["g"] is result["g"]


def test_unknown_item_names_flow_and_nearest_name() -> None:
    """The message of a wrong name helps to find the right one."""
    with pytest.raises(KeyError) as caught:
        flow(step("fetch-user"))["fetch-usr"]
    assert (
        "flow 'checkout' has no step or group 'fetch-usr'; did you mean 'fetch-user'?"
        == (caught.value.args[0])
    )


def test_unknown_item_without_a_near_name() -> None:
    """A name that is like no other gets no suggestion."""
    with pytest.raises(KeyError) as caught:
        flow(step("fetch-user"))["xyz"]
    assert "flow 'checkout' has no step or group 'xyz'" == caught.value.args[0]


def test_unknown_item_that_is_no_string() -> None:
    """A number is a wrong name like any other."""
    with pytest.raises(KeyError, match="has no step or group 0"):
        flow(step())[0]  # type: ignore[index]


def test_unknown_item_of_a_huge_flow_is_not_compared() -> None:
    """No time is spent on finding a near name among thousands."""
    huge = flow(*(step(f"step-{i}") for i in range(2000)))
    with pytest.raises(KeyError) as caught:
        huge["step-2000"]
    assert "flow 'checkout' has no step or group 'step-2000'" == caught.value.args[0]


@pytest.mark.parametrize(
    ("name", "known"), [("a", True), ("g", True), ("b", False), (0, False), (None, False)]
)
def test_in_knows_steps_and_groups(name: object, known: bool) -> None:
    """`in` takes any name that `[]` takes."""
    assert known == (name in flow(step("a", group="g")))


def test_result_is_not_iterable() -> None:
    """Iterating a result is refused at once, not with a `KeyError` for 0."""
    with pytest.raises(TypeError, match="not iterable"):
        iter(flow(step()))  # type: ignore[call-overload]


def test_values_are_those_of_completed_steps() -> None:
    """`values` leaves out steps that have none, and keeps `None`."""
    result = flow(step("a", value=1), step("b", "failed", value=2), step("c", value=None))
    assert {"a": 1, "c": None} == result.values


def test_flow_repr_is_short() -> None:
    """The repr of a flow's result does not list its steps."""
    assert "<FlowResult 'checkout' failed ValueError>" == repr(failed())


# raise_for_status


def test_raise_for_status_returns_the_completed_result() -> None:
    """A completed result is handed on, so that calls can be chained."""
    result = flow(step())
    assert result is result.raise_for_status()


@pytest.mark.parametrize("rollback", ["not_needed", "complete"])
def test_raise_for_status_of_a_failed_flow(rollback: str) -> None:
    """A failed flow that left nothing behind raises `FlowFailedError` itself."""
    with pytest.raises(FlowFailedError) as caught:
        failed(rollback=RollbackStatus(rollback)).raise_for_status()
    assert FlowFailedError is type(caught.value)


def test_raise_for_status_hands_the_result_over() -> None:
    """The error that is raised carries the result."""
    result = failed()
    with pytest.raises(FlowFailedError) as caught:
        result.raise_for_status()
    assert result is caught.value.result


def test_raise_for_status_is_chained_from_the_error_of_the_flow() -> None:
    """The cause of what is raised is the very error of the flow."""
    result = failed()
    with pytest.raises(FlowFailedError) as caught:
        result.raise_for_status()
    assert result.error is caught.value.__cause__


def test_raise_for_status_tells_an_incomplete_rollback() -> None:
    """The errors of failed compensations are on the `RollbackIncompleteError`, in their order."""
    first, second = OSError("disk"), KeyError("x")
    result = failed(
        rollback=RollbackStatus.INCOMPLETE,
        compensations=(
            compensation("c", "failed", error=first),
            compensation("b", "completed"),
            compensation("a", "failed", error=second),
        ),
    )
    with pytest.raises(RollbackIncompleteError) as caught:
        result.raise_for_status()
    assert (first, second) == caught.value.compensation_errors


def test_raise_for_status_of_a_cancelled_flow_gives_the_reason() -> None:
    """A cancelled flow raises with the reason that the token was given."""
    result = flow(step(), status="cancelled", error=FlowCancelledError("closing time"))
    with pytest.raises(FlowCancelledError) as caught:
        result.raise_for_status()
    assert ("closing time", result) == (caught.value.reason, caught.value.result)


def test_raise_for_status_prefers_cancelled_to_incomplete() -> None:
    """A cancelled flow raises `FlowCancelledError` even when its rollback is incomplete."""
    result = flow(
        step(),
        status="cancelled",
        error=FlowCancelledError("closing time"),
        rollback=RollbackStatus.INCOMPLETE,
    )
    with pytest.raises(FlowCancelledError, match="closing time"):
        result.raise_for_status()


def test_raise_for_status_of_an_interrupted_flow() -> None:
    """A flow ended by Ctrl-C is cancelled without a reason."""
    result = flow(step(), status="cancelled", error=KeyboardInterrupt())
    with pytest.raises(FlowCancelledError) as caught:
        result.raise_for_status()
    assert caught.value.reason is None


def test_raise_for_status_leaves_no_cycle() -> None:
    """The error in the result does not come to refer to the result."""
    error = FlowCancelledError("closing time")
    with pytest.raises(FlowCancelledError):
        flow(step(), status="cancelled", error=error).raise_for_status()
    assert error.result is None


# table


def lines(result: FlowResult) -> list[list[str]]:
    """Split the table into its rows (head and rule included), and these at wide gaps."""
    rows = result.table().split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in row.split("  ") if cell.strip()] for row in rows]


def test_table_has_a_row_per_step() -> None:
    """A step's row shows how it went and what it returned."""
    table = lines(flow(step("a", value=[1, 2], compensation=CompensationStatus.FAILED)))
    assert ["a", "completed", "1", "0.250 s", "thread", "[1, 2]", "failed"] == table[2]


def test_table_shows_the_error_of_a_failed_step() -> None:
    """A failed step's row shows the type and message of its error."""
    assert "ValueError: boom" == lines(failed())[2][5]


def test_table_shows_an_error_without_a_message() -> None:
    """An error that says nothing is shown by its type alone."""
    assert "ValueError" == lines(flow(step(status="failed", error=ValueError())))[2][5]


def test_table_shows_neither_time_nor_value_of_a_step_that_never_ran() -> None:
    """A skipped step's row is empty where there is nothing to tell."""
    skipped = step("a", "skipped", attempts=0, duration=0.0)
    assert ["a", "skipped", "0", "thread"] == lines(flow(skipped))[2]


def test_table_lists_members_under_their_group() -> None:
    """A group has a row of its own, followed by those of its members."""
    result = flow(step("a"), step("b", group="g"), step("c", group="g"), step("d"))
    assert ["a", "g", "- b", "- c", "d"] == [row[0] for row in lines(result)[2:]]


def test_table_keeps_two_adjacent_groups_apart() -> None:
    """Members are listed under the group they are in."""
    result = flow(step("a", group="g"), step("b", group="h"))
    assert ["g", "- a", "h", "- b"] == [row[0] for row in lines(result)[2:]]


def test_table_shows_how_a_group_was_judged() -> None:
    """A group's row shows its own status, duration and error."""
    member = step("a", "failed", group="g")
    failed_group = group("g", member, status="failed", error=OSError("down"))
    result = flow(member, groups={"g": failed_group})
    assert ["g", "failed", "0.500 s", "OSError: down"] == lines(result)[2]


@pytest.mark.parametrize(
    ("duration", "shown"),
    [(0.0000125, "0.000013 s"), (0.0123, "0.012 s"), (75.0, "75.000 s")],
)
def test_table_shows_readable_seconds(duration: float, shown: str) -> None:
    """Durations are seconds without an exponent, finer when they are short."""
    assert shown == lines(flow(step(duration=duration)))[2][3]


def test_table_does_not_reformat_names() -> None:
    """A step's name that looks like a number stays as it is."""
    assert "1e3" == lines(flow(step("1e3")))[2][0]


def test_table_of_no_steps_has_its_head() -> None:
    """A result without steps still makes a table."""
    assert "step" == lines(flow())[0][0]


def test_table_ends_with_a_summary() -> None:
    """The last line tells how the whole run went."""
    assert "checkout: completed in 1.500 s" == flow(step()).table().splitlines()[-1]


def test_summary_of_a_failed_flow_tells_rollback_and_error() -> None:
    """The last line of a failed run says why it failed and whether it was undone."""
    assert (
        "checkout: failed in 1.500 s, rollback incomplete (ValueError: boom)"
        == (failed(rollback=RollbackStatus.INCOMPLETE).table().splitlines()[-1])
    )


def test_summary_names_abandoned_steps() -> None:
    """The last line says which bodies still run."""
    assert (
        "checkout: completed in 1.500 s, still running: a, b"
        == (flow(step(), abandoned=("a", "b")).table().splitlines()[-1])
    )


@pytest.mark.parametrize(
    "text", ["\x1b[31m", "a\nb", "\r", "\x9b", "\u202e", "\u2028", "\ud800", "\x00", "\x01"]
)
def test_table_lets_no_control_character_through(text: str) -> None:
    """Whatever is not printable is escaped, wherever it comes from."""
    error = ValueError(text)
    result = flow(
        step(text, group=text, pool=text, value=text),
        step("b", "failed", error=error),
        name=text,
        error=error,
        abandoned=(text,),
    )
    assert result.table().replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "value",
    ["x" * 5000, b"x" * 5000, list(range(5000)), {"k": "v" * 5000}, 10**5000],
    ids=type_name,
)
def test_table_cuts_long_values(value: object) -> None:
    """A big value takes no more room than a small one."""
    assert max(map(len, flow(step(value=value)).table().splitlines())) < 140


def test_table_cuts_long_messages() -> None:
    """A long message takes no more room than a short one."""
    error = ValueError("x" * 5000)
    assert max(map(len, flow(step(status="failed", error=error)).table().splitlines())) < 140


@pytest.mark.parametrize("value", [Broken(), [Broken()]], ids=type_name)
def test_table_survives_values_that_cannot_be_shown(value: object) -> None:
    """A broken `repr` is no reason to lose the table."""
    assert "completed" == lines(flow(step(value=value)))[2][1]


def test_table_survives_a_value_that_raises_when_asked_for_its_class() -> None:
    """Not even a proxy that fails whenever it is touched loses the table."""
    assert "<wicked>" == lines(flow(step(value=Wicked())))[2][5]


def test_table_survives_errors_without_a_message() -> None:
    """A broken `str` is no reason to lose the table."""
    shown = lines(flow(step(status="failed", error=MuteError())))[2][5]
    assert "MuteError: <MuteError that cannot be shown>" == shown


# HTML


def test_html_escapes_exactly_once() -> None:
    """Names, messages and values appear escaped, and not twice."""
    result = flow(step("<b>&"), name="<i>&", error=ValueError('"<u>"'))
    assert [1, 1, 1] == [
        result._repr_html_().count(text)
        for text in (">&lt;b&gt;&amp;<", ">&lt;i&gt;&amp;:", "(ValueError: &quot;&lt;u&gt;&quot;)")
    ]


def test_html_has_a_row_per_step_and_group() -> None:
    """The HTML table has the same rows as the text, and a head."""
    assert 4 == flow(step("a"), step("b", group="g"))._repr_html_().count("<tr>")


def test_html_lets_no_control_character_through() -> None:
    """Control characters are escaped in HTML, too."""
    html = flow(step("\x00\ud800"))._repr_html_()
    assert html.replace("\n", "").isprintable()


# to_dict


def test_dict_has_the_attribute_names_as_keys() -> None:
    """Every level of `to_dict` uses the names that the objects use."""
    result = flow(step("a", group="g"), compensations=(compensation(),))
    data = result.to_dict()
    del data["schema_version"]
    levels = [
        (data, result),
        (data["steps"][0], result.steps[0]),
        (data["groups"]["g"], result.groups["g"]),
        (data["compensations"][0], result.compensations[0]),
    ]
    assert [] == [key for level, source in levels for key in level if not hasattr(source, key)]


def test_dict_leaves_no_field_out() -> None:
    """A field that is added to a result must be shown in `to_dict`."""
    result = flow(step("a", group="g"), compensations=(compensation(),))
    data = result.to_dict()
    levels = [
        (data, FlowResult),
        (data["steps"][0], StepResult),
        (data["groups"]["g"], GroupResult),
        (data["compensations"][0], CompensationResult),
    ]
    assert [] == [
        field.name
        for level, kind in levels
        for field in kind.__attrs_attrs__  # type: ignore[attr-defined]
        if field.init and field.name not in level
    ]


def test_dict_starts_with_the_schema_version() -> None:
    """The first key says how to read the others."""
    assert ("schema_version", 1) == next(iter(flow(step()).to_dict().items()))


def test_dict_of_a_flow() -> None:
    """What the flow's own fields become."""
    data = failed(rollback=RollbackStatus.COMPLETE, abandoned=("a",)).to_dict()
    del data["steps"]
    assert {
        "schema_version": 1,
        "name": "checkout",
        "run_id": "run-1",
        "status": "failed",
        "ok": False,
        "partial": False,
        "error": {"type": "ValueError", "message": "boom", "notes": []},
        "rollback": "complete",
        "groups": {},
        "compensations": [],
        "abandoned": ["a"],
        "started_at": "2026-01-02T03:04:05+00:00",
        "duration": 1.5,
    } == data


def test_dict_of_a_step() -> None:
    """What a step's fields become."""
    assert {
        "name": "a",
        "group": None,
        "status": "completed",
        "ok": True,
        "value": 7,
        "error": None,
        "attempts": 1,
        "queued": 0.0,
        "duration": 0.25,
        "backoff": 0.0,
        "started_at": "2026-01-02T03:04:05+00:00",
        "pool": "thread",
        "worker": "worker-1",
        "compensation": None,
    } == flow(step(value=7)).to_dict()["steps"][0]


def test_dict_of_a_group_names_its_steps() -> None:
    """A group does not repeat what `steps` of the flow holds."""
    result = flow(step("a", group="g"), step("b", "failed", group="g"))
    assert {
        "name": "g",
        "status": "completed",
        "ok": True,
        "error": None,
        "duration": 0.5,
        "completed": 1,
        "failed": 1,
        "cancelled": 0,
        "steps": ["a", "b"],
    } == result.to_dict()["groups"]["g"]


def test_dict_of_a_compensation() -> None:
    """What a compensation's fields become."""
    assert {
        "step_name": "a",
        "status": "completed",
        "ok": True,
        "error": None,
        "attempts": 1,
        "started_at": "2026-01-02T03:04:05+00:00",
        "duration": 0.125,
        "late": True,
    } == flow(compensations=(compensation(late=True),)).to_dict()["compensations"][0]


def test_dict_keeps_the_notes_of_an_error() -> None:
    """Where it happened is told in JSON, too."""
    error = ValueError("boom")
    error.add_note("step 'a' of flow 'checkout', attempt 1 of 1")
    assert ["step 'a' of flow 'checkout', attempt 1 of 1"] == (
        flow(error=error).to_dict()["error"]["notes"]
    )


def test_dict_statuses_are_plain_strings() -> None:
    """Statuses leave their enum behind."""
    assert str is type(flow(step()).to_dict()["status"])


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_dict_has_null_for_what_is_no_number(number: float) -> None:
    """NaN and infinities become `None`, deep inside values, too."""
    assert {"x": [None]} == saved({"x": [number]})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        ("text", "text"),
        (StepStatus.FAILED, "failed"),
        ((1, [2.5, "x"]), [1, [2.5, "x"]]),
        ({7}, [7]),
        (frozenset({7}), [7]),
        ({1: "a", None: "b", (1, 2): "c"}, {"1": "a", "None": "b", "(1, 2)": "c"}),
        (NOW, "2026-01-02T03:04:05+00:00"),
        (NOW.date(), "2026-01-02"),
        (b"x", "b'x'"),
        (1j, "1j"),
        (10**5000, hex(10**5000)),
        ("\ud800", "\ud800"),
        (KeyError("x"), {"type": "KeyError", "message": "'x'", "notes": []}),
        (Broken(), "<Broken that cannot be shown>"),
        ({Broken(): 1}, {"<Broken that cannot be shown>": 1}),
        (
            MuteError(),
            {"type": "MuteError", "message": "<MuteError that cannot be shown>", "notes": []},
        ),
    ],
    ids=type_name,
)
def test_dict_makes_any_value_plain(value: object, expected: object) -> None:
    """Values become JSON's own types, and what JSON does not know its `repr`."""
    assert expected == saved(value)


def test_dict_survives_a_value_that_raises_when_asked_for_its_class() -> None:
    """A proxy that fails whenever it is touched becomes its `repr`."""
    assert ["<wicked>"] == saved([Wicked()])


def test_dict_ends_in_a_list_that_holds_itself() -> None:
    """A container inside itself is cut there."""
    cycle: list[object] = [1]
    cycle.append({"again": cycle})
    assert [1, {"again": "..."}] == saved(cycle)


def test_dict_repeats_a_container_that_is_only_shared() -> None:
    """A container that occurs twice without a cycle is shown twice."""
    shared = [1]
    assert [[1], [1]] == saved([shared, shared])


def test_dict_ends_in_a_value_that_is_nested_too_deeply() -> None:
    """Nesting that JSON cannot follow is cut."""
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert isinstance(saved(deep), list)


def test_dict_asks_no_overridden_method_of_a_container() -> None:
    """A subclass that lies about its items is read as what it holds."""

    class Lying(list[int]):
        def __iter__(self) -> NoReturn:
            raise RuntimeError("no items")

    assert [1, 2] == saved(Lying([1, 2]))


def test_dict_of_a_flow_in_a_flow() -> None:
    """The result of an inner flow is shown as a result."""
    assert "inner" == saved(flow(step("x"), name="inner"))["name"]


# Pickling, cost


def test_everything_pickles() -> None:
    """A result survives pickling as a whole, statuses and groups included."""
    result = failed(groups={"g": group("g")}, compensations=(compensation(),), abandoned=("a",))
    assert result.to_dict() == pickle.loads(pickle.dumps(result)).to_dict()


def test_a_pickled_result_finds_its_own_steps() -> None:
    """After pickling, names lead to the steps of the copy, also once they had been looked up."""
    result = flow(step("a"))
    assert "a" in result
    copy = pickle.loads(pickle.dumps(result))
    assert copy.steps[0] is copy["a"]


def test_rendering_is_imported_on_use() -> None:
    """Who does not print a result does not pay for that."""
    script = (
        "import sys, syncflow.result; "
        "print([m for m in ('tabulate', 'html', 'difflib', 'syncflow.render') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert "[]\n" == done.stdout
