"""Whether two files are of one crystal, and how far the cell of the phonons lies from that of G(q).

An SSCHA that relaxes the cell ends with phonons of another cell than that of the ph.x run. Both are joined by
fractional coordinates: q is invariant when the cell is strained, Φ(q) is an array over atoms and directions
in energy/length², and positions keep their places in the cell. What ph.x computed, G(q) and N(E_F), is not
recalculated: the strain says how far away that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.lattice import crystal_mismatch
from himlip_ase.superconductivity import codec
from himlip_ase.superconductivity.codec import Record

if TYPE_CHECKING:
    from ase import Atoms

    from himlip_ase.phonons.force_constants import DynamicalMatrices

SAME_CELL_ANGSTROM = 1e-3
"""Cells that differ by no more are written differently, not strained."""
SAME_SITE_ANGSTROM = 0.1
"""Atoms farther apart are different sites."""
LARGEST_ROTATION = 1e-3
"""Radians: beyond it, Cartesian components of the two mean different directions."""
DEFAULT_MAX_STRAIN = 0.01
"""1 % in length, 3 % in volume: some 15 GPa in a stiff hydride, about what zero-point motion adds."""
NOT_RECALCULATED = ("electron-phonon matrices G(q)", "N(E_F)", "Fermi level and band energies")
"""What stays that of the unstrained cell."""


@dataclass(frozen=True)
class CellStrain:
    """Strain from the cell of G(q) to that of the phonons.

    Attributes
    ----------
    principal : tuple of 3 float
        Relative changes of length along the principal axes, ascending; positive is expansion.
    volume : float
        V/V₀ − 1.
    shift_angstrom : float
        Largest move of an atom within the cell.
    """

    principal: tuple[float, float, float]
    volume: float
    shift_angstrom: float

    @property
    def largest(self) -> float:
        """Largest principal strain, without sign."""
        return max(abs(value) for value in self.principal)

    def __str__(self) -> str:
        lengths = ", ".join(f"{100 * value:+.2f}" for value in self.principal)
        return (
            f"strains of {lengths} % along the principal axes, {100 * self.volume:+.2f} % in volume, atoms "
            f"moved by up to {self.shift_angstrom:.3f} Å within the cell"
        )

    @property
    def caveat(self) -> str:
        """What a reader of Tc must know."""
        return (
            f"phonons of a relaxed cell, joined to G(q) by fractional coordinates: {self}; not recalculated "
            f"for it: {', '.join(NOT_RECALCULATED)}"
        )

    def to_record(self) -> Record:
        """Plain data for JSON."""
        return {
            "principal": list(self.principal),
            "volume": self.volume,
            "largest_shift_angstrom": self.shift_angstrom,
            "not_recalculated": list(NOT_RECALCULATED),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> CellStrain:
        """What `to_record` wrote."""
        first, second, third = (float(value) for value in record["principal"])
        return cls(
            (first, second, third), float(record["volume"]), codec.number(record["largest_shift_angstrom"])
        )


def strain_between(first: Atoms, second: Atoms, name_first: str, name_second: str) -> CellStrain | None:
    """Strain that takes the cell of `first` to that of `second`; None where they are the same.

    Parameters
    ----------
    first, second : ase.Atoms
        Atoms in one order.
    name_first, name_second : str
        How a message calls them.

    Returns
    -------
    CellStrain or None
        None for cells that agree within 0.001 Å. The strain is U − 1 of the polar decomposition F = R U of
        the deformation F.

    Raises
    ------
    InputError
        Other species, an atom on another site (0.1 Å, at the cell of `first`), or a rotated cell.
    """
    reason = crystal_mismatch(first, second, np.inf, SAME_SITE_ANGSTROM)
    if reason is not None:
        raise InputError(
            f"the {name_first} and the {name_second} are of different crystals: {reason}; give files of one "
            "crystal, atoms in one order"
        )
    if np.abs(first.cell.array - second.cell.array).max() <= SAME_CELL_ANGSTROM:
        return None
    deformation = np.linalg.solve(first.cell.array, second.cell.array).T  # column vectors: a' = F a
    left, stretches, right = np.linalg.svd(deformation)
    rotation = left @ right
    angle = float(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
    if angle > LARGEST_ROTATION:
        raise InputError(
            f"the cells of the {name_first} and the {name_second} are turned against one another by "
            f"{np.degrees(angle):.2f}° beside a strain: give both in one setting and orientation"
        )
    low, middle, high = sorted(float(value) - 1 for value in stretches)
    volume = abs(float(np.linalg.det(deformation))) - 1
    shift = first.get_scaled_positions(wrap=False) - second.get_scaled_positions(wrap=False)
    moved = np.linalg.norm((shift - np.rint(shift)) @ first.cell.array, axis=1)
    return CellStrain((low, middle, high), volume, float(moved.max()))


def check_same_crystal(first: Atoms, second: Atoms, name_first: str, name_second: str) -> None:
    """Refuse two crystals that differ in species, cell (1e-3 Å) or positions (0.1 Å).

    Parameters
    ----------
    first, second : ase.Atoms
        Atoms in one order.
    name_first, name_second : str
        How the message calls them.

    Raises
    ------
    InputError
        The message names the first difference.
    """
    reason = crystal_mismatch(first, second, SAME_CELL_ANGSTROM, SAME_SITE_ANGSTROM)
    if reason is not None:
        raise InputError(
            f"the {name_first} and the {name_second} are of different crystals or pressures: {reason}; give "
            "files of one crystal, atoms in one order. Phonons of a relaxed cell are joined to G(q) by "
            "himlip_ase.superconductivity.analyse, or by bring_to_cell"
        )


def bring_to_cell(
    phonons: DynamicalMatrices, primitive: Atoms, max_strain: float = DEFAULT_MAX_STRAIN
) -> tuple[DynamicalMatrices, CellStrain | None]:
    """Phonons of a relaxed cell, expressed in the cell of G(q) by fractional coordinates.

    Fractional q, Φ(q) and masses, and with them all frequencies, stay what they are; cell and positions
    become those of `primitive`, so that G(q), harmonic matrices and phonons lie on one grid of one crystal.

    Parameters
    ----------
    phonons : DynamicalMatrices
        For example of an SSCHA with ``pressure_gpa``.
    primitive : ase.Atoms
        The crystal of the ph.x run.
    max_strain : float
        Largest principal strain allowed, relative.

    Returns
    -------
    (DynamicalMatrices, CellStrain or None)
        The phonons as given, and None, where the cells are the same.

    Raises
    ------
    InputError
        Another crystal, a rotated cell, or a strain beyond `max_strain`.
    """
    from himlip_ase.phonons.force_constants import DynamicalMatrices

    strain = strain_between(primitive, phonons.primitive, "el-ph matrices", "dynamical matrices")
    if strain is None:
        return phonons, None
    if strain.largest > max_strain:
        raise InputError(too_far(strain, max_strain))
    carried = primitive.copy()
    carried.set_masses(phonons.primitive.get_masses())
    return DynamicalMatrices(carried, phonons.dims, phonons.qpoints, phonons.matrices), strain


def too_far(strain: CellStrain, max_strain: float) -> str:
    """Why phonons of this cell are not joined to G(q), and what to do.

    Parameters
    ----------
    strain : CellStrain
    max_strain : float
        The limit that it exceeds.

    Returns
    -------
    str
    """
    return (
        f"the cell of the phonons lies too far from that of G(q): {strain}; {100 * max_strain:g} % are "
        f"allowed. "
        f"{' and '.join(NOT_RECALCULATED[:2])} would be those of another pressure: make the labels of the "
        f"relaxed "
        "cell (himlip label harmonic, with the pressure of its static lattice), or accept it with a larger "
        "limit "
        f"(--max-strain {strain.largest * 1.05:.3f}; in a run --set "
        f"tc.max_strain={strain.largest * 1.05:.3f})"
    )
