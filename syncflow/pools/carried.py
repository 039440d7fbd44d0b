"""What bodies run in (see `Hooks.around`) on its way to another process. Nothing here raises."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import Any

from syncflow.errors import SerializationError
from syncflow.pools import wire
from syncflow.run.around import Around

__all__ = ["pack_around", "unpack_around"]

logger = logging.getLogger("syncflow")

_WHAT = "what a body runs in"

#: Of a worker process: it has complained. A dict for `setdefault`: bodies may be on many threads.
_told: dict[str, object] = {}


def pack_around(around: Around | None) -> list[bytes] | None:
    """Serialise what can be; `None`: there is nothing to send."""
    if around is None or not around.parts:
        return None
    packed: list[Any] = []
    for make, complain in around.parts:
        try:
            packed.append(wire.dump_by_value(make, _WHAT))
        except SerializationError as refused:
            complain(refused)
    return packed or None


def unpack_around(packed: list[bytes] | None) -> Around | None:
    """Rebuild in a worker process what can be: it may lack a module, say."""
    if packed is None:
        return None
    parts = []
    for blob in packed:
        try:
            parts.append((wire.load(blob, _WHAT), _complain))
        except SerializationError as refused:
            _complain(refused)
    return Around(parts)


def _complain(error: BaseException) -> None:
    """Log, once a process."""
    mine = object()
    if _told.setdefault("told", mine) is mine:
        with suppress(Exception):  # a handler may raise anything
            logger.error("around of some hooks raised in process %d", os.getpid(), exc_info=error)
