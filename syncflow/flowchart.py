"""A flow before it runs, as a Mermaid flowchart: https://mermaid.js.org/syntax/flowchart.html."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from syncflow.outline import Entry, counted, outline_of

if TYPE_CHECKING:
    from syncflow.flow import Flow

__all__ = ["mermaid"]

# Mermaid's own limits are 500 edges (`maxEdges`; 280 in version 10.6) and
# 50,000 characters (`maxTextSize`). What has more is not drawn at all.

#: Nodes after which the rest is counted. No node has more than two edges that lead to it.
_MOST_NODES: Final = 120

#: Characters after which the rest is counted.
_MOST_TEXT: Final = 35_000

#: Subgraphs within each other. What is deeper is a node: so few more are begun once it is too much.
_DEEPEST: Final = 8

_INDENT: Final = "    "


def mermaid(flow: Flow) -> str:
    """Draw a flow as a Mermaid flowchart, which GitHub and notebooks show as a picture.

    Groups and inner flows are subgraphs. Dotted arrows lead from what is undone first to what is
    undone next. As in `tree`, much is counted instead of drawn, so that the text stays within
    Mermaid's limits.

    Args:
        flow: Is not run. Bodies are not called, and sources of maps not iterated.

    Returns:
        Lines without a line break at the end, valid whatever the names are.
    """
    return "\n".join(_Flowchart(outline_of(flow, "mermaid()")).lines)


class _Flowchart:
    """The lines of a flowchart, as they are drawn."""

    def __init__(self, top: Entry) -> None:
        self.lines = ["flowchart TD"]
        self._nodes = self._size = 0
        #: The ids of what is undone, in order of declaration.
        self._undone: list[str] = []
        start = self._node(top, _INDENT)
        self._chain([start, *self._several(top.inner, 1)], "-->", _INDENT)
        self._chain(self._undone[::-1], "-. undo .->", _INDENT)

    def _several(self, entries: Sequence[Entry], depth: int) -> list[str]:
        """Draw the nodes of a flow, or members of a group; return their ids."""
        ids: list[str] = []
        for position, entry in enumerate(entries):
            if self._nodes >= _MOST_NODES or self._size >= _MOST_TEXT:
                return [*ids, self._draw(counted(entries[position:], "others"), depth)]
            ids.append(self._draw(entry, depth))
        return ids

    def _draw(self, entry: Entry, depth: int) -> str:
        """Draw one node with what is in it; return its id."""
        indent = _INDENT * depth
        if not entry.inner or depth > _DEEPEST:
            own = self._node(entry, indent)
            if entry.reversible:
                self._undone.append(own)
            return own
        own = self._node(entry, f"{indent}subgraph ")
        ids = self._several(entry.inner, depth + 1)
        if entry.kind == "flow":
            self._chain(ids, "-->", indent + _INDENT)
        self._add(f"{indent}end")
        return own

    def _node(self, entry: Entry, start: str) -> str:
        own = f"n{self._nodes}"
        self._nodes += 1
        label = "<br/>".join(map(_escaped, filter(None, (entry.name, entry.about))))
        # Rectangles only: of other shapes, Mermaid 11 at times fails to find where an arrow ends.
        self._add(f'{start}{own}["{label}"]')
        return own

    def _chain(self, ids: Sequence[str], arrow: str, indent: str) -> None:
        for i in range(1, len(ids)):
            self._add(f"{indent}{ids[i - 1]} {arrow} {ids[i]}")

    def _add(self, line: str) -> None:
        self.lines.append(line)
        self._size += len(line)


#: All but letters, digits, commas, single spaces, hyphens, slashes and underscores within words,
#: and dots within numbers. (A space after `direction` would make the line a statement.)
_SPECIAL: Final = re.compile(
    r"""[^\w ,./-]
    | (?<!\S)[ ] | [ ](?!\S) | (?<=direction)[ ]
    | (?<![^\W_])[_/-] | [_/-](?![^\W_])
    | (?<!\d)\. | \.(?!\d)""",
    re.VERBOSE | re.IGNORECASE,
)

#: Active even when given by number. Alone among zero-width spaces they mean nothing...
_ISOLATED: Final = frozenset("_-+=.:@#$)]\\°¶")

#: ... but these would still be emphasis, code and deletion: what looks like them stands for them.
_ALIKE: Final = {"*": "\u2217", "`": "\u02cb", "~": "\u223c"}


def _escaped(text: str) -> str:
    """Return a text for within the quotes of a label, where it means nothing but itself.

    Special characters are given by their numbers, as `#35;`. To escape quotes alone would not do:
    Mermaid searches the text in them for directives, styles and statements. Nor would numbers
    alone: some versions decode them first, and then look for icons, formulas and Markdown, in
    which ``1. fetch`` is a list (and "unsupported"), and ``__init__`` is bold.
    """
    return _SPECIAL.sub(_by_number, text)


def _by_number(found: re.Match[str]) -> str:
    character = _ALIKE.get(found[0], found[0])
    around = f"#{0x200B};" if character in _ISOLATED else ""
    return f"{around}#{ord(character)};{around}"
