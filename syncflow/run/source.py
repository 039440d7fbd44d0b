"""The source of a map: iterated in the thread that called `run`, like an inline body."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from syncflow.context import MISSING, Context, View, current
from syncflow.errors import BodyExitError, StepInterrupt
from syncflow.run.attempt import call_body, strip

if TYPE_CHECKING:
    from syncflow.mapping import Map
    from syncflow.run.engine import Engine

__all__ = ["Source"]

#: Types that have their items at hand: taking many never waits, and runs nothing of a user's.
_AT_HAND: Final = frozenset((list, tuple, range, dict, set, frozenset, str, bytes, bytearray))


class Source:
    """Gives the items of one map, as far ahead as it is asked to.

    Args:
        engine: Of the run.
        node: The map.
        view: Has the value of an earlier step.
        context: What a function that makes the items gets.
    """

    def __init__(self, engine: Engine, node: Map, view: View, context: Context) -> None:
        self._engine = engine
        self._node = node
        self._view = view
        self._context = context
        self._iterator: Iterator[Any] | None = None
        #: More than one item may be taken at a time.
        self._at_hand = False
        #: How many items there will be; `None` when that is not known.
        self.length: int | None = None
        #: It has come to its end.
        self.exhausted = False
        #: It was interrupted because the run is being stopped: a message or a deadline says so.
        self.interrupted = False

    @property
    def open(self) -> bool:
        """Whether there may be more items."""
        return self._iterator is not None

    def begin(self) -> Exception | None:
        """Find the iterable and begin to iterate; return the error when there is none."""
        try:
            items = self._call(self._items)
            self._at_hand = type(items) in _AT_HAND
            if self._at_hand:  # what counts its items may have to fetch them all for that
                self.length = len(items)
            self._iterator = self._call(iter, items)
        except BaseException as error:
            return self._failed(error)
        return None

    def take(self, most: int) -> tuple[list[Any], Exception | None]:
        """Take the next items: one, or as many as are at hand.

        Returns:
            The items, none when there are no more (see `exhausted`) or an error came up instead;
            and that error.
        """
        assert self._iterator is not None
        try:
            if not self._at_hand:
                return [self._call(next, self._iterator)], None
            items = self._call(list, islice(self._iterator, most))
        except StopIteration:
            items = []
        except BaseException as error:
            return [], self._failed(error)
        if not items:
            self.exhausted = True
            self.close()
        return items, None

    def close(self) -> None:
        """Take no more items."""
        self._iterator = None

    def forget(self) -> None:
        """Let go of the run: the frames of what was raised lead here."""
        self.close()
        self._context._detach()
        del self._engine, self._view

    def _items(self) -> Iterable[Any]:
        """Return the iterable. Runs as a body."""
        items: Any
        name, over = self._node.name, self._node.over
        if isinstance(over, str):
            items, what = self._view.value(over), f"the value of step {over!r}"
            if items is MISSING:
                raise KeyError(f"map {name!r}: step {over!r} has not completed: it has no value")
        elif isinstance(over, Iterable):
            return over
        else:
            items, what = over(self._context), "what its function returned"
        if not isinstance(items, Iterable) and not hasattr(items, "__getitem__"):
            kind = type(items).__name__
            raise TypeError(f"map {name!r}: {what} cannot be iterated: it is of type {kind}")
        return items  # type: ignore[no-any-return]

    def _call(self, function: Any, *arguments: Any) -> Any:
        """Call something of the user's as a body: the token and Ctrl-C reach it."""
        token = current.set(self._context)
        self._engine.inline.reach(self._context)
        try:
            return call_body(function, *arguments)
        finally:
            self._engine.inline.reach(None)
            current.reset(token)

    def _failed(self, error: BaseException) -> Exception | None:
        """Return the error to put on record; `None`: the run is being stopped, which says it."""
        self.close()
        engine = self._engine
        # Our own frames lead to the results, of which this error is one.
        error.with_traceback(strip(error))
        engine.inline.raised(error)
        pressed = isinstance(error, KeyboardInterrupt) and engine.interrupted()
        if pressed or (isinstance(error, StepInterrupt) and self._context.cancelled):
            self.interrupted = True
            return None
        if isinstance(error, Exception):
            return error
        exited = BodyExitError(
            f"the source of map {self._node.name!r} raised {type(error).__name__}"
        )
        exited.__cause__ = error
        return exited
