"""The public names are those that the README promises, and each explains itself."""

import importlib
import inspect
import re

import pytest
from shell import ROOT

import syncflow

PUBLIC = sorted(syncflow.__all__)


def test_exports_what_is_documented():
    """The README's list of public names and `__all__` are the same."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("## Public names\n")[1].split("\n[CONTRIBUTING")[0]
    documented = re.findall(r"`(\w+)`", "\n".join(re.findall(r"^[- ] .*", section, re.MULTILINE)))
    assert PUBLIC == sorted(documented)


def test_exports_in_order():
    """`__all__` is sorted as ruff sorts it: constants, classes, then functions."""
    assert syncflow.__all__ == sorted(
        syncflow.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name)
    )


@pytest.mark.parametrize("name", PUBLIC)
def test_explains_each_name(name):
    """Every public name has a docstring of its own."""
    assert vars(getattr(syncflow, name)).get("__doc__") or inspect.getdoc(getattr(syncflow, name))


@pytest.mark.parametrize("name", PUBLIC)
def test_says_where_each_name_is_from(name):
    """`__module__` and `__qualname__` lead to the object itself, as pickle and tools expect."""
    thing = getattr(syncflow, name)
    module = importlib.import_module(thing.__module__)
    assert thing is getattr(module, thing.__qualname__)
