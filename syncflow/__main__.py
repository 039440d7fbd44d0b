"""`python -m syncflow` is the `syncflow` command."""

from syncflow.cli import main

main(prog_name="syncflow")
