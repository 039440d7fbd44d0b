"""Mistakes in a command are told in one line on stderr, and end it with exit code 2."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from syncflow.cli import exit_codes


def tell(message: str, colour: str | None = None) -> None:
    """Write one line to stderr, coloured on a terminal unless `NO_COLOR` is set.

    Messages quote what users and their code wrote: line breaks become spaces, and no control
    character reaches the terminal.
    """
    line = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in " ".join(message.split())
    )
    plain = False if os.environ.get("NO_COLOR") else None
    click.secho(f"syncflow: {line}", fg=colour, err=True, color=plain)


class BadUsage(click.ClickException):
    """What the user asked for cannot be done; nothing has run."""

    exit_code = exit_codes.USAGE

    def show(self, file: IO[Any] | None = None) -> None:
        """Tell it in one line, whatever line breaks the message has."""
        tell(self.format_message(), "red")


@contextmanager
def _told_in_one_line() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        raise BadUsage(error.format_message()) from error
    except KeyboardInterrupt:
        raise click.exceptions.Exit(exit_codes.INTERRUPTED) from None


class OneLineErrors(click.Group):
    """A group whose usage errors, and those of its commands, take one line."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the group's own options."""
        with _told_in_one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Parse and run the command that was named."""
        with _told_in_one_line():
            return super().invoke(ctx)
