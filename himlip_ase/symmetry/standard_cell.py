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
    """A primitive cell whose symmetry axes lie along x, y and z, and how it differs from what came.

    Attributes
    ----------
    atoms : Atoms
        Primitive and periodic, masses kept: the cell that came where it serves, else an idealised one.
    space_group : str
        International symbol.
    number : int
        Of the space group, 1 to 230.
    operations : int
        Symmetry operations of the primitive cell: the order of the point group.
    n_given : int
        Atoms of the cell that came.
    turned : bool
        Whether the axes of the cell that came did not lie along its symmetry.
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
    """Primitive cell of a crystal in an orientation in which pw.x finds all of its symmetry.

    A primitive cell that has one already is left as it is. Otherwise cubic, tetragonal and orthorhombic axes
    lie along x, y, z; hexagonal and trigonal ones along z, with a along x; the unique axis of a monoclinic
    cell along y (spglib's standardised cell).

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
    atom_kinds = list(zip(given.numbers.tolist(), np.round(given.get_masses(), 6).tolist(), strict=True))
    kinds = sorted(set(atom_kinds))
    labels = [kinds.index(kind) + 1 for kind in atom_kinds]
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
    rotations = np.unique(np.asarray(dataset.rotations).reshape(-1, 9), axis=0).reshape(-1, 3, 3)
    primitive = len(found) == len(given)
    kept = primitive and axes_aligned(rotations, given.cell.array)
    return StandardCell(
        given if kept else standard,
        str(dataset.international),
        int(dataset.number),
        len(rotations),
        len(given),
        not kept and not axes_aligned(rotations, given.cell.array),
        0.0 if kept else _largest_change(as_given, (lattice, fractions, found)),
    )


def axes_aligned(rotations: np.ndarray, cell: np.ndarray, tolerance: float = 1e-3) -> bool:
    """Whether all rotations of a lattice are among those that pw.x tries.

    Those are the rotations of a cube whose axes are x, y and z, and those of a hexagonal prism whose axis is
    z and one of whose twofold axes is x, each with and without inversion.

    Parameters
    ----------
    rotations : ndarray (n, 3, 3) of int
        In the basis of the cell (spglib's).
    cell : ndarray (3, 3)
        Lattice vectors in rows, Å.
    tolerance : float
        For the elements of the Cartesian matrices.

    Returns
    -------
    bool
    """
    cartesian = cell.T @ rotations @ np.linalg.inv(cell.T)
    cubic = np.abs(cartesian - np.rint(cartesian)).max(axis=(1, 2)) < tolerance
    about_z = np.abs(np.abs(cartesian[:, 2]) - (0, 0, 1)).max(axis=1) < tolerance
    about_z &= np.abs(np.abs(cartesian[:, :, 2]) - (0, 0, 1)).max(axis=1) < tolerance
    cosine, sine = np.abs(cartesian[:, 0, 0]), np.abs(cartesian[:, 0, 1])
    sixth = (np.abs(cosine - 0.5) < tolerance) & (np.abs(sine - 0.75**0.5) < tolerance)
    half = (np.abs(cosine - 1) < tolerance) & (sine < tolerance)
    return bool((cubic | (about_z & (sixth | half))).all())


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
