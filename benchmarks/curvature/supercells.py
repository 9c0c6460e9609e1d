"""Rattled supercells of Im-3m H3S for the benchmarks of forces and products."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from benchmarks.curvature.structures import primitive

DIMS = {
    4: (1, 1, 1),
    32: (2, 2, 2),
    64: (4, 2, 2),
    128: (4, 4, 2),
    256: (4, 4, 4),
    512: (8, 4, 4),
    1024: (8, 8, 4),
    2048: (8, 8, 8),
}
"""Supercell of each number of atoms; cell lengths are powers of two, so that costs compare."""


def supercell(n_atoms: int, rattle: float = 0.05, seed: int = 0) -> Atoms:
    """A supercell, with Gaussian displacements of `rattle` Å."""
    atoms = primitive().repeat(DIMS[n_atoms])
    atoms.positions += np.random.default_rng(seed).normal(scale=rattle, size=atoms.positions.shape)
    return atoms
