"""α²F, λ and Tc of one set of phonons, with all that is known of their uncertainty."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from himlip_ase.superconductivity.bootstrap import BootstrapTc
from himlip_ase.superconductivity.coupling import ImaginaryMode
from himlip_ase.superconductivity.gap import GapCurve
from himlip_ase.superconductivity.plateau import SigmaPlateau
from himlip_ase.superconductivity.q_mesh import QMeshRow
from himlip_ase.superconductivity.spectrum import Spectrum
from himlip_ase.superconductivity.tc import TcTable


@dataclass(frozen=True)
class TcAnalysis:
    """α²F and Tc of one set of phonons.

    Attributes
    ----------
    label : str
        For example "harmonic".
    spectrum : Spectrum
    table : TcTable
        Each Tc with the sources of its uncertainty.
    imaginary : tuple of ImaginaryMode
        Left out of every sum.
    sigma_ry : float or None
        None for a tabulated α²F.
    plateau : SigmaPlateau or None
        Of these phonons; None with fewer than three broadenings. Whether σ was chosen on it, `sigma_source`
        says.
    sigma_source : str
        Where σ and the window of its spread come from.
    masses_amu : dict
        Element to mass in use.
    elements : dict of str to Spectrum
        Shares |e_qν,a|² of each element in the q-sum.
    q_mesh : tuple of QMeshRow
        λ and Tc against the q-grid of G and the mesh, where asked for.
    noise : BootstrapTc or None
        Spread over resampled SSCHA ensembles, where their blocks were given.
    full_bandwidth : dict of float to float or str
        For each μ*, the Migdal–Eliashberg Tc (K) with the energy-dependent DOS, or why there is none.
    gap : GapCurve or None
        Δ(T) at the first μ*, when asked for and when there is a Tc.
    """

    label: str
    spectrum: Spectrum
    table: TcTable
    imaginary: tuple[ImaginaryMode, ...] = ()
    sigma_ry: float | None = None
    plateau: SigmaPlateau | None = None
    sigma_source: str = ""
    masses_amu: dict[str, float] = field(default_factory=dict)
    elements: dict[str, Spectrum] = field(default_factory=dict)
    q_mesh: tuple[QMeshRow, ...] = ()
    noise: BootstrapTc | None = None
    full_bandwidth: dict[float, float | str] = field(default_factory=dict)
    gap: GapCurve | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data: dict[str, Any] = {"label": self.label, **self.table.to_dict()}
        data["imaginary_modes"] = [
            {"q": list(m.qpoint), "branch": m.branch, "frequency_cm": m.frequency_cm} for m in self.imaginary
        ]
        data["sigma_ry"] = self.sigma_ry
        data["sigma_source"] = self.sigma_source
        data["masses_amu"] = self.masses_amu
        data["lambda_by_element"] = {name: part.lambda_total for name, part in self.elements.items()}
        if self.gap is not None:
            data["gap"] = self.gap.to_dict()
        if self.plateau is not None:
            data["sigma_plateau"] = self.plateau.to_dict()
        if self.q_mesh:
            data["q_mesh"] = [row.to_dict() for row in self.q_mesh]
        if self.noise is not None:
            data["bootstrap"] = {
                "samples": self.noise.samples,
                "without_tc": self.noise.refused,
                "lambda_mean": _finite(self.noise.lambda_mean),
                "lambda_std": _finite(self.noise.lambda_std),
            }
        if self.full_bandwidth:
            data["tc_energy_dependent_dos"] = [
                {"mu_star": mu, "value": value, "unit": "K"}
                if isinstance(value, float)
                else {"mu_star": mu, "value": None, "unit": "K", "reason": value}
                for mu, value in self.full_bandwidth.items()
            ]
        return data


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
