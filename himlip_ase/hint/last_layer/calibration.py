"""Whether predicted standard deviations are as large as the errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erf

from himlip_ase.hint.last_layer.posterior import Posterior
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.potential.derivatives import hessian
from himlip_ase.potential.evaluate import evaluate
from himlip_ase.potential.network import HiMLIP

ZERO = 1e-4
"""Elements and ω² below this share of the largest one are zero by symmetry."""


@dataclass(frozen=True)
class PhononErrors:
    """Errors of ω² and their standard deviations, eV/(Å² amu), mode by mode.

    Attributes
    ----------
    qpoints : ndarray (n, 3)
        One of each star.
    places : ndarray (M,)
        Which q each mode belongs to.
    errors, deviations, labels : ndarray (M,)
        Predicted less label, standard deviation, label (of the predicted mode).
    """

    qpoints: np.ndarray
    places: np.ndarray
    errors: np.ndarray
    deviations: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Calibration:
    """Share of errors within one and two predicted standard deviations.

    Attributes
    ----------
    within_one, within_two : float
        0.683 and 0.954 for Gaussian errors of the predicted width.
    rms_ratio : float
        Root mean square of error / standard deviation; 1 if right on average.
    correlation : float
        Spearman's rank correlation of |error| and standard deviation: whether it knows where it is wrong.
    count : int
    """

    within_one: float
    within_two: float
    rms_ratio: float
    correlation: float
    count: int


if TYPE_CHECKING:
    from himlip_ase.phonons.force_constants import ForceConstants

EXPECTED = (float(erf(1 / np.sqrt(2))), float(erf(2 / np.sqrt(2))))


def errors_and_deviations(
    model: HiMLIP,
    posterior: Posterior,
    frames: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel] = (),
    elements: int = 128,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Errors of a model on labels, and what the posterior said they would be.

    Parameters
    ----------
    model, posterior
        Of one fit.
    frames, hessians : sequences of labels
    elements : int
        Elements of each Hessian that are compared, at random; those that symmetry makes zero say nothing and
        are left out.

    Returns
    -------
    dict
        {"forces", "energy", "stress", "hessian": (errors, standard deviations)}, flat arrays.
    """
    errors: dict[str, list[np.ndarray]] = {k: [] for k in ("energy", "forces", "stress", "hessian")}
    widths: dict[str, list[np.ndarray]] = {k: [] for k in errors}
    values = evaluate(model, [f.atoms for f in frames]) if frames else None
    for index, frame in enumerate(frames):
        assert values is not None
        said = posterior.uncertainty(model, frame.atoms)
        for key, label, value, width in (
            ("energy", frame.energy, values.energies[index], said.energy),
            ("forces", frame.forces, values.forces[index], said.forces),
            ("stress", frame.stress, values.stresses[index], said.stress),
        ):
            if label is not None and width is not None:
                errors[key].append(np.ravel(np.asarray(value) - np.asarray(label)))
                widths[key].append(np.ravel(width))
    for item in hessians:
        error, width = _hessian_elements(model, posterior, item, elements)
        errors["hessian"].append(error)
        widths["hessian"].append(width)
    return {k: (np.concatenate(v), np.concatenate(widths[k])) for k, v in errors.items() if v}


def _hessian_elements(
    model: HiMLIP, posterior: Posterior, label: HessianLabel, count: int
) -> tuple[np.ndarray, np.ndarray]:
    n = len(label.atoms)
    rng = np.random.default_rng(0)
    rows = np.sort(rng.permutation(n)[: max(1, -(-count // (3 * n)))])
    found = hessian(model, label.atoms, indices=rows.tolist()).detach().cpu().numpy()
    error = (found - label.matrix[rows]).reshape(3 * len(rows), 3 * n)
    size = np.maximum(np.abs(found), np.abs(label.matrix[rows])).reshape(error.shape)
    places = np.argwhere(size > ZERO * size.max())
    places = places[rng.permutation(len(places))[:count]]
    unit = np.eye(3 * n).reshape(3 * n, n, 3)
    first = unit[3 * rows[places[:, 0] // 3] + places[:, 0] % 3]
    width = posterior.form_uncertainty(model, label.atoms, first, unit[places[:, 1]])
    return error[places[:, 0], places[:, 1]], width


def phonon_errors(
    model: HiMLIP, posterior: Posterior, constants: ForceConstants, noise: bool = True
) -> PhononErrors:
    """Errors of ω² of every mode of a commensurate grid, beside their standard deviations.

    The error is e†(D − D_label)e with the model's own eigenvectors e, to which its uncertainty refers;
    uniform motion is left out.

    Parameters
    ----------
    model, posterior
        Of one fit.
    constants : ForceConstants
        The label, e.g. of q-points that were not learnt.
    noise : bool
        As in `phonon_uncertainty`.

    Returns
    -------
    PhononErrors
    """
    from himlip_ase.hint.last_layer.phonon_uncertainty import phonon_uncertainty
    from himlip_ase.phonons.force_constants import mass_reduced

    said = phonon_uncertainty(posterior, model, constants.primitive, constants.dims, noise)
    label = constants.dynamical_matrices()
    reduced = mass_reduced(label.matrices, constants.primitive.get_masses())
    rows = []
    for place, q in enumerate(said.qpoints):
        e = said.vectors[place]
        wanted = np.einsum("im,ij,jm->m", e.conj(), reduced[label.index(q)], e).real
        moving = np.ones(len(wanted), dtype=bool)
        if not q.any():
            moving = np.abs(said.eigenvalues[place]) > ZERO * np.abs(said.eigenvalues[place]).max()
        for m in np.flatnonzero(moving):
            rows.append(
                (
                    place,
                    said.eigenvalues[place, m] - wanted[m],
                    said.eigenvalue_deviations[place, m],
                    wanted[m],
                )
            )
    places, errors, deviations, wanted = (np.array(x) for x in zip(*rows, strict=True))
    return PhononErrors(said.qpoints, places, errors, deviations, wanted)


def standardised_errors(
    model: HiMLIP,
    posterior: Posterior,
    frames: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel] = (),
) -> dict[str, np.ndarray]:
    """Errors over predicted standard deviations, by kind of label.

    Parameters
    ----------
    model, posterior
        Of one fit.
    frames, hessians : sequences of labels

    Returns
    -------
    dict
        {kind: flat array}; a standard normal distribution if the posterior is right.
    """
    found = errors_and_deviations(model, posterior, frames, hessians)
    return {kind: error / width for kind, (error, width) in found.items()}


def calibration(errors: np.ndarray, deviations: np.ndarray) -> Calibration:
    """How well standard deviations (n,) describe errors (n,).

    Parameters
    ----------
    errors, deviations : ndarray (n,)

    Returns
    -------
    Calibration
    """
    from scipy.stats import spearmanr

    size = np.abs(errors)
    varies = np.ptp(deviations) > 0 and np.ptp(size) > 0
    return Calibration(
        float((size <= deviations).mean()),
        float((size <= 2 * deviations).mean()),
        float(np.sqrt(np.mean((errors / deviations) ** 2))),
        float(spearmanr(size, deviations).statistic) if varies else 0.0,
        size.size,
    )
