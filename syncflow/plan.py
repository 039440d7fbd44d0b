"""A flow before it runs, as a tree of text. Nothing here runs a body.

`Flow` imports this when a notebook shows one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING

import attrs

from syncflow.outline import Entry, outline_of

if TYPE_CHECKING:
    from syncflow.flow import Flow

__all__ = ["mimebundle", "tree"]


def tree(flow: Flow) -> str:
    """Draw a flow as a tree of text, and below it what a rollback undoes, in its order.

    Each step is shown with the pool that it runs on and the policies that are not the default.
    Where many steps of a group say the same, most are only counted; a flow that is used more than
    once is drawn once. No control character of a name gets into the text.

    Args:
        flow: Is not run. Bodies are not called, and sources of maps not iterated.

    Returns:
        Lines without a line break at the end.
    """
    top = outline_of(flow, "tree()")
    lines = [top.text, *_branches(top.inner)]
    if top.reversible:
        lines += ["", "undone in this order, as far as it was done:"]
        lines += _branches(_backwards(top.inner))
    else:
        lines += ["", "nothing is undone: no step has a compensation"]
    return "\n".join(lines)


def _branches(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield the lines of entries and of what is in them."""
    entries = tuple(entries)
    for entry in entries:
        is_last = entry is entries[-1]
        yield ("└─ " if is_last else "├─ ") + entry.text
        for inner in _branches(entry.inner):
            yield ("   " if is_last else "│  ") + inner


def _backwards(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield what is undone, the last first; a rollback knows members, but no groups."""
    for entry in reversed(tuple(entries)):
        if entry.kind == "group":
            yield from _backwards(entry.inner)
        elif entry.reversible:
            details = () if entry.undo is None else (entry.undo,)
            inner = tuple(_backwards(entry.inner))
            yield attrs.evolve(entry, details=details, undo=None, inner=inner)


def mimebundle(
    flow: Flow, include: Collection[str] | None = None, exclude: Collection[str] | None = None
) -> dict[str, str]:
    """Return what a notebook may show: the flowchart, or else the tree and what looks wrong.

    JupyterLab draws ``text/vnd.mermaid`` from 4.1 on, Jupyter Notebook from 7.1 on.

    Args:
        flow: As for `tree`.
        include: The only types that are wanted; none or `None` for all.
        exclude: Types that are not wanted.
    """
    made: dict[str, Callable[[Flow], str]] = {"text/plain": _plain, "text/vnd.mermaid": _drawn}
    return {
        kind: make(flow)
        for kind, make in made.items()
        if (not include or kind in include) and (not exclude or kind not in exclude)
    }


def _plain(flow: Flow) -> str:
    from syncflow.doubts import check

    doubts = [f"warning: {doubt}" for doubt in check(flow)]
    return "\n".join([tree(flow), *([""] if doubts else []), *doubts])


def _drawn(flow: Flow) -> str:
    from syncflow.flowchart import mermaid

    return mermaid(flow)
