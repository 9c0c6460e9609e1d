"""How a potential deviates from a reference on the same configurations: energies, and forces by element."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Deviation:
    """Potential against reference.

    Attributes
    ----------
    name : str
        An element, "all" or "energy".
    rms : float
        Root mean square of potential − reference: eV/Å for a force component, eV per atom for an energy.
    bias : float
        Mean of potential − reference for energies; for forces, which vanish on average, slope − 1 of the
        potential's forces on the reference's (negative: too soft).
    correlation : float
        Pearson's, NaN if one of them does not vary.
    spread : float
        Root mean square of the reference (about its mean for energies), in the unit of `rms`.
    """

    name: str
    rms: float
    bias: float
    correlation: float
    spread: float

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON; what is not defined is None."""
        values = dataclasses.asdict(self)
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()}


def force_deviations(symbols: Sequence[str], potential: np.ndarray, reference: np.ndarray) -> list[Deviation]:
    """Deviations of forces (n, N, 3), of all atoms and of each element.

    Parameters
    ----------
    symbols : sequence of str
        Of the N atoms.
    potential, reference : ndarray, shape (n, N, 3)
        eV/Å.

    Returns
    -------
    list of Deviation
        Of all atoms, then of each element.
    """
    kinds = np.array(symbols)
    masks = {"all": np.ones(len(kinds), dtype=bool)} | {str(s): kinds == s for s in np.unique(kinds)}
    return [_forces(name, potential[:, mask], reference[:, mask]) for name, mask in masks.items()]


def _forces(name: str, potential: np.ndarray, reference: np.ndarray) -> Deviation:
    ours, theirs = potential.ravel(), reference.ravel()
    square = float(theirs @ theirs)
    slope = float(ours @ theirs) / square if square > 0 else np.nan
    return Deviation(
        name,
        float(np.sqrt(((ours - theirs) ** 2).mean())),
        slope - 1,
        _correlation(ours, theirs),
        float(np.sqrt(square / len(theirs))),
    )


def energy_deviation(n_atoms: int, potential: np.ndarray, reference: np.ndarray) -> Deviation:
    """Deviation of energies (n,) in eV, each above that of the centroids, per atom.

    Parameters
    ----------
    n_atoms : int
    potential, reference : ndarray, shape (n,)
        eV per supercell.

    Returns
    -------
    Deviation
        eV per atom.
    """
    ours, theirs = potential / n_atoms, reference / n_atoms
    return Deviation(
        "energy",
        float(np.sqrt(((ours - theirs) ** 2).mean())),
        float((ours - theirs).mean()),
        _correlation(ours, theirs),
        float(theirs.std()),
    )


def _correlation(one: np.ndarray, two: np.ndarray) -> float:
    if one.std() == 0 or two.std() == 0:
        return np.nan
    return float(np.corrcoef(one, two)[0, 1])
