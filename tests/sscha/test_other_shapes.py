"""examples/h3s/other_shapes.py: cells drawn from a larger grid have the Gaussian of their own q-points."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from ase.build import make_supercell

from himlip_ase.phonons.qe import read_dyn
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.run.initial import positive_definite_start

H3S = Path(__file__).parents[2] / "examples" / "h3s"
SCRIPT = runpy.run_path(str(H3S / "other_shapes.py"))


def test_variances_are_those_of_the_q_points_of_the_cell() -> None:
    matrices, _ = positive_definite_start(read_dyn(H3S / "labels" / "harmonic" / "dyn"))
    cell, count = np.diag([1, 1, 2]), 3000
    sites = make_supercell(matrices.primitive, cell)
    moved = []
    for image in SCRIPT["drawn"](matrices, cell, count, 3):
        steps = np.linalg.solve(sites.cell.array.T, (image.positions - sites.positions).T).T
        moved.append((steps - steps.round()) @ sites.cell.array)
    found = np.sum(np.square(moved), axis=2).mean(axis=0)  # Å², of each atom
    distribution = HarmonicDistribution(matrices.interpolated((1, 1, 2)), 0.0)
    exact = np.diag(distribution.covariance()).reshape(-1, 3).sum(axis=1)
    assert np.sort(found) == pytest.approx(np.sort(exact), rel=0.06)


def test_a_cell_whose_q_points_are_not_on_the_grid_is_refused() -> None:
    matrices = read_dyn(H3S / "labels" / "harmonic" / "dyn")
    with pytest.raises(SystemExit, match="not on the grid 2×2×2"):
        SCRIPT["drawn"](matrices, np.diag([1, 1, 3]), 1, 0)
