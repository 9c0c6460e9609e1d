"""What labelled cells ask for beyond a finished SSCHA, each judged by a potential that did not learn it.

The forces of the reference less those of such a potential, f, have a linear part on displacements u from the
centroids: the X that makes Σ (f + Xu)ᵀC(f + Xu) least, which over a Gaussian is −Υ⟨u f⟩, the change of the
auxiliary that the reference asks for (`himlip_ase.sscha.trust.corrections`). A fit of X needs no density, so
that cells of several draws, near the present Gaussian, serve together. A smaller cell whose q-points are on
the grid is repeated to the supercell of the SSCHA, where its displacements have no other q-points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.jackknife import jackknife, student
from himlip_ase.labels.digests import structure_digest
from himlip_ase.labels.frames import JUDGES
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.potential.lattice_sites import LatticeSites
from himlip_ase.sscha.convergence.residual import frequency_changes
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.results.result import SschaResult
from himlip_ase.sscha.results.sampling_noise import deviations_of
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.sscha.trust.corrections import change_of, joined_deviations
from himlip_ase.sscha.watch.independent_frames import independent_groups
from himlip_ase.units import EV_PER_ANGSTROM3_GPA

if TYPE_CHECKING:
    from himlip_ase.labels.frames import LabelledFrame
    from himlip_ase.potential.interface import Potential

FEWEST_GROUPS = 4
"""Independent groups of cells for an error bar."""
LARGEST_STRAIN = 0.02
"""Of the labelled cells against the crystal of the SSCHA."""
ADVICE = "name sets of cells of this crystal alone"


@dataclass(frozen=True, eq=False)
class LabelCorrection:
    """An auxiliary beside what labelled cells ask for.

    Attributes
    ----------
    before, auxiliary : DynamicalMatrices
        As the SSCHA left it, and corrected.
    deviations : ndarray, shape (units, nq, 3n, 3n)
        As those of `himlip_ase.sscha.trust.corrections.Corrections`: sampling and potential, eV/Å².
    change_cm, change_sigma_cm : ndarray, shape (nq, 3n)
        First-order change of each auxiliary frequency and its standard error from the labelled cells.
    frequencies_sigma_cm : ndarray, shape (nq, 3n)
        Standard errors of the frequencies of `auxiliary`, sampling and potential; translations 0.
    pressure_gpa, pressure_sigma_gpa : float or None
        What the reference adds to the pressure of the quantum crystal, and its standard error; None where not
        every label has a stress.
    groups : int
        Independent groups of labelled cells: opposites are one.
    """

    before: DynamicalMatrices
    auxiliary: DynamicalMatrices
    deviations: np.ndarray
    change_cm: np.ndarray
    change_sigma_cm: np.ndarray
    frequencies_sigma_cm: np.ndarray
    pressure_gpa: float | None
    pressure_sigma_gpa: float | None
    groups: int


def label_correction(
    result: SschaResult, images: Sequence[Atoms], missed: Sequence[Miss], shift: np.ndarray | None
) -> LabelCorrection:
    """Correct the auxiliary of a finished SSCHA by labelled cells.

    Parameters
    ----------
    result : SschaResult
    images : sequence of Atoms
        Drawn from an SSCHA of this crystal; supercells, of any shape, order and origin, whose q-points are on
        its grid.
    missed : sequence of Miss
        Of each.
    shift : ndarray, shape (nq, 3n, 3n), optional
        What these potentials, on average, change in Φ(q) against the one that made the SSCHA, eV/Å².

    Returns
    -------
    LabelCorrection

    Raises
    ------
    InputError
        Cells of another crystal, with q-points off the grid, too few, or none that holds some q-point.
    CalculationError
        The cells do not determine the linear part.
    """
    target = HarmonicDistribution(result.auxiliary, result.settings.temperature_k)
    group = SpaceGroup(result.auxiliary)
    sites = LatticeSites(result.auxiliary.primitive, "the correction", ADVICE)
    fields = [
        _on_supercell(sites, result.auxiliary, image, miss.forces)
        for image, miss in zip(images, missed, strict=True)
    ]
    moved, forces = (np.array(part) for part in zip(*fields, strict=True))
    members = independent_groups(list(images))
    names = np.unique(members)
    if len(names) < FEWEST_GROUPS:
        raise InputError(
            f"{len(names)} independent labelled cells (opposites are one); {FEWEST_GROUPS} are the fewest"
        )
    _check_coverage(target, group, moved, members)

    def change(rows: np.ndarray) -> np.ndarray:
        return change_of(target, group, moved[rows], forces[rows], np.ones(int(rows.sum())))

    auxiliary = result.auxiliary
    whole = change(np.ones(len(moved), dtype=bool))
    deleted = np.array([change(members != name) for name in names])
    base = np.zeros_like(whole) if shift is None else shift
    corrected = auxiliary.with_matrices(auxiliary.matrices + base + whole)
    rows = [auxiliary.with_matrices(auxiliary.matrices + base + part).frequencies() for part in deleted]
    sampling = 0.0 if result.auxiliary_sigma_cm is None else result.auxiliary_sigma_cm
    sigma = np.hypot(jackknife(np.array(rows)), sampling)
    sigma[0][np.argsort(np.abs(corrected.frequencies()[0]))[:3]] = 0
    deviations = np.sqrt(student(len(names))) * (1 - len(names)) * (deleted - deleted.mean(axis=0))
    noise = deviations_of(result, "auxiliary")
    return LabelCorrection(
        auxiliary,
        corrected,
        deviations if noise is None else joined_deviations(noise, deviations),
        frequency_changes(target, base + whole),
        jackknife(frequency_changes(target, deleted)),
        sigma,
        *_pressure(missed, members),
        len(names),
    )


def _pressure(missed: Sequence[Miss], members: np.ndarray) -> tuple[float | None, float | None]:
    """Mean pressure beyond the potential's, GPa, and its error."""
    stresses = [miss.stress for miss in missed if miss.stress is not None]
    if len(stresses) < len(missed):
        return None, None
    pressures = -np.array(stresses)[:, :3].mean(axis=1) * EV_PER_ANGSTROM3_GPA
    deleted = np.array([pressures[members != name].mean() for name in np.unique(members)])
    return float(pressures.mean()), float(jackknife(deleted))


def _on_supercell(
    sites: LatticeSites, auxiliary: DynamicalMatrices, image: Atoms, forces: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Displacements (N, 3) in Å and forces of a cell, repeated to the supercell of the SSCHA."""
    name = image.get_chemical_formula()
    try:
        vectors = sites.supercell_vectors(image.cell.array, len(image))
        placement = sites.place(image.positions, image.numbers, image.cell.array)
    except InputError as error:
        raise InputError(f"a labelled cell, {name}, is none of the crystal of the SSCHA: {error}") from error
    stretch = np.linalg.inv(vectors @ sites.primitive.cell.array) @ image.cell.array
    strain = float(np.abs(stretch - np.eye(3)).max())
    if strain > LARGEST_STRAIN:
        raise InputError(
            f"a labelled cell, {name}, is strained by {100 * strain:.1f} % against the crystal of the SSCHA; "
            f"{100 * LARGEST_STRAIN:g} % are allowed"
        )
    repeats = np.diag(auxiliary.dims) @ np.linalg.inv(vectors)
    if np.abs(repeats - np.rint(repeats)).max() > 1e-6:
        grid = "×".join(map(str, auxiliary.dims))
        raise InputError(
            f"a labelled cell, {name}, of {vectors.tolist()} primitive vectors, has q-points off the "
            f"{grid} grid of the SSCHA"
        )
    steps = np.indices(auxiliary.dims).reshape(3, -1).T  # as ``primitive.repeat(dims)``, the last one fastest
    rows = placement.atoms[placement.translations.index(steps)].ravel()
    moved = image.positions - placement.places
    masses = sites.primitive.get_masses()[np.argsort(placement.atoms.ravel()) % len(sites.primitive)]
    moved = moved - masses @ moved / masses.sum()
    return moved[rows], np.asarray(forces)[rows]


def _check_coverage(
    target: HarmonicDistribution, group: SpaceGroup, moved: np.ndarray, members: np.ndarray
) -> None:
    """Refuse where some star of q-points is in the cells of fewer than two groups."""
    dims = target.dims
    waves = np.fft.fftn(moved.reshape(len(moved), *dims, -1), axes=(1, 2, 3))
    power = (np.abs(waves) ** 2).sum(axis=-1).reshape(len(moved), -1)[:, target.grid_order]
    size = target.inverse_covariance().shape[1]
    found = np.zeros(power.shape[1], dtype=int)
    for name in np.unique(members):
        held = power[members == name].max(axis=0) > 1e-8 * power.max()
        # the identity on the q-points of the group, carried to the stars of these
        on_star = group.matrices(held[:, None, None] * np.eye(size, dtype=complex))
        found += np.abs(on_star).max(axis=(1, 2)) > 1e-8
    missing = np.flatnonzero(found < 2)
    if len(missing):
        q = target.dynamical.qpoints[missing[0]]
        raise InputError(
            f"q = ({', '.join(f'{x:.4g}' for x in q)}) is in the labelled cells of {found[missing[0]]} "
            "independent groups; two are the fewest, so label cells of other shapes"
        )


@dataclass(frozen=True, eq=False)
class Miss:
    """What the reference has beyond a potential that did not learn the cell.

    Attributes
    ----------
    forces : ndarray (N, 3)
        eV/Å.
    stress : ndarray (6,) or None
        Beyond that of the potential that made the SSCHA, for what these potentials differ by on average is
        part of the correction; eV/Å³, ASE's order and sign. None where the label has none.
    """

    forces: np.ndarray
    stress: np.ndarray | None = None


def honest_misses(frames: Sequence[LabelledFrame], weights: Path, twins: Sequence[Potential]) -> list[Miss]:
    """Labels less what the twin says that did not learn the frame; the mean of all twins, if none did.

    Parameters
    ----------
    frames : sequence of LabelledFrame
    weights : Path
        Of the potential.
    twins : sequence of Potential
        Of `himlip_ase.hint.last_layer.twin_weights.load_twins`.

    Returns
    -------
    list of Miss

    Raises
    ------
    InputError
        A frame without forces, or one of which nobody knows whether the twins learnt it.
    """
    from himlip_ase.hint.last_layer.twin_weights import twin_without
    from himlip_ase.potential.checkpoint import load_model
    from himlip_ase.potential.evaluate import evaluate

    number = twin_without(weights)
    chosen: list[int | None] = []
    for frame in frames:
        chosen.append(number.get(structure_digest(frame.atoms).hex()))
        if frame.forces is None:
            raise InputError(f"{frame.source} has no forces")
        if chosen[-1] is None and not frame.set.startswith(JUDGES):
            raise InputError(
                f"{frame.source}: no twin of {weights.name} says that it did not learn it; name sets that "
                f"the twins left out in turn, or that are never learnt ({', '.join(f'{s}…' for s in JUDGES)})"
            )
    images = [frame.atoms for frame in frames]
    own = evaluate(load_model(weights), images)
    theirs = [evaluate(twin, images) for twin in twins]
    found = []
    for k, (frame, twin) in enumerate(zip(frames, chosen, strict=True)):
        judges = theirs if twin is None else [theirs[twin]]
        assert frame.forces is not None
        forces = frame.forces - np.mean([judge.forces[k] for judge in judges], axis=0)
        stress = None
        if frame.stress is not None:
            shift = np.mean([judge.stresses[k] for judge in theirs], axis=0) - own.stresses[k]
            stress = frame.stress - np.mean([judge.stresses[k] for judge in judges], axis=0) + shift
        found.append(Miss(forces, stress))
    return found
