"""Drive one group of steps to its end: carry out its orders, report to it what happens.

An `Engine` belongs to one thread, which alone calls it. Everything that happens elsewhere arrives
in its inbox: an ended `Attempt`, ``("began", attempt)``, a late finisher, `CANCEL`, `INTERRUPT`.
Time is a heap of moments at which to have a look, so no timer is ever taken back, and the cost of a
settled step does not depend on how many there are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from syncflow import timing
from syncflow.context import CancelToken, Context, View
from syncflow.errors import StepCancelledError
from syncflow.result import StepStatus
from syncflow.run.effects import Effect, LateFinish
from syncflow.run.failures import Terms, failure_of, noted, stopped, timed_out
from syncflow.run.group import EXPIRE, RETRY, SETTLE, START, STOP, Group, Order, Verb
from syncflow.run.inline import InlineBodies
from syncflow.run.jobs import Attempt, Scope
from syncflow.run.timers import Timers
from syncflow.run.watching import CANCEL, INTERRUPT, TIMEOUT, Stop, Watcher

if TYPE_CHECKING:
    from syncflow.run.member import Member

__all__ = ["Engine"]

#: Seconds after which a process body is asked to stop a second time.
INSIST_SECONDS: Final = 0.02

#: Seconds that the main thread sleeps at most, so that a signal that did not wake it is handled.
SIGNAL_SECONDS: Final = 0.1


class Engine:
    """Drives groups, one at a time.

    Args:
        scope: What the attempts share.
        watcher: Is told what happens to members.
        token: The run's token.
    """

    def __init__(self, scope: Scope, watcher: Watcher, token: CancelToken | None = None) -> None:
        self.scope = scope
        self.inbox: SimpleQueue[Any] = scope.inbox
        self.watcher = watcher
        #: Monotonic instant at which the run's time is up.
        self.deadline: float | None = None
        #: Why the run stops; set once, by `stop`.
        self.stopped: Stop | None = None
        #: Makes a `Stop` of `CANCEL`, `INTERRUPT` or `TIMEOUT`; None when it is to be ignored.
        self.explain: Callable[[str], Stop | None] = lambda cause: None
        #: Tells whether Ctrl-C was pressed.
        self.interrupted: Callable[[], bool] = lambda: False
        #: Attempts whose bodies are still running although nobody waits for them.
        self.adrift: set[Attempt] = set()
        #: What late finishers have reported.
        self.finished_late: list[LateFinish] = []
        self.inline = InlineBodies(token)
        # A signal handler runs when the main thread runs; the kernel may wake another thread.
        in_main = threading.current_thread() is threading.main_thread()
        self.longest_wait = SIGNAL_SECONDS if in_main else timing.LONGEST_WAIT
        self._timers = Timers()
        self._members: Sequence[Member] = ()

    def drive(
        self,
        group: Group,
        members: Sequence[Member],
        view: View,
        *,
        timeout: float | None = None,
        error: BaseException | None = None,
        shielded: bool = False,
    ) -> None:
        """Run a group until all its members have settled.

        Args:
            group: New.
            members: One for each of the group's steps.
            view: What the bodies read.
            timeout: Seconds for the whole group.
            error: In a rollback, what caused it.
            shielded: Run whatever the token, the deadline and the first Ctrl-C say.
        """
        self._group, self._members, self._view, self._error = group, members, view, error
        self._shielded = shielded
        now = timing.monotonic()
        group_deadline = None if timeout is None else now + timeout
        run_deadline = None if shielded else self.deadline
        self._terms = Terms(timeout, group_deadline, run_deadline, shielded)
        self._limit = self._terms.limit
        self._timers.clear()
        if group_deadline is not None:
            self._timers.add(group_deadline, Engine._group_time_up, timeout)
        if run_deadline is not None:
            self._timers.add(run_deadline, Engine._stop_group, TIMEOUT)
        for member in members:
            member.ready_at = now
        self._obey(group.begin())
        while group.unsettled:
            self._obey(self._next())

    def cancel(self) -> None:
        """Hear of the token. Any thread, also when the run is over."""
        self.inbox.put(CANCEL)
        self.inline.ask()

    def close(self) -> None:
        """Let go of what the run has made: the frames of failed inline bodies lead here."""
        self.inline.clear()
        for name in ("_group", "_members", "_view", "_error", "watcher", "explain"):
            setattr(self, name, None)
        self.stopped, self.interrupted = None, lambda: False  # lanes may still ask
        self._timers.clear()
        self.adrift.clear()
        self.finished_late.clear()

    def stopping(self) -> str | None:
        """Return why the run is about to stop, also when that has yet to be read; `None`: no."""
        if self.interrupted():
            return INTERRUPT
        return CANCEL if self.inline.cancelled else None

    def look(self) -> None:
        """Between groups: take note of what has arrived. Only late finishers are running."""
        while not self.inbox.empty():
            message = self.inbox.get()
            if message is CANCEL or message is INTERRUPT:
                self.stop(message)
            else:
                self.take(message)
        if self.deadline is not None and timing.monotonic() >= self.deadline:
            self.stop(TIMEOUT)

    def stop(self, cause: str) -> Stop | None:
        """Stop the run for `cause`; the first one is kept. None: it is no reason to stop now."""
        stop = self.explain(cause)
        if stop is not None and self.stopped is None:
            self.stopped = stop
        return stop

    def hurry(self) -> None:
        """Wait for running flows no longer than their grace, whatever they are undoing."""
        for member in self._members:
            if member.place.nests and member.attempt is not None:
                self._timers.after(member.step.grace, Engine._give_up, member.attempt)

    # --- orders ------------------------------------------------------------------------------

    def _obey(self, orders: list[Order]) -> None:
        """Carry out orders, and those that come of them."""
        for verb, index, detail in orders:
            if verb is START:
                orders += self._start(index)
            elif verb is SETTLE:
                self._settle(index, *detail)
            elif verb is RETRY:
                self._rest(index, detail)
            else:
                orders += self._end(index, verb, detail)

    def _start(self, index: int) -> list[Order]:
        """Start the next attempt of a member."""
        if self._group.closed:  # by what another order of the same batch has led to
            return self._group.revoked(index, self._reason())
        member, scope = self._members[index], self.scope
        step, place = member.step, member.place
        number = self._group.attempts[index]
        context = Context(
            scope.flow_name, scope.run_id, member.name, number,
            self._view, self._limit, self._error, member.item,
        )  # fmt: skip
        attempt = member.attempt = Attempt(scope, member, context)
        if place.inline:
            if scope.announce:
                self._began(attempt)
            self.inline.run(attempt, shielded=self._shielded)
            return self._ended(attempt)
        if step.timeout is not None:  # before its body can make time pass
            slack = step.grace if place.slow_to_end else 0.0
            self._timers.after(step.timeout + slack, Engine._attempt_time_up, member)
        try:
            place.start(attempt)
        except Exception as error:  # the pool is closed or broken
            return self._group.failed(index, noted(attempt, error, self._terms), started=False)
        return []

    def _rest(self, index: int, delay: float) -> None:
        """Let a member wait for its next attempt; it holds no worker meanwhile."""
        member, now = self._members[index], timing.monotonic()
        error = self._group.errors[index]
        assert error is not None
        self.watcher.retrying(member, self._group.attempts[index] + 1, error, delay)
        member.rest(self._group.attempts[index], error, now)
        self._timers.add(now + delay, Engine._rested, index)

    def _end(self, index: int, verb: Verb, detail: Any) -> list[Order]:
        """Make a running body end: STOP, DROP or EXPIRE."""
        member = self._members[index]
        attempt = member.attempt
        if attempt is None:
            return []  # settled by what another order of the same batch has led to
        if member.place.revoke(attempt):
            attempt.end()
            if verb is EXPIRE:
                return self._group.failed(index, timed_out(attempt, self._terms), started=False)
            return self._group.revoked(index, detail)
        attempt.stopping, attempt.reason = verb, detail
        if verb is EXPIRE and not member.place.slow_to_end:
            orders = self._give_up(attempt)
            if not attempt.ended:
                attempt.stopping = None  # its body ended first: that counts
            return orders
        self._insist((attempt, INSIST_SECONDS))
        if verb is not STOP or member.place.slow_to_end:
            self._timers.after(member.step.grace, Engine._give_up, attempt)
        return []

    def _settle(self, index: int, status: StepStatus, error: Exception | None) -> None:
        member = self._members[index]
        member.status, member.error = status, error
        member.attempts = self._group.attempts[index]
        member.settled_at = timing.monotonic()
        member.attempt = None
        if member.laps:
            member.keep(member.attempts, None, member.settled_at)
        if member.effect is not None:
            self.close_effect(member.effect, status is StepStatus.COMPLETED)
        self.watcher.settled(member)

    def close_effect(self, effect: Effect, in_effect: bool) -> None:
        """Decide whether a step is in effect; deal with the bodies that have waited for it."""
        for owed in effect.settle(in_effect):
            if in_effect or self.scope.late is None:
                self.adrift.discard(owed)
            else:
                self.scope.late.undo_soon(owed)

    # --- events ------------------------------------------------------------------------------

    def _next(self) -> list[Order]:
        """Wait for the next thing that happens, and report it to the group."""
        wait = self._timers.wait(self.longest_wait)
        if wait <= 0:
            look, subject = self._timers.pop()
            orders: list[Order] = look(self, subject)
            return orders
        try:
            message = timing.receive(self.inbox, wait, self)  # woken by whatever is put there
        except Empty:
            return []
        return self._ended(message) if type(message) is Attempt else self.take(message)

    def take(self, message: Any) -> list[Order]:
        """Report a message to the group."""
        if type(message) is Attempt:
            return self._ended(message)
        if message is CANCEL or message is INTERRUPT:
            return self._stop_group(message)
        if type(message) is LateFinish:
            self.note_late(message)
        else:
            self._began(message[1])
        return []

    def note_late(self, message: LateFinish) -> None:
        """Take note of an abandoned body that has ended."""
        self.adrift.discard(message.attempt)
        self.finished_late.append(message)

    def _stop_group(self, cause: str) -> list[Order]:
        stop = self.stop(cause)
        return [] if stop is None else self._group.stop(stop.reason)

    def _began(self, attempt: Attempt) -> None:
        """Tell that a step has started: once a step."""
        member = attempt.member
        if not (attempt.ended or member.begun):
            member.begun = True
            self.watcher.began(member, attempt.context.attempt)

    def _ended(self, attempt: Attempt) -> list[Order]:
        """Report the outcome of an attempt."""
        if attempt.ended:
            return []  # taken back, and its executor says so, too
        member, outcome, group = attempt.member, attempt.outcome, self._group
        index = member.index
        assert outcome is not None
        if outcome.started_at is not None:
            if self.scope.announce:
                self._began(attempt)  # should nobody have announced it
            member.queued += outcome.started_at - member.ready_at
            if member.first_started is None:
                member.first_started = outcome.started_at
            member.started_at, member.ended_at = outcome.started_at, outcome.ended_at
            member.worker = attempt.worker
        attempt.end()
        try:
            if outcome.error is None:
                if not (outcome.overdue or attempt.stopping is EXPIRE):
                    member.value = outcome.value
                    if outcome.writes:
                        member.writes = outcome.writes
                    return group.completed(index, outcome.ended_at - (outcome.started_at or 0.0))
                # It returned after its time was up: done, but not on record as done.
                self.adrift.add(attempt)
                member.the_effect().arrive(attempt)
                return group.failed(index, timed_out(attempt, self._terms))
            if isinstance(outcome.error, KeyboardInterrupt) and self.interrupted():
                self.stop(INTERRUPT)
                return group.cancelled(index, stopped(outcome.error, member.name, "Ctrl-C"))
            reason = self._reason()
            error = failure_of(attempt, outcome, self._terms, reason)
            if not isinstance(error, StepCancelledError):
                started = outcome.started_at is not None
                return group.failed(index, noted(attempt, error, self._terms), started=started)
            if outcome.started_at is None:
                return group.revoked(index, reason)
            return group.cancelled(index, error)
        finally:
            # The frames of a failed inline body lead here: hold nothing that leads to its error.
            outcome = error = attempt = member = None  # type: ignore[assignment]

    def _reason(self) -> str | None:
        """Return why bodies were asked to stop."""
        return self._group.reason if self.stopped is None else self.stopped.reason

    # --- time --------------------------------------------------------------------------------

    def _rested(self, index: int) -> list[Order]:
        if not self._shielded and (cause := self.stopping()) is not None:
            return self._stop_group(cause)  # its message is in the inbox: no attempt starts
        member, now = self._members[index], timing.monotonic()
        member.backoff += now - member.ready_at
        member.ready_at = now
        return self._group.rested(index)

    def _group_time_up(self, timeout: float) -> list[Order]:
        return self._group.time_up(timeout)

    def _attempt_time_up(self, member: Member) -> list[Order]:
        """Look whether the member's body has had its time.

        It may have started long after it was queued, or be a later attempt than the one that this
        was meant for: the timers hold on to members, not to attempts, which are gone by then.
        """
        attempt = member.attempt
        if attempt is None:
            return []
        now, step, place = timing.monotonic(), member.step, member.place
        assert step.timeout is not None
        allowed = step.timeout + (step.grace if place.slow_to_end else 0.0)
        started_at = place.started_at(attempt)
        if started_at is None:
            place.unstick(attempt, allowed)
            started_at = now
        if (due := started_at + allowed) > now:
            self._timers.add(due, Engine._attempt_time_up, member)
            return []
        return self._give_up(attempt)

    def _insist(self, subject: tuple[Attempt, float]) -> list[Order]:
        """Ask a body to stop; in a process again and again, as a signal may just miss a call."""
        attempt, pause = subject
        place = attempt.member.place
        if not attempt.ended:
            place.interrupt(attempt)
            if place.slow_to_end:
                self._timers.after(pause, Engine._insist, (attempt, 2 * pause))
        return []

    def _give_up(self, attempt: Attempt) -> list[Order]:
        """Abandon or kill a body that has had its time or its grace."""
        if attempt.ended:
            return []
        member = attempt.member
        if member.place.revoke(attempt):  # a foreign executor has not even started it
            attempt.end()
            if attempt.stopping is not None:
                return self._group.revoked(member.index, self._reason())
            return self._group.failed(member.index, timed_out(attempt, self._terms))
        # Made first: the body may return in the very moment in which it is abandoned.
        member.the_effect()
        if not member.place.give_up(attempt):
            return []
        self.adrift.add(attempt)
        self._began(attempt)  # should its message still be in the inbox
        attempt.end()
        member.ran(member.place.started_at(attempt), timing.monotonic(), attempt.worker)
        if attempt.stopping is None or attempt.stopping is EXPIRE:
            return self._group.failed(member.index, timed_out(attempt, self._terms))
        error = StepCancelledError(member.name, self._reason())
        return self._group.cancelled(member.index, error)
