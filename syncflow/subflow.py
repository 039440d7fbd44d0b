"""Flows in flows, as definitions: the body of a step that runs a flow, and ways to look inside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syncflow.context import Context
    from syncflow.definition import Step
    from syncflow.flow import Flow
    from syncflow.result import FlowResult

__all__ = ["FlowBody", "Nestable", "flows_in", "path_to", "steps_of"]


class Nestable:
    """What may stand where the function of a step may: a `Flow`, which alone derives from this.

    `Step` has to tell a flow from a function, and `Flow` is made of steps: so they meet here.
    """


class FlowBody:
    """The body of a step that runs a flow."""

    __slots__ = ("flow",)

    def __init__(self, flow: Flow) -> None:
        self.flow = flow

    def __repr__(self) -> str:
        return repr(self.flow)

    def __call__(self, ctx: Context) -> FlowResult:
        """Run the flow in this thread, as part of the run that `ctx` belongs to.

        Raises:
            TypeError: `ctx` was not made for this step.
        """
        from syncflow.run.nested import run_nested  # a definition alone needs no engine

        return run_nested(self.flow, ctx)


def steps_of(node: Any) -> tuple[Step, ...]:
    """Return the members of a group, or the step that stands for itself or for a map."""
    steps: tuple[Step, ...] = getattr(node, "steps", (node,))
    return steps


def _flows_of(nodes: Iterable[Any]) -> Iterator[Flow]:
    """Yield the flows that run as steps of nodes, and not those within them."""
    for node in nodes:
        for step in steps_of(node):
            if step.nested is not None:
                yield step.nested


def flows_in(nodes: Iterable[Any]) -> list[Flow]:
    """Return every flow in nodes, at any depth, once."""
    found = dict.fromkeys(_flows_of(nodes))
    waiting = list(found)
    while waiting:
        for inner in _flows_of(waiting.pop().nodes):
            if inner not in found:
                found[inner] = None
                waiting.append(inner)
    return list(found)


def path_to(wanted: Flow, nodes: Iterable[Any]) -> list[Flow] | None:
    """Return the flows that lead from nodes to `wanted`, which is the last; `None`: none do."""
    seen: set[Flow] = set()
    waiting = [[inner] for inner in _flows_of(nodes)]
    while waiting:
        path = waiting.pop()
        if path[-1] is wanted:
            return path
        if path[-1] not in seen:
            seen.add(path[-1])
            waiting += [[*path, inner] for inner in _flows_of(path[-1].nodes)]
    return None
