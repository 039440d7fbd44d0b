"""`python -m syncflow.bench`: what a step costs on this machine, as a table."""

from __future__ import annotations

import sys
from contextlib import ExitStack

from tabulate import tabulate

from syncflow.bench.measure import UNSTABLE, median, spread, take_turns
from syncflow.bench.overhead import CASES, Case

#: Measured rounds of each case.
ROUNDS = 15


def row(case: Case) -> list[str]:
    """Measure one case and describe it."""
    with ExitStack() as stack:
        ours, theirs = case.prepare(case.steps, stack)
        samples = take_turns({"ours": ours, "theirs": theirs}, ROUNDS)
    cells = []
    for side in samples.values():
        mark = " ~" if spread(side) > UNSTABLE else ""
        cells.append(f"{median(side) / case.steps * 1e6:.1f}{mark}")
    ratio = median(samples["ours"]) / median(samples["theirs"])
    missed = "" if ratio <= case.target else " missed"
    return [case.name, case.peer, *cells, f"{ratio:.2f}", f"<= {case.target:.2f}{missed}"]


def main() -> None:
    """Measure all cases and print the table."""
    rows = []
    for case in CASES:
        print(f"{case.name} / {case.peer} ...", file=sys.stderr)  # noqa: T201
        rows.append(row(case))
    headers = ["case", "peer", "syncflow µs a step", "peer µs a step", "ratio", "target"]
    print(tabulate(rows, headers, disable_numparse=True))  # noqa: T201
    print(f"\nMedians of {ROUNDS} interleaved rounds; ~ marks a spread above {UNSTABLE:.0%}.")  # noqa: T201


if __name__ == "__main__":
    main()
