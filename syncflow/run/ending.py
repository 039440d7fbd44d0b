"""When a run is over: the results of all its steps, also of those it never reached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from syncflow.definition import Parallel, pool_of
from syncflow.mapping import Map, Node
from syncflow.result import GroupResult, MapResult, StepResult, StepStatus
from syncflow.run.places import Places
from syncflow.subflow import steps_of

__all__ = ["all_results"]


def all_results(
    nodes: Sequence[Node], known: Mapping[str, StepResult], groups: dict[str, GroupResult]
) -> Iterator[StepResult]:
    """Yield the result of every step, in definition order; make those never reached.

    Args:
        nodes: Of the flow.
        known: The results of the steps that have settled.
        groups: Of the groups that have; gets those never reached.
    """
    for node in nodes:
        parallel = node if isinstance(node, Parallel) else None
        skipped = []
        for step in steps_of(node):
            if step.name in known:
                yield known[step.name]
                continue
            is_map = isinstance(node, Map)
            result = (MapResult if is_map else StepResult)(
                step.name, None if parallel is None else parallel.name, StepStatus.SKIPPED,
                [] if is_map else None, None, 0, 0.0, 0.0, 0.0, None,
                Places.name(pool_of(step, parallel)), None,
            )  # fmt: skip
            skipped.append(result)
            yield result
        if parallel is not None and skipped:
            groups[parallel.name] = GroupResult(
                parallel.name, StepStatus.SKIPPED, None, 0.0, tuple(skipped)
            )
