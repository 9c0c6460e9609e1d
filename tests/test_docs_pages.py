"""Pages of the documentation in a browser; ``make docs-check`` looks at all of them, and at any report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser import faults_of, find_browser, opened_browser

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("index", "tutorials/hydride", "configuration", "gate")
"""Front page, code, the widest table, a page of long sentences in cells."""


@pytest.mark.skipif(find_browser() is None, reason="no Chromium here (apt-get install chromium)")
def test_pages_can_be_read_on_a_phone_and_a_screen(tmp_path: Path) -> None:
    for package in ("sphinx", "furo", "myst_nb"):
        pytest.importorskip(package, reason="no [docs] extra here")
    words = ["-q", "-b", "html", "-D", "exclude_patterns=_build,reference,dev", DOCS, tmp_path / "html"]
    made = subprocess.run([sys.executable, "-m", "sphinx", *map(str, words)], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    left_out = ("reference/", "dev/")
    with opened_browser() as browser:
        for page in PAGES:
            faults = faults_of(browser, tmp_path / "html" / f"{page}.html")
            assert [fault for fault in faults if not any(name in fault for name in left_out)] == [], page
