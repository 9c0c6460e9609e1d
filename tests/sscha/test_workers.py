"""Forces from several processes are those of one, also for a script without a main guard."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from himlip_ase.errors import InputError
from himlip_ase.sscha.ensembles.workers import potential_forces

SCRIPT = """
import numpy as np
from ase import Atoms
from himlip_ase.sscha.ensembles.workers import potential_forces

print("begun")
cell = 3.06484 / 2 * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
crystal = Atoms(
    "SH3", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]], cell=cell, pbc=True
)
images = []
for seed in range(10):
    image = crystal.copy()
    image.rattle(0.05, seed=seed)
    images.append(image)
found = []
for workers in (1, 2):
    with potential_forces("himlip-h3s-1", workers) as forces:
        found.append(forces(images))
one, two = found
assert np.abs(np.array(one.forces) - two.forces).max() < 1e-10
assert np.abs(one.energies - two.energies).max() < 1e-10
assert np.abs(one.stresses - two.stresses).max() < 1e-12
print("the same")
"""


def test_two_processes_give_the_forces_of_one(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(SCRIPT, encoding="utf-8")
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=environment, timeout=300
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["begun", "the", "same"]  # the script ran once


def test_no_process_is_refused() -> None:
    with pytest.raises(InputError, match="workers is 0"), potential_forces("himlip-h3s-1", 0):
        pass
