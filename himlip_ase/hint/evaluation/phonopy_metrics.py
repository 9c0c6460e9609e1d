"""Errors as phonopy (4.8) defines them: frequencies in THz, and drifts.

Frequencies are those of the dynamical matrices, imaginary ones negative; the drift of the force constants is
their largest sum over all atoms (``show_drift_force_constants``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from himlip_ase.phonons.force_constants import ForceConstants


@dataclass(frozen=True)
class PhonopyErrors:
    """What phonopy itself says of two sets of force constants.

    Attributes
    ----------
    frequency_mae, frequency_rmse : float
        THz, over the commensurate q-points.
    drift, label_drift : float
        Largest sum of the force constants over all atoms, eV/Å².
    """

    frequency_mae: float
    frequency_rmse: float
    drift: float
    label_drift: float


def phonopy_errors(predicted: ForceConstants, label: ForceConstants) -> PhonopyErrors:
    """Frequencies and drifts by phonopy, of the same supercell.

    Parameters
    ----------
    predicted, label : ForceConstants

    Returns
    -------
    PhonopyErrors
    """
    from himlip_ase.lattice import commensurate_qpoints

    own, theirs = (constants.to_phonopy(symmetry=False) for constants in (predicted, label))
    qpoints = commensurate_qpoints(label.dims)
    difference = np.abs(_frequencies(own, qpoints) - _frequencies(theirs, qpoints))
    return PhonopyErrors(
        float(difference.mean()),
        float(np.sqrt((difference**2).mean())),
        _drift(own),
        _drift(theirs),
    )


def _frequencies(phonon: Any, qpoints: np.ndarray) -> np.ndarray:
    return np.asarray(phonon.run_qpoints(qpoints).frequencies)


def _drift(phonon: Any) -> float:
    from phonopy.harmonic.force_constants import get_drift_force_constants

    first, second, _, _ = get_drift_force_constants(np.array(phonon.force_constants), phonon.primitive)
    return float(max(abs(first), abs(second)))
