"""`syncflow run`: what it prints where, and what its options do."""

import json

import pytest

ECHO = """
from syncflow import Flow

flow = Flow("echo").step("echo", lambda ctx: ctx.input)
"""

ROLLED_BACK = """
from syncflow import Flow

def fail(ctx):
    raise RuntimeError("the bank is\\nclosed")

flow = Flow("shop").step("reserve", print, compensate=lambda ctx: None).step("pay", fail)
"""

NOT_ROLLED_BACK = """
from syncflow import Flow

def fail(ctx):
    raise RuntimeError("no")

flow = Flow("shop").step("reserve", print, compensate=fail).step("pay", fail)
"""


def write(directory, text):
    """Write a flow file and return its name."""
    (directory / "flows.py").write_text(text)
    return "flows.py"


def test_prints_the_table_of_a_completed_flow(invoke, directory):
    """A completed flow's table is all there is on stdout, and the exit code is 0."""
    result = invoke("run", write(directory, ECHO))
    assert (0, "") == (result.exit_code, result.stderr)
    assert ["step", "echo"] == [
        line.split()[0] for line in result.stdout.splitlines() if line.startswith(("step", "echo "))
    ]


def test_prints_json_instead_of_the_table(invoke, directory):
    """`--json` prints the result's dictionary."""
    result = invoke("run", write(directory, ECHO), "--json")
    data = json.loads(result.stdout)
    assert (1, "completed") == (data["schema_version"], data["status"])


@pytest.mark.parametrize("source", ['{"sku": [1]}', "@order.json", "-"])
def test_hands_the_input_to_the_flow(invoke, directory, source):
    """The input comes from the argument, from a file, or from stdin."""
    (directory / "order.json").write_text('{"sku": [1]}')
    target = write(directory, ECHO)
    result = invoke("run", target, "--json", "--input", source, input='{"sku": [1]}')
    assert {"sku": [1]} == json.loads(result.stdout)["steps"][0]["value"]


def test_has_no_input_unless_given(invoke, directory):
    """Without `--input` the flow's input is None."""
    result = invoke("run", write(directory, ECHO), "--json")
    assert None is json.loads(result.stdout)["steps"][0]["value"]


def test_tells_in_one_line_why_the_flow_failed(invoke, directory):
    """A failed and rolled back flow exits 1, with its table on stdout and one line on stderr."""
    result = invoke("run", write(directory, ROLLED_BACK))
    assert 1 == result.exit_code
    assert "syncflow: flow 'shop' failed: RuntimeError: the bank is closed" in result.stderr
    assert "rollback complete" in result.stdout


def test_exits_3_when_the_rollback_is_incomplete(invoke, directory):
    """A failing compensation shows in the exit code and in the line on stderr."""
    result = invoke("run", write(directory, NOT_ROLLED_BACK))
    assert 3 == result.exit_code
    assert "the rollback is incomplete" in result.stderr


def test_sends_what_steps_print_to_stderr(invoke, directory):
    """A step that prints does not spoil the JSON on stdout."""
    target = write(
        directory,
        "import syncflow\nprint('loading')\n"
        "flow = syncflow.Flow('loud').step('shout', lambda ctx: print('hello'))",
    )
    result = invoke("run", target, "--json")
    assert "loading\nhello\n" == result.stderr
    assert "loud" == json.loads(result.stdout)["name"]


def test_limits_the_whole_flow(invoke, directory):
    """`--timeout` ends a flow that takes longer."""
    target = write(
        directory,
        "import syncflow\n"
        "flow = syncflow.Flow('slow').step('wait', lambda ctx: ctx.sleep(60), pool='thread')",
    )
    result = invoke("run", target, "--json", "--timeout", "0.05")
    assert 1 == result.exit_code
    assert "FlowTimeoutError" == json.loads(result.stdout)["error"]["type"]


def test_moves_a_named_pool(invoke, directory):
    """`--pool` replaces what a name of the flow's stands for."""
    target = write(
        directory,
        "import os, syncflow\n"
        "flow = syncflow.Flow('pid', pools={'crunch': 'process'})\n"
        "flow.step('pid', lambda ctx: os.getpid(), pool='crunch')\n"
        "flow.step('own', lambda ctx: os.getpid() == ctx.value('pid'))",
    )
    result = invoke("run", target, "--json", "--pool", "crunch=thread")
    assert True is json.loads(result.stdout)["steps"][1]["value"]


def test_colours_a_terminal(invoke, directory):
    """The line that tells of a failure is red on a terminal."""
    result = invoke("run", write(directory, ROLLED_BACK), color=True)
    assert "\x1b[31msyncflow: flow" in result.stderr


def test_never_colours_with_no_color(invoke, directory):
    """NO_COLOR wins over the terminal."""
    result = invoke("run", write(directory, ROLLED_BACK), color=True, env={"NO_COLOR": "1"})
    assert "\x1b" not in result.stderr


def test_explains_itself_with_examples(invoke):
    """The help of the command shows how it is called."""
    result = invoke("run", "--help")
    assert (
        """    syncflow run shop.flows:checkout --input '{"sku": "A-1"}' --timeout 30"""
        in result.stdout.splitlines()
    )
