"""When bodies ran, and on which worker: what `trace` and `timeline` know beyond the results."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["Lap", "Stretches"]


class Lap(NamedTuple):
    """One attempt of several, or a stretch of a worker's time on the items of a map.

    Instants are POSIX seconds, and monotonic ones while the run is in progress.
    """

    #: From 1; 0: not a single attempt.
    number: int
    #: When it could have started; from then on it waited for a worker.
    ready_at: float
    #: None: it never did, and was given up at `ended_at`.
    started_at: float | None
    ended_at: float
    worker: str | int | None
    #: Type and message, where they are not those of the result.
    error: str | None = None
    #: Attempts of items in it; those that failed, and those that were retries.
    items: int = 0
    failed: int = 0
    retries: int = 0

    def moved(self, seconds: float) -> Lap:
        """Return it by a clock that is so many seconds ahead."""
        started_at = None if self.started_at is None else self.started_at + seconds
        return self._replace(
            ready_at=self.ready_at + seconds,
            started_at=started_at,
            ended_at=self.ended_at + seconds,
        )


class _Stretch:
    """A stretch that may still grow."""

    __slots__ = ("ended_at", "failed", "items", "retries", "started_at")

    def __init__(
        self, started_at: float, ended_at: float, items: int, failed: int, retries: int
    ) -> None:
        self.started_at = started_at
        self.ended_at = ended_at
        self.items = items
        self.failed = int(failed)
        self.retries = int(retries)


class Stretches:
    """When the workers of a map ran items: however many there are, some hundred stretches.

    Neighbours on a worker become one where the gap between them is short. What is short grows with
    the number of stretches. Used by one thread.
    """

    #: How many stretches are kept.
    MOST: Final = 512
    #: How many workers are told apart; of others it is not known which they are.
    MOST_WORKERS: Final = 256
    #: Seconds; no gap is shorter.
    SHORTEST_GAP: Final = 0.0001

    __slots__ = ("_count", "_gap", "_last", "_of")

    def __init__(self) -> None:
        #: By worker, in the order in which they were noted.
        self._of: dict[str | int | None, list[_Stretch]] = {}
        #: The last of each.
        self._last: dict[str | int | None, _Stretch] = {}
        self._count = 0
        self._gap = self.SHORTEST_GAP

    def note(
        self,
        worker: str | int | None,
        started_at: float,
        ended_at: float,
        items: int = 1,
        failed: int = 0,
        retries: int = 0,
    ) -> None:
        """Take note of items that a worker has run one after the other.

        Args:
            worker: Name of the thread, or pid.
            started_at: Not before the end of what was noted of this worker last, if it is known.
            ended_at: Instants of any clock, always the same.
            items: How many bodies ran.
            failed: How many of them failed.
            retries: How many of them were not the first for their item.
        """
        last = self._last.get(worker)
        if last is None and len(self._of) >= self.MOST_WORKERS:
            worker, last = None, self._last.get(None)
        if last is None or started_at - last.ended_at > self._gap:
            self._last[worker] = last = _Stretch(started_at, ended_at, items, failed, retries)
            self._of.setdefault(worker, []).append(last)
            self._count += 1
            if self._count > self.MOST:
                self._merge()
            return
        if started_at < last.ended_at:  # it is not known whether it was the same worker
            started_at, ended_at = min(started_at, last.started_at), max(ended_at, last.ended_at)
            last.started_at = started_at
        last.ended_at = ended_at
        last.items += items
        if failed:
            last.failed += failed
        if retries:
            last.retries += retries

    def _merge(self) -> None:
        """Make half as many of them. There are never more workers than that, or one more."""
        while self._count > self.MOST // 2 + 1:
            self._gap *= 2
            for worker, stretches in self._of.items():
                merged = stretches[:1]
                for stretch in stretches[1:]:
                    last = merged[-1]
                    if stretch.started_at - last.ended_at > self._gap:
                        merged.append(stretch)
                        continue
                    last.ended_at = max(last.ended_at, stretch.ended_at)
                    last.items += stretch.items
                    last.failed += stretch.failed
                    last.retries += stretch.retries
                self._of[worker], self._last[worker] = merged, merged[-1]
            self._count = sum(map(len, self._of.values()))

    def laps(self) -> tuple[Lap, ...]:
        """Return them, worker by worker."""
        return tuple(
            Lap(
                0, stretch.started_at, stretch.started_at, stretch.ended_at, worker, None,
                stretch.items, stretch.failed, stretch.retries,
            )
            for worker, stretches in self._of.items()
            for stretch in stretches
        )  # fmt: skip
