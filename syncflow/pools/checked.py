"""What the pools check before they do as every executor does: wrong arguments raise at the call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from inspect import signature
from typing import Any, TypeVar

from syncflow.errors import DefinitionTypeError
from syncflow.policy import LONGEST_DELAY, count, optional_seconds, shown, unknown_option

__all__ = ["CheckedExecutor", "check_call"]

T = TypeVar("T")


def check_call(fn: object, where: str) -> None:
    """Refuse what cannot be called."""
    if not callable(fn):
        raise DefinitionTypeError(f"{where}: fn must be callable, not {shown(fn)}")


class CheckedExecutor(Executor):
    """An executor whose `map` refuses what cannot work."""

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **options: Any,
    ) -> Iterator[T]:
        """Call `fn` with the items of the iterables; see `concurrent.futures.Executor.map`.

        Args:
            fn: Called once for each item.
            iterables: Iterated at once, in parallel.
            timeout: Seconds until the last result; `None`: no limit.
            chunksize: Items that share one message to a worker process.
            options: Whatever else the running Python's executors know.

        Raises:
            DefinitionError: An argument cannot work.
        """
        where = f"{type(self).__name__}.map"
        check_call(fn, where)
        count(chunksize, "chunksize", where, least=1)
        limit = optional_seconds(timeout, "timeout", where)
        if limit is not None:
            limit = min(limit, LONGEST_DELAY)  # what clocks can count
        for option in options:
            known = [
                name
                for name, kind in signature(Executor.map).parameters.items()
                if kind.kind is kind.KEYWORD_ONLY
            ]
            if option not in known:
                raise unknown_option(option, known, where)
        return self._map(fn, iterables, chunksize, timeout=limit, **options)

    def _map(
        self,
        fn: Callable[..., T],
        iterables: tuple[Iterable[Any], ...],
        chunksize: int,
        **options: Any,
    ) -> Iterator[T]:
        """Do it, with checked arguments."""
        return super().map(fn, *iterables, **options)
