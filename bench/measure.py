"""Measure by taking turns: what runs beside what, in one run, on one machine, under one load."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from time import perf_counter

__all__ = ["UNSTABLE", "median", "spread", "take_turns"]

#: A spread above this is marked: the figure is not to be relied on.
UNSTABLE = 0.10


def take_turns(cases: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Run all cases in turn (A B A B ...), so that whatever slows the machine slows them alike.

    Args:
        cases: Each does its work once and returns what it computed.
        rounds: How often each is measured; one round more goes first, unmeasured.

    Returns:
        The seconds of each round, by case: the raw samples.

    Raises:
        RuntimeError: two cases computed different things, so comparing them would mean nothing.
    """
    samples: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(rounds + 1):
        computed = []
        for name, work in cases.items():
            began = perf_counter()
            computed.append(work())
            if turn:
                samples[name].append(perf_counter() - began)
        if any(result != computed[0] for result in computed):
            raise RuntimeError(f"the cases {', '.join(cases)} computed different results")
    return samples


def median(samples: list[float]) -> float:
    """Return the median, in seconds."""
    return statistics.median(samples)


def spread(samples: list[float]) -> float:
    """Return the interquartile range as a share of the median."""
    low, middle, high = statistics.quantiles(samples, n=4)
    return (high - low) / middle
