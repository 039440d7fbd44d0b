"""Measure by taking turns: what runs beside what, in one run, on one machine, under one load."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import NamedTuple

from syncflow.bench.case import Case, Reading, Side, Work
from syncflow.bench.peers import MissingPeerError
from syncflow.bench.report import Outcome, SideReport

__all__ = ["FULL", "QUICK", "Rounds", "take_turns"]

_NOTHING = object()


class Rounds(NamedTuple):
    """How often each side is measured.

    Attributes:
        most: Rounds of a case that is soon done.
        least: Rounds of one that is not.
        seconds: Once a case has taken so long, `least` rounds are enough.
    """

    most: int
    least: int
    seconds: float


FULL = Rounds(most=15, least=5, seconds=20.0)
QUICK = Rounds(most=3, least=2, seconds=0.4)


class _Contestant:
    """One side while it is being measured."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.outcome = Outcome.MEASURED
        self.note: str | None = None
        self.samples: list[float] = []
        #: `None` once there is nothing more to measure.
        self.work: Work | None = None

    def prepare(self, stack: ExitStack) -> None:
        """Get ready, or note why that cannot be."""
        try:
            self.work = self.side.prepare(stack)
        except MissingPeerError as missing:
            self.drop(Outcome.MISSING, str(missing))
        except Exception as error:  # noqa: BLE001 - one side must not end the others
            self.drop(Outcome.FAILED, f"{type(error).__name__}: {error}")

    def turn(self) -> Reading | None:
        """Work once; `None` when there is nothing to measure."""
        if self.work is None:
            return None
        try:
            began = perf_counter()
            result = self.work()
            took = perf_counter() - began
        except Exception as error:  # noqa: BLE001 - as above
            self.drop(Outcome.FAILED, f"{type(error).__name__}: {error}")
            return None
        return result if isinstance(result, Reading) else Reading(took, result)

    def drop(self, outcome: Outcome, note: str) -> None:
        """Take no further part."""
        self.outcome, self.note = outcome, " ".join(note.split())
        self.work = None
        self.samples.clear()

    def report(self) -> SideReport:
        """Return what was measured."""
        return SideReport(
            self.side.name, self.outcome, tuple(self.samples), self.note, self.side.target
        )


@contextmanager
def _own_heap() -> Iterator[None]:
    """Keep what is there already out of the garbage collections that are measured."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def take_turns(case: Case, rounds: Rounds) -> tuple[SideReport, ...]:
    """Run all sides in turn (A B A B ...), so that whatever slows the machine slows them alike.

    One round more goes first, unmeasured. Each side is timed, unless it returns a `Reading`. A side
    that raises, or computes something else than the first one does, takes no further part:
    comparing it would mean nothing.

    Returns:
        A report for each side, in order.
    """
    with ExitStack() as stack:
        contestants = [_Contestant(side) for side in case.sides]
        for contestant in contestants:
            contestant.prepare(stack)
        with _own_heap():
            _play(contestants, rounds)
    return tuple(contestant.report() for contestant in contestants)


def _play(contestants: list[_Contestant], rounds: Rounds) -> None:
    first: object = _NOTHING
    began = perf_counter()
    for number in range(rounds.most + 1):
        if number > rounds.least and perf_counter() - began > rounds.seconds:
            break
        for contestant in contestants:
            gc.collect()  # nobody pays for the garbage of the side before
            reading = contestant.turn()
            if reading is None:
                continue
            if first is _NOTHING:
                first = reading.result
            if reading.result != first:
                contestant.drop(Outcome.DIFFERENT, "computed something else than the first side")
            elif number:
                contestant.samples.append(reading.figure)
