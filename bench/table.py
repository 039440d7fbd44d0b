"""The report as tables, one a suite."""

from __future__ import annotations

from collections.abc import Iterator

from syncflow.bench.case import Kind, Target
from syncflow.bench.report import BUSY, UNSTABLE, CaseReport, Outcome, Report, SideReport
from syncflow.bench.suites import SUITES

__all__ = ["quantity", "tables"]

_HEADERS = ("case", "side", "median", "spread", "ratio", "target")
_ALIGNMENT = ("left", "left", "right", "right", "right", "left")

_SPREAD_MARK, _BUSY_MARK, _MISSED = "~", "!", "MISSED"

#: The prefixes of units, from what they stand for.
_PREFIXES = {1e9: "G", 1e6: "M", 1e3: "k", 1.0: "", 1e-3: "m", 1e-6: "µ", 1e-9: "n"}


def quantity(figure: float, unit: str) -> str:
    """Return a figure with three digits and a fitting prefix: `8.71 µs`."""
    for scale, prefix in _PREFIXES.items():
        scaled = figure / scale
        # 999.6 would be rounded to four digits.
        if scaled >= 0.9995 and not (unit == "s" and scale > 1):
            digits = max(0, 2 - len(f"{scaled:.3g}".partition(".")[0]) + 1)
            return f"{scaled:.{digits}f} {prefix}{unit}"
    return f"{figure:.3g} {unit}"


def tables(report: Report) -> str:
    """Return a table for each suite that was measured, and what the marks in them mean."""
    import tabulate

    parts = []
    for suite in dict.fromkeys(case.suite for case in report.cases):
        rows = [row for case in report.cases if case.suite == suite for row in _rows(case)]
        table = tabulate.tabulate(
            rows, headers=_HEADERS, disable_numparse=True, colalign=_ALIGNMENT
        )
        parts.append(f"{suite}: {SUITES.get(suite, '')}\n\n{table}\n")
    return "\n".join([*parts, *_legend(report)])


def _rows(case: CaseReport) -> Iterator[list[str]]:
    for number, side in enumerate(case.sides):
        name = "" if number else case.name
        yield [name, side.name, *_cells(case, side)]


def _cells(case: CaseReport, side: SideReport) -> list[str]:
    figure = case.figure(side)
    if figure is None:
        word = "" if side.outcome == Outcome.MISSING else f"{side.outcome.upper()}: "
        return ["-", "", "", f"{word}{side.note}"]
    marks = (_BUSY_MARK if case.disturbed else "") + (_SPREAD_MARK if side.unstable else "")
    ratio = None if side is case.sides[0] else case.ratio(side)
    return [
        quantity(figure, case.unit) + (f"/{case.per}" if case.per else ""),
        f"{marks} {side.spread:.0%}".strip(),
        "" if ratio is None else f"{ratio:.3g}",
        _aim(case, side),
    ]


def _aim(case: CaseReport, side: SideReport) -> str:
    if side.target is None:
        return ""
    met = case.meets(side)
    verdict = {True: "", False: f" {_MISSED}", None: " (no figure)"}[met]
    return _limit(side.target, case.unit) + verdict


def _limit(target: Target, unit: str) -> str:
    match target.kind:
        case Kind.RATIO:
            return f"<= {target.limit:g}"
        case Kind.SPEEDUP:
            return f"<= {1 / target.limit:.3g} ({target.limit:g} x as fast)"
        case Kind.FIGURE:
            return f"<= {quantity(target.limit, unit)}"


def _legend(report: Report) -> Iterator[str]:
    machine = report.machine
    yield (
        f"{machine.get('python')}, {machine.get('cpu')}, usable cores: {machine.get('cores')}, "
        f"workers: {report.workers}{', quick' if report.quick else ''}"
    )
    yield "ratio: syncflow's median divided by that of the side"
    sides = [side for case in report.cases for side in case.sides]
    if any(side.unstable for side in sides):
        yield f"{_SPREAD_MARK}  unstable: the spread is above {UNSTABLE:.0%} of the median"
    if any(case.disturbed for case in report.cases):
        yield f"{_BUSY_MARK}  unstable: other programs used more than {BUSY:g} cores meanwhile"
    load, cores = machine.get("load"), machine.get("cores")
    if isinstance(load, list) and load and isinstance(cores, int) and load[0] > cores / 2:
        yield f"The machine was busy before the first case: load {load[0]:.1f} on {cores} cores."
    missed = sum(case.meets(side) is False for case in report.cases for side in case.sides)
    met = sum(case.meets(side) is True for case in report.cases for side in case.sides)
    yield f"targets: {met} met, {missed} missed"
