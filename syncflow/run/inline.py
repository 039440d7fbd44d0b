"""Inline bodies: they run in the thread that drives, which hears of nothing while they do."""

from __future__ import annotations

import threading

from syncflow.context import CancelToken, Context
from syncflow.run.attempt import clear_callers, perform
from syncflow.run.jobs import Attempt

__all__ = ["InlineBodies"]


class InlineBodies:
    """Runs the inline bodies of one engine.

    Args:
        token: Reaches the body that is running directly; its message cannot be read meanwhile.
    """

    def __init__(self, token: CancelToken | None) -> None:
        self._token = token
        self._thread_name = threading.current_thread().name
        #: Of the body that is running and may be asked to stop; and of any that is running.
        self._context: Context | None = None
        self._any: Context | None = None
        #: What bodies have raised; see `clear`.
        self._raised: list[BaseException] = []

    def run(self, attempt: Attempt, *, shielded: bool) -> None:
        """Run the body of an attempt here and now.

        Args:
            attempt: Gets its outcome.
            shielded: The token does not reach it.
        """
        if not shielded:
            self.reach(attempt.context)
        self._any = attempt.context
        attempt.worker = self._thread_name
        attempt.outcome = perform(attempt.step.fn, attempt.context, None)
        self._context = self._any = None
        if attempt.outcome.error is not None:
            self.raised(attempt.outcome.error)

    @property
    def cancelled(self) -> bool:
        """Whether the token has been cancelled."""
        return self._token is not None and self._token.cancelled

    def reach(self, context: Context | None) -> None:
        """Let the token reach what runs with this context; `None`: nothing runs."""
        # The token looks for the context after it was cancelled, this looks at the token after
        # the context was set: one of the two asks the body.
        self._context = context
        if context is not None and self._token is not None and self._token.cancelled:
            context._ask(self._token.reason)

    def ask(self) -> None:
        """Ask the body that is running to stop. Any thread."""
        context = self._context
        if context is not None:
            context._ask(None if self._token is None else self._token.reason)

    def ask_shielded(self) -> None:
        """Ask the body that is running to stop, be it a compensation. Any thread."""
        context = self._any
        if context is not None:
            context._ask()

    def raised(self, error: BaseException) -> None:
        """Take note of what something that was called inline has raised."""
        self._raised.append(error)

    def clear(self) -> None:
        """Empty the frames that led to bodies that failed, once these frames are done with.

        The traceback of such a body leads to the frames of its callers, and these to the results
        with the error: without this, only the garbage collector would ever free them.
        """
        for error in self._raised:
            clear_callers(error)
        self._raised.clear()
