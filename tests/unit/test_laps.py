"""What a map notes of its workers' time: bounded, and nothing is lost of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syncflow.laps import Lap, Stretches


def test_items_on_the_heels_of_each_other_are_one_stretch() -> None:
    """A stretch goes from the first start to the last end, and counts."""
    stretches = Stretches()
    stretches.note("a", 1.0, 2.0)
    stretches.note("a", 2.00005, 3.0, 2, failed=1, retries=2)
    assert (Lap(0, 1.0, 1.0, 3.0, "a", None, 3, 1, 2),) == stretches.laps()


def test_a_pause_parts_two_stretches() -> None:
    """Where a worker did something else, or nothing, there is a gap."""
    stretches = Stretches()
    stretches.note("a", 1.0, 2.0)
    stretches.note("a", 2.5, 3.0)
    assert [(1.0, 2.0), (2.5, 3.0)] == [(lap.started_at, lap.ended_at) for lap in stretches.laps()]


def test_workers_have_stretches_of_their_own() -> None:
    """What two workers do at a time is not one stretch."""
    stretches = Stretches()
    stretches.note("a", 1.0, 2.0)
    stretches.note(17, 1.5, 2.5)
    assert ["a", 17] == [lap.worker for lap in stretches.laps()]


def test_a_million_items_are_some_hundred_stretches() -> None:
    """However far apart they are, neighbours become one when there are too many."""
    stretches = Stretches()
    for at in range(100_000):
        stretches.note(at % 3, float(at), at + 0.5, failed=at % 2)
    laps = stretches.laps()
    assert len(laps) <= Stretches.MOST
    assert (100_000, 50_000) == (sum(lap.items for lap in laps), sum(lap.failed for lap in laps))


def test_ever_new_workers_are_some_hundred_stretches() -> None:
    """Each abandoned thread is another worker: from some number on they are not told apart."""
    stretches = Stretches()
    for at in range(10_000):
        stretches.note(f"thread-{at}", float(at), at + 0.5)
    laps = stretches.laps()
    assert len(laps) <= Stretches.MOST
    assert Stretches.MOST_WORKERS + 1 == len({lap.worker for lap in laps})
    assert 10_000 == sum(lap.items for lap in laps)


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1), st.floats(0, 1)), max_size=1500))
def test_stretches_of_a_worker_never_overlap(noted: list[tuple[int, float, float]]) -> None:
    """They are in order, and each ends before the next starts."""
    stretches, now = Stretches(), dict.fromkeys(range(4), 0.0)
    for worker, pause, length in noted:
        started_at = now[worker] + pause
        now[worker] = started_at + length
        stretches.note(worker, started_at, now[worker])
    last: dict[object, float] = {}
    for lap in stretches.laps():
        assert lap.started_at is not None
        assert last.get(lap.worker, -1.0) < lap.started_at <= lap.ended_at
        last[lap.worker] = lap.ended_at


def test_moves_to_another_clock() -> None:
    """All instants move, and nothing else."""
    lap = Lap(2, 1.0, None, 3.0, "a", "Oops", 4, 5, 6)
    assert Lap(2, 11.0, None, 13.0, "a", "Oops", 4, 5, 6) == lap.moved(10.0)
    assert 12.0 == lap._replace(started_at=2.0).moved(10.0).started_at
