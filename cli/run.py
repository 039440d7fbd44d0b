"""`syncflow run`."""

import json
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import NoReturn

import click

from syncflow import DefinitionError, Flow, FlowResult, SyncflowError
from syncflow.cli import exit_codes
from syncflow.cli.dask_pool import DASK, open_pools
from syncflow.cli.files import FILE, writable, wrote
from syncflow.cli.inputs import read_input
from syncflow.cli.signals import sigterm_as_ctrl_c
from syncflow.cli.streams import prints_to_stderr, write_data
from syncflow.cli.target import load_flow
from syncflow.cli.usage import BadUsage, tell

#: The pools that `--pool` can name; what else a flow may run on has to be made in Python.
POOL_SPECS = ("thread", "process", "inline")


def _parse_pools(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """Turn `NAME=SPEC` into an entry of `Flow.run(pools=...)`."""
    pools = {}
    for value in values:
        name, equals, spec = value.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{value!r} is not NAME=SPEC")
        if spec not in POOL_SPECS and not spec.startswith(DASK):
            raise click.BadParameter(f"{spec!r} is not one of {', '.join(POOL_SPECS)}, {DASK}...")
        pools[name] = spec
    return pools


@click.command("run", short_help="Run a flow and print its result table.")
@click.argument("target")
@click.option("--input", "source", metavar="JSON|@FILE|-", help="The flow's input; `-` is stdin.")
@click.option("--timeout", type=float, metavar="S", help="Seconds the whole flow may take.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, not as a table.")
@click.option(
    "--trace",
    "trace_file",
    type=FILE,
    metavar="FILE",
    callback=writable,
    help="Write what ran where and when to FILE, for https://ui.perfetto.dev.",
)
@click.option(
    "--pool",
    "pools",
    multiple=True,
    metavar="NAME=SPEC",
    callback=_parse_pools,
    help="Run what the flow gives to pool NAME on SPEC instead: thread, process, inline, "
    "dask://host:port, or dask://local for a cluster that is started on this machine.",
)
@click.option(
    "--progress/--no-progress",
    default=True,
    help="Show on stderr how far the flow has come, if that is a terminal. Default: shown.",
)
@click.pass_context
def run_command(
    ctx: click.Context,
    target: str,
    source: str | None,
    timeout: float | None,
    as_json: bool,
    trace_file: Path | None,
    pools: dict[str, str],
    progress: bool,
) -> NoReturn:
    """Run the flow that TARGET names, and print its result.

    TARGET is `package.module:flow` or `path/file.py:flow`; `:flow` may be left out when the
    module holds exactly one flow. The result goes to stdout; what steps print goes to stderr.
    Ctrl-C and SIGTERM undo what the flow has done, then end the command; a second one ends that,
    too.

    \b
    Examples:
      syncflow run examples/fetch_transform.py
      syncflow run shop.flows:checkout --input '{"sku": "A-1"}' --timeout 30
      syncflow run shop/flows.py:checkout --input @order.json --json > result.json
      echo '{"sku": "A-1"}' | syncflow run shop.flows:checkout --input -
      syncflow run shop.flows:checkout --pool process=thread
      syncflow run shop.flows:checkout --trace checkout.json
      syncflow run shop.flows:checkout --pool process=dask://10.0.0.7:8786
    """
    result: FlowResult | None
    if trace_file is not None:
        trace_file = trace_file.absolute()  # a step may change the current directory
    with prints_to_stderr(), sigterm_as_ctrl_c() as stop:
        try:
            value = read_input(source)
            flow = load_flow(target)  # first: the path it adds is that of local workers, too
            with open_pools(pools) as opened:
                result = _run_flow(flow, value, timeout, opened, progress)
            code = _exit_code(result)
        except KeyboardInterrupt as interrupt:
            result = getattr(interrupt, "flow_result", None)
            code = stop.exit_code
    if result is not None:
        text = json.dumps(result.to_dict(), indent=2) if as_json else result.table()
        code = code if write_data(text) else code or exit_codes.FAILED
        if trace_file is not None and not wrote(trace_file, partial(result.trace, trace_file)):
            code = code or exit_codes.FAILED
    if result is None:
        tell("interrupted", "red")
    elif not result.ok:
        tell(_why(result), "red")
    ctx.exit(code)


def _run_flow(
    flow: Flow,
    value: object,
    timeout: float | None,
    pools: dict[str, str | Executor],
    progress: bool,
) -> FlowResult:
    try:
        return flow.run(value, timeout=timeout, pools=pools or None, progress=progress)
    except DefinitionError as error:
        raise BadUsage(str(error)) from error


def _exit_code(result: FlowResult) -> int:
    if result.ok:
        return exit_codes.COMPLETED
    if result.rollback == "incomplete":
        return exit_codes.ROLLBACK_INCOMPLETE
    return exit_codes.FAILED


def _why(result: FlowResult) -> str:
    """Say in one line why the flow did not complete."""
    try:
        result.raise_for_status()
    except SyncflowError as error:
        return str(error)
    return ""
