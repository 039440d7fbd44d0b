"""Aids for testing flows: a clock that passes by itself, and faults where you want them."""

from syncflow.testing.fake_clock import FakeClock

__all__ = ["FakeClock"]
