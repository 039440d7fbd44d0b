"""The example flow, as the README runs it."""

import json
import sys

import pytest
from shell import ROOT, SYNCFLOW, call

EXAMPLE = str(ROOT / "examples" / "fetch_transform.py")

pytestmark = pytest.mark.xdist_group("process")


def test_prints_a_table_of_all_steps(tmp_path):
    """Every step completes, and every one is in the table."""
    code, stdout, _ = call(SYNCFLOW, "run", EXAMPLE, cwd=tmp_path)
    assert (0, 47, 0) == (code, stdout.count(" completed ") - 1, stdout.count("failed"))


def test_writes_a_line_for_each_of_40_modules(tmp_path):
    """The report goes where the input says."""
    call(SYNCFLOW, "run", EXAMPLE, "--input", '{"report": "report.txt"}', cwd=tmp_path)
    assert 40 == len((tmp_path / "report.txt").read_text().splitlines())


def test_removes_the_report_when_a_later_step_fails(tmp_path):
    """Report, index and server were there when the late step failed, and are undone."""
    given = json.dumps({"report": "report.txt", "fail_late": True})
    code, stdout, _ = call(SYNCFLOW, "run", EXAMPLE, "--json", "--input", given, cwd=tmp_path)
    undone = [undo["step_name"] for undo in json.loads(stdout)["compensations"]]
    assert (1, ["publish", "serve"]) == (code, undone)
    assert [] == list(tmp_path.iterdir())


def test_is_a_script_too(tmp_path):
    """Python runs it without the command line."""
    code, stdout, stderr = call(sys.executable, EXAMPLE, cwd=tmp_path)
    assert (0, "") == (code, stderr)
    assert "fetch-transform: completed" in stdout
