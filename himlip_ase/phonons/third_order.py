"""Third-order force constants of a crystal from third derivatives along symmetry-irreducible pairs.

Pairs of atoms fall into orbits of the space group and of the exchange of the two. One pair of each orbit is
displaced, in as few pairs of directions as its symmetry needs to make the other ones.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from ase import Atoms

from himlip_ase.errors import CalculationError
from himlip_ase.files import atomic_write
from himlip_ase.symmetry.irreducible import direction_candidates, spanning_choice
from himlip_ase.symmetry.operations import SYMPREC, Operations, identity_operation, supercell_with_operations

logger = logging.getLogger(__name__)

PairProducts = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Third derivatives along pairs of vectors: (K, N, 3), (K, N, 3) → (K, N, 3) in eV/Å³ times their units."""

_WELL_CONDITIONED = 0.02


@dataclass(frozen=True, eq=False)
class ThirdOrder:
    """Third derivatives of the energy for a primitive atom and any two atoms of a diagonal supercell.

    Attributes
    ----------
    primitive : Atoms
    dims : (int, int, int)
    compact : ndarray (n_prim, n_super, n_super, 3, 3, 3)
        ∂³E/∂u_i∂u_J∂u_K in eV/Å³, atoms in phonopy's order.
    products : int
        Third-derivative products taken.
    without_symmetry : int
        Products that would be taken without the space group, 9 n_prim n_super.
    """

    primitive: Atoms
    dims: tuple[int, int, int]
    compact: np.ndarray
    products: int
    without_symmetry: int

    @property
    def p2s_map(self) -> np.ndarray:
        """Supercell atom of each primitive one."""
        return np.arange(len(self.primitive)) * int(np.prod(self.dims))

    def acoustic_sum_rule_violation(self) -> float:
        """Largest |Σ_K Φ(i, J, K)| and |Σ_J Φ(i, J, K)| in eV/Å³."""
        return float(max(np.abs(self.compact.sum(axis=axis)).max() for axis in (1, 2)))

    def permutation_violation(self) -> float:
        """Largest change of Φ(iα, Jβ, Kγ) in eV/Å³ when two of its three indices are exchanged."""
        last = np.abs(self.compact - self.compact.transpose(0, 2, 1, 3, 5, 4)).max()
        first = np.abs(self.full_rows_exchanged() - self.compact).max()
        return float(max(last, first))

    def full_rows_exchanged(self) -> np.ndarray:
        """The same array with Φ(Jβ, iα, Kγ) in the place of Φ(iα, Jβ, Kγ)."""
        translations = identity_operation(self.compact.shape[1], self.dims).translations
        cells = len(translations)
        exchanged = np.empty_like(self.compact)
        for row, atom in enumerate(self.p2s_map):
            for other in range(self.compact.shape[1]):
                back = translations[other % cells]
                block = self.compact[other // cells, back[atom]]
                exchanged[row, other] = block[back].transpose(0, 2, 1, 3)
        return exchanged

    def full(self) -> np.ndarray:
        """Of all triplets of supercell atoms, (n_super, n_super, n_super, 3, 3, 3)."""
        translations = identity_operation(self.compact.shape[1], self.dims).translations
        cells, size = translations.shape
        full = np.empty((size, *self.compact.shape[1:]))
        for atom in range(size):
            back = translations[atom % cells]
            full[atom] = self.compact[atom // cells][back][:, back]
        return full

    def write(self, path: str | os.PathLike, overwrite: bool = False) -> Path:
        """Write phonopy's compact layout as phono3py's ``fc3.hdf5`` (datasets fc3 and p2s_map).

        phono3py has to be set up with the same cell and ``primitive_matrix="P"`` (``--pa P``).

        Parameters
        ----------
        path : path-like
        overwrite : bool
            Whether an existing file may be replaced (`InputError` otherwise).

        Returns
        -------
        Path
        """
        with atomic_write(path, "wb", overwrite=overwrite) as stream, h5py.File(stream, "w") as file:
            file.create_dataset("fc3", data=np.ascontiguousarray(self.compact), compression="gzip")
            file.create_dataset("p2s_map", data=self.p2s_map.astype("int64"))
            file.attrs["units"] = "eV/Angstrom^3"
        return Path(path)


def third_order_force_constants(
    atoms: Atoms,
    dims: Sequence[int],
    products: Callable[[Atoms, np.ndarray, np.ndarray], np.ndarray],
    symmetry: bool = True,
    symprec: float = SYMPREC,
) -> ThirdOrder:
    """Third-order force constants of a crystal.

    Parameters
    ----------
    atoms : Atoms
        Primitive or any other cell of the crystal.
    dims : three integers
        Diagonal supercell; interactions beyond it are folded back.
    products : callable
        Third derivatives of a structure along pairs of vectors, (atoms, (K, N, 3), (K, N, 3)) → (K, N, 3):
        `himlip_ase.HiMLIPCalculator.third_derivatives`.
    symmetry : bool
        Use the space group, as far as the supercell has it.
    symprec : float
        Å.

    Returns
    -------
    ThirdOrder
        eV/Å³.

    Raises
    ------
    InputError
        A structure that is not periodic in three directions.
    CalculationError
        A non-finite derivative.
    """
    primitive, dims, supercell, operations = supercell_with_operations(atoms, dims, symmetry, symprec)
    compact, taken = symmetric_pairs(lambda u, w: products(supercell, u, w), operations)
    result = ThirdOrder(primitive, dims, compact, taken, 9 * len(primitive) * len(supercell))
    logger.info(
        "third order: %d products instead of %d (%d operations), sum rule %.1e, asymmetry %.1e eV/Å³",
        taken, result.without_symmetry, operations.order,
        result.acoustic_sum_rule_violation(), result.permutation_violation(),
    )  # fmt: skip
    return result


def symmetric_pairs(products: PairProducts, operations: Operations) -> tuple[np.ndarray, int]:
    """Compact third-order constants (n, N, N, 3, 3, 3), and the number of products they took.

    Parameters
    ----------
    products : callable
        Third derivatives of the supercell along pairs of vectors, (K, N, 3), (K, N, 3) → (K, N, 3), eV/Å³.
    operations : Operations
        Of the supercell.

    Returns
    -------
    compact : ndarray (n, N, N, 3, 3, 3)
        eV/Å³.
    products : int

    Raises
    ------
    CalculationError
        A non-finite derivative.
    """
    n_atoms, cells = operations.n_atoms, operations.cells
    compact = np.empty((n_atoms // cells, n_atoms, n_atoms, 3, 3, 3))
    taken = 0
    for orbit in pair_orbits(operations):
        one, two = orbit.directions
        fields = np.zeros((2, len(one), n_atoms, 3))
        fields[0, :, orbit.first], fields[1, :, orbit.second] = one, two
        values = products(fields[0], fields[1])
        if not np.isfinite(values).all():
            raise CalculationError("non-finite third derivative; check the crystal for colliding atoms")
        taken += len(one)
        total = np.zeros((n_atoms, 9, 3))
        normal = np.zeros((9, 9))
        for image in orbit.site:
            pairs = image.pairs(one, two)
            total[image.permutation] += np.einsum("kp,ktz->tpz", pairs, values @ image.rotation.T)
            normal += pairs.T @ pairs
        block = np.linalg.solve(normal, total).reshape(n_atoms, 3, 3, 3)
        for (first, second), image in orbit.members.items():
            compact[first // cells, second, image.permutation] = image.block(block)
    return compact, taken


@dataclass(frozen=True, eq=False)
class PairImage:
    """An operation on a pair of atoms: a rotation, with the two exchanged or not.

    Attributes
    ----------
    rotation : ndarray (3, 3)
    permutation : ndarray (N,)
        Of the supercell atoms, the first one of the image being brought to the first cell.
    exchanged : bool
    """

    rotation: np.ndarray
    permutation: np.ndarray
    exchanged: bool

    def pairs(self, one: np.ndarray, two: np.ndarray) -> np.ndarray:
        """Images (K, 9) of pairs of directions, as products of their components.

        Parameters
        ----------
        one, two : ndarray (K, 3)
            Directions of the first and of the second atom.

        Returns
        -------
        ndarray (K, 9)
        """
        first, second = one @ self.rotation.T, two @ self.rotation.T
        if self.exchanged:
            first, second = second, first
        return (first[:, :, None] * second[:, None, :]).reshape(len(one), 9)

    def block(self, block: np.ndarray) -> np.ndarray:
        """Image of the third derivatives (N, 3, 3, 3) of the pair; the first index is not permuted."""
        if self.exchanged:
            block = block.transpose(0, 2, 1, 3)
        r = self.rotation
        return np.einsum("ai,bj,ck,tijk->tabc", r, r, r, block, optimize=True)


@dataclass(frozen=True, eq=False)
class PairOrbit:
    """Equivalent pairs of atoms, the first of each in the first cell.

    Attributes
    ----------
    first, second : int
        The pair that is displaced.
    directions : (K, 3) ndarray, (K, 3) ndarray
        Of the first and of the second atom.
    site : list of PairImage
        Those that map the pair onto itself.
    members : dict of (int, int) to PairImage
    """

    first: int
    second: int
    directions: tuple[np.ndarray, np.ndarray]
    site: list[PairImage]
    members: dict[tuple[int, int], PairImage]


def pair_orbits(operations: Operations) -> list[PairOrbit]:
    """Orbits of all pairs of an atom of the first cell and any atom."""
    carried = {atom: operations.carried(atom) for atom in operations.first_atoms().tolist()}
    found: list[PairOrbit] = []
    done: set[tuple[int, int]] = set()
    for first in carried:
        for second in range(operations.n_atoms):
            if (first, second) in done:
                continue
            members: dict[tuple[int, int], PairImage] = {}
            site: list[PairImage] = []
            back = operations.translations[second % operations.cells]
            for exchanged in (False, True):
                # exchanged, the second atom comes to the first cell and takes the first one's place
                start = int(back[second]) if exchanged else first
                partner = int(back[first]) if exchanged else second
                targets, permutations = carried[start]
                for index, (target, permutation) in enumerate(zip(targets, permutations, strict=True)):
                    key = (int(target), int(permutation[partner]))
                    whole = permutation[back] if exchanged else permutation
                    image = PairImage(operations.rotations[index], whole, exchanged)
                    members.setdefault(key, image)
                    if key == (first, second):
                        site.append(image)
            done.update(members)
            found.append(PairOrbit(first, second, spanning_pairs(site), site, members))
    return found


def spanning_pairs(site: Sequence[PairImage]) -> tuple[np.ndarray, np.ndarray]:
    """Fewest pairs of directions (K, 3), (K, 3) whose images span all nine products of components."""
    one, two = _pair_candidates()
    unique = {(image.rotation.round(6).tobytes(), image.exchanged): image for image in site}
    squares = np.zeros((len(one), 9, 9))
    for image in unique.values():
        pairs = image.pairs(one, two)
        squares += pairs[:, :, None] * pairs[:, None, :]
    chosen = spanning_choice(squares / len(unique), _WELL_CONDITIONED)
    if chosen is None:
        return np.repeat(np.eye(3), 3, axis=0), np.tile(np.eye(3), (3, 1))
    return one[chosen], two[chosen]


def _pair_candidates() -> tuple[np.ndarray, np.ndarray]:
    special, general = direction_candidates(100)
    grid = [(a, b) for a in special for b in special]
    one, two = (np.array(side) for side in zip(*grid, strict=True))
    return np.concatenate([one, general[:50]]), np.concatenate([two, general[50:]])
