"""Damaged inputs are refused in one sentence or read right; nothing else, and never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from .inputs import KINDS
from .kind import Kind
from .outcomes import CHANGED, TRACEBACK, trials

TRIALS = 2
"""Of each way of damage; benchmarks/fuzz.py counts more."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_damaged_input_is_refused_or_right(kind: Kind, tmp_path: Path) -> None:
    kind.make(tmp_path)
    found = list(trials(kind, tmp_path, 1 if kind.slow else TRIALS))
    tracebacks = [trial for trial in found if trial.outcome == TRACEBACK]
    assert not tracebacks
    changed = [trial for trial in found if trial.outcome == CHANGED]
    assert not (kind.sealed and changed)
    for trial in found:
        if trial.message:
            assert "\n" not in trial.message.strip() or len(trial.message) < 2000
