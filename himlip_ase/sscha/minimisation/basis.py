"""Orthonormal basis of the force constants and centroid shifts that a space group allows.

Pairs of atoms (a in cell 0; b in cell R) fall into orbits under the space-group operations, the lattice
translations of the supercell and the exchange of the two atoms (Φ is symmetric).  The 3×3 block of one pair
of an orbit fixes all others; the blocks that the stabiliser of this pair leaves alone span what is free.
Each basis function thus lives on one orbit, and the basis is as sparse as force constants can be.  The
acoustic sum rule is kept by projecting the translations out of Φ(Γ), which commutes with all of this.
"""

from __future__ import annotations

import numpy as np
from scipy import fft, sparse

from himlip_ase.sscha.ensembles.half_grid import HalfGrid
from himlip_ase.sscha.symmetry import SpaceGroup


class SymmetryBasis:
    """Coefficients of symmetric Φ(q) and of symmetric centroid shifts.

    Parameters
    ----------
    group : SpaceGroup
    grid : HalfGrid
        Of the same supercell.

    Attributes
    ----------
    shifts : ndarray, shape (3n, m)
        Orthonormal centroid shifts that the group allows, common shifts included.
    """

    def __init__(self, group: SpaceGroup, grid: HalfGrid) -> None:
        self.group, self.grid = group, grid
        self._functions = _pair_functions(group)
        self._transposed = self._functions.T.tocsr()
        size = 3 * group.n
        self._keep = np.eye(size) - np.kron(np.full((group.n, group.n), 1 / group.n), np.eye(3))
        self.shifts = _allowed_shifts(group)

    def __len__(self) -> int:
        return self._functions.shape[1]

    @property
    def nonzeros(self) -> int:
        """Numbers that the basis consists of."""
        return int(self._functions.nnz)

    def coefficients(self, blocks: list[np.ndarray]) -> np.ndarray:
        """Project Φ(q) on the basis: Hermitian part, symmetric part, acoustic sum rule.

        Parameters
        ----------
        blocks : list of ndarray, shape (..., k, 3n, 3n)
            By sector of the grid.

        Returns
        -------
        ndarray, shape (..., len(self))
            |coefficients|² = Σ_q |Φ(q)|² of the projection.
        """
        n, size = self.group.n, 3 * self.group.n
        lead = blocks[0].shape[:-3]
        waves = np.empty((int(np.prod(lead)), self.grid.cells, size * size), dtype=complex)
        for number, (sector, block) in enumerate(zip(self.grid.sectors, blocks, strict=True)):
            flat = block.reshape(-1, *block.shape[-3:])
            if number == 0:
                flat = flat.copy()
                flat[:, 0] = self._keep @ flat[:, 0] @ self._keep
            flat = flat.reshape(len(waves), len(sector.fft), -1)
            if sector.multiplicity == 2:
                waves[:, sector.fft_partners] = flat.conj()
            waves[:, sector.fft] = flat
        shape = (len(waves), *self.grid.dims, size * size)
        real = fft.fftn(waves.reshape(shape), axes=(1, 2, 3), norm="ortho", overwrite_x=True).real
        compact = real.reshape(-1, self.grid.cells, n, 3, n, 3).transpose(2, 1, 4, 3, 5, 0)
        result = self._transposed @ compact.reshape(-1, len(waves))
        return np.ascontiguousarray(result.T).reshape(*lead, -1)

    def matrices(self, coefficients: np.ndarray) -> list[np.ndarray]:
        """Φ(q) of coefficients, shape (len(self),), by sector."""
        n, size = self.group.n, 3 * self.group.n
        compact = (self._functions @ coefficients).reshape(n, self.grid.cells, n, 3, 3)
        real = compact.transpose(1, 0, 3, 2, 4).reshape(*self.grid.dims, size * size)
        waves = fft.ifftn(real, axes=(0, 1, 2), norm="ortho").reshape(self.grid.cells, size, size)
        return self.grid.split_fft(waves)


def _pair_functions(group: SpaceGroup) -> sparse.csr_matrix:
    """Columns: orthonormal symmetric Φ(0a, Rb) over (a, R, b, 3, 3), the acoustic sum rule apart."""
    n_pairs = group.n**2 * len(group.cells)
    exchange = _exchanged_pairs(group)
    maps = np.concatenate([group.pair_images, exchange[group.pair_images]])
    turns = np.array([np.kron(rotation, rotation) for rotation in group.rotations])
    turns = np.concatenate([turns, turns.reshape(-1, 3, 3, 9).swapaxes(1, 2).reshape(-1, 9, 9)])
    rows, columns, values = [], [], []
    done = np.zeros(n_pairs, dtype=bool)
    count = 0
    for pair in range(n_pairs):
        if done[pair]:
            continue
        members, first = np.unique(maps[:, pair], return_index=True)
        done[members] = True
        projector = turns[maps[:, pair] == pair].mean(axis=0)
        weights, vectors = np.linalg.eigh((projector + projector.T) / 2)
        free = vectors[:, weights > 0.5]
        blocks = turns[first] @ free / np.sqrt(len(members))  # (members, 9, free)
        place = members[:, None] * 9 + np.arange(9)
        number = count + np.arange(free.shape[1])
        shape = blocks.shape
        rows.append(np.broadcast_to(place[:, :, None], shape).ravel())
        columns.append(np.broadcast_to(number[None, None, :], shape).ravel())
        values.append(blocks.ravel())
        count += free.shape[1]
    matrix = sparse.coo_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(9 * n_pairs, count)
    )
    matrix.data[np.abs(matrix.data) < 1e-14] = 0
    matrix.eliminate_zeros()
    return matrix.tocsr()


def _exchanged_pairs(group: SpaceGroup) -> np.ndarray:
    """Pair (0b, -R a) of each pair (0a, R b), as index a · N + (cell of R) · n + b."""
    n, cells = group.n, len(group.cells)
    opposite = np.ravel_multi_index(tuple((-group.cells % np.array(group.dims)).T), group.dims)
    first, cell, second = np.indices((n, cells, n))
    return (second * n * cells + opposite[cell] * n + first).ravel()


def _allowed_shifts(group: SpaceGroup) -> np.ndarray:
    """Orthonormal columns spanning the displacements of the primitive cell that the group leaves alone."""
    size = 3 * group.n
    unit = np.eye(size).reshape(size, group.n, 3)
    projector = np.array([group.vectors(column).ravel() for column in unit])
    weights, vectors = np.linalg.eigh((projector + projector.T) / 2)
    return vectors[:, weights > 0.5]
