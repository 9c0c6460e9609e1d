"""A Hessian from distances alone, where quasi-Newton searches start.

Lindh, Bernhardsson, Karlström and Malmqvist, Chem. Phys. Lett. 241, 423 (1995): force constants k = 0.45 ρ_ij
(stretch), 0.15 ρ_ij ρ_jk (bend), 0.005 ρ_ij ρ_jk ρ_kl (torsion) in atomic units, with
ρ_ij = exp[α_ij (r²_ref,ij − r²_ij)], positive everywhere. Torsions are left out here; a small multiple of the
identity stands for them.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms

from himlip_ase.units import BOHR_ANGSTROM, HARTREE_EV

ALPHA = np.array([[1.0, 0.3949, 0.3949], [0.3949, 0.28, 0.28], [0.3949, 0.28, 0.28]])
"""bohr⁻², by rows of the periodic table (hydrogen's, the first, all others)."""

REFERENCE = np.array([[1.35, 2.10, 2.53], [2.10, 2.87, 3.40], [2.53, 3.40, 3.40]])
"""bohr."""

STRETCH, BEND = 0.45, 0.15
FLOOR = 1.0
"""eV/Å², on the diagonal: torsions and what else is soft."""

NEGLIGIBLE = 1e-3


def model_hessian(atoms: Atoms) -> np.ndarray:
    """Positive model Hessian.

    Parameters
    ----------
    atoms : Atoms
        Periodic directions: the nearest image of each pair counts.

    Returns
    -------
    ndarray (3N, 3N)
        eV/Å².
    """
    n = len(atoms)
    rows = np.digitize(atoms.numbers, [3, 11])
    vectors = atoms.get_all_distances(mic=bool(atoms.pbc.any()), vector=True)
    lengths = np.linalg.norm(vectors, axis=2)
    np.fill_diagonal(lengths, 1.0)
    units = vectors / lengths[:, :, None]
    alpha, reference = ALPHA[rows[:, None], rows], REFERENCE[rows[:, None], rows]
    weight = np.exp(np.minimum(alpha * (reference**2 - (lengths / BOHR_ANGSTROM) ** 2), 1.0))
    np.fill_diagonal(weight, 0.0)
    matrix = FLOOR * np.eye(3 * n).reshape(n, 3, n, 3)
    scale = HARTREE_EV / BOHR_ANGSTROM**2
    for i, j in zip(*np.nonzero(np.triu(weight) > NEGLIGIBLE), strict=True):
        block = scale * STRETCH * weight[i, j] * np.outer(units[i, j], units[i, j])
        matrix[i, :, i] += block
        matrix[j, :, j] += block
        matrix[i, :, j] -= block
        matrix[j, :, i] -= block
    for centre in range(n):
        partners = np.flatnonzero(weight[centre] > NEGLIGIBLE)
        for first, i in enumerate(partners):
            for j in partners[first + 1 :]:
                size = HARTREE_EV * BEND * weight[centre, i] * weight[centre, j]
                if size > NEGLIGIBLE:
                    _add_bend(matrix, size, (int(i), centre, int(j)), units, lengths)
    return matrix.reshape(3 * n, 3 * n)


def _add_bend(
    matrix: np.ndarray, size: float, atoms: tuple[int, int, int], units: np.ndarray, lengths: np.ndarray
) -> None:
    """Add size · ∂θ ⊗ ∂θ of the angle i–centre–j."""
    i, centre, j = atoms
    one, two = units[centre, i], units[centre, j]
    cosine = float(np.clip(one @ two, -1, 1))
    sine = np.sqrt(max(1 - cosine**2, 0.05))  # no angle is stiff because it is straight
    at_i = (cosine * one - two) / (lengths[centre, i] * sine)
    at_j = (cosine * two - one) / (lengths[centre, j] * sine)
    slopes = {i: at_i, j: at_j, centre: -at_i - at_j}
    for a, slope_a in slopes.items():
        for b, slope_b in slopes.items():
            matrix[a, :, b] += size * np.outer(slope_a, slope_b)
