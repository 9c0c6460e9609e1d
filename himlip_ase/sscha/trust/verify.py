"""What the exact forces would change: a few reference calculations correct averages over a whole ensemble.

For any average over the auxiliary Gaussian, with the potential's value a on all N configurations and the
reference's value b (DFT) on n of them,

    ⟨b⟩ ≈ (1/N) Σ_N a + (1/n) Σ_n (b − a),

an unbiased estimate whose error is that of the small difference: a control variate (Owen, Monte Carlo theory,
ch. 8).  The difference of the forces is mostly linear in the displacements, Δf ≈ −ΔΦ u, and the Gaussian
average of the linear part is known exactly, so that it serves as a second control variate: ΔΦ is the least
squares fit of Δf + ΔΦ u on the n configurations, among the matrices with the crystal's symmetry.  Errors are
delete-one-pair jackknives of the whole procedure; its bias of order 1/n is a small part of them, and removing
it would cost more than it brings.  The coefficient of the potential is 1: an estimated one would lower the
variance only for a potential so poor that the linear part does not hold.

Configurations are recomputed in the opposite pairs they were drawn in, which cancels odd terms of the
difference (cubic in the energy) altogether; for a test crystal this lowers the errors by a quarter to a half
below those of as many single configurations.

Corrected gradient: δΦ = −Υ⟨u (f + Φu)⟩ with the corrected ⟨u f⟩.  Corrected matrices: Φ + δΦ, the next
iterate of the SCHA self-consistency.  Corrected free energy: of the same Gaussian, F + ⟨V_ref − V_pot⟩, above
the reference's own static lattice; an upper bound of the reference's SSCHA free energy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.evaluation import Evaluation
from himlip_ase.jackknife import jackknife
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.convergence.residual import Projection
from himlip_ase.sscha.curvature.stars import inequivalent
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.evaluation import Evaluate, checked
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.trust.corrections import Corrections, Differences, correct
from himlip_ase.sscha.trust.deviations import Deviation, energy_deviation, force_deviations

FEWEST = 10
"""Configurations without which a jackknife is no error bar."""

CLEAR = 2.0
"""Standard errors above which a correction counts as seen."""


@dataclass(frozen=True)
class Verification:
    """A potential against a reference on n configurations of an ensemble.

    Attributes
    ----------
    chosen : ndarray of int, shape (n,)
        Rows of the ensemble.
    potential, reference : Evaluation
        Energies (eV per supercell, above those of the centroids), forces, stresses of both.
    energy : Deviation
        Of the energies above the centroids', eV per atom.
    forces : list of Deviation
        Of force components, eV/Å: all atoms, then each element.
    stress_difference, stress_sigma : ndarray, shape (6,), or None
        Mean of reference − potential and its error, ASE Voigt, eV/Å³.
    corrections : Corrections
        Gradient, free energy and frequencies, as the potential gives them and corrected.
    """

    chosen: np.ndarray
    potential: Evaluation
    reference: Evaluation
    energy: Deviation
    forces: list[Deviation]
    stress_difference: np.ndarray | None
    stress_sigma: np.ndarray | None
    corrections: Corrections


def choose(n_ensemble: int, n: int, seed: int = 0) -> np.ndarray:
    """Rows of n configurations to recompute, in the opposite pairs they were drawn in.

    Parameters
    ----------
    n_ensemble, n : int
        Even, 10 ≤ n ≤ n_ensemble; fewer give no error bars.
    seed : int
        The same seed chooses the same, and a larger `n` keeps what a smaller one chose.

    Returns
    -------
    ndarray of int, shape (n,)

    Raises
    ------
    InputError
        Impossible numbers.
    """
    if not FEWEST <= n <= n_ensemble or n % 2:
        raise InputError(
            f"{n} of {n_ensemble} configurations cannot be verified; give an even number from {FEWEST} to "
            f"{n_ensemble}"
        )
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(7,)))
    pairs = generator.permutation(n_ensemble // 2)[: n // 2]
    return np.stack([2 * pairs, 2 * pairs + 1], axis=1).ravel()


def verification_images(ensemble: Ensemble, chosen: np.ndarray) -> list[Atoms]:
    """What the reference computes.

    Parameters
    ----------
    ensemble : Ensemble
    chosen : ndarray of int, shape (n,)
        Its rows to compute, see :func:`choose`.

    Returns
    -------
    list of Atoms
        The n configurations and, last, the structure on the centroids that the ensemble was drawn around.
    """
    images = [ensemble.drawn_from.supercell for _ in range(len(chosen) + 1)]
    for image, moved in zip(images, ensemble.displacements[chosen], strict=False):
        image.positions += moved
    return images


def verify(
    target: HarmonicDistribution,
    ensemble: Ensemble,
    chosen: np.ndarray,
    reference: Evaluation,
    group: Projection,
    n_blocks: int = 20,
    weights: np.ndarray | None = None,
) -> Verification:
    """Compare, and correct the averages over the ensemble.

    Parameters
    ----------
    target : HarmonicDistribution
        The auxiliary.
    ensemble : Ensemble
        Drawn from it or reweighted to it, with the potential's energies and forces; opposite pairs adjacent.
    chosen : ndarray of int, shape (n,)
        Rows that the reference computed, pair after pair, see :func:`choose`.
    reference : Evaluation
        The reference on :func:`verification_images` of these rows: n + 1 energies (eV), forces, stresses; the
        last is the structure on its centroids, which removes the difference of the zeros of energy.
    group : Projection
        Space group, such as :class:`~himlip_ase.sscha.symmetry.SpaceGroup`.
    n_blocks : int
        Blocks of the ensemble for the error of the potential's own averages.
    weights : ndarray, shape (N,), optional
        Of the configurations; by default the importance weights of `ensemble` for `target`.

    Returns
    -------
    Verification

    Raises
    ------
    InputError
        The reference has another number of configurations, or atoms in another place.
    """
    n = len(chosen)
    if len(reference.energies) != n + 1 or reference.force_array.shape[1:] != ensemble.forces.shape[1:]:
        raise InputError(
            f"the reference has {len(reference.energies)} energies and forces {reference.force_array.shape}; "
            f"needed are those of {n} configurations and of the centroids, {n + 1} in all"
        )
    part = ensemble.part(chosen)
    ours = Evaluation(part.energies - ensemble.static_energy, part.forces, part.stresses)
    theirs = _above_static(reference)
    weights = ensemble.weights(target) if weights is None else np.asarray(weights, dtype=float)
    moved = ensemble.displacements_from(target)[chosen]
    differences = _differences(moved, ours, theirs, weights[chosen], paired=True)
    corrections = correct(target, ensemble, differences, group, n_blocks, weights)
    return _verification(target, chosen, ours, theirs, differences, corrections)


def verify_on_labels(
    target: HarmonicDistribution,
    ensemble: Ensemble,
    displacements: np.ndarray,
    potential: Evaluation,
    reference: Evaluation,
    group: Projection,
    n_blocks: int = 20,
    weights: np.ndarray | None = None,
) -> Verification:
    """Correct the averages over an ensemble with reference calculations that were not chosen from it.

    For labelled supercells from a similar Gaussian, such as a validation set drawn from an earlier
    auxiliary: the linear part of the difference is fitted to them, which depends little on where they were
    drawn, and averaged over the present Gaussian; the rest is averaged over them as they are.

    Parameters
    ----------
    target, ensemble, group, n_blocks
        As :func:`verify`.
    displacements : ndarray, shape (n, N, 3)
        Of the labelled supercells from the centroids of `target`, Å.
    potential, reference : Evaluation
        Both sides on these supercells and, last, on the centroids.
    weights : ndarray, shape (n,), optional
        Importance weights of the labelled supercells, if the Gaussian they came from is known.

    Returns
    -------
    Verification
    """
    n = len(displacements)
    if len(reference.energies) != n + 1 or len(potential.energies) != n + 1:
        raise InputError(
            f"{n} labelled supercells need {n + 1} energies on each side, the last on the centroids; got "
            f"{len(potential.energies)} and {len(reference.energies)}"
        )
    ours, theirs = _above_static(potential), _above_static(reference)
    weights = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    differences = _differences(displacements, ours, theirs, weights, paired=False)
    corrections = correct(target, ensemble, differences, group, n_blocks, ensemble.weights(target))
    return _verification(target, np.arange(n), ours, theirs, differences, corrections)


def _above_static(found: Evaluation) -> Evaluation:
    """All but the last row, energies above the last."""
    return Evaluation(found.energies[:-1] - found.energies[-1], found.force_array[:-1], found.stresses[:-1])


def _differences(
    displacements: np.ndarray, ours: Evaluation, theirs: Evaluation, weights: np.ndarray, paired: bool
) -> Differences:
    return Differences(
        displacements, theirs.energies - ours.energies, theirs.force_array - ours.force_array, weights, paired
    )


def _verification(
    target: HarmonicDistribution,
    chosen: np.ndarray,
    ours: Evaluation,
    theirs: Evaluation,
    differences: Differences,
    corrections: Corrections,
) -> Verification:
    stress, stress_sigma = _stress(ours, theirs, differences)
    return Verification(
        np.asarray(chosen),
        ours,
        theirs,
        energy_deviation(ours.force_array.shape[1], ours.energies, theirs.energies),
        force_deviations(target.supercell.get_chemical_symbols(), ours.force_array, theirs.force_array),
        stress,
        stress_sigma,
        corrections,
    )


def verify_with(
    target: HarmonicDistribution,
    ensemble: Ensemble,
    evaluate: Evaluate,
    group: Projection,
    n: int = 20,
    seed: int = 0,
    n_blocks: int = 20,
    weights: np.ndarray | None = None,
) -> Verification:
    """As :func:`verify`, with a reference that is a force callable (another model, a calculator).

    Parameters
    ----------
    target, ensemble, group, n_blocks, weights
        See :func:`verify`.
    evaluate : callable
        Energies, forces and stresses of a list of supercells by the reference.
    n : int
        Configurations to compute.
    seed : int
        See :func:`choose`.

    Returns
    -------
    Verification
    """
    chosen = choose(len(ensemble), n, seed)
    images = verification_images(ensemble, chosen)
    reference = checked(evaluate(images), images)
    return verify(target, ensemble, chosen, reference, group, n_blocks, weights)


def _stress(
    ours: Evaluation, theirs: Evaluation, differences: Differences
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Mean of reference − potential and its error."""
    if not (ours.has_stress and theirs.has_stress):
        return None, None
    values, weights = theirs.stresses - ours.stresses, differences.weights
    deleted = np.array(
        [np.average(values[keep], axis=0, weights=weights[keep]) for keep in differences.leave_one_out()]
    )
    return np.average(values, axis=0, weights=weights), jackknife(deleted)


def describe_verification(found: Verification, auxiliary: DynamicalMatrices) -> list[str]:
    """The comparison in words: deviations, then what they change.

    Parameters
    ----------
    found : Verification
    auxiliary : DynamicalMatrices
        That was verified.

    Returns
    -------
    list of str
    """
    c = found.corrections
    lines = [f"{len(found.chosen)} configurations recomputed"]
    e = found.energy
    lines.append(
        f"energy: rms {e.rms * 1e3:.2f} meV/atom, bias {e.bias * 1e3:+.2f} meV/atom above the static lattice "
        f"(the configurations scatter by {e.spread * 1e3:.1f})"
    )
    for d in found.forces:
        lines.append(
            f"force on {d.name}: rms {d.rms:.3f} eV/Å of {d.spread:.2f}, correlation {d.correlation:.4f}, "
            f"{abs(d.bias):.1%} too {'soft' if d.bias < 0 else 'stiff'}"
        )
    lines.append(
        f"free energy: {c.free_energy * 1e3:.2f} ± {c.free_energy_sigma * 1e3:.2f} meV per cell above the "
        f"reference's static lattice (correction {c.free_energy_change * 1e3:+.2f} ± "
        f"{c.free_energy_change_sigma * 1e3:.2f})"
    )
    moving = c.change_sigma_cm > 0
    z = np.abs(c.change_cm[moving]) / c.change_sigma_cm[moving]
    rms = float(np.sqrt((c.change_cm[moving] ** 2).mean())) if moving.any() else 0.0
    noise = float(np.sqrt((c.change_sigma_cm[moving] ** 2).mean())) if moving.any() else 0.0
    lines.append(
        f"auxiliary frequencies: the reference asks for changes of {rms:.1f} cm⁻¹ rms beyond what the "
        f"potential asks for (error {noise:.1f}); {int((z > CLEAR).sum())} of {int(moving.sum())} modes move "
        f"by more than {CLEAR:g} errors"
    )
    lines.append("frequencies (cm⁻¹): q, auxiliary, corrected")
    old = auxiliary.frequencies()
    for index, count in inequivalent(old, c.frequencies_cm):
        q = auxiliary.qpoints[index]
        lines.append(
            f"q = ({q[0]:.3g}, {q[1]:.3g}, {q[2]:.3g})" + (f" and {count - 1} like it" if count > 1 else "")
        )
        lines.append("  auxiliary  " + " ".join(f"{abs(value):.0f}" for value in old[index]))
        row = zip(c.frequencies_cm[index], c.frequencies_sigma_cm[index], strict=True)
        lines.append("  corrected  " + " ".join(f"{v:.0f}±{s:.0f}" for v, s in row))
    return lines
