"""A flow as lines of text: each node with where it runs, its policies and what undoes it.

`plan.py` draws them. Names are users' own, so every text here is one line without control
characters. What is alike or too much is counted instead of listed, and a flow that is used more
than once is told once: an outline is as long as what there is to tell, not as the flow.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, Final

import attrs

from syncflow import policy
from syncflow.definition import Parallel, Step, pool_of
from syncflow.flow import Flow
from syncflow.mapping import Map
from syncflow.render import one_line

__all__ = [
    "Entry",
    "checked_flow",
    "counted",
    "function_name",
    "is_process",
    "outline_of",
    "target_of",
]

#: Entries in a row that may say the same; of more, only these many are listed.
_ALIKE: Final = 12
_FIRST, _LAST = 2, 1

#: Entries of one group or flow; of more, only the first and last are listed.
_MOST: Final = 60
_MOST_FIRST, _MOST_LAST = 45, 10

#: Flows within each other that are listed.
_DEEPEST: Final = 30

#: Sources of maps whose length costs nothing and runs no code of the user's.
_SIZED: Final = (list, tuple, dict, set, frozenset, range)


@attrs.frozen
class Entry:
    """One node of a flow or member of a group; or several, counted."""

    name: str
    #: What it is: `step`, `map`, `group`, `flow`, or `more` for several.
    kind: str
    #: Where it runs and what is not the default.
    details: tuple[str, ...] = ()
    #: What undoes it by itself, or `None`.
    undo: str | None = None
    #: Of a group its members, of a flow its nodes.
    inner: tuple[Entry, ...] = ()
    #: How many it stands for.
    count: int = 1

    @property
    def reversible(self) -> bool:
        """Whether it, or something in it, is undone."""
        return self.undo is not None or any(entry.reversible for entry in self.inner)

    @property
    def about(self) -> str:
        """All there is to say of it but its name."""
        undo = () if self.undo is None else (f"undo {self.undo}",)
        return ", ".join((*self.details, *undo))

    @property
    def text(self) -> str:
        """It as a line."""
        return "  ".join(filter(None, (self.name, self.about)))


def checked_flow(flow: object, where: str) -> Flow:
    """Check that it is a flow; `where`: the function that was called."""
    if not isinstance(flow, Flow):
        raise policy.wrong_type(flow, "flow", where, "a Flow")
    return flow


def outline_of(flow: Flow, where: str) -> Entry:
    """Return the entry that stands for a whole flow; `where`: as for `checked_flow`."""
    checked_flow(flow, where)
    return Entry(one_line(flow.name), "flow", _flow_details(flow), None, _nodes_of(flow, {flow: 0}))


def target_of(step: Step, group: Parallel | None, flow: Flow) -> str | Executor:
    """Return where a step of a flow runs, names of the flow's own resolved."""
    pool = pool_of(step, group)
    return flow.pools.get(pool, pool) if isinstance(pool, str) else pool


def is_process(target: str | Executor) -> bool:
    """Tell whether what runs there runs on a worker process of ours."""
    # Who has made a ProcessPool has imported its module, which costs more than a look at a flow.
    pools: Any = sys.modules.get("syncflow.pools.process")
    return target == "process" or (pools is not None and isinstance(target, pools.ProcessPool))


def function_name(function: object) -> str:
    """Return what to call a function, whatever callable it is."""
    while isinstance(function, partial):
        function = function.func
    try:
        name = getattr(function, "__name__", None)
    except Exception:  # noqa: BLE001  (what a user's object raises is no reason to show nothing)
        name = None
    return one_line(name if isinstance(name, str) else type(function).__name__)


def _nodes_of(flow: Flow, told: dict[Flow, int]) -> tuple[Entry, ...]:
    """Return the entries of a flow's nodes, given at what depth each flow so far was told."""
    return _shortened([_entry_of(node, flow, told) for node in flow.nodes])


def _entry_of(node: Any, flow: Flow, told: dict[Flow, int]) -> Entry:
    if isinstance(node, Parallel):
        members = [_step_entry(step, node, flow, told) for step in node.steps]
        return Entry(one_line(node.name), "group", _group_details(node), None, _shortened(members))
    if isinstance(node, Map):
        where, *policies = _step_details(node.step, None, flow)
        details = (f"map over {_source(node.over)}", where, *_map_details(node), *policies)
        undo = _undo_text(node.step, flow)
        if undo is not None:
            undo += ", item by item, the last one first"
        return Entry(one_line(node.name), "map", details, undo)
    return _step_entry(node, None, flow, told)


def _step_entry(step: Step, group: Parallel | None, flow: Flow, told: dict[Flow, int]) -> Entry:
    details, nested = _step_details(step, group, flow), step.nested
    if nested is None:
        return Entry(one_line(step.name), "step", details, _undo_text(step, flow))
    title = "flow" if nested.name == step.name else f"flow {one_line(nested.name)}"
    depth = told[flow] + 1
    if nested in told or depth > _DEEPEST:
        title += " as above" if nested in told else " too deep to be shown"
        undo = "its steps" if step.reversible else None
        return Entry(one_line(step.name), "step", (title, *details), undo)
    told[nested] = depth
    details = (title, *details, *_flow_details(nested))
    return Entry(one_line(step.name), "flow", details, None, _nodes_of(nested, told))


# --- what is not the default -----------------------------------------------------------------


def _flow_details(flow: Flow) -> tuple[str, ...]:
    return _given(
        ("max_concurrency {}", flow.max_concurrency),
        ("validates its input", flow.validate),
    )


def _group_details(group: Parallel) -> tuple[str, ...]:
    count = len(group.steps)
    return (
        f"group of {count} {'step' if count == 1 else 'steps'}",
        *_given(
            ("fail_fast", group.fail_fast or None),
            ("min_success {}", group.min_success),
            ("max_concurrency {}", group.max_concurrency),
            ("timeout {}", _seconds(group.timeout)),
        ),
    )


def _map_details(node: Map) -> tuple[str, ...]:
    return _given(
        ("fail_fast", node.fail_fast or None),
        ("min_success {}", node.min_success),
        ("max_concurrency {}", node.max_concurrency),
        ("chunk_size {}", node.chunk_size),
        ("values are dropped", None if node.keep_values else True),
    )


def _step_details(step: Step, group: Parallel | None, flow: Flow) -> tuple[str, ...]:
    pool, target = pool_of(step, group), target_of(step, group, flow)
    where = _pool_name(pool)
    if target is not pool:
        where += f" -> {_pool_name(target)}"
    return (
        where,
        *_given(
            ("timeout {}", _seconds(step.timeout)),
            ("{}", _retries(step)),
            ("grace {}", _seconds(step.grace) if step.grace != 1 else None),
        ),
    )


def _given(*details: tuple[str, object]) -> tuple[str, ...]:
    """Return the details that have a value."""
    return tuple(text.format(value) for text, value in details if value is not None)


def _pool_name(pool: str | Executor) -> str:
    return one_line(pool if isinstance(pool, str) else type(pool).__name__)


def _seconds(duration: float | None) -> str | None:
    return None if duration is None else f"{duration:.10g} s"


def _retries(step: Step) -> str | None:
    """Say how often and when a step is tried again."""
    if not step.retries:
        return None
    delay = _seconds(step.retry_delay) if step.retry_delay else None
    apart = "after {}" if step.backoff == "fixed" else f"{step.backoff} from {{}}"
    how = _given(
        (apart, delay),
        ("at most {}", _seconds(step.max_retry_delay)),
        ("jitter", step.jitter or None),
        ("on {}", None if step.retry_on is Exception else _errors(step.retry_on)),
    )
    count = f"{step.retries} {'retry' if step.retries == 1 else 'retries'}"
    return f"{count} ({', '.join(how)})" if how else count


def _errors(retry_on: object) -> str:
    if isinstance(retry_on, tuple):
        return one_line(" or ".join(map(function_name, retry_on))) or "no error"
    return function_name(retry_on)


def _undo_text(step: Step, flow: Flow) -> str | None:
    """Say what undoes a step, and how; `None`: nothing does."""
    undo = step.undo
    if undo is None:
        return None
    where, *policies = _step_details(undo, None, flow)
    how = [*([] if where == "inline" else [where]), *policies]
    if step.compensate_on == "started":
        how.append("even if it only started")
    name = function_name(undo.fn)
    return f"{name} ({', '.join(how)})" if how else name


def _source(over: object) -> str:
    """Say where the items of a map come from, without iterating."""
    if isinstance(over, str):
        return one_line(over)
    if type(over) in _SIZED:
        return f"{type(over).__name__} of {len(over)}"  # type: ignore[arg-type]
    return function_name(over) + ("" if isinstance(over, Iterable) else "()")


# --- what is too much to list ----------------------------------------------------------------


def _shortened(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Count what is alike, and then what is too much."""
    kept: list[Entry] = []
    for row in _rows(entries):
        many = len(row) > _ALIKE
        kept += _cut(row, _FIRST, _LAST, "more like these") if many else row
    return tuple(_cut(kept, _MOST_FIRST, _MOST_LAST, "others") if len(kept) > _MOST else kept)


def _rows(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Split entries wherever one differs from the one before in more than its name."""
    rows: list[list[Entry]] = []
    for entry in entries:
        if rows and not entry.inner and attrs.evolve(rows[-1][0], name=entry.name) == entry:
            rows[-1].append(entry)
        else:
            rows.append([entry])
    return rows


def _cut(entries: list[Entry], first: int, last: int, words: str) -> list[Entry]:
    """Keep the first and last ones, and count what is between them."""
    return [*entries[:first], counted(entries[first:-last], words), *entries[-last:]]


def counted(entries: Sequence[Entry], words: str) -> Entry:
    """Return one entry that stands for several."""
    count = sum(entry.count for entry in entries)
    undone = {entry.undo or "its steps" for entry in entries if entry.reversible}
    undo = "each in turn" if len(undone) > 1 else next(iter(undone), None)
    return Entry(f"... {count} {words}", "more", (), undo, (), count)
