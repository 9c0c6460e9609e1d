"""Point groups of molecules, crystallographic or not, as rotations and permutations of the atoms."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

from himlip_ase.errors import InputError
from himlip_ase.symmetry.operations import SYMPREC, Operations, identity_operation

_COLLINEAR = 1e-3
_SAME_OPERATION = 0.02


@dataclass(frozen=True, eq=False)
class _Molecule:
    """Positions from the centre, and the set of equal atoms at equal distance that each atom belongs to."""

    positions: np.ndarray
    shells: np.ndarray
    tree: cKDTree
    tolerance: float

    def match(self, rotation: np.ndarray) -> np.ndarray | None:
        """Permutation of the atoms by an operation, or None where it is no symmetry."""
        distances, targets = self.tree.query(self.positions @ rotation.T)
        if distances.max() > self.tolerance or np.any(self.shells[targets] != self.shells):
            return None
        return targets if len(np.unique(targets)) == len(targets) else None


def point_group_operations(atoms: Atoms, tolerance: float = SYMPREC) -> Operations:
    """Every rotation, reflection and rotary reflection that maps a molecule onto itself.

    Two atoms that are not in line with the centre fix an operation up to a reflection by where they go: all
    pairs of equal atoms at equal distances are tried. Linear molecules, whose group is infinite, get its
    subgroup with a fourfold axis, which makes their Hessian just as well.

    Parameters
    ----------
    atoms : Atoms
        Elements and positions decide; masses, charges and tags do not. The centre is that of the positions.
        A structure that is periodic in some directions only has no operation but the identity here.
    tolerance : float
        Å; largest distance between a carried atom and the atom that it is identified with.

    Returns
    -------
    Operations
        With one cell.

    Raises
    ------
    InputError
        No atoms, a non-finite position, or a tolerance that is not positive.
    """
    if len(atoms) == 0:
        raise InputError("the molecule has no atoms")
    if not tolerance > 0:
        raise InputError(f"the tolerance must be positive (Å); got {tolerance}")
    if not np.isfinite(atoms.positions).all():
        bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
        raise InputError(f"the position of atom {bad[0]} is not finite: {atoms.positions[bad[0]]}")
    if atoms.pbc.any() or len(atoms) == 1:
        return identity_operation(len(atoms))
    positions = atoms.positions - atoms.positions.mean(axis=0)
    molecule = _Molecule(
        positions, _shells(positions, atoms.numbers, tolerance), cKDTree(positions), tolerance
    )
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for candidate in _candidates(molecule):
        permutation = molecule.match(candidate)
        if permutation is None:
            continue
        rotation = _aligned(positions, positions[permutation], candidate)
        if all(np.abs(rotation - known).max() > _SAME_OPERATION for known, _ in found):
            found.append((rotation, permutation))
    rotations = np.array([rotation for rotation, _ in found])
    permutations = np.array([permutation for _, permutation in found])
    if not _is_group(rotations):
        # the tolerance lies between the deviations of some operations and of their products
        return identity_operation(len(atoms))
    carried = positions @ rotations.swapaxes(1, 2)
    deviation = float(np.linalg.norm(carried - positions[permutations], axis=2).max())
    return Operations(rotations, permutations, np.arange(len(atoms))[None], deviation)


def is_linear(atoms: Atoms, tolerance: float = 1e-4) -> bool:
    """Whether all atoms lie within `tolerance` (Å) of one line; false for a single atom.

    Parameters
    ----------
    atoms : Atoms
    tolerance : float
        Å, from the line.

    Returns
    -------
    bool
    """
    positions = atoms.positions - atoms.positions.mean(axis=0)
    return len(atoms) > 1 and _axis(positions, tolerance) is not None


def rotational_symmetry_number(atoms: Atoms, tolerance: float = 1e-3) -> int:
    """Number of proper rotations that map a molecule onto itself (σ of the rotational partition function).

    1 or 2 for a linear molecule, without or with a centre of inversion; 1 for an atom. Isotopes count as
    different atoms here.

    Parameters
    ----------
    atoms : Atoms
    tolerance : float
        Å; wider than for derivatives, because a relaxed molecule is symmetric to its force tolerance only.

    Returns
    -------
    int
    """
    masses = atoms.get_masses()
    operations = point_group_operations(atoms, tolerance)
    kept = (np.abs(masses[operations.permutations] - masses) < 1e-6).all(axis=1)
    rotations = operations.rotations[kept]
    if is_linear(atoms, tolerance):
        moved = operations.permutations[kept] != np.arange(len(atoms))
        return 2 if moved.any() else 1
    return int((np.linalg.det(rotations) > 0).sum())


def _shells(positions: np.ndarray, numbers: np.ndarray, tolerance: float) -> np.ndarray:
    """Number of the set of equal atoms at equal distance from the centre, for each atom."""
    radii = np.linalg.norm(positions, axis=1)
    order = np.lexsort((radii, numbers))
    new = np.diff(numbers[order], prepend=-1) != 0
    new |= np.diff(radii[order], prepend=0.0) > 2 * tolerance
    shells = np.empty(len(positions), dtype=int)
    shells[order] = np.cumsum(new)
    return shells


def _axis(positions: np.ndarray, tolerance: float) -> np.ndarray | None:
    """Unit vector along a linear molecule, None where it is not linear."""
    axis = np.linalg.svd(positions, full_matrices=False)[2][0]
    off = positions - np.outer(positions @ axis, axis)
    return axis if np.linalg.norm(off, axis=1).max() <= tolerance else None


def _candidates(molecule: _Molecule) -> list[np.ndarray]:
    """Orthogonal matrices among which every symmetry operation is."""
    positions, tolerance = molecule.positions, molecule.tolerance
    axis = _axis(positions, tolerance)
    if axis is not None:
        return _axial(axis)
    first, second = _reference_pair(molecule)
    frame = _frame(positions[first], positions[second])
    assert frame is not None
    overlap = positions[first] @ positions[second]
    slack = 4 * tolerance * max(np.linalg.norm(positions[[first, second]], axis=1).max(), 1.0)
    matrices = []
    shell = [np.flatnonzero(molecule.shells == molecule.shells[atom]) for atom in (first, second)]
    for one, two in itertools.product(*shell):
        if one == two or abs(positions[one] @ positions[two] - overlap) > slack:
            continue
        image = _frame(positions[one], positions[two])
        if image is not None:
            matrices += [image.T @ np.diag([1.0, 1.0, sign]) @ frame for sign in (1.0, -1.0)]
    return matrices


def _axial(axis: np.ndarray) -> list[np.ndarray]:
    """Operations of D4h about an axis: those of D∞h that the Hessian of a linear molecule can tell apart."""
    one = np.cross(axis, np.eye(3)[np.abs(axis).argmin()])
    frame = np.array([one / np.linalg.norm(one), np.cross(axis, one / np.linalg.norm(one)), axis])
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    return [
        frame.T @ np.linalg.matrix_power(quarter, turns) @ np.diag([mirror, 1.0, flip]) @ frame
        for turns in range(4)
        for mirror in (1.0, -1.0)
        for flip in (1.0, -1.0)
    ]


def _reference_pair(molecule: _Molecule) -> tuple[int, int]:
    """Two atoms not in line with the centre whose shells make the fewest pairs."""
    size = np.bincount(molecule.shells)[molecule.shells]
    radii = np.linalg.norm(molecule.positions, axis=1)
    usable = np.flatnonzero(radii > max(0.1, 10 * molecule.tolerance))
    order = usable[np.lexsort((-radii[usable], size[usable]))]
    # the best few of each shell are enough, since a shell's atoms are alike
    best: tuple[int, int] | None = None
    fewest = np.inf
    for first in order:
        if size[first] > fewest:
            break
        for second in order:
            pairs = size[first] * size[second]
            if pairs >= fewest or second == first:
                continue
            if _frame(molecule.positions[first], molecule.positions[second]) is not None:
                best, fewest = (int(first), int(second)), pairs
                break
    if best is None:
        raise InputError("two atoms of the molecule lie too close together for a symmetry to be found")
    return best


def _frame(one: np.ndarray, two: np.ndarray) -> np.ndarray | None:
    """Right-handed orthonormal rows from two vectors; None where they are nearly in line."""
    first = one / np.linalg.norm(one)
    second = two - (two @ first) * first
    length = np.linalg.norm(second)
    if length < max(_COLLINEAR, 0.05 * float(np.linalg.norm(two))):
        return None
    second = second / length
    return np.array([first, second, np.cross(first, second)])


def _aligned(positions: np.ndarray, images: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """The orthogonal matrix that best carries positions to images, of the candidate's handedness (Kabsch).

    Directions in which the molecule has no extent follow the candidate.
    """
    covariance = images.T @ positions
    weight = 1e-6 * np.linalg.norm(covariance)
    left, _, right = np.linalg.svd(covariance + weight * candidate)
    return left @ right


def _is_group(rotations: np.ndarray) -> bool:
    """Whether the operations are closed under multiplication."""
    products = np.einsum("aij,bjk->abik", rotations, rotations).reshape(-1, 9)
    known = cKDTree(rotations.reshape(len(rotations), 9))
    return bool(known.query(products)[0].max() < _SAME_OPERATION)
