"""The stiffness of a Hessian beside that of bonds as long as its structure's: in which unit it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from himlip_ase.labels.pairs import Pairs
from himlip_ase.units import (
    AVOGADRO_PER_MOL,
    BOHR_ANGSTROM,
    CALORIE_JOULE,
    EV_JOULE,
    HARTREE_EV,
    signed_frequencies_cm,
)

NEWTON_PER_METRE = EV_JOULE * 1e20
KJ_PER_MOL = EV_JOULE * AVOGADRO_PER_MOL / 1000
HESSIAN_UNITS = {
    "N/m": NEWTON_PER_METRE,
    "kcal/mol/Å²": KJ_PER_MOL / CALORIE_JOULE,
    "kJ/mol/Å²": KJ_PER_MOL,
    "kJ/mol/nm²": 100 * KJ_PER_MOL,
    "Ha/bohr²": BOHR_ANGSTROM**2 / HARTREE_EV,
    "Ry/bohr²": 2 * BOHR_ANGSTROM**2 / HARTREE_EV,
    "Ha/Å²": 1 / HARTREE_EV,
    "Ry/Å²": 2 / HARTREE_EV,
}
"""What a Hessian may be in instead of eV/Å², and how many of them are one eV/Å²."""
HARDEST = 8.0
"""No structure has a larger stiffness. Found in DFT and GFN2-xTB: 0.2 (PdH) to 1.9 (rattled CO₂); PdH by EMT,
whose hydrogen is far too stiff and whose unit is right, has 6.7."""
SOFTEST = 0.05
"""None has a smaller one (PdH 0.22, metals 0.5 to 1.1)."""
SOFTEST_BONDED = 0.15
"""None with a bond between two non-metals (stretched N₂ and rattled H₂O₂ 0.59, H3S at 150 GPa 0.62)."""
BOND_LENGTH = 1.15
"""Sums of covalent radii up to which two non-metals are bonded."""
NON_METALS = (1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 32, 33, 34, 35, 52, 53)
SLOPE, OFFSET = 0.78, -0.46
"""d = 0.78 (R₁ + R₂) − 0.46 Å: Badger's d_ij of the first three rows by covalent radii, within 0.05 Å."""
BADGER = 186.0
"""N/m Å³: k = 1.86e5 dyn/cm / (r − d)³; R. M. Badger, J. Chem. Phys. 2, 128 (1934); 3, 710 (1935)."""
SHORTEST, SHORTEST_OF_METALS = 0.3, 0.5
"""Å; least r − d."""


@dataclass(frozen=True)
class Stiffness:
    """The highest frequency of a Hessian squared, over that of the stiffest bond that its distances allow.

    Attributes
    ----------
    value : float
        0.2 to 1.9 in hydrides, metals, salts and molecules.
    highest : float
        Its highest frequency, cm⁻¹.
    bond : float
        That of the stiffest pair of atoms by Badger's rule, cm⁻¹.
    least : float
        Smallest `value` that such a structure can have.
    """

    value: float
    highest: float
    bond: float
    least: float

    @classmethod
    def of(cls, atoms: Atoms, matrix: np.ndarray) -> Stiffness | None:
        """Of a Hessian (N, 3, N, 3) taken to be in eV/Å²; None if no two atoms are near.

        Parameters
        ----------
        atoms : Atoms
        matrix : ndarray (N, 3, N, 3)

        Returns
        -------
        Stiffness or None
        """
        pairs, masses, n = Pairs.of(atoms), atoms.get_masses(), len(atoms)
        if not len(pairs.kind):
            return None
        radii = covalent_radii[atoms.numbers]
        sums = radii[pairs.first] + radii[pairs.second]
        covalent = np.isin(atoms.numbers, NON_METALS)
        covalent = covalent[pairs.first] & covalent[pairs.second]
        gap = np.maximum(
            pairs.distances - SLOPE * sums - OFFSET, np.where(covalent, SHORTEST, SHORTEST_OF_METALS)
        )
        springs = BADGER / gap**3 / NEWTON_PER_METRE
        reduced = masses[pairs.first] * masses[pairs.second] / (masses[pairs.first] + masses[pairs.second])
        bond = signed_frequencies_cm(np.array([(springs / reduced).max()]))[0]
        roots = np.sqrt(np.repeat(masses, 3))
        weighted = matrix.reshape(3 * n, 3 * n) / roots / roots[:, None]
        highest = signed_frequencies_cm(np.linalg.eigvalsh((weighted + weighted.T) / 2)[-1:])[0]
        bonded = bool(np.any(covalent & (pairs.distances < BOND_LENGTH * sums)))
        return cls(
            float(np.sign(highest) * (highest / bond) ** 2), float(highest), float(bond),
            SOFTEST_BONDED if bonded else SOFTEST,
        )  # fmt: skip

    @property
    def possible(self) -> bool:
        """Whether anything is so stiff."""
        return self.least <= self.value <= HARDEST

    @property
    def units(self) -> list[str]:
        """Other units in which the same numbers would be possible; the likeliest first."""
        values = {name: self.value / size for name, size in HESSIAN_UNITS.items()}
        fits = [name for name, value in values.items() if self.least <= value <= HARDEST]
        return sorted(fits, key=lambda name: abs(np.log(values[name])))


def conversions(units: list[str]) -> str:
    """For messages: the units, each with the factor that gives eV/Å².

    Parameters
    ----------
    units : list of str
        Of `HESSIAN_UNITS`.

    Returns
    -------
    str
    """
    return ", ".join(f"{name} (× {1 / HESSIAN_UNITS[name]:.5g} gives eV/Å²)" for name in units)
