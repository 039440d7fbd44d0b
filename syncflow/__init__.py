"""A synchronous flow engine: steps and parallel groups, retries, timeouts and rollback.

Define a `Flow` of steps and parallel groups, `run` it, read the `FlowResult`. Steps run inline, on
threads or on worker processes; when the flow fails, what completed is compensated in reverse order.
"""

import logging
from typing import TYPE_CHECKING

from syncflow.context import CancelToken, Context, current_context
from syncflow.errors import (
    BodyExitError,
    DefinitionError,
    DuplicateStepError,
    FlowCancelledError,
    FlowFailedError,
    FlowTimeoutError,
    GroupFailedError,
    InputValidationError,
    PoolClosedError,
    RemoteError,
    RollbackIncompleteError,
    SerializationError,
    StateConflictError,
    StepCancelledError,
    StepInterrupt,
    StepTimeoutError,
    SyncflowError,
    WorkerCrashedError,
)
from syncflow.flow import Flow, Step, step
from syncflow.hooks import Event, Hooks, MapProgress
from syncflow.result import (
    CompensationResult,
    CompensationStatus,
    FlowResult,
    FlowStatus,
    GroupResult,
    MapResult,
    RollbackStatus,
    StepResult,
    StepStatus,
)

if TYPE_CHECKING:
    from syncflow.pools.process import ProcessPool
    from syncflow.pools.thread import ThreadPool

__all__ = [
    "BodyExitError",
    "CancelToken",
    "CompensationResult",
    "CompensationStatus",
    "Context",
    "DefinitionError",
    "DuplicateStepError",
    "Event",
    "Flow",
    "FlowCancelledError",
    "FlowFailedError",
    "FlowResult",
    "FlowStatus",
    "FlowTimeoutError",
    "GroupFailedError",
    "GroupResult",
    "Hooks",
    "InputValidationError",
    "MapProgress",
    "MapResult",
    "PoolClosedError",
    "ProcessPool",
    "RemoteError",
    "RollbackIncompleteError",
    "RollbackStatus",
    "SerializationError",
    "StateConflictError",
    "Step",
    "StepCancelledError",
    "StepInterrupt",
    "StepResult",
    "StepStatus",
    "StepTimeoutError",
    "SyncflowError",
    "ThreadPool",
    "WorkerCrashedError",
    "current_context",
    "step",
]

logging.getLogger("syncflow").addHandler(logging.NullHandler())


def __getattr__(name: str) -> object:
    """Import the pools when they are asked for: they cost imports that not every user needs."""
    if name == "ThreadPool":
        from syncflow.pools.thread import ThreadPool

        return ThreadPool
    if name == "ProcessPool":
        from syncflow.pools.process import ProcessPool

        return ProcessPool
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
