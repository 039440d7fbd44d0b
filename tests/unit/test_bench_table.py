"""Tables show figures with three digits, and mark what is missed, missing and unstable."""

import pytest
from bench_reports import case, different, failed, measured, missing, report

from syncflow.bench.case import Kind, Target
from syncflow.bench.table import quantity, tables

HALF = Target(Kind.RATIO, 0.5)


def cells(text, name):
    """Return the cells of the line of this side."""
    (line,) = [line for line in text.splitlines() if name in line]
    return line.split(name)[1].split("  ")


def line_of(text, name):
    """Return what a side's line says after its name, with single spaces."""
    return " ".join(" ".join(cells(text, name)).split())


@pytest.mark.parametrize(
    ("shown", "figure", "unit"),
    [
        ("8.71 µs", 8.712e-6, "s"),
        ("87.1 µs", 87.12e-6, "s"),
        ("871 µs", 871.2e-6, "s"),
        ("1.00 ms", 999.9e-6, "s"),
        ("1.00 s", 1.0, "s"),
        ("4000 s", 4000.0, "s"),
        ("5.00 ns", 5e-9, "s"),
        ("1.88 kB", 1883.2, "B"),
        ("100 MB", 1e8, "B"),
        ("0 s", 0.0, "s"),
        ("1e-12 s", 1e-12, "s"),
    ],
)
def test_shows_three_digits(shown, figure, unit):
    """The prefix fits, and seconds have none above one."""
    assert shown == quantity(figure, unit)


def test_shows_figure_spread_and_ratio():
    """The first side has no ratio: it is what the others are compared with."""
    text = tables(
        report(
            case(measured("ours", 2, 2, 2), measured("peer", 7.84, 8, 8.16), count=2, per="step")
        )
    )
    assert "1.00 s/step 0%" == line_of(text, "ours")
    assert "4.00 s/step 2% 0.25" == line_of(text, "peer")


@pytest.mark.parametrize(
    ("shown", "target", "peer"),
    [
        ("<= 0.5", HALF, 2),
        ("<= 0.5 MISSED", HALF, 1),
        ("<= 0.5 (2 x as fast)", Target(Kind.SPEEDUP, 2.0), 2),
        ("<= 0.5 (2 x as fast) MISSED", Target(Kind.SPEEDUP, 2.0), 1),
        ("<= 600 ms MISSED", Target(Kind.FIGURE, 0.6), 1),
    ],
)
def test_shows_the_target_beside_the_figure(shown, target, peer):
    """What is missed is marked."""
    text = tables(report(case(measured("ours", 1), measured("peer", peer, target=target))))
    assert line_of(text, "peer").endswith(shown)


def test_says_when_a_target_has_no_figure():
    """Without ours, nothing can be said about it."""
    text = tables(report(case(failed("ours"), measured("peer", 1, target=HALF))))
    assert "1.00 s 0% <= 0.5 (no figure)" == line_of(text, "peer")


def test_says_how_to_get_a_missing_peer():
    """Its row has no figure but the note."""
    text = tables(report(case(measured("ours", 1), missing("peer"))))
    assert "- no joblib: pip install it" == line_of(text, "peer")


def test_says_why_a_side_failed():
    """A failure cannot be mistaken for a missing peer."""
    text = tables(report(case(failed("ours"))))
    assert "- FAILED: ValueError: no" == line_of(text, "ours")


def test_says_whose_result_differs():
    """That is no figure, either."""
    text = tables(report(case(measured("ours", 1), different("peer"))))
    assert "- DIFFERENT: computed something else" == line_of(text, "peer")


def test_marks_what_is_unstable():
    """A large spread and busy neighbours have marks of their own, which the legend explains."""
    text = tables(report(case(measured("ours", 1, 2, 3), others=0.5)))
    assert "2.00 s !~ 50%" == line_of(text, "ours")
    assert "~  unstable: the spread is above 10% of the median" in text
    assert "!  unstable: other programs used more than 0.25 cores meanwhile" in text


def test_explains_no_mark_that_is_not_there():
    """A quiet run has a short legend."""
    assert "unstable" not in tables(report(case(measured("ours", 1, 1, 1))))


def test_tells_that_the_machine_was_loaded():
    """Load counts as busy from half the cores on."""
    busy, quiet = report(case(measured("ours", 1)), load=[1.1, 0, 0]), report(load=[1.0, 0, 0])
    assert "The machine was busy before the first case: load 1.1 on 2 cores." in tables(busy)
    assert "busy" not in tables(quiet)


def test_has_a_table_for_each_suite():
    """Suites keep their order and say what they measure."""
    text = tables(report(case(measured("a", 1), suite="crash"), case(measured("b", 1), suite="io")))
    assert text.index("crash: until the work goes on") < text.index("io: steps that wait")


def test_names_a_case_once():
    """The sides of a case stand below each other."""
    assert 1 == tables(report(case(measured("a", 1), measured("b", 1)))).count("a case")


def test_counts_targets():
    """The last line sums up."""
    sides = [measured("ours", 1), *(measured("peer", at, target=HALF) for at in (1, 1, 3))]
    assert "targets: 1 met, 2 missed" == tables(report(case(*sides))).splitlines()[-1]
