"""Errors of Hessians: elements, eigenvalues, modes, phonons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from himlip_ase.hint.evaluation.error_summary import ErrorSummary, Mean
from himlip_ase.hint.evaluation.mode_overlap import (
    ModeErrors,
    internal_eigenvalues,
    internal_modes,
    mode_errors,
)
from himlip_ase.hint.evaluation.phonopy_metrics import PhonopyErrors, phonopy_errors
from himlip_ase.labels.frames import HessianLabel
from himlip_ase.potential.derivatives import hessian
from himlip_ase.potential.interface import Potential
from himlip_ase.units import signed_frequencies_cm

if TYPE_CHECKING:
    from himlip_ase.phonons.force_constants import ForceConstants

KEPT_ELEMENTS = 2000
"""Elements of one Hessian that are kept for a parity plot."""


@dataclass
class HessianErrors:
    """Errors of a Hessian.

    Attributes
    ----------
    atoms : int
    hessian : ErrorSummary
        Elements, eV/Å².
    eigenvalues : ErrorSummary
        Sorted eigenvalues of the mass-free Hessian, eV/Å².
    asymmetry, sum_rule : float
        Largest violation by the potential, eV/Å².
    mean_asymmetry : float
        Mean |H − Hᵀ| over all elements, eV/Å².
    internal : ErrorSummary or None
        Sorted eigenvalues of the mass-free Hessian with rigid motions projected out, eV/Å²; None for an atom.
    modes : ModeErrors or None
        Of the mass-weighted Hessian without rigid motions.
    frequencies : ErrorSummary or None
        Over the commensurate q-grid, cm⁻¹, imaginary modes as negative numbers, branches in ascending order.
    worst_q : list of float or None
        Fractional q of the largest deviation.
    lowest : tuple of float or None
        Lowest frequency, label and prediction, cm⁻¹.
    phonopy : PhonopyErrors or None
        What phonopy itself says of both.
    pairs, elements : (labels, predictions)
        Frequencies, cm⁻¹: of the q-grid, else of the internal modes; some of the elements, eV/Å².
    """

    atoms: int
    hessian: ErrorSummary
    eigenvalues: ErrorSummary
    asymmetry: float
    mean_asymmetry: float
    sum_rule: float
    internal: ErrorSummary | None = None
    modes: ModeErrors | None = None
    frequencies: ErrorSummary | None = None
    worst_q: list[float] | None = None
    lowest: tuple[float, float] | None = None
    phonopy: PhonopyErrors | None = None
    pairs: tuple[np.ndarray, np.ndarray] | None = field(default=None, repr=False)
    elements: tuple[np.ndarray, np.ndarray] | None = field(default=None, repr=False)

    def numbers(self) -> dict[str, float]:
        """The figures of which a mean over structures makes sense, by the names that reports use."""
        found = {
            "hessian MAE (eV/Å²)": self.hessian.mae,
            "hessian RMSE (eV/Å²)": self.hessian.rmse,
            "eigenvalue MAE (eV/Å²)": self.eigenvalues.mae,
            "mean asymmetry (eV/Å²)": self.mean_asymmetry,
            "largest sum-rule violation (eV/Å²)": self.sum_rule,
        }
        if self.internal is not None:
            found["eigenvalue MAE, projected (eV/Å²)"] = self.internal.mae
        if self.modes is not None:
            found["lowest-mode cosine"] = self.modes.lowest_cosine
            found["sign agreement"] = self.modes.sign_agreement
            found["number of unstable modes right"] = float(self.modes.unstable[0] == self.modes.unstable[1])
            found["frequency MAE (/cm)"] = self.modes.frequency_mae
        if self.frequencies is not None:
            found["frequency MAE, q-grid (/cm)"] = self.frequencies.mae
            found["frequency RMSE, q-grid (/cm)"] = self.frequencies.rmse
        return found


def means(errors: Sequence[HessianErrors]) -> dict[str, Mean]:
    """Mean and standard error over structures of each of `HessianErrors.numbers`."""
    values: dict[str, list[float]] = {}
    for item in errors:
        for name, value in item.numbers().items():
            values.setdefault(name, []).append(value)
    return {name: Mean.of(found) for name, found in values.items()}


def hessian_errors(model: Potential, label: HessianLabel) -> HessianErrors:
    """Errors of the potential's Hessian against a label, and of the frequencies if the label is a crystal's.

    Parameters
    ----------
    model : Potential
    label : HessianLabel

    Returns
    -------
    HessianErrors
    """
    constants = label.force_constants
    if constants is None:
        device = next(model.parameters()).device
        return compare_hessians(hessian(model, label.atoms, device=device).detach().cpu().numpy(), label)
    own = force_constants_like(model, constants)
    result = compare_hessians(own.hessian(), label)
    theirs = constants.dynamical_matrices()
    wanted = np.asarray(theirs.frequencies())
    got = np.asarray(own.dynamical_matrices().frequencies())
    result.frequencies = ErrorSummary.of(got, wanted)
    worst = np.unravel_index(np.abs(got - wanted).argmax(), got.shape)[0]
    result.worst_q = [float(x) for x in theirs.qpoints[worst]]
    result.lowest = (float(wanted.min()), float(got.min()))
    result.phonopy = phonopy_errors(own, constants)
    result.pairs = (wanted.ravel(), got.ravel())
    return result


def force_constants_like(model: Potential, constants: ForceConstants) -> ForceConstants:
    """The potential's force constants of the crystal and supercell of given ones.

    Parameters
    ----------
    model : Potential
    constants : ForceConstants

    Returns
    -------
    ForceConstants
        eV/Å².
    """
    atoms, device = constants.supercell, next(model.parameters()).device
    first = range(0, len(atoms), len(atoms) // len(constants.primitive))
    rows = hessian(model, atoms, indices=first, device=device).detach().cpu().numpy()
    return type(constants)(constants.primitive, constants.dims, rows.transpose(0, 2, 1, 3))


def compare_hessians(predicted: np.ndarray, label: HessianLabel) -> HessianErrors:
    """Errors of a Hessian (N, 3, N, 3), eV/Å², whatever made it.

    Parameters
    ----------
    predicted : ndarray (N, 3, N, 3)
        eV/Å².
    label : HessianLabel

    Returns
    -------
    HessianErrors
        Without `frequencies`, which need the force constants of a crystal.
    """
    transposed = predicted.transpose(2, 3, 0, 1)
    wanted, got = _eigenvalues(label.matrix), _eigenvalues(predicted)
    inner = internal_eigenvalues(label.atoms, label.matrix), internal_eigenvalues(label.atoms, predicted)
    some = np.random.default_rng(0).permutation(predicted.size)[:KEPT_ELEMENTS]
    return HessianErrors(
        len(label.atoms),
        ErrorSummary.of(predicted, label.matrix),
        ErrorSummary.of(got, wanted),
        float(np.abs(predicted - transposed).max()),
        float(np.abs(predicted - transposed).mean()),
        float(np.abs(predicted.sum(axis=2)).max()),
        ErrorSummary.of(inner[1], inner[0]) if inner[0].size else None,
        mode_errors(label.atoms, predicted, label.matrix),
        pairs=(_frequencies(label.atoms, label.matrix), _frequencies(label.atoms, predicted)),
        elements=(np.ravel(label.matrix)[some], np.ravel(predicted)[some]),
    )


def _frequencies(atoms: Atoms, matrix: np.ndarray) -> np.ndarray:
    return signed_frequencies_cm(internal_modes(atoms, matrix)[0])


def _eigenvalues(matrix: np.ndarray) -> np.ndarray:
    size = 3 * len(matrix)
    square = matrix.reshape(size, size)
    return np.linalg.eigvalsh((square + square.T) / 2)
