"""`syncflow bench`: tables on stdout, the rest on stderr, and files that are as they should be."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from bench_reports import open_fonts
from shell import SYNCFLOW, call

import syncflow.bench
from syncflow.bench import session
from syncflow.bench.case import Case, Side
from syncflow.bench.suites import SUITES

SCHEMA = json.loads(
    (Path(syncflow.bench.__file__).parent / "schema.json").read_text(encoding="utf-8")
)

#: Suites that need neither worker processes nor seconds.
CHEAP = ("io", "failfast")


@pytest.fixture
def suites(monkeypatch):
    """Return a function that puts a suite of one case in the place of all suites."""

    def suites(*works):
        sides = tuple(
            Side(f"side {at}", lambda _, work=work: work) for at, work in enumerate(works)
        )
        cases = [Case("a case", sides, series="thread", at=10)]
        monkeypatch.setattr(session, "cases_of", lambda suite, settings: cases)

    return suites


def rows(stdout):
    """Return the lines of the tables, by the words in them."""
    return [" ".join(line.split()) for line in stdout.splitlines()]


def test_measures_and_tells(invoke, directory):
    """Tables go to stdout, one line a case to stderr, and the samples into the file."""
    result = invoke("bench", *CHEAP, "--quick", "--json", "out.json")
    assert 0 == result.exit_code, result.stderr
    assert result.stdout.startswith(f"io: {SUITES['io']}\n")
    assert [
        "syncflow: [1/2] io: 160 waits of 10 ms, 32 at a time",
        "syncflow: [2/2] failfast: 1 of 32 thread steps fails, the others sleep",
    ] == result.stderr.splitlines()
    document = json.loads((directory / "out.json").read_text())
    jsonschema.validate(document, SCHEMA)
    sides = [side for case in document["cases"] for side in case["sides"]]
    assert {"measured"} == {side["outcome"] for side in sides}
    assert (None, True, 2) == (
        document["machine"]["revision"], document["quick"], document["workers"],
    )  # fmt: skip


def test_works_from_a_shell(tmp_path):
    """The installed command measures and ends."""
    code, stdout, stderr = call(SYNCFLOW, "bench", "failfast", "--quick", cwd=tmp_path)
    assert (0, 1) == (code, stderr.count("\n")), stderr
    assert any(row.startswith("1 of 32 thread steps fails") for row in rows(stdout))
    assert [] == list(tmp_path.iterdir())


@pytest.mark.xdist_group("process")
def test_measures_processes(tmp_path):
    """Worker processes of syncflow and of a peer compute the same, and nobody is left behind."""
    code, stdout, stderr = call(
        SYNCFLOW, "bench", "crash", "--quick", "--json", "out.json", cwd=tmp_path
    )
    assert 0 == code, stdout + stderr
    document = json.loads((tmp_path / "out.json").read_text())
    assert [("measured", None)] * 4 == [
        (side["outcome"], side["note"]) for case in document["cases"] for side in case["sides"]
    ]


def test_takes_suites_once(invoke, suites):
    """In the order in which they are named."""
    suites(int)
    result = invoke("bench", "io", "cpu", "io")
    assert ["[1/2] io: a case", "[2/2] cpu: a case"] == [
        line.removeprefix("syncflow: ") for line in result.stderr.splitlines()
    ]


def test_takes_all_suites(invoke, suites):
    """When none is named."""
    suites(int)
    result = invoke("bench")
    assert list(SUITES) == [line.split()[2].rstrip(":") for line in result.stderr.splitlines()]


def test_fails_when_results_differ(invoke, suites):
    """The table says whose, and the exit code is 1."""
    suites(lambda: 1, lambda: 2)
    result = invoke("bench", "io")
    assert 1 == result.exit_code
    assert "side 1 - DIFFERENT: computed something else than the first side" in rows(result.stdout)
    assert (
        "syncflow: syncflow failed, or results differ, in 1 of the cases"
        == result.stderr.splitlines()[-1]
    )


def test_fails_when_syncflow_does(invoke, suites):
    """Its side is the first."""
    suites(lambda: 1 / 0, lambda: 1)
    result = invoke("bench", "io")
    assert 1 == result.exit_code
    assert "a case side 0 - FAILED: ZeroDivisionError: division by zero" in rows(result.stdout)


def test_does_not_fail_when_a_peer_does(invoke, suites):
    """Its row says so."""
    suites(lambda: 1, lambda: 1 / 0)
    result = invoke("bench", "io")
    assert 0 == result.exit_code
    assert "side 1 - FAILED: ZeroDivisionError: division by zero" in rows(result.stdout)


def test_keeps_prints_out_of_the_tables(invoke, suites):
    """What a side prints goes to stderr."""
    suites(lambda: print("hello"))  # noqa: T201
    result = invoke("bench", "io")
    assert ("hello" in result.stdout, "hello" in result.stderr) == (False, True)


def test_compares_with_an_earlier_run(invoke, directory):
    """What is a thousand times as fast has moved."""
    assert 0 == invoke("bench", "failfast", "--quick", "--json", "before.json").exit_code
    before = json.loads((directory / "before.json").read_text())
    for side in before["cases"][0]["sides"]:
        side["samples"] = [1000 * sample for sample in side["samples"]]
    (directory / "before.json").write_text(json.dumps(before))
    result = invoke("bench", "failfast", "--quick", "--compare", "before.json")
    assert 0 == result.exit_code, result.stderr
    assert "1 of 1 figures have moved beyond noise." in rows(result.stdout)


@pytest.fixture(scope="module")
def fonts_are_open(tmp_path_factory):
    """Nothing that matplotlib keeps is opened by a test."""
    open_fonts(tmp_path_factory.mktemp("fonts"))


@pytest.mark.parametrize(("name", "magic"), [("out.svg", b"<?xml"), ("OUT.PNG", b"\x89PNG")])
def test_draws(fonts_are_open, invoke, directory, suites, name, magic):
    """The name says what kind of picture it is."""
    suites(int)
    result = invoke("bench", "overhead", "--plot", name)
    assert 0 == result.exit_code, result.stderr
    assert (directory / name).read_bytes().startswith(magic)


def test_leaves_an_old_file_alone_until_it_has_something_to_write(invoke, directory, suites):
    """A run that is interrupted costs nobody the samples of an earlier one."""

    def interrupted():
        raise KeyboardInterrupt

    suites(interrupted)
    (directory / "old.json").write_text("old")
    result = invoke("bench", "io", "--json", "old.json")
    assert (130, "") == (result.exit_code, result.stdout)
    assert "syncflow: interrupted" == result.stderr.splitlines()[-1]
    assert "old" == (directory / "old.json").read_text()


@pytest.mark.parametrize(
    ("option", "name"), [("--json", "folder/out.json"), ("--plot", "folder/out.svg")]
)
def test_tells_when_a_file_cannot_be_written_after_all(
    fonts_are_open, invoke, directory, suites, option, name
):
    """The tables are printed all the same; the exit code is 1."""
    (directory / "folder").mkdir()
    suites(lambda: shutil.rmtree("folder", ignore_errors=True))
    result = invoke("bench", "overhead", option, name)
    assert 1 == result.exit_code
    assert "side 0" in result.stdout
    assert f"syncflow: cannot write {name}: No such file or directory" in result.stderr


MISTAKES = {
    "unknown suite": (["overhed"], "unknown suite 'overhed'; did you mean 'overhead'?"),
    "another word": (["x"], "unknown suite 'x'; there are overhead, io, cpu, payload"),
    "no number of workers": (["--workers", "many"], "'many' is not a valid integer"),
    "no workers": (["--workers", "0"], "0 is not in the range"),
    "compare: missing": (["--compare", "no.json"], "cannot read no.json: No such file"),
    "compare: folder": (["--compare", "folder"], "cannot read folder: Is a directory"),
    "compare: no JSON": (["--compare", "bad.json"], "bad.json was not written by `syncflow bench"),
    "compare: foreign": (["--compare", "foreign.json"], "its format is not 'syncflow-bench-1'"),
    "compare: damaged": (["--compare", "damaged.json"], "it is damaged: KeyError: 'quick'"),
    "json: no folder": (["--json", "no/out.json"], "cannot write no/out.json: No such file"),
    "json: folder": (["--json", "folder"], "cannot write folder: Is a directory"),
    "plot: no folder": (["--plot", "no/out.svg"], "cannot write no/out.svg: No such file"),
    "plot: unknown kind": (["--plot", "out.txt"], "cannot draw out.txt"),
    "plot: no kind": (["--plot", "svg"], "cannot draw svg"),
    "plot: nothing to draw": (["io", "--plot", "out.svg"], "--plot draws suites overhead and cpu"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_tells_a_mistake_in_one_line(invoke, directory, suites, arguments, message):
    """Nothing is measured, and no file is left."""
    suites(lambda: pytest.fail("measured"))
    (directory / "folder").mkdir()
    (directory / "bad.json").write_text("{")
    (directory / "foreign.json").write_text('{"benchmarks": []}')
    (directory / "damaged.json").write_text('{"format": "syncflow-bench-1"}')
    before = sorted(directory.rglob("*"))
    result = invoke("bench", *arguments)
    assert (2, "") == (result.exit_code, result.stdout)
    assert 1 == result.stderr.count("\n"), result.stderr
    assert message in result.stderr
    assert before == sorted(directory.rglob("*"))


def test_says_what_a_plot_needs(invoke, monkeypatch):
    """The line names the pip install that brings it."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = invoke("bench", "--plot", "out.svg")
    assert (2, "") == (result.exit_code, result.stdout)
    assert "syncflow: --plot: no matplotlib: pip install 'syncflow[plot]'\n" == result.stderr


def test_names_all_suites_in_its_help(invoke):
    """In the order in which they run."""
    assert f"Suites: {' '.join(SUITES)}; without one, all." in invoke("bench", "--help").stdout


def test_costs_other_commands_nothing(tmp_path):
    """`syncflow run` imports neither suites nor matplotlib."""
    code = "import sys, syncflow.cli; sys.exit(any('bench.' in name for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False, timeout=60)
    assert 0 == done.returncode
