"""The guides' code blocks work as they stand there."""

import pytest
import test_readme
from shell import ROOT

PAGES = sorted((ROOT / "docs").glob("*.md"))
