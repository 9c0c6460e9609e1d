"""Checks of labels before anything is trained on them; every refusal states the deviation."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.evaluation import matrix_from_voigt
from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.symmetry.spglib_search import spglib_search
from himlip_ase.units import EV_PER_ANGSTROM3_GPA

logger = logging.getLogger(__name__)

ASYMMETRY_TOLERANCE = 1e-2
SUM_RULE_TOLERANCE = 0.1
SYMMETRY_TOLERANCE = 0.1
LARGEST_STRESS = 20.0
"""eV/Å³; 3200 GPa. Anything larger is taken for GPa or kbar."""
LARGEST_TENSION = 0.1
"""eV/Å³; 16 GPa. A crystal that pulls harder on average is taken for a stress of the wrong sign."""


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
        violated (10 %), symmetry of the crystal violated (10 %: another order of atoms or another
        orientation), or, without symmetry, far pairs stronger than near ones (another order of atoms).
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
    operations = 1
    if atoms.pbc.all():
        deviation, operations = symmetry_deviation(atoms, matrix)
        if deviation > SYMMETRY_TOLERANCE:
            raise InputError(
                f"{name}: breaks the symmetry of its atoms ({operations} operations) by {deviation:.2%} of "
                f"the largest element (allowed {SYMMETRY_TOLERANCE:.0%}); are the atoms in another order or "
                "the axes another frame's?"
            )
    # A crystal's symmetry has told whether the order is right; its strongest pairs need not be the nearest.
    ratio = _decay(atoms, matrix) if operations == 1 else np.inf
    if ratio < 1.0:
        raise InputError(
            f"{name}: far pairs couple more strongly than near ones (near/far {ratio:.2f}, must exceed 1); "
            "are the atoms in another order?"
        )


def check_frames(frames: Iterable[LabelledFrame]) -> None:
    """Refuse labels that are non-finite or in the wrong unit or sign.

    Stresses are compared with :data:`LARGEST_STRESS` and :data:`LARGEST_TENSION`, and, where frames differ by
    a strain alone, with the change of the energy: ΔE must equal V σ : ε.

    Raises
    ------
    InputError
        With the frame, the number and what it should be.
    """
    checks = FrameChecks()
    for frame in frames:
        checks.add(frame)
    checks.finish()


class FrameChecks:
    """`check_frames` on frames that come one at a time and need not be kept."""

    def __init__(self) -> None:
        self._tension: list[float] = []
        self._last: dict[bytes, LabelledFrame] = {}
        self._work: list[float] = []
        self._change: list[float] = []

    def add(self, frame: LabelledFrame) -> None:
        """Check what one frame alone can tell."""
        name = frame.source or frame.set
        for label, value in (("energy", frame.energy), ("forces", frame.forces), ("stress", frame.stress)):
            if value is not None and not np.isfinite(value).all():
                raise InputError(f"{name}: {label} contains {np.asarray(value)!r}")
        if frame.hessian is not None:
            check_hessian(frame.hessian.atoms, frame.hessian.matrix, frame.hessian.name)
        if frame.stress is None:
            return
        largest = np.abs(frame.stress).max()
        if largest > LARGEST_STRESS:
            raise InputError(
                f"{name}: stress component of {largest:.4g} eV/Å³ = "
                f"{largest * EV_PER_ANGSTROM3_GPA:.3g} GPa; is it in GPa (× {1 / EV_PER_ANGSTROM3_GPA:.7f} "
                f"gives eV/Å³) or kbar (× {0.1 / EV_PER_ANGSTROM3_GPA:.8f})?"
            )
        self._tension.append(float(np.sum(frame.stress[:3]) / 3))
        if frame.energy is not None and frame.atoms.cell.rank == 3:
            key = frame.atoms.numbers.tobytes()
            if key in self._last:
                self._compare(self._last[key], frame)
            self._last[key] = frame

    def _compare(self, first: LabelledFrame, second: LabelledFrame) -> None:
        """ΔE and V σ : ε of two frames that differ by a small strain alone."""
        delta = first.atoms.get_scaled_positions() - second.atoms.get_scaled_positions()
        delta -= np.rint(delta)
        deformation = np.linalg.solve(first.atoms.cell.array, second.atoms.cell.array)
        strain = (deformation + deformation.T) / 2 - np.eye(3)
        if np.abs(delta).max() > 1e-5 or not 1e-4 < np.abs(strain).max() < 0.06:
            return
        total = 0.0
        for frame in (first, second):
            sigma = matrix_from_voigt(frame.stress)  # type: ignore[arg-type]
            total += 0.5 * frame.atoms.get_volume() * float(np.sum(sigma * strain))
        self._work.append(total)
        self._change.append(float(second.energy - first.energy))  # type: ignore[operator]

    def finish(self) -> None:
        """Check what all frames together tell."""
        w, c = np.array(self._work), np.array(self._change)
        if w.size and np.abs(c).max() >= 1e-3:
            slope = float(w @ c / (c @ c))
            if not 0.5 < slope < 2.0:
                raise InputError(
                    f"stress: the work V σ:ε between {len(w) + 1} strained frames is {slope:.4g} times the "
                    "change of energy (must be near 1; -1 means the wrong sign, 160.2 GPa, 1602 kbar)"
                )
        tension = float(np.median(self._tension)) if self._tension else 0.0
        if tension > LARGEST_TENSION:
            raise InputError(
                f"stress: the median frame is pulled by {tension:.3g} eV/Å³ "
                f"({tension * EV_PER_ANGSTROM3_GPA:.3g} GPa); ASE's stress is positive in tension "
                "and negative under pressure: is the sign wrong?"
            )


@dataclass(frozen=True)
class Duplicate:
    """Two frames that are the same structure up to rotation, translation and order of atoms."""

    first: str
    second: str
    deviation: float
    places: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        return f"{self.first} = {self.second} (within {self.deviation:.1e} Å)"


def _fingerprint(atoms: Atoms) -> np.ndarray:
    cell = atoms.cell.cellpar() if atoms.cell.rank == 3 else np.zeros(6)
    first, second = np.triu_indices(len(atoms), 1)
    distances = atoms.get_all_distances(mic=bool(atoms.pbc.any()))[first, second]
    numbers = atoms.numbers
    kinds = np.sort(numbers[[first, second]], axis=0) if len(first) else np.zeros((2, 0), dtype=int)
    order = np.lexsort((distances, kinds[1], kinds[0]))
    return np.concatenate([cell, distances[order]])


def find_duplicates(
    frames: Sequence[LabelledFrame], others: Sequence[LabelledFrame] | None = None, tolerance: float = 1e-4
) -> list[Duplicate]:
    """Structures that occur twice within `frames`, or in `frames` and in `others`.

    Parameters
    ----------
    frames : sequence of LabelledFrame
    others : sequence of LabelledFrame, optional
        E.g. the validation set.
    tolerance : float
        Å; all sorted distances between atoms, the cell lengths and the labels' energies (eV) agree within it.

    Returns
    -------
    list of Duplicate
    """
    # Sorted by composition and mean distance, which equal structures share, so that only neighbours are
    # compared, and only two fingerprints are held at a time.
    both = [(frames, 0)] if others is None else [(frames, 0), (others, 1)]
    keys = sorted(
        (frame.atoms.get_chemical_formula(), float(_fingerprint(frame.atoms).mean()), side, k)
        for items, side in both
        for k, frame in enumerate(items)
    )
    found = []
    for place, (formula, mean, side, k) in enumerate(keys):
        for formula_b, mean_b, side_b, k_b in keys[place + 1 :]:
            if formula_b != formula or mean_b > mean + tolerance:
                break
            if others is not None and side == side_b:
                continue
            ours, theirs = sorted([(side, k), (side_b, k_b)])
            first, second = both[ours[0]][0][ours[1]], both[theirs[0]][0][theirs[1]]
            deviation = _deviation(first, second, tolerance)
            if deviation <= tolerance:
                names = [f.source or f"{f.set}#{i}" for f, i in ((first, ours[1]), (second, theirs[1]))]
                found.append(Duplicate(names[0], names[1], deviation, (ours[1], theirs[1])))
    return sorted(found, key=lambda d: d.places)


def _deviation(first: LabelledFrame, second: LabelledFrame, tolerance: float) -> float:
    """Largest difference of distances; infinite if the energies are those of different structures."""
    if first.energy is not None and second.energy is not None:
        if abs(first.energy - second.energy) > max(tolerance, 1e-3):
            return np.inf
    prints = _fingerprint(first.atoms), _fingerprint(second.atoms)
    return float(np.abs(prints[0] - prints[1]).max()) if prints[0].shape == prints[1].shape else np.inf


def check_separate(training: Sequence[LabelledFrame], validation: Sequence[LabelledFrame]) -> None:
    """Refuse a validation set that shares structures with the training set.

    Raises
    ------
    InputError
        Naming the pairs.
    """
    shared = find_duplicates(training, validation)
    if shared:
        raise InputError(
            f"{len(shared)} frames are in both the training and the validation labels: "
            f"{'; '.join(map(str, shared[:5]))}{' ...' if len(shared) > 5 else ''}; "
            "remove them from one of the two"
        )
