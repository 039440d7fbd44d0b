"""What it takes to run CPython's own executor tests against the pools of syncflow.

The tests are CPython's: its mixins are subclassed, nothing is copied. Here are where they are
found, the adapters that stand in for CPython's executors, and the table of what is skipped.
"""

from __future__ import annotations

import importlib
import sys
import traceback
import unittest
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from pickle import PicklingError
from types import ModuleType, SimpleNamespace
from typing import Any, Final

import pytest

import syncflow
from syncflow import PoolClosedError, SerializationError

__all__ = ["Adapted", "ProcessPoolAdapter", "ThreadPoolAdapter", "cpython_tests"]

_PACKAGE: Final = "test.test_concurrent_futures"
_MODULES: Final = (
    "util",
    "executor",
    "test_as_completed",
    "test_deadlock",
    "test_init",
    "test_process_pool",
    "test_shutdown",
    "test_thread_pool",
    "test_wait",
)

_EXIT: Final = "needs pending work to be finished at interpreter exit; it is dropped, as documented"
_OTHERS: Final = "makes CPython's own executor, whatever `executor_type` says"


def _reads(*names: str) -> str:
    return f"reads the private {', '.join(f'`{name}`' for name in names)}"


#: Every case of CPython that is not run -> why. The class is the one that defines the case.
SKIPPED: Final = {
    "ExecutorShutdownTest.test_interpreter_shutdown": _EXIT,
    "ExecutorShutdownTest.test_hang_gh83386": _EXIT,
    "ThreadPoolExecutorTest.test_default_workers": (
        _reads("_max_workers") + "; a ThreadPool grows on demand, without a default limit"
    ),
    "ThreadPoolExecutorTest.test_hang_global_shutdown_lock": _OTHERS,
    "ThreadPoolExecutorTest.test_idle_thread_reuse": _reads("_threads"),
    "ThreadPoolExecutorTest.test_saturation": _reads("_max_workers", "_threads"),
    "ThreadPoolShutdownTest.test_cancel_futures_wait_false": f"{_OTHERS}, and {_EXIT}",
    "ThreadPoolShutdownTest.test_context_manager_shutdown": _OTHERS,
    "ThreadPoolShutdownTest.test_del_shutdown": _OTHERS,
    "ThreadPoolShutdownTest.test_shutdown_no_wait": _OTHERS,
    "ThreadPoolShutdownTest.test_thread_names_assigned": _OTHERS,
    "ThreadPoolShutdownTest.test_thread_names_default": _OTHERS,
    "ThreadPoolShutdownTest.test_threads_terminate": _reads("_threads"),
    "ProcessPoolExecutorTest.test_idle_process_reuse_multiple": _reads(
        "_max_workers", "_processes"
    ),
    "ProcessPoolExecutorTest.test_idle_process_reuse_one": _reads("_max_workers", "_processes"),
    "ProcessPoolExecutorTest.test_killed_child": (
        _reads("_processes") + "; a dead worker costs only its own task, the pool lives on"
    ),
    "ProcessPoolExecutorTest.test_max_tasks_per_child": _reads("_processes"),
    "ProcessPoolExecutorTest.test_max_tasks_per_child_defaults_to_spawn_context": _reads(
        "_mp_context"
    ),
    "ProcessPoolExecutorTest.test_python_finalization_error": (
        "takes the second thread that is started for the one that feeds CPython's queue"
    ),
    "ProcessPoolExecutorTest.test_saturation": _reads("_max_workers", "_processes"),
    "ProcessPoolExecutorTest.test_traceback": (
        _reads("_RemoteTraceback") + "; the remote traceback is a note of the error"
    ),
    "ProcessPoolShutdownTest.test_context_manager_shutdown": _OTHERS,
    "ProcessPoolShutdownTest.test_del_shutdown": _OTHERS,
    "ProcessPoolShutdownTest.test_processes_terminate": _reads("_processes"),
    "ProcessPoolShutdownTest.test_shutdown_no_wait": _OTHERS,
    "ExecutorDeadlockTest.test_shutdown_deadlock_pickle": _reads("_executor_manager_thread"),
}


def cpython_tests() -> SimpleNamespace:
    """Return what CPython's executor tests define, by name; skip the caller without them."""
    try:
        modules = _load()
    except ImportError as missing:
        mine = f"{sys.implementation.name} {'.'.join(map(str, sys.version_info[:3]))}"
        pytest.skip(f"{mine} ships no {_PACKAGE}, and {missing}", allow_module_level=True)
    return SimpleNamespace(**{name: value for one in modules for name, value in vars(one).items()})


@cache
def _load() -> list[ModuleType]:
    """Import this interpreter's own tests, else those of CPython 3.10."""
    try:
        modules = [importlib.import_module(_PACKAGE)]
    except ImportError:
        modules = [importlib.import_module("cpython_module")]
    if hasattr(modules[0], "__path__"):
        modules = [importlib.import_module(f"{_PACKAGE}.{name}") for name in _MODULES]
    for module in modules:
        if hasattr(module, "assert_python_ok"):
            module.assert_python_ok = _with_adapters(module.assert_python_ok)
    return modules


def _with_adapters(run: Callable[..., Any]) -> Callable[..., Any]:
    """Let CPython's scripts find the adapters, which they take for executors of its own."""

    def run_adapted(option: str, script: str) -> Any:
        script = script.replace("from concurrent.futures import", f"from {__name__} import")
        return run(option, f"import sys; sys.path[:] = {sys.path!r}\n{script}")

    return run_adapted


class Adapted:
    """Base of every class that runs CPython's cases."""

    def __init_subclass__(cls) -> None:
        """Skip the cases of the table."""
        super().__init_subclass__()
        for name in dir(cls):
            if name.startswith("test"):
                owner = next(base for base in cls.__mro__ if name in vars(base))
                case = f"{owner.__name__}.{name}"
                if case in SKIPPED:
                    skip = unittest.skip(f"{case} {SKIPPED[case]}")
                    setattr(cls, name, skip(getattr(cls, name)))

    @contextmanager
    def _assert_logged(self, message: str) -> Iterator[None]:
        """Look for an initializer's error where it is: with CPython it is logged, here a cause."""
        yield
        executor: ThreadPoolAdapter | ProcessPoolAdapter = vars(self)["executor"]
        with pytest.raises(BrokenExecutor) as caught:
            executor.submit(int)
        assert message in "".join(traceback.format_exception(caught.value))


class _LikeCPython:
    """Lets a pool name its errors as CPython's executors do."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        try:
            future: Future[Any] = super().submit(fn, *args, **kwargs)  # type: ignore[misc]
        except PoolClosedError as error:
            # The name of the type is looked for in what an interpreter prints at its exit.
            raise RuntimeError("cannot schedule new futures after shutdown") from error
        future.__class__ = _Future
        return future

    @property
    def _broken(self) -> bool:
        """Tell whether the pool refuses work because its initializer failed."""
        try:
            self.submit(int)
        except BrokenExecutor:
            return True
        return False


class _CannotCross(SerializationError, PicklingError, BrokenProcessPool, SystemExit):
    """What could not be serialised, or rebuilt, as CPython tells it.

    There it is a `PicklingError`, a dead worker, or what pickling raised, which depends on where
    it happens; here it is one `SerializationError`, and no worker dies of it.
    """


class _Future(Future[Any]):
    """The future of an adapted pool."""

    def result(self, timeout: float | None = None) -> Any:
        try:
            return super().result(timeout)
        except SerializationError as error:
            raise _CannotCross(error.what, error.reason) from error
        finally:
            del self  # as in the method of the base: an error's traceback holds this frame


class ThreadPoolAdapter(_LikeCPython, syncflow.ThreadPool):
    """`ThreadPool`, as CPython's tests make and use an executor."""


class ProcessPoolAdapter(_LikeCPython, syncflow.ProcessPool):
    """`ProcessPool`, as CPython's tests make and use an executor."""

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: object = None,
        *,
        max_tasks_per_child: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(max_workers, max_tasks_per_worker=max_tasks_per_child, **options)
