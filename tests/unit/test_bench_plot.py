"""What grows is drawn, when there is something to draw it with."""

import sys
from xml.etree import ElementTree as ET

import pytest
from bench_reports import COSTS, case, failed, measured, open_fonts, report

from syncflow.bench import plot
from syncflow.bench.plot import MissingPlotError, draw, formats

SPEEDUPS = tuple(
    case(measured("syncflow", 4 / at), measured("serial", 4), suite="cpu", series="workers", at=at)
    for at in (1, 2)
)
FAILED = (case(failed("syncflow"), suite="overhead", series="thread", at=10),)


@pytest.fixture(autouse=True, scope="module")
def fonts_are_open(tmp_path_factory):
    """Nothing that matplotlib keeps is opened by a test."""
    open_fonts(tmp_path_factory.mktemp("fonts"))


@pytest.mark.parametrize(
    ("titles", "cases"),
    [
        (["What a step costs that does nothing"], COSTS),
        (["Speed-up"], SPEEDUPS),
        (["What a step costs that does nothing", "Speed-up"], SPEEDUPS + COSTS),
        ([], FAILED),
    ],
    ids=["cost", "gain", "both", "neither"],
)
def test_draws_what_was_measured(tmp_path, monkeypatch, titles, cases):
    """What has points gets a diagram, and what has none is left out."""
    figures = []
    made = plot._figure
    monkeypatch.setattr(plot, "_figure", lambda: figures.append(made()) or figures[0])
    draw(report(*cases), tmp_path / "out.svg")
    assert titles == [axes.get_title() for axes in figures[0].axes]
    assert ET.parse(tmp_path / "out.svg").getroot().tag.endswith("svg")


def test_draws_costs_and_gains(tmp_path, monkeypatch):
    """A cost is in microseconds a step, a gain in times of the serial side."""
    figures = []
    made = plot._figure
    monkeypatch.setattr(plot, "_figure", lambda: figures.append(made()) or figures[0])
    draw(report(*COSTS, *SPEEDUPS), tmp_path / "out.svg")
    costs, gains = (
        {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.lines}
        for axes in figures[0].axes
    )
    assert {"syncflow, thread": [(10, 1e6), (1000, 2e6)], "peer": [(10, 2e6)]} == costs
    assert {"syncflow": [(1, 1), (2, 2)], "ideal": [(1, 1), (2, 2)]} == gains


def test_knows_what_can_be_drawn():
    """Names may end so."""
    assert {"svg", "png", "pdf"} <= formats()


def test_says_what_is_missing(monkeypatch):
    """Without matplotlib, it says which pip install brings it."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPlotError, match=r"pip install 'syncflow\[plot\]'"):
        formats()
