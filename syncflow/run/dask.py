"""Dask as a pool. All that syncflow knows of Dask is here; nobody else imports `distributed`.

A `ClientExecutor` keeps two promises of an executor less well than others:

- **It runs a task again**, without being asked to: up to four times if its worker died
  (`distributed.scheduler.allowed-failures`), and as often as it likes if its worker has left, or
  was lost with a result that nobody had fetched. A step may have sent a mail by then.
- **It cancels whatever it is asked to**, and says that it had not begun, while the body runs on.

So nothing begins there without a ticket. The scheduler keeps it with the task; whoever takes it
first decides: the worker, just before the body starts, or the run, which takes the attempt back. A
second run finds the ticket gone, and in its place what the first one came to, unless that was large
or never known: then it says that it is lost. And taking the ticket tells the scheduler that this
task has used up its failures: if the worker dies now, it says so at once, and tries no other.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final
from uuid import uuid4

from syncflow.errors import (
    DefinitionError,
    PoolClosedError,
    WorkerCrashedError,
    annotate,
    describe,
)
from syncflow.render import one_line
from syncflow.run.parcel import FramesByName

__all__ = ["DaskCluster", "dask_pool"]

#: Bytes from which on what bodies read is put on the cluster once, and not sent with each.
HEAVY: Final = 1 << 16

#: Bytes from which on items go to a worker directly, not by way of a scheduler's graph.
BULKY: Final = 1 << 20

#: Workers that get a large value at once: the death of one loses nothing.
REPLICAS: Final = 2

#: Seconds to wait for a worker that takes a large value; without one it travels with each task.
SCATTER_SECONDS: Final = 5.0

#: Seconds to wait for a ticket: a scheduler that does not answer is busy, or gone.
TICKET_SECONDS: Final = 5.0

#: Stands for the run in the place of a worker's address.
_THE_RUN: Final = "the run"


class DaskCluster(Executor):
    """Dask's own executor, for what `foreign` and `foreign_chunks` submit. Made once a run.

    Args:
        executor: A `distributed.cfexecutor.ClientExecutor`.
    """

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self._client = executor._client
        #: The scheduler has a ticket office.
        self._has_office = False
        #: What is on the cluster, by its name: as it was sent, and the future that stands for it.
        self._there: dict[tuple[str, str], tuple[Any, Any]] = {}

    def submit(self, load: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Send an attempt or a chunk.

        Raises:
            PoolClosedError: the executor was shut down, or its client is not connected.
        """
        client = self._client
        if client.status != "running" or self._executor._shutdown:
            status = "shut down" if client.status == "running" else f"its client is {client.status}"
            raise PoolClosedError(f"Dask's executor cannot be used any more: {status}")
        try:
            if not self._has_office:
                client.register_plugin(_ticket_office())  # woken by the answer, or by its loss
                self._has_office = True
            travelling = load.travelling()
            heavy = self._put_there(travelling.bundle.take_out())
            _, _, step_name, attempt = travelling.bundle.names
            key = f"{one_line(step_name)}-{uuid4().hex}"  # the dashboard shows what it begins with
            # Not `executor.submit`: when a worker is lost with a result, its future may never end.
            task = client.submit(
                _Ticketed(travelling, key, [*heavy]), *heavy.values(),
                **self._executor._kwargs | {"key": key, "pure": False, "retries": 0},
            )  # fmt: skip
            self._executor._futures.add(task)  # for its `shutdown`
        except OSError as error:
            raise PoolClosedError(f"no answer from Dask: {describe(error)}") from error
        journey = _Journey(self, task, step_name, attempt)
        client.loop.add_callback(journey.follow, client)
        return journey

    def _put_there(self, frames: FramesByName) -> dict[tuple[str, str] | None, Any]:
        """Return what a task is given beside itself: each value, or the future that stands for it.

        Large values go by themselves, so that none is sent again when another one has changed. What
        is left goes together (`None`), and if all of that is large it is put there, too.
        """
        items = frames.pop(("items", ""), None)
        given: dict[tuple[str, str] | None, Any] = {
            name: self._standing_for(name, frames.pop(name))
            for name in [name for name, frame in frames.items() if len(frame) >= HEAVY]
        }
        if frames:
            weight = sum(map(len, frames.values()))
            given[None] = frames if weight < HEAVY else self._standing_for(("the", "rest"), frames)
        if items is not None:
            given["items", ""] = items if len(items) < BULKY else self._scattered(items, 1)
        return given

    def _standing_for(self, name: tuple[str, str], value: Any) -> Any:
        """Put a value on the cluster, unless it is there as it is."""
        known = self._there.get(name)
        if known is not None and known[0] == value and known[1].status == "finished":
            return known[1]
        sent = self._scattered(value, REPLICAS)
        if sent is not value:
            self._there[name] = value, sent
        return sent

    def _scattered(self, value: Any, replicas: int) -> Any:
        """Put a value on some workers; return it as it is if there is none yet."""
        try:
            (future,) = self._client.scatter(
                [value], hash=False, broadcast=replicas if replicas > 1 else False,
                timeout=SCATTER_SECONDS,
            )  # fmt: skip
        except TimeoutError:
            return value
        return future

    def take_ticket(self, key: str) -> bool:
        """Take the ticket of a task; true when nothing of it will ever begin."""
        client = self._client
        try:
            before = client.sync(
                client.scheduler.syncflow_ticket, key=key, who=_THE_RUN,
                callback_timeout=TICKET_SECONDS,
            )  # fmt: skip
        except Exception:  # the scheduler is gone, or too busy
            return False
        return before is None

    def lost(self, step_name: str, attempt: int) -> Exception:
        """Return the error of a task that was cancelled by somebody else."""
        client = self._client
        if client.status != "running":
            return BrokenExecutor(
                f"the connection to the Dask scheduler was lost (its client is {client.status}); "
                f"what step {step_name!r} (attempt {attempt}) has done is not known"
            )
        return BrokenExecutor(
            f"Dask has cancelled step {step_name!r} (attempt {attempt}): all workers that had what "
            "it needs have died, or another client has cancelled it"
        )


class _Journey(Future[Any]):
    """A task on its way. Unlike Dask's own future, it is cancelled only if nothing has begun."""

    def __init__(self, cluster: DaskCluster, task: Any, step_name: str, attempt: int) -> None:
        super().__init__()
        self._cluster = cluster
        #: Dask's own future. `None`: it has come to something, and leads to nothing any more.
        self._task: Any = task
        self._whose = step_name, attempt

    def cancel(self) -> bool:
        """Take the task back, if it has not begun; asks the scheduler."""
        task = self._task
        if task is None or self.done():
            return self.cancelled()
        if not self._cluster.take_ticket(task.key) or not super().cancel():
            return False
        task.cancel()
        return True

    async def follow(self, client: Any) -> None:
        """Wait for what becomes of it. Runs on the client's loop."""
        task, sent = self._task, None
        error: BaseException | None = None
        try:
            error = await task.exception(asynchronous=True)
            if error is None and not task.cancelled():
                # From the scheduler, if it can be: a worker that has died would be asked for long.
                kept = await client.scheduler.syncflow_kept(key=task.key)
                sent = pickle.loads(kept) if kept else await client.gather(task, asynchronous=True)
        except BaseException as raised:
            error = raised
        lost = task.cancelled()
        self._task = task = None
        if not self.set_running_or_notify_cancel():
            return
        if lost:
            self.set_exception(self._cluster.lost(*self._whose))
        elif error is not None:
            self.set_exception(self._crash_of(error))
        elif isinstance(sent, _Refusal):
            self.set_exception(self._crash(None, sent.why))
        else:
            self.set_result(sent)
        del error

    def _crash_of(self, error: BaseException) -> BaseException:
        """Return the error for one of Dask's: `KilledWorker` is a crash."""
        if type(error).__name__ != "KilledWorker":
            return error
        worker = error.last_worker  # type: ignore[attr-defined]
        return self._crash(getattr(worker, "pid", None) or None, f"it was at {worker.address}")

    def _crash(self, pid: int | None, note: str) -> WorkerCrashedError:
        error = WorkerCrashedError(pid, None, None, *self._whose)
        annotate(error, f"on Dask: {note}")
        return error


class _Refusal:
    """What a task comes to that has no ticket."""

    def __init__(self, why: str) -> None:
        self.why = why


#: On a worker: what its last tasks have come to, by their keys.
_done: deque[tuple[str, bytes]] = deque(maxlen=64)


class _Ticketed:
    """A task as it arrives on a worker: it needs a ticket."""

    def __init__(self, travelling: Any, key: str, names: list[tuple[str, str] | None]) -> None:
        self._travelling = travelling
        self._key = key
        self._names = names

    def __call__(self, *given: Any) -> Any:
        """Run what has travelled, if nobody has before."""
        from distributed import get_worker
        from distributed.utils import sync

        worker = get_worker()
        # Dask tells of ended tasks every 2 ms. Those that this worker has had on its hands are told
        # before it begins anything else, which may end it.
        done = [_done.popleft() for _ in range(len(_done))]
        before = sync(
            worker.loop, worker.scheduler.syncflow_ticket,
            key=self._key, who=worker.address, done=done,
        )  # fmt: skip
        if before:
            taker, kept = before
            return pickle.loads(kept) if kept else _Refusal(f"it was at {taker}, which has left")
        for name, value in zip(self._names, given, strict=True):
            self._travelling.bundle.put_in(value if name is None else {name: value})
        sent = self._travelling()
        kept = pickle.dumps(sent)
        if len(kept) < HEAVY:
            _done.append((self._key, kept))
            # Goes the way of Dask's own message that the task has ended, and before it.
            message = {"op": "syncflow-keep", "key": self._key, "kept": kept}
            worker.loop.add_callback(worker.batched_send, message)
        return sent


def _ticket_office() -> Any:
    """Return the plugin of the scheduler that gives out tickets.

    Its class is made here, so that it is sent by value: the scheduler need not have syncflow.
    """
    from distributed import SchedulerPlugin

    class TicketOffice(SchedulerPlugin):  # type: ignore[misc]
        name = "syncflow-tickets"
        idempotent = True

        def start(self, scheduler: Any) -> None:
            from asyncio import sleep

            async def ticket(
                key: str, who: str, done: Sequence[tuple[str, bytes]] = ()
            ) -> tuple[str, bytes] | None:
                """Return who has taken it before, and what came of it; `None`: it is yours."""
                for other, kept in done:
                    keep(other, kept)
                for _ in range(100):
                    task = scheduler.tasks.get(key)
                    if task is not None or who != "the run":
                        break
                    # The run takes its task back before the scheduler has read all of it.
                    await sleep(0.005)
                if task is None:
                    return "nobody", b""  # it is not wanted any more
                if task.metadata is None:
                    task.metadata = {}
                taker: str = task.metadata.setdefault("syncflow-ticket", "")
                if taker:
                    return taker, task.metadata.get("syncflow-kept", b"")
                task.metadata["syncflow-ticket"] = who
                # From here on one death is one too many: see `Scheduler.remove_worker`.
                task.suspicious = scheduler.allowed_failures
                return None

            def keep(key: str, kept: bytes, worker: str = "") -> None:
                """Keep what a task has come to: its worker may die before that is fetched."""
                task = scheduler.tasks.get(key)
                if task is not None:
                    task.metadata["syncflow-kept"] = kept
                    task.suspicious = 0  # another worker may tell it

            def tell(key: str) -> bytes:
                """Return what a task has come to, if it was kept."""
                task = scheduler.tasks.get(key)
                return b"" if task is None else (task.metadata or {}).get("syncflow-kept", b"")

            scheduler.handlers["syncflow_ticket"] = ticket
            scheduler.handlers["syncflow_kept"] = tell
            scheduler.stream_handlers["syncflow-keep"] = keep

    return TicketOffice()


#: `dask://local`, or where a scheduler listens.
_ADDRESS: Final = re.compile(r"dask://(?:local|(?P<place>(?:[\w.-]+|\[[0-9a-fA-F:.]+\]):\d{1,5}))")


@contextmanager
def dask_pool(address: str = "dask://local", *, timeout: float = 5.0) -> Iterator[Executor]:
    """Connect to a Dask cluster; give an executor for `pool=` or `pools=`, closed in the end.

    Args:
        address: ``dask://host:port`` of a scheduler, or ``dask://local``: a cluster with one
            worker process per usable core starts here, and ends with the ``with`` block.
        timeout: Seconds to wait for the scheduler's answer.

    Raises:
        DefinitionError: the address is not one.
        ImportError: `distributed` is not installed.
        ConnectionError: nobody answers there.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise DefinitionError(f"{address!r} is neither 'dask://host:port' nor 'dask://local'")
    try:
        import distributed
    except ImportError as error:
        raise ImportError("Dask is not installed: pip install 'syncflow[dask]'") from error
    if found["place"] is None:
        import dask
        import loky

        with (
            # A worker that dies twice within these seconds is not started again.
            dask.config.set({"distributed.deploy.lost-worker-timeout": "1 day"}),
            distributed.LocalCluster(
                n_workers=loky.cpu_count(),
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,  # results tell what went wrong; it logs its own end
            ) as cluster,
            distributed.Client(cluster, set_as_default=False) as client,
        ):
            yield client.get_executor()
        return
    scheduler = f"tcp://{found['place']}"
    try:
        # A client that finds nobody, or no scheduler, cannot be closed for a while.
        with ThreadPoolExecutor(1) as alone:  # the caller may be in a loop, in a notebook say
            alone.submit(asyncio.run, _shake_hands(scheduler, timeout)).result()
    except Exception as error:
        raise ConnectionError(
            f"no Dask scheduler answers at {found['place']} within {timeout:g} s"
        ) from error
    with distributed.Client(scheduler, timeout=timeout, set_as_default=False) as client:
        yield client.get_executor()


async def _shake_hands(scheduler: str, timeout: float) -> None:
    """Connect, and see whether it is Dask that answers."""
    from distributed.comm import connect

    comm = await asyncio.wait_for(connect(scheduler, timeout=timeout), timeout)
    comm.abort()
