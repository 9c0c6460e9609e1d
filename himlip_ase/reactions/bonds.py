"""Which atoms are bonded, and what a reaction changes about it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

Bond = tuple[int, int]

BOND_FACTOR = 1.3
"""Two atoms are bonded up to this multiple of the sum of their covalent radii (Cordero, Dalton Trans. 2832
(2008); as in ase.data)."""


@dataclass(frozen=True)
class BondGraph:
    """Bonds of labelled atoms.

    Attributes
    ----------
    symbols : tuple of str
    bonds : frozenset of (int, int)
        Pairs i < j; atoms count from 0.
    """

    symbols: tuple[str, ...]
    bonds: frozenset[Bond]

    def changes_to(self, other: BondGraph) -> str:
        """What is formed and broken on the way to `other`: "C0–H3 breaks, H3–O1 forms"."""
        broken = [f"{self._name(bond)} breaks" for bond in sorted(self.bonds - other.bonds)]
        formed = [f"{self._name(bond)} forms" for bond in sorted(other.bonds - self.bonds)]
        return ", ".join(broken + formed) or "no bond changes"

    @property
    def fragments(self) -> list[list[int]]:
        """Atoms of each connected part, largest part first."""
        neighbours: dict[int, set[int]] = {atom: set() for atom in range(len(self.symbols))}
        for i, j in self.bonds:
            neighbours[i].add(j)
            neighbours[j].add(i)
        left, parts = set(neighbours), []
        while left:
            part, queue = set(), [min(left)]
            while queue:
                atom = queue.pop()
                if atom not in part:
                    part.add(atom)
                    queue += neighbours[atom]
            parts.append(sorted(part))
            left -= part
        return sorted(parts, key=lambda part: (-len(part), part))

    @property
    def formula(self) -> str:
        """Formulas of the parts: "H2 + CO"."""
        counts = Counter(
            Atoms([self.symbols[atom] for atom in part]).get_chemical_formula() for part in self.fragments
        )
        return " + ".join(f"{number} {name}" if number > 1 else name for name, number in counts.items())

    def _name(self, bond: Bond) -> str:
        return "–".join(f"{self.symbols[atom]}{atom}" for atom in bond)


def bond_graph(atoms: Atoms, factor: float = BOND_FACTOR) -> BondGraph:
    """Bonds from distances.

    Parameters
    ----------
    atoms : Atoms
        Periodic directions: the nearest image of each pair counts.
    factor : float
        Of the sum of the covalent radii.

    Returns
    -------
    BondGraph
    """
    distances = atoms.get_all_distances(mic=bool(atoms.pbc.any()))
    radii = covalent_radii[atoms.numbers]
    bonded = np.triu(distances < factor * (radii[:, None] + radii), 1)
    pairs = zip(*np.nonzero(bonded), strict=True)
    return BondGraph(tuple(atoms.get_chemical_symbols()), frozenset((int(i), int(j)) for i, j in pairs))
