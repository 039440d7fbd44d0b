"""What an engine is told and tells: why it stops, and what becomes of its members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from syncflow.hooks import MapProgress
    from syncflow.run.member import Member

__all__ = ["CANCEL", "INTERRUPT", "TIMEOUT", "Stop", "Watcher"]

# The causes for which a run stops.
#: Its token was cancelled.
CANCEL: Final = "cancel"
#: Ctrl-C.
INTERRUPT: Final = "interrupt"
#: Its time is up.
TIMEOUT: Final = "timeout"


class Stop(NamedTuple):
    """Why a run stops before its last node."""

    #: In words, for the steps that are stopped.
    reason: str
    #: What the flow's result says: a `FlowTimeoutError` or a `FlowCancelledError`.
    error: Exception


class Watcher:
    """What an engine tells while it drives; here: nobody listens."""

    def began(self, member: Member, number: int) -> None:
        """Its first body has started, in attempt `number`."""

    def retrying(self, member: Member, number: int, error: Exception, delay: float) -> None:
        """It will be tried again: attempt `number`, in `delay` seconds."""

    def settled(self, member: Member) -> None:
        """It has its final status."""

    def progress(self, member: Member, progress: MapProgress) -> None:
        """A map has come so far."""
