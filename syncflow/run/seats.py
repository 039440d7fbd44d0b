"""Seats: so many attempts at a time on the threads of a pool, the others waiting in line.

A thread that has finished one attempt takes the next in line without anybody being woken, so the
runner may line up more tiny bodies than may run. The pool sees only seats, as its jobs.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncflow.pools.crew import Crew
    from syncflow.run.jobs import Attempt

__all__ = ["Seats"]


class Seats:
    """So many seats for one group; no more of its attempts run at a time.

    Whoever is in line has a seat to wait for, and each seat that is taken is a job of the pool. It
    is given back once: by its thread, when nobody is in line, or by the runner, which abandons it.

    Args:
        crew: The threads; they grow on demand, so a seat never waits for one.
        bound: How many there are.
    """

    __slots__ = ("_bound", "_crew", "_free", "_line", "_lock")

    def __init__(self, crew: Crew, bound: int) -> None:
        self._crew = crew
        self._bound = bound
        #: Guards both that follow. Only the crew's lock is taken while it is held.
        self._lock = threading.Lock()
        self._free = bound
        self._line: deque[Attempt] = deque()

    def start(self, attempt: Attempt) -> None:
        """Run an attempt once those before it have their seats; never blocks.

        Raises:
            RuntimeError: the pool is closed or broken; the attempt is not in line.
        """
        with self._lock:
            self._line.append(attempt)
            try:
                if self._free:
                    self._crew.start(_Seat(self))
                    self._free -= 1
                else:
                    self._crew.require_open()
            except BaseException:
                self._line.pop()
                raise

    def keeps_waiting(self, attempt: Attempt, running: int) -> bool:
        """Tell whether it is in line, and each seat is taken by one of `running` bodies."""
        with self._lock:
            return attempt in self._line and running >= self._bound - self._free

    def following(self) -> Attempt | None:
        """Return the next in line for a seat; when there is none, the seat is free."""
        with self._lock:
            if self._line:
                return self._line.popleft()
            self._free += 1
            return None

    def replace(self, seat: _Seat) -> None:
        """Give the seat of an abandoned body to the next in line, on another thread."""
        self._crew.abandon(seat)
        with self._lock:
            if not self._line:
                self._free += 1
                return
        self.start_anew()

    def start_anew(self) -> None:
        """Give a seat that nobody has to the next in line, or refuse one after the other."""
        while True:
            try:
                self._crew.start(_Seat(self))
            except RuntimeError as error:  # closed, or no thread to be had: one for each of them
                attempt = self.following()
                if attempt is None:
                    return
                attempt.refuse(error)
            else:
                return


class _Seat:
    """One seat, as a job of the pool."""

    __slots__ = ("_seats",)

    def __init__(self, seats: Seats) -> None:
        self._seats = seats

    def run(self) -> Callable[[], None] | None:
        """Run one attempt after the other; see `Job`.

        The last result is left to the thread, which counts as free before it delivers it.
        """
        deliver = None
        attempt = self._seats.following()
        try:
            while attempt is not None:
                if deliver is not None:
                    deliver()
                attempt.job = self  # before its body starts, which may be abandoned
                deliver = attempt.run()
                if deliver is None and not attempt.never_ran:
                    return None  # abandoned, and the seat is somebody else's
                attempt = self._seats.following()
            return deliver
        finally:
            # The frames of failed bodies lead here: hold nothing that leads to their errors.
            attempt = deliver = None

    def abandon(self) -> None:
        """Runner: give up on the body that runs here. Once."""
        self._seats.replace(self)

    def refuse(self, error: BaseException) -> None:
        """Refuse the next in line; the pool has an error of its own for each of the others."""
        attempt = self._seats.following()
        if attempt is not None:
            attempt.refuse(error)
            self._seats.start_anew()
