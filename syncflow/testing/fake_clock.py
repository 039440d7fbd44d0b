"""`FakeClock`: the time of runs, which passes only when there is nothing else to do.

Every thread that waits by the clock (a run for messages, a body in `ctx.sleep`) is *parked*. It
looks around from time to time, and whoever finds that all rests lets the clock jump. That must not
happen while anything is on its way, which the following sees to:

1. each parking and each waking is a new turn, and the clock jumps only when every parked thread has
   voted for it in this turn;
2. a thread sees which turn it is, then that there is nothing for it, no message in its inbox and
   nobody who wakes it, and then votes for that turn, if it still is;
3. what is on its way was sent by a thread before that one parked, in an earlier turn. So whoever it
   is meant for has it, and is no longer parked by the time it could vote, or finds it then.

A body that is not parked is found from the run that waits for it; see `waiting.py`.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from queue import Empty, SimpleQueue
from time import sleep
from typing import Any, Final, Self

from syncflow import policy, timing
from syncflow.context import current
from syncflow.testing.waiting import Waiter, is_busy, is_elsewhere, moment_of

__all__ = ["FakeClock"]

#: Seconds (real ones) after which a parked thread looks around, at first and at most.
_FIRST_LOOK: Final = 0.00002
_LAST_LOOK: Final = 0.001

#: Held while a clock is in use.
_in_use = threading.Lock()


class _Parked:
    """A thread that waits by the clock."""

    __slots__ = ("context", "moment", "thread", "vote", "waiter")

    def __init__(self, moment: float | None, waiter: Waiter | None, context: Any) -> None:
        #: When it wakes, if nothing else wakes it; `None`: never.
        self.moment = moment
        #: Waits for messages; `None`: a body waits.
        self.waiter = waiter
        #: Of that body.
        self.context = context
        self.thread = threading.get_ident()
        #: The turn in which it last found that there is nothing for it.
        self.vote: int | None = None


class FakeClock:
    """A clock that stands still while anything runs, and jumps when everything waits for time.

    In use between `__enter__` and `__exit__`, by all runs of this process; nothing has to be given
    to them. Backoff, timeouts, deadlines, ``drain`` and `ctx.sleep` go by it. When all runs and
    all their bodies wait, it jumps to the nearest moment that one of them waits for. Bodies that
    wait for anything else, or compute, keep it where it is; see `advance` and `wait_for`.

    While a body runs in another process it goes with the real clock, as that body does.

    Raises:
        RuntimeError: When entered while another one is in use.
    """

    def __init__(self) -> None:
        # A whole number: what a test adds to it is what is left, to the last digit.
        self._origin = float(math.ceil(timing.real()))
        #: The instant at which it was last set; and, while it goes with the real clock, when that
        #: was on the real clock. Replaced as one, so that it may be read without the lock.
        self._set: tuple[float, float | None] = (self._origin, None)
        #: Up to when timers of runs are due: at each instant, bodies come before them.
        self._settled = self._origin
        #: Guards all below. Nothing of a user's is called while it is held.
        self._lock = threading.Lock()
        self._turn = 0
        #: A dict for its order.
        self._parked: dict[_Parked, None] = {}
        #: Threads in runs, and how many runs each is in.
        self._runs: Counter[int] = Counter()
        #: Threads that wait for bodies in real time.
        self._elsewhere: set[int] = set()
        #: Contexts of bodies that have woken, and not parked since.
        self._woken: set[Any] = set()
        self._over = False

    def __enter__(self) -> Self:
        if not _in_use.acquire(blocking=False):
            raise RuntimeError("another FakeClock is in use: there can be only one at a time")
        timing.install(self)
        return self

    def __exit__(self, *_: object) -> None:
        timing.restore()
        with self._lock:
            self._over = True
        _in_use.release()

    # --- for tests ---------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Seconds that have passed on this clock, to the nanosecond."""
        return round(self.monotonic() - self._origin, 9)

    def advance(self, seconds: float | timedelta) -> None:
        """Let so many seconds pass at once. Any thread, bodies and hooks too; never waits.

        For bodies that wait for something which the clock knows nothing of, such as an `Event`.
        """
        forward = policy.seconds(seconds, "seconds", "FakeClock.advance", zero_ok=True)
        with self._lock:
            now, since = self._set
            self._set = now + forward, since
            self._settled = now + forward
            self._turn += 1

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Return once the condition holds; meanwhile, time may pass.

        For a body that waits for something else than time: it is deaf to any wish that it should
        stop, but does not stop the clock.

        Args:
            condition: Such as `Event.is_set`; called again and again in the calling thread.
        """
        parked = self._park(None, None, current.get(None))
        try:
            for look in _looks():
                self._is_due(parked, lambda: not condition())
                if condition():
                    return
                sleep(look)
        finally:
            self._unpark(parked)

    # --- what runs go by: see `syncflow.timing` ----------------------------------------------

    def monotonic(self) -> float:
        """Return the instant that it is."""
        now, since = self._set
        return now if since is None else now + timing.real() - since

    def settled(self) -> float:
        """Return the instant up to which timers are due."""
        return self._settled if self._set[1] is None else self.monotonic()

    def receive(self, inbox: SimpleQueue[Any], seconds: float, waiter: Waiter) -> Any:
        """Return the next message; see `timing.receive`."""
        if seconds <= 0:
            return inbox.get(block=False)
        parked, until = self._park(moment_of(waiter), waiter, None), timing.real() + seconds
        try:
            for look in _looks():
                if self._is_due(parked, inbox.empty):
                    break
                # What is due comes before messages, as ever: so they wait until that is decided.
                if not self._is_held(parked):
                    if not inbox.empty():
                        return inbox.get(block=False)
                    if timing.real() >= until:
                        break
                sleep(look)
            raise Empty
        finally:
            self._unpark(parked)

    def pause(self, lock: threading.Lock, until: float, context: Any) -> bool:
        """Wait for a lock; see `timing.pause`."""
        taken: list[bool] = []

        def nothing_for_it() -> bool:
            if lock.acquire(blocking=False):
                taken.append(True)
            return not taken

        parked = self._park(until, None, context)
        try:
            for look in _looks():
                if self._is_due(parked, nothing_for_it) or taken:
                    break
                if lock.acquire(timeout=look):
                    return True
            return bool(taken)
        finally:
            self._unpark(parked)

    def enter(self) -> None:
        """Take note of a run; see `timing.enter`."""
        with self._lock:
            self._runs[threading.get_ident()] += 1
            self._turn += 1

    def leave(self) -> None:
        """Take note that a run has ended; see `timing.leave`."""
        me = threading.get_ident()
        with self._lock:
            self._runs[me] -= 1
            if self._runs[me] <= 0:
                del self._runs[me]
                self._elsewhere.discard(me)
                self._go_or_stand()
            if not self._runs:
                self._woken.clear()
            self._turn += 1

    def from_real(self, instant: float) -> float:
        """Turn an instant of the real clock, on which a body elsewhere runs, into one of ours."""
        now, since = self._set
        return now if since is None else now + max(0.0, instant - since)

    def to_real(self, instant: float) -> float:
        """Turn an instant of ours into one of the real clock, as things stand."""
        return timing.real() + instant - self.monotonic()

    # --- the jumps ---------------------------------------------------------------------------

    def _park(self, moment: float | None, waiter: Waiter | None, context: Any) -> _Parked:
        parked = _Parked(moment, waiter, context)
        with self._lock:
            self._woken.discard(context)
            self._parked[parked] = None
            self._turn += 1
        return parked

    def _unpark(self, parked: _Parked) -> None:
        with self._lock:
            if parked.context is not None:
                self._woken.add(parked.context)
            del self._parked[parked]
            self._turn += 1

    def _is_due(self, parked: _Parked, nothing_for_it: Callable[[], bool]) -> bool:
        """Tell whether the time of a parked thread, which calls this, has come; vote for that."""
        turn = self._turn  # first: see the head of this file
        quiet = self._is_held(parked) or nothing_for_it()
        with self._lock:
            if self._over:
                return True
            if quiet and turn == self._turn and not self._has_come(parked):
                parked.vote = turn
                if parked.waiter is not None:
                    away = is_elsewhere(parked.waiter)
                    (self._elsewhere.add if away else self._elsewhere.discard)(parked.thread)
                    self._go_or_stand()
                if self._all_rests():
                    self._jump()
            return self._has_come(parked)

    def _has_come(self, parked: _Parked) -> bool:
        now = self.monotonic() if parked.waiter is None else self.settled()
        return parked.moment is not None and parked.moment <= now

    def _is_held(self, parked: _Parked) -> bool:
        """Tell whether the moment of a run has come, but bodies have yet to come to rest."""
        moment = parked.moment
        if parked.waiter is None or moment is None:
            return False
        return self._settled < moment <= self._set[0]

    def _go_or_stand(self) -> None:
        """Go with the real clock as long as there are bodies that do. Holds the lock."""
        now, since = self._set
        if self._elsewhere and since is None:
            self._set = now, timing.real()
        elif not self._elsewhere and since is not None:
            self._settled = now + timing.real() - since
            self._set = self._settled, None

    def _all_rests(self) -> bool:
        """Tell whether nothing will happen unless time passes. Holds the lock."""
        if self._elsewhere or any(one.vote != self._turn for one in self._parked):
            return False
        threads = {one.thread for one in self._parked}
        contexts = {one.context for one in self._parked if one.context is not None}
        if not threads.issuperset(self._runs):
            return False
        return not any(
            one.waiter is not None
            and is_busy(one.waiter, threads, contexts, self._woken, self._is_held(one))
            for one in self._parked
        )

    def _jump(self) -> None:
        """Jump to the nearest moment that somebody waits for. Holds the lock.

        Bodies wake first; once all rests again, runs see to what is due.
        """
        moments = [one.moment for one in self._parked if one.moment is not None]
        if not moments or self._is_late(min(moments)):
            return
        now = max(min(moments), self._set[0])
        self._set = now, None
        if not any(one.waiter is None and self._has_come(one) for one in self._parked):
            self._settled = now
        self._turn += 1

    def _is_late(self, moment: float) -> bool:
        """Tell whether somebody whose moment has come has yet to wake. Holds the lock."""
        return moment <= self._settled or any(
            one.waiter is None and self._has_come(one) for one in self._parked
        )


def _looks() -> Iterator[float]:
    """Yield for how long to wait, in real time, before each look around but the first."""
    look = _FIRST_LOOK
    while True:
        yield look
        look = min(2 * look, _LAST_LOOK)
