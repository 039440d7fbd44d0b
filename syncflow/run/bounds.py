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
    # A member that is queued ahead may start after another has failed: not with fail_fast. And no
    # place can keep to a bound that it shares with another.
    eager = not group.fail_fast and (said is None or len(places) == 1)
    lanes = {}
    for place in places:
        bound = said or place.bound
        lanes[place] = Lane(bound, place.keep_to(bound if eager else None))
    if said is not None and len(places) > 1:
        return [Lane(said)] * len(members)
    return [lanes[member.place] for member in members]
