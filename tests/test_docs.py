"""The guides are found from the README, and their code blocks work as they stand there."""

import pytest
import test_readme
from shell import ROOT

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
