"""A run as a file that Perfetto and chrome://tracing open. `result.py` imports this on use.

The format is that of Chromium's document "Trace Event Format"; of it, complete events ("X"),
metadata ("M") and nestable asynchronous events ("b", "e"). Complete events of one row must nest, or
viewers draw them wrong. chrome://tracing colours by `cname`; Perfetto does not, on purpose, and
gives each name a colour of its own: so what failed says that in its name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from syncflow import policy
from syncflow.render import one_line
from syncflow.spans import WAITING, Span, spans

if TYPE_CHECKING:
    from syncflow.result import FlowResult

__all__ = ["events", "write"]

#: One event, ready for JSON.
Event = dict[str, Any]

#: The process that all rows are in; the row of the thread that called `run` has the same number,
#: which viewers put first.
_PROCESS: Final = 1

#: Microseconds by which two spans that touch may overlap: their ends are rounded.
_ROUNDING: Final = 3

#: What chrome://tracing calls the colours of a status or kind.
_COLOURS: Final = {
    "failed": "terrible",
    "incomplete": "terrible",
    "cancelled": "bad",
    "compensation": "olive",
    "undone": "olive",
}

#: What does not end a script or start a tag when the file is put into a web page.
_HARMLESS: Final = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def write(result: FlowResult, path: object) -> None:
    """Write the trace of a run to a file.

    Raises:
        DefinitionError: the path is none.
        OSError: it cannot be written.
    """
    if not isinstance(path, (str, os.PathLike)):
        where = f"result of flow {policy.shown(result.name)}: trace"
        raise policy.wrong_type(path, "path", where, "a path")
    document = {
        "traceEvents": events(result),
        "displayTimeUnit": "ms",
        "otherData": {
            "flow": one_line(result.name),
            "run_id": one_line(result.run_id),
            "status": str(result.status),
            "started_at": result.started_at.isoformat(),
        },
    }
    # Strings hold the only characters that are translated.
    text = json.dumps(document, allow_nan=False, separators=(",", ":")).translate(_HARMLESS)
    Path(path).write_text(text, encoding="ascii")


def events(result: FlowResult) -> list[Event]:
    """Return the events of the trace of a run."""
    known = spans(result)
    rows: dict[str, list[Span]] = {}
    waits: dict[tuple[str, ...], list[Span]] = {}
    for span in sorted(known, key=lambda span: span.start):  # rows in the order in which they begin
        if span.kind in WAITING:
            waits.setdefault(span.path, []).append(span)
        else:
            rows.setdefault(span.row, []).append(span)
    made = [_metadata("process_name", _PROCESS, f"flow {one_line(result.name)}")]
    number = _PROCESS
    for row, on_row in rows.items():
        for place, lane in enumerate(_lanes(on_row)):
            made.append(_metadata("thread_name", number, f"{row} ({place + 1})" if place else row))
            made.append(_metadata("thread_sort_index", number, number))
            made += [event | {"tid": number} for event in lane]
            number += 1
    for serial, (path, of_step) in enumerate(waits.items(), 1):
        made += _asynchronous(serial, " / ".join(map(one_line, path)), of_step)
    return made


def _metadata(what: str, thread: int, value: str | int) -> Event:
    key = "sort_index" if what.endswith("sort_index") else "name"
    return {"ph": "M", "name": what, "pid": _PROCESS, "tid": thread, "args": {key: value}}


def _lanes(row: Iterable[Span]) -> list[list[Event]]:
    """Return the events of a row, in more than one lane where they would overlap and not nest.

    They do so where a worker is not known, where two pools gave the same name to a thread, and on
    other machines, whose clocks are not ours.
    """
    lanes: list[tuple[list[Event], list[tuple[int, int]]]] = []
    # What encloses comes first.
    whole = sorted(map(_complete, row), key=lambda event: (event["ts"], -event["dur"]))
    for event in whole:
        for made, around in lanes:
            if _fits(event, around):
                made.append(event)
                break
        else:
            around = []
            _fits(event, around)
            lanes.append(([event], around))
    return [made for made, _ in lanes]


def _fits(event: Event, around: list[tuple[int, int]]) -> bool:
    """Tell whether an event nests in those of a lane; if so, take off what is rounding.

    Args:
        event: Starts no earlier than those in the lane.
        around: Start and end of the last event in the lane and of those that it is in, which come
            before it; will be those of this one.
    """
    start, end = event["ts"], event["ts"] + event["dur"]
    depth = len(around)
    while depth and (over := around[depth - 1][1] - start) <= _ROUNDING:
        if over > 0 and end <= start + over:
            break  # it is within the last moment of this one
        start, depth = max(start, start + over), depth - 1
    if depth:
        outer_start, outer_end = around[depth - 1]
        if end - outer_end > _ROUNDING:
            return False
        start, end = max(start, outer_start), min(end, outer_end)
    event["ts"], event["dur"] = start, max(0, end - start)
    around[depth:] = [(start, max(start, end))]
    return True


def _complete(span: Span) -> Event:
    """Return the event of a span in which something ran."""
    name, args = span.name, {"status": span.status, **span.args}
    colour = _COLOURS.get(span.status) or _COLOURS.get(span.kind)
    if span.path:
        args["step"] = " / ".join(map(one_line, span.path))
    if args.get("items") and args["failed"]:
        name += f" ({args['failed']} of {args['items']} failed)"
        colour = colour or "bad"
    elif span.status in ("failed", "cancelled", "incomplete"):
        name += f" ({span.status})"
    start = round(span.start * 1e6)
    event: Event = {
        "ph": "X",
        "name": name,
        "cat": span.kind,
        "pid": _PROCESS,
        "ts": start,
        "dur": round(span.end * 1e6) - start,
        "args": args,
    }
    return event if colour is None else {**event, "cname": colour}


def _asynchronous(serial: int, name: str, waits: Sequence[Span]) -> Iterator[Event]:
    """Yield the events of the waits of one step: a bar for each, in one that is named after it.

    Viewers give the bars of an `id` a row of their own, under the name of the first.
    """
    common = {
        "cat": "waiting",
        "id": hex(serial),
        "pid": _PROCESS,
        "tid": _PROCESS,
        "cname": "grey",
    }
    whole = {"name": name, **common}
    yield {"ph": "b", "ts": round(waits[0].start * 1e6), **whole}
    for span in waits:
        yield {"ph": "b", "ts": round(span.start * 1e6), "name": span.name, **common}
        yield {"ph": "e", "ts": round(span.end * 1e6), "name": span.name, **common}
    yield {"ph": "e", "ts": round(waits[-1].end * 1e6), **whole}
