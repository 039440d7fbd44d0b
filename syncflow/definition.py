"""The parts of a flow, `Step` and `Parallel`, and the checks that make them.

They are frozen and checked when they are made; nothing here runs a body, and a run hangs nothing
on them, so one definition serves any number of runs and threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Final, Literal, Never, TypedDict, Unpack, overload

import attrs

from syncflow import policy
from syncflow.errors import DefinitionError, DefinitionTypeError
from syncflow.subflow import FlowBody, Nestable, flows_in, steps_of

if TYPE_CHECKING:
    from datetime import timedelta

    from syncflow.flow import Flow

    Seconds = float | timedelta

#: The names of the pools that every flow knows.
BUILT_IN_POOLS = ("inline", "thread", "process")

#: Stands for an argument that was not given, where `None` would be a mistake.
MISSING: Any = object()


class StepOptions(TypedDict, total=False):
    """The options of a `Step`, wherever a step is defined."""

    pool: str | Executor | None
    timeout: Seconds | None
    retries: int
    retry_delay: Seconds
    backoff: Literal["fixed", "linear", "exponential"]
    max_retry_delay: Seconds | None
    jitter: bool
    retry_on: policy.RetryOn
    compensate: Callable[..., Any] | Step | None
    compensate_on: Literal["completed", "started"]
    grace: Seconds


#: Their names.
OPTIONS: Final = tuple(StepOptions.__annotations__)


@attrs.frozen(eq=False, init=False)
class Step:
    """One function, or flow, and how to run it. Equal only to itself; calling it calls `fn`.

    A step that runs a `Flow` is as good as any other: its value is the `FlowResult`, and it fails
    when the flow does, which has then undone itself. It is undone by undoing the flow's steps.

    Args:
        name: Unique in its flow.
        fn: Takes the `Context`; must not be asynchronous. Or a `Flow`.
        pool: ``inline``, ``thread``, ``process``, a name of the flow's ``pools``, or an executor.
            `None`: what the group says; else ``thread`` in a group or with a timeout, and
            otherwise ``inline``.
        timeout: Seconds that one attempt may take, from the start of its body (on an executor that
            is not syncflow's, from submission); `None`: no limit. A thread is then abandoned, a
            process interrupted and, after ``grace``, killed.
        retries: Further attempts after the first.
        retry_delay: Seconds before a retry, the unit of ``backoff``.
        backoff: How the delay grows with the number ``k`` of the retry: ``fixed``, ``linear``
            (times ``k``) or ``exponential`` (times ``2 ** (k - 1)``).
        max_retry_delay: Seconds; no delay is longer. `None`: no limit of yours.
        jitter: Draw each delay from between 0 and what it would be.
        retry_on: The errors to retry: a class, a tuple of classes or ``error -> bool``. What cannot
            be serialised and what was cancelled is never retried.
        compensate: Undoes the step when the flow fails after it completed: a function of the
            `Context`, called once in the thread of the run, or a `Step` with options of its own.
        compensate_on: ``completed``, or ``started`` to undo an attempt of unknown outcome, too.
        grace: Seconds that a body which is asked to stop has for it, before it is abandoned (on a
            thread) or killed (on a process).

    Raises:
        DefinitionError: For a value that cannot work; for a wrong type or an unknown option it
            is a `TypeError`, too.
    """

    name: str
    fn: Callable[..., Any]
    pool: str | Executor | None
    timeout: float | None
    retries: int
    retry_delay: float
    backoff: str
    max_retry_delay: float | None
    jitter: bool
    retry_on: policy.RetryOn
    compensate: Callable[..., Any] | Step | None
    compensate_on: str
    grace: float
    _undo: Step | None = attrs.field(repr=False)
    _nested: Flow | None = attrs.field(repr=False)

    def __init__(
        self,
        name: str,
        fn: Callable[..., Any] | Flow,
        *,
        pool: str | Executor | None = None,
        timeout: Seconds | None = None,
        retries: int = 0,
        retry_delay: Seconds = 0.0,
        backoff: Literal["fixed", "linear", "exponential"] = "fixed",
        max_retry_delay: Seconds | None = None,
        jitter: bool = False,
        retry_on: policy.RetryOn = Exception,
        compensate: Callable[..., Any] | Step | None = None,
        compensate_on: Literal["completed", "started"] = "completed",
        grace: Seconds = 1.0,
        **unknown: Never,
    ) -> None:
        policy.name(name, "name", f"step {policy.shown(name)}")
        where = f"step {policy.shown(name)}"
        for option in unknown:
            raise policy.unknown_option(option, OPTIONS, where)
        nested: Any = fn if isinstance(fn, Nestable) else None
        self.__attrs_init__(
            name=name,
            fn=_body(fn, "fn", where) if nested is None else FlowBody(nested),
            pool=checked_pool(pool, where),
            timeout=policy.optional_seconds(timeout, "timeout", where, zero_ok=False),
            retries=policy.count(retries, "retries", where, least=0),
            retry_delay=policy.seconds(retry_delay, "retry_delay", where, zero_ok=True),
            backoff=policy.choice(backoff, "backoff", where, known=policy.BACKOFFS),
            max_retry_delay=policy.optional_seconds(
                max_retry_delay, "max_retry_delay", where, zero_ok=True
            ),
            jitter=policy.flag(jitter, "jitter", where),
            retry_on=policy.retry_filter(retry_on, "retry_on", where),
            compensate=compensate,
            compensate_on=policy.choice(
                compensate_on, "compensate_on", where, known=("completed", "started")
            ),
            grace=policy.seconds(grace, "grace", where, zero_ok=True),
            undo=_undo_step(compensate, name, where),
            nested=nested,
        )
        refuse_inline(self, self.pool, None, where)
        if self.nested is not None:
            _check_nested(self, where)

    @property
    def nested(self) -> Flow | None:
        """The flow that this step runs, if it runs one."""
        return self._nested

    @property
    def undo(self) -> Step | None:
        """The compensation as a step; a plain function is a step of this step's name."""
        return self._undo

    @property
    def reversible(self) -> bool:
        """Whether it can be undone: it has a compensation, or a step of its flow has."""
        if self.nested is None:
            return self._undo is not None
        nodes = (node for flow in flows_in((self,)) for node in flow.nodes)
        return any(step.undo is not None for node in nodes for step in steps_of(node))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, as if it had never been made a step."""
        return self.fn(*args, **kwargs)


@attrs.frozen(eq=False)
class Parallel:
    """A group of steps that start together; made by `Flow.parallel`, which says what is what."""

    name: str
    steps: tuple[Step, ...]
    fail_fast: bool
    min_success: int | None
    max_concurrency: int | None
    timeout: float | None
    pool: str | Executor | None


def nesting(flow: Any, **options: Any) -> Step:
    """Make the step that runs a flow under the flow's own name."""
    return Step(flow.name, flow, **options)


def pool_of(step: Step, group: Parallel | None) -> str | Executor:
    """Return where a step of a group (`None`: of no group) runs: a pool's name or an executor."""
    if step.pool is not None:
        return step.pool
    if group is None:
        return "inline" if step.timeout is None else "thread"
    return "thread" if group.pool is None or step.nested is not None else group.pool


def checked_pools(pools: Mapping[str, str | Executor], where: str) -> dict[str, str | Executor]:
    """Check a mapping from names to executors or names of built-in pools, and copy it."""
    if not isinstance(pools, Mapping):
        raise DefinitionTypeError(f"{where}: pools must be a mapping, not {policy.shown(pools)}")
    for name, pool in pools.items():
        policy.name(name, "a name in pools", where)
        if not isinstance(pool, Executor):
            policy.choice(pool, f"pools[{policy.shown(name)}]", where, known=BUILT_IN_POOLS)
    return dict(pools)


@overload
def step(fn: Callable[..., Any], /) -> Step: ...
@overload
def step(
    *, name: str = ..., **options: Unpack[StepOptions]
) -> Callable[[Callable[..., Any]], Step]: ...
def step(fn: Any = MISSING, /, *, name: Any = MISSING, **options: Any) -> Any:
    """Turn the decorated function into a `Step`; works bare and with options.

    Args:
        fn: The function, in the bare form.
        name: The step's name; left out, the function's with hyphens for underscores.
        **options: As of `Step`.

    Returns:
        The `Step`, or the decorator that makes it.

    Raises:
        DefinitionError: When the function is decorated; with ``name`` already at this call.
    """

    def decorate(fn: Callable[..., Any]) -> Step:
        if name is not MISSING:
            return Step(name, fn, **options)
        own_name = getattr(_body(fn, "fn", "step()"), "__name__", None)
        if not isinstance(own_name, str):
            raise DefinitionTypeError(f"step(): {policy.shown(fn)} has no name; give name=")
        return Step(own_name.replace("_", "-"), fn, **options)

    if fn is not MISSING:
        return decorate(fn)
    if name is not MISSING:
        Step(name, undecided, **options)
    return decorate


def undecided(*_: object) -> None:
    """Stand in for a function to come, to have its options checked before it does."""


def checked_pool(value: object, where: str) -> str | Executor | None:
    """Check what ``pool`` may be; only a flow can say whether it knows a name."""
    if value is None or isinstance(value, Executor):
        return value
    if not isinstance(value, str):
        raise DefinitionTypeError(
            f"{where}: pool must be a name or an executor, not {policy.shown(value)}"
        )
    return policy.name(value, "pool", where)


def checked_validate(validate: Any, where: str) -> Any:
    """Check what ``validate`` may be: a function, or an object with ``validate_python``."""
    if validate is not None:
        method = getattr(validate, "validate_python", validate)
        policy.function(method, "validate", where)
    return validate


def _body(value: object, option: str, where: str) -> Callable[..., Any]:
    if isinstance(value, Step):
        raise DefinitionTypeError(
            f"{where}: {option} must be a function; step {value.name!r} is already a Step"
        )
    return policy.function(value, option, where)


def _check_nested(step: Step, where: str) -> None:
    """Refuse the options that a flow cannot have."""
    if step.pool not in (None, "inline", "thread"):
        raise DefinitionError(
            f"{where}: pool must be 'thread' or 'inline', not {policy.shown(step.pool)}: "
            "a flow runs in a thread of this process, its steps where they say"
        )
    if step.compensate is not None or step.compensate_on != "completed":
        option = "compensate" if step.compensate is not None else "compensate_on"
        raise DefinitionError(
            f"{where}: {option} must be left out, not {policy.shown(getattr(step, option))}: "
            "a flow undoes itself, by the compensations of its steps"
        )


def _undo_step(compensate: object, name: str, where: str) -> Step | None:
    if compensate is None:
        return None
    if not isinstance(compensate, Step):
        return Step(name, _body(compensate, "compensate", where))
    if compensate.compensate is not None:
        raise DefinitionError(
            f"{where}: compensate must have no compensation itself, not {policy.shown(compensate)}"
        )
    if compensate.nested is not None:
        raise DefinitionError(
            f"{where}: compensate must be a function, not {policy.shown(compensate)}; "
            "call the flow's run() in one"
        )
    return compensate


def refuse_inline(
    step: Step, pool: str | Executor | None, group_name: str | None, where: str
) -> None:
    """Refuse what a body in the caller's own thread cannot have: a time limit, company."""
    if pool == "inline" and step.timeout is not None:
        raise DefinitionError(
            f"{where}: pool='inline' cannot have timeout={step.timeout}: nobody could end it"
        )
    if pool == "inline" and group_name is not None:
        raise DefinitionError(
            f"{where}: pool='inline' cannot be in group {group_name!r}: it would run alone"
        )


def members_of(steps: object, where: str) -> tuple[Step, ...]:
    """Make the steps of a group from all that may stand for them."""
    wanted = "steps must be a list of Steps, Flows or mappings with 'name' and 'fn'"
    refused = (str, bytes, Mapping)
    if isinstance(steps, refused) or not isinstance(steps, Iterable):
        raise DefinitionTypeError(f"{where}: {wanted}, not {policy.shown(steps)}")
    members = tuple(_member(item, f"{where}, steps[{i}]") for i, item in enumerate(steps))
    if not members:
        raise DefinitionError(f"{where}: steps must not be empty, as {policy.shown(steps)} is")
    return members


def _member(item: object, where: str) -> Step:
    if isinstance(item, Step):
        return item
    if isinstance(item, Nestable):
        return nesting(item)
    if isinstance(item, Mapping):
        return _mapped_step(dict(item), where)
    hint = ""
    if callable(item):
        hint = "; make it one: Step(name, fn), or @syncflow.step above the function"
    raise DefinitionTypeError(
        f"{where} must be a Step, a Flow or a mapping with 'name' and 'fn', "
        f"not {policy.shown(item)}{hint}"
    )


def _mapped_step(item: dict[Any, Any], where: str) -> Step:
    for key in ("name", "fn"):
        if key not in item:
            raise DefinitionTypeError(f"{where}: key {key!r} is missing in {policy.shown(item)}")
    where = f"{where}, step {policy.shown(item['name'])}"
    name, fn, options = item.pop("name"), item.pop("fn"), item
    if "options" in item:
        options = item.pop("options")
        if not isinstance(options, Mapping):
            raise DefinitionTypeError(
                f"{where}: options must be a mapping, not {policy.shown(options)}"
            )
        for extra in item:
            raise DefinitionTypeError(f"{where}: {policy.shown(extra)} must be within options")
    for option in options:
        if option not in OPTIONS:
            raise policy.unknown_option(option, OPTIONS, where)
    return Step(name, fn, **options)
