"""Cancellation and deadlines reach into flows in flows; what undoes its work is waited for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from contract_tools import BodyError, Gate, Journal, When, do_nothing, fail, sleep_long
from late_scene import SHORT

from syncflow import (
    CancelToken,
    Context,
    Flow,
    FlowCancelledError,
    FlowFailedError,
    FlowResult,
    FlowTimeoutError,
    Step,
    StepCancelledError,
    StepResult,
    StepTimeoutError,
)
from syncflow.run.inner import FlowsOnThreads, Inner, Nest
from syncflow.run.jobs import Attempt
from syncflow.testing import FakeClock

#: Runs go by a fake clock; bodies in processes, and whoever waits for them, by the real one.
pytestmark = pytest.mark.usefixtures("clock")

Gates = Callable[[str], Gate]


def undone(journal: Journal, name: str = "a") -> Step:
    """Return a step that tells when it is undone."""
    return Step(name, do_nothing, compensate=lambda ctx: journal.add("undo", ctx.step_name))


def sleeper(journal: Journal, began: Gate | None = None) -> Flow:
    """Return a flow that has something to undo, and sleeps until it is stopped."""

    def body(ctx: Context) -> None:
        if began is not None:
            began.open()
        ctx.sleep(1000)

    return Flow("sub").step(undone(journal)).step("sleep", body)


def inner_result(step: StepResult) -> FlowResult:
    """Return the result of the flow that a step was, from its error."""
    assert step.error is not None
    error = step.error if isinstance(step.error, FlowFailedError) else step.error.__cause__
    assert isinstance(error, FlowFailedError | FlowCancelledError)
    return error.result


#: How a flow may run within another.
PLACES: dict[str, Callable[[Flow, Flow], Flow]] = {
    "inline": lambda outer, sub: outer.step(sub),
    "thread": lambda outer, sub: outer.step("sub", sub, pool="thread"),
    "branch": lambda outer, sub: outer.parallel("group", [sub]),
    "deeper": lambda outer, sub: outer.parallel("group", [Step("sub", Flow("middle").step(sub))]),
}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Callable[[Flow, Flow], Flow]:
    """Return a function that adds a flow, in a step named `sub`, to another."""
    return PLACES[request.param]


# --- what reaches in -------------------------------------------------------------------------


def test_a_token_reaches_in(place: Callable[[Flow, Flow], Flow], journal: Journal) -> None:
    """The body that runs is asked to stop, the flow undoes itself, and says why."""
    token = CancelToken()
    sub = Flow("sub", hooks=[When("on_step_start", lambda: token.cancel("enough"), "sleep")])
    sub.step(undone(journal)).step("sleep", sleep_long, pool="thread")
    result = place(Flow("outer"), sub).run(cancel=token)
    inner = inner_result(result["sub"])
    assert ("cancelled", "cancelled", "cancelled") == (
        result.status, result["sub"].status, inner.status,
    )  # fmt: skip
    assert (["undo a"], "enough", "complete") == (journal.lines, inner.error.reason, inner.rollback)


def test_a_token_interrupts_an_inline_body_inside(
    place: Callable[[Flow, Flow], Flow], journal: Journal
) -> None:
    """Though nobody reads a message meanwhile."""
    token = CancelToken()

    def body(ctx: Context) -> None:
        token.cancel()
        ctx.sleep(1000)

    sub = Flow("sub").step(undone(journal)).step("sleep", body)
    assert "cancelled" == place(Flow("outer"), sub).run(cancel=token).status
    assert ["undo a"] == journal.lines


def test_a_token_that_is_cancelled_already_lets_nothing_start(journal: Journal) -> None:
    """Neither outside nor inside."""
    token = CancelToken()
    token.cancel()
    result = Flow("outer").step(Flow("sub").step("a", journal.add)).run(cancel=token)
    assert (("cancelled", "skipped"), []) == ((result.status, result["sub"].status), journal.lines)


def test_the_deadline_of_the_run_reaches_in(
    place: Callable[[Flow, Flow], Flow], journal: Journal
) -> None:
    """The inner result says what happened: its time was up."""
    result = place(Flow("outer"), sleeper(journal)).run(timeout=SHORT)
    assert (FlowTimeoutError, StepCancelledError) == (type(result.error), type(result["sub"].error))
    inner = inner_result(result["sub"])
    assert ("failed", FlowTimeoutError) == (inner.status, type(inner.error))
    assert ["undo a"] == journal.lines


def test_the_timeout_of_its_step_reaches_in(journal: Journal) -> None:
    """The step has timed out, after the flow has undone itself."""
    result = Flow("outer").step("sub", sleeper(journal), timeout=SHORT).run()
    assert (StepTimeoutError, ["undo a"]) == (type(result.error), journal.lines)
    assert (FlowTimeoutError, "complete", ()) == (
        type(inner_result(result["sub"]).error), result.rollback, result.abandoned,
    )  # fmt: skip


def test_a_timed_out_flow_is_retried(journal: Journal) -> None:
    """As any step; each attempt has undone itself before the next one starts."""
    result = Flow("outer").step("sub", sleeper(journal), timeout=SHORT, retries=1).run()
    assert (2, ["undo a", "undo a"]) == (result["sub"].attempts, journal.lines)


def test_the_timeout_of_its_group_reaches_in(journal: Journal) -> None:
    """The branch fails with `StepTimeoutError`; the group is judged as ever."""
    flow = Flow("outer").parallel(
        "group", [sleeper(journal), Step("good", do_nothing)], timeout=SHORT
    )
    result = flow.run()
    assert (True, StepTimeoutError) == (result.partial, type(result["sub"].error))
    assert (FlowTimeoutError, ["undo a"]) == (
        type(inner_result(result["sub"]).error), journal.lines,
    )  # fmt: skip


def test_a_flow_that_hears_of_its_deadline_from_outside_has_timed_out(clock: FakeClock) -> None:
    """It was deaf when its time was up, and finds that it was asked to stop, too."""

    def deaf(ctx: Context) -> None:
        clock.wait_for(lambda: ctx._asked)

    steps = [Flow("sub").step("deaf", deaf), Step("good", do_nothing)]
    result = Flow("outer").parallel("group", steps, timeout=SHORT).run()
    assert FlowTimeoutError is type(inner_result(result["sub"]).error)


def test_fail_fast_reaches_in(gate: Gate, journal: Journal) -> None:
    """A branch that is stopped is `cancelled`, and so is its flow; it says because of whom."""

    def fail_once_begun(ctx: Context) -> None:
        gate.wait()
        raise BodyError

    steps = [sleeper(journal, began=gate), Step("bad", fail_once_begun)]
    result = Flow("outer").parallel("group", steps, fail_fast=True).run()
    inner = inner_result(result["sub"])
    assert ("cancelled", "cancelled", "step 'bad' failed") == (
        result["sub"].status, inner.status, inner.error.reason,
    )  # fmt: skip
    assert ["undo a"] == journal.lines


def test_bodies_inside_know_how_much_time_is_left() -> None:
    """The nearest of all deadlines around them."""
    sub = Flow("sub").step("inside", lambda ctx: ctx.remaining)
    near = Flow("outer").step("sub", sub, timeout=50).run(timeout=1000)["sub"].value["inside"].value
    far = Flow("outer").step(sub).run(timeout=1000)["sub"].value["inside"].value
    assert near <= 50 < far <= 1000


def test_compensations_inside_are_shielded(
    place: Callable[[Flow, Flow], Flow], journal: Journal
) -> None:
    """From the token and the deadline, when the flow undoes itself and when it is undone."""
    token = CancelToken()

    def undo(ctx: Context) -> None:
        token.cancel()
        ctx.sleep(0)
        journal.add("undo", ctx.remaining)

    def stop(ctx: Context) -> None:
        token.cancel()
        ctx.sleep(1000)

    sub = Flow("sub").step("a", do_nothing, compensate=undo)
    place(Flow("outer"), sub).step("stop", stop).run(cancel=token, timeout=1000)
    failing = Flow("sub").step("a", do_nothing, compensate=undo).step("bad", fail)
    place(Flow("outer"), failing).run(cancel=CancelToken(), timeout=1000)
    assert ["undo None", "undo None"] == journal.lines


def test_a_flow_that_fails_while_the_run_is_cancelled_has_failed(journal: Journal) -> None:
    """What came first counts."""
    token = CancelToken()
    sub = Flow("sub").step("a", do_nothing, compensate=lambda ctx: token.cancel())
    result = Flow("outer").step(sub.step("bad", fail)).run(cancel=token)
    assert ("cancelled", "failed") == (result.status, result["sub"].status)


# --- never abandoned while it rolls back -----------------------------------------------------


class Patience:
    """Lets the outer run try to give up on a flow at the worst moment, and not before."""

    def __init__(self, gates: Gates, journal: Journal) -> None:
        #: Opens when the flow is where it must not be abandoned.
        self.ready = gates("ready")
        #: Opens when the outer run has tried.
        self.tried = gates("tried")
        self._journal = journal

    def undoing(self) -> Step:
        """Return a step whose compensation ends only after the outer run has tried."""

        def undo(ctx: Context) -> None:
            self.wait()
            self._journal.add("undo", ctx.step_name)

        return Step("a", do_nothing, compensate=undo)

    def wait(self) -> None:
        """Be at the worst moment."""
        self.ready.open()
        self.tried.wait()


@pytest.fixture
def patience(gates: Gates, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Patience:
    """Return what holds the outer run back when it is about to give up."""
    patience = Patience(gates, journal)
    give_up = FlowsOnThreads.give_up

    def at_the_worst_moment(self: FlowsOnThreads, attempt: Attempt) -> bool:
        patience.ready.wait()
        try:
            return give_up(self, attempt)
        finally:
            patience.tried.open()

    monkeypatch.setattr(FlowsOnThreads, "give_up", at_the_worst_moment)
    return patience


def test_a_flow_that_undoes_itself_is_not_abandoned(patience: Patience, journal: Journal) -> None:
    """Its step's time and grace are up, and it has noticed: its end is waited for."""
    sub = Flow("sub").step(patience.undoing()).step("sleep", sleep_long)
    result = Flow("outer").step("sub", sub, timeout=SHORT, grace=0).run()
    assert (["undo a"], (), StepTimeoutError) == (
        journal.lines, result.abandoned, type(result.error),
    )  # fmt: skip


def test_a_flow_that_failed_before_its_time_was_up_is_not_abandoned(
    patience: Patience, journal: Journal
) -> None:
    """It is undoing itself already when its time is up: it has failed, not timed out."""
    sub = Flow("sub").step(patience.undoing()).step("bad", fail)
    result = Flow("outer").step("sub", sub, timeout=SHORT, grace=0).run()
    assert (["undo a"], (), FlowFailedError) == (
        journal.lines, result.abandoned, type(result.error),
    )  # fmt: skip


@pytest.mark.parametrize("cause", ["token", "deadline", "group"])
def test_a_branch_that_undoes_itself_is_not_abandoned(
    cause: str, patience: Patience, journal: Journal
) -> None:
    """Whoever wants it to stop."""
    token = CancelToken()
    sub = Flow("sub", hooks=[When("on_step_start", token.cancel, "sleep")])
    sub.step(patience.undoing()).step("sleep", sleep_long, pool="thread")
    timeout = SHORT if cause == "group" else None
    flow = Flow("outer").parallel("group", [Step("sub", sub, grace=0)], timeout=timeout)
    run = {"token": {"cancel": token}, "deadline": {"timeout": SHORT}, "group": {}}[cause]
    result = flow.run(**run)  # type: ignore[arg-type]
    assert (["undo a"], ()) == (journal.lines, result.abandoned)


def test_a_flow_is_not_abandoned_while_it_waits_for_its_own_members(
    patience: Patience, journal: Journal
) -> None:
    """They have a grace of their own, and after that it undoes itself."""
    token = CancelToken()
    deaf = Step("deaf", lambda ctx: patience.tried.wait(), pool="thread", grace=100)
    hooks = [
        When("on_step_start", token.cancel, "deaf"),
        When("on_step_cancel", patience.ready.open, "quick"),
    ]
    sub = Flow("sub", hooks=hooks).step(undone(journal))
    sub.parallel("inner", [Step("quick", sleep_long), deaf])
    result = Flow("outer").step("sub", sub, pool="thread", grace=0).run(cancel=token)
    assert (["undo a"], ()) == (journal.lines, result.abandoned)


def test_a_flow_is_not_abandoned_while_one_in_it_undoes_itself(
    patience: Patience, journal: Journal
) -> None:
    """On the same thread, so that it cannot notice anything itself."""
    sub = Flow("sub").step(patience.undoing()).step("bad", fail)
    middle = Flow("middle").step(undone(journal, "b")).step(sub)
    result = Flow("outer").step("middle", middle, timeout=SHORT, grace=0).run()
    assert (["undo a", "undo b"], ()) == (journal.lines, result.abandoned)


def test_a_flow_that_goes_on_after_one_in_it_has_failed_may_be_abandoned(
    gate: Gate,
) -> None:
    """It was not to be abandoned while that one undid itself; that is over."""
    token = CancelToken()

    def second_time_deaf(ctx: Context) -> None:
        if "again" in seen:
            token.cancel()
            gate.wait()
        seen.append("again")
        raise BodyError

    seen: list[str] = []
    sub = Flow("sub").step("a", do_nothing, compensate=do_nothing).step("b", second_time_deaf)
    middle = Step("middle", Flow("middle").step("sub", sub, retries=1), pool="thread", grace=0)
    assert ("middle",) == Flow("outer").step(middle).run(cancel=token).abandoned
    gate.open()


def test_a_group_that_fails_fast_waits_for_a_flow(gate: Gate, patience: Patience) -> None:
    """Also for one that does not listen, as it waits for every body on a thread."""

    def deaf(ctx: Context) -> None:
        gate.open()
        patience.wait()

    def fail_once_begun(ctx: Context) -> None:
        gate.wait()
        raise BodyError

    steps = [Step("sub", Flow("sub").step("deaf", deaf), grace=0), Step("bad", fail_once_begun)]
    result = Flow("outer").parallel("group", steps, fail_fast=True).run()
    assert ((), "cancelled") == (result.abandoned, result["sub"].status)


def test_a_group_that_fails_fast_waits_no_longer_than_the_flow_may_take(gates: Gates) -> None:
    """Its step's own timeout holds."""
    begun, gate = gates("begun"), gates("end")

    def deaf(ctx: Context) -> None:
        begun.open()
        gate.wait()

    def fail_once_begun(ctx: Context) -> None:
        begun.wait()
        raise BodyError

    sub = Step("sub", Flow("sub").step("deaf", deaf), grace=0, timeout=5 * SHORT)
    steps = [sub, Step("bad", fail_once_begun)]
    result = Flow("outer").parallel("group", steps, fail_fast=True).run()
    assert ("sub",) == result.abandoned
    gate.open()


# --- who comes first -------------------------------------------------------------------------


def test_a_run_that_holds_is_not_abandoned() -> None:
    """It has noticed before the outer run gave up."""
    inner = Nest({}, None).open(inline=False)
    inner.hold()
    assert not inner.abandon()


def test_a_run_that_was_abandoned_may_still_hold() -> None:
    """It undoes itself all the same; nobody waits."""
    inner = Nest({}, None).open(inline=False)
    assert inner.abandon()
    inner.hold()
    assert inner.abandon()


def within(outer: Inner) -> Inner:
    """Return a run on the thread of another."""
    nest = Nest({}, None)
    nest.inner = outer
    return nest.open(inline=True)


def test_a_run_holds_those_whose_thread_it_uses() -> None:
    """They cannot do so themselves; a run on a thread of its own holds nobody else."""
    outer = Nest({}, None).open(inline=False)
    within(within(outer)).hold()
    assert not outer.abandon()
    nest = Nest({}, None)
    nest.inner = other = Nest({}, None).open(inline=False)
    nest.open(inline=False).hold()
    assert other.abandon()


def test_a_run_that_has_ended_holds_nobody() -> None:
    """The others may be deaf again; what they hold themselves stays."""
    outer = Nest({}, None).open(inline=False)
    middle = within(outer)
    innermost = within(middle)
    innermost.hold()
    innermost.let_go()
    middle.hold()
    assert not outer.abandon()
    middle.let_go()
    assert outer.abandon()
