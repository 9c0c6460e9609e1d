"""Projections onto the space group of a crystal on its supercell: vectors, Φ(q) and third-order constants.

Lattice translations are exact by construction: every tensor is kept with its first atom in cell 0.  Supercell
atoms are in the order of ``primitive.repeat(dims)``.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import spglib

from himlip_ase.errors import InputError
from himlip_ase.symmetry.spglib_search import spglib_search

if TYPE_CHECKING:
    from himlip_ase.phonons.force_constants import DynamicalMatrices

SYMPREC = 1e-4
"""Å within which atoms count as mapped onto each other."""


class SpaceGroup:
    """Space-group operations that map the supercell onto itself.

    Parameters
    ----------
    dynamical : DynamicalMatrices
        Its primitive cell (masses tell isotopes apart), grid and order of q-points are used.
    """

    def __init__(self, dynamical: DynamicalMatrices) -> None:
        primitive, self.dims = dynamical.primitive, tuple(int(d) for d in dynamical.dims)
        self.n = len(primitive)
        self.cells = np.indices(self.dims).reshape(3, -1).T
        grid = np.rint(np.asarray(dynamical.qpoints) * self.dims).astype(int) % self.dims
        self.order = np.ravel_multi_index(tuple(grid.T), self.dims)
        kinds = np.unique(
            np.stack([primitive.numbers, np.round(primitive.get_masses(), 6)], axis=1),
            axis=0,
            return_inverse=True,
        )[1].ravel()
        scaled = primitive.get_scaled_positions(wrap=False)
        cell = (primitive.cell.array.tolist(), scaled.tolist(), (kinds + 1).tolist())
        found = spglib_search(spglib.get_symmetry, cell, symprec=SYMPREC)
        if found is None:
            raise InputError("spglib finds no symmetry in the primitive cell; are two atoms on one site?")
        dims = np.array(self.dims)
        columns = primitive.cell.array.T
        self.rotations: list[np.ndarray] = []
        self.images: list[np.ndarray] = []
        targets: list[np.ndarray] = []
        for turn, shift in zip(found["rotations"], found["translations"], strict=True):
            if (turn * dims[None, :] % dims[:, None]).any():
                continue  # this rotation does not map the supercell onto itself
            atoms, cells = self._map(scaled, scaled @ turn.T + shift, primitive.cell.array)
            left, _, right = np.linalg.svd(columns @ turn @ np.linalg.inv(columns))
            self.rotations.append(left @ right)  # orthogonal, even in a cell symmetric within SYMPREC only
            self.images.append(atoms)
            moved = self.cells @ turn.T  # cell of each image before the shift of its atom
            target = np.empty((self.n, len(self.cells), self.n), dtype=int)
            for first in range(self.n):
                relative = (moved[:, None] + cells[None, :] - cells[first]) % dims
                target[first] = np.ravel_multi_index(tuple(np.moveaxis(relative, -1, 0)), self.dims) * self.n
                target[first] += atoms[None, :]
            targets.append(target.reshape(self.n, -1))
        self.targets = targets

    @cached_property
    def pair_images(self) -> np.ndarray:
        """Where each operation takes the pair (a in cell 0; atom J), index a · N + J, shape (ops, n N)."""
        total = self.n * len(self.cells)
        return np.stack(
            [
                (np.asarray(atoms)[:, None] * total + target).ravel()
                for atoms, target in zip(self.images, self.targets, strict=True)
            ]
        )

    @cached_property
    def _pair_turns(self) -> list[np.ndarray]:
        """(R ⊗ R)ᵀ of each operation, which turns the nine components of a pair."""
        return [np.kron(rotation, rotation).T for rotation in self.rotations]

    def _map(self, scaled: np.ndarray, moved: np.ndarray, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Atom and cell that each image of an atom falls on."""
        offsets = moved[:, None] - scaled[None, :]
        cells = np.rint(offsets).astype(int)
        distances = np.linalg.norm((offsets - cells) @ cell, axis=2)
        atoms = distances.argmin(axis=1)
        if len(set(atoms)) != len(atoms):
            raise InputError("two atoms of the primitive cell share a site; give each its own position")
        return atoms, cells[np.arange(len(atoms)), atoms]

    def vectors(self, values: np.ndarray) -> np.ndarray:
        """Mean over the group of one vector an atom of the primitive cell, (n, 3)."""
        result = np.zeros_like(values)
        for rotation, atoms in zip(self.rotations, self.images, strict=True):
            result[atoms] += values @ rotation.T
        return result / len(self.rotations)

    def tensor(self, values: np.ndarray) -> np.ndarray:
        """Mean over the group of Cartesian tensors such as stresses, (..., 3, 3)."""
        return sum(rotation @ values @ rotation.T for rotation in self.rotations) / len(self.rotations)

    def has_free_coordinates(self) -> bool:
        """Whether the group leaves any atomic coordinate free, a common shift apart."""
        test = np.random.default_rng(0).normal(size=(self.n, 3))
        free = self.vectors(test - test.mean(axis=0))
        return bool(np.abs(free - free.mean(axis=0)).max() > 1e-8)

    def to_compact(self, matrices: np.ndarray) -> np.ndarray:
        """Φ(q) blocks (nq, 3n, 3n) in the grid's order to Φ(0a, Rb), shape (n, N, 3, 3)."""
        size = 3 * self.n
        ordered = np.empty_like(matrices)
        ordered[self.order] = matrices
        real = np.fft.fftn(ordered.reshape(*self.dims, size, size), axes=(0, 1, 2)).real / len(self.cells)
        blocks = real.reshape(len(self.cells), self.n, 3, self.n, 3)
        return blocks.transpose(1, 0, 3, 2, 4).reshape(self.n, -1, 3, 3)

    def to_matrices(self, compact: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`to_compact`."""
        size = 3 * self.n
        blocks = compact.reshape(self.n, len(self.cells), self.n, 3, 3).transpose(1, 0, 3, 2, 4)
        phi = np.fft.ifftn(blocks.reshape(*self.dims, size, size), axes=(0, 1, 2)) * len(self.cells)
        return phi.reshape(-1, size, size)[self.order]

    def matrices(self, blocks: np.ndarray) -> np.ndarray:
        """Mean over the group of Hermitian Φ(q), with the acoustic sum rule, (nq, 3n, 3n)."""
        compact = self.to_compact(blocks).reshape(-1, 9)
        result = np.zeros_like(compact)
        for turn, image in zip(self._pair_turns, self.pair_images, strict=True):
            result[image] += compact @ turn
        shape = (self.n, self.n * len(self.cells), 3, 3)
        matrices = self.to_matrices((result / len(self.rotations)).reshape(shape))
        matrices = (matrices + matrices.conj().transpose(0, 2, 1)) / 2
        keep = np.eye(3 * self.n) - np.kron(np.full((self.n, self.n), 1 / self.n), np.eye(3))
        gamma = int(np.flatnonzero(self.order == 0)[0])
        matrices[gamma] = keep @ matrices[gamma] @ keep
        return matrices

    def third(self, tensor: np.ndarray) -> np.ndarray:
        """Mean over the group of Φ³(0a, J, K), shape (3n, 3N, 3N)."""
        size = tensor.shape[1] // 3
        blocks = tensor.reshape(self.n, 3, size, 3, size, 3).transpose(0, 2, 4, 1, 3, 5)
        result = np.zeros(blocks.shape)
        for rotation, atoms, target in zip(self.rotations, self.images, self.targets, strict=True):
            cube = np.kron(np.kron(rotation, rotation), rotation).T
            for first in range(self.n):
                turned = (blocks[first].reshape(-1, 27) @ cube).reshape(size, size, 3, 3, 3)
                place = target[first]
                result[atoms[first], place[:, None], place[None, :]] += turned
        result /= len(self.rotations)
        return result.transpose(0, 3, 1, 4, 2, 5).reshape(tensor.shape)
