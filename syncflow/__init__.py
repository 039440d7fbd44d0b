"""A synchronous flow engine: steps and parallel groups, retries, timeouts and rollback.

Define a `Flow` of steps and parallel groups, `run` it, read the `FlowResult`. Steps run inline, on
threads or on worker processes; when the flow fails, what completed is compensated in reverse order.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncflow.context import CancelToken, Context, current_context
    from syncflow.doubts import check
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
    from syncflow.flowchart import mermaid
    from syncflow.hooks import Event, Hooks, MapProgress
    from syncflow.plan import tree
    from syncflow.pools.process import ProcessPool
    from syncflow.pools.thread import ThreadPool
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
    from syncflow.run.dask import dask_pool

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
    "check",
    "current_context",
    "dask_pool",
    "mermaid",
    "step",
    "tree",
]

#: Where each name is defined. It is imported when it is asked for: who only wants a pool, and a
#: worker process above all, need not wait for the rest.
_HOMES = {
    "CancelToken": "syncflow.context",
    "Context": "syncflow.context",
    "current_context": "syncflow.context",
    "check": "syncflow.doubts",
    "BodyExitError": "syncflow.errors",
    "DefinitionError": "syncflow.errors",
    "DuplicateStepError": "syncflow.errors",
    "FlowCancelledError": "syncflow.errors",
    "FlowFailedError": "syncflow.errors",
    "FlowTimeoutError": "syncflow.errors",
    "GroupFailedError": "syncflow.errors",
    "InputValidationError": "syncflow.errors",
    "PoolClosedError": "syncflow.errors",
    "RemoteError": "syncflow.errors",
    "RollbackIncompleteError": "syncflow.errors",
    "SerializationError": "syncflow.errors",
    "StateConflictError": "syncflow.errors",
    "StepCancelledError": "syncflow.errors",
    "StepInterrupt": "syncflow.errors",
    "StepTimeoutError": "syncflow.errors",
    "SyncflowError": "syncflow.errors",
    "WorkerCrashedError": "syncflow.errors",
    "Flow": "syncflow.flow",
    "Step": "syncflow.flow",
    "step": "syncflow.flow",
    "mermaid": "syncflow.flowchart",
    "Event": "syncflow.hooks",
    "Hooks": "syncflow.hooks",
    "MapProgress": "syncflow.hooks",
    "tree": "syncflow.plan",
    "CompensationResult": "syncflow.result",
    "CompensationStatus": "syncflow.result",
    "FlowResult": "syncflow.result",
    "FlowStatus": "syncflow.result",
    "GroupResult": "syncflow.result",
    "MapResult": "syncflow.result",
    "RollbackStatus": "syncflow.result",
    "StepResult": "syncflow.result",
    "StepStatus": "syncflow.result",
    "ProcessPool": "syncflow.pools.process",
    "dask_pool": "syncflow.run.dask",
    "ThreadPool": "syncflow.pools.thread",
}

logging.getLogger("syncflow").addHandler(logging.NullHandler())


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
