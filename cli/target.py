"""Finds the flow that a target names.

A target is `package.module:flow` or `path/file.py:flow`; `:flow` may be left out where the module
holds exactly one flow.
"""

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType

from syncflow import Flow
from syncflow.cli.usage import BadUsage


def load_flow(target: str) -> Flow:
    """Import the target's module and return its flow.

    Raises:
        BadUsage: There is no such module or file, it fails to import, or it does not hold the
            flow. What an import has done until it failed stays done.
    """
    place, colon, name = target.rpartition(":")
    if not (colon and name.isidentifier()):
        place, name = target, ""
    is_file = place.endswith(".py")
    module = _import_file(Path(place)) if is_file else _import(place, Path.cwd(), place)
    return _named_flow(module, name, place) if name else _only_flow(module, place)


def _import_file(path: Path) -> ModuleType:
    """Import a file by its plain name, its directory first on the path, as pytest does.

    So worker processes, which inherit the path, import the same module when they are sent one of
    its functions: what it defines is the same thing on both sides, and what it keeps in globals is
    there for the next step that the worker runs. A file that runs its flow when called as a script
    does not do so here. (Sent by value, as those of `__main__` are, functions would need no
    import, but each would get globals of its own.)
    """
    try:
        path.open("rb").close()
    except OSError as error:
        raise BadUsage(f"cannot read {path}: {error.strerror}") from error
    name = path.stem
    if "." in name or name in sys.modules or name in sys.builtin_module_names:
        raise BadUsage(f"cannot import {path}: {name!r} cannot be its module's name; rename it")
    return _import(name, path.resolve().parent, str(path))


def _import(name: str, directory: Path, place: str) -> ModuleType:
    sys.path.insert(0, str(directory))
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        where = [
            f" ({frame.filename}, line {frame.lineno})"
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename not in (__file__, importlib.__file__)
            and not frame.filename.startswith("<frozen importlib")
        ]
        why = f"{type(error).__name__}: {error}{''.join(where[-1:])}"
        raise BadUsage(f"cannot import {place}: {why}") from error


def _named_flow(module: ModuleType, name: str, place: str) -> Flow:
    if not hasattr(module, name):
        raise BadUsage(f"{place} has no attribute {name!r}")
    flow = getattr(module, name)
    if not isinstance(flow, Flow):
        raise BadUsage(f"{name!r} of {place} is not a Flow but of type {type(flow).__name__}")
    return flow


def _only_flow(module: ModuleType, place: str) -> Flow:
    names = {flow: name for name, flow in vars(module).items() if isinstance(flow, Flow)}
    if len(names) == 1:
        return next(iter(names))
    if not names:
        raise BadUsage(f"{place} holds no Flow")
    choices = ", ".join(f"{place}:{name}" for name in names.values())
    raise BadUsage(f"{place} holds {len(names)} flows; name one of {choices}")
