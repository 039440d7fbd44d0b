"""A step whose first attempt is abandoned, and returns when it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from contract_tools import Gate, Journal, Pool, do_nothing
from frames import current_frames

from syncflow import Context, Flow, Step
from syncflow.run.jobs import Attempt

#: Seconds after which an attempt is abandoned.
SHORT = 0.1

#: What is on record when the first attempt has been undone.
UNDONE = "slow mark 1 value 1"


class Scene:
    """A step `slow` whose first attempt hangs at a gate, and what was undone of it."""

    def __init__(self, pool: Pool, gates: Callable[[str], Gate], journal: Journal) -> None:
        self.pool = pool
        self.release = gates("release")
        self.undone = gates("undone")
        self.journal = journal
        self.body_thread: threading.Thread | None = None
        self.undo_threads: list[threading.Thread] = []
        self.errors: list[BaseException | None] = []

    def body(self, ctx: Context) -> str:
        """Hang at the first attempt; then write and return which one it was."""
        if ctx.attempt == 1:
            self.body_thread = threading.current_thread()
            self.release.wait()
        ctx.set("mark", f"mark {ctx.attempt}")
        return f"value {ctx.attempt}"

    def undo(self, ctx: Context) -> None:
        """Note what is undone, and where."""
        self.undo_threads.append(threading.current_thread())
        self.errors.append(ctx.error)
        self.journal.add(ctx.step_name, ctx.get("mark"), ctx.value("slow"))
        self.undone.open()

    def step(self, **options: Any) -> Step:
        """Return the step."""
        known = {"timeout": SHORT, "compensate": self.undo, "pool": self.pool}
        return Step("slow", self.body, **(known | options))

    def tolerated(self, hooks: Any = (), **options: Any) -> Flow:
        """Return a flow whose group tolerates that the step has failed."""
        steps = [self.step(**options), Step("good", do_nothing)]
        return Flow("flow", hooks=hooks).parallel("g", steps)

    def finish(self, ctx: Context) -> None:
        """Let the hanging attempt return, and wait until it is undone."""
        self.release.open()
        self.undone.wait()

    @property
    def body_runs(self) -> bool:
        """Whether the thread of the first attempt still has to do with it, or with undoing it."""
        assert self.body_thread is not None
        if not self.body_thread.is_alive():
            return False
        frame = current_frames().get(self.body_thread.ident or 0)
        while frame is not None and frame.f_code is not Attempt.run.__code__:
            frame = frame.f_back
        return frame is not None
