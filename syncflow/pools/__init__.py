"""Pools of threads and processes, each a `concurrent.futures.Executor`."""
