"""Opens the Dask clusters that `--pool` names."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager

from syncflow import DefinitionError
from syncflow.cli.usage import BadUsage

#: How the specs begin that name a cluster.
DASK = "dask://"


@contextmanager
def open_pools(specs: Mapping[str, str]) -> Iterator[dict[str, str | Executor]]:
    """Give what `Flow.run(pools=...)` takes; a cluster that has several names is opened once.

    Raises:
        BadUsage: a spec is malformed, nobody answers there, or Dask is not installed.
    """
    with ExitStack() as stack:
        opened: dict[str, str | Executor] = {}
        for spec in specs.values():
            if spec not in opened:
                opened[spec] = _open(stack, spec) if spec.startswith(DASK) else spec
        yield {name: opened[spec] for name, spec in specs.items()}


def _open(stack: ExitStack, spec: str) -> Executor:
    from syncflow import dask_pool  # imports the engine and asyncio: not for every command

    try:
        return stack.enter_context(dask_pool(spec))
    except (DefinitionError, ImportError, OSError) as error:
        raise BadUsage(str(error)) from error
