"""What lanes are handed out, and how many items at a time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncflow.run.supply import Chunk, Pace, Supply


def supply_of(items: str = "abcd", lanes: int = 1) -> Supply:
    """Return a supply of fresh items, with some lanes."""
    supply = Supply()
    supply.put(items)
    for _ in range(lanes):
        supply.enter()
    return supply


def taken(supply: Supply, pace: Pace | None = None) -> list[Chunk]:
    """Take until there is nothing left."""
    return list(iter(lambda: supply.take(pace), None))


# --- order -----------------------------------------------------------------------------------


def test_items_come_in_order_with_their_indices() -> None:
    """One at a time, each in its first attempt."""
    assert [(0, ["a"], 1), (1, ["b"], 1), (2, ["c"], 1), (3, ["d"], 1)] == taken(supply_of())


def test_indices_go_on_over_what_is_put_later() -> None:
    """They count the items of the whole map."""
    supply = supply_of("ab", lanes=2)
    taken(supply)
    supply.put(["c"])
    assert [(2, ["c"], 1)] == taken(supply)


def test_chunks_hold_items_in_a_row() -> None:
    """The index is that of the first; the last chunk has what is left."""
    supply = supply_of("abcde")
    assert [(0, ["a", "b"], 1), (2, ["c", "d"], 1), (4, ["e"], 1)] == taken(supply, Pace(2))


def test_what_has_to_run_again_goes_first() -> None:
    """In the order in which it came up, however large."""
    supply = supply_of("abcdef")
    first = supply.take(Pace(3))
    supply.put_again((2, ["c"], 2))
    supply.put_again((0, ["a", "b"], 1))
    assert (0, ["a", "b", "c"], 1) == first
    assert [(2, ["c"], 2), (0, ["a", "b"], 1), (3, ["d"], 1)] == [supply.take() for _ in range(3)]


def test_all_that_is_handed_out_is_counted() -> None:
    """Also what is handed out again."""
    supply = supply_of("abcd")
    supply.take(Pace(3))
    supply.put_again((0, ["a", "b"], 1))
    supply.take()
    assert (5, 1) == (supply.taken, len(supply))


# --- lanes -----------------------------------------------------------------------------------


def test_a_lane_that_gets_nothing_has_left() -> None:
    """So that whoever puts in knows whether somebody will come for it."""
    supply = supply_of("a", lanes=2)
    assert (2, [(0, ["a"], 1)], 1) == (supply.lanes, taken(supply), supply.lanes)


def test_a_lane_that_ends_otherwise_is_counted_out() -> None:
    """Its worker has died, or its body was abandoned."""
    supply = supply_of(lanes=2)
    supply.leave()
    assert 1 == supply.lanes


# --- holding ---------------------------------------------------------------------------------


def test_a_held_supply_hands_out_nothing() -> None:
    """Until all holds are taken back; what was in it is still there."""
    supply = supply_of("ab", lanes=3)
    supply.hold()
    supply.hold()
    found = [supply.take()]
    supply.release(1)
    found.append(supply.take())
    supply.release(1)
    assert ([None, None], (0, ["a"], 1), 1) == (found, supply.take(), supply.lanes)


# --- closing ---------------------------------------------------------------------------------


def test_a_closed_supply_hands_out_nothing() -> None:
    """And the lane that asked has left."""
    supply = supply_of()
    supply.close()
    assert (None, 0) == (supply.take(), supply.lanes)


def test_closing_returns_what_is_left() -> None:
    """What had to run again, and the rest of the fresh items in one piece."""
    supply = supply_of("abcd")
    supply.take()
    supply.put_again((0, ["a"], 2))
    assert [(0, ["a"], 2), (1, ["b", "c", "d"], 1)] == supply.close()
    assert ([], 0) == (supply.close(), len(supply))


def test_every_item_is_handed_out_once() -> None:
    """To many threads at once, while more is put in."""
    supply, total = Supply(), 20_000
    done = threading.Event()

    def lane(_: int) -> list[int]:
        found: list[int] = []
        while True:
            over = done.is_set()  # looked at first: nothing is put in after it
            supply.enter()
            while (chunk := supply.take(Pace(3))) is not None:
                start, items, _ = chunk
                assert list(range(start, start + len(items))) == items
                found += items
            if over:
                return found

    with ThreadPoolExecutor(4) as threads:
        lanes = [threads.submit(lane, number) for number in range(4)]
        for start in range(0, total, 100):
            supply.put(range(start, start + 100))
        done.set()
        found = [index for each in lanes for index in each.result(20)]
    assert list(range(total)) == sorted(found)
    assert (0, total) == (supply.lanes, supply.taken)


# --- pace ------------------------------------------------------------------------------------


def test_a_chosen_size_is_kept() -> None:
    """However long a chunk takes, and however many lanes there are."""
    pace = Pace(5)
    pace.took(5, 100.0)
    assert [5, 5, 3] == [pace.next(ready, lanes) for ready, lanes in ((100, 1), (5, 50), (3, 1))]


def test_the_first_chunk_is_one_item() -> None:
    """Nobody knows yet how long it takes."""
    assert (1, 1) == (Pace(None).size, Pace(None).next(1000, 1))


@pytest.mark.parametrize(
    ("items", "seconds", "size"),
    [
        (1, Pace.AIM, 1),
        (1, Pace.AIM / 10, 10),
        (10, Pace.AIM, 10),
        (10, 2 * Pace.AIM, 5),
        (1, 100 * Pace.AIM, 1),
        (1, 0.0, Pace.MOST),
    ],
)
def test_a_chunk_is_to_take_a_certain_time(items: int, seconds: float, size: int) -> None:
    """Judged by the one before: never less than one item, never more than a message should hold."""
    pace = Pace(None)
    pace.took(items, seconds)
    assert size == pace.size
    assert size == pace.next(10 * Pace.MOST, 1)


def test_chunks_get_smaller_towards_the_end() -> None:
    """Each lane gets half its share of what is ready, so that all end at about the same time."""
    pace = Pace(None)
    pace.took(1, Pace.AIM / 100)
    assert [100, 50, 25, 12, 10, 5] == [
        pace.next(ready, 2) for ready in (1000, 200, 100, 50, 10, 5)
    ]


def test_a_chunk_is_worth_its_message() -> None:
    """However many lanes share what is left, it is not cut into crumbs."""
    pace = Pace(None)
    pace.took(1, Pace.LEAST / 8)
    assert 8 == pace.next(20, 10)


@given(
    fixed=st.none() | st.integers(1, 100),
    took=st.lists(st.tuples(st.integers(1, Pace.MOST), st.floats(0, 1e6))),
    ready=st.integers(1, 10**6),
    lanes=st.integers(0, 1000),
)
def test_a_chunk_is_never_empty_and_never_more_than_there_is(
    fixed: int | None, took: list[tuple[int, float]], ready: int, lanes: int
) -> None:
    """Whatever was measured before."""
    pace = Pace(fixed)
    for items, seconds in took:
        pace.took(items, seconds)
    assert 1 <= pace.next(ready, lanes) <= min(ready, fixed or Pace.MOST)
