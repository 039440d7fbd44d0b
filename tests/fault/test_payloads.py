"""What cannot cross the border fails the step that it belongs to, and nothing else."""

import threading
from functools import partial
from pathlib import Path
from typing import Any

import fault_bodies as bodies
import payload_bodies as payloads
import pytest
from fault_tools import check_survivors, run_beside, survive

from syncflow import Flow, SerializationError, Step, StepTimeoutError, WorkerCrashedError

pytestmark = pytest.mark.xdist_group("process")

#: What makes trouble at which end, and what is to be read about it.
TROUBLES = {
    "cannot-be-pickled": (payloads.unpicklable, "cannot pickle"),
    "raises-at-pickling": (partial(payloads.TroubleAtPickling, "raises"), "not today"),
    "exits-at-pickling": (partial(payloads.TroubleAtPickling, "exits"), "not today"),
    "raises-at-unpickling": (partial(payloads.TroubleAtUnpickling, "raises"), "not today"),
    "exits-at-unpickling": (partial(payloads.TroubleAtUnpickling, "exits"), "not today"),
}
troubles = pytest.mark.parametrize(("make", "message"), TROUBLES.values(), ids=TROUBLES)


def _check_refusal(error: BaseException | None, what: str, message: str) -> None:
    """Check that the error says what could not be sent, and why."""
    assert isinstance(error, SerializationError)
    assert what == error.what
    assert message in str(error)


@troubles
def test_a_function_that_cannot_be_sent(
    tmp_path: Path, any_process_pool: Any, make: Any, message: str
) -> None:
    """The step fails without an attempt, although it has retries."""
    function = make()
    body = function if callable(function) else partial(payloads.give_back, function)
    result = run_beside(tmp_path, any_process_pool, Step("fault", body, retries=2))
    check_survivors(result, any_process_pool)
    _check_refusal(result["fault"].error, "the function of step 'fault'", message)
    assert 0 == result["fault"].attempts


@troubles
def test_an_input_that_cannot_be_sent(
    tmp_path: Path, any_process_pool: Any, make: Any, message: str
) -> None:
    """The step that reads it fails at once, although it has retries."""
    fault = Step("fault", payloads.read_input, retries=2)
    result = run_beside(tmp_path, any_process_pool, fault, input=make())
    check_survivors(result, any_process_pool)
    _check_refusal(result["fault"].error, "the input", message)
    assert 1 == result["fault"].attempts


def _flow_with_trouble(make: Any) -> Flow:
    """Return a flow whose state and first value make trouble."""

    def earlier(ctx: Any) -> object:
        ctx.set("key", make())
        return make()

    return Flow("troubled").step("earlier", earlier)


READERS = {
    "state": (payloads.read_state, "the state value 'key'"),
    "value": (payloads.read_value, "the value of step 'earlier'"),
}


@pytest.mark.parametrize(("body", "what"), READERS.values(), ids=READERS)
@troubles
def test_a_value_that_cannot_be_sent_fails_who_reads_it(
    any_process_pool: Any, make: Any, message: str, body: Any, what: str
) -> None:
    """State and earlier values are serialised where they are read: others are not affected."""
    flow = _flow_with_trouble(make).parallel(
        "group",
        [Step("fault", body, retries=2), Step("other", payloads.do_not_read)],
        pool=any_process_pool,
    )
    result = flow.run()
    _check_refusal(result["fault"].error, what, message)
    assert (1, "untouched") == (result["fault"].attempts, result["other"].value)
    assert Flow("good").step("good", bodies.good, pool=any_process_pool).run().ok


@troubles
def test_a_returned_value_that_cannot_be_sent(
    tmp_path: Path, any_process_pool: Any, make: Any, message: str
) -> None:
    """The step fails, although its body has returned; it is not retried."""
    failed = survive(tmp_path, any_process_pool, partial(payloads.give_back, make), retries=2)
    _check_refusal(failed.error, "the value of step 'fault'", message)
    assert 1 == failed.attempts


@troubles
def test_a_written_value_that_cannot_be_sent(
    tmp_path: Path, any_process_pool: Any, make: Any, message: str
) -> None:
    """The step fails, and none of its writes takes effect."""
    failed = survive(tmp_path, any_process_pool, partial(payloads.write_state, make))
    _check_refusal(failed.error, "the state value 'key' of step 'fault'", message)


CRASHES = {
    "function-at-unpickling": payloads.TroubleAtUnpickling("crashes"),
    "value-at-pickling": partial(
        payloads.give_back, partial(payloads.TroubleAtPickling, "crashes")
    ),
    "write-at-pickling": partial(
        payloads.write_state, partial(payloads.TroubleAtPickling, "crashes")
    ),
    "long-value-at-pickling": partial(
        payloads.give_back, partial(payloads.BigThenTrouble, "crashes")
    ),
    "half-way-through-a-message": payloads.die_half_way,
}


@pytest.mark.parametrize("body", CRASHES.values(), ids=CRASHES)
def test_a_worker_that_crashes_over_a_payload(tmp_path: Path, process_pool: Any, body: Any) -> None:
    """It is a crash like any other, and nobody waits for the rest of a message."""
    error = survive(tmp_path, process_pool, body).error
    assert isinstance(error, WorkerCrashedError)
    assert ("fault", 7) == (error.step_name, error.exitcode)


def test_a_worker_that_crashes_over_the_input(tmp_path: Path, process_pool: Any) -> None:
    """The step that reads the input is the one that fails."""
    result = run_beside(
        tmp_path,
        process_pool,
        Step("fault", payloads.read_input),
        input=payloads.TroubleAtUnpickling("crashes"),
    )
    check_survivors(result, process_pool)
    assert isinstance(result["fault"].error, WorkerCrashedError)


@pytest.mark.parametrize("size", [1 << 16, 1 << 20, 1 << 25])
def test_a_value_larger_than_the_pipe(any_process_pool: Any, size: int) -> None:
    """Long values go there and back."""
    flow = Flow("long").step("echo", payloads.echo_input, pool=any_process_pool)
    sent = bytes(size)
    assert sent == flow.run(sent)["echo"].value


def test_a_value_that_takes_for_ever_to_pickle_times_out(tmp_path: Path, process_pool: Any) -> None:
    """The attempt's time is up for its body and value together: then the worker is killed."""
    body = partial(payloads.give_back, partial(_HangsAtPickling))
    failed = survive(tmp_path, process_pool, body, timeout=0.2, grace=0.1)
    assert isinstance(failed.error, StepTimeoutError)


class _HangsAtPickling:
    """Never comes to an end of being pickled."""

    def __reduce__(self) -> Any:
        threading.Event().wait(bodies.PATIENCE)
        return str, ()
