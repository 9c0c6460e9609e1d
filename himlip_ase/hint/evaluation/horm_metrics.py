"""Errors as HORM defines them, so that figures can be set beside published ones.

HORM (deepprinciple/HORM, ``eval.py``, at commit 687d1f3): of each molecule the mean absolute error of its
total energy, its force components, the elements of its Hessian and the sorted eigenvalues of the Hessian
without masses (rigid motions included), and the mean |H − Hᵀ|; then the mean over molecules, each counting
alike. Its script prints eigenvalues in hartree/bohr².
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from himlip_ase.hint.evaluation.hessian_errors import HessianErrors
from himlip_ase.units import BOHR_ANGSTROM, HARTREE_EV

EV_PER_ANGSTROM2_HARTREE_PER_BOHR2 = BOHR_ANGSTROM**2 / HARTREE_EV


@dataclass(frozen=True)
class HormErrors:
    """Mean over structures of each structure's mean absolute error; None where there was no label.

    Attributes
    ----------
    energy : float or None
        Total energy of a structure, eV.
    forces : float or None
        eV/Å.
    hessian, eigenvalues, asymmetry : float or None
        eV/Å².
    eigenvalues_hartree_per_bohr2 : float or None
        The unit in which its script prints them.
    structures, hessians : int
        How many have energies or forces; a Hessian.
    """

    energy: float | None
    forces: float | None
    hessian: float | None
    eigenvalues: float | None
    eigenvalues_hartree_per_bohr2: float | None
    asymmetry: float | None
    structures: int
    hessians: int

    @classmethod
    def of(
        cls, energies: Sequence[float], forces: Sequence[float], hessians: Sequence[HessianErrors]
    ) -> HormErrors:
        """From the absolute errors of total energies, the force MAE of each structure, and the Hessians.

        Parameters
        ----------
        energies : sequence of float
            |ΔE| of each structure, eV.
        forces : sequence of float
            Mean absolute error of the force components of each, eV/Å.
        hessians : sequence of HessianErrors
        """

        def mean(values: Sequence[float]) -> float | None:
            return float(np.mean(values)) if len(values) else None

        eigenvalues = mean([h.eigenvalues.mae for h in hessians])
        return cls(
            mean(energies),
            mean(forces),
            mean([h.hessian.mae for h in hessians]),
            eigenvalues,
            None if eigenvalues is None else eigenvalues * EV_PER_ANGSTROM2_HARTREE_PER_BOHR2,
            mean([h.mean_asymmetry for h in hessians]),
            max(len(energies), len(forces)),
            len(hessians),
        )
