"""Checks of a Hessian against the atoms it is said to belong to; a refusal states the deviation."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.labels.spring_model import SpringModel
from himlip_ase.labels.stiffness import Stiffness, conversions
from himlip_ase.symmetry.spglib_search import spglib_search

ASYMMETRY_TOLERANCE = 1e-2
SUM_RULE_TOLERANCE = 0.1
SYMMETRY_TOLERANCE = 0.1
SOFTEST_CURVATURE = 0.1
"""eV/Å²; the hardest atom of anything that is bound is held at least so firmly (solid argon: 0.6)."""
HARDEST_CURVATURE = 1000.0
"""eV/Å²; no atom is held more firmly (N₂: 143)."""
SUSPICIOUS_MISFIT = 0.3
"""Share of a Hessian that springs between pairs do not give (see `spring_model`), from which another order of
the atoms or another frame of axes is tried. Right ones of hydrides, metals, molecules: 0.01 to 0.25; where
a bond breaks, to 0.4; of a molecule twisted to a crossing of its states, 0.48."""
WRONG_MISFIT = 0.55
"""The same, from which a Hessian without symmetry is refused."""
NEGATIVE_BALANCE = -0.2
"""Sum of the eigenvalues over that of their sizes, from which the sign is the other one: −0.002 where CO is
stretched beyond its inflection, below −0.9 for a molecule at rest with the other sign."""
FEWEST_JUDGED = 5
"""Atoms of the smallest structure that is refused by it: at the saddle of HNO ⇌ NOH, 0.56 is right."""
LEAST_DECAY = 1.0
"""Coupling of the near pairs over that of the far ones (see `_decay`)."""
LEAST_DECAY_OF_MOLECULES = 0.5
"""The same where bonds may break: 0.88 at the least of 2209 right Hessians of molecules and saddles."""
MOST_ATOMS = 120
"""Atoms of the largest structure whose order is looked at."""
MOST_EXCHANGES = 3000
"""Exchanges of two atoms that are tried."""
BETTER = 0.6
"""Another order or another frame is the right one if its misfit is smaller by this factor."""


def asymmetry(matrix: np.ndarray) -> float:
    """Largest |H − Hᵀ| over the largest |H|; `matrix` (N, 3, N, 3)."""
    return float(np.abs(matrix - matrix.transpose(2, 3, 0, 1)).max() / max(np.abs(matrix).max(), 1e-30))


def sum_rule_deviation(matrix: np.ndarray) -> float:
    """Largest |Σ_j H_ij| over the largest |H|: the acoustic sum rule; `matrix` (N, 3, N, 3)."""
    return float(np.abs(matrix.sum(axis=2)).max() / max(np.abs(matrix).max(), 1e-30))


def symmetry_deviation(atoms: Atoms, matrix: np.ndarray, symprec: float = 1e-3) -> tuple[float, int]:
    """How far a Hessian is from the symmetry of its atoms.

    A Hessian whose atoms are listed in another order, or whose axes are another frame's, breaks the
    translations and rotations of the crystal.

    Parameters
    ----------
    atoms : Atoms
        Periodic in three directions.
    matrix : ndarray (N, 3, N, 3)
    symprec : float
        Å, of spglib.

    Returns
    -------
    deviation : float
        Largest |R H Rᵀ − H| over these operations, over the largest |H|.
    operations : int
        Number of operations tried: one of each rotation and all translations, of which the others are made.
    """
    import spglib

    cell = atoms.cell.array
    fractional = atoms.get_scaled_positions()
    found = spglib_search(spglib.get_symmetry, (cell, fractional, atoms.numbers), symprec=symprec)
    if found is None:
        return 0.0, 1
    worst, operations = 0.0, 0
    inverse = np.linalg.inv(cell.T)
    for rotation, translation in _generators(found["rotations"], found["translations"]):
        moved = fractional @ rotation.T + translation
        delta = moved[:, None] - fractional[None]
        delta -= np.rint(delta)
        image = (np.linalg.norm(delta @ cell, axis=2)).argmin(axis=1)
        if len(set(image)) != len(atoms):
            continue
        cartesian = cell.T @ rotation @ inverse
        turned = np.einsum("ac,icjd,bd->iajb", cartesian, matrix, cartesian, optimize=True)
        worst = max(worst, float(np.abs(matrix[np.ix_(image, range(3), image, range(3))] - turned).max()))
        operations += 1
    return worst / max(np.abs(matrix).max(), 1e-30), operations


def _generators(rotations: np.ndarray, translations: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """One operation of each rotation, and every translation: a large supercell has their products too."""
    chosen, seen = [], set()
    for rotation, translation in zip(rotations, translations, strict=True):
        key = rotation.tobytes()
        if key not in seen or np.array_equal(rotation, np.eye(3)):
            chosen.append((rotation, translation))
        seen.add(key)
    return chosen


def _decay(atoms: Atoms, matrix: np.ndarray) -> float:
    """Mean block norm of the nearest fifth of pairs over that of the farthest fifth, summed over elements.

    Pairs are compared within a pair of elements, because the strong ones need not be the near ones (in PdH,
    Pd-H at 2.0 Å couples less than Pd-Pd at 2.9 Å), and only where one image counts; in molecules, only where
    the far ones are half as far again (in nitromethane, O-H at 3.1 Å couples more than O-H at 2.5 Å).
    Infinite if there are too few pairs to tell.
    """
    first, second, distances = _pairs_of_one_image(atoms)
    norms = np.linalg.norm(matrix.transpose(0, 2, 1, 3)[first, second], axis=(1, 2))
    kinds = np.sort(atoms.numbers[np.stack([first, second])], axis=0).T
    near_sum = far_sum = 0.0
    for kind in np.unique(kinds, axis=0):
        own = np.all(kinds == kind, axis=1)
        near, far = np.quantile(distances[own], [0.2, 0.8])
        if own.sum() >= 6 and far - near > (1e-3 if atoms.pbc.any() else near / 2):
            near_sum += norms[own & (distances <= near)].mean()
            far_sum += norms[own & (distances >= far)].mean()
    return near_sum / far_sum if far_sum > 0 else np.inf


def _pairs_of_one_image(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs i < j, and distance, whose second-nearest images are half again as far as the nearest."""
    first, second = np.triu_indices(len(atoms), 1)
    steps = [np.arange(-1, 2) if periodic else np.zeros(1) for periodic in atoms.pbc]
    shifts = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3) @ atoms.cell.array
    offsets = atoms.positions[second] - atoms.positions[first]
    distances = np.stack([np.linalg.norm(offsets + shift, axis=1) for shift in shifts])
    nearest, next_one = distances[0], np.full(len(offsets), np.inf)
    if len(shifts) > 1:
        nearest, next_one = np.partition(distances, 1, axis=0)[:2]
    chosen = next_one > 1.5 * nearest
    return first[chosen], second[chosen], nearest[chosen]


def check_hessian(atoms: Atoms, matrix: np.ndarray, name: str = "Hessian") -> None:
    """Refuse a Hessian that cannot belong to these atoms.

    Parameters
    ----------
    atoms : Atoms
    matrix : ndarray (N, 3, N, 3)
        eV/Å², without masses.
    name : str
        For messages.

    Raises
    ------
    InputError
        Wrong shape, non-finite elements, not symmetric (1 % of the largest element), acoustic sum rule
        violated (10 %), a sum of eigenvalues well below zero (the sign), curvatures and frequencies that
        nothing has (the unit), symmetry of the crystal violated (10 %: another order of atoms or another
        orientation), springs between pairs that fit much better with atoms in another order or with other
        axes, or, without symmetry, far pairs stronger than near ones (another order of atoms).
    """
    matrix = np.asarray(matrix)
    n = len(atoms)
    if matrix.shape != (n, 3, n, 3):
        raise InputError(f"{name}: shape {matrix.shape} for {n} atoms; need ({n}, 3, {n}, 3)")
    if not np.isfinite(matrix).all():
        bad = np.argwhere(~np.isfinite(matrix))[0]
        raise InputError(f"{name}: element {tuple(int(b) for b in bad)} is {matrix[tuple(bad)]}")
    if np.abs(matrix).max() == 0:
        raise InputError(f"{name}: every element is zero")
    deviation = asymmetry(matrix)
    if deviation > ASYMMETRY_TOLERANCE:
        raise InputError(
            f"{name}: not symmetric, largest |H - H^T| is {deviation:.2%} of the largest element "
            f"(allowed {ASYMMETRY_TOLERANCE:.0%}); is the index order (atom, direction, atom, direction)?"
        )
    deviation = sum_rule_deviation(matrix)
    if deviation > SUM_RULE_TOLERANCE:
        raise InputError(
            f"{name}: acoustic sum rule violated by {deviation:.2%} of the largest element "
            f"(allowed {SUM_RULE_TOLERANCE:.0%}); mass-weighted, incomplete or badly converged?"
        )
    _check_size(atoms, matrix, name)
    operations = 1
    if atoms.pbc.all():
        deviation, operations = symmetry_deviation(atoms, matrix)
        if deviation > SYMMETRY_TOLERANCE:
            raise InputError(
                f"{name}: breaks the symmetry of its atoms ({operations} operations) by {deviation:.2%} of "
                f"the largest element (allowed {SYMMETRY_TOLERANCE:.0%}); are the atoms in another order or "
                "the axes another frame's?"
            )
    _check_order(atoms, matrix, name, operations)
    # a crystal's symmetry has told whether the order is right
    least = LEAST_DECAY if atoms.pbc.any() else LEAST_DECAY_OF_MOLECULES
    ratio = np.inf if operations > 1 else _decay(atoms, matrix)
    if ratio < least:
        raise InputError(
            f"{name}: far pairs couple more strongly than near ones (near/far {ratio:.2f}, must exceed "
            f"{least:g}); are the atoms in another order?"
        )


def _balance(matrix: np.ndarray) -> float:
    """Sum of the eigenvalues over that of their sizes, −1 to 1."""
    values = np.linalg.eigvalsh(np.reshape(matrix, (matrix.shape[0] * 3, -1)))
    return float(values.sum() / max(np.abs(values).sum(), 1e-30))


def _check_size(atoms: Atoms, matrix: np.ndarray, name: str) -> None:
    """Sign and unit, by what holds atoms in anything that is bound."""
    n = len(atoms)
    if n < 2:
        return
    curvatures = np.einsum("iaia->i", matrix) / 3
    if curvatures.sum() <= 0 and _balance(matrix) <= NEGATIVE_BALANCE:
        raise InputError(
            f"{name}: its eigenvalues add up to {3 * curvatures.sum():.4g} eV/Å², and bound atoms have a "
            "positive sum; is it dF/dx, whose sign is the other?"
        )
    if curvatures.sum() <= 0:
        return  # beyond the inflection of a bond: says nothing of the unit
    found = Stiffness.of(atoms, matrix)
    if found is not None and not found.possible:
        units = f"is it in {conversions(found.units)}?" if found.units else "in which unit is it?"
        raise InputError(
            f"{name}: its highest frequency is {found.highest:.0f} cm⁻¹, and bonds as long as those of "
            f"{atoms.get_chemical_formula()} have about {found.bond:.0f}; {units}"
        )
    if not SOFTEST_CURVATURE <= curvatures.max() <= HARDEST_CURVATURE:
        raise InputError(
            f"{name}: the hardest atom has a curvature of {curvatures.max():.4g} eV/Å² (allowed "
            f"{SOFTEST_CURVATURE:g} to {HARDEST_CURVATURE:g}); in which unit is it?"
        )


def _check_order(atoms: Atoms, matrix: np.ndarray, name: str, operations: int) -> None:
    """Order of the atoms and axes, by how well springs between pairs of atoms give the Hessian."""
    if not 3 <= len(atoms) <= MOST_ATOMS:
        return
    springs = SpringModel(atoms)
    found = springs.misfit(matrix)
    if found < SUSPICIOUS_MISFIT:
        return
    turned = min((springs.misfit(_turned(matrix, axes)), k) for k, axes in enumerate(AXES))
    if turned[0] < BETTER * found:
        axes = AXES[turned[1]]
        raise InputError(
            f"{name}: springs between pairs of atoms leave {found:.0%} of it unexplained, and "
            f"{turned[0]:.0%} if its axes are {_axes_name(axes)} of the structure's; another frame's?"
        )
    order, best = _best_order(springs, atoms, matrix, found)
    if best < BETTER * found:
        moved = [k for k in range(len(order)) if order[k] != k]
        raise InputError(
            f"{name}: springs between pairs of atoms leave {found:.0%} of it unexplained, and {best:.0%} "
            f"with {len(moved)} atoms in another order (the first are {moved[:4]}); list the atoms of both "
            "in one order"
        )
    if operations == 1 and found > WRONG_MISFIT and len(atoms) >= FEWEST_JUDGED:
        raise InputError(
            f"{name}: springs between pairs of atoms leave {found:.0%} of it unexplained (allowed "
            f"{WRONG_MISFIT:.0%}); are the atoms in another order, or the axes another frame's?"
        )


def _turned(matrix: np.ndarray, axes: np.ndarray) -> np.ndarray:
    return np.einsum("ac,icjd,bd->iajb", axes, matrix, axes, optimize=True)


def _proper_axes() -> list[np.ndarray]:
    """The 23 turns that exchange x, y and z, without the identity."""
    found = []
    for order in permutations(range(3)):
        for signs in product((1, -1), repeat=3):
            axes = np.diag(signs)[list(order)].astype(float)
            if np.linalg.det(axes) > 0 and not np.array_equal(axes, np.eye(3)):
                found.append(axes)
    return found


AXES = _proper_axes()


def _axes_name(axes: np.ndarray) -> str:
    names = []
    for row in axes:
        place = int(np.abs(row).argmax())
        names.append(("" if row[place] > 0 else "−") + "xyz"[place])
    return ", ".join(names)


def _best_order(
    springs: SpringModel, atoms: Atoms, matrix: np.ndarray, misfit: float
) -> tuple[list[int], float]:
    """An order of the atoms in which springs fit better, by exchanging two at a time while that helps."""
    order = list(range(len(atoms)))
    best, tries = misfit, MOST_EXCHANGES
    improved = True
    while improved and tries > 0:
        improved = False
        for first in range(len(order)):
            for second in range(first + 1, len(order)):
                other = order.copy()
                other[first], other[second] = other[second], other[first]
                value = springs.misfit(matrix[np.ix_(other, range(3), other, range(3))])
                tries -= 1
                if value < best - 1e-3:
                    order, best, improved = other, value, True
                if tries <= 0:
                    return order, best
    return order, best
