"""`syncflow show`."""

import click

from syncflow import check, mermaid, tree
from syncflow.cli import exit_codes
from syncflow.cli.streams import prints_to_stderr, write_data
from syncflow.cli.target import load_flow
from syncflow.cli.usage import tell

#: What `--format` can name.
FORMATS = {"tree": tree, "mermaid": mermaid}


@click.command("show", short_help="Show what a flow would do, without running it.")
@click.argument("target")
@click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    default="tree",
    show_default=True,
    help="A tree of text, or a Mermaid flowchart.",
)
@click.pass_context
def show_command(ctx: click.Context, target: str, form: str) -> None:
    """Show the flow that TARGET names, and run none of it.

    TARGET is as for `syncflow run`; its module is imported. The plan goes to stdout: the steps in
    order, where each runs, the policies that are not the default, and in which order a rollback
    undoes them. What is certainly a mistake goes to stderr, and does not change the exit code.

    \b
    Examples:
      syncflow show examples/fetch_transform.py
      syncflow show shop.flows:checkout
      syncflow show shop/flows.py:checkout --format mermaid > checkout.mmd
    """
    with prints_to_stderr():
        flow = load_flow(target)
        text, doubts = FORMATS[form](flow), check(flow)
    written = write_data(text)
    for doubt in doubts:
        tell(f"warning: {doubt}", "yellow")
    ctx.exit(exit_codes.COMPLETED if written else exit_codes.FAILED)
