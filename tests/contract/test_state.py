"""State is transactional, and the same inline, on threads and on processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from contract_tools import BodyError, Gate, Journal, Pool, do_nothing, fail, wait_until

from syncflow import Context, Flow, StateConflictError, Step, StepStatus

#: Runs go by a fake clock; bodies in processes, and whoever waits for them, by the real one.
pytestmark = pytest.mark.usefixtures("clock")


def write(key: str, value: Any) -> Callable[[Context], None]:
    """Return a body that writes one value."""
    return lambda ctx: ctx.set(key, value)


def read(key: str) -> Callable[[Context], Any]:
    """Return a body that returns one value of the state."""
    return lambda ctx: ctx.get(key)


def has(key: str) -> Callable[[Context], bool]:
    """Return a body that tells whether the state has a key."""
    return lambda ctx: ctx.has(key)


def write_input(ctx: Context) -> None:
    """Write the input into the state under `k`."""
    ctx.set("k", ctx.input)


def value_of(body: Callable[[Context], Any], pool: Pool, *before: Callable[[Context], Any]) -> Any:
    """Return what a body returns on a pool, after other bodies that run inline."""
    flow = Flow("flow")
    for number, earlier in enumerate(before):
        flow.step(f"before-{number}", earlier)
    result = flow.step("body", body, pool=pool).run().raise_for_status()
    return result["body"].value


# --- reading and writing ---------------------------------------------------------------------


def test_a_later_step_reads_what_an_earlier_one_wrote(pool: Pool) -> None:
    """The writes of a completed step take effect."""
    flow = Flow("flow").step("a", write_input, pool=pool).step("b", read("k"), pool=pool)
    assert "written" == flow.run("written")["b"].value


def test_a_later_write_replaces_an_earlier_one(pool: Pool) -> None:
    """The last step that wrote a key wins."""
    flow = Flow("flow").step("a", write("k", 1), pool=pool).step("b", write("k", 2), pool=pool)
    assert 2 == flow.step("c", read("k"), pool=pool).run()["c"].value


def test_a_step_reads_its_own_writes(pool: Pool) -> None:
    """A step sees the state plus what it has written itself."""

    def body(ctx: Context) -> list[Any]:
        seen = [ctx.get("k")]
        ctx.set("k", 2)
        return [*seen, ctx.get("k"), ctx["k"], ctx.has("k"), "k" in ctx]

    assert [1, 2, 2, True, True] == value_of(body, pool, write("k", 1))


def test_a_missing_key_gives_the_default(pool: Pool) -> None:
    """`get` answers with the default, which is None."""
    assert (None, 5) == value_of(lambda ctx: (ctx.get("k"), ctx.get("k", 5)), pool)


def test_has_and_in_tell_whether_a_key_exists(pool: Pool) -> None:
    """`has` and `in` are true for what was written, and for nothing else."""
    body = [True, True, False, False]
    assert body == value_of(
        lambda ctx: [ctx.has("k"), "k" in ctx, ctx.has("x"), "x" in ctx], pool, write("k", 1)
    )


def test_none_is_a_value(pool: Pool) -> None:
    """A key that holds None exists."""
    expected = (True, None, None)
    assert expected == value_of(
        lambda ctx: (ctx.has("k"), ctx["k"], ctx.get("k", 5)), pool, write("k", None)
    )


def test_subscription_of_a_missing_key_raises(pool: Pool) -> None:
    """`ctx[key]` of a missing key raises `KeyError` with the key."""
    error = Flow("flow").step("a", lambda ctx: ctx["missing"], pool=pool).run().error
    assert isinstance(error, KeyError)
    assert ("missing",) == error.args


@pytest.mark.parametrize(
    "use",
    [lambda ctx: ctx.set(1, 2), lambda ctx: ctx.get(1), lambda ctx: ctx.has(1)],
    ids=["set", "get", "has"],
)
def test_keys_are_strings(pool: Pool, use: Callable[[Context], Any]) -> None:
    """Any other key is a `TypeError`."""
    assert TypeError is type(Flow("flow").step("a", use, pool=pool).run().error)


def test_each_run_starts_with_an_empty_state(pool: Pool) -> None:
    """Nothing of one run is seen by the next."""
    flow = Flow("flow").step("a", has("k"), pool=pool).step("b", write("k", 1), pool=pool)
    flow.run()
    assert flow.run()["a"].value is False


# --- what is dropped -------------------------------------------------------------------------


def write_then_fail_once(ctx: Context) -> bool:
    """Write and fail at the first attempt; at the second, tell what is left of that."""
    if ctx.attempt == 1:
        ctx.set("k", 1)
        raise BodyError
    return ctx.has("k")


def test_writes_of_a_failed_attempt_are_dropped(pool: Pool) -> None:
    """The next attempt starts from the state that the first one found."""
    result = Flow("flow").step("a", write_then_fail_once, pool=pool, retries=1).run()
    assert result["a"].value is False


def test_writes_of_a_failed_member_are_dropped(worker_pool: Pool) -> None:
    """A failed member of a tolerated group leaves nothing in the state."""

    def write_and_fail(ctx: Context) -> None:
        ctx.set("k", 1)
        raise BodyError

    flow = Flow("flow").parallel(
        "g", [Step("bad", write_and_fail), Step("good", do_nothing)], pool=worker_pool
    )
    assert flow.step("after", has("k"), pool=worker_pool).run()["after"].value is False


def test_writes_of_a_cancelled_member_are_dropped(worker_pool: Pool, gate: Gate) -> None:
    """A member that `fail_fast` has stopped leaves nothing in the state."""
    seen = []

    def write_and_sleep(ctx: Context) -> None:
        ctx.set("k", 1)
        gate.open()
        ctx.sleep(1000)

    def fail_later(ctx: Context) -> None:
        gate.wait()
        raise BodyError

    flow = Flow("flow").step("a", do_nothing, compensate=lambda ctx: seen.append(ctx.has("k")))
    flow.parallel(
        "g",
        [Step("stopped", write_and_sleep), Step("bad", fail_later)],
        fail_fast=True,
        pool=worker_pool,
    ).run()
    assert [False] == seen


def test_writes_of_a_timed_out_attempt_are_dropped(worker_pool: Pool, gate: Gate) -> None:
    """An attempt that ran out of time leaves nothing for the next one."""

    def body(ctx: Context) -> bool:
        if ctx.attempt == 1:
            ctx.set("k", 1)
            gate.wait()
        return ctx.has("k")

    flow = Flow("flow").step("a", body, pool=worker_pool, timeout=0.2, retries=1)
    assert flow.run()["a"].value is False


def test_late_writes_of_an_abandoned_attempt_are_dropped(
    abandoning_pool: Pool, gate: Gate, journal: Journal
) -> None:
    """What an abandoned thread writes after its time changes nothing."""

    def late(ctx: Context) -> None:
        gate.wait()
        ctx.set("k", 1)
        journal.add("written")

    def release(ctx: Context) -> None:
        gate.open()
        wait_until(lambda: journal.lines == ["written"])

    steps = [Step("late", late, timeout=0.05), Step("b", do_nothing)]
    flow = Flow("flow").parallel("g", steps, pool=abandoning_pool)
    flow.step("release", release).step("after", has("k"))
    assert flow.run(drain=5)["after"].value is False


def test_an_abandoned_body_sees_the_state_of_its_own_node(
    abandoning_pool: Pool, gate: Gate, journal: Journal
) -> None:
    """A step reads the state as it was when its node started, however long it takes."""

    def late(ctx: Context) -> None:
        gate.wait()
        journal.add(ctx.get("k"), ctx.value("write-2", "no value"), len(ctx.results))

    def release(ctx: Context) -> None:
        gate.open()
        wait_until(lambda: journal.lines != [])

    flow = Flow("flow").step("write-1", write("k", "first"))
    steps = [Step("late", late, timeout=0.05), Step("b", do_nothing)]
    flow.parallel("g", steps, pool=abandoning_pool)
    flow.step("write-2", write("k", "second")).step("release", release).run(drain=5)
    assert ["first no value 1"] == journal.lines


# --- groups ----------------------------------------------------------------------------------


def test_members_do_not_see_each_others_writes(
    worker_pool: Pool, gates: Callable[[str], Gate]
) -> None:
    """A member reads the state as it was when the group started."""
    written, seen = gates("written"), gates("seen")

    def writer(ctx: Context) -> None:
        ctx.set("k", 1)
        written.open()
        seen.wait()

    def reader(ctx: Context) -> bool:
        written.wait()
        found = ctx.has("k")
        seen.open()
        return found

    flow = Flow("flow").parallel("g", [Step("w", writer), Step("r", reader)], pool=worker_pool)
    assert flow.run()["r"].value is False


def test_a_member_does_not_see_what_a_settled_member_wrote(worker_pool: Pool) -> None:
    """Not even a member that starts after another has completed sees its writes."""
    flow = Flow("flow").parallel(
        "g", [Step("w", write("k", 1)), Step("r", has("k"))], pool=worker_pool, max_concurrency=1
    )
    assert flow.run()["r"].value is False


def test_writes_of_members_are_merged(worker_pool: Pool) -> None:
    """The node after a group sees what all its members wrote."""
    flow = Flow("flow").parallel(
        "g", [Step("a", write("a", 1)), Step("b", write("b", 2))], pool=worker_pool
    )
    flow.step("after", lambda ctx: (ctx["a"], ctx["b"]), pool=worker_pool)
    assert (1, 2) == flow.run()["after"].value


def conflicting(worker_pool: Pool, **options: Any) -> Flow:
    """Return a flow in which two members write the same key."""
    return Flow("flow").parallel(
        "g",
        [Step("a", write("k", "of a"), **options), Step("b", write("k", "of b"), **options)],
        pool=worker_pool,
    )


def test_a_conflict_fails_the_group(worker_pool: Pool) -> None:
    """Two completed members that wrote the same key make the group fail, and with it the flow."""
    result = conflicting(worker_pool).run()
    assert ("failed", "failed") == (result.status, result["g"].status)
    assert isinstance(result.error, StateConflictError)
    assert result.error is result["g"].error


def test_a_conflict_names_the_key_and_both_steps(worker_pool: Pool) -> None:
    """The error says who wrote what."""
    error = conflicting(worker_pool).run().error
    assert ("k", ("a", "b")) == (error.key, error.steps)
    assert all(repr(name) in str(error) for name in ("k", "a", "b"))


def test_members_that_conflict_have_completed(worker_pool: Pool) -> None:
    """The steps themselves keep their status and their values."""
    steps = conflicting(worker_pool).run().steps
    assert [StepStatus.COMPLETED] * 2 == [step.status for step in steps]


def test_members_that_conflict_are_compensated_with_their_own_writes(worker_pool: Pool) -> None:
    """Each compensation sees what its own step wrote."""
    seen = []
    conflicting(worker_pool, compensate=lambda ctx: seen.append(ctx["k"])).run()
    assert ["of b", "of a"] == seen


def test_a_conflict_wants_two_completed_members(worker_pool: Pool) -> None:
    """A failed member that wrote the same key is no conflict."""

    def write_and_fail(ctx: Context) -> None:
        ctx.set("k", "of bad")
        raise BodyError

    flow = Flow("flow").parallel(
        "g", [Step("good", write("k", "of good")), Step("bad", write_and_fail)], pool=worker_pool
    )
    assert "of good" == flow.step("after", read("k")).run().raise_for_status()["after"].value


# --- rollback --------------------------------------------------------------------------------


def test_a_compensation_sees_the_flows_state(pool: Pool, journal: Journal) -> None:
    """It sees what steps after its own have written, too."""

    def undo(ctx: Context) -> None:
        journal.add(ctx.get("earlier"), ctx.get("later"))

    flow = Flow("flow").step("earlier", write("earlier", 1))
    flow.step("a", do_nothing, compensate=Step("undo", undo, pool=pool))
    flow.step("later", write("later", 2)).step("bad", fail).run()
    assert ["1 2"] == journal.lines


def test_a_compensation_sees_the_writes_of_its_own_step(pool: Pool, journal: Journal) -> None:
    """What its own step wrote comes before what others made of it."""

    def undo(ctx: Context) -> None:
        journal.add(ctx["k"])

    flow = Flow("flow")
    flow.step("a", write("k", "own"), pool=pool, compensate=Step("undo", undo, pool=pool))
    flow.step("bad", fail).run()
    assert ["own"] == journal.lines


def test_a_compensation_does_not_see_writes_of_the_failed_step(pool: Pool) -> None:
    """What the failed step wrote was dropped before the rollback."""
    seen = []

    def write_and_fail(ctx: Context) -> None:
        ctx.set("k", 1)
        raise BodyError

    flow = Flow("flow").step("a", do_nothing, compensate=lambda ctx: seen.append(ctx.has("k")))
    flow.step("bad", write_and_fail, pool=pool).run()
    assert [False] == seen


def test_compensating_a_failed_step_shows_none_of_its_writes(pool: Pool) -> None:
    """With `compensate_on="started"`, the failed attempt's writes are dropped all the same."""
    seen = []

    def write_and_fail(ctx: Context) -> None:
        ctx.set("k", 1)
        raise BodyError

    Flow("flow").step(
        "bad",
        write_and_fail,
        pool=pool,
        compensate=lambda ctx: seen.append(ctx.has("k")),
        compensate_on="started",
    ).run()
    assert [False] == seen


def test_completed_members_of_a_failed_group_have_written(worker_pool: Pool) -> None:
    """The writes of a completed member take effect although its group failed."""
    seen = []
    flow = Flow("flow").step("a", do_nothing, compensate=lambda ctx: seen.append(ctx.get("k")))
    flow.parallel(
        "g", [Step("good", write("k", 1)), Step("bad", fail)], min_success=2, pool=worker_pool
    ).run()
    assert [1] == seen
