"""What a body sees of its run, besides the state."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

import pytest
from contract_tools import BodyError, Gate, Journal, Pool, When, do_nothing, fail

from syncflow import Context, Flow, Step, StepInterrupt, current_context

VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="default")


def value_of(body: Callable[[Context], Any], pool: Pool, **run: Any) -> Any:
    """Return what a body returns on a pool."""
    flow = Flow("flow").step("a", body, pool=pool)
    return flow.run(**run).raise_for_status()["a"].value


# --- where am I ------------------------------------------------------------------------------


def test_the_context_tells_where_it_is(pool: Pool) -> None:
    """Flow, step, run and attempt are those of the body."""
    body = lambda ctx: (ctx.flow_name, ctx.step_name, ctx.run_id, ctx.attempt)  # noqa: E731
    assert ("flow", "a", "run-1", 1) == value_of(body, pool, run_id="run-1")


def test_attempts_count_from_one(pool: Pool, journal: Journal) -> None:
    """Each attempt sees its own number."""

    def body(ctx: Context) -> None:
        journal.add(ctx.attempt)
        raise BodyError

    Flow("flow").step("a", body, pool=pool, retries=2).run()
    assert ["1", "2", "3"] == journal.lines


def test_the_idempotency_key_names_run_and_step(pool: Pool) -> None:
    """It is `<run_id>:<step_name>`."""
    assert "run-1:a" == value_of(lambda ctx: ctx.idempotency_key, pool, run_id="run-1")


def test_the_idempotency_key_is_that_of_every_attempt_and_compensation(
    pool: Pool, journal: Journal
) -> None:
    """Retries and the compensation of a step share its key."""

    def body(ctx: Context) -> None:
        journal.add(ctx.idempotency_key)
        if ctx.attempt == 1:
            raise BodyError

    def undo(ctx: Context) -> None:
        journal.add(ctx.idempotency_key)

    flow = Flow("flow")
    flow.step("a", body, pool=pool, retries=1, compensate=Step("undo", undo, pool=pool))
    flow.step("bad", fail).run(run_id="run-1")
    assert ["run-1:a"] * 3 == journal.lines


def test_there_is_no_error_outside_a_compensation(pool: Pool) -> None:
    """`ctx.error` is None in a step."""
    assert value_of(lambda ctx: ctx.error, pool) is None


# --- earlier steps ---------------------------------------------------------------------------


def after(body: Callable[[Context], Any], pool: Pool) -> Any:
    """Return what a body returns after `good` has returned 1 and `bad` has failed."""
    flow = Flow("flow").parallel("g", [Step("good", lambda ctx: 1), Step("bad", fail)])
    return flow.step("a", body, pool=pool).run()["a"]


def test_value_is_what_an_earlier_step_returned(pool: Pool) -> None:
    """`ctx.value` finds the value of a completed step."""
    assert 1 == after(lambda ctx: ctx.value("good"), pool).value


@pytest.mark.parametrize("name", ["bad", "missing", "a", "g"])
def test_value_of_what_has_not_completed_raises(pool: Pool, name: str) -> None:
    """A failed step, an unknown one, the step itself and a group have no value."""
    assert KeyError is type(after(lambda ctx: ctx.value(name), pool).error)


@pytest.mark.parametrize("default", [None, 5])
def test_value_of_what_has_not_completed_may_have_a_default(pool: Pool, default: Any) -> None:
    """The default is returned instead; None is one."""
    assert default is after(lambda ctx: ctx.value("bad", default), pool).value


def test_value_none_is_a_value(pool: Pool) -> None:
    """A step that returned None has completed with a value."""
    flow = Flow("flow").step("none", do_nothing)
    flow.step("a", lambda ctx: ctx.value("none", "default"), pool=pool)
    assert flow.run()["a"].value is None


def test_results_are_those_of_settled_earlier_steps(pool: Pool) -> None:
    """`ctx.results` has the failed ones, too, and not the step itself."""

    def body(ctx: Context) -> dict[str, tuple[Any, ...]]:
        return {name: (r.name, str(r.status), r.value) for name, r in ctx.results.items()}

    expected = {"good": ("good", "completed", 1), "bad": ("bad", "failed", None)}
    assert expected == after(body, pool).value


def test_results_of_siblings_are_not_seen(worker_pool: Pool) -> None:
    """Members of one group do not see each other's results."""
    names = lambda ctx: list(ctx.results)  # noqa: E731
    steps = [Step("a", do_nothing), Step("b", names)]
    flow = Flow("flow").parallel("g", steps, pool=worker_pool, max_concurrency=1)
    assert [] == flow.run()["b"].value


def test_results_are_read_only(pool: Pool) -> None:
    """A body cannot change the record."""

    def body(ctx: Context) -> tuple[bool, bool]:
        return isinstance(ctx.results, Mapping), hasattr(ctx.results, "__setitem__")

    assert (True, False) == after(body, pool).value


def test_results_raise_for_what_is_not_there(pool: Pool) -> None:
    """`ctx.results[name]` of an unsettled step is a `KeyError`."""
    assert KeyError is type(after(lambda ctx: ctx.results["a"], pool).error)


# --- time ------------------------------------------------------------------------------------


def test_without_a_deadline_nothing_remains(pool: Pool) -> None:
    """`ctx.remaining` is None when nothing limits the attempt."""
    assert value_of(lambda ctx: ctx.remaining, pool) is None


LIMITS = {
    "attempt": (10, 100, 1000),
    "group": (1000, 10, 100),
    "run": (100, 1000, 10),
}


@pytest.mark.parametrize("nearest", LIMITS)
def test_remaining_is_the_nearest_deadline(worker_pool: Pool, nearest: str) -> None:
    """Of the attempt's, the group's and the run's time, the shortest counts."""
    attempt, group, run = LIMITS[nearest]
    step = Step("a", lambda ctx: ctx.remaining, timeout=attempt)
    flow = Flow("flow").parallel("g", [step], timeout=group, pool=worker_pool)
    assert 5 < flow.run(timeout=run)["a"].value <= 10


def test_the_runs_deadline_reaches_every_pool(pool: Pool) -> None:
    """`run(timeout=)` alone limits `ctx.remaining`, too."""
    assert 5 < value_of(lambda ctx: ctx.remaining, pool, timeout=10) <= 10


def test_nobody_is_cancelled_without_a_reason(pool: Pool) -> None:
    """A body that nobody stops is told so, and sleeps undisturbed."""

    def body(ctx: Context) -> bool:
        ctx.raise_if_cancelled()
        ctx.sleep(0.001)
        return ctx.cancelled

    assert value_of(body, pool) is False


@pytest.mark.parametrize("seconds", [-1, float("nan"), "1", True])
def test_sleep_checks_its_argument(seconds: Any) -> None:
    """`ctx.sleep` takes what a duration may be, and nothing else."""
    error = Flow("flow").step("a", lambda ctx: ctx.sleep(seconds)).run().error
    assert isinstance(error, (ValueError, TypeError))


def overdue(kind: str) -> Callable[[Context], None]:
    """Return a body that notes what it is told once its time is up."""

    def body(ctx: Context) -> None:
        try:
            if kind == "sleep":
                ctx.sleep(1000)
            while True:
                ctx.raise_if_cancelled()
        except StepInterrupt:
            ctx.input.add(ctx.cancelled, ctx.remaining)
            raise

    return body


@pytest.mark.parametrize("kind", ["sleep", "raise_if_cancelled"])
def test_a_body_whose_time_is_up_is_interrupted(
    worker_pool: Pool, kind: str, journal: Journal
) -> None:
    """Both calls raise `StepInterrupt`; the body is cancelled and nothing remains."""
    flow = Flow("flow").step("a", overdue(kind), pool=worker_pool, timeout=0.05)
    flow.run(journal, drain=5)
    assert ["True 0.0"] == journal.lines


# --- current_context and context variables ---------------------------------------------------


def find_step_name() -> str:
    """Find the step from a function that was not given the context."""
    return current_context().step_name


def test_current_context_is_that_of_the_body(pool: Pool) -> None:
    """Code called by a body finds the body's own context."""
    assert (True, "a") == value_of(lambda ctx: (current_context() is ctx, find_step_name()), pool)


def test_current_context_of_a_compensation(pool: Pool, journal: Journal) -> None:
    """Code called by a compensation finds its context, under the step's name."""

    def undo(ctx: Context) -> None:
        journal.add(current_context() is ctx, find_step_name())

    flow = Flow("flow").step("a", do_nothing, compensate=Step("undo", undo, pool=pool))
    flow.step("bad", fail).run()
    assert ["True a"] == journal.lines


def test_outside_a_step_there_is_no_context() -> None:
    """`current_context()` raises `LookupError` before, after and between steps."""
    with pytest.raises(LookupError):
        current_context()
    Flow("flow").step("a", do_nothing).step("b", fail).run()
    with pytest.raises(LookupError):
        current_context()


def test_a_nested_run_gives_the_outer_context_back(sharing_pool: Pool) -> None:
    """After a body has run another flow, its own context is the current one again."""

    def body(ctx: Context) -> tuple[str, str]:
        inner = Flow("inner").step("in", lambda ctx: find_step_name()).run()
        return inner["in"].value, find_step_name()

    assert ("in", "a") == value_of(body, sharing_pool)


def test_a_plain_thread_of_a_body_has_no_context(sharing_pool: Pool) -> None:
    """What a body starts by itself runs outside of any step, unless it copies its context."""
    seen = []

    def look() -> None:
        try:
            seen.append(find_step_name())
        except LookupError:
            seen.append("nothing")

    def body(ctx: Context) -> None:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    value_of(body, sharing_pool)
    assert ["nothing"] == seen


def test_context_variables_of_the_caller_are_visible(sharing_pool: Pool) -> None:
    """A thread step sees the context variables of the thread that called `run`."""
    token = VARIABLE.set("of the caller")
    try:
        assert "of the caller" == value_of(lambda ctx: VARIABLE.get(), sharing_pool)
    finally:
        VARIABLE.reset(token)


def test_context_variables_set_by_a_thread_stay_there() -> None:
    """A thread step has a copy: what it sets, neither the caller nor another step sees."""
    steps = [Step("a", lambda ctx: VARIABLE.set("of a")), Step("b", lambda ctx: VARIABLE.get())]
    result = Flow("flow").parallel("g", steps, max_concurrency=1).run()
    assert ("default", "default") == (result["b"].value, VARIABLE.get())


def test_context_variables_are_visible_to_a_late_compensation(gate: Gate, journal: Journal) -> None:
    """The compensation of a late finisher sees them, too, on whatever thread it runs."""

    def late(ctx: Context) -> None:
        gate.wait()

    flow = Flow("flow", hooks=[When("on_step_fail", gate.open)])
    flow.step("late", late, timeout=0.05, compensate=lambda ctx: journal.add(VARIABLE.get()))
    token = VARIABLE.set("of the caller")
    try:
        flow.run(drain=10)
    finally:
        VARIABLE.reset(token)
    assert ["of the caller"] == journal.lines
