"""`syncflow bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from syncflow.cli import exit_codes
from syncflow.cli.files import FILE, writable, wrote
from syncflow.cli.signals import sigterm_as_ctrl_c
from syncflow.cli.streams import prints_to_stderr, write_data
from syncflow.cli.usage import BadUsage, tell

if TYPE_CHECKING:
    from syncflow.bench.report import Report


def _known_suites(
    ctx: click.Context, param: click.Parameter, names: tuple[str, ...]
) -> tuple[str, ...]:
    """Refuse what is no suite; without a name, take all."""
    from difflib import get_close_matches

    from syncflow.bench.suites import SUITES

    for name in names:
        if name not in SUITES:
            near = get_close_matches(name.lower(), SUITES, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(SUITES)}"
            raise click.BadParameter(f"unknown suite {name!r}; {hint}")
    return tuple(dict.fromkeys(names)) or tuple(SUITES)


def _old_report(ctx: click.Context, param: click.Parameter, path: Path | None) -> Report | None:
    """Read the file to compare with before anything is measured."""
    from syncflow.bench.document import BadDocumentError, read

    if path is None:
        return None
    try:
        return read(path)
    except OSError as error:
        raise BadUsage(f"cannot read {path}: {error.strerror}") from error
    except BadDocumentError as error:
        raise BadUsage(f"{path} was not written by `syncflow bench --json`: {error}") from error


def _drawable(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Find out whether a plot can be made."""
    from syncflow.bench.plot import MissingPlotError, formats

    if path is None:
        return None
    try:
        known = formats()
    except MissingPlotError as missing:
        raise BadUsage(f"--plot: {missing}") from missing
    if path.suffix.lower().removeprefix(".") not in known:
        raise BadUsage(f"cannot draw {path}: its name does not end in .svg, .png or .pdf")
    return writable(ctx, param, path)


@click.command("bench", short_help="Measure syncflow beside what you would write instead.")
@click.argument("suites", nargs=-1, metavar="[SUITE]...", callback=_known_suites)
@click.option("--quick", is_flag=True, help="Less work, fewer times and peers: half a minute.")
@click.option(
    "--workers",
    type=click.IntRange(min=1, max=1024),
    default=2,
    show_default=True,
    metavar="N",
    help="Worker processes of each side; the targets are stated for 2.",
)
@click.option(
    "--json",
    "json_file",
    type=FILE,
    metavar="FILE",
    callback=writable,
    help="Write all samples, with versions and machine, to FILE.",
)
@click.option(
    "--compare",
    "before",
    type=FILE,
    metavar="FILE",
    callback=_old_report,
    help="Show what has moved beyond noise since `--json` wrote FILE.",
)
@click.option(
    "--plot",
    "plot_file",
    type=FILE,
    metavar="FILE",
    callback=_drawable,
    help="Draw cost over group size and speed-up over workers: .svg, .png or .pdf.",
)
@click.pass_context
def bench_command(
    ctx: click.Context,
    suites: tuple[str, ...],
    quick: bool,
    workers: int,
    json_file: Path | None,
    before: Report | None,
    plot_file: Path | None,
) -> NoReturn:
    """Measure what syncflow costs and gains on this machine, beside what one would write instead.

    Both do the same work in turns, and must get the same results. Each figure is a median with its
    spread; targets stand beside it, and are marked where they are missed. A peer that is not
    installed is left out: pip install 'syncflow[bench]' brings them all.

    \b
    Suites: overhead io cpu payload timeouts crash failfast start map memory; without one, all.
    Exit code 1: a step of syncflow failed, or results differ.

    \b
    Examples:
      syncflow bench --quick
      syncflow bench overhead cpu --json before.json --plot curves.svg
      syncflow bench overhead --compare before.json
    """
    from syncflow.bench.case import Settings
    from syncflow.bench.compare import comparison
    from syncflow.bench.document import to_json
    from syncflow.bench.plot import DRAWN, draw
    from syncflow.bench.session import run_suites
    from syncflow.bench.table import tables

    if plot_file is not None and not set(DRAWN) & set(suites):
        raise BadUsage(f"--plot draws suites {' and '.join(DRAWN)}; neither is to be measured")
    with prints_to_stderr(), sigterm_as_ctrl_c() as stop:
        try:
            report = run_suites(suites, Settings(quick, workers), tell)
        except KeyboardInterrupt:
            tell("interrupted", "red")
            ctx.exit(stop.exit_code)
    text = tables(report)
    if before is not None:
        text += f"\n\n{comparison(before, report)}"
    written = [write_data(text)]
    if json_file is not None:
        written.append(wrote(json_file, lambda: json_file.write_text(to_json(report), "utf-8")))
    if plot_file is not None:
        written.append(wrote(plot_file, lambda: draw(report, plot_file)))
    if report.wrong:
        tell(f"syncflow failed, or results differ, in {report.wrong} of the cases", "red")
    ctx.exit(exit_codes.FAILED if report.wrong or not all(written) else exit_codes.COMPLETED)
