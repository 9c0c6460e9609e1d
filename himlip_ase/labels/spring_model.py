"""A Hessian as springs between pairs of atoms: which order of atoms and which axes it belongs to."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from himlip_ase.labels.pairs import CUTOFF, Pairs

SPRING_LENGTHS = (0.3, 0.8, 2.0)
"""Å; decay lengths of the springs."""
MOST_ROWS = 24
"""Atoms whose rows of a Hessian are looked at."""


class SpringModel:
    """The freer form of a Hessian of one structure, for comparing orders of atoms and frames of axes.

    Parameters
    ----------
    atoms : Atoms
    """

    def __init__(self, atoms: Atoms) -> None:
        pairs, n = Pairs.of(atoms), len(atoms)
        self.rows = np.sort(np.random.default_rng(0).permutation(n)[:MOST_ROWS])
        along = np.einsum("pa,pb->pab", pairs.directions, pairs.directions)
        columns = []
        for place in range(len(pairs.kinds)):
            own = pairs.kind == place
            nearest = pairs.distances[own].min()
            edge = (1 - (pairs.distances / CUTOFF) ** 2) ** 2
            for length in SPRING_LENGTHS:
                spring = np.where(own, np.exp(-(pairs.distances - nearest) / length) * edge, 0.0)
                for part in (along, np.eye(3) - along):
                    blocks = np.zeros((n, n, 3, 3))
                    np.add.at(blocks, (pairs.first, pairs.second), -spring[:, None, None] * part)
                    blocks[np.arange(n), np.arange(n)] -= blocks.sum(axis=1)
                    columns.append(blocks[self.rows].ravel())
        design = np.array(columns).T if columns else np.zeros((9 * len(self.rows) * n, 0))
        norms = np.maximum(np.linalg.norm(design, axis=0), 1e-12)
        basis, sizes, _ = np.linalg.svd(design / norms, full_matrices=False)
        self._basis = basis[:, sizes > 1e-6 * sizes.max(initial=1.0)]

    def misfit(self, matrix: np.ndarray) -> float:
        """Share of a Hessian (N, 3, N, 3) that springs between pairs cannot give: 0 to 1.

        Parameters
        ----------
        matrix : ndarray (N, 3, N, 3)

        Returns
        -------
        float
        """
        values = matrix[self.rows].transpose(0, 2, 1, 3).ravel()
        explained = float(np.sum((self._basis.T @ values) ** 2))
        return float(np.sqrt(max(0.0, 1 - explained / max(float(np.sum(values**2)), 1e-30))))
