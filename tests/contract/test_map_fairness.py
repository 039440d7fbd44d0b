"""A map does not keep the workers of a pool from others."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from contract_tools import Gate, Journal, wait_until
from map_tools import Aside

from syncflow import CancelToken, Context, Flow, ProcessPool, ThreadPool


def wait_once(ctx: Context, item: int, gate: Gate, journal: Journal) -> None:
    """Wait for the gate in the first item; take down every item."""
    journal.add("item", item)
    if item == 0:
        gate.wait()


def note(ctx: Context, journal: Journal) -> None:
    """Take down the step."""
    journal.add("step")


def endless(ctx: Context) -> Iterator[int]:
    """Never come to an end."""
    return itertools.count()


@pytest.mark.parametrize(
    "kind", [ThreadPool, pytest.param(ProcessPool, marks=pytest.mark.xdist_group("process"))]
)
def test_a_step_waits_for_the_item_at_hand_and_not_for_the_map(
    kind: Any, gate: Gate, journal: Journal
) -> None:
    """It comes next on a pool whose only worker a map has been using."""
    token = CancelToken()
    with kind(1) as pool:
        crew = pool.crew if kind is ThreadPool else pool.stations.crew
        body = partial(wait_once, gate=gate, journal=journal)
        mapping = Flow("map").map("items", body, endless, pool=pool, chunk_size=1)
        mapped = Aside(mapping, cancel=token)
        wait_until(lambda: journal.lines == ["item 0"], "the first item")
        stepped = Aside(Flow("step").step("step", partial(note, journal=journal), pool=pool))
        wait_until(lambda: not crew.is_idle(), "the step to wait for a worker")
        gate.open()
        assert stepped.result().ok
        token.cancel()
        assert "cancelled" == mapped.result().status
    assert ["item 0", "step"] == journal.lines[:2]
