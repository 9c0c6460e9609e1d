"""Lattice translations of supercells, and which of them carry force constants into the infinite crystal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce

from himlip_ase.lattice import check_dims, grid_triplets

IMAGE_TOLERANCE = 1e-5
"""Å; periodic images at distances that differ by less share a pair between them (phonopy's default)."""

_CORNERS = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1], [-1, 0, 1], indexing="ij"), axis=-1).reshape(-1, 3)


@dataclass(frozen=True, eq=False)
class Translations:
    """The lattice translations of one supercell, numbered.

    Attributes
    ----------
    triangle : ndarray (3, 3) of int
        Hermite normal form of the supercell's vectors in units of the primitive ones: upper triangular, its
        rows span the same lattice.
    """

    triangle: np.ndarray

    @property
    def count(self) -> int:
        """Number of primitive cells."""
        return int(np.prod(np.diag(self.triangle)))

    def index(self, translations: np.ndarray) -> np.ndarray:
        """Number (…) of translations (…, 3), each modulo the supercell.

        Parameters
        ----------
        translations : ndarray (…, 3) of int
            In units of the primitive vectors.

        Returns
        -------
        ndarray (…) of int
            From 0 to `count` − 1.
        """
        left, found = (
            np.array(translations, dtype=np.int64),
            np.zeros(translations.shape[:-1], dtype=np.int64),
        )
        for axis in range(3):
            side = int(self.triangle[axis, axis])
            times = left[..., axis] // side
            left -= times[..., None] * self.triangle[axis]
            found = found * side + left[..., axis]
        return found

    def all(self) -> np.ndarray:
        """Every translation, (count, 3), in the order of `index`."""
        a, b, c = (int(side) for side in np.diag(self.triangle))
        return np.stack(np.unravel_index(np.arange(self.count), (a, b, c)), axis=1)

    def moved(self, shifts: np.ndarray) -> np.ndarray:
        """Number of each translation moved by each of others.

        Parameters
        ----------
        shifts : ndarray (K, 3) of int

        Returns
        -------
        ndarray (count, K) of int
        """
        key = shifts.tobytes()
        if key not in self._moved:
            self._moved[key] = self.index(self.all()[:, None] + shifts[None])
        return self._moved[key]

    @cached_property
    def _moved(self) -> dict[bytes, np.ndarray]:
        return {}


@lru_cache(maxsize=64)
def translations_of(vectors: tuple[int, ...]) -> Translations:
    """The translations of a supercell.

    Parameters
    ----------
    vectors : tuple of nine int
        Supercell vectors in units of the primitive ones, row by row, of non-zero determinant.

    Returns
    -------
    Translations
    """
    rows = [list(vectors[3 * k : 3 * k + 3]) for k in range(3)]
    for axis in range(3):
        # Euclid's algorithm on what stands below the diagonal
        while any(rows[k][axis] for k in range(axis + 1, 3)):
            pivot = min((k for k in range(axis, 3) if rows[k][axis]), key=lambda k: abs(rows[k][axis]))
            rows[axis], rows[pivot] = rows[pivot], rows[axis]
            for k in range(axis + 1, 3):
                times = rows[k][axis] // rows[axis][axis]
                rows[k] = [one - times * other for one, other in zip(rows[k], rows[axis], strict=True)]
        if rows[axis][axis] < 0:
            rows[axis] = [-one for one in rows[axis]]
    return Translations(np.array(rows, dtype=np.int64))


def reduced_vectors(lattice: np.ndarray) -> np.ndarray:
    """The same lattice by its shortest vectors.

    Parameters
    ----------
    lattice : ndarray (3, 3)

    Returns
    -------
    ndarray (3, 3)
    """
    return np.asarray(minkowski_reduce(lattice)[0])


def near_images(vectors: np.ndarray, reduced: np.ndarray) -> np.ndarray:
    """Periodic images of vectors, the shortest of all among them.

    Parameters
    ----------
    vectors : ndarray (…, 3)
        Å.
    reduced : ndarray (3, 3)
        Of `reduced_vectors`.

    Returns
    -------
    ndarray (…, 27, 3)
    """
    inside = vectors - np.rint(vectors @ np.linalg.inv(reduced)) @ reduced
    return inside[..., None, :] + _CORNERS @ reduced


def minimum_images(primitive: Atoms, dims: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Lattice vectors that carry the force constants of a diagonal supercell into the infinite crystal.

    A pair at equal distance from several periodic images is shared between them, as phonopy does it
    (Parlinski, Li and Kawazoe, PRL 78, 4063 (1997)).

    Parameters
    ----------
    primitive : Atoms
    dims : three int

    Returns
    -------
    shifts : ndarray (K, 3) of int
        In units of the primitive vectors; −R is among them with every R.
    weights : ndarray (K, n, n)
        Share of the pair of site i and site j, R away, in the supercell's force constant; each pair of
        supercell sites adds up to 1.
    """
    dims = check_dims(dims)
    cell, n = primitive.cell.array, len(primitive)
    sides = np.asarray(dims)
    inside = grid_triplets(dims)
    cell_of_all = cell * sides[:, None]
    apart = (
        primitive.positions[None, :, None] - primitive.positions[:, None, None] + inside @ cell
    )  # (n, n, m, 3)
    images = near_images(apart, reduced_vectors(cell_of_all))
    lengths = np.linalg.norm(images, axis=-1)
    nearest = lengths < lengths.min(axis=-1, keepdims=True) + IMAGE_TOLERANCE
    i, j, m, k = np.nonzero(nearest)
    turns = np.rint((images[i, j, m, k] - apart[i, j, m]) @ np.linalg.inv(cell_of_all))
    found = inside[m] + turns.astype(np.int64) * sides
    shifts, place = np.unique(found, axis=0, return_inverse=True)
    weights = np.zeros((len(shifts), n, n))
    np.add.at(weights, (place.ravel(), i, j), 1 / nearest.sum(axis=-1)[i, j, m])
    return shifts, weights
