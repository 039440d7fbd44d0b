"""`FaultPlan`: which bodies of a flow fail, crash, hang or dawdle, and when."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from copy import copy
from datetime import timedelta

import attrs

from syncflow import policy
from syncflow.context import Context
from syncflow.definition import OPTIONS, Parallel, Step
from syncflow.errors import DefinitionError, DefinitionTypeError
from syncflow.flow import Flow
from syncflow.mapping import Map, Node
from syncflow.outline import is_process, target_of
from syncflow.pools.thread import ThreadPool
from syncflow.subflow import steps_of
from syncflow.testing.faults import Crash, Delay, Fail, Fault, Faulty, Hang, LateEnd, Marks

__all__ = ["FaultPlan"]


class FaultPlan:
    """Faults to inject into a flow: plan them, then run `on(flow)`.

    A step is called by its name, or by ``outer/name`` within a flow that is a step. Of a map, a
    fault hits the items at an index, or each. Faults of one attempt happen in the order in which
    they were planned. All of these take:

    Args:
        step: The name of a step or map.
        attempt: Which one, from 1; `None`: each.
        index: Of the item, in a map; `None`: each.
        compensation: Hit the compensation of the step, not the step.

    Raises:
        DefinitionError: For a value that cannot work; by `on`, for a step that is not there or to
            which that cannot happen.
    """

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._marks = Marks()

    def __repr__(self) -> str:
        return f"<FaultPlan {', '.join(map(str, self._faults)) or 'without faults'}>"

    # --- planning ----------------------------------------------------------------------------

    def fail(
        self,
        step: str,
        *,
        attempt: int | None = 1,
        error: BaseException | type[BaseException] | None = None,
        index: int | None = None,
        compensation: bool = False,
    ) -> FaultPlan:
        """Let the body raise `error`, an error or a class of errors; `None`: `InjectedError`."""
        if not (error is None or _is_error(error)):
            raise DefinitionTypeError(
                f"fault plan: error must be an error or a class of them, not {policy.shown(error)}"
            )
        return self._plan("fail", step, attempt, index, compensation, Fail(error))

    def crash(
        self,
        step: str,
        *,
        attempt: int | None = 1,
        index: int | None = None,
        compensation: bool = False,
    ) -> FaultPlan:
        """Kill the worker process that runs the body; it must run on one."""
        return self._plan("crash", step, attempt, index, compensation, Crash(os.getpid()))

    def hang(
        self,
        step: str,
        *,
        attempt: int | None = 1,
        index: int | None = None,
        compensation: bool = False,
    ) -> FaultPlan:
        """Let the body wait until it is asked to stop; it does so at once."""
        return self._plan("hang", step, attempt, index, compensation, Hang())

    def delay(
        self,
        step: str,
        seconds: float | timedelta,
        *,
        attempt: int | None = 1,
        index: int | None = None,
        compensation: bool = False,
    ) -> FaultPlan:
        """Let the body sleep first; it wakes when it is asked to stop."""
        wait = policy.seconds(seconds, "seconds", "fault plan: delay")
        return self._plan("delay", step, attempt, index, compensation, Delay(wait))

    def finish_late(
        self,
        step: str,
        *,
        after: float | timedelta | None = None,
        attempt: int | None = 1,
        index: int | None = None,
        compensation: bool = False,
    ) -> LateEnd:
        """Hold the body up, deaf to any wish that it should stop; then let it run.

        Args:
            step: See the class, as for what follows `after`. It must run on a thread: a process is
                killed when its time is up, and inline bodies are waited for.
            after: Seconds for which it is held; `None`: until `finish` of what is returned is
                called, or `release`.

        Returns:
            What lets it go.
        """
        end = LateEnd(policy.optional_seconds(after, "after", "fault plan: finish_late"))
        self._plan("finish_late", step, attempt, index, compensation, end)
        return end

    def _plan(
        self,
        kind: str,
        step: str,
        attempt: int | None,
        index: int | None,
        compensation: bool,
        act: Callable[[Context], None],
    ) -> FaultPlan:
        where = f"fault plan: {kind}"
        fault = Fault(
            kind,
            policy.name(step, "step", where),
            policy.optional_count(attempt, "attempt", where, least=1),
            policy.optional_count(index, "index", where, least=0),
            policy.flag(compensation, "compensation", where),
            act,
        )
        self._faults.append(fault)
        return self

    # --- using -------------------------------------------------------------------------------

    def on(self, flow: Flow) -> Flow:
        """Return a copy of the flow in which the faults planned so far happen.

        The flow itself is not touched. The copy may run any number of times.
        """
        if not isinstance(flow, Flow):
            raise DefinitionTypeError(f"fault plan: on() takes a Flow, not {policy.shown(flow)}")
        known = list(_names(flow, ""))
        for fault in self._faults:
            if fault.step not in known:
                hint = policy.did_you_mean(fault.step, known)
                raise DefinitionError(
                    f"fault plan: {fault}: flow {flow.name!r} has no step of that name to hit{hint}"
                )
        return self._copy(flow, "")

    def release(self) -> None:
        """Let all bodies go that `finish_late` holds up."""
        for fault in self._faults:
            if isinstance(fault.act, LateEnd):
                fault.act.finish()

    @property
    def unused(self) -> list[str]:
        """The faults that have not happened, as they were planned."""
        return [
            str(fault) for number, fault in enumerate(self._faults) if not self._marks.has(number)
        ]

    def assert_used(self) -> None:
        """Raise `AssertionError` if a fault has not happened."""
        if self.unused:
            raise AssertionError(f"planned faults that have not happened: {', '.join(self.unused)}")

    # --- the copy ----------------------------------------------------------------------------

    def _copy(self, flow: Flow, prefix: str) -> Flow:
        own = copy(flow)
        own._nodes = [self._node(flow, node, prefix) for node in flow.nodes]
        own._taken = set(flow._taken)
        return own

    def _node(self, flow: Flow, node: Node, prefix: str) -> Node:
        if isinstance(node, Parallel):
            steps = tuple(self._step(flow, step, node, prefix) for step in node.steps)
            return attrs.evolve(node, steps=steps)
        if isinstance(node, Map):
            return attrs.evolve(node, step=self._step(flow, node.step, node, prefix))
        return self._step(flow, node, node, prefix)

    def _step(self, flow: Flow, step: Step, node: Node, prefix: str) -> Step:
        """Return a step as it is in the copy."""
        if step.nested is not None:
            return _with(step, fn=self._copy(step.nested, f"{prefix}{step.name}/"))
        mine = {
            number: fault
            for number, fault in enumerate(self._faults)
            if fault.step == prefix + step.name
        }
        for fault in mine.values():
            _check(fault, flow, step, node)
        body = {number: fault for number, fault in mine.items() if not fault.compensation}
        back = {number: fault for number, fault in mine.items() if fault.compensation}
        if step.undo is not None and back:
            undo = _with(step.undo, fn=Faulty(step.undo.fn, back, self._marks))
            step = _with(step, compensate=undo)
        return _with(step, fn=Faulty(step.fn, body, self._marks)) if body else step


def _is_error(value: object) -> bool:
    return isinstance(value, BaseException) or (
        isinstance(value, type) and issubclass(value, BaseException)
    )


def _names(flow: Flow, prefix: str) -> Iterator[str]:
    """Yield what the steps of a flow, and of the flows in it, are called by."""
    for node in flow.nodes:
        for step in steps_of(node):
            if step.nested is None:
                yield prefix + step.name
            else:
                yield from _names(step.nested, f"{prefix}{step.name}/")


def _with(step: Step, **changes: object) -> Step:
    """Return a copy of a step with changes."""
    options = {name: getattr(step, name) for name in OPTIONS}
    return Step(**{"name": step.name, "fn": step.fn, **options, **changes})  # type: ignore[arg-type]


def _check(fault: Fault, flow: Flow, step: Step, node: Node) -> None:
    """Refuse a fault that cannot happen to its step."""
    where = f"fault plan: {fault}"
    if fault.index is not None and not isinstance(node, Map):
        raise DefinitionError(f"{where}: a step has no index, only a map has items")
    hit, group = step, node if isinstance(node, Parallel) else None
    if fault.compensation:
        if step.undo is None:
            raise DefinitionError(f"{where}: the step has no compensation")
        hit, group = step.undo, None
    pool = target_of(hit, group, flow)
    here = pool in ("inline", "thread") or isinstance(pool, ThreadPool)
    if fault.kind == "crash" and here:
        raise DefinitionError(f"{where}: it runs in this process, which is not to be killed")
    if fault.kind == "finish_late" and (pool == "inline" or is_process(pool)):
        raise DefinitionError(f"{where}: only a body on a thread can be abandoned, and end late")
