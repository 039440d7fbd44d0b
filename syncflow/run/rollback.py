"""Compensation of one step: on the runner's thread in a rollback, or for a late finisher."""

from __future__ import annotations

import logging
import random
import threading
from collections import ChainMap
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from time import time
from typing import TYPE_CHECKING, Any

from syncflow import timing
from syncflow.context import Snapshot
from syncflow.errors import GroupFailedError
from syncflow.laps import Lap, Stretches
from syncflow.mapping import over_item
from syncflow.result import (
    CompensationResult,
    CompensationStatus,
    RollbackStatus,
    StepResult,
    StepStatus,
)
from syncflow.run.engine import Engine
from syncflow.run.group import Group, Lane
from syncflow.run.member import Member
from syncflow.run.places import Places

if TYPE_CHECKING:
    from syncflow.definition import Step

__all__ = [
    "Clock",
    "compensate",
    "compensate_items",
    "in_order",
    "is_to_be_undone",
    "note_compensation",
    "rollback_status",
    "undo_view",
]

logger = logging.getLogger("syncflow")


class Clock:
    """Turns monotonic instants of one run into UTC: a clock that is set back changes nothing."""

    def __init__(self) -> None:
        self.origin = timing.monotonic()
        self._offset = time() - self.origin

    def at(self, instant: float) -> datetime:
        """Return the UTC time of a monotonic instant."""
        return datetime.fromtimestamp(instant + self._offset, UTC)

    def date(self, laps: Sequence[Lap]) -> tuple[Lap, ...]:
        """Return laps, recorded in monotonic instants, in POSIX seconds."""
        return tuple(lap.moved(self._offset) for lap in laps)

    def follow(self, other: Clock) -> None:
        """Show the same time as another, whatever has become of the system's meanwhile."""
        self._offset = other._offset


def is_to_be_undone(member: Member) -> bool:
    """Tell whether a rollback compensates this member."""
    if not member.step.reversible:
        return False
    if member.tally is not None:
        return member.tally.anything_done
    if member.status is StepStatus.COMPLETED:
        return True
    return member.step.compensate_on == "started" and member.first_started is not None


def in_order(results: Sequence[CompensationResult]) -> tuple[CompensationResult, ...]:
    """Sort compensations by their start, the skipped ones last."""
    return tuple(sorted(results, key=lambda one: (one.started_at is None, one.started_at or 0)))


def rollback_status(
    compensations: Sequence[CompensationResult], owed: bool, inside: Collection[RollbackStatus]
) -> RollbackStatus:
    """Say how the rollback of a flow that has failed went.

    Args:
        compensations: All there were.
        owed: There is something else that is still to be undone.
        inside: Of the flows in it.
    """
    undone = all(result.ok for result in compensations)
    if owed or not undone or RollbackStatus.INCOMPLETE in inside:
        return RollbackStatus.INCOMPLETE
    if compensations or RollbackStatus.COMPLETE in inside:
        return RollbackStatus.COMPLETE
    return RollbackStatus.NOT_NEEDED


def note_compensation(step: StepResult, result: CompensationResult) -> None:
    """Put on record that a step was compensated; one that failed is not mended by a late one."""
    if step.compensation is not CompensationStatus.FAILED:
        step.compensation = result.status


def undo_view(
    view: Snapshot, name: str, writes: Mapping[str, Any], value: Any, *, completed: bool = True
) -> Snapshot:
    """Return what a compensation sees: the flow's state plus its own step's writes and value."""
    status = StepStatus.COMPLETED if completed else StepStatus.FAILED
    own = StepResult(name, None, status, value, None, 1, 0, 0, 0, None, "", None)
    return Snapshot(
        view.input, ChainMap(dict(writes), view.data), ChainMap({name: own}, view.settled)
    )


def compensate(
    engine: Engine,
    places: Places,
    clock: Clock,
    name: str,
    undo: Step,
    view: Snapshot,
    error: BaseException | None,
    late: bool = False,
    group: str | None = None,
    item: int | None = None,
) -> tuple[CompensationResult, Mapping[str, Any]]:
    """Run one compensation to its end, in or from the calling thread.

    Args:
        engine: Drives it; belongs to the calling thread.
        places: Finds its pool.
        clock: For `started_at`.
        name: The step that is undone.
        undo: The compensation.
        view: What it sees; see `undo_view`.
        error: What caused the rollback.
        late: It undoes an abandoned body.
        group: The group of that step.
        item: The index of the item that is undone, in a map.

    Returns:
        Its result, and the state it wrote (empty unless it completed).
    """
    member = Member(0, undo, places.of(undo, None), name, group, item)
    decider = Group([undo], [Lane(1)], fail_fast=True, uniform=random.uniform)
    began = timing.monotonic()
    engine.drive(decider, [member], view, error=error, shielded=True)
    completed = member.status is StepStatus.COMPLETED
    if not completed:
        logger.error(
            "compensation of step %r of flow %r failed (run %r)",
            name, engine.scope.flow_name, engine.scope.run_id, exc_info=member.error,
        )  # fmt: skip
    started = member.first_started
    result = CompensationResult(
        step_name=name,
        status=CompensationStatus.COMPLETED if completed else CompensationStatus.FAILED,
        error=member.error,
        attempts=member.attempts,
        started_at=None if started is None else clock.at(started),
        duration=member.settled_at - (started or began),
        late=late,
    )
    result._worker, result._laps = member.worker, clock.date(member.laps)
    result._took = None if started is None else member.ended_at - started
    return result, member.writes if completed else {}


def compensate_items(
    engine: Engine,
    places: Places,
    clock: Clock,
    member: Member,
    view: Snapshot,
    error: BaseException,
    hurried: Callable[[], bool],
) -> tuple[CompensationResult, Mapping[str, Any]]:
    """Undo the items of a map, the last one first.

    Args:
        engine: Drives the compensations; belongs to the calling thread.
        places: Finds their pool.
        clock: For `started_at`.
        member: Stands for the map.
        view: The flow's state and results.
        error: What caused the rollback.
        hurried: Tells whether a second Ctrl-C has ended the rollback.

    Returns:
        One result for all items, and the state that they wrote. It is `skipped` when no item was
        reached, and `failed` when one failed or was not reached.
    """
    undo, tally = member.step.undo, member.tally
    assert undo is not None
    assert tally is not None
    began = timing.monotonic()
    errors: list[Exception] = []
    stretches = Stretches()
    written: dict[str, Any] = {}
    undone = left = attempts = 0
    started_at: datetime | None = None
    for done in tally.done():
        if hurried():
            left += 1
            continue
        seen = Snapshot(view.input, ChainMap(written, view.data), view.settled)
        seen = undo_view(seen, member.name, done.writes, done.value, completed=done.completed)
        if done.effect is not None:
            done.effect.reopen(error)
        result, writes = compensate(
            engine, places, clock, member.name, over_item(undo, done.item), seen, error,
            item=done.index,
        )  # fmt: skip
        if done.effect is not None:
            engine.close_effect(done.effect, in_effect=False)
        written.update(writes)
        undone += 1
        attempts += result.attempts
        if result.started_at is not None:
            started_at = started_at or result.started_at
            since, failed = result.started_at.timestamp(), result.attempts - result.ok
            stretches.note(
                result._worker, since, since + (result._took or 0.0),
                result.attempts, failed=failed, retries=result.attempts - 1,
            )  # fmt: skip
        if isinstance(result.error, Exception):
            errors.append(result.error)
    status, cause = CompensationStatus.COMPLETED, errors[0] if len(errors) == 1 else None
    if len(errors) > 1:
        what = f"compensation of map {member.name!r}: {len(errors)} of {undone} items failed"
        cause = GroupFailedError(what, errors)
    if errors or left:
        status = CompensationStatus.FAILED if undone else CompensationStatus.SKIPPED
    result = CompensationResult(
        step_name=member.name,
        status=status,
        error=cause,
        attempts=attempts,
        started_at=started_at,
        duration=timing.monotonic() - began,
    )
    result._worker, result._laps = threading.current_thread().name, stretches.laps()
    if started_at is not None:
        result._took = result.duration - (started_at - clock.at(began)).total_seconds()
    return result, written
