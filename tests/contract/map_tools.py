"""What the tests of maps share: a run in a thread of its own, and bodies at module level."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any

from contract_tools import PATIENCE, BodyError, Gate, Journal

from syncflow import Context, Flow, FlowResult, MapResult


class Aside:
    """A run in a thread of its own, which nothing wakes but what is sent to it.

    The main thread looks up from time to time, as a signal may have come: that hides a message
    which was forgotten.
    """

    def __init__(self, flow: Flow, *arguments: Any, **options: Any) -> None:
        self._flow = flow
        self._arguments = arguments
        self._options = options
        self._found: queue.SimpleQueue[FlowResult | BaseException] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="aside", daemon=True).start()

    def _run(self) -> None:
        try:
            self._found.put(self._flow.run(*self._arguments, **self._options))
        except BaseException as error:  # noqa: BLE001 - raised where the test sees it
            self._found.put(error)
        del self._flow, self._arguments, self._options

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return not self._found.empty()

    def result(self) -> FlowResult:
        """Wait for the end of the run, and return its result; once."""
        try:
            result = self._found.get(timeout=2 * PATIENCE)
        except queue.Empty:
            raise AssertionError("the run has not ended") from None
        if isinstance(result, BaseException):
            raise result
        return result


def run_aside(flow: Flow, *arguments: Any, **options: Any) -> FlowResult:
    """Run a flow in a thread of its own; return its result."""
    return Aside(flow, *arguments, **options).result()


def run_map(
    fn: Callable[[Any, Any], Any], over: Any, pool: Any = None, **options: Any
) -> MapResult:
    """Return the result of a flow's only map."""
    result = run_aside(Flow("flow").map("m", fn, over, pool=pool, **options))["m"]
    assert isinstance(result, MapResult)
    return result


def counts(result: MapResult) -> tuple[int, int, int]:
    """Return how many items completed, failed and were cancelled."""
    return result.completed, result.failed, result.cancelled


class Ajar:
    """Gates by number: each item of a map has its own."""

    def __init__(self, gates: Callable[[str], Gate]) -> None:
        self._make = gates
        self._made: dict[object, Gate] = {}

    def __getitem__(self, item: object) -> Gate:
        if item not in self._made:
            self._made[item] = self._make(str(item))
        return self._made[item]


# --- bodies at module level ------------------------------------------------------------------


def double(ctx: Context, item: Any) -> Any:
    """Return twice the item."""
    return 2 * item


def same(ctx: Context, item: Any) -> Any:
    """Return the item."""
    return item


def fail_item(ctx: Context, item: Any) -> None:
    """Fail, whatever the item."""
    raise BodyError(item)


def fail_odd(ctx: Context, item: int) -> int:
    """Fail for odd numbers, return the others."""
    if item % 2:
        raise BodyError(item)
    return item


def return_item_pid(ctx: Context, item: Any) -> int:
    """Return the process that runs the body."""
    return os.getpid()


def noting(journal: Journal, *words: str) -> Callable[[Context, Any], None]:
    """Return a body or compensation that notes its item, after some words."""

    def body(ctx: Context, item: Any) -> None:
        journal.add(*words, item)

    return body


def counted(items: Iterable[Any], journal: Journal) -> Callable[[Context], Any]:
    """Return a source that notes each item as it makes it."""

    def source(ctx: Context) -> Any:
        for item in items:
            journal.add("made", item)
            yield item

    return source
