"""Stands in for the one-file test module of CPython 3.10, on interpreters that ship no such tests.

Whoever imports this gets that module. Worker processes do so too: what CPython's tests send to them
is sent by the name of this module.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

#: 3.9 and older use a `test.support` that 3.11 no longer has; 3.11 and newer bring their own.
_VERSION: Final = "python3.10"


def _homes() -> Iterator[Path]:
    """Name the places where an interpreter of that version may be installed."""
    beside = Path(sys.base_prefix).parent
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    for versions in (beside, pyenv):
        yield from sorted(versions.glob("*3.10*"), reverse=True)
    program = shutil.which(_VERSION)
    if program is not None:
        yield Path(program).resolve().parent.parent


def _find() -> Path:
    for home in _homes():
        path = home / "lib" / _VERSION / "test" / "test_concurrent_futures.py"
        if path.is_file():
            return path
    raise ImportError(f"there is no {_VERSION} with test/test_concurrent_futures.py either")


_spec = importlib.util.spec_from_file_location(__name__, _find())
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules[__name__] = _module
_spec.loader.exec_module(_module)
