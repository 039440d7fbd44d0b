"""`syncflow run --trace`: a file that Perfetto opens, whatever becomes of the flow."""

import signal

import pytest
from shell import ROOT, SYNCFLOW, call, start
from trace_tools import checked, of_kind, rows

FLOWS = """
import os, sys, time
from pathlib import Path
from syncflow import Flow

def fail(ctx):
    raise RuntimeError("no")

def leave(ctx):
    os.chdir("..")

def remove(ctx):
    Path("gone").rmdir()

def tell_and_wait(ctx):
    print("waiting", file=sys.stderr, flush=True)
    time.sleep(60)

def note(ctx):
    Path("ran").touch()

completed = Flow("completed").step("a", note)
failed = Flow("failed").step("a", print, compensate=note).step("b", fail)
moving = Flow("moving").step("a", leave)
removing = Flow("removing").step("a", remove)
waiting = Flow("waiting").step("a", note, compensate=note).step("b", tell_and_wait)
"""


@pytest.fixture
def flows(directory):
    """Return the name of a file of flows."""
    (directory / "flows.py").write_text(FLOWS)
    return "flows.py"


def events_in(path):
    """Return the events in a trace file, which is as it should be."""
    return checked(path.read_text(encoding="ascii"))


@pytest.mark.xdist_group("process")
def test_traces_the_example(tmp_path):
    """One row for the caller, and one for each thread and each process that ran a body."""
    example = str(ROOT / "examples" / "fetch_transform.py")
    code, stdout, _ = call(SYNCFLOW, "run", example, "--trace", "out.json", cwd=tmp_path)
    assert 0 == code, stdout
    events = events_in(tmp_path / "out.json")
    found = rows(events)
    names = list(found)
    assert ["MainThread"] == [name for name in names if name.startswith("Main")]
    assert "MainThread" == names[0]
    assert {"syncflow-thread", "process"} == {
        name.rpartition("-")[0] or name.split()[0] for name in names[1:]
    }
    assert not [name for name in names if name.endswith(")")]
    fetched = [e for e in of_kind(events, "attempt") if e["name"].startswith("fetch ")]
    assert 40 == len(fetched)
    assert 40 == sum(event["args"]["items"] for event in of_kind(events, "items"))
    assert ["fetch"] == [event["name"] for event in of_kind(events, "group")]
    assert ["fetch-transform", "publish"] == [e["name"] for e in of_kind(events, "flow")]


def test_prints_what_it_prints_without(invoke, flows, directory):
    """The file is all that is added."""
    result = invoke("run", f"{flows}:completed", "--trace", "out.json")
    assert (0, "") == (result.exit_code, result.stderr)
    assert "completed: completed in" in result.stdout
    assert ["a"] == [
        event["name"] for event in of_kind(events_in(directory / "out.json"), "attempt")
    ]


def test_traces_a_flow_that_fails(invoke, flows, directory):
    """Its rollback is in the trace, and the exit code is that of the flow."""
    result = invoke("run", f"{flows}:failed", "--trace", "out.json")
    assert 1 == result.exit_code
    events = events_in(directory / "out.json")
    assert ["a", "b (failed)"] == [event["name"] for event in of_kind(events, "attempt")]
    assert ["undo a"] == [event["name"] for event in of_kind(events, "compensation")]


def test_traces_a_flow_that_is_interrupted(flows, directory):
    """Ctrl-C is no reason to lose what is known."""
    process = start(SYNCFLOW, "run", f"{flows}:waiting", "--trace", "out.json", cwd=directory)
    with process:
        assert "waiting\n" == process.stderr.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert 130 == process.returncode
    events = events_in(directory / "out.json")
    assert ["a", "b (cancelled)"] == [event["name"] for event in of_kind(events, "attempt")]


@pytest.mark.parametrize("path", ["missing/out.json", "."])
def test_refuses_a_file_that_cannot_be_written_before_anything_runs(invoke, flows, directory, path):
    """It is a mistake in the command: one line, exit code 2, and no step has run."""
    result = invoke("run", f"{flows}:completed", "--trace", path)
    assert (2, "") == (result.exit_code, result.stdout)
    [line] = result.stderr.splitlines()
    assert line.startswith(f"syncflow: cannot write {path}: ")
    assert not (directory / "ran").exists()


def test_says_when_the_file_cannot_be_written_after_all(invoke, flows, directory):
    """The table is there, one line tells it, and the command has failed."""
    (directory / "gone").mkdir()
    result = invoke("run", f"{flows}:removing", "--trace", "gone/out.json")
    assert 1 == result.exit_code
    assert "removing: completed in" in result.stdout
    assert result.stderr.startswith("syncflow: cannot write ")
    assert result.stderr.endswith("gone/out.json: No such file or directory\n")


def test_writes_where_it_was_told_when_a_step_goes_elsewhere(invoke, flows, directory, monkeypatch):
    """A relative path is one from where the command was given."""
    (directory / "here").mkdir()
    monkeypatch.chdir(directory / "here")
    result = invoke("run", "../flows.py:moving", "--trace", "out.json")
    assert 0 == result.exit_code, result.stderr
    assert events_in(directory / "here" / "out.json")
