"""Many runs in one process leave nothing behind, however they end."""

from pathlib import Path

import pytest
from fault_tools import run_script

pytestmark = pytest.mark.xdist_group("process")


def test_ten_thousand_runs_leave_nothing_behind(tmp_path: Path) -> None:
    """Memory, threads, children, descriptors and shared memory do not grow with any kind of run."""
    expected = "10000 runs leave nothing behind\n"
    assert (0, expected, "") == run_script("import leak_script; leak_script.main()", tmp_path)
