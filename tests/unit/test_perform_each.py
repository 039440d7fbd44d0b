"""The bodies of a chunk: one after the other, and nothing of one reaches the next."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest

from syncflow.context import Context, Snapshot, current_context
from syncflow.errors import StepInterrupt
from syncflow.run.attempt import AtHand, Ran, perform_each

VIEW = Snapshot("input", {"key": "state"}, {})

#: Seconds that are not up while a test runs.
LONG = 1000.0


class Chunk:
    """Runs a chunk whose first item has the index 10, and keeps what was told meanwhile."""

    def __init__(self, deadline: float | None = None) -> None:
        self.at = AtHand()
        self.deadline = deadline
        #: Positions for which a context was made, that were marked, and timeouts that were armed.
        self.made: list[int] = []
        self.marked: list[int] = []
        self.armed: list[float] = []

    def context(self, position: int) -> Context:
        """Make the context of an item."""
        self.made.append(position)
        return Context("flow", "run", "m", 1, VIEW, self.deadline, None, 10 + position)

    def run(self, body: Callable[[Context, Any], Any], items: Any = "abcd", **options: Any) -> Ran:
        """Run the bodies."""
        return perform_each(
            body, items, self.context, options.pop("timeout", None), self.at,
            mark=self.marked.append, arm=self.armed.append, **options,
        )  # fmt: skip


@pytest.fixture
def chunk() -> Chunk:
    """Return a chunk."""
    return Chunk()


def errors(ran: Ran) -> dict[int, BaseException | None]:
    """Return what the special items raised."""
    return {position: outcome.error for position, outcome in ran.special.items()}


def fail_at(*bad: str, error: type[BaseException] = ValueError) -> Callable[[Context, Any], Any]:
    """Return a body that fails for some items and returns the others."""

    def body(ctx: Context, item: Any) -> Any:
        if item in bad:
            raise error(item)
        return item

    return body


# --- values ----------------------------------------------------------------------------------


def test_each_item_gets_a_body(chunk: Chunk) -> None:
    """In order, and told before it begins."""
    ran = chunk.run(lambda ctx, item: (item, list(chunk.marked)))
    assert [("a", [0]), ("b", [0, 1]), ("c", [0, 1, 2]), ("d", [0, 1, 2, 3])] == ran.values
    assert {} == ran.special


def test_no_items_no_bodies(chunk: Chunk) -> None:
    """Nothing is made or marked."""
    ran = chunk.run(lambda ctx, item: item, [])
    assert ([], {}, [], []) == (ran.values, ran.special, chunk.made, chunk.marked)


def test_the_instants_enclose_the_bodies(chunk: Chunk) -> None:
    """Of all of them."""
    before = monotonic()
    ran = chunk.run(lambda ctx, item: monotonic())
    assert before <= ran.started_at <= ran.values[0] <= ran.values[-1] <= ran.ended_at


# --- contexts --------------------------------------------------------------------------------


def test_each_item_has_its_own_key(chunk: Chunk) -> None:
    """Though they share a context."""
    ran = chunk.run(lambda ctx, item: ctx.idempotency_key)
    assert ["run:m:10", "run:m:11", "run:m:12", "run:m:13"] == ran.values
    assert [0] == chunk.made


def test_a_context_that_was_kept_is_not_used_again(chunk: Chunk) -> None:
    """Who keeps one keeps that of its own item."""
    kept: list[Context] = []

    def body(ctx: Context, item: str) -> None:
        if item in "bd":
            kept.append(ctx)

    chunk.run(body)
    assert ["run:m:11", "run:m:13"] == [ctx.idempotency_key for ctx in kept]
    assert [0, 2] == chunk.made


def closure(ctx: Context) -> Any:
    """Keep the context in a closure."""
    return lambda: ctx


def generator(ctx: Context) -> Any:
    """Keep the context in the frame of a generator."""

    def items() -> Any:
        yield 1
        yield ctx

    made = items()
    next(made)
    return made


@pytest.mark.parametrize(
    "keep",
    [
        lambda ctx: ctx,
        lambda ctx: [ctx],
        lambda ctx: ctx.set,
        closure,
        generator,
    ],
    ids=["itself", "container", "method", "closure", "generator"],
)
def test_a_context_may_be_kept_in_many_ways(chunk: Chunk, keep: Callable[[Context], Any]) -> None:
    """In values, methods, and the frames of functions."""
    kept = chunk.run(lambda ctx, item: keep(ctx)).values
    assert ([0, 1, 2, 3], 4) == (chunk.made, len(kept))


def test_a_context_that_was_dropped_serves_on(chunk: Chunk) -> None:
    """It was kept while its body ran, and no longer."""

    def body(ctx: Context, item: str) -> int:
        held = [ctx, ctx.get, lambda: ctx]
        return len(held)

    chunk.run(body)
    assert [0] == chunk.made


def test_the_current_context_is_that_of_the_item(chunk: Chunk) -> None:
    """Shared or not, at any depth of calls."""
    kept: list[Context] = []

    def body(ctx: Context, item: str) -> tuple[bool, str]:
        if item == "b":
            kept.append(ctx)
        return current_context() is ctx, current_context().idempotency_key

    assert [(True, f"run:m:{index}") for index in range(10, 14)] == chunk.run(body).values


@pytest.mark.parametrize("bad", ["", "d", "abcd"])
def test_afterwards_there_is_no_current_context(chunk: Chunk, bad: str) -> None:
    """It is as it was before the chunk."""
    chunk.run(fail_at(*bad))
    with pytest.raises(LookupError):
        current_context()


def test_bodies_read_what_the_node_found(chunk: Chunk) -> None:
    """Input and state."""
    ran = chunk.run(lambda ctx, item: (ctx.input, ctx["key"]), "ab")
    assert [("input", "state")] * 2 == ran.values


# --- writes ----------------------------------------------------------------------------------


def test_writes_belong_to_their_item(chunk: Chunk) -> None:
    """No other item reads them."""

    def body(ctx: Context, item: str) -> Any:
        if item in "bd":
            ctx.set("key", item)
        return ctx["key"]

    ran = chunk.run(body)
    assert ["state", None, "state", None] == ran.values
    assert {1: ("b", {"key": "b"}), 3: ("d", {"key": "d"})} == {
        position: (outcome.value, outcome.writes) for position, outcome in ran.special.items()
    }


def test_what_failed_writes_nothing_for_the_next(chunk: Chunk) -> None:
    """The next item has a context of its own."""

    def body(ctx: Context, item: str) -> Any:
        if item == "a":
            ctx.set("key", "mine")
            raise ValueError
        return ctx["key"]

    assert [None, "state"] == chunk.run(body, "ab").values


# --- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_error_is_that_of_its_item(chunk: Chunk, error: type[BaseException]) -> None:
    """Whatever it is, the others run."""
    ran = chunk.run(fail_at("b", "c", error=error))
    assert ["a", None, None, "d"] == ran.values
    assert {1: error, 2: error} == {at: type(raised) for at, raised in errors(ran).items()}
    assert {1: ("b",), 2: ("c",)} == {at: raised.args for at, raised in errors(ran).items()}  # type: ignore[union-attr]


def test_a_traceback_starts_at_the_body(chunk: Chunk) -> None:
    """Users did not write what is above it."""
    error = errors(chunk.run(fail_at("a"), "a"))[0]
    assert error is not None
    assert error.__traceback__ is not None
    assert "body" == error.__traceback__.tb_frame.f_code.co_name


def test_the_context_of_what_failed_leads_nowhere(chunk: Chunk) -> None:
    """Its traceback must not hold the run."""
    kept: list[Context] = []

    def body(ctx: Context, item: str) -> None:
        kept.append(ctx)
        raise ValueError

    chunk.run(body, "a")
    assert None is kept[0].input


def test_until_failure_ends_with_the_first(chunk: Chunk) -> None:
    """What was not begun has no place among the values."""
    ran = chunk.run(fail_at("b"), until_failure=True)
    assert (["a", None], [1], [0, 1]) == (ran.values, list(ran.special), chunk.marked)


def test_a_write_is_no_failure(chunk: Chunk) -> None:
    """With `until_failure`, an item that completed is followed by the next."""

    def body(ctx: Context, item: str) -> str:
        ctx.set(item, item)
        return item

    ran = chunk.run(body, until_failure=True)
    assert (4, [0, 1, 2, 3]) == (len(ran.values), list(ran.special))


def test_a_value_that_came_too_late_is_a_failure(chunk: Chunk) -> None:
    """With `until_failure`, nothing follows an item whose time was up."""

    def body(ctx: Context, item: str) -> str:
        chunk.at.overdue = item == "b"
        return item

    assert ["a", None] == chunk.run(body, timeout=LONG, until_failure=True).values


# --- stopping --------------------------------------------------------------------------------


def test_nothing_begins_once_asked(chunk: Chunk) -> None:
    """Before the first item, or between two."""
    chunk.at.asked = True
    assert ([], []) == (chunk.run(lambda ctx, item: item).values, chunk.marked)


def test_the_body_that_is_asked_ends_as_it_likes(chunk: Chunk) -> None:
    """Its value counts, and no other begins."""

    def body(ctx: Context, item: str) -> str:
        chunk.at.asked = item == "b"
        return item

    assert ["a", "b"] == chunk.run(body).values


def test_what_is_at_hand_is_told(chunk: Chunk) -> None:
    """The context that may be interrupted, and the instant at which its time is up."""
    seen: list[bool] = []

    def body(ctx: Context, item: str) -> None:
        assert chunk.at.deadline is not None
        seen.append(chunk.at.context is not None)
        seen.append(abs(chunk.at.deadline - monotonic() - LONG) < LONG / 2)

    chunk.run(body, "ab", timeout=LONG)
    assert [True] * 4 == seen
    assert (None, None) == (chunk.at.context, chunk.at.deadline)


def test_a_value_that_came_too_late_is_marked(chunk: Chunk) -> None:
    """The deadline had interrupted the body, and it returned all the same."""

    def body(ctx: Context, item: str) -> str:
        chunk.at.overdue = item == "b"
        return item

    ran = chunk.run(body, timeout=LONG)
    assert ["a", None, "c", "d"] == ran.values
    assert {1: ("b", True)} == {at: (each.value, each.overdue) for at, each in ran.special.items()}
    assert chunk.at.overdue is False


def test_an_interrupt_is_an_outcome(chunk: Chunk) -> None:
    """Of the item that was interrupted; the next has a context that was not."""

    def body(ctx: Context, item: str) -> bool:
        if item == "a":
            ctx._interrupted = chunk.at.overdue = True
            raise StepInterrupt
        return ctx._interrupted

    ran = chunk.run(body, "ab", timeout=LONG)
    assert [None, False] == ran.values
    assert (StepInterrupt, True) == (type(ran.special[0].error), ran.special[0].overdue)


def test_an_interrupt_that_was_swallowed_uses_the_context_up(chunk: Chunk) -> None:
    """It would be deaf to the next one."""

    def body(ctx: Context, item: str) -> str:
        ctx._interrupted = item == "a"
        return item

    ran = chunk.run(body, "abc")
    assert ([None, "b", "c"], "a", [0, 1]) == (ran.values, ran.special[0].value, chunk.made)


# --- time ------------------------------------------------------------------------------------


def test_each_item_has_its_own_time(chunk: Chunk) -> None:
    """It counts from its own start."""
    ends: list[float] = []

    def body(ctx: Context, item: str) -> float:
        assert ctx._deadline is not None
        assert chunk.at.deadline == ctx._deadline
        ends.append(ctx._deadline)
        while monotonic() <= ends[-1] - LONG:  # the clock must tick
            pass
        return ctx.remaining or 0.0

    ran = chunk.run(body, timeout=LONG)
    assert [True] * 4 == [0 < left <= LONG for left in ran.values]
    assert sorted(set(ends)) == ends


def test_the_nearer_deadline_of_the_run_counts() -> None:
    """An item has no more time than the run."""
    chunk = Chunk(deadline=monotonic() + 1)
    ran = chunk.run(lambda ctx, item: ctx.remaining, timeout=LONG)
    assert [True] * 4 == [left <= 1 for left in ran.values]


def test_without_a_timeout_the_run_has_one() -> None:
    """Nothing is armed for it here."""
    chunk = Chunk(deadline=monotonic() + LONG)
    ran = chunk.run(lambda ctx, item: ctx.remaining is not None)
    assert ([True] * 4, []) == (ran.values, chunk.armed)


def test_the_alarm_is_set_once_as_long_as_all_goes_well(chunk: Chunk) -> None:
    """It moves on by itself; after an interrupt it has to be set anew."""
    chunk.run(lambda ctx, item: item, timeout=LONG)
    assert [LONG] == chunk.armed
    chunk.armed.clear()
    chunk.run(fail_at("b"), timeout=LONG)
    assert [LONG, LONG] == chunk.armed
