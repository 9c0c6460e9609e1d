"""Symmetry operations of a structure as rotations and permutations of its atoms."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.lattice import build_supercell, check_dims, check_primitive, grid_triplets
from himlip_ase.symmetry.spglib_search import spglib_search

logger = logging.getLogger(__name__)

SYMPREC = 1e-5
"""Å; within this an operation counts as a symmetry."""


@dataclass(frozen=True, eq=False)
class Operations:
    """Operations that map a structure onto itself, or a supercell modulo its lattice.

    The supercell lists, for each atom of the cell, all its translations (phonopy's order); a structure
    without translations has one cell. The pure translations multiply `permutations` and are kept apart.

    Attributes
    ----------
    rotations : ndarray (G, 3, 3)
        Orthogonal, Cartesian; a column vector r goes to R r. The identity is among them.
    permutations : ndarray (G, N)
        Atom that each atom is carried to.
    translations : ndarray (C, N)
        Atom that each atom is carried to by the translation that brings cell c back to the first one.
    deviation : float
        Å; largest distance between a carried atom and the atom that it is identified with.
    """

    rotations: np.ndarray
    permutations: np.ndarray
    translations: np.ndarray
    deviation: float

    @property
    def order(self) -> int:
        """Number of operations, translations not counted."""
        return len(self.rotations)

    @property
    def cells(self) -> int:
        """Number of cells, C."""
        return len(self.translations)

    @property
    def n_atoms(self) -> int:
        """Number of atoms, N."""
        return self.permutations.shape[1]

    def first_atoms(self) -> np.ndarray:
        """Atoms of the first cell."""
        return np.arange(0, self.n_atoms, self.cells)

    def carried(self, atom: int) -> tuple[np.ndarray, np.ndarray]:
        """Where each operation takes an atom, brought back to the first cell.

        Returns
        -------
        targets : ndarray (G,)
            Atom of the first cell.
        permutations : ndarray (G, N)
            Of the operation followed by that translation.
        """
        targets = self.permutations[:, atom]
        back = self.translations[targets % self.cells]
        permutations = np.take_along_axis(back, self.permutations, axis=1)
        return permutations[:, atom], permutations


def identity_operation(n_atoms: int, dims: Sequence[int] = (1, 1, 1)) -> Operations:
    """No symmetry but the translations of a supercell of `n_atoms` in all.

    Parameters
    ----------
    n_atoms : int
        Of the supercell.
    dims : three integers

    Returns
    -------
    Operations
    """
    translations = cell_translations(n_atoms // int(np.prod(dims)), dims)
    return Operations(np.eye(3)[None], np.arange(n_atoms)[None], translations, 0.0)


def cell_translations(n_primitive: int, dims: Sequence[int]) -> np.ndarray:
    """Permutations (C, N) of the supercell atoms by the translations that bring each cell to the first.

    Parameters
    ----------
    n_primitive : int
        Atoms of the primitive cell.
    dims : three integers

    Returns
    -------
    ndarray (C, N)
    """
    grid = grid_triplets(dims)
    moved = (grid[None] - grid[:, None]) % np.asarray(dims)
    cells = moved[..., 0] + dims[0] * (moved[..., 1] + dims[1] * moved[..., 2])
    atoms = np.arange(n_primitive) * len(grid)
    return (atoms[None, :, None] + cells[:, None, :]).reshape(len(grid), -1)


def crystal_operations(primitive: Atoms, dims: Sequence[int], symprec: float = SYMPREC) -> Operations:
    """Space group of a crystal (spglib), as far as it leaves a diagonal supercell invariant.

    Elements and positions decide; magnetic moments, tags and isotopes do not, because the energy of an
    interatomic potential does not depend on them.

    Parameters
    ----------
    primitive : Atoms
        Any cell of the crystal; where it holds several lattice points, the centring translations are found.
    dims : three integers
        Diagonal supercell.
    symprec : float
        Å.

    Returns
    -------
    Operations
        Of the supercell in phonopy's order.

    Raises
    ------
    InputError
        A `symprec` that is not positive, or what `check_primitive` refuses.
    """
    import spglib

    if not symprec > 0:
        raise InputError(f"symprec must be positive (Å); got {symprec}")
    dims = check_dims(dims)
    atoms = check_primitive(primitive)
    scaled = atoms.get_scaled_positions(wrap=False)
    lattice = np.asarray(atoms.cell)
    found = spglib_search(
        spglib.get_symmetry, (lattice.tolist(), scaled.tolist(), atoms.numbers.tolist()), symprec
    )
    if found is None:
        logger.warning("no space group was found; all rows of the Hessian are computed")
        return identity_operation(len(atoms) * int(np.prod(dims)), dims)
    rotations, permutations = [], []
    deviation = 0.0
    for rotation, translation in zip(found["rotations"], found["translations"], strict=True):
        if np.any((rotation * np.asarray(dims)[None, :]) % np.asarray(dims)[:, None]):
            continue  # does not map the lattice of the supercell onto itself
        cartesian = lattice.T @ rotation @ np.linalg.inv(lattice.T)
        orthogonal = _nearest_orthogonal(cartesian)
        strain = np.abs(cartesian - orthogonal).max() * np.linalg.norm(lattice, axis=1).max()
        images = scaled @ rotation.T + translation
        targets, shifts, mismatch = _identify(images, scaled, atoms.numbers, lattice)
        deviation = max(deviation, float(strain), mismatch)
        rotations.append(orthogonal)
        permutations.append(_on_supercell(rotation, targets, shifts, dims))
    translations = cell_translations(len(atoms), dims)
    return Operations(np.array(rotations), np.array(permutations), translations, deviation)


def _nearest_orthogonal(matrix: np.ndarray) -> np.ndarray:
    left, _, right = np.linalg.svd(matrix)
    return left @ right


def _identify(
    images: np.ndarray, scaled: np.ndarray, numbers: np.ndarray, lattice: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Atom and lattice vector under each carried atom, and the largest mismatch in Å."""
    offsets = images[:, None] - scaled[None]
    shifts = np.rint(offsets)
    distances = np.linalg.norm((offsets - shifts) @ lattice, axis=2)
    distances[numbers[:, None] != numbers[None]] = np.inf
    targets = distances.argmin(axis=1)
    own = np.arange(len(images))
    return targets, shifts[own, targets].astype(int), float(distances[own, targets].max())


def _on_supercell(
    rotation: np.ndarray, targets: np.ndarray, shifts: np.ndarray, dims: Sequence[int]
) -> np.ndarray:
    """Permutation of the supercell atoms, from that of the cell's atoms and their lattice vectors."""
    grid = grid_triplets(dims)
    moved = (shifts[:, None] + grid @ rotation.T) % np.asarray(dims)
    cells = moved[..., 0] + dims[0] * (moved[..., 1] + dims[1] * moved[..., 2])
    return (targets[:, None] * len(grid) + cells).ravel()


def supercell_with_operations(
    atoms: Atoms, dims: Sequence[int], symmetry: bool = True, symprec: float = SYMPREC
) -> tuple[Atoms, tuple[int, int, int], Atoms, Operations]:
    """Checked primitive cell and dims, the supercell in phonopy's order, and its operations.

    Parameters
    ----------
    atoms : ase.Atoms
        Primitive cell of a crystal.
    dims : sequence of 3 ints
        Diagonal supercell.
    symmetry : bool
        Use the space group, as far as the supercell has it; otherwise only the translations.
    symprec : float
        Å.

    Returns
    -------
    primitive : Atoms
        Bare.
    dims : (int, int, int)
    supercell : Atoms
        In phonopy's order.
    operations : Operations

    Raises
    ------
    InputError
        A structure that is not periodic in three directions.
    """
    checked, primitive = check_dims(dims), check_primitive(atoms)
    supercell = build_supercell(primitive, checked)
    operations = (
        crystal_operations(primitive, checked, symprec)
        if symmetry
        else identity_operation(len(supercell), checked)
    )
    return primitive, checked, supercell, operations
