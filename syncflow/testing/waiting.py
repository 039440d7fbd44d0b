"""What a run waits for, as the fake clock has to know it: looks into it, and changes nothing.

A waiter is looked into while it waits: its thread does nothing, as it needs the clock's lock before
it may go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from syncflow.run.engine import Engine
from syncflow.run.jobs import Attempt
from syncflow.run.mapper import Mapper
from syncflow.timing import Drain

__all__ = ["is_busy", "is_elsewhere", "moment_of"]

#: What `syncflow.timing.receive` is told.
Waiter = Engine | Mapper | Drain


def moment_of(waiter: Waiter) -> float | None:
    """Return the instant at which it stops waiting in any case."""
    return waiter.until if isinstance(waiter, Drain) else waiter._timers.nearest


def is_elsewhere(waiter: Waiter) -> bool:
    """Tell whether it waits for a body in real time: in another process, or on its way there."""
    if isinstance(waiter, Drain):
        return any(_is_away(attempt) for attempt in waiter.adrift)
    if isinstance(waiter, Mapper):
        return waiter._place.elsewhere and any(lane.thread is None for lane in waiter._lanes)
    return any(_is_away(attempt) for attempt in _running(waiter))


def is_busy(
    waiter: Waiter,
    threads: Collection[int],
    contexts: Collection[Any],
    woken: Collection[Any],
    held: bool,
) -> bool:
    """Tell whether it waits for something that needs no time to pass.

    Args:
        waiter: Waits.
        threads: Identifiers of the threads that are waiting.
        contexts: Of the bodies that are waiting.
        woken: The contexts of bodies that have waited, and not again since.
        held: It leaves its messages for later: bodies that have ended rest, too.
    """

    def rests(attempt: Attempt) -> bool:
        return _rests(attempt, threads, contexts) or (held and _is_over(attempt))

    if isinstance(waiter, Drain):
        return any(not rests(attempt) for attempt in waiter.adrift)
    engine = waiter if isinstance(waiter, Engine) else waiter.engine
    for attempt in engine.adrift:
        # It was abandoned in its sleep: nobody waits for it, but what it does now comes first.
        late = attempt.context in woken and not _is_owed(attempt)
        if late and not rests(attempt):
            return True
    if isinstance(waiter, Mapper):
        wants_more_lanes = waiter.is_short and not waiter.supply.barred
        return wants_more_lanes or any(
            lane.thread not in threads and lane.context not in contexts
            for lane in waiter._lanes
            if not (waiter._place.is_full() if lane.thread is None else held and lane.over)
        )
    attempts = _running(engine)
    started = (one for one in attempts if one.thread is not None and one.outcome is None)
    taken = Counter(attempt.member.place for attempt in started)
    return any(
        not (rests(attempt) or _keeps_waiting(attempt, taken[attempt.member.place]))
        for attempt in attempts
    )


def _running(engine: Engine) -> list[Attempt]:
    """Return the attempts whose outcomes it waits for."""
    attempts = (member.attempt for member in engine._members)
    return [attempt for attempt in attempts if attempt is not None and not attempt.ended]


def _is_away(attempt: Attempt) -> bool:
    return attempt.member.place.elsewhere and attempt.thread is None


def _is_over(attempt: Attempt) -> bool:
    """Tell whether its body has ended, and it is decided what that means."""
    return attempt.outcome is not None and "end" in attempt._claims


def _is_owed(attempt: Attempt) -> bool:
    """Tell whether its body has ended, and it waits for what becomes of its step."""
    effect = attempt.member.effect
    return effect is not None and attempt in effect._waiting


def _rests(attempt: Attempt, threads: Collection[int], contexts: Collection[Any]) -> bool:
    """Tell whether it has begun, and goes on only when time does."""
    return attempt.thread in threads or attempt.context in contexts


def _keeps_waiting(attempt: Attempt, running: int) -> bool:
    """Tell whether it begins only when another one ends."""
    place = attempt.member.place
    return attempt.thread is None and place.keeps_waiting(attempt, running)
