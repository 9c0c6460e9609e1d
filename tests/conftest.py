"""Common to all tests: pictures without a display, one thread, no network by accident."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """A command that a test runs sets the level of the package's log; the next test finds it as it was."""
    logger = logging.getLogger("himlip_ase")
    level = logger.level
    yield
    logger.setLevel(level)
