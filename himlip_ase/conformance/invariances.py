"""Equivalent descriptions of one structure must give one physics."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from himlip_ase.conformance.context import Context, Definition, Skip, relative, same_physics

BOX_MARGIN = 50.0
"""Å between periodic images that must not see each other."""


def _transformed(context: Context, matrix: np.ndarray) -> float:
    """Covariance of energy, forces, stress and Hessian under an orthogonal matrix (row vectors v → v M)."""
    atoms = context.rattled
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ matrix, scale_atoms=False)
    turned.positions = atoms.positions @ matrix
    before, after = context.forces(atoms), context.forces(turned)
    energy = context.energy(atoms)
    scale = max(abs(energy), float(np.abs(before).max()))
    worst = max(
        relative(context.energy(turned) - energy, scale),
        relative(after - before @ matrix, before, 1e-3),
    )
    if atoms.pbc.all():
        try:
            stress = context.stress(atoms)
            worst = max(worst, relative(context.stress(turned) - matrix.T @ stress @ matrix, stress))
        except Skip:
            pass
    if context.has_hessian() and len(atoms) <= 16:
        block = np.kron(np.eye(len(atoms)), matrix)
        hessian = context.hessian(atoms)
        worst = max(worst, relative(context.hessian(turned) - block.T @ hessian @ block, hessian))
    return worst


def rotation(context: Context) -> float:
    """A random rotation of atoms and cell."""
    return _transformed(context, Rotation.random(rng=context.rng("rotation")).as_matrix())


def inversion(context: Context) -> float:
    """Inversion of atoms and cell; the cell becomes left-handed."""
    return _transformed(context, -np.eye(3))


def translation(context: Context) -> float:
    """A shift of all atoms, without wrapping them back."""
    moved = context.rattled.copy()
    moved.positions += context.rng("translation").normal(scale=7.0, size=3)
    return same_physics(context, context.rattled, moved)


def permutation(context: Context) -> float:
    """Another order of the atoms."""
    order = context.rng("permutation").permutation(len(context.rattled))
    if np.array_equal(order, np.arange(len(order))):
        order = order[::-1]
    return same_physics(context, context.rattled, context.rattled[order], order)


def images(context: Context) -> float:
    """Every atom moved by lattice vectors of its own, up to a dozen cells away."""
    atoms = context.rattled
    if not atoms.pbc.any():
        raise Skip("the structure is not periodic")
    shifts = context.rng("images").integers(-12, 13, size=(len(atoms), 3)) * atoms.pbc
    moved = atoms.copy()
    moved.positions += shifts @ atoms.cell.array
    return same_physics(context, atoms, moved)


def cell_choice(context: Context) -> float:
    """Other vectors of the same lattice: two exchanged (left-handed), and a skewed set."""
    atoms = context.crystal
    worst = 0.0
    for matrix in ([[0, 1, 0], [1, 0, 0], [0, 0, 1]], [[1, 1, 0], [0, 1, 0], [1, 0, 1]]):
        other = atoms.copy()
        other.set_cell(np.array(matrix) @ atoms.cell.array, scale_atoms=False)
        worst = max(worst, same_physics(context, atoms, other))
    return worst


def supercell(context: Context) -> tuple[float, str]:
    """Energy of a supercell over that of its cell, their forces and stresses."""
    atoms = context.crystal
    repeats = (2, 2, 2) if len(atoms) <= 16 else (2, 1, 1)
    large = atoms.repeat(repeats)
    count = len(large) // len(atoms)
    energy, forces = context.energy(atoms), context.forces(atoms)
    scale = max(abs(energy), float(np.abs(forces).max()))
    worst = max(
        relative(context.energy(large) / count - energy, scale),
        relative(context.forces(large) - np.tile(forces, (count, 1)), forces, 1e-3),
    )
    try:
        stress = context.stress(atoms)
        worst = max(worst, relative(context.stress(large) - stress, stress))
    except Skip:
        pass
    note = ""
    if context.cutoff is not None:
        heights = abs(atoms.cell.volume) / np.linalg.norm(np.cross(*_other_two(atoms.cell.array)), axis=1)
        note = "cell smaller than the cutoff" if heights.min() < context.cutoff else ""
    return worst, note


def _other_two(cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.roll(cell, -1, axis=0), np.roll(cell, -2, axis=0)


def slab(context: Context) -> float:
    """A layer periodic in two directions against the same with a wide vacuum and three."""
    crystal = context.crystal
    a, b, _ = crystal.cell.array
    normal = np.cross(a, b)
    normal /= np.linalg.norm(normal)
    height = np.ptp(crystal.positions @ normal) + BOX_MARGIN
    layer = crystal.copy()
    layer.set_pbc([True, True, False])
    boxed = crystal.copy()
    boxed.set_cell([a, b, height * normal], scale_atoms=False)
    return same_physics(context, boxed, layer)


def molecule(context: Context) -> float:
    """The atoms without periodicity against the same in a wide periodic box."""
    free = context.cluster()
    boxed = free.copy()
    boxed.set_cell(np.diag(np.ptp(free.positions, axis=0) + BOX_MARGIN))
    boxed.set_pbc(True)
    return same_physics(context, boxed, free)


def fragments(context: Context) -> float:
    """Two distant copies of a cluster have twice its energy and its forces."""
    one = context.cluster()
    far = one.copy()
    far.positions += [2 * BOX_MARGIN + np.ptp(one.positions), 0, 0]
    both = one + far
    energy, forces = context.energy(one), context.forces(one)
    return max(
        relative(context.energy(both) / 2 - energy, energy, forces),
        relative(context.forces(both) - np.tile(forces, (2, 1)), forces, 1e-3),
    )


def isolated_atom(context: Context) -> float:
    """No force on a single atom of any element, and a finite energy."""
    worst = 0.0
    for symbol in context.elements:
        atom = Atoms(symbol)
        worst = max(worst, relative([*context.forces(atom).ravel(), 0.0 * context.energy(atom)], 1.0))
    return worst


CHECKS = (
    Definition("rotation", "invariance", rotation),
    Definition("inversion", "invariance", inversion),
    Definition("translation", "invariance", translation),
    Definition("permutation of atoms", "invariance", permutation),
    Definition("choice of periodic images", "invariance", images),
    Definition("choice of cell vectors", "invariance", cell_choice),
    Definition("supercell is extensive", "invariance", supercell),
    Definition("slab with mixed periodicity", "invariance", slab),
    Definition("molecule without a cell", "invariance", molecule),
    Definition("distant fragments add up", "invariance", fragments),
    Definition("isolated atom has no force", "invariance", isolated_atom),
)
