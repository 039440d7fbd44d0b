"""The README's commands and code blocks work as they stand there."""

import re
import shlex

import pytest
from shell import ROOT, call, python

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language, page=README):
    """Return a page's code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]


def last_part(command):
    """Return what a set-up command runs once it has installed, in this environment."""
    from sysconfig import get_path

    program, *arguments = shlex.split(command.split("&&")[-1])
    return program.replace(".venv/bin", get_path("scripts")), *arguments


def test_sets_up_with_two_commands():
    """One command runs the example and one the tests, each from a fresh checkout."""
    assert ["syncflow run examples/fetch_transform.py", "pytest"] == [
        command.split(".venv/bin/")[-1] for command in COMMANDS
    ]
    assert all(
        re.fullmatch(r"python3 -m venv \.venv && \.venv/bin/pip install \S+ && \S+[^&]*", command)
        for command in COMMANDS
    )


@pytest.mark.xdist_group("process")
def test_runs_the_example():
    """The first command ends with the table of the example flow."""
    code, stdout, _ = call(*last_part(COMMANDS[0]), cwd=ROOT)
    assert 0 == code
    assert "fetch-transform: completed" in stdout


def test_finds_the_tests():
    """The second command finds these very tests; running them here would never end."""
    code, stdout, _ = call(*last_part(COMMANDS[1]), "--collect-only", "-q", cwd=ROOT)
    assert 0 == code
    assert "tests/test_readme.py::test_finds_the_tests" in stdout


@pytest.mark.xdist_group("process")
@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.splitlines()[-1][:40])
def test_runs_its_code(block, tmp_path):
    """Each block is a whole script: it runs from its own file, and leaves nothing on stderr."""
    (tmp_path / "block.py").write_text(block)
    code, _, stderr = python(
        "import runpy; runpy.run_path('block.py', run_name='__main__')", tmp_path
    )
    assert (0, "") == (code, stderr)


def test_shows_a_flow_in_15_lines():
    """The first block is short enough to be read."""
    assert 15 == len(blocks("python")[0].splitlines())
