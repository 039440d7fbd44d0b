"""Members of a group that are lined up for threads: in order, within the bound, and never stuck."""

from __future__ import annotations

import threading
from concurrent.futures import wait
from typing import Any

import pytest
from contract_tools import BodyError, do_nothing

from syncflow import CancelToken, Context, Flow, PoolClosedError, Step, ThreadPool
from syncflow.pools.crew import Crew
from syncflow.run.seats import Seats

#: Bodies that do nothing let the runner line up as many.
MANY = 200

#: Seconds to wait for what is sure to come.
LONG = 30.0


def tiny(count: int, start: int = 0) -> list[Step]:
    """Return steps that do nothing."""
    return [Step(f"tiny-{number}", do_nothing) for number in range(start, start + count)]


@pytest.mark.parametrize("bound", [1, 3])
def test_no_more_run_than_may(bound: int) -> None:
    """However many are lined up."""
    running: list[int] = []
    most: list[int] = []

    def body(ctx: Context) -> None:
        running.append(1)
        most.append(len(running))
        running.pop()

    steps = [Step(f"s{number}", body) for number in range(MANY)]
    assert Flow("f").parallel("g", steps, max_concurrency=bound).run().ok
    assert bound >= max(most)


def test_start_in_declaration_order() -> None:
    """One thread takes them from the line as they came."""
    order: list[str] = []
    steps = [Step(f"s{at}", lambda ctx: order.append(ctx.step_name)) for at in range(MANY)]
    assert Flow("f").parallel("g", steps, max_concurrency=1).run().ok
    assert [step.name for step in steps] == order


@pytest.mark.parametrize("bound", [1, 2])
def test_an_abandoned_body_keeps_nobody_waiting(bound: int) -> None:
    """Those lined up behind it get its seat."""
    end = threading.Event()
    hangs = Step("hangs", lambda ctx: end.wait(LONG), timeout=0.05)
    steps = [*tiny(MANY), hangs, *tiny(MANY, MANY)]
    result = Flow("f").parallel("g", steps, max_concurrency=bound).run()
    end.set()
    assert (2 * MANY, ("hangs",)) == (result["g"].completed, result.abandoned)


def test_those_in_line_are_cancelled_unstarted() -> None:
    """A token takes them out of the line."""
    token = CancelToken()
    steps = [*tiny(MANY), Step("cancels", lambda ctx: token.cancel()), *tiny(MANY, MANY)]
    result = Flow("f").parallel("g", steps, max_concurrency=1).run(cancel=token)
    assert {"cancelled": 0} == {
        step.status: step.attempts for step in result.steps if step.status == "cancelled"
    }


def test_a_group_after_it_has_its_own_bound() -> None:
    """Eight wait for each other, after a group that ran one at a time."""
    together = threading.Barrier(8)
    steps = [Step(f"s{number}", lambda ctx: together.wait(LONG)) for number in range(8)]
    flow = Flow("f").parallel("g", tiny(MANY), max_concurrency=1)
    assert flow.parallel("all", steps, fail_fast=True).run().ok


def test_a_pool_that_closes_meanwhile_refuses_the_rest() -> None:
    """Those in line run, as all that was submitted before; those that come later do not."""
    pool = ThreadPool()

    def close(ctx: Context) -> None:
        pool.shutdown(wait=False)

    steps = [*tiny(MANY), Step("closes", close), *tiny(MANY, MANY)]
    result = Flow("f").parallel("g", steps, pool=pool, max_concurrency=1).run()
    kinds = {type(step.error) for step in result.steps}
    assert {type(None), PoolClosedError} == kinds
    assert isinstance(result.steps[-1].error, PoolClosedError)


def test_a_limited_pool_takes_turns() -> None:
    """Its threads belong to whoever came first, not to the group that lines up most."""
    with ThreadPool(1) as pool:
        result = []
        steps: list[Step] = [*tiny(MANY)]

        def submit(ctx: Context) -> None:
            result.append(pool.submit(len, "abc"))

        steps.insert(0, Step("submits", submit))
        assert Flow("f").parallel("g", steps, pool=pool).run().ok
        wait(result, LONG)
        assert 3 == result[0].result(0)


def test_failures_in_line_hold_no_cycle() -> None:
    """Each error is its own step's."""

    def fail(ctx: Context) -> None:
        raise BodyError(ctx.step_name)

    steps = [Step(f"s{at}", fail) for at in range(MANY)]
    result = Flow("f").parallel("g", steps, max_concurrency=2).run()
    assert [step.name for step in steps] == [str(step.error) for step in result.steps]


# --- seats alone -----------------------------------------------------------------------------


class Crewmate:
    """Stands in for `Attempt`: tells what became of it."""

    def __init__(self, told: list[Any], name: str) -> None:
        self.told = told
        self.name = name
        self.job: Any = None
        self.never_ran = False
        self.abandoned = False
        self.error: BaseException | None = None

    def run(self) -> Any:
        self.told.append(("run", self.name))
        return None if self.abandoned or self.never_ran else lambda: self.told.append(self.name)

    def refuse(self, error: BaseException) -> None:
        self.told.append(("refused", self.name, str(error)))
        self.error = error


class Hand(Crew):
    """A crew whose jobs run when the test says so."""

    def __init__(self) -> None:
        super().__init__(None, "hand")
        self.taken: list[Any] = []
        self.given_up: list[Any] = []

    def start(self, job: Any) -> None:
        self.require_open()
        self.taken.append(job)

    def abandon(self, job: Any) -> None:
        self.given_up.append(job)


def attempts(told: list[Any], names: str) -> list[Any]:
    """Return stand-ins for attempts."""
    return [Crewmate(told, name) for name in names]


def test_who_is_taken_back_leaves_the_seat_to_the_next() -> None:
    """The thread goes on with the line."""
    told: list[Any] = []
    crew, (a, b) = Hand(), attempts(told, "ab")
    seats = Seats(crew, 1)
    a.never_ran = True
    for each in (a, b):
        seats.start(each)
    (seat,) = crew.taken
    deliver = seat.run()
    assert ([("run", "a"), ("run", "b")], True) == (told, deliver is not None)


def test_a_seat_is_given_back_once() -> None:
    """By the runner, when the body in it was abandoned: its thread takes nobody any more."""
    told: list[Any] = []
    crew, (a, b, c) = Hand(), attempts(told, "abc")
    seats = Seats(crew, 1)
    a.abandoned = True
    for each in (a, b, c):
        seats.start(each)
    first = crew.taken[0]
    assert first.run() is None
    assert [("run", "a")] == told
    a.job.abandon()
    assert ([first], 2) == (crew.given_up, len(crew.taken))
    crew.taken[1].run()()
    assert [("run", "a"), ("run", "b"), "b", ("run", "c"), "c"] == told


def test_the_line_is_refused_when_there_is_no_other_thread() -> None:
    """The pool was closed when the body was abandoned."""
    told: list[Any] = []
    crew, (a, b, c) = Hand(), attempts(told, "abc")
    seats = Seats(crew, 1)
    a.abandoned = True
    for each in (a, b, c):
        seats.start(each)
    crew.taken[0].run()
    crew.close()
    a.job.abandon()
    assert ["b", "c"] == [name for _, name, _ in told[1:]]
    assert all("shut down" in why for _, _, why in told[1:])


def test_each_that_is_refused_has_an_error_of_its_own() -> None:
    """It gets notes that say whose it is."""
    crew, members = Hand(), attempts([], "abc")
    seats = Seats(crew, 1)
    for each in members:
        seats.start(each)
    crew.close()
    crew.taken[0].refuse(PoolClosedError("dropped"))
    assert [PoolClosedError] * 3 == [type(each.error) for each in members]
    assert 3 == len({id(each.error) for each in members})


def test_who_cannot_get_a_thread_is_not_in_line() -> None:
    """It is the caller's again."""
    told: list[Any] = []
    crew, (a, b) = Hand(), attempts(told, "ab")
    seats = Seats(crew, 1)
    seats.start(a)
    crew.close()
    with pytest.raises(PoolClosedError):
        seats.start(b)
    crew.taken[0].run()()
    assert [("run", "a"), "a"] == told
