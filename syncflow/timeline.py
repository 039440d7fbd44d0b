"""A run as a drawing for a terminal. `result.py` imports this on use.

Only ASCII is drawn, as whatever stdout is may not take more; names are as the user wrote them, with
control characters escaped.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from syncflow import policy
from syncflow.render import one_line, seconds, summary
from syncflow.result import MapResult, StepStatus
from syncflow.spans import WAITING, Span, flow_in, spans

if TYPE_CHECKING:
    from syncflow.result import FlowResult

__all__ = ["draw"]

#: Columns where stdout is no terminal, and the fewest that make a drawing.
_DEFAULT_WIDTH: Final = 100
_LEAST_WIDTH: Final = 40

#: Seconds; no run is drawn as shorter.
_SHORTEST: Final = 1e-6

#: Rows that are drawn one by one.
_MOST_ROWS: Final = 60
#: Of them, those kept for the end of the run.
_LAST_ROWS: Final = 10

#: What is drawn, the more important last: where two things share a column, that one is seen.
_MEANINGS: Final = {
    ".": "waited",
    "-": "group",
    "=": "ran",
    "<": "undone",
    "/": "cancelled",
    "x": "failed",
}
_RANKS: Final = {mark: rank for rank, mark in enumerate(_MEANINGS)}


class _Row(NamedTuple):
    label: str
    note: str
    bars: Sequence[Span]
    #: Of the step or compensation; empty for others.
    status: str = ""


def draw(result: FlowResult, width: int | None) -> str:
    """Return the drawing; see `FlowResult.timeline`."""
    if width is None:
        width = shutil.get_terminal_size((_DEFAULT_WIDTH, 24)).columns
    else:
        where = f"result of flow {policy.shown(result.name)}: timeline"
        policy.count(width, "width", where, least=1)
    width = max(_LEAST_WIDTH, width)
    rows = list(_abridged(_rows(result)))
    most = width // 3  # of labels, and of notes
    shown = [(one_line(row.label, most), row.bars, one_line(row.note, most)) for row in rows]
    labels = max((len(label) for label, _, _ in shown), default=0)
    notes = max((len(note) for _, _, note in shown), default=0)
    columns = width - labels - notes - 4
    length = max(_SHORTEST, result.duration) if math.isfinite(result.duration) else _SHORTEST
    axis = f"0 s{seconds(length):>{columns - 3}}"
    lines = [summary(result), "", f"{'':{labels}}  {axis}"]
    seen: set[str] = set()
    for label, bars, note in shown:
        bar = _bar(bars, columns, length)
        seen.update(bar)
        lines.append(f"{label:{labels}} |{bar}| {note}".rstrip())
    legend = [f"{mark} {meaning}" for mark, meaning in _MEANINGS.items() if mark in seen]
    return "\n".join([*lines, "", "   ".join(legend)]).rstrip()


def _rows(result: FlowResult) -> list[_Row]:
    """Return a row for each group and step, and one for each step that was compensated."""
    bars: dict[tuple[str, ...], list[Span]] = {}
    undone: dict[tuple[str, ...], list[Span]] = {}
    for span in spans(result):
        if span.kind in WAITING or span.kind in ("group", "attempt", "items"):
            bars.setdefault(span.path, []).append(span)
        elif span.kind == "compensation":
            undone.setdefault(span.path, []).append(span)
    rows = list(_steps(result, (), "", bars))
    for path, compensations in sorted(undone.items(), key=lambda entry: entry[1][0].start):
        last = compensations[-1]
        note = _note(last.end - compensations[0].start, last.status, len(compensations))
        rows.append(_Row(f"undo {' / '.join(path)}", note, compensations, last.status))
    return rows


def _steps(
    result: FlowResult,
    path: tuple[str, ...],
    indent: str,
    bars: dict[tuple[str, ...], list[Span]],
) -> Iterator[_Row]:
    """Yield a row for each group and step of a flow, and of the flows in it."""
    group = None
    for step in result.steps:
        if step.group != group and step.group is not None:
            whole = result.groups[step.group]
            skipped = whole.status == StepStatus.SKIPPED
            note = whole.status if skipped else _note(whole.duration, whole.status, 1)
            yield _Row(indent + whole.name, note, bars.get((*path, whole.name), ()))
        group = step.group
        inset = indent if group is None else f"{indent}  "
        here = (*path, step.name)
        note = _note(step.duration, step.status, step.attempts) if step.attempts else step.status
        if isinstance(step, MapResult) and step.failed:
            note += f", {step.failed} failed"
        yield _Row(inset + step.name, note, bars.get(here, ()), step.status)
        inner = flow_in(step, result.run_id)
        if inner is not None:
            yield from _steps(inner, here, f"{inset}  ", bars)


def _note(duration: float, status: str, attempts: int) -> str:
    tries = f", {attempts} attempts" if attempts > 1 else ""
    return f"{seconds(duration)}{'' if status == StepStatus.COMPLETED else f' {status}'}{tries}"


def _abridged(rows: list[_Row]) -> Iterator[_Row]:
    """Yield the rows, and of very many those of failed steps, the first and the last.

    The others are drawn as one where they were.
    """
    bad = [at for at, row in enumerate(rows) if row.status in ("failed", "cancelled")]
    kept = set(bad[: _MOST_ROWS // 2]) | set(range(max(0, len(rows) - _LAST_ROWS), len(rows)))
    kept |= set(range(min(len(rows), _MOST_ROWS - len(kept))))
    if len(rows) <= _MOST_ROWS:
        kept = set(range(len(rows)))
    left_out: list[_Row] = []
    for at, row in enumerate(rows):
        if at not in kept:
            left_out.append(row)
            continue
        if left_out:
            yield _together(left_out)
            left_out = []
        yield row


def _together(rows: Sequence[_Row]) -> _Row:
    """Return one row for many."""
    statuses = Counter(row.status for row in rows if row.status)
    note = ", ".join(f"{count} {status}" for status, count in statuses.items())
    return _Row(f"({len(rows)} more)", note, [bar for row in rows for bar in row.bars])


def _bar(bars: Iterable[Span], columns: int, length: float) -> str:
    """Draw bars into so many columns, which stand for so many seconds."""
    cells = [" "] * columns
    for span in sorted(bars, key=lambda span: _RANKS[_mark(span)]):
        first = min(int(span.start / length * columns), columns - 1)
        last = min(max(first + 1, math.ceil(span.end / length * columns)), columns)
        cells[first:last] = _mark(span) * (last - first)
    return "".join(cells)


def _mark(span: Span) -> str:
    if span.kind in WAITING:
        return "."
    if span.kind == "group":
        return "-"
    if span.status == StepStatus.FAILED:
        return "x"
    if span.status == StepStatus.CANCELLED:
        return "/"
    return "<" if span.kind == "compensation" else "="
