"""Small cells hold what the supercell's Hessian holds."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from himlip_ase.hint.training.folding import fold_hessian
from himlip_ase.labels.frames import HessianLabel
from himlip_ase.phonons.force_constants import ForceConstants
from tests.hint.toy import toy_hessian


@pytest.mark.parametrize(
    ("name", "structure", "dims"),
    [
        ("Cu", "fcc", (2, 2, 2)),
        ("NaCl", "rocksalt", (2, 2, 2)),
        ("Fe", "bcc", (3, 1, 2)),
        ("Cu", "fcc", (4, 4, 4)),
    ],
)
def test_folded_hessian_is_that_of_the_small_cell(
    name: str, structure: str, dims: tuple[int, int, int]
) -> None:
    """The pair potential's own Hessian of the small cell equals the sum of blocks of the supercell's."""
    primitive = bulk(name, structure, a=4.0)
    # ForceConstants gives the supercell in its own order of atoms.
    n = len(primitive)
    empty = ForceConstants(primitive, dims, np.zeros((n, n * int(np.prod(dims)), 3, 3)))
    full = toy_hessian(empty.supercell)
    constants = ForceConstants.from_hessian(primitive, dims, full, order="phonopy")
    label = HessianLabel(empty.supercell, full, force_constants=constants)
    folded = fold_hessian(label)
    assert 0 < len(folded) < np.prod(dims)
    for item in folded:
        assert len(item.atoms) <= len(empty.supercell)
        assert np.allclose(item.matrix, toy_hessian(item.atoms), atol=1e-8)
    # Every frequency of the grid is among those of the small cells.
    found = np.concatenate([np.linalg.eigvalsh(i.matrix.reshape(3 * len(i.atoms), -1)) for i in folded])
    for value in np.linalg.eigvalsh(full.reshape(3 * len(full), -1)):
        assert np.abs(found - value).min() < 1e-7
