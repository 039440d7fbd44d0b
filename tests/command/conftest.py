"""A command line in this process, working in an empty directory."""

import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from syncflow.cli import main

#: click 8.1 mixes the streams unless told not to; from 8.2 on there is nothing to tell.
_SEPARATE = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the current directory, empty; what is imported from it is forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if tmp_path in Path(getattr(module, "__file__", None) or "/").parents:
            del sys.modules[name]


@pytest.fixture
def invoke(directory: Path) -> Callable[..., Result]:
    """Return a function that runs `syncflow` with the arguments given."""

    def invoke(*args: str, **options: object) -> Result:
        return CliRunner(**_SEPARATE).invoke(main, args, prog_name="syncflow", **options)

    return invoke
