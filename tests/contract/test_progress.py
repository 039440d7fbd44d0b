"""`run(progress=True)`: what is shown where, and that it changes nothing else."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from typing import Any

import pytest
from contract_tools import BodyError, Gate, Recorder, When, do_nothing, fail
from shell import python
from terminal import COLUMNS, IN_THE_WAY, ROWS, Terminal, cells

from syncflow import CancelToken, Context, Flow, FlowResult, Hooks, Step
from syncflow import display as display_module


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """Return a terminal, with the environment of its user."""
    for name in IN_THE_WAY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    # rich asks the first three descriptors for the size, which in these tests are pytest's.
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.setenv("LINES", str(ROWS))
    terminal = Terminal()
    yield terminal
    terminal.end()


@pytest.fixture
def without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide rich."""
    for name in ("rich", "rich.console"):
        monkeypatch.setitem(sys.modules, name, None)


def waiting(gate: Gate) -> Callable[[Context], None]:
    """Return a body that waits at a gate."""

    def body(ctx: Context) -> None:
        gate.wait()

    return body


def watch(terminal: Terminal, flow: Flow, **options: Any) -> FlowResult:
    """Run a flow with progress, where stderr is the terminal (that of the process is pytest's)."""
    with redirect_stderr(terminal.stream):
        return flow.run(progress=True, **options)


def start(terminal: Terminal, flow: Flow) -> threading.Thread:
    """Do so in a thread of its own, which is returned."""
    thread = threading.Thread(target=watch, args=(terminal, flow))
    thread.start()
    return thread


# --- when it is off ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, 0, None, "yes"])
def test_takes_a_bool_alone(value: object) -> None:
    """Anything else is refused by name, and nothing runs."""
    ran: list[object] = []
    with pytest.raises(TypeError, match=f"'f': run: progress must be True or False, not {value!r}"):
        Flow("f").step("a", ran.append).run(progress=value)  # type: ignore[arg-type]
    assert [] == ran


def test_shows_nothing_unless_asked(terminal: Terminal) -> None:
    """The default is no display."""
    Flow("f").step("a", do_nothing).run()
    assert [""] == terminal.end()


def test_shows_nothing_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    """Asked for in a pipe, it stays silent."""
    assert Flow("f").step("a", do_nothing).run(progress=True).ok
    assert ("", "") == capfd.readouterr()


def test_shows_nothing_in_ci(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `CI` set, a terminal is no reason."""
    monkeypatch.setenv("CI", "1")
    watch(terminal, Flow("f").step("a", do_nothing))
    assert [""] == terminal.end()


def _closed() -> io.TextIOWrapper:
    stream = io.TextIOWrapper(io.BytesIO())
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [None, types.SimpleNamespace(), _closed()])
@pytest.mark.usefixtures("terminal")
def test_does_without_a_usable_stderr(stream: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without stderr, with a homemade or a closed one runs flows all the same."""
    monkeypatch.setattr(sys, "stderr", stream)
    assert Flow("f").step("a", do_nothing).run(progress=True).ok


def test_costs_nothing_when_off(tmp_path) -> None:
    """Neither the display nor rich is imported by a run without it."""
    code = (
        "import sys, syncflow; syncflow.Flow('f').step('a', lambda ctx: None).run(); "
        "sys.exit(any(name in sys.modules for name in ('rich', 'syncflow.display')))"
    )
    assert (0, "", "") == python(code, tmp_path)


# --- what it shows ----------------------------------------------------------------------------


def test_draws_the_counts_of_a_group_while_it_runs(terminal: Terminal, gate: Gate) -> None:
    """A live line tells how many members of a group are done, failed and running."""
    steps = [
        Step("a", waiting(gate)),
        Step("b", waiting(gate)),
        Step("c", do_nothing),
        Step("d", fail),
    ]
    run = start(terminal, Flow("f").parallel("g", steps))
    terminal.wait_for("1 of 4 done, 1 failed, 2 running")
    gate.open()
    run.join()
    group, flow = terminal.end()[-2:]
    assert ["g", "3 of 4 done, 1 failed"] == [group.split()[0], " ".join(group.split()[2:8])]
    assert ["f", "completed"] == [flow.split()[0], flow.split()[2]]


def test_draws_a_rollback(terminal: Terminal, gate: Gate) -> None:
    """What a failed flow undoes is counted on a line of its own."""
    flow = Flow("f").step("a", do_nothing, compensate=waiting(gate)).step("b", fail)
    run = start(terminal, flow)
    terminal.wait_for("0 of 1 undone, 1 running")
    gate.open()
    run.join()
    assert ["a", "b", "rollback", "f"] == [line.split()[0] for line in terminal.end()[-4:]]


def test_shows_names_as_they_are(terminal: Terminal) -> None:
    """Names are neither markup nor terminal sequences."""
    watch(terminal, Flow("f").step("[bold]a[/bold] :smile: \x1b[31m", do_nothing))
    assert terminal.end()[1].startswith("[bold]a[/bold] :smile: \\x1b[31m  ")


@pytest.mark.parametrize("columns", [100, 60, 30])
def test_never_wraps_a_line(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """Lines that are too long for the terminal are cut."""
    monkeypatch.setenv("COLUMNS", str(columns))
    flow = Flow("流" * 100).parallel("群" * 100, [Step("a", fail), Step("b", do_nothing)])
    watch(terminal, flow)
    _, group, total = terminal.end()
    assert ("群", "流") == (group[0], total[0])
    assert columns > max(cells(group), cells(total))


def test_keeps_the_counts_rather_than_the_bars(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is little room, the bars make place."""
    monkeypatch.setenv("COLUMNS", "50")
    watch(terminal, Flow("f").parallel("g" * 100, [Step("a", fail), Step("b", do_nothing)]))
    assert "1 of 2 done, 1 failed" in terminal.end()[1]


def test_fits_on_the_terminal(terminal: Terminal, gate: Gate) -> None:
    """Of more nodes than there are lines, those reached last are drawn."""
    flow = Flow("f")
    for number in range(100):
        flow.step(f"s{number}", do_nothing)
    run = start(terminal, flow.step("last", waiting(gate)))
    terminal.wait_for("running")
    gate.open()
    run.join()
    lines = terminal.end()
    assert (["s80", "last", "f"], True) == (
        [line.split()[0] for line in (lines[1], *lines[-2:])],
        len(lines) <= 25,
    )


def test_draws_at_most_ten_times_a_second(terminal: Terminal) -> None:
    """What is drawn does not depend on how much happens."""
    steps = [Step(f"s{number}", do_nothing) for number in range(1000)]
    result = watch(terminal, Flow("f").parallel("g", steps))
    terminal.end()
    assert terminal.text.count("\x1b7") <= 10 * result.duration + 1


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)], ids=["colour", "none"]
)
def test_draws_in_colour_unless_told_otherwise(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], coloured: bool
) -> None:
    """`NO_COLOR` is honoured; without it, there are colours."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    watch(terminal, Flow("f").step("a", do_nothing))
    terminal.end()
    assert ("completed" in terminal.text, coloured) == (True, "\x1b[32m" in terminal.text)


# --- what steps print -------------------------------------------------------------------------


def test_leaves_what_steps_print_above_it(terminal: Terminal, gates: Callable[[str], Gate]) -> None:
    """Lines printed to stderr while it is drawn, by loggers too, stay whole and in order."""
    early, late = gates("early"), gates("late")
    logger = logging.getLogger("of-a-user")
    handler = logging.StreamHandler(terminal.stream)

    def loud(ctx: Context) -> None:
        early.wait()
        sys.stderr.write("one\ntwo\nthree\n")
        handler.emit(logger.makeRecord("of-a-user", 0, "", 0, "four\nfive", (), None))
        late.wait()
        sys.stderr.write("six\n")

    run = start(terminal, Flow("f").step("quiet", do_nothing).parallel("g", [Step("loud", loud)]))
    terminal.wait_for("1 running")
    early.open()
    terminal.wait_for("five")
    late.open()
    run.join()
    lines = terminal.end()
    assert ["one", "two", "three", "four", "five", "six", ""] == lines[:7]
    assert ["quiet", "g", "f"] == [line.split()[0] for line in lines[7:]]


def test_leaves_nothing_of_itself_beside_what_others_print(
    terminal: Terminal, gates: Callable[[str], Gate]
) -> None:
    """A line that came past this process's streams, from a worker say, is not followed by ours."""
    told = {word: gates(word) for word in ("uno", "due", "tre")}

    def aside(ctx: Context) -> None:
        for word, gate in told.items():
            gate.wait()
            os.write(terminal.stream.fileno(), f"{word}\n".encode())

    group = [Step("aside", aside), Step("b", do_nothing), Step("c", do_nothing)]
    run = start(terminal, Flow("f").step("quiet", do_nothing).parallel("g", group))
    terminal.wait_for("2 of 3 done")
    for word, gate in told.items():
        terminal.wait_for_another("2 of 3 done")
        gate.open()
        terminal.wait_for(word)
    run.join()
    lines = terminal.end()
    assert [*told, ""] == lines[:4]
    assert ["quiet", "g", "f"] == [line.split()[0] for line in lines[4:]]


def test_leaves_alone_what_goes_elsewhere(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a step prints to a stdout that is no terminal arrives there as it is."""
    watch(terminal, Flow("f").step("a", lambda ctx: sys.stdout.write("hello\n")))
    assert "hello\n" == capsys.readouterr().out


# --- what it leaves ---------------------------------------------------------------------------


class Raising(Hooks):
    """Raises in hooks."""

    def on_step_complete(self, event: object) -> None:
        raise BodyError


def _cancelled(token: CancelToken) -> Flow:
    return Flow("f", hooks=When("on_step_complete", token.cancel)).step("a", do_nothing)


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (lambda token: Flow("f").step("a", do_nothing), "completed"),
        (lambda token: Flow("f").step("a", fail, compensate=fail), "failed"),
        (lambda token: Flow("f", hooks=Raising()).step("a", do_nothing), "completed"),
        (lambda token: _cancelled(token).step("b", do_nothing), "cancelled"),
    ],
)
def test_leaves_nothing_behind(
    terminal: Terminal, make: Callable[[CancelToken], Flow], status: str
) -> None:
    """However a run ends, its display has gone: thread, and hold on stderr."""
    token = CancelToken()
    flow = make(token)
    hooks = flow.hooks
    assert status == watch(terminal, flow, cancel=token).status
    assert hooks == flow.hooks
    assert "write" not in vars(terminal.stream)
    assert "syncflow-progress" not in [thread.name for thread in threading.enumerate()]


def test_lets_the_hooks_of_the_flow_see_the_same(terminal: Terminal, recorder: Recorder) -> None:
    """The flow's own hooks are called as without a display."""
    flow = Flow("f", hooks=recorder).step("a", do_nothing).parallel("g", [Step("b", fail)])
    flow.run()
    names = recorder.names()
    recorder.calls.clear()
    watch(terminal, flow)
    assert names == recorder.names()


def test_outlives_its_terminal(terminal: Terminal, caplog: pytest.LogCaptureFixture) -> None:
    """A terminal that goes away during the run costs the display, told once, and not the run."""
    flow = Flow("f").step("hang up", lambda ctx: terminal.stream.close())
    assert watch(terminal, flow).ok
    assert ["cannot show the progress of flow 'f'"] == [one.getMessage() for one in caplog.records]


def test_does_without_a_thread(
    terminal: Terminal, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no thread for the display, as at exit of the interpreter, the run goes on."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert watch(terminal, Flow("f").step("a", do_nothing)).ok
    assert ["cannot show the progress of flow 'f'"] == [one.getMessage() for one in caplog.records]
    assert "write" not in vars(terminal.stream)


# --- two at once ------------------------------------------------------------------------------


def test_draws_one_of_two_runs_at_once(terminal: Terminal, gate: Gate) -> None:
    """The terminal has one display; a second run at the same time writes lines above it."""
    first = start(terminal, Flow("first").parallel("g", [Step("a", waiting(gate))]))
    terminal.wait_for("1 running")
    watch(terminal, Flow("second").parallel("h", [Step("b", do_nothing)]))
    gate.open()
    first.join()
    lines = terminal.end()
    assert ["second: h: 1 of 1 done", "second: completed"] == [
        line.split(", ")[0] for line in lines[:2]
    ]
    assert ["g", "first"] == [line.split()[0] for line in lines[-2:]]


def test_leaves_the_terminal_to_a_display_of_rich(terminal: Terminal) -> None:
    """Whoever shows something with rich already is not disturbed."""
    from rich.console import Console
    from rich.file_proxy import FileProxy

    with redirect_stderr(FileProxy(Console(file=terminal.stream), terminal.stream)):
        assert Flow("f").step("a", do_nothing).run(progress=True).ok
    terminal.end()
    assert "\x1b7" not in terminal.text


def test_shows_a_flow_in_a_flow_as_one_step(terminal: Terminal) -> None:
    """What runs within a step has no line of its own."""
    inner = Flow("inner").step("deep", do_nothing)
    watch(terminal, Flow("outer").step(inner))
    assert ["inner", "outer"] == [line.split()[0] for line in terminal.end()[1:]]


# --- without rich -----------------------------------------------------------------------------


@pytest.mark.usefixtures("without_rich")
def test_writes_lines_without_rich(
    terminal: Terminal, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is a line now and then about what runs, and in the end one about each group."""
    monkeypatch.setattr(display_module._Plain, "every", 0.01)
    flow = Flow("f").step("a", do_nothing).parallel("g", [Step("b", waiting(gate))])
    run = start(terminal, flow.parallel("h", [Step("c", fail), Step("d", do_nothing)]))
    terminal.wait_for("f: g: 0 of 1 done, 1 running")
    gate.open()
    run.join()
    lines = [line.split(", ") for line in terminal.end()]
    assert ["f: g: 1 of 1 done", "f: h: 1 of 2 done", "f: completed"] == [
        parts[0] for parts in lines if "running" not in parts[1]
    ]
    assert "\x1b" not in terminal.text


def test_writes_lines_on_a_dumb_terminal(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal that cannot move its cursor gets lines, rich or not."""
    monkeypatch.setenv("TERM", "dumb")
    watch(terminal, Flow("f").parallel("g", [Step("a", do_nothing)]))
    assert ["f: g: 1 of 1 done", "f: completed"] == [line.split(", ")[0] for line in terminal.end()]


# --- in a notebook ----------------------------------------------------------------------------


class OutStream:
    """Stands for the stderr of a notebook."""


class Page:
    """Stands for what a notebook displays below a cell."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def display(self, data: dict[str, str], *, raw: bool, display_id: bool) -> Page:
        """Show a text; return what changes it."""
        assert (raw, display_id, []) == (True, True, self.texts)
        self.update(data, raw=raw)
        return self

    def update(self, data: dict[str, str], *, raw: bool) -> None:
        """Show another text in its place."""
        self.texts.append(data["text/plain"])


def test_keeps_one_text_up_to_date_in_a_notebook(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below a notebook's cell there is one text, which is exchanged as the run goes on."""
    page = Page()
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(display_module._Notebook, "every", 0.01)
    for name, module in (("ipykernel.iostream", OutStream), ("IPython.display", page.display)):
        stand_in = types.SimpleNamespace(**{module.__name__: module})
        monkeypatch.setitem(sys.modules, name.partition(".")[0], types.ModuleType("stand-in"))
        monkeypatch.setitem(sys.modules, name, stand_in)
    monkeypatch.setattr(sys, "stderr", OutStream())
    flow = Flow("f").parallel("g", [Step("a", waiting(gate))])

    run = threading.Thread(target=lambda: flow.run(progress=True))
    run.start()
    while not any("1 running" in text for text in page.texts):
        assert run.is_alive()
    gate.open()
    run.join()
    assert ["g: 1 of 1 done", "f: completed"] == [
        line.split(", ")[0] for line in page.texts[-1].split("\n")
    ]
