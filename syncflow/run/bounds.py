"""How many members of a group may run at once, and who counts together."""

from __future__ import annotations

from collections.abc import Sequence

from syncflow.definition import Parallel
from syncflow.run.group import Lane
from syncflow.run.member import Member

__all__ = ["lanes_of"]


def lanes_of(
    members: Sequence[Member], group: Parallel | None, flow_bound: int | None
) -> list[Lane]:
    """Return the lane of each member: one for all when somebody said so, else one a place.

    Args:
        members: Of the group; of a sequential step, that one.
        group: `None`: a sequential step.
        flow_bound: The flow's ``max_concurrency``.
    """
    if group is None:
        return [Lane(1)]
    said = group.max_concurrency or flow_bound
    places = {member.place for member in members}
    # A member that is queued ahead may start after another has failed: not with fail_fast.
    patient = not group.fail_fast
    if said is not None:
        eager = patient and all(place.keeps_to(said) for place in places)
        return [Lane(said, eager and len(places) == 1)] * len(members)
    lanes = {place: Lane(place.bound, patient and place.keeps_to(place.bound)) for place in places}
    return [lanes[member.place] for member in members]
