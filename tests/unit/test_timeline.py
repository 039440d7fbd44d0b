"""Results made by hand as drawings for a terminal."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from result_makers import flow, lap, step, undo

from syncflow.errors import DefinitionError
from syncflow.result import CompensationStatus, FlowResult, FlowStatus, StepStatus


def bars(drawing: str) -> dict[str, str]:
    """Return the bars by the labels of their rows, indentation included."""
    lines = [line.split("|") for line in drawing.splitlines() if line.count("|") == 2]
    return {label.rstrip(): bar for label, bar, _ in lines}


def notes(drawing: str) -> dict[str, str]:
    """Return what stands after the bars, by label."""
    lines = [line.split("|") for line in drawing.splitlines() if line.count("|") == 2]
    return {label.strip(): note.strip() for label, _, note in lines}


def test_draws_a_bar_where_a_step_ran() -> None:
    """All bars have one axis, which is as long as the run."""
    result = flow(step("a", 0.0, duration=0.5), step("b", 0.5, duration=1.0), duration=1.5)
    drawn = bars(result.timeline(60))
    third = len(drawn["a"]) // 3
    assert "=" * third == drawn["a"].rstrip()[:third]
    assert " " * third + "=" * (2 * third) == drawn["b"][: 3 * third]
    assert {len(drawn["a"])} == set(map(len, drawn.values()))


def test_begins_with_the_summary_and_ends_with_a_legend() -> None:
    """The legend explains what was drawn and nothing else."""
    lines = flow(step("a")).timeline(60).splitlines()
    assert "checkout: completed in 1.500 s" == lines[0]
    assert "= ran" == lines[-1]
    assert lines[2].split() == ["0", "s", "1.500", "s"]


def test_draws_waiting_lighter_and_failed_attempts_as_such() -> None:
    """First the wait for a worker, then a failed attempt, its backoff, and the last attempt."""
    laps = (lap(1, 0.0, 0.25, 0.5), lap(2, 1.0, 1.0, 1.5, error=None))
    drawing = flow(step("a", 0.25, *laps, duration=1.25)).timeline(60)
    drawn = bars(drawing)["a"]
    assert ".x.=" == "".join(mark for at, mark in enumerate(drawn) if drawn[at - 1] != mark)
    assert "1.250 s, 2 attempts" == notes(drawing)["a"]
    assert ". waited   = ran   x failed" == drawing.splitlines()[-1]


def test_a_very_short_step_is_seen() -> None:
    """It takes a column, also at the very end."""
    drawn = bars(flow(step("a", 1.5, duration=0.0)).timeline(60))["a"]
    assert "=" == drawn.strip()
    assert drawn.endswith("=")


def test_lists_members_under_their_group() -> None:
    """So are the steps of a flow under its own."""
    inner = flow(step("x", 0.5), name="inner", run_id="run-1:sub", started=0.4, duration=0.5)
    result = flow(step("a", group="g"), step("sub", 0.4, group="g", value=inner), step("b"))
    assert ["g", "  a", "  sub", "    x", "b"] == list(bars(result.timeline(60)))


def test_says_how_steps_ended() -> None:
    """What completed needs no word."""
    result = flow(
        step("a"),
        step("b", status=StepStatus.FAILED),
        step("c", status=StepStatus.CANCELLED),
        step("d", None, status=StepStatus.SKIPPED, attempts=0, duration=0.0),
        status=FlowStatus.FAILED,
    )
    drawing = result.timeline(80)
    expected = {"a": "0.250 s", "b": "0.250 s failed", "c": "0.250 s cancelled", "d": "skipped"}
    assert expected == notes(drawing)
    assert {"a": "=", "b": "x", "c": "/", "d": ""} == {
        label: bar.strip()[:1] for label, bar in bars(drawing).items()
    }


def test_compensations_come_last_in_the_order_they_ran() -> None:
    """One that failed is marked."""
    failed = undo("a", 1.25, status=CompensationStatus.FAILED, error=ValueError("no"))
    result = flow(step("a"), step("b"), compensations=(undo("b", 1.0), failed))
    drawing = result.timeline(80)
    assert ["a", "b", "undo b", "undo a"] == list(bars(drawing))
    assert ("<", "x") == tuple(bars(drawing)[label].strip()[0] for label in ("undo b", "undo a"))
    assert "0.125 s failed" == notes(drawing)["undo a"]


def test_a_map_with_failed_items_says_how_many() -> None:
    """Stretches in which items completed are not drawn as failed."""
    laps = (lap(0, 0.0, 0.0, 0.3, error=None, items=5, failed=1),)
    drawing = flow(step("m", 0.0, *laps, failed=1)).timeline(80)
    assert {"="} == set(bars(drawing)["m"].strip())
    assert "0.250 s, 1 failed" == notes(drawing)["m"]


def test_abridges_huge_runs() -> None:
    """What failed, the first and the last are drawn one by one, the others as one."""
    steps = [step(f"s{at}", at / 5000) for at in range(5000)]
    steps[2500] = step("s2500", 0.5, status=StepStatus.FAILED)
    drawing = flow(*steps).timeline(80)
    drawn = bars(drawing)
    assert 70 > len(drawn)
    assert ["s0", "s2500", "s4999"] == [name for name in ("s0", "s2500", "s4999") if name in drawn]
    counts = [note for label, note in notes(drawing).items() if label.endswith("more)")]
    assert 5000 - (len(drawn) - 2) == sum(int(note.split()[0]) for note in counts)
    assert {"completed"} == {note.split()[1] for note in counts}


def test_abridges_when_very_many_have_failed() -> None:
    """They are no reason to fill the terminal."""
    steps = [step(f"s{at}", 0.1, status=StepStatus.FAILED) for at in range(5000)]
    assert 80 > len(flow(*steps).timeline(80).splitlines())


def test_takes_the_width_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a hundred columns, where there is none."""
    result = flow(step("a"))
    monkeypatch.setenv("COLUMNS", "77")
    assert result.timeline(77) == result.timeline()
    monkeypatch.delenv("COLUMNS")
    monkeypatch.setattr("os.get_terminal_size", no_terminal)
    assert result.timeline(100) == result.timeline()


def no_terminal(descriptor: int) -> Any:
    """Stand for a stdout that is no terminal."""
    raise OSError


def test_never_draws_narrower_than_can_be_read() -> None:
    """There is always room for a bar."""
    result = flow(step("a" * 500, status=StepStatus.FAILED, attempts=10**6))
    assert result.timeline(40) == result.timeline(1)
    assert 10 <= len(next(iter(bars(result.timeline(1)).values())))


@pytest.mark.parametrize("width", [0, -1, True, math.nan, 60.5, "wide"])
def test_takes_a_whole_number_of_columns(width: Any) -> None:
    """What is no width is refused, by name and value."""
    with pytest.raises(DefinitionError, match=f"timeline: width must be .*, not {width!r}$"):
        flow(step("a")).timeline(width)


@pytest.mark.parametrize("name", ["\n", "a\x1bb", "\u202e"])
def test_shows_short_names_whole(name: str) -> None:
    """There is room for what stands for a control character."""
    assert {ascii(name)[1:-1]} == set(bars(flow(step(name)).timeline(60)))


def widest(result: FlowResult, width: int) -> int:
    """Return the length of the longest line below the summary."""
    return max(map(len, result.timeline(width).splitlines()[1:]))


names = st.text(min_size=1, max_size=90)


@given(st.lists(names, min_size=1, max_size=5, unique=True), names, st.integers(1, 250))
def test_stands_any_names(steps: list[str], flow_name: str, width: int) -> None:
    """No name makes a line longer than it may be, adds one, or gets a control character through."""
    result = flow(
        *(step(name, 0.1, group=flow_name) for name in steps),
        name=flow_name, compensations=(undo(steps[0], 1.0),),
    )  # fmt: skip
    lines = result.timeline(width).splitlines()
    assert all(line.isprintable() for line in lines)
    assert len(steps) + 7 == len(lines)
    assert widest(result, width) <= max(40, width)


times = st.one_of(st.floats(), st.floats(-1, 2), st.just(math.nan))


@given(times, times, times, st.floats(-10, 10))
def test_stands_any_times(duration: float, queued: float, length: float, start: float) -> None:
    """Made-up results are drawn somehow."""
    result = flow(
        step("a", start, duration=duration, queued=queued), duration=length,
        compensations=(undo("a", start, duration=duration),),
    )  # fmt: skip
    drawn = bars(result.timeline(60))
    assert ["a", "undo a"] == list(drawn)


def test_an_empty_result_is_a_summary() -> None:
    """A flow whose input was refused has run nothing."""
    assert "checkout: completed in 1.500 s" == flow().timeline(60).splitlines()[0]
