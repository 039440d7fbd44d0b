"""Mistakes in a command: exit code 2, one line on stderr, nothing on stdout."""

import pytest

FILES = {
    "good.py": "import syncflow\nflow = syncflow.Flow('g').step('a', lambda ctx: None)\nnumber = 7",
    "two.py": "import syncflow\na = syncflow.Flow('a')\nb = syncflow.Flow('b')",
    "none.py": "number = 7",
    "empty_flow.py": "import syncflow\nflow = syncflow.Flow('empty')",
    "broken.py": "1 / 0",
    "leaves.py": "raise SystemExit(0)",
    "a.b.py": "",
    "json.py": "",
    "syntax.py": "def flow(:",
    "null.py": "\0",
    "needs.py": "import no_such_module_anywhere",
    "twice.py": "import syncflow\nflow = syncflow.Flow('t').step('a', print).step('a', print)",
    "bad.json": '{"sku": ',
    "binary.json": "\udcff",
}

MISTAKES = {
    "no command": ([], "Missing command"),
    "unknown command": (["rnu"], "No such command 'rnu'"),
    "unknown option of the group": (["--loud"], "--loud"),
    "no target": (["run"], "Missing argument 'TARGET'"),
    "unknown option": (["run", "good.py", "--jsn"], "--jsn"),
    "option without its value": (["run", "good.py", "--timeout"], "--timeout"),
    "input is not JSON": (["run", "good.py", "--input", "{"], "--input is not JSON"),
    "input is empty": (["run", "good.py", "--input", ""], "--input is not JSON"),
    "input is too deep": (["run", "good.py", "--input", "[" * 100_000], "--input is not JSON"),
    "stdin is not JSON": (["run", "good.py", "--input", "-"], "stdin is not JSON"),
    "input file is not JSON": (["run", "good.py", "--input", "@bad.json"], "bad.json is not JSON"),
    "input file is not text": (["run", "good.py", "--input", "@binary.json"], "is not JSON"),
    "input file is missing": (["run", "good.py", "--input", "@no.json"], "cannot read no.json"),
    "timeout is a word": (["run", "good.py", "--timeout", "soon"], "'soon' is not a valid float"),
    "timeout is negative": (["run", "good.py", "--timeout", "-1"], "timeout"),
    "timeout is zero": (["run", "good.py", "--timeout", "0"], "timeout"),
    "timeout is not a number": (["run", "good.py", "--timeout", "nan"], "timeout"),
    "timeout is infinite": (["run", "good.py", "--timeout", "inf"], "timeout"),
    "pool without spec": (["run", "good.py", "--pool", "process"], "not NAME=SPEC"),
    "pool without name": (["run", "good.py", "--pool", "=thread"], "not NAME=SPEC"),
    "unknown spec": (["run", "good.py", "--pool", "process=gpu"], "'gpu' is not one of thread"),
    "unknown pool": (["run", "good.py", "--pool", "nobody=thread"], "nobody"),
    "file is missing": (["run", "no/such.py"], "cannot read no/such.py"),
    "file is a directory": (["run", "folder.py"], "cannot read folder.py"),
    "file is not called .py": (["run", "./bad.json"], "cannot import ./bad.json"),
    "file cannot be a module": (["run", "a.b.py"], "rename it"),
    "file is called as another module": (["run", "json.py"], "rename it"),
    "module is missing": (["run", "no_such_module:flow"], "cannot import no_such_module"),
    "module name is empty": (["run", ""], "cannot import"),
    "module name is relative": (["run", ".good"], "cannot import .good"),
    "nothing after the colon": (["run", "good.py:"], "good.py:"),
    "unknown attribute": (["run", "good.py:flwo"], "has no attribute 'flwo'"),
    "attribute is no flow": (["run", "good.py:number"], "is not a Flow but of type int"),
    "no flow": (["run", "none.py"], "holds no Flow"),
    "two flows": (["run", "two.py"], "holds 2 flows; name one of two.py:a, two.py:b"),
    "flow without steps": (["run", "empty_flow.py"], "empty"),
    "file fails": (["run", "broken.py"], "ZeroDivisionError: division by zero"),
    "file calls exit": (["run", "leaves.py"], "SystemExit"),
    "file is no Python": (["run", "syntax.py"], "SyntaxError"),
    "file has null bytes": (["run", "null.py"], "null.py"),
    "file imports nothing": (["run", "needs.py"], "no_such_module_anywhere"),
    "flow is badly defined": (["run", "twice.py"], "already exists"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_tells_a_mistake_in_one_line(invoke, directory, arguments, message):
    """The line names what is wrong."""
    (directory / "folder.py").mkdir()
    for name, text in FILES.items():
        (directory / name).write_text(text, errors="surrogateescape")
    result = invoke(*arguments, input="no JSON")
    assert (2, "") == (result.exit_code, result.stdout)
    assert 1 == result.stderr.count("\n"), result.stderr
    assert message in result.stderr


def test_tells_where_a_file_fails(invoke, directory):
    """The line names the file and line that raised."""
    (directory / "late.py").write_text("\n\nassert False, 'never\\nload this'")
    result = invoke("run", "late.py")
    assert f"AssertionError: never load this ({directory}/late.py, line 3)" in result.stderr
