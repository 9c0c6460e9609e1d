"""Structures that occur twice, whatever the order of their atoms, their place and their orientation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.labels.frames import LabelledFrame

ROUNDING = 1e-9
"""Å and eV; added to the tolerance where means are compared instead of all distances."""
ENERGY_TOLERANCE = 1e-3
"""eV; structures whose energies differ by more are not the same."""


@dataclass(frozen=True)
class Duplicate:
    """Two frames that are the same structure up to rotation, translation and order of atoms.

    Attributes
    ----------
    first, second : str
        Where they come from.
    deviation : float
        Largest difference of their sorted distances and cell lengths, Å.
    places : (int, int)
        Their indices.
    """

    first: str
    second: str
    deviation: float
    places: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        return f"{self.first} = {self.second} (within {self.deviation:.1e} Å)"


@dataclass(frozen=True)
class StructureKey:
    """What equal structures share, in a few numbers: tells most others apart without their atoms.

    Attributes
    ----------
    formula : str
    mean, rms, largest : float
        Of the sorted distances between atoms and the cell parameters (Å and degrees). Where these differ by
        at most t one by one, so do their mean, their root mean square and the largest.
    energy : float or None
        eV.
    """

    formula: str
    mean: float
    rms: float
    largest: float
    energy: float | None

    @classmethod
    def of(cls, frame: LabelledFrame) -> StructureKey:
        """Key of a frame."""
        values = _distances(frame.atoms)
        return cls(
            frame.atoms.get_chemical_formula(),
            float(values.mean()),
            float(np.sqrt(np.mean(values**2))),
            float(np.abs(values).max()),
            frame.energy,
        )

    def may_equal(self, other: StructureKey, tolerance: float) -> bool:
        """Whether both can be the same structure.

        Parameters
        ----------
        other : StructureKey
        tolerance : float
            Å.

        Returns
        -------
        bool
        """
        if self.formula != other.formula or _energies_differ(self.energy, other.energy, tolerance):
            return False
        pairs = ((self.mean, other.mean), (self.rms, other.rms), (self.largest, other.largest))
        return all(abs(a - b) <= tolerance + ROUNDING for a, b in pairs)


def find_duplicates(
    frames: Sequence[LabelledFrame],
    others: Sequence[LabelledFrame] | None = None,
    tolerance: float = 1e-4,
    keys: Sequence[StructureKey] | None = None,
    other_keys: Sequence[StructureKey] | None = None,
) -> list[Duplicate]:
    """Structures that occur twice within `frames`, or in `frames` and in `others`.

    Parameters
    ----------
    frames : sequence of LabelledFrame
        Only those are read whose keys are those of another.
    others : sequence of LabelledFrame, optional
        E.g. the validation set.
    tolerance : float
        Å; all sorted distances between atoms, the cell lengths and the labels' energies (eV) agree within it.
    keys, other_keys : sequence of StructureKey, optional
        Of `frames` and `others`, if they are known.

    Returns
    -------
    list of Duplicate
        By their places.
    """
    sides = [(frames, keys)] if others is None else [(frames, keys), (others, other_keys)]
    entries = [
        (key, side, place)
        for side, (items, known) in enumerate(sides)
        for place, key in enumerate(known if known is not None else map(StructureKey.of, items))
    ]
    # Sorted by composition and mean, which equal structures share, so that only neighbours are compared.
    entries.sort(key=lambda entry: (entry[0].formula, entry[0].mean, *entry[1:]))
    found = []
    for first, (key, side, place) in enumerate(entries):
        for key_b, side_b, place_b in entries[first + 1 :]:
            if key_b.formula != key.formula or key_b.mean > key.mean + tolerance + ROUNDING:
                break
            if (others is not None and side == side_b) or not key.may_equal(key_b, tolerance):
                continue
            (side_1, one), (side_2, two) = sorted([(side, place), (side_b, place_b)])
            frame_1, frame_2 = sides[side_1][0][one], sides[side_2][0][two]
            deviation = _deviation(frame_1, frame_2)
            if deviation <= tolerance:
                names = [f.source or f"{f.set}#{k}" for f, k in ((frame_1, one), (frame_2, two))]
                found.append(Duplicate(names[0], names[1], deviation, (one, two)))
    return sorted(found, key=lambda d: d.places)


def check_separate(
    training: Sequence[LabelledFrame],
    validation: Sequence[LabelledFrame],
    keys: Sequence[StructureKey] | None = None,
    validation_keys: Sequence[StructureKey] | None = None,
) -> None:
    """Refuse a validation set that shares structures with the training set.

    Parameters
    ----------
    training, validation : sequence of LabelledFrame
    keys, validation_keys : sequence of StructureKey, optional
        As `find_duplicates`.

    Raises
    ------
    InputError
        Naming the pairs.
    """
    shared = find_duplicates(training, validation, keys=keys, other_keys=validation_keys)
    if shared:
        raise InputError(
            f"{len(shared)} frames are in both the training and the validation labels: "
            f"{'; '.join(map(str, shared[:5]))}{' ...' if len(shared) > 5 else ''}; "
            "remove them from one of the two"
        )


def _distances(atoms: Atoms) -> np.ndarray:
    cell = atoms.cell.cellpar() if atoms.cell.rank == 3 else np.zeros(6)
    first, second = np.triu_indices(len(atoms), 1)
    distances = atoms.get_all_distances(mic=bool(atoms.pbc.any()))[first, second]
    numbers = atoms.numbers
    kinds = np.sort(numbers[[first, second]], axis=0) if len(first) else np.zeros((2, 0), dtype=int)
    order = np.lexsort((distances, kinds[1], kinds[0]))
    return np.concatenate([cell, distances[order]])


def _energies_differ(first: float | None, second: float | None, tolerance: float) -> bool:
    if first is None or second is None:
        return False
    return abs(first - second) > max(tolerance, ENERGY_TOLERANCE)


def _deviation(first: LabelledFrame, second: LabelledFrame) -> float:
    """Largest difference of distances; infinite for other numbers of atoms."""
    values = _distances(first.atoms), _distances(second.atoms)
    return float(np.abs(values[0] - values[1]).max()) if values[0].shape == values[1].shape else np.inf
