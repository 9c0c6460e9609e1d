"""Which atom of a supercell belongs to which site of a reference lattice: any cell, order and origin."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.lattice import check_primitive
from himlip_ase.potential.lattice_translations import (
    Translations,
    near_images,
    reduced_vectors,
    translations_of,
)

LARGEST_STRAIN = 0.05
"""Stretch of the reference lattice up to which a cell is still taken for one of its supercells."""
LARGEST_ROTATION = 0.5
"""Degrees; the same of its rotation."""
SURE = 0.5
"""Root mean square displacement, in half distances of like sites, below which an origin is not doubted."""
KEPT_CELLS = 64
"""Cells whose relation to the lattice is remembered."""
TRIED_ATOMS = 8
"""Atoms that are put on every site of their element to find the origin, where it is doubted."""

ADVICE = (
    "this model is tied to its lattice; for other structures use its network alone, `load_model(…).network`"
)


@dataclass(frozen=True, eq=False)
class Placement:
    """Atoms of one structure on the sites of a reference lattice.

    Attributes
    ----------
    places : ndarray (N, 3)
        Å; where each atom's site lies, in the periodic image next to the atom.
    atoms : ndarray (cells, n) of int
        Atom at each site of each primitive cell.
    translations : Translations
        Of the structure's cell, in whose order the primitive cells stand.
    """

    places: np.ndarray
    atoms: np.ndarray
    translations: Translations


@dataclass(frozen=True, eq=False)
class LatticeSites:
    """Sites of a reference lattice.

    Parameters
    ----------
    primitive : Atoms
        Primitive cell, each atom at its site.
    holder, advice : str
        What holds for the lattice, and what to do with a structure that is none of it, for the messages.
    """

    primitive: Atoms
    holder: str = "the harmonic remainder"
    advice: str = ADVICE

    def __post_init__(self) -> None:
        object.__setattr__(self, "primitive", check_primitive(self.primitive))

    @cached_property
    def _frames(self) -> dict[tuple[bytes, bytes], _Frame]:
        """Of the last cells, by cell and elements."""
        return {}

    @cached_property
    def scaled(self) -> np.ndarray:
        """Fractional coordinates of the sites, (n, 3)."""
        return self.primitive.get_scaled_positions(wrap=False)

    @cached_property
    def _of_element(self) -> dict[int, np.ndarray]:
        """Sites of each atomic number."""
        numbers = self.primitive.numbers
        return {int(z): np.flatnonzero(numbers == z) for z in np.unique(numbers)}

    @cached_property
    def _reach(self) -> dict[int, float]:
        """Å by atomic number: within it of a site, no other site of the element is nearer."""
        cell, found = self.primitive.cell.array, {}
        for z, sites in self._of_element.items():
            apart = (self.scaled[sites][:, None] - self.scaled[sites][None]) @ cell
            lengths = np.linalg.norm(near_images(apart, reduced_vectors(cell)), axis=-1)
            found[z] = 0.5 * (1 - LARGEST_STRAIN) * float(lengths[lengths > 1e-8].min())
        return found

    @cached_property
    def _rarest(self) -> int:
        """Element of the fewest sites."""
        return min(self._of_element, key=lambda z: len(self._of_element[z]))

    @cached_property
    def _pseudo_translations(self) -> list[np.ndarray]:
        """Fractional shifts that nearly map the lattice onto itself, as in a crystal with a small distortion.

        Displacements alone do not tell such a shift from the distortion: both origins must be compared.
        """
        primitive = self.primitive
        frame = _Frame(self, primitive.numbers, primitive.cell.array, np.eye(3, dtype=np.int64))
        first, *others = self._of_element[self._rarest]
        shifts = [self.scaled[other] - self.scaled[first] for other in others]
        moved = [frame.settled(primitive.positions + t @ primitive.cell.array, np.zeros(3)) for t in shifts]
        return [t for t, found in zip(shifts, moved, strict=True) if found is not None and found[0] <= SURE]

    def supercell_vectors(self, cell: np.ndarray, n_atoms: int) -> np.ndarray:
        """A cell's vectors in units of the primitive ones, which may be strained alike.

        Parameters
        ----------
        cell : ndarray (3, 3)
            Å.
        n_atoms : int

        Returns
        -------
        ndarray (3, 3) of int

        Raises
        ------
        InputError
            It is no supercell of the lattice.
        """
        own, n = self.primitive.cell.array, len(self.primitive)
        name = self.primitive.get_chemical_formula()
        if not np.isfinite(cell).all() or abs(np.linalg.det(cell)) < 1e-6:
            raise InputError(
                f"the structure is not periodic in three directions, but {self.holder} holds for "
                f"supercells of {name}: {self.advice}"
            )
        if n_atoms % n:
            raise InputError(
                f"{n_atoms} atoms are no multiple of the {n} of the primitive cell of {name}: {self.advice}"
            )
        size = abs(np.linalg.det(cell) / np.linalg.det(own)) / (n_atoms // n)
        vectors = np.rint(cell @ np.linalg.inv(own * np.cbrt(size)))
        if round(abs(np.linalg.det(vectors))) != n_atoms // n:
            raise InputError(
                f"the cell {np.round(cell, 3).tolist()} Å of {n_atoms} atoms is no supercell of the lattice "
                f"of {name}, {np.round(own, 3).tolist()} Å, within {100 * LARGEST_STRAIN:g} % and without a "
                f"rotation: {self.advice}"
            )
        left, stretches, right = np.linalg.svd(np.linalg.inv(own) @ np.linalg.inv(vectors) @ cell)
        strain = float(np.abs(stretches - 1).max())
        if strain > LARGEST_STRAIN:
            raise InputError(
                f"the cell strains the lattice of {name} by {100 * strain:.1f} %, or is rotated against it; "
                f"{self.holder} holds up to {100 * LARGEST_STRAIN:g} % without a rotation: {self.advice}"
            )
        angle = np.degrees(np.arccos(np.clip((np.trace(left @ right) - 1) / 2, -1, 1)))
        if angle > LARGEST_ROTATION:
            raise InputError(
                f"the crystal is rotated by {angle:.1f}° against the lattice of {name}; turn it back "
                f"(atoms.set_cell(…, scale_atoms=True)), or: {self.advice}"
            )
        return np.asarray(vectors, dtype=np.int64)

    def place(self, positions: np.ndarray, numbers: np.ndarray, cell: np.ndarray) -> Placement:
        """Each atom on the nearest site of its element, in the strained lattice, wherever the origin lies.

        Parameters
        ----------
        positions : ndarray (N, 3)
            Å; any images of the atoms.
        numbers : ndarray (N,)
            Atomic numbers.
        cell : ndarray (3, 3)
            Å; NaN where there is none.

        Returns
        -------
        Placement

        Raises
        ------
        InputError
            Another crystal than that of the lattice, or atoms of which two are nearest to one site.
        """
        frame = self._frames.get(key := (cell.tobytes(), numbers.tobytes()))
        if frame is None:
            frame = self._frame(numbers, cell)
            if len(self._frames) >= KEPT_CELLS:
                self._frames.pop(next(iter(self._frames)))
            self._frames[key] = frame
        return frame.placement(positions)

    def _frame(self, numbers: np.ndarray, cell: np.ndarray) -> _Frame:
        vectors = self.supercell_vectors(cell, len(numbers))
        count = len(numbers) // len(self.primitive)
        for z in sorted({*numbers.tolist(), *self._of_element}):
            wanted, got = count * len(self._of_element.get(z, ())), int((numbers == z).sum())
            if wanted != got:
                here, there = _formula(numbers), _formula(self.primitive.numbers)
                raise InputError(f"{here} is no multiple of {there}: {self.advice}")
        return _Frame(self, numbers, np.linalg.inv(vectors) @ cell, vectors)


class _Frame:
    """Atoms of given elements in a given cell, on their way to the sites of the lattice.

    Parameters
    ----------
    sites : LatticeSites
    numbers : ndarray (N,)
    lattice : ndarray (3, 3)
        Strained primitive vectors, Å.
    vectors : ndarray (3, 3) of int
        Of the cell, in units of these.
    """

    def __init__(
        self, sites: LatticeSites, numbers: np.ndarray, lattice: np.ndarray, vectors: np.ndarray
    ) -> None:
        self.sites, self.numbers, self.lattice = sites, numbers.copy(), lattice
        self.translations = translations_of(tuple(vectors.ravel().tolist()))
        self.reduced = reduced_vectors(lattice)
        self.inverse = np.linalg.inv(lattice)
        self.reach = np.array([sites._reach[z] for z in numbers.tolist()])
        self.last: tuple[np.ndarray, np.ndarray] | None = None

    def placement(self, positions: np.ndarray) -> Placement:
        """The placement of least displacements.

        Parameters
        ----------
        positions : ndarray (N, 3)

        Returns
        -------
        Placement
        """
        others = self.sites._pseudo_translations
        if self.last is not None and not others:
            # what the search from the origin would find at once, so that results do not depend on the past
            base, atoms = self.last
            apart = positions - base
            moved = apart - apart.mean(axis=0)
            if all((self._lengths(one) < self.reach).all() for one in (apart, moved)):
                if self._size(moved) <= SURE:
                    return self._placed(positions, base, atoms)
        best = self.settled(positions, np.zeros(3))
        if best is None or best[0] > SURE:
            tried = [self.settled(positions, shift) for shift in self._shifts(positions)]
            found = [one for one in (best, *tried) if one is not None]
            best = min(found, key=lambda one: one[0], default=None)
        if best is None:
            raise InputError(self._why(positions))
        origin = (positions - best[1]).mean(axis=0)
        for translation in others:
            other = self.settled(positions, origin + translation @ self.lattice)
            if other is not None and other[0] < best[0] - 1e-9:
                best = other
        self.last = best[1:]
        return self._placed(positions, *best[1:])

    def _placed(self, positions: np.ndarray, base: np.ndarray, atoms: np.ndarray) -> Placement:
        """On sites (N, 3) of the lattice at the origin, moved to where the atoms are on average."""
        return Placement(base + (positions - base).mean(axis=0), atoms, self.translations)

    @staticmethod
    def _lengths(apart: np.ndarray) -> np.ndarray:
        return np.asarray(np.sqrt((apart * apart).sum(axis=-1)))

    def _size(self, apart: np.ndarray) -> float:
        """Root mean square of displacements, in units of half the distance of like sites."""
        return float(np.sqrt(((self._lengths(apart) / self.reach) ** 2).mean()))

    def settled(
        self, positions: np.ndarray, shift: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray] | None:
        """The atoms on their sites from a first guess of the origin on.

        Parameters
        ----------
        positions : ndarray (N, 3)
        shift : ndarray (3,)
            Å.

        Returns
        -------
        size : float
            Root mean square displacement, in units of half the distance of like sites.
        base : ndarray (N, 3)
            Sites, of the lattice at the origin.
        atoms : ndarray (cells, n) of int
            None instead of all where atoms share a site.
        """
        for _ in range(5):
            site, translation, apart = self._nearest(positions, shift)
            mean = apart.mean(axis=0)
            shift = shift + mean
            # nearest for certain, whatever the mean was
            if np.abs(mean).max() < 1e-9 or (self._lengths(apart - mean) < self.reach).all():
                break
        n = len(self.sites.primitive)
        order = self.translations.index(translation) * n + site
        atoms = np.full(len(order), -1)
        atoms[order] = np.arange(len(order))
        if (atoms < 0).any():
            return None
        base = (self.sites.scaled[site] + translation) @ self.lattice
        apart = positions - base
        return self._size(apart - apart.mean(axis=0)), base, atoms.reshape(-1, n)

    def _nearest(self, positions: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Site (N,), translation (N, 3) and displacement (N, 3) of the atoms, moved back by `shift`."""
        fractional = (positions - shift) @ self.inverse
        site = np.zeros(len(fractional), dtype=np.int64)
        translation, apart = np.zeros((len(site), 3), dtype=np.int64), np.zeros((len(site), 3))
        for z, sites in self.sites._of_element.items():
            own = np.flatnonzero(self.numbers == z)
            between = fractional[own][:, None] - self.sites.scaled[sites][None]
            vectors = (between - np.rint(between)) @ self.lattice
            lengths = np.linalg.norm(vectors, axis=-1)
            far = np.flatnonzero(lengths.min(axis=1) >= self.reach[own])
            if far.size:
                # in a skewed cell the nearest lattice vector is not always the rounded one
                images = near_images(vectors[far], self.reduced)
                closest = (images**2).sum(axis=-1).argmin(axis=-1)
                vectors[far] = np.take_along_axis(images, closest[..., None, None], axis=2)[:, :, 0]
                lengths[far] = np.linalg.norm(vectors[far], axis=-1)
            nearest = lengths.argmin(axis=1)
            rows = np.arange(len(own))
            site[own], apart[own] = sites[nearest], vectors[rows, nearest]
            whole = between[rows, nearest] - apart[own] @ self.inverse
            translation[own] = np.rint(whole).astype(np.int64)
        return site, translation, apart

    def _shifts(self, positions: np.ndarray) -> list[np.ndarray]:
        """Origins that put one atom of the rarest element on each site of it."""
        sites, z = self.sites, self.sites._rarest
        own = np.flatnonzero(self.numbers == z)
        tried = own[:: max(1, len(own) // TRIED_ATOMS)][:TRIED_ATOMS]
        return [
            positions[atom] - sites.scaled[site] @ self.lattice
            for atom in tried
            for site in sites._of_element[z]
        ]

    def _why(self, positions: np.ndarray) -> str:
        site, translation, _ = self._nearest(positions, np.zeros(3))
        order = self.translations.index(translation) * len(self.sites.primitive) + site
        values, counts = np.unique(order, return_counts=True)
        twice = int(counts.argmax())
        one, other = np.flatnonzero(order == values[twice])[:2]
        element = _formula(self.numbers[[one]])
        name = self.sites.primitive.get_chemical_formula()
        return (
            f"atoms {one} and {other} ({element}) are nearest to one site of the lattice of {name}: "
            f"displaced too far, or another crystal; {self.sites.advice}"
        )


def _formula(numbers: np.ndarray) -> str:
    return str(Atoms(numbers=numbers).get_chemical_formula())
