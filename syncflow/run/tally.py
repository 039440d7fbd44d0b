"""How the items of one map start, retry, settle and are judged: decisions only.

A `Tally` is told what happened and keeps the books; it has no thread, no lock and no clock. Of an
item it holds its value and one byte; whatever else is known of one is held only where there is
something to know (an error, state that was written), or someone who will ask (a compensation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

from syncflow.errors import (
    DefinitionError,
    GroupFailedError,
    StateConflictError,
    StepCancelledError,
)
from syncflow.hooks import MapProgress
from syncflow.result import StepStatus
from syncflow.run.group import retry_delay

if TYPE_CHECKING:
    from syncflow.mapping import Map
    from syncflow.run.effects import Effect

__all__ = ["Done", "Tally"]

# What an item's byte says.
_OPEN: Final = 0
_COMPLETED: Final = 1
_FAILED: Final = 2
_CANCELLED: Final = 3
#: Added to it: a body of the item has started, so that what it did is not known.
_STARTED: Final = 4


class Done:
    """What a compensation has to undo."""

    __slots__ = ("completed", "effect", "index", "item", "value", "writes")

    def __init__(
        self,
        index: int,
        item: Any,
        value: Any,
        writes: Mapping[str, Any],
        completed: bool,
        effect: Effect | None,
    ) -> None:
        self.index = index
        self.item = item
        self.value = value
        self.writes = writes
        #: If not, its outcome is not known.
        self.completed = completed
        #: What its abandoned bodies go by, if there are any.
        self.effect = effect


class Tally:
    """Keep the books of one map.

    Args:
        node: The map.
        uniform: `random.uniform`, for jitter.
    """

    def __init__(self, node: Map, uniform: Callable[[float, float], float]) -> None:
        self._node = node
        self._uniform = uniform
        self._total: int | None = None
        #: One byte for each item that was taken from the source.
        self._marks = bytearray()
        #: What compensations will be given.
        self._items: list[Any] | None = None if node.step.undo is None else []
        self._writes: dict[int, Mapping[str, Any]] = {}
        #: The last error of each item that has failed and not settled.
        self._last_errors: dict[int, Exception] = {}
        #: Those of them that wait for their next attempt.
        self._resting: set[int] = set()
        #: The items whose bodies ran, and whose outcomes were lost with their worker.
        self._lost: set[int] = set()
        #: How many of those have settled without another body, so that nobody knows what they did.
        self.unknown = 0
        self._first_failed: int | None = None
        self.values: list[Any] = []
        self.errors: dict[int, Exception] = {}
        self.completed = self.failed = self.cancelled = 0
        #: Attempts whose bodies started.
        self.attempts = 0
        #: Seconds that items have waited between attempts, all together.
        self.backoff = 0.0
        #: The source has no more.
        self.exhausted = False
        #: What became of the abandoned bodies of an item.
        self.effects: dict[int, Effect] = {}
        #: What fails the map and is no item's: what the source raised, say.
        self.broken: Exception | None = None
        #: Nothing starts any more.
        self.closed = False
        #: Why.
        self.reason: str | None = None
        #: The run is stopped.
        self.stopped = False

    # --- what happened -----------------------------------------------------------------------

    def expect(self, total: int | None) -> None:
        """The source tells how many items there will be; `None`: it does not."""
        self._total = total

    def take(self, items: Sequence[Any]) -> None:
        """Items were taken from the source."""
        self._marks.extend(bytes(len(items)))
        if self._items is not None:
            self._items.extend(items)
        if self._node.keep_values:
            self.values.extend(repeat(None, len(items)))

    def complete(self, index: int, value: Any, writes: Mapping[str, Any]) -> None:
        """The body of an item returned."""
        self._settle(index, _COMPLETED | _STARTED)
        self.attempts += 1
        self.completed += 1
        if self._node.keep_values:
            self.values[index] = value
        if writes:
            self._writes[index] = writes

    def complete_all(self, start: int, values: list[Any]) -> None:
        """The bodies of items in a row returned, and wrote nothing."""
        count = len(values)
        stop = start + count
        if any(self._marks[start:stop]) or self._last_errors or self._lost:
            for index, value in enumerate(values, start):
                self.complete(index, value, {})
            return
        self._marks[start:stop] = bytes((_COMPLETED | _STARTED,)) * count
        self.attempts += count
        self.completed += count
        if self._node.keep_values:
            self.values[start:stop] = values

    def fail(
        self, index: int, attempts: int, error: Exception, *, started: bool = True
    ) -> float | None:
        """An attempt of an item failed.

        Args:
            index: The item.
            attempts: How many it has had.
            error: Why.
            started: Whether its body started; if not, it is not counted and not retried.

        Returns:
            The seconds before it is tried again; `None`: it has settled as failed.
        """
        self.attempts += started
        if started and not self.closed:
            delay = retry_delay(self._node.step, attempts, error, self._uniform)
            if delay is not None:
                self._last_errors[index] = error
                self._resting.add(index)
                self.backoff += delay
                return delay
        self._fail(index, error, started or attempts > 1)
        return None

    def lose(self, indices: Iterable[int]) -> None:
        """The bodies of items ran, and what came of them was lost with their worker."""
        self._lost.update(indices)

    def cancel(self, index: int, attempts: int, *, started: bool) -> None:
        """An item was stopped, or will not start: failed if it ever failed, else cancelled.

        Args:
            index: The item.
            attempts: How many it has had, this one included.
            started: Whether the body of this one started.
        """
        self.attempts += started
        self.unknown += index in self._lost
        if not started and index in self._last_errors:
            self._fail(index, self._last_errors[index], started=True)
            return
        ran = started or attempts > 1 or index in self._lost
        self._settle(index, _CANCELLED | (_STARTED if ran else 0))
        self.cancelled += 1

    def close(self, reason: str, *, stopped: bool = False) -> list[int]:
        """Nothing starts any more; items that wait for a retry have failed: return them."""
        self.stopped = self.stopped or stopped
        if not self.closed:
            self.closed, self.reason = True, reason
        resting = sorted(self._resting)
        for index in resting:
            self._fail(index, self._last_errors[index], started=True)
        return resting

    def rested(self, index: int) -> bool:
        """Take note that the delay of an item is over; false when it has settled meanwhile."""
        if index not in self._resting:
            return False
        self._resting.discard(index)
        return True

    # --- what came of it ---------------------------------------------------------------------

    @property
    def retrying(self) -> int:
        """How many items wait for their next attempt."""
        return len(self._resting)

    @property
    def fails_fast(self) -> bool:
        """Whether an item has finally failed, and that is enough."""
        return self._node.fail_fast and self._first_failed is not None

    @property
    def progress(self) -> MapProgress:
        """How far the map has come."""
        total = len(self._marks) if self.exhausted else self._total
        return MapProgress(self.completed, self.failed, self.cancelled, len(self._resting), total)

    def verdict(self) -> tuple[StepStatus, Exception | None]:
        """Judge the map, whose items have all settled: its status, and the error if it failed."""
        name, total = self._node.name, len(self._marks)
        if self.completed + self.failed + self.cancelled != total:
            raise AssertionError(f"map {name!r} judged with items unsettled")
        if self.fails_fast:
            assert self._first_failed is not None
            return StepStatus.FAILED, self.errors[self._first_failed]
        if self.broken is not None:
            return StepStatus.FAILED, self.broken
        if self.stopped and (self.cancelled or not self.exhausted):
            return StepStatus.CANCELLED, StepCancelledError(name, self.reason)
        needed = self._node.min_success or 1
        if self.completed >= needed or not total:
            conflict = self._conflict()
            return (StepStatus.FAILED if conflict else StepStatus.COMPLETED), conflict
        if needed > total and not self.errors:
            return StepStatus.FAILED, DefinitionError(
                f"map {name!r}: min_success={needed} exceeds the number of its items, {total}"
            )
        wanted = f"{self.completed} of {total} items completed, {needed} needed"
        if not self.errors:
            return StepStatus.FAILED, StepCancelledError(name, wanted)
        errors = [self.errors[index] for index in sorted(self.errors)]
        if total == 1:
            return StepStatus.FAILED, errors[0]
        return StepStatus.FAILED, GroupFailedError(f"map {name!r}: {wanted}", errors)

    def writes(self) -> dict[str, Any]:
        """Return what the items that completed wrote."""
        return {key: value for writes in self._writes.values() for key, value in writes.items()}

    @property
    def owes(self) -> bool:
        """Whether there may be something done that nobody will undo."""
        step = self._node.step
        return self.unknown > 0 and step.undo is not None and step.compensate_on == "completed"

    @property
    def anything_done(self) -> bool:
        """Whether a rollback has anything to undo."""
        return next(self.done(), None) is not None

    def done(self) -> Iterator[Done]:
        """Yield what a rollback has to undo, the last item first."""
        if self._items is None:
            return
        also_started = self._node.step.compensate_on == "started"
        for index in range(len(self._marks) - 1, -1, -1):
            mark = self._marks[index]
            completed = mark == _COMPLETED | _STARTED
            if completed or (also_started and mark & _STARTED):
                value = self.values[index] if completed and self.values else None
                writes = self._writes.get(index, {}) if completed else {}
                effect = self.effects.get(index)
                yield Done(index, self._items[index], value, writes, completed, effect)

    # --- inside ------------------------------------------------------------------------------

    def _conflict(self) -> StateConflictError | None:
        writers: dict[str, int] = {}
        for index in sorted(self._writes):
            for key in self._writes[index]:
                if key in writers:
                    name = self._node.name
                    both = (f"{name}[{writers[key]}]", f"{name}[{index}]")
                    return StateConflictError(key, both)
                writers[key] = index
        return None

    def _fail(self, index: int, error: Exception, started: bool) -> None:
        self._settle(index, _FAILED | (_STARTED if started else 0))
        self.failed += 1
        self.errors[index] = error
        if self._first_failed is None:
            self._first_failed = index

    def _settle(self, index: int, mark: int) -> None:
        if self._marks[index] != _OPEN:
            raise AssertionError(f"item {index} of map {self._node.name!r} has settled before")
        self._marks[index] = mark
        self._last_errors.pop(index, None)
        self._resting.discard(index)
        self._lost.discard(index)
