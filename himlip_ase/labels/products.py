"""Labels of part of a Hessian: its products with given vectors, single columns among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError


@dataclass(frozen=True, eq=False)
class HessianProducts:
    """Products of an unknown Hessian with known vectors, e.g. from finite differences of forces.

    Parameters
    ----------
    atoms : Atoms
        Structure to which the Hessian belongs.
    vectors : ndarray (K, N, 3)
        Any directions; a column of the Hessian is a unit vector.
    products : ndarray (K, N, 3)
        H v, eV/Å² times the unit of the vectors.
    name : str
        For messages.
    weight : float
        Relative weight among the Hessian labels.

    Raises
    ------
    InputError
        Shapes that do not match, a value that is not finite, a vector of length zero, or products that break
        the symmetry of a Hessian (v·Hw = w·Hv) or the sum rule of one (no net force) by more than a tenth.
    """

    atoms: Atoms
    vectors: np.ndarray
    products: np.ndarray
    name: str = "products"
    weight: float = 1.0

    def __post_init__(self) -> None:
        shape = (len(self.vectors), len(self.atoms), 3)
        if self.vectors.shape != shape or self.products.shape != shape or not shape[0]:
            raise InputError(
                f"{self.name}: vectors {self.vectors.shape} and products {self.products.shape} for "
                f"{len(self.atoms)} atoms; both must be (K, {len(self.atoms)}, 3), K at least 1"
            )
        if not (np.isfinite(self.vectors).all() and np.isfinite(self.products).all()):
            raise InputError(f"{self.name}: a vector or a product is not finite")
        if (np.linalg.norm(self.vectors.reshape(shape[0], -1), axis=1) < 1e-12).any():
            raise InputError(f"{self.name}: a vector has length zero")
        work = np.einsum("kia,lia->kl", self.vectors, self.products)
        lengths = np.linalg.norm(self.vectors, axis=(1, 2)), np.linalg.norm(self.products, axis=(1, 2))
        scale = max(float((lengths[0][:, None] * lengths[1]).max()), 1e-30)
        if np.abs(work - work.T).max() > 0.1 * scale:
            raise InputError(
                f"{self.name}: v·Hw and w·Hv differ by {np.abs(work - work.T).max() / scale:.2g} of "
                "|v||Hw|; these are not products with one Hessian"
            )
        net = np.abs(self.products.sum(axis=1)).max()
        if net > 0.1 * max(float(lengths[1].max()), 1e-30):
            raise InputError(
                f"{self.name}: a net force of {net:.3g} of {lengths[1].max():.3g}; the products of a Hessian "
                "sum to zero over the atoms"
            )

    @classmethod
    def of_columns(
        cls,
        atoms: Atoms,
        columns: Sequence[tuple[int, int]],
        values: np.ndarray,
        name: str = "columns",
        weight: float = 1.0,
    ) -> HessianProducts:
        """Columns of a Hessian.

        Parameters
        ----------
        atoms : Atoms
        columns : sequence of (atom, direction)
        values : ndarray (K, N, 3)
            eV/Å².
        name, weight
        """
        vectors = np.zeros((len(columns), len(atoms), 3))
        for row, (atom, axis) in enumerate(columns):
            vectors[row, atom, axis] = 1.0
        return cls(atoms, vectors, np.asarray(values, dtype=float), name, weight)
