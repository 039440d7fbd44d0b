"""How the members of one group start, retry, stop and settle: decisions only.

A `Group` is told what happened and answers with orders; whoever drives it carries them out. It has
no thread, no lock and no clock. A sequential step is a group of one.

A member is always in exactly one phase::

    READY --START--> RUNNING --completed, cancelled--> SETTLED
      ^                 |------failed, no retry------> SETTLED
      |                 '------failed, retry---------> RESTING
      '--------------rested-----------------------------'

Rules:

- READY members start in declaration order, retries first, as many as their lane has room for.
- `fail_fast`, `stop` and `time_up` close the group: they settle every member that is not RUNNING
  and order the RUNNING ones to stop; from then on nothing starts and nothing is retried.
- The first of `stop` and `time_up` decides what becomes of the RUNNING ones; the other changes
  nothing. Either may hurry bodies that only `fail_fast` has asked to stop.
- An event that a member's phase does not allow raises `InvalidEvent` and changes nothing.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from syncflow import policy
from syncflow.errors import (
    GroupFailedError,
    StepCancelledError,
    StepTimeoutError,
    annotate,
    describe,
)
from syncflow.result import StepStatus

if TYPE_CHECKING:
    from syncflow.flow import Step

__all__ = [
    "DROP",
    "EXPIRE",
    "RETRY",
    "SETTLE",
    "START",
    "STOP",
    "Group",
    "InvalidEvent",
    "Lane",
    "Order",
    "Verb",
    "retry_delay",
]


class Verb(enum.Enum):
    """What the driver has to do with a member."""

    START = "start its next attempt"
    RETRY = "report `rested` after `detail` seconds"
    STOP = "ask its body to stop, and wait for it"
    DROP = "ask its body to stop, and give up on it after its grace"
    EXPIRE = "its time is up: interrupt or abandon its body, then report `failed`"
    SETTLE = "it is settled: `detail` is its status and error"


#: Bound once: a class attribute costs more to look up than a global, a thousand times a group.
START, RETRY, STOP, DROP, EXPIRE, SETTLE = Verb
_COMPLETED, _FAILED, _CANCELLED = StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.CANCELLED


#: One instruction to the driver: what to do, with which member, and the verb's detail. A plain
#: tuple, because a group makes two of them for every step.
Order = tuple[Verb, int, Any]


class _Phase(enum.Enum):
    READY = "ready"
    RUNNING = "running"
    RESTING = "resting"
    SETTLED = "settled"


_READY, _RUNNING, _RESTING, _SETTLED = _Phase


class InvalidEvent(RuntimeError):  # noqa: N818
    """The driver reported what cannot have happened: a defect of syncflow, not of a flow."""


class Lane:
    """Members that share one concurrency bound.

    Args:
        bound: Most members at a time.
        eager: The pool itself keeps to the bound, so members may be queued there ahead of time.
            While bodies are tiny that saves a round trip through the runner for each. A body that
            is not ends it: other runs may want a worker, too.
    """

    __slots__ = ("ahead", "bound", "eager", "ready", "retries", "running")

    #: Seconds; a body that takes no longer is tiny.
    TINY: Final = 0.0005
    #: Most members that are queued ahead.
    MOST_AHEAD: Final = 64

    def __init__(self, bound: int, eager: bool = False) -> None:
        self.bound = bound
        self.eager = eager
        #: Members that may be queued beyond the bound: one more for each tiny body in a row.
        self.ahead = 0
        #: Members that have not started, in declaration order; members to be retried, in that of
        #: the end of their delays.
        self.ready: deque[int] = deque()
        self.retries: deque[int] = deque()
        #: Members started or queued; never above `bound` and what `ahead` allowed.
        self.running = 0

    def took(self, seconds: float) -> None:
        """Take note of how long a body of an eager lane took."""
        self.ahead = min(self.ahead + 1, self.MOST_AHEAD) if seconds <= self.TINY else 0


class Group:
    """Decide for one group.

    Args:
        steps: The members, in declaration order.
        lanes: For each member, the lane whose bound it shares.
        fail_fast: One finally failed member stops the others.
        min_success: How many members have to complete; `None`: one.
        uniform: `random.uniform`, for jitter.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        lanes: Sequence[Lane],
        *,
        fail_fast: bool = False,
        min_success: int | None = None,
        uniform: Callable[[float, float], float],
    ) -> None:
        self.steps = steps
        #: Attempts of each member that were started.
        self.attempts = [0] * len(steps)
        #: Members that are not SETTLED.
        self.unsettled = len(steps)
        self.statuses: list[StepStatus | None] = [None] * len(steps)
        self.errors: list[Exception | None] = [None] * len(steps)
        self._lanes = lanes
        self._phases = [_READY] * len(steps)
        self._fail_fast = fail_fast
        self._min_success = min_success or 1
        self._uniform = uniform
        #: Why members were asked to stop.
        self.reason: str | None = None
        #: Nothing starts any more.
        self.closed = False
        #: `stop` or `time_up` has decided.
        self._decided = False
        #: It was `stop`.
        self._stopped = False
        self._first_failed: int | None = None

    def begin(self) -> list[Order]:
        """Start as many members as there is room for. Once, first."""
        for member, lane in enumerate(self._lanes):
            lane.ready.append(member)
        orders: list[Order] = []
        for lane in dict.fromkeys(self._lanes):
            self._admit(lane, orders)
        return orders

    # --- what happened to one member ---------------------------------------------------------

    def completed(self, member: int, seconds: float) -> list[Order]:
        """Its body returned, after so many seconds."""
        orders: list[Order] = []
        self._release(member)
        lane = self._lanes[member]
        if lane.eager:
            lane.took(seconds)
        self._settle(member, _COMPLETED, None, orders)
        self._admit(self._lanes[member], orders)
        return orders

    def failed(self, member: int, error: Exception, *, started: bool = True) -> list[Order]:
        """Its attempt failed. `started=False`: its body never started; not counted, not retried."""
        orders: list[Order] = []
        self._release(member)
        if not started:
            self.attempts[member] -= 1
        delay = None
        if started and not self.closed:
            delay = retry_delay(self.steps[member], self.attempts[member], error, self._uniform)
        if delay is not None:
            self._phases[member] = _RESTING
            self.errors[member] = error
            orders.append((RETRY, member, delay))
        else:
            self._settle(member, _FAILED, error, orders)
            if self._fail_fast and not self.closed:
                orders += self._close(STOP, f"step {self.steps[member].name!r} failed")
        self._admit(self._lanes[member], orders)
        return orders

    def cancelled(self, member: int, error: Exception) -> list[Order]:
        """Its body was asked to stop, and did."""
        orders: list[Order] = []
        self._release(member)
        self._settle(member, _CANCELLED, error, orders)
        self._admit(self._lanes[member], orders)
        return orders

    def revoked(self, member: int, reason: str | None) -> list[Order]:
        """Its attempt was taken back before its body started."""
        orders: list[Order] = []
        self._release(member)
        self.attempts[member] -= 1
        self._settle_unstarted(member, reason, orders)
        return orders

    def rested(self, member: int) -> list[Order]:
        """The delay before its retry is over."""
        if self._phases[member] is _SETTLED:
            return []  # stopped meanwhile
        self._require(member, _RESTING)
        self._phases[member] = _READY
        orders: list[Order] = []
        lane = self._lanes[member]
        lane.retries.append(member)
        self._admit(lane, orders)
        return orders

    # --- what happened to all of them --------------------------------------------------------

    def stop(self, reason: str) -> list[Order]:
        """The run is asked to stop: give running bodies their grace, then give up on them."""
        if self._decided:
            return []
        self._decided = self._stopped = True
        return self._close(DROP, reason)

    def time_up(self, timeout: float) -> list[Order]:
        """The group's time is up: what has not settled fails with `StepTimeoutError`."""
        if self._decided:
            return []
        self._decided = self.closed = True
        orders: list[Order] = []
        for member, phase in enumerate(self._phases):
            if phase is _RUNNING:
                orders.append((EXPIRE, member, None))
            elif phase is not _SETTLED:
                name, attempts = self.steps[member].name, self.attempts[member]
                error = StepTimeoutError(name, timeout, attempts)
                error.__cause__ = self.errors[member]
                self._settle(member, _FAILED, error, orders)
        return orders

    # --- judging -----------------------------------------------------------------------------

    def verdict(self, name: str) -> tuple[StepStatus, Exception | None]:
        """Judge the settled group: its status, and the error when it failed.

        Args:
            name: The group's name, for the message.
        """
        if self.unsettled:
            raise InvalidEvent(f"judged with {self.unsettled} members unsettled")
        if self._fail_fast and self._first_failed is not None:
            return _FAILED, self.errors[self._first_failed]
        if self._stopped and _CANCELLED in self.statuses:
            return _CANCELLED, None
        completed = self.statuses.count(_COMPLETED)
        if completed >= self._min_success:
            return _COMPLETED, None
        errors = [error for error in self.errors if error is not None]
        if len(self.steps) == 1:
            return _FAILED, errors[0]
        wanted = f"{completed} of {len(self.steps)} steps completed, {self._min_success} needed"
        return _FAILED, GroupFailedError(f"group {name!r}: {wanted}", errors)

    # --- inside ------------------------------------------------------------------------------

    def _require(self, member: int, phase: _Phase) -> None:
        if self._phases[member] is not phase:
            raise InvalidEvent(
                f"member {member} ({self.steps[member].name!r}) is {self._phases[member].value},"
                f" not {phase.value}"
            )

    def _release(self, member: int) -> None:
        """Give the member's slot back."""
        if self._phases[member] is not _RUNNING:
            self._require(member, _RUNNING)
        self._lanes[member].running -= 1

    def _admit(self, lane: Lane, orders: list[Order]) -> None:
        """Start what the lane has room for."""
        while lane.running < lane.bound + lane.ahead and not self.closed:
            queue = lane.retries or lane.ready
            if not queue:
                return
            member = queue.popleft()
            lane.running += 1
            self._phases[member] = _RUNNING
            self.attempts[member] += 1
            orders.append((START, member, None))

    def _settle(
        self, member: int, status: StepStatus, error: Exception | None, orders: list[Order]
    ) -> None:
        if status is _FAILED and self._first_failed is None:
            self._first_failed = member
        self._phases[member] = _SETTLED
        self.statuses[member] = status
        self.errors[member] = error
        self.unsettled -= 1
        orders.append((SETTLE, member, (status, error)))

    def _settle_unstarted(self, member: int, reason: str | None, orders: list[Order]) -> None:
        """Settle a member that will not run (again): failed if it ever failed, else cancelled."""
        last = self.errors[member]
        if last is not None:
            self._settle(member, _FAILED, last, orders)
        else:
            error = StepCancelledError(self.steps[member].name, reason)
            self._settle(member, _CANCELLED, error, orders)

    def _close(self, verb: Verb, reason: str) -> list[Order]:
        """Start nothing any more: settle who does not run, order the others to stop."""
        self.closed = True
        self.reason = reason
        orders: list[Order] = []
        for member, phase in enumerate(self._phases):
            if phase is _RUNNING:
                orders.append((verb, member, reason))
            elif phase is not _SETTLED:
                self._settle_unstarted(member, reason, orders)
        return orders


def retry_delay(
    step: Step, attempts: int, error: Exception, uniform: Callable[[float, float], float]
) -> float | None:
    """Return the seconds before the next attempt; `None` when there is none for this error.

    Args:
        step: Says how often, how late and for which errors.
        attempts: Those that have failed.
        error: The last one's.
        uniform: `random.uniform`, for jitter.
    """
    if attempts > step.retries:
        return None
    try:
        if not policy.accepts(step.retry_on, error):
            return None
    except BaseException as broken:
        annotate(error, f"not retried: retry_on of step {step.name!r} raised {describe(broken)}")
        return None
    delay = policy.backoff_delay(step.backoff, step.retry_delay, attempts, step.max_retry_delay)
    return policy.full_jitter(delay, uniform) if step.jitter and delay else delay
