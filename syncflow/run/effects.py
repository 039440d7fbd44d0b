"""What abandoned bodies have done: the world must match the record.

A body that was abandoned may return after all. If its step is then on record as *not in effect*
(failed, cancelled or already compensated), what the body has done is undone at once, on its own
thread. While that is open (a later attempt is running, or the compensation is), the arrival waits,
and whoever closes the question takes it over.
"""

from __future__ import annotations

import enum
import threading
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from syncflow.result import CompensationResult
    from syncflow.run.jobs import Attempt

__all__ = ["Effect", "LateFinish", "Record"]


class Record(enum.Enum):
    """What the record says about a step."""

    OPEN = "not yet decided"
    IN_EFFECT = "completed, and not compensated"
    UNDONE = "failed, cancelled or compensated"


class Effect:
    """Whether a step is on record as in effect, for its abandoned bodies to see."""

    __slots__ = ("_lock", "_record", "_waiting", "cause")

    def __init__(self) -> None:
        #: What the step is compensated for; set before anybody is told to undo an arrival for it.
        self.cause: BaseException | None = None
        #: Guards both that follow: an arrival is either seen by `settle`, or sees what it decided.
        self._lock = threading.Lock()
        self._record = Record.OPEN
        self._waiting: list[Attempt] = []

    def settle(self, in_effect: bool) -> list[Attempt]:
        """Runner: decide. Return the arrivals that have waited for it.

        They must be undone, unless the step is in effect: then its own compensation covers them.
        """
        with self._lock:
            self._record = Record.IN_EFFECT if in_effect else Record.UNDONE
            waiting, self._waiting = self._waiting, []
        return waiting

    def reopen(self, cause: BaseException) -> None:
        """Runner: the step's compensation begins; `settle(False)` when it is over."""
        self.cause = cause
        with self._lock:
            self._record = Record.OPEN

    def arrive(self, attempt: Attempt) -> Record:
        """Any thread: the body of `attempt` has returned. Return the record as it is.

        UNDONE: undo it now. OPEN: it waits for `settle`. IN_EFFECT: nothing to do.
        """
        with self._lock:
            if self._record is Record.OPEN:
                self._waiting.append(attempt)
            return self._record


class LateFinish(NamedTuple):
    """Message to the runner: an abandoned body has ended, and been dealt with."""

    attempt: Attempt
    #: Of the compensation, when there was one to run.
    compensation: CompensationResult | None
