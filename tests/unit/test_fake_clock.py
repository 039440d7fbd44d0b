"""The fake clock by itself: who waits, when it jumps, and that nothing is on its way meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from syncflow import DefinitionError, Flow, StepInterrupt, timing
from syncflow.context import Context, Snapshot
from syncflow.testing import FakeClock

#: Seconds (real ones) after which a wait has failed.
PATIENCE = 20.0


def context(step_name: str = "step") -> Context:
    """Return a context of no run."""
    return Context("flow", "run", step_name, 1, Snapshot(None, {}, {}))


def waiter(seconds: float) -> timing.Drain:
    """Return what waits for messages for so long."""
    return timing.Drain(set(), timing.monotonic() + seconds)


class Aside:
    """A function in a thread of its own, and what it returns."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self.value: Any = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.value = self._function()

    def result(self) -> Any:
        """Wait for its end; return what it returned."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.value


def until(condition: Callable[[], object]) -> None:
    """Return as soon as the condition holds."""
    last = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.0005)


def interrupted(clock: FakeClock, ctx: Context) -> float:
    """Sleep until interrupted; return when that was."""
    with pytest.raises(StepInterrupt):
        ctx.sleep(5)
    return clock.now


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Return a clock in use."""
    with FakeClock() as clock:
        yield clock


# --- in use or not ---------------------------------------------------------------------------


def test_starts_at_zero(clock: FakeClock) -> None:
    """Nothing has passed yet."""
    assert 0.0 == clock.now


def test_replaces_the_time_of_runs(clock: FakeClock) -> None:
    """All of it comes from the clock, and stands still."""
    assert timing.monotonic() == timing.monotonic() == clock.monotonic() == timing.settled()


def test_what_is_left_is_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last digit, wherever the real clock is: tests compare."""
    monkeypatch.setattr(timing, "real", lambda: 37.784)
    assert (37.784 + 1000) - 37.784 > 1000
    clock = FakeClock()
    monkeypatch.undo()
    with clock:
        left = Flow("flow").step("a", lambda ctx: ctx.remaining).run(timeout=1000)["a"].value
    assert left == 1000


def test_gives_the_real_time_back() -> None:
    """Nothing of it is left behind."""
    names = timing._REPLACED
    before = [getattr(timing, name) for name in names]
    with FakeClock():
        assert before != [getattr(timing, name) for name in names]
    assert before == [getattr(timing, name) for name in names]


def test_there_is_only_one_at_a_time(clock: FakeClock) -> None:
    """A second one says so, and leaves the first in use."""
    with pytest.raises(RuntimeError, match="only one at a time"):
        FakeClock().__enter__()
    assert timing.monotonic() == clock.monotonic()


def test_another_one_may_follow() -> None:
    """Each starts anew."""
    with FakeClock() as first:
        first.advance(5)
    with FakeClock() as second:
        assert (5.0, 0.0) == (first.now, second.now)


# --- by hand ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1.5, 2, timedelta(minutes=1), 0])
def test_advances_by_hand(clock: FakeClock, seconds: Any) -> None:
    """By seconds or a `timedelta`."""
    clock.advance(seconds)
    expected = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    assert expected == clock.now


@pytest.mark.parametrize("seconds", [-1, float("nan"), "soon", True])
def test_refuses_what_is_no_time(clock: FakeClock, seconds: Any) -> None:
    """It never goes back."""
    with pytest.raises(DefinitionError, match=r"FakeClock\.advance"):
        clock.advance(seconds)


def test_a_sleeper_wakes_when_it_is_advanced(clock: FakeClock) -> None:
    """The time has passed for everybody; the run that is going on keeps the clock from jumping."""
    timing.enter()
    sleeper = Aside(lambda: context().sleep(10) or clock.now)
    until(lambda: clock._parked)
    clock.advance(12)
    assert 12.0 == sleeper.result()
    timing.leave()


# --- jumps -----------------------------------------------------------------------------------


def test_a_sleep_takes_its_time_at_once(clock: FakeClock) -> None:
    """The clock jumps to its end."""
    context().sleep(1e8)
    assert 1e8 == clock.now


def test_a_sleeper_that_is_asked_to_stop_wakes_where_it_is(clock: FakeClock) -> None:
    """No time has passed."""
    ctx = context()
    timing.enter()
    sleeper = Aside(lambda: interrupted(clock, ctx))
    until(lambda: clock._parked)
    ctx._ask()
    assert 0.0 == sleeper.result()
    timing.leave()


def test_waits_for_messages_until_the_moment_of_the_waiter(clock: FakeClock) -> None:
    """Nothing comes, so time passes."""
    with pytest.raises(Empty):
        timing.receive(SimpleQueue(), 1000, waiter(7))
    assert 7.0 == clock.now


def test_a_message_takes_no_time(clock: FakeClock) -> None:
    """It is there already."""
    inbox: SimpleQueue[str] = SimpleQueue()
    inbox.put("news")
    assert ("news", 0.0) == (timing.receive(inbox, 1000, waiter(7)), clock.now)


def test_a_look_takes_no_time(clock: FakeClock) -> None:
    """Who does not want to wait is told at once."""
    with pytest.raises(Empty):
        timing.receive(SimpleQueue(), 0.0, waiter(7))
    assert 0.0 == clock.now


def test_jumps_to_the_nearest_moment(clock: FakeClock) -> None:
    """One after the other, in order of time, whoever came first."""
    timing.enter()
    sleepers = [Aside(lambda s=s: context().sleep(s) or clock.now) for s in (30, 10, 20)]
    until(lambda: len(clock._parked) == 3)
    timing.leave()
    assert [30.0, 10.0, 20.0] == [sleeper.result() for sleeper in sleepers]


def test_stands_still_while_a_run_goes_on(clock: FakeClock) -> None:
    """A thread that is in a run, and does not wait, keeps it where it is."""
    timing.enter()
    sleeper = Aside(lambda: context().sleep(5) or clock.now)
    until(lambda: clock._parked)
    context().sleep(3)  # from the very start, and before the other wakes
    assert 3.0 == clock.now
    timing.leave()
    assert 5.0 == sleeper.result()


def test_a_body_may_wait_for_something_else(clock: FakeClock) -> None:
    """Time passes while it does, and it goes on where that comes."""
    event = threading.Event()
    timing.enter()
    deaf = Aside(lambda: clock.wait_for(event.is_set) or clock.now)
    until(lambda: clock._parked)
    context().sleep(3)
    event.set()
    assert 3.0 == deaf.result()
    timing.leave()


def test_a_waiter_without_a_moment_waits_on(clock: FakeClock) -> None:
    """Nothing that time brings concerns it."""
    event = threading.Event()
    deaf = Aside(lambda: clock.wait_for(event.is_set) or clock.now)
    until(lambda: any(one.vote == clock._turn for one in list(clock._parked)))
    event.set()
    assert 0.0 == deaf.result()


def test_bodies_come_before_timers_of_the_same_moment(clock: FakeClock) -> None:
    """What a body does in its last moment is done when a run decides that its time is up."""
    inbox: SimpleQueue[str] = SimpleQueue()

    def body() -> None:
        context().sleep(5)
        inbox.put("in time")

    def time_is_up() -> str:
        with pytest.raises(Empty):
            timing.receive(inbox, 1000, waiter(5))
        return inbox.get_nowait()

    for _ in range(100):
        timing.enter()
        runner = Aside(time_is_up)
        until(lambda: len(clock._parked) == 1)
        sleeper = Aside(body)
        until(lambda: len(clock._parked) == 2)
        timing.leave()
        assert "in time" == runner.result()
        sleeper.result()


# --- races -----------------------------------------------------------------------------------


class StaleInbox:
    """An inbox in which a look finds nothing, and only returns when something is there."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self._messages: SimpleQueue[str] = SimpleQueue()
        self._meanwhile = meanwhile
        self.lies = 0
        self.put = self._messages.put
        self.get = self._messages.get

    def empty(self) -> bool:
        """Look, let things happen, and say what was seen."""
        seen = self._messages.empty()
        if seen and not self.lies:
            self.lies += 1
            self._meanwhile()
        return seen


def test_no_jump_while_a_message_is_on_its_way(clock: FakeClock) -> None:
    """Its sender sleeps already, and its receiver has just found that there is none.

    1. The receiver looks into its inbox: nothing.
    2. The sender puts a message there, and goes to sleep: now everybody rests.
    3. The receiver votes: for a turn that is over.
    """
    sender: list[Aside] = []

    def send_and_sleep() -> None:
        inbox.put("news")
        context().sleep(10)

    def meanwhile() -> None:
        sender.append(Aside(send_and_sleep))
        until(lambda: len(clock._parked) == 2)

    inbox = StaleInbox(meanwhile)
    message = timing.receive(inbox, 1000, waiter(100))  # type: ignore[arg-type]
    assert ("news", 0.0, 1) == (message, clock.now, inbox.lies)
    sender[0].result()


def test_no_jump_while_a_sleeper_is_being_woken(clock: FakeClock) -> None:
    """It was asked to stop by somebody who sleeps by now: it wakes before any time passes."""
    for _ in range(100):
        asked, now = context(), clock.now
        timing.enter()
        sleeper = Aside(lambda asked=asked: interrupted(clock, asked))
        until(lambda: clock._parked)
        asked._ask()
        timing.leave()
        context().sleep(10)
        assert now == sleeper.result()


def test_many_sleepers_each_wake_in_their_moment(clock: FakeClock) -> None:
    """However they come: none oversleeps, and none is late."""

    def sleep_often(seconds: int) -> list[float]:
        ctx, seen = context(), []
        for _ in range(20):
            ctx.sleep(seconds)
            seen.append(clock.now)
        return seen

    timing.enter()
    sleepers = [Aside(lambda s=s: sleep_often(s)) for s in range(1, 9)]
    until(lambda: len(clock._parked) == 8)
    timing.leave()
    expected = [[float(s * time) for time in range(1, 21)] for s in range(1, 9)]
    assert expected == [sleeper.result() for sleeper in sleepers]
