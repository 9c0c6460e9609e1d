"""Pairs of atoms within a cutoff: found as integers, arranged as rectangular tables.

Where numba is there, compiled passes do both (`himlip_ase.potential.pair_search`); else vesin and NumPy.
Pairs have one order either way, so that a list with a skin gives the table of a fresh one to the bit.

The list gives integers only (atom pairs and lattice shifts); every vector is built in torch from positions
and cell, so that derivatives of any order are those of the energy. Each pair is found once and entered from
both of its ends, so that every entry of a table has its reverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.potential.compilation import compiled_here

COINCIDENT_ANGSTROM = 1e-3
"""Atoms closer than this are taken for an input error."""

PADDING_ANGSTROM = 100.0
"""Distance of padding entries, outside every cutoff: all that depends on them is zero there."""


@dataclass(frozen=True, eq=False)
class PairList:
    """Pairs of atoms of one structure, each from one of its two ends.

    Attributes
    ----------
    first, second : ndarray (P,)
        Atoms i and j.
    shifts : ndarray (P, 3)
        Lattice translation of j, in whole cells.
    """

    first: np.ndarray
    second: np.ndarray
    shifts: np.ndarray


@dataclass(frozen=True, eq=False)
class NeighbourTable:
    """Neighbours of all atoms of a batch, padded to the same number M.

    Attributes
    ----------
    neighbours : ndarray (N, M)
        Padding points at the atom itself.
    offsets : ndarray (N, 3, M)
        Lattice translations of the neighbours in Å; padding lies outside the cutoff.
    mask : ndarray (N, M), bool
        True for real neighbours.
    reverse : ndarray (N, M)
        Flat index of each pair seen from its other end; that of padding is its own.
    """

    neighbours: np.ndarray
    offsets: np.ndarray
    mask: np.ndarray
    reverse: np.ndarray


def find_pairs(atoms: Atoms, reach: float) -> PairList:
    """Pairs within `reach` Å, whatever the periodicity, the cell and the images of the atoms.

    Parameters
    ----------
    atoms : Atoms
    reach : float
        Å.

    Returns
    -------
    PairList
    """
    periodic = np.array(atoms.pbc)
    cell = atoms.cell.array if periodic.all() else atoms.cell.complete().array
    if compiled_here():
        from himlip_ase.potential.pair_search import find_half

        positions = np.ascontiguousarray(atoms.positions, dtype=float)
        return PairList(*find_half(positions, cell, periodic, float(reach)))
    return _ordered(*_by_vesin(atoms, cell, periodic, reach))


def _by_vesin(
    atoms: Atoms, cell: np.ndarray, periodic: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from vesin import NeighborList

    # A left-handed cell is listed through its mirror order of vectors, then shifts are put back.
    mirrored = periodic.all() and np.linalg.det(cell) < 0
    order = [1, 0, 2] if mirrored else [0, 1, 2]
    first, second, shifts = NeighborList(cutoff=reach, full_list=False).compute(
        points=atoms.positions, box=cell[order], periodic=periodic[order], quantities="ijS"
    )
    return first.astype(np.int64), second.astype(np.int64), np.asarray(shifts)[:, order].astype(np.int64)


def _ordered(first: np.ndarray, second: np.ndarray, shifts: np.ndarray) -> PairList:
    """Each pair from its first atom, or along a positive shift; by first, second, shift."""
    x, y, z = shifts.T
    backward = (x < 0) | ((x == 0) & ((y < 0) | ((y == 0) & (z < 0))))
    turned = (first > second) | ((first == second) & backward)
    one, other = np.where(turned, second, first), np.where(turned, first, second)
    shifts = np.where(turned[:, None], -shifts, shifts)
    order = np.lexsort((*shifts.T[::-1], other, one))
    return PairList(one[order], other[order], shifts[order])


class VerletList:
    """Finds the pairs of one moving structure, and looks for them again only when that is needed.

    Pairs are listed out to the cutoff and a skin. While no atom has moved by more than half of the skin, and
    cell, periodicity and species are the same, no pair can have come within the cutoff that is not listed;
    pairs beyond the cutoff are left out of every table, so that the results are those of a fresh list.

    Parameters
    ----------
    cutoff, skin : float
        Å.

    Attributes
    ----------
    builds : int
        How often pairs were looked for.

    Raises
    ------
    InputError
        A negative skin.
    """

    def __init__(self, cutoff: float, skin: float) -> None:
        if not 0 <= skin < np.inf:
            raise InputError(f"the skin must be a length in Å, zero or positive; got {skin}")
        self.cutoff, self.skin = cutoff, skin
        self.builds = 0
        self._atoms: Atoms | None = None
        self._pairs: PairList | None = None

    def __call__(self, atoms: Atoms) -> PairList:
        """Pairs of a structure, all that lie within the cutoff and some beyond."""
        if self._pairs is None or not self._still_valid(atoms):
            self._pairs = find_pairs(atoms, self.cutoff + self.skin)
            self._atoms = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
            self.builds += 1
        return self._pairs

    def _still_valid(self, atoms: Atoms) -> bool:
        known = self._atoms
        if (
            known is None
            or not np.array_equal(known.numbers, atoms.numbers)
            or not np.array_equal(known.cell.array, atoms.cell.array)
            or not np.array_equal(known.pbc, atoms.pbc)
        ):
            return False
        moved = atoms.positions - known.positions
        return bool(np.einsum("nk,nk->n", moved, moved).max() <= (self.skin / 2) ** 2)


def neighbour_table(frames: Sequence[Atoms], lists: Sequence[PairList], cutoff: float) -> NeighbourTable:
    """Table of the pairs of a batch that lie within the cutoff.

    Parameters
    ----------
    frames : sequence of Atoms
    lists : sequence of PairList
        One for each frame, reaching at least as far as `cutoff`.
    cutoff : float
        Å.

    Returns
    -------
    NeighbourTable

    Raises
    ------
    InputError
        Two coincident atoms; the pair is named.
    """
    starts = np.cumsum([0, *(len(atoms) for atoms in frames)]).tolist()
    first = joined([pairs.first + start for pairs, start in zip(lists, starts, strict=False)])
    second = joined([pairs.second + start for pairs, start in zip(lists, starts, strict=False)])
    translations = joined(
        [_translated(pairs.shifts, atoms.cell.array) for pairs, atoms in zip(lists, frames, strict=True)]
    )
    positions = joined([atoms.positions for atoms in frames])
    if compiled_here():
        from himlip_ase.potential.pair_search import tabulate

        *table, pair, square = tabulate(first, second, translations, positions, cutoff, PADDING_ANGSTROM)
        if square < COINCIDENT_ANGSTROM**2:
            raise _coincident(pair, first, second, square, starts)
        return NeighbourTable(*table)
    vectors = positions[second] - positions[first] + translations
    squared = np.einsum("pk,pk->p", vectors, vectors)
    if len(squared) and squared.min() < COINCIDENT_ANGSTROM**2:
        raise _coincident(int(squared.argmin()), first, second, squared.min(), starts)
    near = squared < cutoff**2
    if not near.all():
        first, second, translations = first[near], second[near], translations[near]
    return _tabulate(first, second, translations, starts[-1])


def crystal_table(atoms: Atoms, places: np.ndarray, cutoff: float) -> NeighbourTable | None:
    """The table of one structure that is periodic in three directions, at the cost of one compiled call.

    Parameters
    ----------
    atoms : Atoms
    places : ndarray (N,)
        Of the elements among those of the model, negative for unknown ones.
    cutoff : float
        Å.

    Returns
    -------
    NeighbourTable or None
        None where passes are not compiled, for other periodicities, and where something may be wrong with
        the structure.

    Raises
    ------
    InputError
        As `neighbour_table`.
    """
    if not (compiled_here() and len(atoms) and atoms.pbc.all()):
        return None
    from himlip_ase.potential.pair_search import table_of

    sound, first, second, (*table, pair, square) = table_of(
        atoms.positions, places, atoms.cell.array, atoms.pbc, cutoff, PADDING_ANGSTROM
    )
    if not sound:
        return None
    if square < COINCIDENT_ANGSTROM**2:
        raise _coincident(pair, first, second, square, [0, len(atoms)])
    return NeighbourTable(*table)


def _translated(shifts: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Translations in Å of shifts (P, 3); those of `pair_search.translated` to the bit."""
    x, y, z = shifts.T[:, :, None]
    return (x * cell[0] + y * cell[1]) + z * cell[2]


def joined(parts: list[np.ndarray]) -> np.ndarray:
    """The parts one after another; a single one as it is.

    Parameters
    ----------
    parts : list of ndarray

    Returns
    -------
    ndarray
    """
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _tabulate(
    first: np.ndarray, second: np.ndarray, translations: np.ndarray, n_atoms: int
) -> NeighbourTable:
    n_pairs = len(first)
    centre, other = np.concatenate([first, second]), np.concatenate([second, first])
    counts = np.bincount(centre, minlength=n_atoms)
    width = max(int(counts.max(initial=0)), 1)
    order = np.argsort(centre, kind="stable")
    slot = np.empty(2 * n_pairs, dtype=np.int64)
    slot[order] = np.arange(2 * n_pairs) - np.repeat(np.cumsum(counts) - counts, counts)
    place = centre * width + slot
    neighbours = np.repeat(np.arange(n_atoms), width)
    neighbours[place] = other
    reverse = np.arange(n_atoms * width)
    reverse[place[:n_pairs]], reverse[place[n_pairs:]] = place[n_pairs:], place[:n_pairs]
    mask = np.zeros(n_atoms * width, dtype=bool)
    mask[place] = True
    offsets = np.zeros((n_atoms, 3, width))
    offsets[:, 2] = PADDING_ANGSTROM
    offsets[first, :, slot[:n_pairs]] = translations
    offsets[second, :, slot[n_pairs:]] = -translations
    shape = (n_atoms, width)
    return NeighbourTable(neighbours.reshape(shape), offsets, mask.reshape(shape), reverse.reshape(shape))


def _coincident(
    pair: int, first: np.ndarray, second: np.ndarray, square: float, starts: list[int]
) -> InputError:
    start = starts[np.searchsorted(starts, first[pair], side="right") - 1]
    return InputError(
        f"atoms {first[pair] - start} and {second[pair] - start} coincide: {square**0.5:.2e} Å apart"
    )
