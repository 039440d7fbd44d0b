"""What is known of the machine, and what other programs do on it."""

import os
import subprocess
import sys

import pytest

from syncflow.bench import machine
from syncflow.bench.machine import Others, busy_share, describe, revision


def usage(**processes):
    """Return what processes have used: `p7=(parent, seconds)`."""
    return {int(name[1:]): machine._Usage(*spent) for name, spent in processes.items()}


BEFORE = usage(p1=(0, 1.0), p5=(1, 1.0), p7=(1, 2.0), p8=(7, 1.0), p9=(8, 1.0))


@pytest.mark.parametrize(
    ("share", "after"),
    [
        (0.0, BEFORE),
        (0.5, BEFORE | usage(p5=(1, 2.0))),
        (0.0, BEFORE | usage(p7=(1, 9.0), p8=(7, 9.0), p9=(8, 9.0))),
        (0.5, BEFORE | usage(p5=(1, 2.0), p9=(8, 9.0))),
        (0.5, BEFORE | usage(p6=(5, 1.0))),
        (0.5, usage(p1=(0, 3.0), p7=(1, 2.0))),
        (0.0, usage(p7=(1, 2.0))),
        (1.0, BEFORE | usage(p6=(3, 2.0))),
    ],
    ids=["idle", "other", "ours", "both", "new", "waited for", "never waited for", "orphan"],
)
def test_sees_what_others_use(share, after):
    """The process itself and what it started do not count; others do, also after their end."""
    assert share == busy_share(BEFORE, after, own=7, seconds=2.0)


def test_ends_where_parents_go_in_circles():
    """A listing that is not of one moment may show anything."""
    circle = usage(p5=(6, 2.0), p6=(5, 1.0))
    assert 1.0 == busy_share(usage(p5=(6, 1.0), p6=(5, 1.0)), circle, own=7, seconds=1.0)


def test_watches_others(monkeypatch):
    """The share is of the time since the watch began."""
    looks = iter([usage(p5=(1, 1.0)), usage(p5=(1, 4.0))])
    clock = iter([10.0, 16.0])
    monkeypatch.setattr(machine, "_usage", lambda: next(looks))
    monkeypatch.setattr(machine, "monotonic", lambda: next(clock))
    assert 0.5 == Others().share()


def test_knows_nothing_without_proc(monkeypatch):
    """Where nobody can see, nothing is claimed."""

    def blind():
        raise FileNotFoundError("/proc")

    monkeypatch.setattr(machine, "_usage", blind)
    assert Others().share() is None


def test_finds_itself():
    """The listing has this process and its parent."""
    assert os.getppid() == machine._usage()[os.getpid()].parent


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Return an empty directory in which `git` works as if nobody had set it up."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for variable in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def git(*arguments):
    """Run git, as somebody."""
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    done = subprocess.run(
        ["git", *who, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_has_no_revision_outside_a_repository(repository):
    """There is nothing to be told."""
    assert revision() is None


def test_has_no_revision_without_git(repository, monkeypatch):
    """It is not needed."""
    monkeypatch.setenv("PATH", str(repository))
    assert revision() is None


def test_has_no_revision_before_the_first_commit(repository):
    """A new repository has none."""
    git("init", "-q")
    assert revision() is None


def test_tells_the_revision(repository):
    """Tags or not, and whether files have changed since."""
    git("init", "-q")
    (repository / "file").write_text("one")
    git("add", "file")
    git("commit", "-q", "-m", "first")
    git("tag", "-a", "v1", "-m", "v1")
    head = git("rev-parse", "HEAD")
    assert head == revision()
    (repository / "file").write_text("two")
    assert f"{head}-dirty" == revision()


def test_describes_this_machine():
    """Versions of what is not installed are `None`."""
    found = describe()
    assert sys.version.split()[0] == found["python"].split()[1]
    assert set(machine.PACKAGES) == set(found["versions"])
    assert 3 == len(found["load"])


def test_knows_no_version_of_what_is_not_installed():
    """A peer may be missing."""
    assert machine._version("no-such-package") is None
