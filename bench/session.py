"""Measure suites one after the other, and make the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from syncflow.bench.case import Case, Settings
from syncflow.bench.machine import Others, describe
from syncflow.bench.measure import FULL, QUICK, take_turns
from syncflow.bench.report import CaseReport, Report
from syncflow.bench.suites import cases_of

__all__ = ["run_suites"]


def run_suites(
    suites: Sequence[str], settings: Settings, progress: Callable[[str], object]
) -> Report:
    """Measure the cases of the suites.

    Args:
        suites: Names in `SUITES`.
        settings: What the user asked for.
        progress: Told what is measured next, in one line.
    """
    machine = describe()  # first: the load is to be that of others
    cases = [(suite, case) for suite in suites for case in cases_of(suite, settings)]
    reports = []
    for number, (suite, case) in enumerate(cases, 1):
        progress(f"[{number}/{len(cases)}] {suite}: {case.name}")
        reports.append(_measure(suite, case.shortened() if settings.quick else case, settings))
    return Report(settings.quick, settings.workers, machine, tuple(reports))


def _measure(suite: str, case: Case, settings: Settings) -> CaseReport:
    others = Others()
    sides = take_turns(case, QUICK if settings.quick else FULL)
    return CaseReport(
        suite=suite,
        name=case.name,
        sides=sides,
        count=case.count,
        per=case.per,
        unit=case.unit,
        series=case.series,
        at=case.at,
        others=others.share(),
    )
