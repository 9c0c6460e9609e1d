"""One softest mode for all: the same whatever basis of a degenerate space the diagonalisation gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from himlip_ase.labels.displacements import most_along, softest_gamma_mode
from himlip_ase.phonons.qe import read_dyn
from himlip_ase.pipeline.make_labels import double_well_scan

H3S = Path(__file__).parents[2] / "examples" / "h3s" / "labels_k12"


def test_committed_double_well_lies_along_the_softest_mode_that_both_commands_take() -> None:
    """T1u of H3S: labels on disk, ``himlip label doublewell`` and ``himlip run`` agree."""
    matrices = read_dyn(H3S / "harmonic" / "dyn0")
    mode, frequency = softest_gamma_mode(matrices)
    images = read(H3S / "doublewell.extxyz", index=":")
    shift = images[-1].positions - images[0].positions
    assert np.sum(mode * shift) / np.linalg.norm(shift) == pytest.approx(1.0, abs=1e-6)
    assert np.array_equal(double_well_scan(matrices, 3)[0], mode)
    assert frequency == pytest.approx(-477.703, abs=1e-3)


@pytest.mark.parametrize("axis", [(0, 0, 1), (1, 1, 1), (1, 2, 3)])
def test_any_basis_of_a_degenerate_pair_gives_the_same_vector(axis) -> None:
    """Two vectors normal to an axis, on two atoms: along [111] both move equally far along x, y and z."""
    axis = np.array(axis) / np.linalg.norm(axis)
    plane = np.linalg.svd(axis[None])[2][1:].T
    space = np.stack([plane, -0.5 * plane]) / np.sqrt(1.25)
    wanted = most_along(space)
    assert np.linalg.norm(wanted) == pytest.approx(1.0)
    for angle in np.linspace(0.1, 3.0, 7):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        assert abs(np.sum(most_along(space @ turn) * wanted)) == pytest.approx(1.0, abs=1e-9)
