"""Runs programs as a user's shell does, away from the repository's own sources."""

import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: The installed console script: running it tests the entry point, too.
SYNCFLOW = str(Path(sysconfig.get_path("scripts"), "syncflow"))


def start(*command: str, cwd: Path) -> subprocess.Popen[str]:
    """Start a program whose streams the test reads and writes."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def call(*command: str, cwd: Path) -> tuple[int, str, str]:
    """Run a program to its end; return exit code, stdout and stderr."""
    with start(*command, cwd=cwd) as process:
        stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


def python(code: str, cwd: Path) -> tuple[int, str, str]:
    """Run Python code in a fresh interpreter, with `cwd` on its path instead of the repository."""
    return call(sys.executable, "-c", code, cwd=cwd)
