"""What bodies share with the caller and with each other, and what reaches processes as a copy."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
from contract_tools import Journal, Pool, Unpicklable, do_nothing, return_input

from syncflow import Context, Flow, SerializationError, Step


class Block(bytearray):
    """Bytes that pickle out of band, as numpy arrays do; counts how often they are pickled."""

    pickled = 0

    def __reduce_ex__(self, protocol: int) -> Any:
        Block.pickled += 1
        return Block.rebuilt, (pickle.PickleBuffer(self),)

    @staticmethod
    def rebuilt(buffer: Any) -> memoryview:
        """Show what the other side got."""
        return memoryview(buffer)


class Counted:
    """Writes into a journal whenever it is pickled."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def __reduce__(self) -> Any:
        self.journal.add("pickled")
        return Counted, (self.journal,)


# --- by reference ----------------------------------------------------------------------------


def test_the_input_is_shared(sharing_pool: Pool) -> None:
    """Inline and thread bodies get the very object that `run` was given."""
    given = object()
    assert given is Flow("flow").step("a", return_input, pool=sharing_pool).run(given)["a"].value


def test_the_state_is_shared(sharing_pool: Pool) -> None:
    """Inline and thread bodies get the very object that an earlier step has written."""
    written = object()
    flow = Flow("flow").step("a", lambda ctx: ctx.set("k", written))
    flow.step("b", lambda ctx: ctx["k"], pool=sharing_pool)
    assert written is flow.run()["b"].value


def test_earlier_values_are_shared(sharing_pool: Pool) -> None:
    """Inline and thread bodies get the very object that an earlier step has returned."""
    returned = object()
    flow = Flow("flow").step("a", lambda ctx: returned)
    flow.step("b", lambda ctx: ctx.value("a"), pool=sharing_pool)
    assert returned is flow.run()["b"].value


# --- copies ----------------------------------------------------------------------------------


def append_to(find: Callable[[Context], list[int]]) -> Callable[[Context], bool]:
    """Return a body that changes a list, and tells whether it would find the same one again."""

    def body(ctx: Context) -> bool:
        find(ctx).append(1)
        return find(ctx) == [1]

    return body


READS = {
    "the input": lambda ctx: ctx.input,
    "state": lambda ctx: ctx["k"],
    "an earlier value": lambda ctx: ctx.value("before"),
}


def flow_with(value: object, body: Callable[[Context], Any], **options: Any) -> Flow:
    """Return a flow whose step `a` finds one value as input, as state and as an earlier value."""

    def before(ctx: Context) -> object:
        ctx.set("k", value)
        return value

    return Flow("flow").step("before", before).step("a", body, pool="process", **options)


@pytest.mark.xdist_group("process")
@pytest.mark.parametrize("what", READS)
def test_a_process_body_gets_a_copy(what: str) -> None:
    """What it does to the copy, nobody else sees."""
    original: list[int] = []
    flow_with(original, append_to(READS[what])).run(original).raise_for_status()
    assert [] == original


@pytest.mark.xdist_group("process")
@pytest.mark.parametrize("what", READS)
def test_a_process_body_gets_its_copy_once(what: str) -> None:
    """A body that looks again finds its own copy, as it has changed it."""
    assert flow_with([], append_to(READS[what])).run([])["a"].value is True


@pytest.mark.xdist_group("process")
@pytest.mark.parametrize("what", READS)
def test_each_process_body_gets_a_copy_of_its_own(what: str) -> None:
    """A second step does not see what the first has done to its copy."""
    flow = flow_with([], append_to(READS[what])).step("b", append_to(READS[what]), pool="process")
    assert flow.run([])["b"].value is True


@pytest.mark.xdist_group("process")
def test_what_a_process_body_does_not_read_may_be_unpicklable() -> None:
    """A flow may keep a connection in its state beside process steps that do not touch it."""
    result = flow_with(threading.Lock(), do_nothing).run(threading.Lock())
    assert "completed" == result.status


@pytest.mark.xdist_group("process")
def test_what_a_process_body_does_not_read_is_not_serialised(journal: Journal) -> None:
    """Unread input, state and values cost nothing."""
    flow_with(Counted(journal), do_nothing).run(Counted(journal)).raise_for_status()
    assert [] == journal.lines


@pytest.mark.xdist_group("process")
@pytest.mark.parametrize("what", READS)
def test_a_process_body_gets_its_copy_when_it_reads(what: str) -> None:
    """What an inline step changes in place, process bodies that read it later see changed."""
    read, given = READS[what], list[int]()
    flow = flow_with(given, lambda ctx: len(read(ctx)))
    flow.step("change", lambda ctx: read(ctx).append(1))
    assert [1] == flow.step("b", read, pool="process").run(given)["b"].value


# --- what cannot be copied -------------------------------------------------------------------

WHAT = {
    "the input": ("input",),
    "state": ("state", "'k'"),
    "an earlier value": ("value", "'before'"),
}


@pytest.mark.xdist_group("process")
@pytest.mark.parametrize("what", READS)
def test_reading_what_cannot_be_pickled_fails_the_step(what: str) -> None:
    """The error names what it was."""
    error = flow_with(Unpicklable(), READS[what]).run(Unpicklable()).error
    assert isinstance(error, SerializationError)
    assert all(word in error.what for word in WHAT[what])
    assert error.what in str(error)


@pytest.mark.xdist_group("process")
@pytest.mark.parametrize("what", READS)
def test_reading_what_cannot_be_pickled_is_where_the_body_can_catch_it(what: str) -> None:
    """The error comes at the read, so a body can do without."""
    read = READS[what]

    def body(ctx: Context) -> str:
        try:
            read(ctx)
        except SerializationError:
            return "caught"
        return "read"

    assert "caught" == flow_with(Unpicklable(), body).run(Unpicklable())["a"].value


UNSENDABLE: dict[str, tuple[Callable[[Context], Any], tuple[str, ...]]] = {
    "value": (lambda ctx: Unpicklable(), ("value", "'a'")),
    "write": (lambda ctx: ctx.set("key", Unpicklable()), ("state", "'key'")),
}


@pytest.mark.xdist_group("process")
@pytest.mark.parametrize("case", UNSENDABLE)
def test_a_process_body_cannot_give_what_cannot_be_pickled(case: str) -> None:
    """A value or a written state value that cannot be pickled fails the step, naming it."""
    body, words = UNSENDABLE[case]
    error = Flow("flow").step("a", body, pool="process").run().error
    assert isinstance(error, SerializationError)
    assert all(word in error.what for word in words)


@pytest.mark.xdist_group("process")
@pytest.mark.parametrize("case", UNSENDABLE)
def test_a_serialisation_error_is_not_retried(case: str) -> None:
    """Trying again would not help."""
    step = Step("a", UNSENDABLE[case][0], pool="process", retries=3, retry_on=BaseException)
    assert 1 == Flow("flow").step(step).run()["a"].attempts


@pytest.mark.xdist_group("process")
def test_a_function_that_cannot_be_pickled_is_no_attempt() -> None:
    """It fails at once with 0 attempts: its body never started."""
    caught = Unpicklable()
    result = Flow("flow").step("a", lambda ctx: caught, pool="process", retries=3).run()
    assert isinstance(result.error, SerializationError)
    assert "function" in result.error.what
    assert "'a'" in result.error.what
    assert 0 == result["a"].attempts


@pytest.mark.xdist_group("process")
def test_nothing_else_is_affected_by_what_cannot_be_pickled() -> None:
    """The siblings complete, and the pool serves on."""
    caught = Unpicklable()
    steps = [
        Step("function", lambda ctx: caught),
        Step("value", UNSENDABLE["value"][0]),
        Step("write", UNSENDABLE["write"][0]),
        Step("input", return_input),
        Step("good", lambda ctx: 1),
    ]
    flow = Flow("flow").parallel("g", steps, pool="process").step("b", do_nothing, pool="process")
    result = flow.run(Unpicklable())
    assert ["failed"] * 4 + ["completed"] * 2 == [step.status for step in result.steps]


# --- large data ------------------------------------------------------------------------------


@pytest.mark.xdist_group("process")
@pytest.mark.parametrize("what", READS)
def test_buffers_reach_processes_read_only(what: str) -> None:
    """What pickles out of band is mapped read-only, not copied."""
    read, block = READS[what], Block(1 << 20)
    assert flow_with(block, lambda ctx: read(ctx).readonly).run(block)["a"].value is True


@pytest.mark.xdist_group("process")
@pytest.mark.parametrize("what", READS)
def test_buffers_are_serialised_once_a_run(what: str) -> None:
    """However many process steps read a buffer, it is serialised once."""
    read, block = READS[what], Block(os.urandom(1 << 20))
    steps = [Step(f"s{number}", lambda ctx: bytes(read(ctx)[-4:])) for number in range(4)]
    flow = flow_with(block, lambda ctx: len(read(ctx))).parallel("g", steps, pool="process")
    Block.pickled = 0
    values = flow.run(block).raise_for_status().values
    assert {bytes(block[-4:])} == {values[step.name] for step in steps}
    assert 1 == Block.pickled
