"""Keeps stdout for the command's own data."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import click

from syncflow.cli.usage import tell


def write_data(text: str) -> bool:
    """Write the command's data to stdout; tell it in one line when that cannot be done."""
    try:
        try:
            click.echo(text)
        except UnicodeEncodeError as error:  # nothing is written yet
            click.echo(text.encode(error.encoding, "replace"))
    except OSError as error:
        tell(f"cannot write the result: {error.strerror}", "red")
        # What is left in the buffer would be tried again, and fail again, at interpreter exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return False
    return True


@contextmanager
def prints_to_stderr() -> Iterator[None]:
    """Send to stderr what is printed to stdout meanwhile, by this process and those it starts.

    A step that prints would otherwise mix its words into a table or into JSON that another
    program reads. The file descriptor is redirected, too: worker processes inherit it, and C code
    knows nothing of `sys.stdout`. A worker keeps what it inherited; a thread that outlives the
    block prints to stdout again.
    """
    if sys.stdout is None or sys.stderr is None:  # started with a closed stream: nothing to mix
        yield
        return
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stdout.flush()  # what came through a reference taken before the redirection
        sys.stderr.flush()
        os.dup2(stdout, 1)
        os.close(stdout)
