"""The report as JSON and back. `schema.json` describes it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import attrs

from syncflow.bench.case import Kind, Target
from syncflow.bench.report import CaseReport, Outcome, Report, SideReport

__all__ = ["FORMAT", "BadDocumentError", "from_json", "read", "to_json"]

#: Says what a file is, and changes with what `schema.json` says.
FORMAT = "syncflow-bench-1"


class BadDocumentError(ValueError):
    """A file is not what `syncflow bench --json` writes."""


def to_json(report: Report) -> str:
    """Return the report as JSON: all samples, and nothing that is derived from them."""
    return json.dumps({"format": FORMAT} | attrs.asdict(report), indent=1, allow_nan=False)


def read(path: Path) -> Report:
    """Read what an earlier run has written.

    Raises:
        OSError: The file cannot be read.
        BadDocumentError: It holds something else.
    """
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise BadDocumentError("not text") from error


def from_json(text: str) -> Report:
    """Rebuild a report.

    Raises:
        BadDocumentError: This is something else.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadDocumentError("not JSON") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BadDocumentError(f"its format is not {FORMAT!r}")
    try:
        return Report(
            _of(bool, document["quick"]),
            _positive(document["workers"]),
            _of(dict, document["machine"]),
            tuple(_case_of(case) for case in _of(list, document["cases"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadDocumentError(f"it is damaged: {type(error).__name__}: {error}") from error


def _case_of(case: dict[str, Any]) -> CaseReport:
    sides = tuple(_side_of(side) for side in _of(list, case["sides"]))
    if not sides:
        raise ValueError("a case without sides")
    series, at, others = case["series"], case["at"], case["others"]
    return CaseReport(
        suite=_of(str, case["suite"]),
        name=_of(str, case["name"]),
        sides=sides,
        count=_positive(case["count"]),
        per=None if case["per"] is None else _of(str, case["per"]),
        unit=_of(str, case["unit"]),
        series=None if series is None else _of(str, series),
        at=None if at is None else _positive(at),
        others=None if others is None else _finite(others),
    )


def _side_of(side: dict[str, Any]) -> SideReport:
    note, target = side["note"], side["target"]
    return SideReport(
        name=_of(str, side["name"]),
        outcome=Outcome(side["outcome"]),
        samples=tuple(_finite(sample) for sample in _of(list, side["samples"])),
        note=None if note is None else _of(str, note),
        target=None if target is None else Target(Kind(target["kind"]), _finite(target["limit"])),
    )


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r:.40} is not of type {kind.__name__}")
    return value


def _positive(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{value!r:.40} is not a positive integer")
    return value


def _finite(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{value!r:.40} is not a figure")
    return float(value)
