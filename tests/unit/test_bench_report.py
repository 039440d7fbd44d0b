"""Figures are derived from samples: median, spread, ratio, and whether a target is met."""

import pytest
from bench_reports import case, different, failed, measured, missing, report

from syncflow.bench.case import Kind, Target

RATIO, SPEEDUP, FIGURE = Target(Kind.RATIO, 0.5), Target(Kind.SPEEDUP, 2.0), Target(Kind.FIGURE, 3)


def test_divides_the_median_by_the_count():
    """A figure is the median sample, per step."""
    side = measured("ours", 30, 10, 20)
    assert 5.0 == case(side, count=4).figure(side)


def test_has_no_figure_without_samples():
    """A side that is missing has no figure and no ratio."""
    side = missing("joblib")
    both = case(measured("ours", 1), side)
    assert (None, None) == (both.figure(side), both.ratio(side))


def test_divides_our_figure_by_the_side():
    """Below 1, syncflow needs less."""
    side = measured("theirs", 8)
    assert 0.25 == case(measured("ours", 2), side).ratio(side)


@pytest.mark.parametrize("ours", [missing("ours"), failed("ours")])
def test_has_no_ratio_without_our_figure(ours):
    """There is nothing to divide."""
    side = measured("theirs", 8)
    assert case(ours, side).ratio(side) is None


def test_has_no_ratio_to_nothing():
    """A side whose figure is 0 is no divisor."""
    side = measured("theirs", 0)
    assert case(measured("ours", 2), side).ratio(side) is None


def test_takes_the_middle_half_as_spread():
    """The spread is the interquartile range as a share of the median: outliers do not count."""
    assert 0.2 == measured("ours", 1, 9, 10, 11, 1000).spread


@pytest.mark.parametrize("samples", [(7,), (7, 7, 7), (0, 0)])
def test_has_no_spread_where_nothing_differs(samples):
    """One sample does not waver, nor do equal ones."""
    assert 0.0 == measured("ours", *samples).spread


@pytest.mark.parametrize(("unstable", "samples"), [(False, (95, 100, 105)), (True, (79, 100, 121))])
def test_calls_a_figure_unstable(unstable, samples):
    """It is from a spread of more than a tenth on."""
    assert unstable is measured("ours", *samples).unstable


@pytest.mark.parametrize(("disturbed", "others"), [(False, None), (False, 0.25), (True, 0.26)])
def test_calls_a_case_disturbed(disturbed, others):
    """It is when others have used more than a quarter of a core; not when nobody could see."""
    assert disturbed is case(measured("ours", 1), others=others).disturbed


@pytest.mark.parametrize(
    ("met", "target", "ours", "theirs"),
    [
        (True, RATIO, 1, 2),
        (False, RATIO, 1.1, 2),
        (True, SPEEDUP, 1, 2),
        (False, SPEEDUP, 1, 1.9),
        (True, FIGURE, 9, 3),
        (False, FIGURE, 9, 3.1),
        (None, None, 1, 2),
    ],
)
def test_judges_a_target(met, target, ours, theirs):
    """The limit itself is still good enough."""
    side = measured("theirs", theirs, target=target)
    assert met is case(measured("ours", ours), side).meets(side)


@pytest.mark.parametrize("target", [RATIO, SPEEDUP, FIGURE])
def test_judges_nothing_without_a_figure(target):
    """A target that nothing was measured for is neither met nor missed."""
    side = missing("theirs", target=target)
    assert case(measured("ours", 1), side).meets(side) is None


@pytest.mark.parametrize(
    ("wrong", "sides"),
    [
        (0, [measured("ours", 1), measured("peer", 1)]),
        (0, [measured("ours", 1), missing("peer")]),
        (0, [measured("ours", 1), failed("peer")]),
        (0, [missing("ours"), measured("peer", 1)]),
        (1, [failed("ours"), measured("peer", 1)]),
        (1, [measured("ours", 1), different("peer")]),
        (1, [failed("ours"), different("peer"), different("another")]),
    ],
)
def test_knows_what_is_wrong(wrong, sides):
    """A failure of ours, or results that differ; nothing that is missing or that a peer raised."""
    assert wrong == report(case(measured("ours", 1)), case(*sides)).wrong
