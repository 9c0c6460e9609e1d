"""A result in a few lines for people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from himlip_ase.phonons.force_constants import acoustic
from himlip_ase.sscha.curvature.stars import inequivalent
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.precision import precision_sentence
from himlip_ase.sscha.results.result import SschaResult
from himlip_ase.sscha.watch.watch import WatchRecord
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
    if result.final_rounding is not None:
        lines.append(f"forces         {precision_sentence(result.final_rounding)}")
    lines.append("frequencies (cm⁻¹): q, auxiliary, free-energy Hessian")
    auxiliary, hessian = result.frequencies(), result.hessian_frequencies()
    for index, count in inequivalent(auxiliary):
        q = result.auxiliary.qpoints[index]
        more = f" and {count - 1} like it" if count > 1 else ""
        lines.append(f"q = ({q[0]:.3g}, {q[1]:.3g}, {q[2]:.3g}){more}")
        lines.append(f"  auxiliary  {_row(auxiliary[index], result.auxiliary_sigma_cm[index])}")
        if hessian is not None and result.hessian_sigma_cm is not None:
            lines.append(f"  Hessian    {_row(hessian[index], result.hessian_sigma_cm[index])}")
    if result.hessian is not None and hessian is not None and result.hessian_sigma_cm is not None:
        lines += _instabilities(result, hessian, result.hessian_sigma_cm)
    return lines


def describe_watch(records: Sequence[WatchRecord]) -> list[str]:
    """What the ensembles of a run visited: the last one, and every one that left the trusted region."""
    if not records:
        return []
    outside = [record for record in records if not record.trusted]
    last = records[-1]
    lines = [f"potential      {'used outside of its labels' if not last.trusted else 'within its labels'}: "]
    if np.isnan(last.farthest).all():
        lines[0] = "potential      " + (
            "no labels given to compare with (--labels): "
            if last.trusted
            else "asked for collapsed distances: "
        )
    lines[0] += last.message
    if last.trusted and outside:
        names = ", ".join(record.name for record in outside)
        lines.append(
            f"               on the way {names} left the trusted region; the final ensemble does not"
        )
    return lines


def describe_ensemble(ensemble: Ensemble) -> list[str]:
    """An ensemble by itself: its free energy, and what it asks of the matrices that generated it."""
    from himlip_ase.sscha.convergence.residual import residual
    from himlip_ase.sscha.minimisation.engines import engine
    from himlip_ase.sscha.symmetry import SpaceGroup

    n, distribution = len(ensemble), ensemble.drawn_from
    value, sigma = engine("native").free_energy(ensemble)
    found = residual(distribution, ensemble, SpaceGroup(distribution.dynamical), min(20, n // 2))
    dims = "×".join(str(d) for d in distribution.dims)
    return [
        f"{n} configurations of a {dims} supercell at {distribution.temperature_k:g} K",
        f"free energy    {value:.6f} ± {sigma:.6f} eV per cell, potential energy included",
        f"gradient       changes of {np.sqrt((found.shifts_cm**2).mean()):.1f} cm⁻¹ rms asked for, error "
        f"{np.sqrt((found.sigma_cm**2).mean()):.1f} cm⁻¹; largest {np.abs(found.shifts_cm).max():.1f} cm⁻¹",
        f"closest atoms  {ensemble.shortest_distance:.2f} Å",
    ]


def _row(values: np.ndarray, errors: np.ndarray) -> str:
    whole = np.rint(values) + 0.0  # no minus zero
    return " ".join(f"{value:.0f}±{error:.0f}" for value, error in zip(whole, errors, strict=True))


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
