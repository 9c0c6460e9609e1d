"""Whether predicted standard deviations are as large as the errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import erf

from himlip_ase.hint.labels import HessianLabel, LabelledFrame
from himlip_ase.hint.posterior import Posterior
from himlip_ase.potential.derivatives import hessian
from himlip_ase.potential.evaluate import evaluate
from himlip_ase.potential.network import HiMLIP


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


EXPECTED = (float(erf(1 / np.sqrt(2))), float(erf(2 / np.sqrt(2))))


def errors_and_deviations(
    model: HiMLIP,
    posterior: Posterior,
    frames: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel] = (),
    rows: int | None = None,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Errors of a model on labels, and what the posterior said they would be.

    Parameters
    ----------
    model, posterior
        Of one fit.
    frames, hessians : sequences of labels
    rows : int, optional
        Atoms of each Hessian whose rows are compared; all by default.

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
        chosen = list(range(len(item.atoms) if rows is None else min(rows, len(item.atoms))))
        found = hessian(model, item.atoms, indices=chosen).detach().cpu().numpy()
        errors["hessian"].append(np.ravel(found - item.matrix[chosen]))
        widths["hessian"].append(np.ravel(posterior.hessian_uncertainty(model, item.atoms, chosen)))
    return {k: (np.concatenate(v), np.concatenate(widths[k])) for k, v in errors.items() if v}


def standardised_errors(
    model: HiMLIP,
    posterior: Posterior,
    frames: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel] = (),
) -> dict[str, np.ndarray]:
    """Errors over predicted standard deviations, by kind of label."""
    found = errors_and_deviations(model, posterior, frames, hessians)
    return {kind: error / width for kind, (error, width) in found.items()}


def calibration(errors: np.ndarray, deviations: np.ndarray) -> Calibration:
    """How well standard deviations (n,) describe errors (n,)."""
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
