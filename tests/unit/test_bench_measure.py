"""Sides take turns, are compared by their results, and do not disturb each other by failing."""

import time

import pytest

from syncflow.bench.case import Case, Kind, Reading, Side, Target
from syncflow.bench.measure import Rounds, take_turns
from syncflow.bench.peers import MissingPeerError, require

THREE = Rounds(most=3, least=3, seconds=60.0)


def side(name, work, target=None):
    """Return a side whose work needs no preparation."""
    return Side(name, lambda stack: work, target)


def readings(*figures, result="same"):
    """Return a work that gives these readings, one a turn."""
    remaining = iter(figures)
    return lambda: Reading(next(remaining), result)


def measure(*sides, rounds=THREE):
    """Return the reports of these sides."""
    return take_turns(Case("a case", sides), rounds)


def test_takes_turns():
    """Each round has a turn of every side, in order; one round more goes first."""
    turns = []
    measure(side("a", lambda: turns.append("a")), side("b", lambda: turns.append("b")))
    assert ["a", "b"] * 4 == turns


def test_leaves_the_first_round_out():
    """It warms caches and pools up."""
    (report,) = measure(side("a", readings(99.0, 1.0, 2.0, 3.0)))
    assert (1.0, 2.0, 3.0) == report.samples


def test_times_what_takes_no_reading(monkeypatch):
    """The sample is what the clock says around the work, and nothing else."""
    now = [0.0]

    def tick(seconds):
        now[0] += seconds

    monkeypatch.setattr("syncflow.bench.measure.perf_counter", lambda: now[0])
    monkeypatch.setattr("gc.collect", lambda: tick(100.0))
    (report,) = measure(side("a", lambda: tick(8.0)), rounds=Rounds(2, 2, 1e9))
    assert (8.0, 8.0) == report.samples


def test_stops_early_when_a_case_takes_long():
    """The least number of rounds is measured in any case."""
    (report,) = measure(side("a", lambda: None), rounds=Rounds(most=9, least=2, seconds=0.0))
    assert 2 == len(report.samples)


def test_keeps_target_and_name():
    """The report tells what was aimed for."""
    target = Target(Kind.FIGURE, 1.0)
    (report,) = measure(side("a", lambda: None, target))
    assert ("a", target, "measured") == (report.name, report.target, report.outcome)


def test_refuses_a_different_result():
    """A side that computes something else than the first is dropped; the others are measured."""
    one, two, three = measure(
        side("a", readings(1, 1, 1, 1)),
        side("b", readings(1, 1, 1, 1, result="other")),
        side("c", readings(1, 1, 1, 1)),
    )
    assert ("measured", "different", "measured") == (one.outcome, two.outcome, three.outcome)
    assert ((), "computed something else than the first side") == (two.samples, two.note)


def test_refuses_a_result_that_changes():
    """Results are compared in every round, and what was measured before is dropped."""
    results = iter(["same", "same", "same", "other"])
    first, second = measure(
        side("a", readings(1, 1, 1, 1)), side("b", lambda: Reading(1, next(results)))
    )
    assert ("measured", "different", ()) == (first.outcome, second.outcome, second.samples)


def test_compares_with_the_first_side_that_works():
    """When the first side fails, the others are still compared with each other."""
    first, second, third = measure(
        side("a", lambda: 1 / 0), side("b", lambda: 1), side("c", lambda: 2)
    )
    assert ["failed", "measured", "different"] == [first.outcome, second.outcome, third.outcome]


def test_notes_what_a_side_raised():
    """The note has type and message in one line, and nothing of the side is kept."""
    turns = iter(range(4))

    def work():
        if next(turns) == 2:
            raise ValueError("two\nlines")

    (report,) = measure(side("a", work))
    assert ("failed", "ValueError: two lines", ()) == (report.outcome, report.note, report.samples)


def test_notes_what_a_preparation_raised():
    """A side that cannot be prepared has failed, and no other."""

    def prepare(stack):
        raise OSError("no more processes")

    first, second = measure(Side("a", prepare), side("b", lambda: 1))
    assert ("failed", "OSError: no more processes") == (first.outcome, first.note)
    assert 3 == len(second.samples)


def test_notes_what_is_missing():
    """A peer that is not installed is missing, and the note says how to get it."""

    def prepare(stack):
        return require("no_such_package.part")

    _, report = measure(side("a", lambda: 1), Side("b", prepare))
    assert "missing" == report.outcome
    assert "no no_such_package: pip install 'syncflow[bench]'" == report.note


def test_says_who_is_missing():
    """`require` imports what is there, and raises its own error for what is not."""
    assert require("time") is time
    with pytest.raises(MissingPeerError, match="no_such_package"):
        require("no_such_package")


def test_closes_what_sides_have_opened():
    """It is closed once all rounds are over, in reverse order."""
    events = []

    def prepare(name):
        def opened(stack):
            stack.callback(events.append, f"close {name}")
            return lambda: events.append("work")

        return opened

    measure(Side("a", prepare("a")), Side("b", prepare("b")), rounds=Rounds(1, 1, 60.0))
    assert ["work"] * 4 + ["close b", "close a"] == events


def test_shortens_a_case_to_what_has_targets():
    """The first side and those with a target stay."""
    sides = (side("a", int), side("b", int), side("c", int, Target(Kind.RATIO, 1.0)))
    assert (sides[0], sides[2]) == Case("a case", sides).shortened().sides


def test_shortens_a_case_without_targets_to_one_peer():
    """The first peer stays."""
    sides = (side("a", int), side("b", int), side("c", int))
    assert sides[:2] == Case("a case", sides).shortened().sides


def test_shortens_a_case_with_a_target_of_its_own_to_that():
    """A limit of the figure itself needs no peer."""
    sides = (side("a", int, Target(Kind.FIGURE, 1.0)), side("b", int))
    assert sides[:1] == Case("a case", sides).shortened().sides
