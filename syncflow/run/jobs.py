"""An attempt as a job of a pool.

The runner makes an `Attempt`, hands it to a `Place`, and finds it in its inbox when the body has
ended, with its outcome. Two questions can be asked of an attempt from two threads at once, so both
are settled by `dict.setdefault`, which is atomic: who asked first is told so, and nobody else.

- "start": does the body start (worker), or is the attempt taken back (runner)?
- "end": does its outcome count (worker), or is it abandoned (runner)? Threads only: a process
  always has an outcome, if need be that it was killed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Context as Variables
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from syncflow import timing
from syncflow.context import Context
from syncflow.run.attempt import Outcome, perform

if TYPE_CHECKING:
    from syncflow.pools.shared import Blob
    from syncflow.run.around import Around
    from syncflow.run.inner import Nest
    from syncflow.run.late import LateDesk
    from syncflow.run.member import Member

__all__ = ["Attempt", "Scope"]

_WORKER: Final = "worker"
_RUNNER: Final = "runner"


class Scope:
    """What all attempts of one run share, and no attempt changes."""

    __slots__ = (
        "announce", "around", "flow_name", "functions", "inbox", "late", "nest", "run_id",
        "variables",
    )  # fmt: skip

    def __init__(
        self,
        flow_name: str,
        run_id: str,
        variables: Variables,
        inbox: SimpleQueue[Any],
        announce: bool,
        late: LateDesk | None,
        nest: Nest | None = None,
        around: Callable[[Member, Context], Around] | None = None,
    ) -> None:
        self.flow_name = flow_name
        self.run_id = run_id
        #: The context variables of the thread that called `run`; each body gets a copy.
        self.variables = variables
        #: Where everything that happens is put; the runner alone takes out.
        self.inbox = inbox
        #: Whether bodies tell when they start: somebody watches.
        self.announce = announce
        #: Deals with abandoned attempts whose bodies end after all; None: nobody need.
        self.late = late
        #: What flows in this one are given; None: none can be in here.
        self.nest = nest
        #: Asks hooks what the body of an attempt is to run in; None: no hook has a say in that.
        self.around = around
        #: Functions of process steps, serialised once: id -> (function, bytes).
        self.functions: dict[int, tuple[Any, Blob]] = {}


class Attempt:
    """One attempt of one member; a `Job` of a thread pool."""

    __slots__ = (
        "_claims", "context", "ended", "job", "killed", "member", "outcome", "reason", "scope",
        "started_at", "step", "stopping", "submitted_at", "thread", "worker",
    )  # fmt: skip

    def __init__(self, scope: Scope, member: Member, context: Context) -> None:
        self.scope = scope
        self.member = member
        #: Its function and options; in a rollback, of the compensation.
        self.step = member.step
        self.context = context
        #: Name of the thread, or pid of the process, that runs the body.
        self.worker: str | int | None = None
        #: Identifier of the thread of this process that runs the body, or undoes it late.
        self.thread: int | None = None
        #: Written by the worker before the attempt is put into the inbox.
        self.outcome: Outcome | None = None
        #: Monotonic instant, once the body has started on a thread.
        self.started_at: float | None = None
        self._claims: dict[str, str] = {}
        #: What carries it elsewhere: the job of a process pool, the future of a foreign executor.
        self.job: Any = None
        #: Monotonic instant at which a foreign executor took it.
        self.submitted_at: float | None = None
        # The runner's own notes:
        self.ended = False
        #: Why it was asked to stop: a `Verb`, or None; and in words.
        self.stopping: Any = None
        self.reason: str | None = None
        self.killed = False
        if member.place.nests:
            assert scope.nest is not None
            context._inner = scope.nest.open(inline=member.place.inline)
        if scope.around is not None:
            context._around = scope.around(member, context)

    def claim_start(self) -> bool:
        """Worker: may the body start?"""
        return self._claims.setdefault("start", _WORKER) is _WORKER

    def revoke(self) -> bool:
        """Runner: take it back; true when its body never starts."""
        return self._claims.setdefault("start", _RUNNER) is _RUNNER

    @property
    def never_ran(self) -> bool:
        """Whether it was taken back."""
        return self._claims.get("start") is _RUNNER

    def claim_end(self) -> bool:
        """Worker: does the outcome count?"""
        return self._claims.setdefault("end", _WORKER) is _WORKER

    def abandon(self) -> bool:
        """Runner: give up on it; true when its outcome will not be put into the inbox."""
        return self._claims.setdefault("end", _RUNNER) is _RUNNER

    def time_left(self) -> float | None:
        """Return the seconds that the body has if it starts now: fewer after a foreign queue."""
        timeout = self.step.timeout
        if timeout is None or self.submitted_at is None:
            return timeout
        return max(0.0, timeout - (timing.monotonic() - self.submitted_at))

    def end(self) -> None:
        """Runner: nothing more is expected of it."""
        self.ended = True
        self.job = None  # the job leads back here

    def run(self) -> Callable[[], None] | None:
        """Run the body on the calling thread; see `Job`."""
        if not self.claim_start():
            return None
        outcome = None
        try:
            scope = self.scope
            self.started_at = timing.monotonic()
            self.thread, self.worker = threading.get_ident(), threading.current_thread().name
            if scope.announce:
                scope.inbox.put(("began", self))
            # `perform` enters the copy; the original is shared and never entered.
            outcome = scope.variables.copy().run(
                perform, self.step.fn, self.context, self.time_left()
            )
            self.outcome = outcome
            if self.claim_end():
                return partial(scope.inbox.put, self)
            if scope.late is not None:
                scope.late.ended(self)
            return None
        finally:
            # The frames of a failed body lead here: hold nothing that leads to its error.
            del self, outcome, scope

    def refuse(self, error: BaseException) -> None:
        """End without having run: the pool is broken or closed."""
        if self.claim_start():
            self.outcome = Outcome.never_started(error)
            self.scope.inbox.put(self)
