"""What is certainly a mistake in a flow although it can be defined. Nothing here runs a body.

A compensation is only said to be useless where it is never called. One of the last step is not:
the flow can still be cancelled, run out of time or be hit by Ctrl-C while that step runs, and the
step complete all the same. What is left are options for a compensation where there is none.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Final

from syncflow.definition import Parallel, Step
from syncflow.errors import SerializationError, StepCancelledError
from syncflow.mapping import Map
from syncflow.outline import checked_flow, is_process, target_of
from syncflow.render import one_line
from syncflow.subflow import flows_in, steps_of

if TYPE_CHECKING:
    from syncflow.flow import Flow

__all__ = ["check"]

#: Characters of a complaint that are shown: it may quote anything.
_WIDTH: Final = 300


def check(flow: Flow) -> list[str]:
    """Return what is certainly a mistake in a flow, or in one within it: a line each.

    - What a worker process is to call cannot be pickled. The pool's own pickler tries; that calls
      what objects define for it, but no body.
    - A function cannot be called with ``ctx``, or that of a map with ``ctx`` and an item.
    - Options of retries change nothing, such as a backoff without a delay.
    - ``compensate_on`` stands where there is no compensation.
    - A flow has no steps, so that `run` refuses it.

    Args:
        flow: Is not run.

    Returns:
        Lines without control characters, none for a flow that may be right. Whatever the objects
        in the flow do, no `Exception` of theirs gets out.
    """
    checked_flow(flow, "check()")
    lines = []
    for each in (flow, *flows_in(flow.nodes)):
        where = f"flow '{one_line(each.name)}'"
        if not each.nodes:
            lines.append(f"{where}: it has no steps, so run() refuses it")
        # Many members of a group are often made in the same wrong way: they share a line.
        found: dict[tuple[str, str], list[str]] = {}
        for part, name, complaint in _complaints(each):
            found.setdefault((part, one_line(complaint, _WIDTH)), []).append(name)
        lines += [
            f"{part}step {_listed(names)} of {where}: {complaint}"
            for (part, complaint), names in found.items()
        ]
    return lines


def _listed(names: Sequence[str]) -> str:
    others = len(names) - 1
    more = f" and {others} {'other' if others == 1 else 'others'}" if others else ""
    return f"'{one_line(names[0])}'{more}"


def _complaints(flow: Flow) -> Iterator[tuple[str, str, str]]:
    """Yield, for each mistake: which part of a step, the step's name, and what is wrong."""
    for node in flow.nodes:
        group = node if isinstance(node, Parallel) else None
        given = ("ctx", "item") if isinstance(node, Map) else ("ctx",)
        for step in steps_of(node):
            for complaint in _wrong_with(step, target_of(step, group, flow), given):
                yield "", step.name, complaint
            undo, started = step.undo, "compensate_on='started'"
            if undo is None:
                if step.compensate_on == "started":
                    yield "", step.name, f"{started} changes nothing without compensate"
                continue
            part = "the compensation of "
            for complaint in _wrong_with(undo, target_of(undo, None, flow), given):
                yield part, step.name, complaint
            if undo.compensate_on == "started":
                yield part, step.name, f"{started} is an option of the step that it undoes"


def _wrong_with(step: Step, target: str | Executor, given: Sequence[str]) -> Iterator[str]:
    if step.nested is None:
        yield from _wrong_call(step.fn, given)
        if is_process(target):
            yield from _wrong_cargo(step.fn)
    yield from _wrong_retries(step)


def _wrong_call(function: Callable[..., Any], given: Sequence[str]) -> Iterator[str]:
    try:
        if hasattr(function, "__signature__"):
            return  # is what somebody says, and need not be true
        # Nor need that of what a decorator has wrapped be the wrapper's own.
        signature = inspect.signature(function, follow_wrapped=False)
    except Exception:  # noqa: BLE001  (built-in functions have none; objects may raise anything)
        return
    try:
        signature.bind(*given)
    except TypeError as error:
        yield f"its function cannot be called with ({', '.join(given)}): {error}"


def _wrong_cargo(function: Callable[..., Any]) -> Iterator[str]:
    from syncflow.pools.wire import dump_by_value  # only what runs on processes has to pay for it

    try:
        dump_by_value(function, "its function")
    except SerializationError as refused:
        yield f"its function cannot be pickled for a process: {refused.reason}"


def _wrong_retries(step: Step) -> Iterator[str]:
    paced = {
        "backoff": step.backoff != "fixed",
        "max_retry_delay": step.max_retry_delay is not None,
        "jitter": step.jitter,
    }
    retried = {
        "retry_delay": step.retry_delay != 0,
        **paced,
        "retry_on": step.retry_on is not Exception,
    }
    if not step.retries:
        yield from _pointless(retried, "retries")
    elif _accepts_nothing(step.retry_on):
        yield "retry_on accepts no error that could be retried, so retries changes nothing"
    elif not step.retry_delay:
        yield from _pointless(paced, "retry_delay")
    elif step.max_retry_delay is not None and step.max_retry_delay < step.retry_delay:
        yield (
            f"max_retry_delay={step.max_retry_delay:.10g} is less than"
            f" retry_delay={step.retry_delay:.10g}, so no delay is as long as that"
        )


def _pointless(given: dict[str, bool], without: str) -> Iterator[str]:
    """Complain about options that were given and need another one."""
    options = [option for option, is_given in given.items() if is_given]
    if options:
        changes = "changes" if len(options) == 1 else "change"
        yield f"{' and '.join(options)} {changes} nothing without {without}"


def _accepts_nothing(retry_on: object) -> bool:
    """Tell whether these are only classes of errors that are never retried."""
    classes = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    return all(
        isinstance(one, type) and issubclass(one, (SerializationError, StepCancelledError))
        for one in classes
    )
