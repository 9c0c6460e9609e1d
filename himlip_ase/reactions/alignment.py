"""Two ends of a reaction brought into one frame, with their atoms in the same order."""

from __future__ import annotations

from collections import Counter

import numpy as np
from ase import Atoms
from ase.geometry import find_mic

from himlip_ase.errors import InputError


def check_ends(reactant: Atoms, product: Atoms) -> None:
    """See that two structures can be the ends of one reaction.

    Raises
    ------
    InputError
        Other elements or numbers of atoms, the same atoms in another order, another cell or other periodic
        directions, atoms on top of each other.

    Parameters
    ----------
    reactant, product : Atoms
    """
    if len(reactant) < 2:
        raise InputError(f"a reaction needs at least two atoms; the reactant has {len(reactant)}")
    for name, atoms in (("reactant", reactant), ("product", product)):
        if not np.isfinite(atoms.positions).all():
            raise InputError(f"the {name} has positions that are not finite")
    one, two = reactant.get_chemical_symbols(), product.get_chemical_symbols()
    if Counter(one) != Counter(two):
        raise InputError(
            f"reactant {reactant.get_chemical_formula()} and product {product.get_chemical_formula()} are "
            "made of different atoms; put all molecules of a side into one file"
        )
    if one != two:
        first = next(k for k, (a, b) in enumerate(zip(one, two, strict=True)) if a != b)
        raise InputError(
            f"the atoms of reactant and product stand in different order: atom {first} is {one[first]} there "
            f"and {two[first]} here. The same line must be the same atom: reorder one file, or let himlip ts "
            "--reorder (himlip_ase.reactions.reordered) find the order"
        )
    if not np.array_equal(reactant.pbc, product.pbc):
        raise InputError(
            f"pbc of the reactant is {reactant.pbc.tolist()}, of the product {product.pbc.tolist()}"
        )
    if reactant.pbc.any() and not np.allclose(reactant.cell.array, product.cell.array, atol=1e-6):
        raise InputError("reactant and product have different cells; a path needs one cell")


def aligned(atoms: Atoms, reference: Atoms) -> Atoms:
    """A structure moved as a whole, or by lattice vectors, to lie as close to another as it can.

    A molecule without constraints is translated and rotated (Kabsch, Acta Cryst. A 32, 922 (1976)), never
    reflected. A periodic structure gets the images of its atoms nearest to the reference's, and is translated
    unless constraints hold atoms. A molecule with constraints stays where it is.

    Parameters
    ----------
    atoms : Atoms
    reference : Atoms
        Its atoms in the same order.

    Returns
    -------
    Atoms
        A copy of `atoms`, moved.
    """
    moved = atoms.copy()
    if atoms.pbc.any():
        steps = find_mic(atoms.positions - reference.positions, atoms.cell, atoms.pbc)[0]
        if not (atoms.constraints or reference.constraints):
            steps = find_mic(steps - np.median(steps, axis=0), atoms.cell, atoms.pbc)[0]
        moved.set_positions(reference.positions + steps, apply_constraint=False)
    elif not (atoms.constraints or reference.constraints):
        moved.set_positions(superposed(atoms.positions, reference.positions), apply_constraint=False)
    return moved


def superposed(positions: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Positions (N, 3) rotated and translated onto others, by least squares.

    Parameters
    ----------
    positions, reference : ndarray (N, 3)
        Å.

    Returns
    -------
    ndarray (N, 3)
        Å.
    """
    centre, target = positions.mean(axis=0), reference.mean(axis=0)
    left, _, right = np.linalg.svd((positions - centre).T @ (reference - target))
    handed = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right)) or 1.0])
    return (positions - centre) @ left @ handed @ right + target


def rmsd(one: Atoms, two: Atoms) -> float:
    """Root mean square distance of the atoms after alignment, Å; atoms are taken as labelled.

    Parameters
    ----------
    one, two : Atoms

    Returns
    -------
    float
        Å.
    """
    return float(np.sqrt(((aligned(one, two).positions - two.positions) ** 2).sum(axis=1).mean()))
