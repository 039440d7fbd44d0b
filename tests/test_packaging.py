"""What is shipped, and what importing it costs."""

import shutil
import sys
import zipfile

import pytest
from shell import ROOT, call, python

BUILD = "from setuptools import build_meta; build_meta.build_wheel('.')"


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """Build the wheel from a copy of the sources; return the paths of the files in it."""
    sources = tmp_path_factory.mktemp("sources")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    for name in ("syncflow", "cli", "bench", "tests", "examples"):
        shutil.copytree(
            ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    code, _, stderr = call(sys.executable, "-c", BUILD, cwd=sources)
    assert 0 == code, stderr
    (wheel,) = sources.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_ships_syncflow_alone(shipped):
    """The wheel holds the package and its metadata, and no other top-level name."""
    assert {"syncflow"} == {path.split("/")[0].split("-")[0] for path in shipped}


def test_ships_every_module(shipped):
    """No file of the library, the command line or the benchmarks is left out."""
    modules = [
        f"syncflow/{path.relative_to(ROOT if folder != 'syncflow' else ROOT / 'syncflow')}"
        for folder in ("syncflow", "cli", "bench")
        for path in (ROOT / folder).rglob("*.py")
    ]
    assert sorted(modules) == sorted(path for path in shipped if path.endswith(".py"))


def test_ships_its_types(shipped):
    """Type checkers see that the package is typed."""
    assert "syncflow/py.typed" in shipped


def test_ships_the_schema_of_the_benchmark(shipped):
    """What `syncflow bench --json` writes is described where it is read."""
    assert "syncflow/bench/schema.json" in shipped


@pytest.mark.parametrize(
    "module",
    ["loky", "cloudpickle", "multiprocessing", "click", "tabulate", "opentelemetry"],
)
def test_imports_nothing_it_may_not_need(tmp_path, module):
    """`import syncflow` does not import what only some users need."""
    code = f"import sys, syncflow; sys.exit({module!r} in sys.modules)"
    assert (0, "", "") == python(code, tmp_path)
