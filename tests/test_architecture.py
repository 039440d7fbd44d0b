"""The rooms and floors: what may import what, and how long a file may be."""

import ast
from pathlib import Path

import pytest
from shell import ROOT

import syncflow

#: The floor of each file or, where it is not named, of its package. A file imports only from its
#: own floor and those below.
FLOORS = {
    "syncflow.errors": 0,
    "syncflow.policy": 0,
    "syncflow.timing": 0,
    "syncflow.context": 1,
    "syncflow.definition": 1,
    "syncflow.doubts": 1,
    "syncflow.display": 1,
    "syncflow.flow": 1,
    "syncflow.flowchart": 1,
    "syncflow.hooks": 1,
    "syncflow.laps": 1,
    "syncflow.mapping": 1,
    "syncflow.otel": 1,
    "syncflow.outline": 1,
    "syncflow.plan": 1,
    "syncflow.progress": 1,
    "syncflow.render": 1,
    "syncflow.result": 1,
    "syncflow.spans": 1,
    "syncflow.subflow": 1,
    "syncflow.timeline": 1,
    "syncflow.trace": 1,
    "syncflow.run.around": 2,
    "syncflow.run.attempt": 2,
    "syncflow.run.group": 2,
    "syncflow.run.supply": 2,
    "syncflow.run.tally": 2,
    "syncflow.pools": 3,
    "syncflow.run": 4,
    "syncflow.cli": 5,
    "syncflow.bench": 5,
    "syncflow.bench.suites": 5,
    "syncflow.pytest_plugin": 5,
    "syncflow.testing": 5,
}

#: Stand outside the house: they show what is in it.
ENTRANCES = {"syncflow", "syncflow.__main__"}

#: Imports inside a function that lead upwards, each for the reason given.
UPWARDS = {
    ("syncflow.doubts", "syncflow.pools.wire"),  # `check` asks the pickler of the pools
    ("syncflow.flow", "syncflow.run.start"),  # `Flow.run` starts the engine
    ("syncflow.subflow", "syncflow.run.nested"),  # ... and so does a flow that is a step
}


def module_name(path: Path) -> str:
    """Return the name under which a file is shipped."""
    folders = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(folders if folders[0] == "syncflow" else ("syncflow", *folders))
    return name.removesuffix(".__init__")


FILES = {
    module_name(path): path
    for folder in ("syncflow", "cli", "bench")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def floor(module: str) -> int | None:
    """Return the floor that a file is on; `None` when nobody gave it one."""
    package = module.rpartition(".")[0]
    return FLOORS.get(module, FLOORS.get(package))


class Imports(ast.NodeVisitor):
    """Collects what of syncflow a file imports at run time."""

    def __init__(self, module: str) -> None:
        #: Modules, or names in them, as `package.module.name`.
        self.names: set[str] = set()
        self.visit(ast.parse(FILES[module].read_text(encoding="utf-8")))

    def visit_If(self, node: ast.If) -> None:
        """Leave out what is imported for annotations only."""
        if ast.unparse(node.test) != "TYPE_CHECKING":
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        """Take down `import syncflow.x`."""
        self.names |= {alias.name for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Take down `from syncflow.x import y`."""
        self.names |= {f"{node.module}.{alias.name}" for alias in node.names}

    def modules(self) -> set[str]:
        """Return the files of syncflow that are imported."""
        return {
            max((module for module in FILES if f"{name}.".startswith(f"{module}.")), key=len)
            for name in self.names
            if f"{name}.".startswith("syncflow.")
        }


def test_gives_every_file_a_floor():
    """No file is outside the house but its entrances."""
    assert ENTRANCES == {module for module in FILES if floor(module) is None}


@pytest.mark.parametrize("module", sorted(set(FILES) - ENTRANCES))
def test_imports_from_no_higher_floor(module):
    """Whoever reads a file needs to know only those below it."""
    higher = {
        (module, other)
        for other in Imports(module).modules() - {"syncflow"}
        if floor(other) > floor(module)
    }
    assert higher <= UPWARDS


@pytest.mark.parametrize(
    ("room", "others"),
    [("cli", ("syncflow.cli.", "syncflow.bench.")), ("bench", ("syncflow.bench.",))],
)
def test_uses_the_public_names_only(room, others):
    """Command line and benchmarks take what every user can; only the command knows the other."""
    public = {f"syncflow.{name}" for name in syncflow.__all__} | {"syncflow"}
    used = {
        name
        for module in FILES
        if f"{module}.".startswith(f"syncflow.{room}.")
        for name in Imports(module).names
        if f"{name}.".startswith("syncflow.") and not f"{name}.".startswith(others)
    }
    assert used <= public


@pytest.mark.parametrize("module", sorted(FILES))
def test_keeps_files_short(module):
    """No file is longer than 400 lines."""
    assert 400 >= len(FILES[module].read_text(encoding="utf-8").splitlines())
