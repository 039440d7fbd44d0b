"""Waiting: 32 at a time should take a 32nd of the time."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from syncflow.bench.bodies import nap
from syncflow.bench.case import Case, Prepare, Reading, Settings, Side, Work
from syncflow.bench.flows import at_most, calls, steps_on
from syncflow.bench.peers import thread_pool

__all__ = ["cases"]

#: Waits at a time.
BOUND = 32

#: Seconds that each takes.
WAIT = 0.01


def _body(_: object) -> float:
    return nap(WAIT)


def cases(settings: Settings) -> list[Case]:
    """Return one case; it is quick as it is."""
    waits = settings.pick(10, 5) * BOUND
    return [
        Case(
            f"{waits} waits of {WAIT * 1000:.0f} ms, {BOUND} at a time",
            (
                Side("syncflow", steps_on(lambda _: "thread", lambda: [_body] * waits, BOUND)),
                Side("ideal", _ideal(waits), at_most(1.1)),
                Side(
                    f"ThreadPoolExecutor({BOUND})",
                    calls(thread_pool, BOUND, _body, lambda: range(waits)),
                ),
            ),
        )
    ]


def _ideal(waits: int) -> Prepare:
    """Return what it would take if starting, switching and collecting took nothing."""

    def prepare(_: ExitStack) -> Work:
        return partial(Reading, waits / BOUND * WAIT, [WAIT] * waits)

    return prepare
