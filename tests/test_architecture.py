"""The rooms and floors: what may import what, and how long a file may be."""

import ast
from pathlib import Path

import pytest
from shell import ROOT

import syncflow

#: Each file by the floor it is on. A file imports only from its own floor and those below.
FLOORS = (
    {"syncflow.errors", "syncflow.policy"},
    {
        "syncflow.context",
        "syncflow.definition",
        "syncflow.flow",
        "syncflow.hooks",
        "syncflow.render",
        "syncflow.result",
    },
    {"syncflow.run.attempt", "syncflow.run.group"},
    {
        "syncflow.pools.process",
        "syncflow.pools.thread",
        "syncflow.pools.wire",
        "syncflow.pools.worker",
    },
    {"syncflow.run.rollback", "syncflow.run.runner"},
)
FLOOR = {module: number for number, modules in enumerate(FLOORS) for module in modules}

#: Imports inside a function that lead upwards, each for the reason given.
UPWARDS = {
    ("syncflow.flow", "syncflow.run.runner"),  # `Flow.run` starts the engine
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
LIBRARY = sorted(FLOOR)


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
    """No file of the library is outside the house."""
    entries = {"syncflow", "syncflow.__main__", "syncflow.pools", "syncflow.run"}
    ours = {name for name in FILES if not name.startswith(("syncflow.cli", "syncflow.bench"))}
    assert set(FLOOR) == ours - entries


@pytest.mark.parametrize("module", LIBRARY)
def test_imports_from_no_higher_floor(module):
    """Whoever reads a file needs to know only those below it."""
    higher = {
        (module, other) for other in Imports(module).modules() if FLOOR[other] > FLOOR[module]
    }
    assert higher <= UPWARDS


@pytest.mark.parametrize("room", ["cli", "bench"])
def test_uses_the_public_names_only(room):
    """Command line and benchmarks take from the library what every user can."""
    public = {f"syncflow.{name}" for name in syncflow.__all__} | {"syncflow"}
    own = f"syncflow.{room}"
    used = {
        name
        for module in FILES
        if f"{module}.".startswith(f"{own}.")
        for name in Imports(module).names
        if f"{name}.".startswith("syncflow.") and not f"{name}.".startswith(f"{own}.")
    }
    # The floors above the library: benchmarks do not know the command line.
    allowed = public | ({"syncflow.bench"} if room == "cli" else set())
    assert used <= allowed


@pytest.mark.parametrize("module", sorted(FILES))
def test_keeps_files_short(module):
    """No file is longer than 400 lines."""
    assert 400 >= len(FILES[module].read_text(encoding="utf-8").splitlines())
