"""Pairs of atoms, of which crude models of labels are made.

Energies that are sums over pairs (`pair_potential`) and springs between pairs (`spring_model`) are linear in
their coefficients. Neither is accurate, but a wrong unit, sign, order of atoms or frame of axes is off by far
more than they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from himlip_ase.potential.neighbours import find_pairs

CUTOFF = 6.0
"""Å."""

Kind = tuple[int, int]


@dataclass(frozen=True)
class Pairs:
    """Pairs of atoms within the cutoff, in both directions.

    Attributes
    ----------
    first, second : ndarray (P,)
    distances : ndarray (P,)
        Å.
    directions : ndarray (P, 3)
        From the first to the second.
    kinds : list of (int, int)
        Atomic numbers, ascending.
    kind : ndarray (P,)
        Place in `kinds`.
    """

    first: np.ndarray
    second: np.ndarray
    distances: np.ndarray
    directions: np.ndarray
    kinds: list[Kind]
    kind: np.ndarray

    @classmethod
    def of(cls, atoms: Atoms) -> Pairs:
        """Pairs of a structure."""
        half = find_pairs(atoms, CUTOFF)
        vectors = atoms.positions[half.second] - atoms.positions[half.first] + half.shifts @ atoms.cell.array
        first, second = (
            np.concatenate(ends) for ends in ((half.first, half.second), (half.second, half.first))
        )
        vectors = np.concatenate([vectors, -vectors])
        distances = np.linalg.norm(vectors, axis=1)
        directions = vectors / distances[:, None]
        numbers = np.sort(atoms.numbers[np.stack([first, second])], axis=0).T
        kinds, kind = np.unique(numbers, axis=0, return_inverse=True)
        return cls(
            first, second, distances, directions,
            [(int(a), int(b)) for a, b in kinds], np.ravel(kind),
        )  # fmt: skip

    def functions(self, length: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """exp(−r/length) (1 − r²/cutoff²)² and its first two derivatives by r, (P,) each."""
        r, c = self.distances, CUTOFF**2
        decay, edge = np.exp(-r / length), 1 - r**2 / c
        value, slope, bend = edge**2, -4 * r * edge / c, -4 * edge / c + 8 * r**2 / c**2
        return (
            decay * value,
            decay * (slope - value / length),
            decay * (bend - 2 * slope / length + value / length**2),
        )
