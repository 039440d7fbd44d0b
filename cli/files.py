"""Files that a command writes at its end: it finds out first whether that can be done."""

import os
from collections.abc import Callable
from pathlib import Path

import click

from syncflow.cli.usage import BadUsage, tell

#: The type of an option that names such a file.
FILE = click.Path(path_type=Path, dir_okay=True)


def writable(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Find out first whether a file can be written, and leave it as it was."""
    if path is None:
        return None
    try:
        new = not os.path.lexists(path)
        path.open("ab").close()
        if new:
            path.unlink()
    except OSError as error:
        raise BadUsage(f"cannot write {path}: {error.strerror}") from error
    return path


def wrote(path: Path, write: Callable[[], object]) -> bool:
    """Write a file; tell it in one line when that cannot be done after all."""
    try:
        write()
    except OSError as error:
        tell(f"cannot write {path}: {error.strerror}", "red")
        return False
    return True
