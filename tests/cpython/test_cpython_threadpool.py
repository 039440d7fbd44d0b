"""CPython's own executor tests, run against `ThreadPool`."""

from __future__ import annotations

from cpython_suite import Adapted, ThreadPoolAdapter, cpython_tests

cpython = cpython_tests()


class ThreadPoolMixin(cpython.ExecutorMixin):
    """Makes each case's executor."""

    executor_type = ThreadPoolAdapter


class TestExecutor(Adapted, ThreadPoolMixin, cpython.ThreadPoolExecutorTest):
    """`ExecutorTest`, and what CPython adds for threads."""


class TestWait(Adapted, ThreadPoolMixin, cpython.ThreadPoolWaitTests):
    """`WaitTests`, and what CPython adds for threads."""


class TestAsCompleted(Adapted, cpython.AsCompletedTests, ThreadPoolMixin, cpython.BaseTestCase):
    """`AsCompletedTests`."""


class TestInitializer(Adapted, cpython.InitializerMixin, ThreadPoolMixin, cpython.BaseTestCase):
    """`InitializerMixin`."""


class TestFailingInitializer(
    Adapted, cpython.FailingInitializerMixin, ThreadPoolMixin, cpython.BaseTestCase
):
    """`FailingInitializerMixin`."""


class TestShutdown(Adapted, ThreadPoolMixin, cpython.ThreadPoolShutdownTest):
    """`ExecutorShutdownTest`, and what CPython adds for threads."""
