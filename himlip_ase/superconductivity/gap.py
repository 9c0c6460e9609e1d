"""The superconducting gap from the non-linear isotropic Migdal–Eliashberg equations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.sparse.linalg import LinearOperator, gmres

from himlip_ase import units
from himlip_ase.errors import InputError, NotConvergedError
from himlip_ase.superconductivity import codec
from himlip_ase.superconductivity.codec import Record
from himlip_ase.superconductivity.eliashberg import (
    DEFAULT_CUTOFF,
    MAX_FREQUENCIES,
    MatsubaraKernel,
    coupling_at_matsubara,
    eliashberg_tc,
    frequency_count,
    pairing_mode,
)
from himlip_ase.superconductivity.formulas import mu_star_of_frequencies
from himlip_ase.superconductivity.spectrum import Spectrum


@dataclass(frozen=True)
class GapSolution:
    """Δ(iω_n) and Z(iω_n) at one temperature.

    Attributes
    ----------
    kelvin : float
    omega_ev : ndarray, shape (n,)
        Positive Matsubara frequencies (2n+1)πkT.
    delta_ev : ndarray, shape (n,)
        0 everywhere in the normal state.
    z : ndarray, shape (n,)
        Mass renormalisation.
    residual_ev : float
        Largest violation of the gap equation.
    """

    kelvin: float
    omega_ev: np.ndarray
    delta_ev: np.ndarray
    z: np.ndarray
    residual_ev: float


def solve_gap(
    spectrum: Spectrum, kelvin: float, mu_star: float, cutoff: float = DEFAULT_CUTOFF
) -> GapSolution:
    """Solve Z_nΔ_n = πT Σ_m [λ(n−m) − μ*] Δ_m/√(ω_m²+Δ_m²) with its Z_n, constant density of states.

    Beyond the cutoff the electrons are taken as normal in Z_n and as absent in the pairing, which makes the
    equations linearise exactly to those of `eliashberg_tc`.

    Parameters
    ----------
    spectrum : Spectrum
    kelvin : float
    mu_star : float
        In the sense of Allen and Dynes, moved to the cutoff as in `eliashberg_tc`.
    cutoff : float
        In units of the highest phonon.

    Returns
    -------
    GapSolution

    Raises
    ------
    InputError
        A temperature so low that more than `MAX_FREQUENCIES` frequencies would be needed.
    NotConvergedError
        Newton's method failed.
    """
    spectrum = spectrum.coarsened()
    kt, top = kelvin / units.EV_KELVIN, spectrum.omega_max_ev
    if not kt > 0:
        raise InputError(f"T = {kelvin} K; a positive temperature is wanted")
    count = frequency_count(kt, top, cutoff)
    if count > MAX_FREQUENCIES:
        lowest = cutoff * top / (2 * np.pi * MAX_FREQUENCIES) * units.EV_KELVIN
        raise InputError(
            f"T = {kelvin:g} K wants {count} Matsubara frequencies; the lowest is {lowest:.2g} K"
        )
    mu_here = mu_star_of_frequencies(mu_star, kt, count, top, cutoff * top)
    n = np.arange(count)
    lam = coupling_at_matsubara(spectrum, kt, 2 * count)
    kernel = MatsubaraKernel(lam, count)
    omega = (2 * n + 1) * np.pi * kt
    normal = 1 + (lam[0] + 2 * (np.cumsum(lam[:count]) - lam[0])) / (2 * n + 1)

    def pairing(x: np.ndarray) -> np.ndarray:
        return np.pi * kt * (kernel.even(x) - 2 * mu_here * x.sum())

    def z_of(delta: np.ndarray) -> np.ndarray:
        return normal + kernel.odd(omega / np.hypot(omega, delta) - 1) / (2 * n + 1)

    def residual(delta: np.ndarray) -> np.ndarray:
        return pairing(delta / np.hypot(omega, delta)) - z_of(delta) * delta

    excess, mode = pairing_mode(spectrum, kt, count, mu_here)
    if excess <= 0:
        delta = np.zeros(count)
        return GapSolution(kelvin, omega, delta, z_of(delta), 0.0)
    weight = mode / omega

    def projected(log_size: float) -> float:
        return float(weight @ residual(np.exp(log_size) * mode) / np.exp(log_size))

    low, high = np.log(1e-3 * kt), np.log(10 * (top + kt) * (1 + spectrum.lambda_total))
    size = brentq(projected, low, high, xtol=1e-2) if projected(low) > 0 > projected(high) else low
    delta = np.exp(size) * mode
    for _ in range(60):
        z, energy3, here = z_of(delta), np.hypot(omega, delta) ** 3, delta

        def jacobian(
            v: np.ndarray, z: np.ndarray = z, energy3: np.ndarray = energy3, here: np.ndarray = here
        ) -> np.ndarray:
            v = v.ravel()
            renormalised = here / (2 * n + 1) * kernel.odd(v * omega * here / energy3)
            return (pairing(v * omega**2 / energy3) + renormalised) / z - v

        wrong = residual(delta) / z
        operator = LinearOperator((count, count), matvec=jacobian, dtype=float)
        step, _ = gmres(operator, wrong, rtol=1e-8, atol=0.0, restart=min(count, 80), maxiter=10)
        size = float(np.abs(step).max())
        delta = delta - step * min(1.0, 0.5 * np.abs(delta).max() / max(size, 1e-300))
        if size < 1e-11 * np.abs(delta).max():
            break
    else:
        raise NotConvergedError(f"the gap equations did not converge at {kelvin:g} K")
    if abs(delta[0]) < 1e-6 * kt:
        raise NotConvergedError(f"the gap equations fell onto the normal state at {kelvin:g} K, below Tc")
    delta = delta * (np.sign(delta[0]) or 1.0)
    return GapSolution(kelvin, omega, delta, z_of(delta), float(np.abs(residual(delta)).max()))


@dataclass(frozen=True)
class GapCurve:
    """Gap against temperature.

    Attributes
    ----------
    tc_kelvin : float
        From the linearised equations.
    vanishing_kelvin : float
        Where Δ² of the non-linear equations extrapolates to 0 near Tc.
    kelvin, delta0_ev : ndarray, shape (nT,)
        Δ(iω_0).
    gap_edge_ev : ndarray, shape (nT,)
        Re Δ(ω = Δ) on the real axis by Padé; nan where that fails.
    gap_edge_spread_ev : float
        Spread of the lowest temperature's edge among Padé approximants of different order.
    ratio : float
        2Δ₀/kTc with the edge at the lowest temperature.
    """

    tc_kelvin: float
    vanishing_kelvin: float
    kelvin: np.ndarray
    delta0_ev: np.ndarray
    gap_edge_ev: np.ndarray
    gap_edge_spread_ev: float
    ratio: float

    def to_record(self) -> Record:
        """Plain data for JSON."""
        return {
            "two_delta_over_kTc": codec.optional(self.ratio),
            "edge_mev": codec.optional(self.gap_edge_ev[0] * 1e3),
            "edge_uncertainty_mev": codec.optional(self.gap_edge_spread_ev * 1e3),
            "kelvin": float(self.kelvin[0]),
            "tc_kelvin": self.tc_kelvin,
            "vanishing_kelvin": codec.optional(self.vanishing_kelvin),
            "curve": {
                "kelvin": codec.column(self.kelvin),
                "delta0_mev": codec.column(self.delta0_ev * 1e3),
                "edge_mev": codec.column(self.gap_edge_ev * 1e3),
            },
            "how": "non-linear Migdal–Eliashberg equations, Padé; uncertainty: order of the approximant",
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> GapCurve:
        """What `to_record` wrote, to the last but one digit (meV in the file, eV here)."""
        curve = record["curve"]
        return cls(
            record["tc_kelvin"],
            codec.number(record["vanishing_kelvin"]),
            codec.array(curve["kelvin"]),
            codec.array(curve["delta0_mev"]) * 1e-3,
            codec.array(curve["edge_mev"]) * 1e-3,
            codec.number(record["edge_uncertainty_mev"]) * 1e-3,
            codec.number(record["two_delta_over_kTc"]),
        )


def gap_curve(
    spectrum: Spectrum,
    mu_star: float,
    reduced: Sequence[float] = (0.15, 0.3, 0.5, 0.7, 0.85, 0.95, 0.98, 0.99),
    cutoff: float = DEFAULT_CUTOFF,
) -> GapCurve:
    """Δ(T) at fractions `reduced` of Tc, ascending; see `solve_gap` for the rest.

    Parameters
    ----------
    spectrum : Spectrum
    mu_star, cutoff : float
        As in `solve_gap`.
    reduced : sequence of float
        T/Tc.

    Returns
    -------
    GapCurve

    Raises
    ------
    InputError
        There is no Tc, or `reduced` does not ascend within (0, 1).
    """
    fractions = np.asarray(reduced, float)
    if len(fractions) < 3 or not (np.diff(fractions) > 0).all() or not 0 < fractions[0] <= fractions[-1] < 1:
        raise InputError(f"reduced = {list(reduced)}; at least three ascending fractions of Tc are wanted")
    tc = eliashberg_tc(spectrum, mu_star, cutoff)
    if not np.isfinite(tc):
        raise InputError("the Eliashberg equations have no transition here, so that there is no gap")
    kelvin = fractions * tc
    solutions = [solve_gap(spectrum, float(t), mu_star, cutoff) for t in kelvin]
    delta0 = np.array([s.delta_ev[0] for s in solutions])
    # Δ² is analytic in T near Tc: a parabola through the last three points
    last = np.polyfit(kelvin[-3:] / tc, delta0[-3:] ** 2 / delta0[0] ** 2, 2)
    roots = np.roots(last)
    real = roots[np.abs(roots.imag) < 1e-9].real
    near = real[np.abs(real - 1).argmin()] if len(real) else np.nan
    edges = [pade_gap_edge(s) for s in solutions]
    edge = np.array([e[0] for e in edges])
    ratio = 2 * edge[0] * units.EV_KELVIN / tc
    return GapCurve(tc, float(near * tc), kelvin, delta0, edge, edges[0][1], float(ratio))


def pade(points: np.ndarray, values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Continued-fraction interpolant through (points, values) at `where`, complex, extended precision.

    Vidberg and Serene, J. Low Temp. Phys. 29, 179 (1977).

    Parameters
    ----------
    points, values : ndarray, shape (n,), complex
    where : ndarray, shape (m,), complex

    Returns
    -------
    ndarray, shape (m,), complex
    """
    z, w = points.astype(np.clongdouble), where.astype(np.clongdouble)
    table = values.astype(np.clongdouble)
    coefficients = [table[0]]
    for order in range(1, len(z)):
        table = (coefficients[-1] - table[1:]) / ((z[order:] - z[order - 1]) * table[1:])
        coefficients.append(table[0])
    result = np.ones_like(w)
    for order in range(len(z) - 1, 0, -1):
        result = 1 + coefficients[order] * (w - z[order - 1]) / result
    return np.asarray(coefficients[0] / result)


def pade_gap_edge(
    solution: GapSolution, orders: Sequence[int] = (8, 10, 12, 14, 16, 20, 24)
) -> tuple[float, float]:
    """Gap edge on the real axis, the solution of Re Δ(ω) = ω, and its spread over Padé orders (eV).

    Parameters
    ----------
    solution : GapSolution
    orders : sequence of int
        Points of each approximant.

    Returns
    -------
    (float, float)
        Median and half the inter-quartile range over the orders that give an edge; (nan, nan) if none does.
        (0, 0) in the normal state.
    """
    delta = solution.delta_ev
    if delta[0] == 0:
        return 0.0, 0.0
    edges = []
    for order in orders:
        if order > len(delta):
            continue
        points, values = 1j * solution.omega_ev[:order], delta[:order].astype(complex)

        def mismatch(w: float, points: np.ndarray = points, values: np.ndarray = values) -> float:
            return float(pade(points, values, np.array([complex(w, 0)]))[0].real) - w

        scan = delta[0] * np.linspace(0.05, 3.0, 120)
        signs = pade(points, values, scan.astype(complex)).real - scan
        crossing = np.flatnonzero((signs[:-1] > 0) & (signs[1:] <= 0))
        if len(crossing):
            edges.append(brentq(mismatch, scan[crossing[0]], scan[crossing[0] + 1]))
    if not edges:
        return float("nan"), float("nan")
    low, middle, high = np.percentile(edges, [25, 50, 75])
    return float(middle), float((high - low) / 2)


def tc_sensitivity(
    spectrum: Spectrum, omega_ev: np.ndarray, mu_star: float, cutoff: float = DEFAULT_CUTOFF
) -> np.ndarray:
    """Functional derivative δTc/δα²F(ω) (K/eV) of the Eliashberg Tc (Bergmann and Rainer, 1973).

    Parameters
    ----------
    spectrum : Spectrum
    omega_ev : ndarray, shape (n,)
        Phonon energies at which α²F is changed, positive.
    mu_star, cutoff
        As in `eliashberg_tc`; the cutoff stays where the unchanged spectrum puts it.

    Returns
    -------
    ndarray, shape (n,)
        Tc's change for α²F(ω') → α²F(ω') + ε δ(ω' − ω), divided by ε, ε → 0.
    """
    from himlip_ase.superconductivity.eliashberg import largest_eigenvalue

    omega_ev = np.asarray(omega_ev, float)
    if not (omega_ev > 0).all():
        raise InputError("omega_ev must be positive")
    spectrum = spectrum.coarsened()
    tc = eliashberg_tc(spectrum, mu_star, cutoff)
    if not np.isfinite(tc):
        raise InputError("the Eliashberg equations have no transition here, so that Tc has no derivative")
    kt, top = tc / units.EV_KELVIN, spectrum.omega_max_ev
    count = frequency_count(kt, top, cutoff)

    def excess(which: Spectrum, temperature: float) -> float:
        here = mu_star_of_frequencies(mu_star, temperature, count, top, cutoff * top)
        return largest_eigenvalue(which, temperature, count, here)

    slope = (excess(spectrum, 1.001 * kt) - excess(spectrum, 0.999 * kt)) / (0.002 * kt)
    small = 1e-4 * spectrum.lambda_total
    result = []
    for omega in omega_ev:
        energies = np.append(spectrum.energies_ev, omega)
        more = Spectrum(energies, np.append(spectrum.lambdas, small))
        less = Spectrum(energies, np.append(spectrum.lambdas, -small))
        change = (excess(more, kt) - excess(less, kt)) / (2 * small)  # per λ put at ω
        result.append(-change / slope * 2 / omega)  # ε of α²F is λ = 2ε/ω
    return np.array(result) * units.EV_KELVIN
