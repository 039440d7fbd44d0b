"""CPython's own executor tests, run against `ProcessPool`."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from cpython_suite import Adapted, ProcessPoolAdapter, cpython_tests

cpython = cpython_tests()

pytestmark = pytest.mark.xdist_group("process")


class ProcessPoolMixin(cpython.ProcessPoolSpawnMixin):
    """Makes each case's executor. Its context serves what a case makes of it, not the pool."""

    executor_type = ProcessPoolAdapter


class TestExecutor(
    Adapted, cpython.ProcessPoolExecutorTest, ProcessPoolMixin, cpython.BaseTestCase
):
    """`ExecutorTest`, and what CPython adds for processes."""


class TestWait(Adapted, cpython.WaitTests, ProcessPoolMixin, cpython.BaseTestCase):
    """`WaitTests`."""


class TestAsCompleted(Adapted, cpython.AsCompletedTests, ProcessPoolMixin, cpython.BaseTestCase):
    """`AsCompletedTests`."""


class TestInitializer(Adapted, cpython.InitializerMixin, ProcessPoolMixin, cpython.BaseTestCase):
    """`InitializerMixin`."""


class TestFailingInitializer(
    Adapted, cpython.FailingInitializerMixin, ProcessPoolMixin, cpython.BaseTestCase
):
    """`FailingInitializerMixin`."""

    def get_context(self) -> SimpleNamespace:
        """Return a context without a queue for logs: none of multiprocessing's can be sent."""
        return SimpleNamespace(Queue=lambda: None)


class TestShutdown(
    Adapted, cpython.ProcessPoolShutdownTest, ProcessPoolMixin, cpython.BaseTestCase
):
    """`ExecutorShutdownTest`, and what CPython adds for processes."""


class TestDeadlock(Adapted, cpython.ExecutorDeadlockTest, ProcessPoolMixin, cpython.BaseTestCase):
    """`ExecutorDeadlockTest`."""
