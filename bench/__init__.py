"""Measure what syncflow costs, beside what one would write without it. Uses the public API only."""
