"""The way into a run: check the arguments of `Flow.run`, take SIGINT over, run, give it back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import Executor
from contextlib import nullcontext
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from syncflow import policy, timing
from syncflow.context import CancelToken
from syncflow.definition import Parallel, Step, checked_pools, pool_of
from syncflow.errors import DefinitionError, DefinitionTypeError
from syncflow.mapping import Map, Node
from syncflow.run.attempt import protected
from syncflow.run.places import Places, merged_pools, resolved
from syncflow.run.runner import Runner
from syncflow.run.signals import guard, release
from syncflow.run.watching import INTERRUPT
from syncflow.subflow import flows_in, steps_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from datetime import timedelta

    from syncflow.flow import Flow
    from syncflow.hooks import Hooks
    from syncflow.result import FlowResult

__all__ = ["run_flow"]


@protected
def run_flow(
    flow: Flow,
    input: Any = None,
    *,
    timeout: float | timedelta | None = None,
    cancel: CancelToken | None = None,
    run_id: str | None = None,
    drain: float | timedelta = 0.0,
    pools: Mapping[str, str | Executor] | None = None,
    progress: bool = False,
) -> FlowResult:
    """Check the arguments and run; see `Flow.run`."""
    where = f"flow {flow.name!r}: run"
    if timeout is not None:
        timeout = policy.seconds(timeout, "timeout", where, zero_ok=False)
    if cancel is not None and not isinstance(cancel, CancelToken):
        raise DefinitionTypeError(f"{where}: cancel must be a CancelToken, not {cancel!r}")
    run_id = os.urandom(16).hex() if run_id is None else policy.name(run_id, "run_id", where)
    drain = policy.seconds(drain, "drain", where)
    policy.flag(progress, "progress", where)
    nodes = flow.nodes
    if not nodes:
        raise DefinitionError(f"flow {flow.name!r} is empty: it has no step to run")
    inside = flows_in(nodes)
    for inner in inside:
        if not inner.nodes:
            raise DefinitionError(
                f"flow {inner.name!r}, in flow {flow.name!r}, is empty: it has no step to run"
            )
    replaced = _replaced([flow, *inside], pools, where) if pools else {}
    places = Places(merged_pools(flow, replaced), replaced)
    display: AbstractContextManager[Sequence[Hooks]] = nullcontext(())
    if progress:
        from syncflow.display import shown  # without it, a run need not wait for it

        display = shown(flow.name, nodes)
    inbox: SimpleQueue[Any] = SimpleQueue()
    taken = guard(inbox, INTERRUPT)
    result = runner = None
    try:
        with display as hooks:
            runner = Runner(flow, nodes, run_id, places, inbox, taken, cancel, timeout, hooks)
            timing.enter()
            try:
                result = runner.run(input, drain)
            finally:
                timing.leave()
                runner.close()
        if taken is not None:
            # Only from here on can Ctrl-C raise again; what it then finds is the finished result.
            # It raises where something is called: so nothing is, outside this `try`, on a good end.
            release(taken)
            pressed, taken = taken.count, None
            if pressed:
                raise KeyboardInterrupt
        return result
    except KeyboardInterrupt as interrupt:
        if result is not None:
            interrupt.flow_result = result  # type: ignore[attr-defined]
        raise
    finally:
        if taken is not None:
            release(taken)
        # The traceback of an inline body leads to this frame: keep nothing that leads back to it.
        del input, result, runner


def _replaced(
    flows: list[Flow], pools: Mapping[str, str | Executor], where: str
) -> dict[str, str | Executor]:
    """Return the replacements for this run, checked against the steps of all flows in it."""
    replaced = checked_pools(pools, where)
    known = dict.fromkeys([*(name for flow in flows for name in flow.pools), "thread", "process"])
    for name in replaced:
        policy.choice(name, "a name in pools", where, known=[*known])
    for flow in flows:
        merged = merged_pools(flow, replaced)
        for node in flow.nodes:
            for step in steps_of(node):
                _refuse_inline(step, node, merged, f"{where}: step {step.name!r}")
                if step.undo is not None:
                    _refuse_inline(
                        step.undo, None, merged, f"{where}: the compensation of step {step.name!r}"
                    )
    return replaced


def _refuse_inline(
    step: Step, node: Node | None, pools: Mapping[str, str | Executor], where: str
) -> None:
    """Raise when `pools` sends a step of a node (`None`: a compensation) inline that cannot be."""
    pool = pool_of(step, node if isinstance(node, Parallel) else None)
    if pool == "inline" or step.nested is not None or resolved(pool, pools) != "inline":
        return  # a definition that says "inline" has been checked, and flows stay on their threads
    if isinstance(node, Parallel):
        why = "is in a group"
    elif isinstance(node, Map):
        why = "is a map, which needs workers"
    elif step.timeout is not None:
        why = "has a timeout"
    else:
        return
    raise DefinitionError(f"{where} {why}: pools cannot map {pool!r} to 'inline'")
