"""`syncflow show`: what it prints where, and that it runs nothing."""

import json
import shutil

import pytest
import test_readme
from shell import ROOT, SYNCFLOW, call, python

import syncflow

EXAMPLE = ROOT / "examples" / "fetch_transform.py"

DOUBTFUL = """
import syncflow
print("loading")
flow = syncflow.Flow("doubtful").step("a", lambda ctx: 1 / 0, jitter=True)
"""

DOUBT = "warning: step 'a' of flow 'doubtful': jitter changes nothing without retries"


@pytest.fixture
def doubtful(directory):
    """Return the path of a flow with a mistake."""
    (directory / "flows.py").write_text(DOUBTFUL)
    return "flows.py"


@pytest.fixture
def example(directory):
    """Return the path of the example, in a file that no other test imports."""
    return shutil.copy(EXAMPLE, directory / "example_to_show.py").name


@pytest.mark.parametrize("options", [(), ("--format", "tree")])
def test_prints_the_tree_of_the_example(invoke, example, options):
    """By default, each node of the example stands in the tree with its pool; nothing is doubted."""
    result = invoke("show", example, *options)
    assert (0, "") == (result.exit_code, result.stderr)
    assert "fetch-transform" == result.stdout.splitlines()[0]
    assert "├─ transform  map over sources(), transform -> process, fail_fast, timeout 30 s" in (
        result.stdout.splitlines()
    )


def test_prints_the_flowchart_of_the_example(invoke, example):
    """With `--format mermaid`, all of stdout is a flowchart."""
    result = invoke("show", example, "--format", "mermaid")
    assert (0, "") == (result.exit_code, result.stderr)
    assert ["flowchart TD", '    n0["fetch-transform"]'] == result.stdout.splitlines()[:2]


def test_keeps_doubts_and_prints_from_stdout(invoke, doubtful):
    """A mistake is told on stderr, as is what the module prints; the exit code stays 0."""
    result = invoke("show", doubtful)
    assert (0, f"loading\nsyncflow: {DOUBT}\n") == (result.exit_code, result.stderr)
    assert ["doubtful", "└─ a  inline"] == result.stdout.splitlines()[:2]


def test_colours_doubts_on_a_terminal(invoke, doubtful):
    """A mistake is yellow on a terminal; the tree has no colour."""
    result = invoke("show", doubtful, color=True)
    assert f"\x1b[33msyncflow: {DOUBT}" in result.stderr
    assert "\x1b" not in result.stdout


def test_never_colours_with_no_color(invoke, doubtful):
    """NO_COLOR wins over the terminal."""
    result = invoke("show", doubtful, color=True, env={"NO_COLOR": "1"})
    assert "\x1b" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no/such.py"], "cannot read no/such.py"),
        (["flows.py:missing"], "has no attribute 'missing'"),
        (["flows.py", "--format", "svg"], "'svg' is not one of 'tree', 'mermaid'"),
        ([], "Missing argument 'TARGET'"),
    ],
)
def test_tells_a_mistake_in_the_command(invoke, doubtful, arguments, message):
    """A target or format that does not exist is a usage error: exit code 2, nothing on stdout."""
    result = invoke("show", *arguments)
    assert (2, "") == (result.exit_code, result.stdout)
    assert message in result.stderr


def test_shows_a_flow_that_cannot_run(invoke, directory):
    """A flow without steps is no usage error, but a warning."""
    (directory / "flows.py").write_text("import syncflow\nflow = syncflow.Flow('empty')")
    result = invoke("show", "flows.py")
    assert 0 == result.exit_code
    assert "flow 'empty': it has no steps" in result.stderr


def test_explains_itself_with_examples(invoke):
    """The help of the command shows how it is called."""
    result = invoke("show", "--help")
    assert "    syncflow show examples/fetch_transform.py" in result.stdout.splitlines()


def test_prints_what_the_terminal_can_show(tmp_path):
    """Where stdout has no lines to draw with, the plan is printed all the same."""
    command = ("env", "PYTHONIOENCODING=latin-1", SYNCFLOW, "show", str(EXAMPLE))
    code, stdout, stderr = call(*command, cwd=tmp_path)
    assert (0, "") == (code, stderr)
    assert "?? stop  inline" in stdout


IMPORTS = """
import json, sys
from click.testing import CliRunner
from syncflow.cli import main
code = CliRunner().invoke(main, ["show", "flows.py", "--format", FORM]).exit_code
unwanted = {"loky", "cloudpickle", "multiprocessing", "syncflow.run.runner"}
print(json.dumps([code, sorted(unwanted & sys.modules.keys())]))
"""


@pytest.mark.parametrize("form", ["tree", "mermaid"])
def test_imports_no_pickler_for_threads(tmp_path, form):
    """A flow without process steps is shown without what only processes need."""
    (tmp_path / "flows.py").write_text(
        "import syncflow\n"
        "flow = syncflow.Flow('f').step('a', print, timeout=1, compensate=print)\n"
        "flow.map('m', max, over=[1])"
    )
    code, stdout, stderr = python(IMPORTS.replace("FORM", repr(form)), tmp_path)
    assert (0, [0, []]) == (code, json.loads(stdout)), stderr


def test_shows_what_the_readme_says():
    """The README's tree is that of its first flow."""
    defined = {}
    exec(test_readme.blocks("python")[0].rpartition("print(")[0], defined)
    assert test_readme.blocks("text")[0] == syncflow.tree(defined["flow"]) + "\n"
