"""Clusters by their address: for `run(pools=...)` and for `--pool`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask_bodies as bodies
import pytest
from shell import ROOT

from syncflow import DefinitionError, Flow, PoolClosedError, dask_pool

pytest.importorskip("distributed", reason="the extra 'dask' is not installed")

pytestmark = pytest.mark.xdist_group("cluster")


@pytest.fixture
def mute() -> Iterator[str]:
    """Return the address of somebody who listens, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"dask://127.0.0.1:{server.getsockname()[1]}"


def test_connects_to_a_scheduler_and_closes_the_connection(cluster: Any) -> None:
    """The cluster stays; what runs later finds the pool closed."""
    address = cluster.scheduler.address.replace("tcp", "dask")
    flow = Flow("flow", pools={"far": "thread"}).step("a", bodies.size, pool="far")
    with dask_pool(address) as pool:
        assert 2 == flow.run("ab", pools={"far": pool}).raise_for_status()["a"].value
    assert isinstance(flow.run("ab", pools={"far": pool}).error, PoolClosedError)
    assert 2 == len(cluster.nthreads())


@pytest.mark.parametrize(
    "address",
    ["", "dask://", "dask://here", "dask://:1", "dask://a:b", "tcp://a:1", "dask://a:1/x"],
)
def test_refuses_what_is_no_address(address: str) -> None:
    """Before it looks for anything."""
    with pytest.raises(DefinitionError, match="is neither"), dask_pool(address):
        raise AssertionError("opened")


def test_does_not_wait_for_who_says_nothing(mute: str) -> None:
    """One clear error; nothing is left that tries on."""
    refused = pytest.raises(ConnectionError, match="no Dask scheduler answers at 127")
    with refused, dask_pool(mute, timeout=0.3):
        raise AssertionError("opened")


def test_says_which_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask is needed by nobody else."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install 'syncflow\[dask\]'"), dask_pool():
        raise AssertionError("opened")


def syncflow(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command; return what it wrote and its exit code."""
    command = [sys.executable, "-m", "syncflow", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=50, check=False)


def test_the_example_gives_the_same_report_on_a_local_cluster(tmp_path: Path) -> None:
    """As on processes."""
    example = str(ROOT / "examples" / "fetch_transform.py")
    for spec in ("dask://local", "process"):
        given = f'{{"report": "{tmp_path}/{spec[:4]}.txt"}}'
        done = syncflow(
            "run", example, "--input", given, "--pool", f"transform={spec}", cwd=tmp_path
        )
        assert (0, "") == (done.returncode, done.stderr)
    assert (tmp_path / "proc.txt").read_text() == (tmp_path / "dask.txt").read_text()


@pytest.mark.parametrize("spec", ["dask://here", "dask://127.0.0.1:1"])
def test_a_cluster_that_cannot_be_had_is_a_usage_error(tmp_path: Path, spec: str) -> None:
    """Told in one line, with exit code 2; nothing has run."""
    (tmp_path / "good.py").write_text(
        "import syncflow\nflow = syncflow.Flow('f').step('a', print, pool='process')\n"
    )
    done = syncflow("run", "good.py", "--pool", f"process={spec}", cwd=tmp_path)
    assert (2, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))


def test_a_flow_that_stays_here_imports_no_dask() -> None:
    """Not even when it runs on another executor."""
    script = (
        "import sys\nfrom concurrent.futures import ThreadPoolExecutor\nimport syncflow\n"
        "with ThreadPoolExecutor() as pool:\n"
        "    assert syncflow.Flow('f').step('a', print, pool=pool).run().ok\n"
        "assert not {'dask', 'distributed', 'syncflow.run.dask'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert 0 == done.returncode
