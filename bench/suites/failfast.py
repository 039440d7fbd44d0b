"""How soon a group has stopped once one of its members has failed."""

from __future__ import annotations

from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from threading import Barrier, Event
from time import perf_counter
from typing import Any

from syncflow import Context, Flow, Step
from syncflow.bench.case import Case, Reading, Settings, Side, Work
from syncflow.bench.flows import group, within
from syncflow.bench.peers import LIMIT

__all__ = ["cases"]

#: Members of the group, all running when one fails.
MEMBERS = 32

#: Seconds until `run` returns.
SOON = 0.01


class _MemberError(Exception):
    """Raised by one member, with the moment at which it was."""


def cases(_: Settings) -> list[Case]:
    """Return one case; it is quick as it is."""
    return [
        Case(
            f"1 of {MEMBERS} thread steps fails, the others sleep",
            (
                Side("syncflow", _ours, within(SOON)),
                Side(f"ThreadPoolExecutor({MEMBERS}), FIRST_EXCEPTION, an event", _theirs),
            ),
        )
    ]


def _fail(barrier: Barrier) -> None:
    barrier.wait(LIMIT)
    raise _MemberError(perf_counter())


def _ours(_: ExitStack) -> Work:
    def work() -> Reading:
        barrier = Barrier(MEMBERS)

        def sleep(ctx: Context) -> None:
            barrier.wait(LIMIT)
            ctx.sleep(LIMIT)

        members = [*group([sleep] * (MEMBERS - 1)), Step("fails", lambda _: _fail(barrier))]
        flow = Flow("failfast").parallel("group", members, fail_fast=True, max_concurrency=MEMBERS)
        result = flow.run()
        returned = perf_counter()
        stopped = result.groups["group"].cancelled
        if not isinstance(result.error, _MemberError):
            raise TypeError(f"the flow's error is {result.error!r}")
        return Reading(returned - result.error.args[0], stopped)

    return work


def _theirs(stack: ExitStack) -> Work:
    pool = stack.enter_context(ThreadPoolExecutor(MEMBERS))

    def work() -> Reading:
        barrier, stop = Barrier(MEMBERS), Event()

        def sleep() -> bool:
            barrier.wait(LIMIT)
            return stop.wait(LIMIT)

        sleepers = [pool.submit(sleep) for _ in range(MEMBERS - 1)]
        failing = pool.submit(_fail, barrier)
        members: list[Future[Any]] = [*sleepers, failing]
        try:
            wait(members, LIMIT, FIRST_EXCEPTION)
        finally:
            stop.set()  # also on Ctrl-C: the pool waits for them when it is closed
        stopped = sum(sleeper.result(LIMIT) for sleeper in sleepers)
        returned = perf_counter()
        error = failing.exception(0)
        if not isinstance(error, _MemberError):
            raise TypeError(f"the error is {error!r}")
        return Reading(returned - error.args[0], stopped)

    return work
