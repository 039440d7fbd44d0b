"""Values and errors that resist being looked at: a run ends with a result all the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from contract_tools import PATIENCE, BodyError, Pool, do_nothing, fail

from syncflow import Context, Flow, ProcessPool, Step, StepTimeoutError

# --- writes of a body that failed ------------------------------------------------------------


@pytest.fixture
def process() -> Iterator[ProcessPool]:
    """Return a process pool whose only worker is up."""
    with ProcessPool(1) as pool:
        pool.submit(int).result(PATIENCE)
        yield pool


def lock_then_fail(ctx: Context) -> None:
    """Write what cannot be pickled, and fail."""
    ctx.set("lock", threading.Lock())
    raise BodyError(f"attempt {ctx.attempt}")


def lock_then_sleep(ctx: Context) -> None:
    """Write what cannot be pickled, and sleep until asked to stop."""
    ctx.set("lock", threading.Lock())
    ctx.sleep(1000)


@pytest.mark.xdist_group("process")
def test_an_unpicklable_write_does_not_hide_an_error(process: ProcessPool) -> None:
    """Nobody wants the writes of a body that failed."""
    result = Flow("flow").step("a", lock_then_fail, pool=process).run()
    assert (BodyError, ("attempt 1",)) == (type(result.error), result.error.args)


@pytest.mark.xdist_group("process")
def test_an_unpicklable_write_does_not_keep_from_retries(process: ProcessPool) -> None:
    """The body that failed is tried again."""
    result = Flow("flow").step("a", lock_then_fail, pool=process, retries=1).run()
    assert 2 == result["a"].attempts


@pytest.mark.xdist_group("process")
def test_an_unpicklable_write_does_not_hide_a_timeout(process: ProcessPool) -> None:
    """The step has timed out."""
    flow = Flow("flow").step("a", lock_then_sleep, pool=process, timeout=0.1, grace=PATIENCE)
    assert StepTimeoutError is type(flow.run().error)


# --- errors that cannot be looked at ---------------------------------------------------------


class WithoutNotesError(Exception):
    """An error whose notes are none."""

    __notes__ = None


class UnspeakableError(Exception):
    """An error that can be neither shown nor read."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


def raise_without_notes(ctx: Context) -> None:
    """Raise an error that takes no note."""
    raise WithoutNotesError


def raise_unspeakable(*_: Any) -> bool:
    """Raise an error that cannot be shown, as a body, a check or a `retry_on`."""
    raise UnspeakableError


AWKWARD: dict[str, tuple[Callable[[Context], Any], dict[str, Any]]] = {
    "notes": (raise_without_notes, {}),
    "body": (raise_unspeakable, {}),
    "retry_on": (fail, {"retries": 1, "retry_on": raise_unspeakable}),
}


@pytest.mark.parametrize(("body", "options"), AWKWARD.values(), ids=AWKWARD)
def test_an_error_that_resists_is_compensated(
    pool: Pool, body: Callable[[Context], Any], options: dict[str, Any]
) -> None:
    """The run returns a result, and what had completed is undone."""
    undone: list[str] = []
    flow = Flow("flow").step("a", do_nothing, compensate=lambda ctx: undone.append("a"))
    result = flow.step("bad", body, pool=pool, **options).run()
    assert ("failed", "complete", ["a"]) == (result.status, result.rollback, undone)


def test_a_check_whose_error_cannot_be_shown_fails_the_run() -> None:
    """The run returns a result, and no step has begun."""
    result = Flow("flow", validate=raise_unspeakable).step("a", do_nothing).run()
    assert ("failed", "skipped") == (result.status, result["a"].status)


# --- writes that contradict ------------------------------------------------------------------


def test_a_conflict_hides_no_result_from_compensations() -> None:
    """Members declared after it are among the results, too."""
    seen: list[str] = []
    steps = [Step(name, lambda ctx: ctx.set("key", ctx.step_name)) for name in "ab"]
    flow = Flow("flow").step("first", do_nothing, compensate=lambda ctx: seen.extend(ctx.results))
    flow.parallel("g", [*steps, Step("c", do_nothing)]).run()
    assert ["first", "a", "b", "c"] == seen
