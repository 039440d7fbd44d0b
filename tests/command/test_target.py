"""What a target may be, and how a file is loaded."""

import json

import pytest
from shell import SYNCFLOW, call

ONE = "import syncflow\nflow = syncflow.Flow('one').step('a', lambda ctx: 1)\n"


def values(result):
    """Return the values of the steps in the JSON on stdout."""
    return [step["value"] for step in json.loads(result.stdout)["steps"]]


def test_names_a_flow_in_a_module(invoke, directory):
    """`package.module:flow` is imported, the current directory first."""
    (directory / "shop").mkdir()
    (directory / "shop" / "flows.py").write_text(ONE)
    assert [1] == values(invoke("run", "shop.flows:flow", "--json"))


def test_names_a_flow_in_a_file(invoke, directory):
    """`path/file.py:flow` chooses among several flows."""
    (directory / "flows.py").write_text(ONE + "two = syncflow.Flow('two').step('b', lambda ctx: 2)")
    assert [2] == values(invoke("run", f"{directory}/flows.py:two", "--json"))


def test_finds_the_only_flow(invoke, directory):
    """One flow with two names is one flow."""
    (directory / "flows.py").write_text(ONE + "same = flow")
    assert [1] == values(invoke("run", "flows.py", "--json"))


def test_finds_the_modules_beside_a_file(invoke, directory):
    """A file's directory is on the path, as for a script; the current one need not be it."""
    (directory / "inner").mkdir()
    (directory / "inner" / "helper_of_flow.py").write_text("answer = 42")
    (directory / "inner" / "flows.py").write_text(
        "import syncflow, helper_of_flow\n"
        "flow = syncflow.Flow('f').step('a', lambda ctx: helper_of_flow.answer)"
    )
    assert [42] == values(invoke("run", "inner/flows.py", "--json"))


def test_does_not_call_the_file_main(invoke, directory):
    """What a file does only as a script is not done."""
    (directory / "flows.py").write_text(ONE + "if __name__ == '__main__':\n    raise SystemExit(9)")
    assert 0 == invoke("run", "flows.py").exit_code


@pytest.mark.xdist_group("process")
def test_sends_what_a_file_defines_to_processes(tmp_path):
    """Functions, lambdas and objects of a file reach processes, and are the same thing there."""
    (tmp_path / "flows.py").write_text(
        "from __future__ import annotations\n"
        "import dataclasses, syncflow\n"
        "@dataclasses.dataclass\n"
        "class Order:\n"
        "    total: int\n"
        "def double(ctx):\n"
        "    order = ctx.value('order')\n"
        "    return Order(order.total * 2) if isinstance(order, Order) else None\n"
        "flow = syncflow.Flow('f').step('order', lambda ctx: Order(21))\n"
        "flow.step('double', double, pool='process')\n"
        "flow.step('read', lambda ctx: ctx.value('double').total, pool='process')\n"
        "flow.step('check', lambda ctx: isinstance(ctx.value('double'), Order))\n"
    )
    _, stdout, _ = call(SYNCFLOW, "run", "flows.py", "--json", cwd=tmp_path)
    assert [42, True] == [step["value"] for step in json.loads(stdout)["steps"]][-2:]


@pytest.mark.xdist_group("process")
def test_sends_what_a_module_defines_to_processes(tmp_path):
    """Worker processes find modules in the current directory, too."""
    (tmp_path / "flows.py").write_text(
        "import syncflow\ndef work(ctx): return 7\n"
        "flow = syncflow.Flow('f').step('a', work, pool='process')"
    )
    _, stdout, _ = call(SYNCFLOW, "run", "flows:flow", "--json", cwd=tmp_path)
    assert 7 == json.loads(stdout)["steps"][0]["value"]


def test_runs_a_module_that_is_a_package(invoke, directory):
    """A dotted name without `:flow` is a module, even when a directory has that name."""
    (directory / "shop_package").mkdir()
    (directory / "shop_package" / "__init__.py").write_text(ONE)
    assert [1] == values(invoke("run", "shop_package", "--json"))
