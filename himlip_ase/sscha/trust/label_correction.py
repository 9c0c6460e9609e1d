"""What labelled cells ask for beyond a finished SSCHA, each judged by a potential that did not learn it.

The forces of the reference less those of such a potential, f, have a linear part on displacements u from the
centroids: the X that makes Σ (f + Xu)ᵀC(f + Xu) least, which over a Gaussian is −Υ⟨u f⟩, the change of the
auxiliary that the reference asks for (`himlip_ase.sscha.trust.corrections`). A fit of X needs no density, so
that cells of several draws, near the present Gaussian, serve together. A smaller cell whose q-points are on
the grid is repeated to the supercell of the SSCHA, where its displacements have no other q-points, and counts
as the part of the supercell that it is. Where symmetry leaves an atomic coordinate free, f has a constant
part as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.jackknife import jackknife, student
from himlip_ase.phonons.force_constants import DynamicalMatrices, acoustic
from himlip_ase.phonons.mode_pairs import partners
from himlip_ase.potential.lattice_sites import LatticeSites
from himlip_ase.sscha.convergence.residual import frequency_changes
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.results.result import SschaResult
from himlip_ase.sscha.results.sampling_noise import deviations_of
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.sscha.trust.corrections import change_of, joined_deviations, pulled_by
from himlip_ase.sscha.trust.determination import Determination
from himlip_ase.sscha.trust.judged_cells import ADVICE, AT_REST, JudgedCell
from himlip_ase.sscha.trust.potential_error import PotentialError
from himlip_ase.sscha.watch.independent_frames import groups_on_lattice
from himlip_ase.units import EV_PER_ANGSTROM3_GPA

FEWEST_GROUPS = 4
"""Independent groups of cells for an error bar."""
LARGEST_STRAIN = 0.02
"""Of the labelled cells against the crystal of the SSCHA."""
SAME = 1e-6
"""Å; displacements that differ by less are of one cell."""
OPPOSITE = 0.99
"""Correlation from which on cells are the same displacements, or opposite ones."""


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
    frequencies_cm, frequencies_sigma_cm : ndarray, shape (nq, 3n)
        Frequencies of `auxiliary` with their standard errors, sampling and potential; each stands at the mode
        of `before` whose vector is most alike, so that they need not ascend. Translations have no error.
    force, force_sigma : ndarray, shape (n, 3), or None
        Mean force of the reference on the centroids, beyond that of the SSCHA, eV/Å; None where symmetry
        leaves no coordinate free.
    pressure_gpa, pressure_sigma_gpa : float or None
        What the reference adds to the pressure of the quantum crystal, and its standard error, by the largest
        cells that are four groups; None where not all of them have a stress.
    groups : int
        Independent groups of labelled cells: opposites and repetitions are one.
    """

    before: DynamicalMatrices
    auxiliary: DynamicalMatrices
    deviations: np.ndarray
    change_cm: np.ndarray
    change_sigma_cm: np.ndarray
    frequencies_cm: np.ndarray
    frequencies_sigma_cm: np.ndarray
    force: np.ndarray | None
    force_sigma: np.ndarray | None
    pressure_gpa: float | None
    pressure_sigma_gpa: float | None
    groups: int


def label_correction(
    result: SschaResult, cells: Sequence[JudgedCell], twins: PotentialError | None = None
) -> LabelCorrection:
    """Correct the auxiliary of a finished SSCHA by labelled cells.

    Parameters
    ----------
    result : SschaResult
    cells : sequence of JudgedCell
        Drawn from an SSCHA of this crystal; supercells, of any shape, order and origin, whose q-points are on
        its grid.
    twins : PotentialError, optional
        What the twins among their judges change against the potential that made the SSCHA, which is added to
        what each cell says beyond its judge.

    Returns
    -------
    LabelCorrection

    Raises
    ------
    InputError
        Cells of another crystal, with q-points off the grid, given twice, too few, or not enough to determine
        the change at some q-point; judges of which `twins` does not speak; opposites with two judges.
    """
    fit = _Fit(result, cells, twins)
    auxiliary, target = result.auxiliary, fit.target
    everything = np.ones(len(cells), dtype=bool)
    change, force = fit.linear_part(everything)
    without = [fit.linear_part(rows, change) for rows in fit.without()]
    deleted = fit.widened(np.array([matrices for matrices, _ in without]))
    corrected = auxiliary.with_matrices(auxiliary.matrices + change)
    rows = [auxiliary.with_matrices(auxiliary.matrices + part).frequencies() for part in deleted]
    sampling = 0.0 if result.auxiliary_sigma_cm is None else result.auxiliary_sigma_cm
    order = [partners(*vectors) for vectors in zip(auxiliary.eigen()[1], corrected.eigen()[1], strict=True)]
    sigma = np.take_along_axis(jackknife(np.array(rows)), np.array(order), axis=1)
    sigma = np.hypot(sigma, sampling)
    sigma[0, acoustic(auxiliary)] = 0
    count = len(deleted)
    deviations = np.sqrt(student(count)) * (1 - count) * (deleted - deleted.mean(axis=0))
    noise = deviations_of(result, "auxiliary")
    free, (pressure, pressure_sigma) = fit.group.has_free_coordinates(), fit.pressure()
    return LabelCorrection(
        before=auxiliary,
        auxiliary=corrected,
        deviations=deviations if noise is None else joined_deviations(noise, deviations),
        change_cm=frequency_changes(target, change),
        change_sigma_cm=jackknife(frequency_changes(target, deleted)),
        frequencies_cm=np.take_along_axis(corrected.frequencies(), np.array(order), axis=1),
        frequencies_sigma_cm=sigma,
        force=force if free else None,
        force_sigma=jackknife(np.array([part for _, part in without])) if free else None,
        pressure_gpa=pressure,
        pressure_sigma_gpa=pressure_sigma,
        groups=count,
    )


class _Fit:
    """Cells on the supercell of an SSCHA, of which any may be left out."""

    def __init__(
        self, result: SschaResult, cells: Sequence[JudgedCell], twins: PotentialError | None
    ) -> None:
        auxiliary = result.auxiliary
        self.target = HarmonicDistribution(auxiliary, result.settings.temperature_k)
        self.group = SpaceGroup(auxiliary)
        sites = LatticeSites(auxiliary.primitive, "the correction", ADVICE)
        if not cells:
            raise InputError(
                f"no labelled cell is left: all are at rest, within {AT_REST:g} Å of their sites"
            )
        fields = [_on_supercell(sites, auxiliary, cell) for cell in cells]
        self.moved, self.forces = (np.array(part) for part in zip(*fields, strict=True))
        self.weights = np.array([len(cell.atoms) for cell in cells]) / self.moved.shape[1]
        self.stresses = [cell.stress for cell in cells]
        self.judges = np.array([-1 if cell.judge is None else cell.judge for cell in cells])
        if self.judges.max() >= 0:
            self._from_the_potential(twins)
        freedoms = np.array([3 * len(cell.atoms) - 3 for cell in cells])
        centred = self.moved - self._on_every_cell(self._constant(self.moved, self.weights))
        centred = centred - centred.mean(axis=1, keepdims=True)
        self.members = groups_on_lattice(centred, self.target.dims, freedoms)
        self._check_alike(cells, groups_on_lattice(centred, self.target.dims, freedoms, OPPOSITE))
        count = len(np.unique(self.members))
        if count < FEWEST_GROUPS:
            raise InputError(
                f"{count} independent labelled cells (opposites are one); {FEWEST_GROUPS} are the fewest"
            )
        held = Determination(self.target, self.group, self.moved, self.weights, self.members, self._constant)
        self.groups_at_q = held.check()

    def _from_the_potential(self, twins: PotentialError | None) -> None:
        """Let cells say what the reference has beyond the potential of the SSCHA, not beyond a twin."""
        if twins is None or self.judges.max() >= len(twins.changes):
            raise InputError(
                "twins judged labelled cells, and what these change in the SSCHA against its own potential "
                "is not known"
            )
        for judge in np.unique(self.judges[self.judges >= 0]):
            own = self.judges == judge
            pulled = pulled_by(self.target, twins.changes[judge], self.moved[own])
            self.forces[own] += self._on_every_cell(twins.forces[judge]) - pulled
            for k in np.flatnonzero(own):
                stress, beyond = self.stresses[k], twins.stresses
                self.stresses[k] = None if stress is None or beyond is None else stress + beyond[judge]

    def _check_alike(self, cells: Sequence[JudgedCell], alike: np.ndarray) -> None:
        """Refuse cells that are given twice, and opposites with two judges."""
        for name in np.unique(alike):
            first, *others = np.flatnonzero(alike == name).tolist()
            for place, k in enumerate(others):
                same = [
                    j for j in (first, *others[:place]) if np.abs(self.moved[k] - self.moved[j]).max() < SAME
                ]
                if same:
                    raise InputError(
                        f"{cells[same[0]].source} and {cells[k].source} are one cell; name it once"
                    )
                if self.judges[k] != self.judges[first]:
                    raise InputError(
                        f"{cells[first].source} and {cells[k].source} are opposites or repetitions, but not "
                        "left out by the same twin, so that neither was judged without the other; fit the "
                        "potential anew, in a run with --from finetune"
                    )

    def without(self) -> list[np.ndarray]:
        """Masks that each leave one group out."""
        return [self.members != name for name in np.unique(self.members)]

    def linear_part(self, rows: np.ndarray, start: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Change of Φ(q) (nq, 3n, 3n), near `start`, and mean force (n, 3) that some cells ask for."""
        weights = self.weights[rows] / self.weights[rows].sum()
        moved, forces = self.moved[rows], self.forces[rows]
        middle, push = (self._constant(part, weights) for part in (moved, forces))
        moved, forces = moved - self._on_every_cell(middle), forces - self._on_every_cell(push)
        matrices = change_of(self.target, self.group, moved, forces, weights, start)
        return matrices, push + (matrices[0].real @ middle.ravel()).reshape(-1, 3)

    def widened(self, deleted: np.ndarray) -> np.ndarray:
        """Estimates without each group, for a jackknife as if every group had every q-point.

        The error of what few groups have is known less well: its Student factor is that of their number.
        """
        all_of_them = student(len(deleted))
        wider = np.sqrt([student(max(int(m), FEWEST_GROUPS)) / all_of_them for m in self.groups_at_q])
        mean = deleted.mean(axis=0)
        return np.asarray(mean + wider[:, None, None] * (deleted - mean))

    def pressure(self) -> tuple[float | None, float | None]:
        """Mean pressure beyond the potential's, GPa, and its error, by the largest cells of four groups.

        The pressure has a part of second order in u, of which a cell with fewer q-points has less.
        """
        largest = self.weights >= self._size_of_enough() - 1e-9
        names = np.unique(self.members[largest])
        stresses = [stress for stress, own in zip(self.stresses, largest, strict=True) if own]
        known = [stress for stress in stresses if stress is not None]
        if len(known) < len(stresses):
            return None, None
        pressures = -np.array(known)[:, :3].mean(axis=1) * EV_PER_ANGSTROM3_GPA
        weights = self.weights[largest]
        kept = [self.members[largest] != name for name in names]
        without = [np.average(pressures[rows], weights=weights[rows]) for rows in kept]
        whole = float(np.average(pressures, weights=weights))
        return whole, float(jackknife(np.array(without)))

    def _size_of_enough(self) -> float:
        """The largest weight that, with all above it, `FEWEST_GROUPS` groups have."""
        of_group = sorted(
            (self.weights[self.members == name][0] for name in np.unique(self.members)), reverse=True
        )
        return float(of_group[FEWEST_GROUPS - 1])

    def _on_every_cell(self, values: np.ndarray) -> np.ndarray:
        """What each atom of the primitive cell has (n, 3), on the supercell (N, 3)."""
        return np.tile(values, (len(self.target.dynamical.qpoints), 1))

    def _constant(self, fields: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The mean on each atom of the primitive cell as far as symmetry leaves it free, (n, 3)."""
        n = len(self.target.dynamical.primitive)
        if not self.group.has_free_coordinates():
            return np.zeros((n, 3))
        mean = np.average(fields, axis=0, weights=weights).reshape(-1, n, 3).mean(axis=0)
        return self.group.vectors(mean - mean.mean(axis=0))


def _on_supercell(
    sites: LatticeSites, auxiliary: DynamicalMatrices, cell: JudgedCell
) -> tuple[np.ndarray, np.ndarray]:
    """Displacements (N, 3) in Å and forces of a cell, repeated to the supercell of the SSCHA."""
    atoms, name = cell.atoms, f"{cell.source} ({cell.atoms.get_chemical_formula()})"
    try:
        vectors = sites.supercell_vectors(atoms.cell.array, len(atoms))
        placement = sites.place(atoms.positions, atoms.numbers, atoms.cell.array)
    except InputError as error:
        raise InputError(f"{name} is no cell of the crystal of the SSCHA: {error}") from error
    stretch = np.linalg.inv(vectors @ sites.primitive.cell.array) @ atoms.cell.array
    strain = float(np.abs(stretch - np.eye(3)).max())
    if strain > LARGEST_STRAIN:
        raise InputError(
            f"{name} is strained by {100 * strain:.1f} % against the crystal of the SSCHA; "
            f"{100 * LARGEST_STRAIN:g} % are allowed"
        )
    repeats = np.diag(auxiliary.dims) @ np.linalg.inv(vectors)
    if np.abs(repeats - np.rint(repeats)).max() > 1e-6:
        grid = "×".join(map(str, auxiliary.dims))
        raise InputError(
            f"{name}, of {vectors.tolist()} primitive vectors, has q-points off the {grid} grid of the SSCHA"
        )
    steps = np.indices(auxiliary.dims).reshape(3, -1).T  # as ``primitive.repeat(dims)``, the last one fastest
    rows = placement.atoms[placement.translations.index(steps)].ravel()
    moved = atoms.positions - placement.places
    masses = sites.primitive.get_masses()[np.argsort(placement.atoms.ravel()) % len(sites.primitive)]
    moved = moved - masses @ moved / masses.sum()
    return moved[rows], np.asarray(cell.forces)[rows]
