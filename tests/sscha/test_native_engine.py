"""The native engine needs neither python-sscha nor CellConstructor; asking for them says how to get them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from himlip_ase.errors import InputError
from himlip_ase.sscha.minimisation.engines import engine

WITHOUT_PEERS = """
import sys
sys.modules["sscha"] = sys.modules["cellconstructor"] = None
import numpy as np
from tests.sscha.crystals import CRYSTALS, random_matrices
from tests.sscha.toy import HarmonicCrystal
from himlip_ase.sscha import SschaSettings, run_sscha

start = random_matrices(*CRYSTALS["one cell"], seed=1, spread=0.2)
truth = HarmonicCrystal(random_matrices(*CRYSTALS["one cell"], seed=2, spread=0.2), 0.0)
settings = SschaSettings(n_configurations=400, n_hessian_configurations=40, n_blocks=10)
result = run_sscha(start, truth, settings, sys.argv[1])
assert result.converged, result.verdict
print(result.engine)
"""


def test_a_whole_run_without_the_peers(tmp_path):
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT_PEERS, str(tmp_path / "run")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    assert found.stdout.startswith("himlip-ase")


def test_a_missing_peer_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "sscha", None)
    monkeypatch.setitem(sys.modules, "sscha.Ensemble", None)
    with pytest.raises(InputError, match=r"himlip-ase\[sscha\]"):
        engine("python-sscha")
