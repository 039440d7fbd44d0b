"""Results as text, HTML and plain data. `result.py` imports this on use.

Names, messages and values come from users' code, so nothing here trusts them: whatever their
`str` and `repr` do, no function raises, and none lets a control character through.
"""

from __future__ import annotations

import math
import reprlib
from datetime import date
from html import escape
from typing import TYPE_CHECKING, Any

from syncflow.errors import describe, text_of
from syncflow.result import (
    CompensationResult,
    FlowResult,
    FlowStatus,
    GroupResult,
    MapResult,
    RollbackStatus,
    StepResult,
    StepStatus,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_HEADERS = ("step", "status", "attempts", "duration", "pool", "value or error", "compensation")
_ALIGNMENT = ("left", "left", "right", "right", "left", "left", "left")
_CELL_WIDTH = 60
_LINE_WIDTH = 200

# What each kind of result shows in `to_dict`, the more special one first; for `GroupResult.steps`
# see `_record`.
_KEYS: dict[type, tuple[str, ...]] = {
    FlowResult: (
        *("name", "run_id", "status", "ok", "partial", "error", "rollback"),
        *("steps", "groups", "compensations", "abandoned", "started_at", "duration"),
    ),
    MapResult: (
        *("name", "group", "status", "ok", "value", "errors", "error", "completed", "failed"),
        *("cancelled", "attempts", "queued", "duration", "backoff", "started_at", "pool"),
        *("worker", "compensation"),
    ),
    StepResult: (
        *("name", "group", "status", "ok", "value", "error", "attempts", "queued", "duration"),
        *("backoff", "started_at", "pool", "worker", "compensation"),
    ),
    GroupResult: (
        *("name", "status", "ok", "error", "duration"),
        *("completed", "failed", "cancelled", "steps"),
    ),
    CompensationResult: (
        *("step_name", "status", "ok", "error", "attempts", "started_at", "duration", "late"),
    ),
}

_SEQUENCES: tuple[type[Collection[Any]], ...] = (list, tuple, set, frozenset)

# Nesting that json's encoder still follows, with room for the caller's own stack.
_DEEPEST = 100


def table(result: FlowResult) -> str:
    """Return one line a step, members listed under their group, and a last line about the run."""
    import tabulate

    cells = list(_rows(result))
    rows = tabulate.tabulate(
        cells,
        headers=_HEADERS,
        disable_numparse=True,
        colalign=_ALIGNMENT if cells else None,  # without rows, tabulate 0.9 has no columns
    )
    return f"{rows}\n\n{summary(result)}"


def html(result: FlowResult) -> str:
    """Return the same as an HTML fragment, every text in it escaped exactly once."""
    head = "".join(f"<th>{escape(header)}</th>" for header in _HEADERS)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in _rows(result)
    )
    return (
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n"
        f"<p>{escape(summary(result))}</p>"
    )


def to_dict(result: FlowResult) -> dict[str, Any]:
    """Return the result as data that `json.dumps(..., allow_nan=False)` accepts."""
    return {"schema_version": 1, **_record(result, _KEYS[FlowResult], (id(result),))}


def jsonable(value: object, inside: tuple[int, ...] = ()) -> Any:
    """Return `value` as JSON's own types; never raises.

    Args:
        value: Anything.
        inside: The ids of the containers that `value` is in, outermost first: a container in
            itself becomes `"..."`, and what is nested too deeply its `repr`.
    """
    try:
        return _jsonable(value, inside)
    except Exception:  # noqa: BLE001  (what a user's object raises is no reason to lose the rest)
        return text_of(value, repr)


def _jsonable(value: Any, inside: tuple[int, ...]) -> Any:
    # The type is asked, not the object (`isinstance` reads `__class__`, which a proxy may compute),
    # and the built-in methods are called, not what a subclass made of them.
    kind = type(value)
    if value is None or kind is bool:
        return value
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, int):
        return _integer(int.__int__(value))
    if issubclass(kind, float):
        number = float.__float__(value)
        return number if math.isfinite(number) else None
    if issubclass(kind, date):
        return str.__str__(value.isoformat())
    if issubclass(kind, BaseException):
        notes = getattr(value, "__notes__", ())
        notes = [text_of(note) for note in notes] if isinstance(notes, list | tuple) else []
        return {"type": kind.__name__, "message": text_of(value), "notes": notes}

    if id(value) in inside:
        return "..."
    if len(inside) >= _DEEPEST:
        return text_of(value, repr)
    inside = (*inside, id(value))
    # Containers are copied first: the body of an abandoned step may still be writing to them.
    if issubclass(kind, dict):
        items = list(dict.items(value))
        return {text_of(key): jsonable(item, inside) for key, item in items}
    for sequence in _SEQUENCES:
        if issubclass(kind, sequence):
            return [jsonable(item, inside) for item in list(sequence.__iter__(value))]
    for record, keys in _KEYS.items():
        if issubclass(kind, record):
            return _record(value, keys, inside)
    return text_of(value, repr)


def _record(result: Any, keys: tuple[str, ...], inside: tuple[int, ...]) -> dict[str, Any]:
    data = {}
    for key in keys:
        value = getattr(result, key)
        if key == "steps" and isinstance(result, GroupResult):
            value = [step.name for step in value]  # they are in the flow's `steps` already
        data[key] = jsonable(value, inside)
    return data


def _integer(number: int) -> int | str:
    """Return the number, or its hexadecimal form where Python refuses to write out its digits."""
    try:
        int.__repr__(number)
    except ValueError:
        return hex(number)
    return number


def _rows(result: FlowResult) -> Iterator[tuple[str, ...]]:
    group = None
    for step in result.steps:
        if step.group != group and step.group is not None:
            yield _group_row(result.groups[step.group])
        group = step.group
        yield (
            # A dash, because tabulate strips spaces.
            ("" if group is None else "- ") + one_line(step.name),
            str(step.status),
            str(step.attempts),
            seconds(step.duration) if step.attempts else "",
            one_line(step.pool),
            _outcome(step),
            "" if step.compensation is None else str(step.compensation),
        )


def _group_row(group: GroupResult) -> tuple[str, ...]:
    duration = "" if group.status == StepStatus.SKIPPED else seconds(group.duration)
    error = "" if group.error is None else one_line(describe(group.error))
    return (one_line(group.name), str(group.status), "", duration, "", error, "")


def _outcome(step: StepResult) -> str:
    if step.error is not None:
        return one_line(describe(step.error))
    if isinstance(step, MapResult) and step.failed:
        return f"{step.completed} items completed, {step.failed} failed"
    if step.value is None or step.status == StepStatus.SKIPPED:
        return ""
    return one_line(text_of(step.value, _Brief().repr))


def summary(result: FlowResult) -> str:
    """Say in one line how the run went."""
    line = f"{one_line(result.name)}: {result.status} in {seconds(result.duration)}"
    if result.status != FlowStatus.COMPLETED or result.rollback != RollbackStatus.NOT_NEEDED:
        line += f", rollback {result.rollback.replace('_', ' ')}"
    if result.abandoned:
        line += f", still running: {one_line(', '.join(result.abandoned), _LINE_WIDTH)}"
    if result.error is not None:
        line += f" ({one_line(describe(result.error), _LINE_WIDTH)})"
    return line


def seconds(duration: float) -> str:
    """Return a duration for people."""
    return f"{duration:.3f} s" if duration >= 0.001 else f"{duration:.6f} s"


def one_line(text: str, width: int = _CELL_WIDTH) -> str:
    """Escape what is not printable (controls, bidi marks, lone surrogates); cut what is long."""
    characters = (
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text[: width + 1]
    )
    line = "".join(characters)
    return line if len(line) <= width else line[: width - 3] + "..."


class _Brief(reprlib.Repr):
    """A `repr` that looks at no more of a big value than it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = _CELL_WIDTH

    def repr_bytes(self, value: bytes, level: int) -> str:
        return repr(value[:_CELL_WIDTH])

    repr_bytearray = repr_bytes
