"""The guides are found from the README, lead on, and their code blocks work as they stand there."""

import re
import shlex

import pytest
import test_readme
from shell import ROOT, SYNCFLOW, call

PAGES = sorted((ROOT / "docs").glob("*.md"))

BLOCKS = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, block in enumerate(test_readme.blocks("python", page.read_text("utf-8")), 1)
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_is_linked_from_the_readme(page):
    """Whoever starts with the README gets to every guide."""
    assert f"](docs/{page.name})" in test_readme.README


@pytest.mark.xdist_group("process")
@pytest.mark.parametrize("block", BLOCKS)
def test_runs_its_code(block, tmp_path):
    """Each block is a whole script, as those of the README are."""
    test_readme.test_runs_its_code(block, tmp_path)


def anchors(text):
    """Return what a link may name within a page, as GitHub makes it of the headings."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Every link to another page, or to a section of one, finds it."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if link.startswith("https:"):
            continue
        name, _, section = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not section or section in anchors(target.read_text("utf-8")), link


FIRST = (ROOT / "docs" / "getting-started.md").read_text("utf-8")

RUNS = re.findall(r"^\.venv/bin/(syncflow run .*?)(?: +# exit code (\d))?$", FIRST, re.MULTILINE)


@pytest.mark.parametrize(("command", "code"), RUNS)
def test_runs_its_file_from_the_shell(command, code, tmp_path):
    """The commands of the first guide do with its last block, a file, what the guide says."""
    *_, block = test_readme.blocks("python", FIRST)
    (tmp_path / "trip.py").write_text(block)
    exit_code, _, _ = call(SYNCFLOW, *shlex.split(command)[1:], cwd=tmp_path)
    assert int(code or 0) == exit_code
