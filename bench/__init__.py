"""Measurements of syncflow beside what one would write without it."""
