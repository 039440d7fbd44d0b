"""Drive one map to its end: feed the lanes, take their reports, see to time limits and stops.

A `Mapper` belongs to the thread that called `run`, which alone writes its tally. Lanes take items
from the supply, put reports into the outbox and touch nothing else. They wake this thread only when
there is something for it to do, which it tells them by `_asleep`:

1. this thread sets `_asleep`, and then looks into the outbox once more before it waits;
2. a lane puts its report into the outbox, and then looks at `_asleep`.

So either this thread sees the report, or the lane sees that it has to wake it. A report that can
wait, while the supply is well filled, does not wake it.
"""

from __future__ import annotations

import random
from collections import deque
from queue import Empty
from typing import TYPE_CHECKING, Any, Final

from syncflow import timing
from syncflow.context import View
from syncflow.errors import (
    describe,
)
from syncflow.mapping import Map
from syncflow.result import StepStatus
from syncflow.run.effects import LateFinish
from syncflow.run.engine import INSIST_SECONDS, Engine
from syncflow.run.group import DROP, STOP, Verb
from syncflow.run.items import Items
from syncflow.run.jobs import Attempt
from syncflow.run.lanes import ChunkEnd, Lane, ThreadLane
from syncflow.run.member import Member
from syncflow.run.source import Source
from syncflow.run.supply import NEWS, Chunk, Pace, Supply
from syncflow.run.tally import Tally
from syncflow.run.timers import Timers
from syncflow.run.watching import CANCEL, INTERRUPT, TIMEOUT

if TYPE_CHECKING:
    from syncflow.run.places import Place

__all__ = ["Mapper"]

#: Chunks (on threads: items) that are taken from the source ahead of each worker.
AHEAD: Final = 2

#: Seconds between two reports of progress.
PROGRESS_SECONDS: Final = 0.1

#: Seconds after which it is looked whether waiting items need more threads.
GLANCE_SECONDS: Final = 0.001

#: Items that a thread takes in that time if they are so small that more threads would not help.
TINY_ITEMS: Final = 20


class Mapper:
    """Drives one map; used once.

    Args:
        engine: Of the run; belongs to the same thread.
        node: The map.
        member: Stands for the map as a step; gets its tally.
        view: What the bodies read.
        bound: Most items (on processes: chunks) at a time.
    """

    def __init__(self, engine: Engine, node: Map, member: Member, view: View, bound: int) -> None:
        self.engine = engine
        self.scope = engine.scope
        self.inbox = engine.inbox
        self.node = node
        self.supply = Supply(engine.stopping)
        self.pace = Pace(node.chunk_size)
        self._member = member
        self._place: Place = member.place
        self._bound = self._place.most_lanes(bound)
        self._tally = member.tally = Tally(node, random.uniform)
        self.items = Items(engine, node, member, view, self.supply, self._tally)
        self._source = Source(engine, node, view, self.items.context(None, 1))
        #: Lanes that have not told that they are over.
        self._lanes: set[Lane] = set()
        #: Reports, and whether the supply is held for them.
        self._outbox: deque[tuple[ChunkEnd | tuple[Attempt, Chunk], bool]] = deque()
        #: See the head of this file.
        self._asleep = False
        self._timers = Timers()

    # --- what lanes call ---------------------------------------------------------------------

    def announce(self, attempt: Attempt) -> None:
        """Tell that a body starts; only the first is of interest. Any thread."""
        if self.items.announces:
            self.inbox.put(("began", attempt))

    def report(self, report: ChunkEnd | tuple[Attempt, Chunk], *, urgent: bool) -> None:
        """Take a report; see the head of this file. Any thread."""
        # It may say that an item has failed, or was interrupted because the run's time is up: then
        # no other one starts, on any lane.
        held = urgent and (self.node.fail_fast or self._time_is_up())
        if held:
            self.supply.hold()
        self._outbox.append((report, held))
        if self._asleep and (urgent or len(self.supply) <= self._window() // 2):
            self._asleep = False
            self.inbox.put(NEWS)

    # --- the run's thread --------------------------------------------------------------------

    def drive(self) -> None:
        """Run the map until all its items have settled, and judge it."""
        member, tally, engine = self._member, self._tally, self.engine
        member.ready_at = timing.monotonic()
        if engine.deadline is not None:
            self._timers.add(engine.deadline, Mapper._stop_run, TIMEOUT)
        if self.node.step.timeout is not None:
            self._timers.add(member.ready_at, Mapper._look, self.node.step.timeout)
        if self.scope.announce:
            self._timers.add(member.ready_at + PROGRESS_SECONDS, Mapper._tell, None)
        error = self._source.begin()
        if error is None and (error := self._place.unfit(self.items.attempt((0, [], 1)))):
            engine.inline.raised(error)
        tally.expect(self._source.length)
        if error is not None:
            self._fail(error)
        try:
            while not self._over():
                # Filling may find that there is nothing more: then nobody will send a message.
                self._wait(more=self._fill() or self._over())
                self._collect()
                self._recall()
        except BaseException:  # raised by a signal handler of the user's
            self._stop(DROP, "the run was interrupted")
            raise
        finally:
            self._source.forget()
        member.status, member.error = tally.verdict()
        member.value, member.attempts = tally.values, tally.attempts
        member.backoff, member.settled_at = tally.backoff, timing.monotonic()
        member.laps = self.items.stretches.laps()
        if member.status is StepStatus.COMPLETED:
            member.writes = tally.writes()
        engine.watcher.settled(member)

    def _time_is_up(self) -> bool:
        deadline = self.engine.deadline
        return deadline is not None and timing.monotonic() >= deadline

    def _recall(self) -> None:
        """Take back lanes that wait for a worker, and would find nothing to do.

        Else the map would wait for whatever else that worker has to do first.
        """
        if not self.supply:
            for lane in list(self._lanes):
                if lane.recall():
                    self._lanes.discard(lane)
                    self.supply.leave()

    def _over(self) -> bool:
        if self._lanes or self._outbox or self.supply:
            return False
        source, tally = self._source, self._tally
        return tally.closed or not (source.open or source.interrupted or tally.retrying)

    def _window(self) -> int:
        """Return how many items may be taken from the source ahead of the workers."""
        return AHEAD * self._bound * (self.pace.size if self._place.in_chunks else 1)

    def _fill(self) -> bool:
        """Take items from the source as far as it may be; true when it should be asked on.

        An item that the source lets us wait for goes to a worker before the next one is asked for.
        """
        until = timing.real() + GLANCE_SECONDS
        while not self._tally.closed and self._source.open:
            room = self._window() - len(self.supply)
            if room <= 0:
                break
            began = timing.real()
            items, error = self._source.take(room)
            if error is not None:
                self._fail(error)
            if not items:
                break
            self._tally.take(items)
            self.supply.put(items)
            now = timing.real()
            self._staff(at_once=now - began > GLANCE_SECONDS)
            if now >= until:
                return True
        self._tally.exhausted = self._source.exhausted
        self._staff()
        return False

    def _staff(self, at_once: bool = False) -> None:
        """See to it that there are lanes for the items that wait.

        Args:
            at_once: As many as may be; else one is enough where more are only added when it shows
                that they are needed.
        """
        supply = self.supply
        missing = min(self._bound - supply.lanes, len(supply))
        if self._place.lanes_on_demand and not at_once:
            missing = min(missing, 0 if supply.lanes else 1)
        for _ in range(missing):
            try:
                self._add_lane()
            except Exception as error:  # the pool is closed or broken
                self._fail(error)
                return

    def _add_lane(self) -> None:
        lane = self._place.lane(self)
        self.supply.enter()
        self._lanes.add(lane)
        try:
            lane.enter()
        except BaseException:
            self._lanes.discard(lane)
            self.supply.leave()
            raise

    @property
    def is_short(self) -> bool:
        """Whether items wait that another lane would take."""
        supply = self.supply
        return bool(supply) and supply.lanes < self._bound and not self._tally.closed

    def _wait(self, more: bool) -> None:
        """Wait for the next thing that happens, and take note of all that has.

        Args:
            more: The source is to be asked on, or nothing is to come: only have a look.
        """
        supply = self.supply
        seconds = 0.0 if more else self._timers.wait(self.engine.longest_wait)
        short = self.is_short
        taken = supply.taken
        if short:
            seconds = min(seconds, GLANCE_SECONDS)
        self._asleep = True
        if self._outbox:
            seconds = 0.0
        try:
            # Woken by lanes and by whatever else is put into the inbox.
            message = timing.receive(self.inbox, max(0.0, seconds), self)
            while True:
                self._take(message)
                message = self.inbox.get_nowait()
        except Empty:
            pass
        self._asleep = False
        if short and not more and supply.taken - taken < TINY_ITEMS * supply.lanes:
            self._staff(at_once=True)
        now = timing.settled()  # what looks add themselves is for the next time
        while self._timers.is_due(now):
            look, subject = self._timers.pop()
            look(self, subject)

    def _take(self, message: Any) -> None:
        """Take note of a message."""
        if isinstance(message, Lane):
            self._lanes.discard(message)
        elif message is CANCEL or message is INTERRUPT:
            self._stop_run(message)
        elif type(message) is LateFinish:
            self.engine.note_late(message)
        elif type(message) is tuple and message[0] == "began":
            self.items.begun()
        elif type(message) is tuple and message[0] == "refused":
            self._lanes.discard(message[1])
            self._fail(message[2])

    def _collect(self) -> None:
        """Take the reports, and see to what follows of them."""
        items, holds = self.items, 0
        while self._outbox:
            report, held = self._outbox.popleft()
            holds += held
            if type(report) is ChunkEnd:
                items.chunk_ended(report)
            else:
                items.reported(*report)
            del report  # the frames of a failed body lead to this one, too
        self._follow()
        if holds:
            self.supply.release(holds)

    def _follow(self) -> None:
        """See to what follows of what items have come to."""
        items, tally = self.items, self._tally
        for delay, chunk in items.to_rest:
            self._timers.after(delay, Mapper._rested, chunk)
        items.to_rest.clear()
        if items.broken is not None and tally.broken is None:
            self._fail(items.broken)
        if tally.fails_fast and items.verb is None:
            self._stop(STOP, f"an item of step {self.node.name!r} failed")

    def _rested(self, chunk: Chunk) -> None:
        if self.engine.stopping() is None and self._tally.rested(chunk[0]):
            self.supply.put_again(chunk)

    # --- time and stops ----------------------------------------------------------------------

    def _look(self, timeout: float) -> None:
        """Give up on bodies that have had their time.

        A body that starts after this has its whole time to come: so no body is looked at late.
        """
        now = timing.monotonic()
        looks = [lane.look(now, timeout) for lane in list(self._lanes)]
        nearest = min((look for look in looks if look is not None), default=now + timeout)
        self._timers.add(min(nearest, now + timeout), Mapper._look, timeout)

    def _tell(self, _: None) -> None:
        """Report progress."""
        self.engine.watcher.progress(self._member, self._tally.progress)
        self._timers.after(PROGRESS_SECONDS, Mapper._tell, None)

    def _stop_run(self, cause: str) -> None:
        stop = self.engine.stop(cause)
        if stop is not None:
            self._stop(DROP, stop.reason)

    def _fail(self, error: Exception) -> None:
        """Fail the map for something that is not an item's: nothing more starts."""
        self._tally.broken = self._tally.broken or error
        self._close(describe(error))

    def _stop(self, verb: Verb, reason: str) -> None:
        """Ask running bodies to stop; with DROP, give up on those that do not."""
        if self.items.verb is DROP:
            return
        self.items.verb = verb
        self._close(reason, stopped=verb is DROP)
        self._insist(INSIST_SECONDS)
        if verb is DROP or self._place.slow_to_end:
            self._timers.after(self.node.step.grace, Mapper._drop, INSIST_SECONDS)

    def _close(self, reason: str, *, stopped: bool = False) -> None:
        """Let nothing more start: settle what waits, take lanes back that have not begun."""
        for index in self._tally.close(reason, stopped=stopped):
            self.items.settled(index, in_effect=False, error=self._tally.errors[index])
        for start, items, number in self.supply.close():
            self.items.again(start, items, number, started=False)
        for lane in list(self._lanes):
            if lane.revoke():
                self._lanes.discard(lane)
                self.supply.leave()

    def _insist(self, pause: float) -> None:
        """Ask what runs to stop; again and again, as a signal may just miss a call."""
        for lane in self._lanes:
            lane.ask()
        if self._lanes and self._place.slow_to_end:
            self._timers.after(pause, Mapper._insist, 2 * pause)

    def _drop(self, pause: float) -> None:
        """Give up on what was asked to stop and has not; and on what begins in this very moment."""
        for lane in list(self._lanes):
            lane.drop()
        if self._lanes:
            self._timers.after(pause, Mapper._drop, pause)

    def abandon_chunk(self, lane: Lane, attempt: Attempt, chunk: Chunk, queued: bool) -> None:
        """Give up on a chunk that has had its time or its grace; `queued`: it has not begun."""
        if self.items.abandon_chunk(attempt, chunk, queued):
            self._lanes.discard(lane)
            self.supply.leave()

    def abandon(self, lane: ThreadLane, attempt: Attempt, item: Any) -> None:
        """Give up on a body that has had its time or its grace."""
        if self.items.abandon(attempt, item):
            lane.leave()
            self._lanes.discard(lane)
            self.supply.leave()
