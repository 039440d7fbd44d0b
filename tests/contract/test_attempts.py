"""How often a body is tried, when, and what is on record for what it raised."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from contract_tools import (
    BodyError,
    Gate,
    Pool,
    Recorder,
    UnpicklableError,
    do_nothing,
    fail,
    return_input,
)

from syncflow import Context, Flow, RemoteError, Step, StepResult, ThreadPool

#: Runs go by a fake clock; bodies in processes, and whoever waits for them, by the real one.
pytestmark = pytest.mark.usefixtures("clock")

# --- bodies ----------------------------------------------------------------------------------


class Doubler:
    """A callable object."""

    def __call__(self, ctx: Context) -> int:
        """Return twice the input."""
        return 2 * ctx.input

    def method(self, ctx: Context) -> int:
        """Return twice the input."""
        return 2 * ctx.input


def times(factor: int, ctx: Context) -> int:
    """Return a multiple of the input."""
    return factor * ctx.input


def make_closure() -> Callable[[Context], int]:
    """Return a function that needs its surroundings."""
    factor = 2

    def closure(ctx: Context) -> int:
        return factor * ctx.input

    return closure


BODIES: dict[str, Callable[[Context], int]] = {
    "lambda": lambda ctx: 2 * ctx.input,
    "closure": make_closure(),
    "partial": partial(times, 2),
    "method": Doubler().method,
    "object": Doubler(),
}


@pytest.mark.parametrize("kind", BODIES)
def test_any_callable_is_a_body(pool: Pool, kind: str) -> None:
    """Functions, lambdas, closures, partials, methods and callable objects run everywhere."""
    assert 42 == Flow("flow").step("a", BODIES[kind], pool=pool).run(21)["a"].value


def test_a_function_of_a_module_is_a_body(pool: Pool) -> None:
    """What can be imported elsewhere needs no more."""
    assert "given" == Flow("flow").step("a", return_input, pool=pool).run("given")["a"].value


# --- how often -------------------------------------------------------------------------------


def failing(times: int) -> Callable[[Context], int]:
    """Return a body that fails so many times, and then returns the attempt's number."""

    def body(ctx: Context) -> int:
        if ctx.attempt <= times:
            raise BodyError(f"attempt {ctx.attempt}")
        return ctx.attempt

    return body


def run_one(body: Callable[[Context], Any], pool: Pool, **options: Any) -> StepResult:
    """Return the result of a flow's only step."""
    return Flow("flow").step("a", body, pool=pool, **options).run()["a"]


def test_without_retries_there_is_one_attempt(pool: Pool) -> None:
    """The default is no retry."""
    result = run_one(failing(1), pool)
    assert ("failed", 1) == (result.status, result.attempts)


def test_retries_are_further_attempts(pool: Pool) -> None:
    """`retries=n` allows n more attempts after the first."""
    result = run_one(failing(9), pool, retries=3)
    assert ("failed", 4) == (result.status, result.attempts)


def test_the_error_is_that_of_the_last_attempt(pool: Pool) -> None:
    """Earlier errors are not kept."""
    assert "attempt 3" == str(run_one(failing(9), pool, retries=2).error)


def test_a_success_ends_the_attempts(pool: Pool) -> None:
    """A retry that succeeds makes the step complete, with no error on record."""
    result = run_one(failing(1), pool, retries=3)
    assert ("completed", 2, 2, None) == (
        result.status, result.attempts, result.value, result.error,
    )  # fmt: skip


def test_each_member_has_its_own_retries(worker_pool: Pool) -> None:
    """Members of a group are tried independently."""
    steps = [Step(f"s{times}", failing(times), retries=times) for times in range(3)]
    result = Flow("flow").parallel("g", steps, pool=worker_pool).run()
    assert [1, 2, 3] == [step.attempts for step in result.steps]


# --- for which errors ------------------------------------------------------------------------


def wrong(error: BaseException) -> bool:
    """Tell whether the message says so."""
    return "wrong" in str(error)


RETRY_ON = [
    (Exception, True),
    (ValueError, True),
    (LookupError, False),
    ((KeyError, ValueError), True),
    ((KeyError, IndexError), False),
    ((), False),
    (wrong, True),
    (lambda error: False, False),
    (lambda error: isinstance(error, ValueError), True),
]


def raise_value_error(ctx: Context) -> None:
    """Raise what `RETRY_ON` is about."""
    raise ValueError("wrong value")


@pytest.mark.parametrize(("retry_on", "retried"), RETRY_ON)
def test_retry_on_decides_what_is_retried(pool: Pool, retry_on: Any, retried: bool) -> None:
    """A class, a tuple of classes or a predicate accepts an error, or does not."""
    expected = 3 if retried else 1
    assert expected == run_one(raise_value_error, pool, retries=2, retry_on=retry_on).attempts


def test_a_predicate_need_not_be_picklable(pool: Pool) -> None:
    """The predicate stays with the caller: it sees the error itself, in the caller's thread."""
    seen: list[tuple[type, threading.Thread]] = []

    def predicate(error: BaseException) -> bool:
        seen.append((type(error), threading.current_thread()))
        return False

    run_one(raise_value_error, pool, retries=2, retry_on=predicate)
    assert [(ValueError, threading.current_thread())] == seen


def test_a_predicate_that_raises_ends_the_attempts(pool: Pool) -> None:
    """The step fails with its own error, whose note tells of the predicate."""

    def predicate(error: BaseException) -> bool:
        raise BodyError("predicate")

    result = run_one(raise_value_error, pool, retries=2, retry_on=predicate)
    assert (1, ValueError) == (result.attempts, type(result.error))
    assert any("retry_on" in note for note in result.error.__notes__)


@pytest.mark.xdist_group("process")
def test_retry_on_sees_the_remote_error_of_what_cannot_be_rebuilt() -> None:
    """The predicate gets the `RemoteError` when the original stays in the worker."""
    seen: list[type] = []

    def body(ctx: Context) -> None:
        raise UnpicklableError("first", "second")

    run_one(body, "process", retries=1, retry_on=lambda error: bool(seen.append(type(error))))
    assert [RemoteError] == seen


# --- when ------------------------------------------------------------------------------------

UNIT = 0.001

BACKOFFS = [
    ({}, [1, 1, 1]),
    ({"backoff": "fixed"}, [1, 1, 1]),
    ({"backoff": "linear"}, [1, 2, 3]),
    ({"backoff": "exponential"}, [1, 2, 4]),
    ({"backoff": "fixed", "max_retry_delay": 0.5 * UNIT}, [0.5, 0.5, 0.5]),
    ({"backoff": "linear", "max_retry_delay": 2 * UNIT}, [1, 2, 2]),
    ({"backoff": "exponential", "max_retry_delay": 3 * UNIT}, [1, 2, 3]),
    ({"backoff": "linear", "max_retry_delay": 0}, [0, 0, 0]),
]


def delays(recorder: Recorder, pool: Pool, **options: Any) -> list[float]:
    """Return the delays, in `UNIT`, that were announced for three retries."""
    flow = Flow("flow", hooks=[recorder])
    flow.step("a", fail, pool=pool, retries=3, retry_delay=UNIT, **options).run()
    return [event.delay / UNIT for event in recorder.of("on_step_retry")]


@pytest.mark.parametrize(("options", "expected"), BACKOFFS)
def test_delays_follow_the_backoff(
    recorder: Recorder, pool: Pool, options: dict[str, Any], expected: list[float]
) -> None:
    """Fixed d, linear d*k, exponential d*2**(k-1), capped by `max_retry_delay`."""
    assert pytest.approx(expected) == delays(recorder, pool, **options)


def test_jitter_draws_from_zero_to_the_delay(recorder: Recorder, pool: Pool) -> None:
    """Full jitter: no delay is longer than without, and they are not all alike."""
    drawn = delays(recorder, pool, jitter=True, backoff="exponential")
    assert all(0 <= delay <= most for delay, most in zip(drawn, [1, 2, 4], strict=True))
    assert [1, 2, 4] != drawn


def test_the_backoff_of_a_step_is_what_it_waited(pool: Pool) -> None:
    """`backoff` adds up the waits between attempts, and `duration` includes it."""
    result = run_one(failing(2), pool, retries=2, retry_delay=timedelta(milliseconds=10))
    assert pytest.approx(0.02) == result.backoff
    assert result.backoff <= result.duration + 1e-9


def test_there_is_no_delay_without_a_retry(pool: Pool) -> None:
    """Neither a success nor the last failure is followed by a delay."""
    flow = Flow("flow").step("good", do_nothing, pool=pool, retries=1, retry_delay=1000)
    result = flow.step("bad", fail, pool=pool, retry_delay=1000).run()
    assert (0.0, 0.0) == (result["good"].backoff, result["bad"].backoff)


def retry_beside_another(gates: Callable[[str], Gate]) -> list[Step]:
    """Return a step that succeeds only once the other has run while it waits to be retried."""
    other_ran = gates("other-ran")

    def flaky(ctx: Context) -> bool:
        if ctx.attempt == 1:
            raise BodyError
        return other_ran.is_open

    steps = [Step("flaky", flaky, retries=1, retry_delay=0.2)]
    return [*steps, Step("other", lambda ctx: other_ran.open())]


def test_a_waiting_retry_holds_no_slot(worker_pool: Pool, gates: Callable[[str], Gate]) -> None:
    """With room for one member at a time, the next one runs while the first waits."""
    flow = Flow("flow").parallel(
        "g", retry_beside_another(gates), pool=worker_pool, max_concurrency=1
    )
    assert flow.run()["flaky"].value is True


def test_a_waiting_retry_holds_no_thread(gates: Callable[[str], Gate]) -> None:
    """A pool of one thread runs another member meanwhile."""
    with ThreadPool(1) as pool:
        flow = Flow("flow").parallel("g", retry_beside_another(gates), pool=pool)
        assert flow.run()["flaky"].value is True
