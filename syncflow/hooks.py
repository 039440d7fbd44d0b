"""Watch a run: the no-op `Hooks` base class and the `Event` that every hook gets.

What holds for every hook:

* It is called in the thread that called `run`, one at a time, in the order things happened, while
  the run is in progress. `on_late_finish` alone comes from another thread.
* It gets exactly one `Event`. A field that does not apply is `None`.
* A hook that raises changes nothing: the error is logged, once per method and run.
* The run waits for it. A slow hook delays the steps that start next, not those that are running.
* It may cancel the run's token, and it may run other flows.

All hooks look on. `around` alone has a say: in what context variables, say, a body finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import attrs

from syncflow import policy
from syncflow.errors import DefinitionTypeError

if TYPE_CHECKING:
    from datetime import datetime

    from syncflow.context import Context
    from syncflow.result import CompensationResult, FlowResult, StepResult


@attrs.frozen
class MapProgress:
    """Say how far a map has come: counts of items."""

    completed: int
    failed: int
    cancelled: int
    #: Waiting for their next attempt.
    retrying: int
    #: All that there will be; `None` while the source has not ended and does not tell its length.
    total: int | None


@attrs.frozen(eq=False)
class Event:
    """Say what happened, where and when."""

    flow_name: str
    run_id: str
    #: When it happened, in UTC. For people and logs: durations come from the monotonic clock.
    at: datetime
    #: What the step (in `on_flow_*`: the flow) sees; not shown by `repr`, since it holds the state.
    ctx: Context | None = attrs.field(default=None, repr=False)
    step_name: str | None = None
    #: The group that the step is a member of.
    group: str | None = None
    #: The number of the attempt, from 1.
    attempt: int | None = None
    error: BaseException | None = None
    #: Seconds until the next attempt starts; backoff and jitter are in it.
    delay: float | None = None
    result: FlowResult | StepResult | CompensationResult | None = None
    #: Of a map: how far it has come.
    progress: MapProgress | None = None


class Hooks:
    """Do nothing, whatever happens: subclass it and override what you want to see.

    One object may watch several flows, and runs of them in several threads, at once: guard what
    it writes to.
    """

    def on_flow_start(self, event: Event) -> None:
        """See a run begin, before its first step starts."""

    def on_flow_complete(self, event: Event) -> None:
        """See a run end as `completed`; `result` is what `run` returns.

        Members of a group may have failed: `event.result.partial` tells.
        """

    def on_flow_fail(self, event: Event) -> None:
        """See a run end as `failed`, after its rollback; `error` and `result` are set."""

    def on_flow_cancel(self, event: Event) -> None:
        """See a run end as `cancelled`, after its rollback; `error` and `result` are set."""

    def on_step_start(self, event: Event) -> None:
        """See the first attempt of a step start on its worker.

        Fires once a step; later attempts are `on_step_retry`. It does not fire for a step that
        never started.
        """

    def on_step_retry(self, event: Event) -> None:
        """See that a step will be tried again.

        `attempt` is the one to come (2 or more), `delay` the seconds until then, and `error` what
        ended the attempt before it. The step can still be cancelled while it waits.
        """

    def on_step_complete(self, event: Event) -> None:
        """See a step settle as `completed`; `result` is its `StepResult`.

        The flow may still fail and the step be compensated.
        """

    def on_step_fail(self, event: Event) -> None:
        """See a step settle as `failed`, its retries used up; `error` and `result` are set.

        The flow goes on if the step's group tolerates it.
        """

    def on_step_cancel(self, event: Event) -> None:
        """See a step settle as `cancelled`: it was asked to stop, or never started.

        `result` is set. Steps of nodes that were never reached are `skipped`, without an event.
        """

    def on_compensate(self, event: Event) -> None:
        """See the compensation of a step start.

        `error` is what caused the rollback. Fires once a compensation, however often it is tried.
        """

    def on_compensate_complete(self, event: Event) -> None:
        """See a compensation succeed; `result` is its `CompensationResult`."""

    def on_compensate_fail(self, event: Event) -> None:
        """See a compensation fail, its retries used up; `error` and `result` are set.

        The compensations after it run all the same.
        """

    def on_map_progress(self, event: Event) -> None:
        """See how far a map has come: `progress` is set. At most ten times a second."""

    def on_late_finish(self, event: Event) -> None:
        """See the body of an abandoned attempt return after all.

        Runs **on the thread of that body**, at any time: while the run goes on, after it has
        returned, and beside other hooks. `attempt` is the one that was abandoned.
        """

    def around(self, event: Event) -> Callable[[], AbstractContextManager[Any]] | None:
        """Say what the body of an attempt runs in: a function that makes a context manager.

        Called before each attempt that is about to be handed to its pool, which may never start it.
        In a compensation `error` is set. For a map it is called once, with no `attempt`: that
        function then serves all its items, several at a time.

        The function is called where the body runs, just before it: on its thread, or in its
        process, where it gets to as a pickled copy (a `functools.partial` of a function in a
        module does that well). The context manager is entered there, and left when the body has
        ended; it is not told how. Items of a map that travel together share one.

        Whatever any of them raises changes nothing. It is logged as an error of this hook; in a
        worker process by that process, once.
        """


def checked_hooks(hooks: object, where: str) -> tuple[Hooks, ...]:
    """Check what ``hooks`` may be: `Hooks` objects, or a single one."""
    if isinstance(hooks, Hooks) or not isinstance(hooks, Iterable) or isinstance(hooks, str):
        hooks = (hooks,)
    checked = []
    for hook in hooks:
        if not isinstance(hook, Hooks):
            raise DefinitionTypeError(
                f"{where}: hooks must be objects of syncflow.Hooks, not {policy.shown(hook)}"
            )
        checked.append(hook)
    return tuple(checked)
