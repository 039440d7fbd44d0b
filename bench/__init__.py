"""`syncflow bench`: what syncflow costs and gains, beside what one would write instead.

Uses the public API only. `suites/` says what is measured, `peers` against what, `measure` how;
`report` holds the raw samples, of which `table`, `compare` and `plot` make what users read. Nothing
is imported here: workers import this package, and their start is a part of what is measured.
"""
