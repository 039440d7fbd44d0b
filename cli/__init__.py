"""The command line: `syncflow`, and the same as `python -m syncflow`.

Data goes to stdout and everything else to stderr. `exit_codes` names the exit codes.
"""

import click

from syncflow.cli.bench import bench_command
from syncflow.cli.run import run_command
from syncflow.cli.show import show_command
from syncflow.cli.usage import OneLineErrors

__all__ = ["main"]


@click.group(
    cls=OneLineErrors,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="syncflow")
def main() -> None:
    """Run synchronous flows: parallel groups, retries, timeouts and rollback.

    \b
    Exit codes:
        0  the flow completed
        1  it failed, and what it had done is undone
        2  the command or its target was not understood; nothing ran
        3  it failed, and the rollback is incomplete
      130  Ctrl-C, after the rollback
      143  SIGTERM, after the rollback
    """


main.add_command(run_command)
main.add_command(show_command)
main.add_command(bench_command)
