"""Draw what grows: the cost of a step with their number, the speed-up with the workers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncflow.bench.report import CaseReport, Report

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DRAWN", "MissingPlotError", "draw", "formats"]

#: The suites whose cases have a place on a curve.
DRAWN = ("overhead", "cpu")


class MissingPlotError(Exception):
    """matplotlib is not installed."""


def _figure() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPlotError("no matplotlib: pip install 'syncflow[plot]'") from None
    return Figure(figsize=(11, 5), layout="constrained")


def formats() -> set[str]:
    """Return the endings of files that can be drawn.

    Raises:
        MissingPlotError: None can.
    """
    return set(_figure().canvas.get_supported_filetypes())


def draw(report: Report, path: Path) -> None:
    """Draw the curves that the report has points of, into a file.

    Raises:
        OSError: It cannot be written.
    """
    figure = _figure()
    suites = [suite for suite in DRAWN if _points(report, suite)]
    for at, suite in enumerate(suites, 1):
        axes = figure.add_subplot(1, len(suites), at)
        if suite == "overhead":
            _draw_costs(axes, _points(report, suite))
        else:
            _draw_speedups(axes, _points(report, suite))
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize="small")
    figure.savefig(path)


def _points(report: Report, suite: str) -> list[CaseReport]:
    return [
        case
        for case in report.cases
        if case.suite == suite and case.series is not None and case.figure(case.sides[0])
    ]


def _draw_costs(axes: Any, cases: Sequence[CaseReport]) -> None:
    for colour, series in enumerate(dict.fromkeys(case.series for case in cases)):
        points = [case for case in cases if case.series == series]
        for name, curve in _curves(points).items():
            ours = name == points[0].sides[0].name
            axes.plot(
                *zip(*((size, cost * 1e6) for size, cost in curve), strict=True),
                marker="o",
                color=f"C{colour}",
                linestyle="-" if ours else "--",
                label=f"{name}, {series}" if ours else name,
            )
    axes.set(
        xscale="log", yscale="log", xlabel="steps in one flow", ylabel="µs a step",
        title="What a step costs that does nothing",
    )  # fmt: skip


def _draw_speedups(axes: Any, cases: Sequence[CaseReport]) -> None:
    curves = _curves(cases)
    serial = dict(curves.pop("serial", ()))
    for name, curve in curves.items():
        points = [(workers, serial[workers] / took) for workers, took in curve if workers in serial]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", label=name)
    most = max(serial, default=1)
    axes.plot([1, most], [1, most], color="grey", linestyle=":", label="ideal")
    axes.set_xticks(sorted(serial), labels=[str(workers) for workers in sorted(serial)])
    axes.set(xlabel="worker processes", ylabel="times as fast as serial", title="Speed-up")


def _curves(cases: Sequence[CaseReport]) -> dict[str, list[tuple[int, float]]]:
    """Return the points of each side; a name without the number of workers is one curve."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for case in cases:
        for side in case.sides:
            figure = case.figure(side)
            if figure is not None and case.at is not None:
                name = side.name.replace(f"({case.at})", "")
                curves.setdefault(name, []).append((case.at, figure))
    return curves
