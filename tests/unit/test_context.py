"""What a body sees: `Context`, its `Snapshot`, `current_context`, and the `CancelToken`."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest

import syncflow.timing
from syncflow.context import MISSING, CancelToken, Context, Snapshot, current_context
from syncflow.errors import DefinitionError, StepInterrupt
from syncflow.result import StepResult, StepStatus
from syncflow.run.attempt import perform

#: Seconds that no test takes; a `sleep` this long has to be woken.
EVER = 3600.0


def settled(
    name: str, value: object = None, status: StepStatus = StepStatus.COMPLETED
) -> StepResult:
    """Return the result of a step that has settled."""
    return StepResult(name, None, status, value, None, 1, 0.0, 0.0, 0.0, None, "inline", None)


@pytest.fixture
def snapshot() -> Snapshot:
    """Return the view of a node that follows a completed and a failed step."""
    results = {
        "fetch": settled("fetch", "page"),
        "nothing": settled("nothing", None),
        "broken": settled("broken", status=StepStatus.FAILED),
    }
    return Snapshot({"sku": "A-1"}, {"stock": 3, "note": None}, results)


def context(view: Snapshot | None = None, **options: Any) -> Context:
    """Return the context of attempt 2 of step `store`."""
    return Context("checkout", "run-1", "store", 2, view or Snapshot(None, {}, {}), **options)


@pytest.fixture
def ctx(snapshot: Snapshot) -> Context:
    """Return a context that reads the snapshot."""
    return context(snapshot)


# --- who and where ---------------------------------------------------------------------------


def test_context_says_where_it_is(ctx: Context) -> None:
    """A body knows its flow, run, step and attempt."""
    assert ("checkout", "run-1", "store", 2) == (
        ctx.flow_name,
        ctx.run_id,
        ctx.step_name,
        ctx.attempt,
    )


def test_context_has_the_input(ctx: Context) -> None:
    """`ctx.input` is what the run was given."""
    assert {"sku": "A-1"} == ctx.input


def test_input_is_shared_by_reference(ctx: Context, snapshot: Snapshot) -> None:
    """Bodies of this process get the very object that the run was given."""
    assert snapshot.input is ctx.input


def test_idempotency_key_is_run_and_step(ctx: Context) -> None:
    """The key is the run's identifier and the step's name."""
    assert "run-1:store" == ctx.idempotency_key


def test_idempotency_key_is_the_same_for_every_attempt(snapshot: Snapshot) -> None:
    """A retry has the key of the first attempt."""
    first = Context("checkout", "run-1", "store", 1, snapshot)
    assert first.idempotency_key == context(snapshot).idempotency_key


def test_there_is_no_error_outside_a_compensation(ctx: Context) -> None:
    """Only a rollback has a cause."""
    assert ctx.error is None


def test_a_compensation_has_the_error() -> None:
    """`ctx.error` is what caused the rollback."""
    error = ValueError()
    assert error is context(error=error).error


def test_repr_shows_no_state(ctx: Context) -> None:
    """The repr can be logged: names and numbers only."""
    assert "<Context checkout/store attempt 2>" == repr(ctx)


# --- state -----------------------------------------------------------------------------------


def test_get_reads_the_state(ctx: Context) -> None:
    """A body reads the state as it was when its node started."""
    assert 3 == ctx.get("stock")


def test_get_of_a_missing_key_is_none(ctx: Context) -> None:
    """Without a default, a missing key reads as `None`."""
    assert ctx.get("missing") is None


def test_get_of_a_missing_key_is_the_default(ctx: Context) -> None:
    """A missing key reads as the default."""
    assert 7 == ctx.get("missing", 7)


def test_none_is_a_value(ctx: Context) -> None:
    """A key whose value is `None` is not missing."""
    assert ctx.get("note", 7) is None


@pytest.mark.parametrize(("key", "there"), [("stock", True), ("note", True), ("missing", False)])
def test_has(ctx: Context, key: str, there: bool) -> None:
    """`has` tells whether the state has a key, whatever its value."""
    assert there is ctx.has(key)


@pytest.mark.parametrize(("key", "there"), [("stock", True), ("note", True), ("missing", False)])
def test_in(ctx: Context, key: str, there: bool) -> None:
    """`in` tells the same as `has`."""
    assert there is (key in ctx)


def test_item(ctx: Context) -> None:
    """`ctx[key]` reads the state."""
    assert 3 == ctx["stock"]


def test_missing_item_raises(ctx: Context) -> None:
    """`ctx[key]` of a missing key raises `KeyError` with the key."""
    with pytest.raises(KeyError, match="missing"):
        ctx["missing"]


def test_own_writes_are_read(ctx: Context) -> None:
    """A body sees what it has written itself."""
    ctx.set("stock", 2)
    assert (2, 2, True) == (ctx.get("stock"), ctx["stock"], ctx.has("stock"))


def test_a_written_none_hides_the_state(ctx: Context) -> None:
    """A body that writes `None` reads `None`, not what was there before."""
    ctx.set("stock", None)
    assert ctx.get("stock", 7) is None


def test_a_new_key_can_be_written(ctx: Context) -> None:
    """A key need not exist to be written."""
    ctx.set("new", 1)
    assert "new" in ctx


def test_writes_stay_in_the_context(ctx: Context, snapshot: Snapshot) -> None:
    """What a body writes does not reach the flow before the step completes."""
    ctx.set("stock", 2)
    assert 3 == snapshot.state("stock")


def test_members_do_not_see_each_others_writes(snapshot: Snapshot) -> None:
    """Two contexts of one view share no writes."""
    first, second = context(snapshot), context(snapshot)
    first.set("stock", 2)
    assert 3 == second.get("stock")


USES_OF_A_KEY: list[Callable[[Context, Any], object]] = [
    lambda ctx, key: ctx.get(key),
    lambda ctx, key: ctx.set(key, 1),
    lambda ctx, key: ctx.has(key),
    lambda ctx, key: ctx[key],
    lambda ctx, key: key in ctx,
]


@pytest.mark.parametrize("use", USES_OF_A_KEY, ids=["get", "set", "has", "item", "in"])
@pytest.mark.parametrize("key", [None, 1, b"stock", ("stock",), ["stock"]], ids=repr)
def test_keys_are_strings(ctx: Context, use: Callable[[Context, Any], object], key: object) -> None:
    """A key that is no string is a `TypeError` that names the step and the key."""
    with pytest.raises(TypeError, match="step 'store': a state key is a string") as caught:
        use(ctx, key)
    assert repr(key) in str(caught.value)


def test_context_cannot_be_iterated(ctx: Context) -> None:
    """Iterating is refused at once, instead of trying the keys 0, 1, 2 and so on."""
    with pytest.raises(TypeError, match="not iterable"):
        iter(ctx)


# --- earlier steps ---------------------------------------------------------------------------


def test_value_of_an_earlier_step(ctx: Context) -> None:
    """A body reads what an earlier step returned."""
    assert "page" == ctx.value("fetch")


def test_a_returned_none_is_a_value(ctx: Context) -> None:
    """A step that returned `None` has a value."""
    assert ctx.value("nothing", 7) is None


@pytest.mark.parametrize("name", ["broken", "missing"])
def test_value_of_a_step_that_has_not_completed_raises(ctx: Context, name: str) -> None:
    """A failed or unknown step has no value: `KeyError` with its name and the reader's."""
    with pytest.raises(KeyError, match=f"no completed step '{name}' before 'store'"):
        ctx.value(name)


@pytest.mark.parametrize("name", ["broken", "missing"])
@pytest.mark.parametrize("default", [None, 7])
def test_value_of_a_step_that_has_not_completed_is_the_default(
    ctx: Context, name: str, default: object
) -> None:
    """With a default, also `None`, nothing is raised."""
    assert default is ctx.value(name, default)


def test_results_hold_all_settled_steps(ctx: Context) -> None:
    """Failed steps have results, too."""
    assert ["fetch", "nothing", "broken"] == list(ctx.results)


def test_results_cannot_be_written(ctx: Context) -> None:
    """A body cannot change what has happened."""
    with pytest.raises(TypeError):
        ctx.results["fetch"] = settled("fetch")  # type: ignore[index]


def test_results_cannot_be_deleted(ctx: Context) -> None:
    """A body cannot make undone what has happened."""
    with pytest.raises(TypeError):
        del ctx.results["fetch"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "name", "answer"),
    [
        ("input", "", {"sku": "A-1"}),
        ("state", "stock", 3),
        ("state", "note", None),
        ("state", "missing", MISSING),
        ("value", "fetch", "page"),
        ("value", "nothing", None),
        ("value", "broken", MISSING),
        ("value", "missing", MISSING),
        ("result", "missing", MISSING),
        ("names", "", ["fetch", "nothing", "broken"]),
    ],
)
def test_a_snapshot_answers_process_bodies(
    snapshot: Snapshot, kind: str, name: str, answer: object
) -> None:
    """Whatever a body in another process may ask for, the snapshot has or lacks."""
    assert answer == snapshot.read(kind, name)


def test_a_snapshot_answers_with_results(snapshot: Snapshot) -> None:
    """A body in another process may look at the result of a failed step."""
    assert snapshot.settled["broken"] is snapshot.read("result", "broken")


# --- current_context -------------------------------------------------------------------------


def test_current_context_is_that_of_the_body(ctx: Context) -> None:
    """Code that a body calls finds the context without being given it."""
    assert ctx is perform(lambda ctx: current_context(), ctx, None).value


def test_current_context_in_a_nested_body(ctx: Context) -> None:
    """After an inner body has ended, the outer one's context is current again."""

    def outer(ctx: Context) -> Context:
        perform(lambda ctx: None, context(), None)
        return current_context()

    assert ctx is perform(outer, ctx, None).value


@pytest.mark.parametrize("fail", [False, True])
def test_there_is_no_current_context_after_the_body(ctx: Context, fail: bool) -> None:
    """A body that returned or raised leaves no context behind."""
    perform(lambda ctx: 1 / (0 if fail else 1), ctx, None)
    with pytest.raises(LookupError):
        current_context()


def test_current_context_outside_a_step() -> None:
    """Where no step is running, `LookupError` says so."""
    with pytest.raises(LookupError, match="no step is running here"):
        current_context()


def test_context_of_a_failed_body_lets_go_of_the_run(ctx: Context) -> None:
    """The traceback of an error may keep the context, but not the results of the run."""
    perform(lambda ctx: 1 / 0, ctx, None)
    assert (None, {}) == (ctx.input, dict(ctx.results))


# --- time ------------------------------------------------------------------------------------


def test_nothing_remains_to_be_measured_without_a_deadline(ctx: Context) -> None:
    """`None` means that there is no limit."""
    assert ctx.remaining is None


def test_remaining_is_the_time_until_the_deadline() -> None:
    """It is what a client may be given as its timeout."""
    remaining = context(deadline=monotonic() + 60).remaining
    assert remaining is not None
    assert 50 < remaining <= 60


def test_remaining_is_never_negative() -> None:
    """A client is never given a negative timeout."""
    assert 0.0 == context(deadline=monotonic() - 60).remaining


def test_a_timeout_brings_the_deadline_forward() -> None:
    """The attempt's own timeout counts when it is the nearest."""
    outcome = perform(lambda ctx: ctx.remaining, context(deadline=monotonic() + 600), 60.0)
    assert 50 < outcome.value <= 60


def test_a_timeout_never_puts_the_deadline_off() -> None:
    """The run's deadline counts when it is the nearest."""
    outcome = perform(lambda ctx: ctx.remaining, context(deadline=monotonic() + 60), 600.0)
    assert 50 < outcome.value <= 60


# --- stopping --------------------------------------------------------------------------------


def test_a_body_is_not_cancelled_at_first(ctx: Context) -> None:
    """Nobody has asked yet."""
    assert ctx.cancelled is False


def test_a_body_that_is_asked_to_stop_is_cancelled(ctx: Context) -> None:
    """`cancelled` stays true, however often it was asked."""
    ctx._ask()
    ctx._ask()
    assert ctx.cancelled is True


def test_a_body_whose_time_is_up_is_cancelled() -> None:
    """A passed deadline asks a body to stop all by itself."""
    assert context(deadline=monotonic()).cancelled is True


def test_raise_if_cancelled_does_nothing_at_first(ctx: Context) -> None:
    """A body that nobody asks runs on."""
    assert ctx.raise_if_cancelled() is None


def test_raise_if_cancelled_raises(ctx: Context) -> None:
    """A body that is asked to stop gets a `StepInterrupt` that names the step."""
    ctx._ask()
    with pytest.raises(StepInterrupt, match="step 'store' is asked to stop"):
        ctx.raise_if_cancelled()


def test_raise_if_cancelled_raises_when_time_is_up() -> None:
    """A passed deadline interrupts, too."""
    with pytest.raises(StepInterrupt):
        context(deadline=monotonic()).raise_if_cancelled()


def test_raise_if_cancelled_raises_again(ctx: Context) -> None:
    """A body that goes on after it was interrupted is told again."""
    ctx._ask()
    with pytest.raises(StepInterrupt):
        ctx.raise_if_cancelled()
    with pytest.raises(StepInterrupt):
        ctx.raise_if_cancelled()


# --- sleep -----------------------------------------------------------------------------------


class TellingLock:
    """A lock that calls `told` just before each wait: the sleeper has looked, and waits next."""

    def __init__(self, told: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._told = told

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Tell before a wait; then do as a lock does."""
        if blocking:
            self._told()
        return self._lock.acquire(blocking, timeout)

    def release(self) -> None:
        """Do as a lock does."""
        self._lock.release()


@pytest.mark.parametrize("seconds", [0.01, timedelta(milliseconds=10)])
def test_sleep_takes_its_time(ctx: Context, seconds: Any) -> None:
    """`sleep` returns no earlier than asked, in seconds or as a `timedelta`."""
    began = monotonic()
    ctx.sleep(seconds)
    assert 0.01 <= monotonic() - began


def test_sleep_of_nothing_returns(ctx: Context) -> None:
    """0 seconds is a sleep, too."""
    assert ctx.sleep(0) is None


def test_sleep_waits_in_parts(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sleep that is longer than a lock can wait is made of several waits."""
    monkeypatch.setattr(syncflow.timing, "LONGEST_WAIT", 0.001)
    waits: list[int] = []
    ctx._waker = TellingLock(lambda: waits.append(1))
    ctx.sleep(0.01)
    assert 1 < len(waits)


def test_sleep_is_woken_from_another_thread(ctx: Context) -> None:
    """A sleeping body that is asked to stop wakes at once with `StepInterrupt`."""
    sleeping = threading.Event()
    ctx._waker = TellingLock(sleeping.set)
    raised: list[BaseException] = []

    def body() -> None:
        try:
            ctx.sleep(EVER)
        except StepInterrupt as interrupt:
            raised.append(interrupt)

    sleeper = threading.Thread(target=body, daemon=True)
    sleeper.start()
    assert sleeping.wait(5)
    ctx._ask()
    sleeper.join(5)
    assert [StepInterrupt] == [type(error) for error in raised]


def test_sleep_is_not_deaf_between_its_look_and_its_wait(ctx: Context) -> None:
    """A body that is asked after it looked, and before it waits, wakes all the same."""
    ctx._waker = TellingLock(ctx._ask)
    with pytest.raises(StepInterrupt):
        ctx.sleep(EVER)


class AskingLock(TellingLock):
    """Asks the body to stop just before the lock is closed for the first time."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Ask before the lock is closed."""
        if not blocking:
            self._told()
        return self._lock.acquire(blocking, timeout)


def test_sleep_is_not_deaf_before_it_closes_its_lock(ctx: Context) -> None:
    """A body that is asked while the lock is open finds the flag."""
    ctx._waker = AskingLock(ctx._ask)
    with pytest.raises(StepInterrupt):
        ctx.sleep(EVER)


def test_all_threads_of_a_body_wake(ctx: Context) -> None:
    """Each of several threads that sleep in one context gets its `StepInterrupt`."""
    sleeping = threading.Semaphore(0)
    ctx._waker = TellingLock(sleeping.release)
    raised: list[BaseException] = []

    def body() -> None:
        try:
            ctx.sleep(EVER)
        except StepInterrupt as interrupt:
            raised.append(interrupt)

    sleepers = [threading.Thread(target=body, daemon=True) for _ in range(3)]
    for sleeper in sleepers:
        sleeper.start()
    assert all(sleeping.acquire(timeout=5) for _ in sleepers)
    ctx._ask()
    for sleeper in sleepers:
        sleeper.join(5)
    assert 3 == len(raised)


def test_sleep_in_a_body_that_was_asked_before(ctx: Context) -> None:
    """A body that is asked to stop does not start to sleep."""
    ctx._ask()
    with pytest.raises(StepInterrupt):
        ctx.sleep(0)


def test_sleep_ends_at_the_deadline() -> None:
    """A sleep does not outlast the time of its attempt."""
    ctx = context(deadline=monotonic() + 0.01)
    with pytest.raises(StepInterrupt):
        ctx.sleep(EVER)


def test_a_sleep_that_is_woken_has_raised_its_interrupt(ctx: Context) -> None:
    """Whoever interrupts bodies can see that this one is cleaning up already."""
    ctx._ask()
    with pytest.raises(StepInterrupt):
        ctx.sleep(1)
    assert ctx._interrupted is True


@pytest.mark.parametrize("seconds", [-1, -0.001, math.nan, math.inf, timedelta(seconds=-1)])
def test_sleep_of_impossible_seconds(ctx: Context, seconds: Any) -> None:
    """A duration that cannot be is refused, and the step is named."""
    with pytest.raises(DefinitionError, match=r"step 'store': ctx\.sleep"):
        ctx.sleep(seconds)


@pytest.mark.parametrize("seconds", [None, "1", True, [1]])
def test_sleep_of_something_else(ctx: Context, seconds: Any) -> None:
    """What is no duration is a `TypeError`."""
    with pytest.raises(TypeError, match=r"step 'store': ctx\.sleep"):
        ctx.sleep(seconds)


# --- CancelToken -----------------------------------------------------------------------------


def test_a_new_token_is_open() -> None:
    """Nobody has cancelled it, for no reason."""
    token = CancelToken()
    assert (False, None) == (token.cancelled, token.reason)


@pytest.mark.parametrize("reason", [None, "", "the user left"])
def test_a_cancelled_token_has_its_reason(reason: str | None) -> None:
    """A reason may be left out; the token is cancelled all the same."""
    token = CancelToken()
    token.cancel(reason)
    assert (True, reason) == (token.cancelled, token.reason)


@pytest.mark.parametrize("first", [None, "first"])
def test_the_first_reason_wins(first: str | None) -> None:
    """Later calls change nothing, not even when the first gave no reason."""
    token = CancelToken()
    token.cancel(first)
    token.cancel("second")
    assert first == token.reason


def test_one_of_many_reasons_wins() -> None:
    """When many threads cancel at once, every one of them sees the same reason afterwards."""
    token, barrier = CancelToken(), threading.Barrier(8)
    seen: list[str | None] = []

    def cancel(number: int) -> None:
        barrier.wait(5)
        token.cancel(f"reason {number}")
        seen.append(token.reason)

    threads = [threading.Thread(target=cancel, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert [token.reason] * 8 == seen


@pytest.mark.parametrize("reason", [1, b"why", ValueError("why"), ["why"]])
def test_a_reason_is_text(reason: Any) -> None:
    """Anything else is a `TypeError`."""
    with pytest.raises(TypeError, match="reason is a string or None"):
        CancelToken().cancel(reason)


def test_a_refused_reason_does_not_cancel() -> None:
    """A call that raised has changed nothing."""
    token = CancelToken()
    with pytest.raises(TypeError):
        token.cancel(1)  # type: ignore[arg-type]
    assert token.cancelled is False


@pytest.mark.parametrize(("cancel", "shown"), [(False, "open"), (True, "cancelled")])
def test_repr_of_a_token(cancel: bool, shown: str) -> None:
    """The repr tells whether it is cancelled."""
    token = CancelToken()
    if cancel:
        token.cancel()
    assert f"<CancelToken {shown}>" == repr(token)


class Run:
    """Listens to a token, as a run does."""

    def __init__(self) -> None:
        self.heard = 0

    def on_cancel(self) -> None:
        """Be told."""
        self.heard += 1


def test_every_run_of_a_token_is_told() -> None:
    """One token serves any number of runs."""
    token, runs = CancelToken(), [Run(), Run(), Run()]
    for run in runs:
        token._subscribe(run.on_cancel)
    token.cancel()
    assert [1, 1, 1] == [run.heard for run in runs]


def test_a_run_that_starts_with_a_cancelled_token_is_told() -> None:
    """Who comes too late to be told is told at once."""
    token, run = CancelToken(), Run()
    token.cancel()
    token._subscribe(run.on_cancel)
    assert 1 == run.heard


def test_a_run_that_has_ended_is_not_told() -> None:
    """A token lets go of the runs that have ended."""
    token, run = CancelToken(), Run()
    token._subscribe(run.on_cancel)
    token._unsubscribe(run.on_cancel)
    token.cancel()
    assert 0 == run.heard


def test_a_run_that_ends_twice_is_no_error() -> None:
    """Unsubscribing what is not subscribed does nothing."""
    assert CancelToken()._unsubscribe(Run().on_cancel) is None


def test_a_callback_may_cancel() -> None:
    """A hook that cancels while its run is being cancelled changes nothing."""
    token, run = CancelToken(), Run()

    def again() -> None:
        if run.heard == 0:
            run.on_cancel()
            token.cancel("second")

    token._subscribe(again)
    token.cancel("first")
    assert "first" == token.reason


def test_a_callback_may_end_other_runs() -> None:
    """A run that ends because of the token unsubscribes while others are being told."""
    token, last = CancelToken(), Run()
    token._subscribe(lambda: token._unsubscribe(last.on_cancel))
    token._subscribe(last.on_cancel)
    token.cancel()
    assert token.cancelled
