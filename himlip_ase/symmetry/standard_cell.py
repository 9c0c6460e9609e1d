"""The primitive cell of a crystal, turned so that the axes of its symmetries lie along x, y and z.

Plane-wave codes look for rotations among fixed Cartesian matrices (pw.x: the 24 of the cube and those of a
hexagon in the xy plane, `PW/src/symm_base.f90`), and miss the others: of a face-centred cubic cell whose
first vector lies along x, as a CIF of the primitive cell gives it, 12 of 48.  Nothing is wrong then, but 2
to 5 times the k-points are computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import spglib
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.lattice import check_primitive
from himlip_ase.symmetry.spglib_search import spglib_search

SYMPREC_ANGSTROM = 1e-3
"""How far an atom may lie from its symmetric place; CIF files carry four or five digits."""


@dataclass(frozen=True)
class StandardCell:
    """A primitive cell in the orientation of the International Tables, and how it differs from what came.

    Attributes
    ----------
    atoms : Atoms
        Primitive, idealised, periodic; masses kept.
    space_group : str
        International symbol.
    number : int
        Of the space group, 1 to 230.
    operations : int
        Symmetry operations of the primitive cell: the order of the point group.
    n_given : int
        Atoms of the cell that came.
    turned : bool
        Whether the lattice vectors differ from those that came by more than `SYMPREC_ANGSTROM`.
    moved : float
        Largest change of a lattice parameter or of a distance between atoms that idealising made, Å.
    """

    atoms: Atoms
    space_group: str
    number: int
    operations: int
    n_given: int
    turned: bool
    moved: float

    def __str__(self) -> str:
        """One line for a log: space group, operations, atoms, and what was done to the cell."""
        done = []
        if self.n_given != len(self.atoms):
            done.append(f"made primitive ({self.n_given} → {len(self.atoms)} atoms)")
        if self.turned:
            done.append("axes turned along the symmetry")
        change = f"; {', '.join(done)}" if done else ""
        return f"{self.space_group} (no. {self.number}), {self.operations} operations{change}"


def standard_cell(atoms: Atoms, symprec: float = SYMPREC_ANGSTROM) -> StandardCell:
    """Primitive cell of a crystal in its standard orientation.

    Cubic, tetragonal and orthorhombic axes lie along x, y, z; hexagonal and trigonal ones along z, with a
    along x; the unique axis of a monoclinic cell along y (spglib's standardised cell).

    Parameters
    ----------
    atoms : Atoms
        Periodic in three directions. Atoms of one element with different masses are of different kinds.
    symprec : float
        Å.

    Returns
    -------
    StandardCell

    Raises
    ------
    InputError
        No crystal (see `himlip_ase.lattice.check_primitive`), or no symmetry is found: atoms that coincide.
    """
    given = check_primitive(atoms)
    kinds = sorted(set(zip(given.numbers.tolist(), np.round(given.get_masses(), 6).tolist(), strict=True)))
    of_kind = {kind: index + 1 for index, kind in enumerate(kinds)}
    labels = [
        of_kind[kind]
        for kind in zip(given.numbers.tolist(), np.round(given.get_masses(), 6).tolist(), strict=True)
    ]
    cell = (given.cell.array, given.get_scaled_positions(), labels)
    dataset = _found(spglib_search(spglib.get_symmetry_dataset, cell, symprec=symprec), symprec)
    as_given = _found(spglib_search(spglib.standardize_cell, cell, True, True, symprec=symprec), symprec)
    lattice, fractions, found = _found(
        spglib_search(spglib.standardize_cell, cell, True, False, symprec=symprec), symprec
    )
    chosen = [kinds[label - 1] for label in found]
    standard = Atoms(
        [number for number, _ in chosen],
        scaled_positions=fractions,
        cell=lattice,
        masses=[mass for _, mass in chosen],
        pbc=True,
    )
    rotations = {tuple(rotation.ravel()) for rotation in np.asarray(dataset.rotations)}
    turned = lattice.shape != given.cell.array.shape or not np.allclose(
        lattice, given.cell.array, rtol=0, atol=symprec
    )
    return StandardCell(
        standard,
        str(dataset.international),
        int(dataset.number),
        len(rotations),
        len(given),
        bool(turned),
        _largest_change(as_given, (lattice, fractions, found)),
    )


def _found(result: Any, symprec: float) -> Any:
    """What spglib gave, or an explained error where it gave None."""
    if result is None:
        raise InputError(
            f"spglib finds no space group within {symprec:g} Å: two atoms may coincide, or the cell is badly "
            "skewed; look at the structure with `ase gui`"
        )
    return result


def _largest_change(before: tuple, after: tuple) -> float:
    """Largest change, by idealising, of the length of a lattice vector or of the place of an atom, Å."""
    (lattice, fractions, _), (ideal, ideal_fractions, _) = before, after
    lengths = np.abs(np.linalg.norm(lattice, axis=1) - np.linalg.norm(ideal, axis=1))
    shifts = np.asarray(ideal_fractions) - np.asarray(fractions)
    shifts -= shifts[0]
    shifts = (shifts - np.rint(shifts)) @ ideal
    return float(max(lengths.max(), np.linalg.norm(shifts - shifts.mean(axis=0), axis=1).max()))
