"""Isotropic Migdal–Eliashberg equations with an energy-dependent density of states.

With n(ε) = N(ε)/N(E_F), Θ_m(ε) = (ω_m Z_m)² + (ε − μ + χ_m)² + φ_m², and sums over all Matsubara frequencies
(Pickett, PRB 26, 1186 (1982); Lucrezi et al., Commun. Phys. 7, 33 (2024)),

    Z_n = 1 + (T/ω_n) Σ_m λ(n−m) ω_m Z_m ∫dε n(ε)/Θ_m(ε)
    χ_n =    − T Σ_m λ(n−m) ∫dε n(ε) (ε − μ + χ_m)/Θ_m(ε)
    φ_n =      T Σ_m [λ(n−m) − μ*] φ_m ∫dε n(ε)/Θ_m(ε)
    N_el ∝ ∫dε n(ε) [1 − 2T Σ_m (ε − μ + χ_m)/Θ_m(ε)]   conserved, which fixes μ.

The constant part of n, 1, is integrated analytically from −∞ to ∞ (π/√((ω_mZ_m)² + φ_m²), and 0 in χ), and
only n(ε) − 1 numerically, on the energies of the DOS. With n = 1 every integral that is left vanishes: the
equations become those of `eliashberg_tc` and `solve_gap` exactly, their treatment of the cutoff included.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, root_scalar

from himlip_ase import units
from himlip_ase.errors import InputError, NotConvergedError
from himlip_ase.superconductivity.electronic_dos import ElectronicDos
from himlip_ase.superconductivity.eliashberg import (
    DEFAULT_CUTOFF,
    MatsubaraKernel,
    coupling_at_matsubara,
    eliashberg_tc,
    frequency_count,
    normal_state_z,
    pairing_excess,
    refined,
)
from himlip_ase.superconductivity.formulas import mu_star_of_frequencies
from himlip_ase.superconductivity.spectrum import Spectrum

MAX_COUNT = 3000


@dataclass(frozen=True)
class FullBandwidthState:
    """Solution of the equations at one temperature, for positive Matsubara frequencies.

    Attributes
    ----------
    kelvin : float
    omega_ev, z, chi_ev, phi_ev : ndarray, shape (n,)
    chemical_potential_ev : float
        Relative to the Fermi level of T = 0 without coupling.
    """

    kelvin: float
    omega_ev: np.ndarray
    z: np.ndarray
    chi_ev: np.ndarray
    phi_ev: np.ndarray
    chemical_potential_ev: float

    @property
    def delta_ev(self) -> np.ndarray:
        """Gap function Δ_n = φ_n/Z_n (eV)."""
        return self.phi_ev / self.z


class _Equations:
    """The right-hand sides at one temperature."""

    def __init__(self, spectrum: Spectrum, dos: ElectronicDos, kt: float, count: int, mu_star: float) -> None:
        self.kt, self.count, self.mu_star = kt, count, mu_star
        self.omega = (2 * np.arange(count) + 1) * np.pi * kt
        self.lam = coupling_at_matsubara(spectrum, kt, 2 * count)
        self.kernel = MatsubaraKernel(self.lam, count)
        self.normal_z = normal_state_z(self.lam, count)
        self.energies, weights, self.excess = dos.quadrature(0.3 * np.pi * kt)
        self.weights = weights * self.excess
        # electrons are counted within the largest window around E_F that the DOS covers on both sides
        half = min(-self.energies[0], self.energies[-1])
        self.window = np.where(np.abs(self.energies) <= half, weights * (1 + self.excess), 0.0)
        self.electrons = float(
            self.window[self.energies < 0].sum() + 0.5 * self.window[self.energies == 0].sum()
        )

    def integrals(
        self, z: np.ndarray, chi: np.ndarray, phi: np.ndarray, mu: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """∫(n−1)/Θ and ∫(n−1)(ε−μ+χ)/Θ for each frequency."""
        first, second = np.empty(self.count), np.empty(self.count)
        gap2 = (self.omega * z) ** 2 + phi**2
        for start in range(0, self.count, 256):
            part = slice(start, start + 256)
            shifted = self.energies[None, :] - mu + chi[part, None]
            inverse = 1 / (gap2[part, None] + shifted**2)
            first[part] = inverse @ self.weights
            second[part] = (shifted * inverse) @ self.weights
        return first, second

    def occupation(self, z: np.ndarray, chi: np.ndarray, phi: np.ndarray, mu: float) -> float:
        """Electrons in the window minus those of the bare crystal at T = 0, per N(E_F) and spin, eV."""
        bare = 0.5 * (1 - np.tanh((self.energies - mu) / (2 * self.kt)))
        gap2 = (self.omega * z) ** 2 + phi**2
        change = np.zeros_like(self.energies)
        for start in range(0, self.count, 256):
            part = slice(start, start + 256)
            shifted = self.energies[None, :] - mu + chi[part, None]
            free = (self.energies - mu)[None, :]
            change += (
                shifted / (gap2[part, None] + shifted**2) - free / (self.omega[part, None] ** 2 + free**2)
            ).sum(axis=0)
        return float(self.window @ (bare - 2 * self.kt * change)) - self.electrons

    def chemical_potential(self, z: np.ndarray, chi: np.ndarray, phi: np.ndarray, near: float = 0.0) -> float:
        """μ (eV) that conserves the electrons, looked for close to `near` first."""

        def wrong(mu: float) -> float:
            return self.occupation(z, chi, phi, mu)

        span = 0.5 * min(-self.energies[0], self.energies[-1])
        found = root_scalar(wrong, x0=near, x1=near + 1e-3, xtol=1e-10, maxiter=20)
        if found.converged and abs(found.root - near) < 0.1 * span:
            return float(found.root)
        if not wrong(-span) < 0 < wrong(span):
            raise NotConvergedError(
                "no chemical potential conserves the electrons; give a DOS of a wider range"
            )
        return float(brentq(wrong, -span, span, xtol=1e-10))

    def update(
        self, z: np.ndarray, chi: np.ndarray, phi: np.ndarray, mu: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """New Z, χ, φ."""
        first, second = self.integrals(z, chi, phi, mu)
        root = np.hypot(self.omega * z, phi)
        # the constant DOS: electrons beyond the cutoff are normal in Z and absent in the pairing
        beyond_normal = self.omega * z * (np.pi / root + first) - np.pi
        new_z = self.normal_z + self.kt * self.kernel.odd(beyond_normal) / self.omega
        new_chi = -self.kt * self.kernel.even(second)
        anomalous = phi * (np.pi / root + first)
        new_phi = self.kt * (self.kernel.even(anomalous) - 2 * self.mu_star * anomalous.sum())
        return new_z, new_chi, new_phi

    def normal_state(self, tolerance: float = 1e-10) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
        """Z, χ, μ without superconductivity, and π/(ω_mZ_m) + ∫(n−1)/Θ_m."""
        z, chi, mu = self.normal_z.copy(), np.zeros(self.count), 0.0
        zero = np.zeros(self.count)
        for _ in range(200):
            new_z, new_chi, _ = self.update(z, chi, zero, mu)
            new_mu = self.chemical_potential(new_z, new_chi, zero, mu)
            scale = self.omega[0]
            change = max(
                np.abs(new_z - z).max(), np.abs(new_chi - chi).max() / scale, abs(new_mu - mu) / scale
            )
            z, chi, mu = new_z, new_chi, new_mu
            if change < tolerance:
                break
        else:
            raise NotConvergedError("the normal state with this DOS did not converge")
        return z, chi, mu, np.pi / (self.omega * z) + self.integrals(z, chi, zero, mu)[0]

    def excess_pairing(self) -> float:
        """Largest eigenvalue of the linearised φ equation, minus 1."""
        z, _, _, propagator = self.normal_state()
        return pairing_excess(self.lam, z, self.kt * z * propagator, self.mu_star)


def eliashberg_tc_full_bandwidth(
    spectrum: Spectrum, dos: ElectronicDos, mu_star: float, cutoff: float = DEFAULT_CUTOFF
) -> float:
    """Tc (K) of the linearised equations with an energy-dependent density of states.

    Parameters
    ----------
    spectrum : Spectrum
        α²F for electrons at the Fermi level; it is taken as independent of their energy, which only N(ε)
        carries.
    dos : ElectronicDos
    mu_star : float
        In the sense of Allen and Dynes, moved to the cutoff as in `eliashberg_tc`.
    cutoff : float
        In units of the highest phonon.

    Returns
    -------
    float
        Kelvin; nan where the equations of a constant DOS have no Tc that could be a start.

    Raises
    ------
    InputError
        More than `MAX_COUNT` Matsubara frequencies would be needed.
    CalculationError, NotConvergedError
        No Tc within a factor of 7 of that of a constant DOS; the normal state did not converge.
    """
    spectrum = spectrum.coarsened()
    start = eliashberg_tc(spectrum, mu_star, cutoff) / units.EV_KELVIN
    if not np.isfinite(start):
        return float("nan")
    top = spectrum.omega_max_ev

    def count_at(kt: float) -> int:
        return frequency_count(kt, top, cutoff)

    def excess(log_kt: float, count: int) -> float:
        kt = float(np.exp(log_kt))
        here = mu_star_of_frequencies(mu_star, kt, count, top, cutoff * top)
        return _Equations(spectrum, dos, kt, count, here).excess_pairing()

    root = start
    for precision in (1e-3, 1e-10):  # the number of frequencies follows the temperature
        count = count_at(root)
        if count > MAX_COUNT:
            raise InputError(f"{count} Matsubara frequencies are wanted; at most {MAX_COUNT} are allowed")
        root = refined(excess, root, count, precision)
    return root * units.EV_KELVIN


def solve_full_bandwidth(
    spectrum: Spectrum,
    dos: ElectronicDos,
    kelvin: float,
    mu_star: float,
    cutoff: float = DEFAULT_CUTOFF,
    tolerance: float = 1e-9,
) -> FullBandwidthState:
    """Z, χ, φ and μ below (or above) Tc, by iteration with Anderson's mixing.

    Parameters
    ----------
    spectrum, dos, mu_star, cutoff
        As in `eliashberg_tc_full_bandwidth`.
    kelvin : float
    tolerance : float
        Largest relative change of φ and Z at the end.

    Returns
    -------
    FullBandwidthState

    Raises
    ------
    InputError
        A temperature that is not positive, or wants more than `MAX_COUNT` frequencies.
    NotConvergedError
        The iteration did not converge.
    """
    spectrum = spectrum.coarsened()
    kt, top = kelvin / units.EV_KELVIN, spectrum.omega_max_ev
    count = frequency_count(kt, top, cutoff) if kt > 0 else MAX_COUNT + 1
    if count > MAX_COUNT:
        raise InputError(f"T = {kelvin} K wants more than {MAX_COUNT} Matsubara frequencies; take a higher T")
    here = mu_star_of_frequencies(mu_star, kt, count, top, cutoff * top)
    equations = _Equations(spectrum, dos, kt, count, here)
    z, chi, mu, _ = equations.normal_state()
    if equations.excess_pairing() <= 0:
        return FullBandwidthState(kelvin, equations.omega, z, chi, np.zeros(count), mu)
    scale = 2.0 * top
    state = np.concatenate([z, chi / scale, 0.1 * top / (1 + (equations.omega / top) ** 2) / scale])
    history: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(400):
        z, chi, phi = np.split(state, 3)
        mu = equations.chemical_potential(z, chi * scale, phi * scale, mu)
        new = equations.update(z, chi * scale, phi * scale, mu)
        target = np.concatenate([new[0], new[1] / scale, new[2] / scale])
        wrong = target - state
        if np.abs(wrong).max() < tolerance * max(abs(target[2 * count]), 1e-6):
            return FullBandwidthState(kelvin, equations.omega, *new, mu)
        history = [*history[-6:], (state, wrong)]
        state = _anderson(history)
    raise NotConvergedError(f"the gap equations with this DOS did not converge at {kelvin:g} K")


def _anderson(history: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Next state from the latest ones and their residuals (Anderson 1965)."""
    state, wrong = history[-1]
    if len(history) == 1:
        return state + wrong
    states = np.array([h[0] for h in history])
    wrongs = np.array([h[1] for h in history])
    d_state, d_wrong = np.diff(states, axis=0).T, np.diff(wrongs, axis=0).T
    gamma = np.linalg.lstsq(d_wrong, wrong, rcond=1e-10)[0]
    return state + wrong - (d_state + d_wrong) @ gamma
