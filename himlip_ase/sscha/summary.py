"""A result in a few lines for people."""

from __future__ import annotations

import numpy as np

from himlip_ase.sscha.hessian import acoustic
from himlip_ase.sscha.result import SschaResult
from himlip_ase.units import EV_PER_ANGSTROM3_GPA


def describe(result: SschaResult) -> list[str]:
    """Verdict first, then free energy, pressure and frequencies with their errors."""
    lines = [
        f"{'converged' if result.converged else 'NOT CONVERGED'}: {result.verdict}",
        f"free energy    {result.free_energy * 1e3:.2f} ± {result.free_energy_sigma * 1e3:.2f} meV per cell "
        "above the static lattice",
    ]
    if result.stress is not None and result.stress_sigma is not None:
        pressure = -result.stress[:3].mean() * EV_PER_ANGSTROM3_GPA
        error = np.sqrt((result.stress_sigma[:3] ** 2).mean()) * EV_PER_ANGSTROM3_GPA
        lines.append(f"pressure       {pressure:.2f} ± {error:.2f} GPa")
    lines.append("frequencies (cm⁻¹): q, auxiliary, free-energy Hessian")
    auxiliary, hessian = result.frequencies(), result.hessian_frequencies()
    for index, q in enumerate(result.auxiliary.qpoints):
        lines.append(f"q = ({q[0]:.3g}, {q[1]:.3g}, {q[2]:.3g})")
        lines.append(f"  auxiliary  {_row(auxiliary[index], result.auxiliary_sigma_cm[index])}")
        if hessian is not None and result.hessian_sigma_cm is not None:
            lines.append(f"  Hessian    {_row(hessian[index], result.hessian_sigma_cm[index])}")
    if result.hessian is not None and hessian is not None and result.hessian_sigma_cm is not None:
        lines += _instabilities(result, hessian, result.hessian_sigma_cm)
    return lines


def _row(values: np.ndarray, errors: np.ndarray) -> str:
    return " ".join(f"{value:.0f}±{error:.0f}" for value, error in zip(values, errors, strict=True))


def _instabilities(result: SschaResult, hessian: np.ndarray, sigma: np.ndarray) -> list[str]:
    assert result.hessian is not None
    physical = np.ones(hessian.shape, dtype=bool)
    physical[0, acoustic(result.hessian)] = False
    lowest = int(np.argmin(np.where(physical, hessian, np.inf)))
    value, error = hessian.ravel()[lowest], sigma.ravel()[lowest]
    q = result.auxiliary.qpoints[lowest // hessian.shape[1]]
    if value < -2 * error:
        state = "unstable: the crystal distorts along it"
    elif value <= 2 * error:
        state = "stable or unstable: its error bar does not say"
    else:
        state = "stable on this grid"
    return [
        f"lowest mode of the free-energy Hessian: {value:.0f} ± {error:.0f} cm⁻¹ at "
        f"q = ({q[0]:.3g}, {q[1]:.3g}, {q[2]:.3g}); {state}"
    ]
