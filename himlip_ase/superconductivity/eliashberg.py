"""Tc from the linearised isotropic Migdal–Eliashberg equations on the imaginary axis."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy import fft
from scipy.interpolate import CubicSpline
from scipy.linalg import eigh
from scipy.optimize import brentq
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import ArpackError, eigs

from himlip_ase import units
from himlip_ase.errors import CalculationError, InputError
from himlip_ase.superconductivity.formulas import mcmillan, mu_star_of_frequencies
from himlip_ase.superconductivity.spectrum import Spectrum

MIN_FREQUENCIES = 64
MAX_FREQUENCIES = 16000
EXACT_FREQUENCIES = 150
DEFAULT_CUTOFF = 15.0
_CONVERGED = 2e-3
_SPLINE_NODES = 600
_MAX_SECANTS = 12


def frequency_count(kt_ev: float, top_ev: float, cutoff: float, least: int = MIN_FREQUENCIES) -> int:
    """Positive Matsubara frequencies up to a cutoff, but at least `least`.

    Parameters
    ----------
    kt_ev, top_ev : float
        kT and the highest phonon, eV.
    cutoff : float
        In units of the highest phonon.
    least : int

    Returns
    -------
    int
    """
    return max(least, int(np.ceil(cutoff * top_ev / (2 * np.pi * kt_ev))))


def coupling_at_matsubara(spectrum: Spectrum, kt_ev: float, count: int) -> np.ndarray:
    """λ(l) = ∫ 2ωα²F(ω)/(ω² + (2πlkT)²) dω for l = 0 … count−1.

    Parameters
    ----------
    spectrum : Spectrum
    kt_ev : float
        kT, eV.
    count : int

    Returns
    -------
    ndarray, shape (count,)
    """
    nu2 = (2 * np.pi * kt_ev * np.arange(count)) ** 2
    omega2 = spectrum.energies_ev**2

    def exact(squares: np.ndarray) -> np.ndarray:
        return (spectrum.lambdas * omega2) @ (1 / (omega2[:, None] + squares[None, :]))

    if count <= 2 * _SPLINE_NODES:
        return exact(nu2)
    # many frequencies: λ·(1 + ν²/ω²) is smooth in ln(1 + ν²/ω²), with ω the lowest phonon
    scale = float(omega2.min())
    nodes = np.linspace(0.0, np.log1p(nu2[-1] / scale), _SPLINE_NODES)
    squares = scale * np.expm1(nodes)
    spline = CubicSpline(nodes, exact(squares) * (1 + squares / scale))
    return spline(np.log1p(nu2 / scale)) / (1 + nu2 / scale)


class MatsubaraKernel:
    """The sums Σ_m λ(n−m) x_m over all integers m, for x even or odd in m → −m−1, by fast Fourier transforms.

    Parameters
    ----------
    lam : ndarray, shape (2·count,)
        λ(l), l = 0 … 2·count−1.
    count : int
        Positive Matsubara frequencies.
    """

    def __init__(self, lam: np.ndarray, count: int) -> None:
        self.count = count
        self._length = fft.next_fast_len(4 * count, real=True)
        column = np.zeros(self._length)
        column[: 2 * count] = lam
        column[self._length - 2 * count + 1 :] = lam[:0:-1]
        self._transform = fft.rfft(column)

    def _apply(self, x: np.ndarray, sign: float) -> np.ndarray:
        extended = np.zeros(self._length)
        extended[: self.count] = x
        extended[self._length - self.count :] = sign * x[::-1]
        return fft.irfft(self._transform * fft.rfft(extended), self._length)[: self.count]

    def even(self, x: np.ndarray) -> np.ndarray:
        """Σ_{m≥0} [λ(n−m) + λ(n+m+1)] x_m."""
        return self._apply(x, 1.0)

    def odd(self, x: np.ndarray) -> np.ndarray:
        """Σ_{m≥0} [λ(n−m) − λ(n+m+1)] x_m."""
        return self._apply(x, -1.0)


def largest_eigenvalue(spectrum: Spectrum, kt_ev: float, count: int, mu_star: float) -> float:
    """Excess of the pairing kernel over pair breaking at kT: positive below Tc, zero at Tc.

    With K_nm = λ(n−m) + λ(n+m+1) − 2μ* − δ_nm D_n, D_n = 2n+1 + λ(0) + 2Σ_{l=1}^{n} λ(l), n, m ≥ 0 (Allen,
    Dynes 1975), the largest eigenvalue of D^-½ (K + D) D^-½ is 1 at Tc; this returns it minus 1, whose sign
    is that of the largest eigenvalue of K.

    Parameters
    ----------
    spectrum : Spectrum
    kt_ev : float
        Temperature in eV.
    count : int
        Positive Matsubara frequencies kept.
    mu_star : float
        μ* that belongs to the cutoff 2πkT·count.

    Returns
    -------
    float
    """
    lam = coupling_at_matsubara(spectrum, kt_ev, 2 * count)
    return pairing_excess(lam, normal_state_z(lam, count), 1 / (2.0 * np.arange(count) + 1), mu_star)


def normal_state_z(lam: np.ndarray, count: int) -> np.ndarray:
    """Z_n (count,) of the normal state, constant density of states, all Matsubara frequencies summed.

    Parameters
    ----------
    lam : ndarray, shape (≥ count,)
        λ(l) of `coupling_at_matsubara`.
    count : int

    Returns
    -------
    ndarray, shape (count,)
    """
    sums = lam[0] + 2 * (np.cumsum(lam[:count]) - lam[0])
    return 1 + sums / (2 * np.arange(count) + 1)


def pairing_excess(lam: np.ndarray, z: np.ndarray, weights: np.ndarray, mu_star: float) -> float:
    """Largest eigenvalue of Δ_n = (1/Z_n) Σ_m [λ(n−m) + λ(n+m+1) − 2μ*] w_m Δ_m, minus 1.

    Parameters
    ----------
    lam : ndarray, shape (2·count,)
    z, weights : ndarray, shape (count,)
        Normal-state Z_n, and w_m, which is 1/(2m+1) for a constant density of states.
    mu_star : float

    Returns
    -------
    float

    Raises
    ------
    CalculationError
        A Z_n or w_m is not positive.
    """
    if not ((z > 0).all() and (weights > 0).all()):
        raise CalculationError(
            "the mass renormalisation is not positive: the α²F has too much negative weight"
        )
    count = len(z)
    n = np.arange(count)
    if count <= EXACT_FREQUENCIES:
        scale = np.sqrt(weights / z)
        pairing = lam[np.abs(n[:, None] - n)] + lam[n[:, None] + n + 1] - 2 * mu_star
        matrix = pairing * scale[:, None] * scale
        return float(eigh(matrix, eigvals_only=True, subset_by_index=[count - 1, count - 1])[0]) - 1
    nodes, hats = _nodes(count)
    rows = lam[np.abs(nodes[:, None] - n)] + lam[nodes[:, None] + n + 1] - 2 * mu_star
    reduced = _reduced(rows, nodes, hats, z, weights)
    try:
        return float(eigs(reduced, k=1, which="LR", v0=np.ones(len(nodes)), tol=1e-13)[0][0].real) - 1
    except ArpackError:
        return float(np.linalg.eigvals(reduced).real.max()) - 1


def _reduced(
    rows: np.ndarray, nodes: np.ndarray, hats: csr_matrix, z: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """The matrix that takes Δ at the nodes to the right-hand side of its linear equation, divided by Z."""
    return (hats.T @ (rows * weights).T).T / z[nodes][:, None]


def pairing_mode(spectrum: Spectrum, kt_ev: float, count: int, mu_star: float) -> tuple[float, np.ndarray]:
    """Excess as in `largest_eigenvalue`, and the Δ_n (count,) that belongs to it, scaled to Δ_0 = 1.

    Parameters
    ----------
    spectrum : Spectrum
    kt_ev : float
        kT, eV.
    count : int
        Positive Matsubara frequencies.
    mu_star : float
        That of the cutoff 2πkT·count.

    Returns
    -------
    (float, ndarray)
    """
    lam = coupling_at_matsubara(spectrum, kt_ev, 2 * count)
    n = np.arange(count)
    nodes, hats = _nodes(count)
    rows = lam[np.abs(nodes[:, None] - n)] + lam[nodes[:, None] + n + 1] - 2 * mu_star
    reduced = _reduced(rows, nodes, hats, normal_state_z(lam, count), 1 / (2.0 * n + 1))
    values, vectors = np.linalg.eig(reduced)
    best = int(values.real.argmax())
    delta = hats @ vectors[:, best].real
    return float(values[best].real) - 1, delta / delta[0]


@lru_cache(maxsize=8)
def _nodes(count: int, growth: float = 1.04) -> tuple[np.ndarray, csr_matrix]:
    """Matsubara indices where Δ is kept (the first, then geometric), and its linear interpolation.

    At low temperature Δ(iω_n) varies over many indices; the sums over m stay complete, 1/ω_m included.
    """
    geometric = np.exp(np.arange(0, np.log(count) + np.log(growth), np.log(growth)))
    nodes = np.unique(np.append(np.rint(geometric).astype(int) - 1, count - 1).clip(0, count - 1))
    n = np.arange(count)
    right = np.searchsorted(nodes, n, side="left").clip(1)
    width = nodes[right] - nodes[right - 1]
    fraction = (n - nodes[right - 1]) / width
    hats = csr_matrix(
        (np.concatenate([1 - fraction, fraction]), (np.tile(n, 2), np.concatenate([right - 1, right]))),
        shape=(count, len(nodes)),
    )
    return nodes, hats


def eliashberg_tc(
    spectrum: Spectrum,
    mu_star: float,
    cutoff: float = DEFAULT_CUTOFF,
    mu_star_at: float | None = None,
    min_frequencies: int = MIN_FREQUENCIES,
    near_kelvin: float | None = None,
) -> float:
    """Tc (K) of the linearised isotropic Migdal–Eliashberg equations, constant density of states.

    Parameters
    ----------
    spectrum : Spectrum
    mu_star : float
        In the sense of Allen and Dynes (cutoff at the highest phonon); it is moved to the Matsubara cutoff
        through 1/μ*_ME = 1/μ*_AD + ln(ω_ph/ω_c), and from there to the number of frequencies by
        `formulas.mu_star_of_frequencies`.
    cutoff : float
        Matsubara cutoff ω_c in units of the highest phonon. Where fewer frequencies are kept than reach 15
        highest phonons, their number is doubled until Tc changes by less than 0.2 %.
    mu_star_at : float, optional
        Cutoff (in units of the highest phonon) to which `mu_star` belongs; None is 1. Give the value of
        `cutoff` to use `mu_star` unchanged, as other Eliashberg codes do.
    min_frequencies : int
        Positive Matsubara frequencies kept at least (matters when Tc is of the order of the phonons).
    near_kelvin : float, optional
        Tc of a spectrum that differs little, which saves the search; the result is then good to 1e-5.

    Returns
    -------
    float
        Kelvin; nan when there is no Tc above the lowest temperature that `MAX_FREQUENCIES` frequencies
        resolve.

    Raises
    ------
    InputError
        Cutoff below the highest phonon, or μ* with no counterpart at the cutoff.
    """
    if not cutoff >= 2:
        raise InputError(
            f"cutoff = {cutoff}; at least 2 highest-phonon energies are wanted, {DEFAULT_CUTOFF:g} is usual"
        )
    spectrum = spectrum.coarsened()
    top = spectrum.omega_max_ev
    reference = top * (1.0 if mu_star_at is None else mu_star_at)
    lowest = cutoff * top / (2 * np.pi * MAX_FREQUENCIES)

    def excess(log_kt: float, count: int) -> float:
        kt = float(np.exp(log_kt))
        here = mu_star_of_frequencies(mu_star, kt, count, reference, cutoff * top)
        return largest_eigenvalue(spectrum, kt, count, here)

    def count_at(kt: float) -> int:
        return frequency_count(kt, top, cutoff, min_frequencies)

    if near_kelvin is not None:
        kt = near_kelvin / units.EV_KELVIN
        with contextlib.suppress(CalculationError):
            return refined(excess, kt, count_at(kt), 1e-5) * units.EV_KELVIN
    guess = mcmillan(spectrum.lambda_total, spectrum.omega_log_k, mu_star) / units.EV_KELVIN
    kt = max(guess, 2 * lowest) if np.isfinite(guess) else 1e-2 * top
    for _ in range(60):  # bracket, with the number of frequencies following the temperature
        if excess(np.log(kt), count_at(kt)) > 0:
            low = kt
            kt *= 1.6
            if excess(np.log(kt), count_at(low)) <= 0:
                break
        else:
            kt /= 1.6
            if kt < lowest:
                return float("nan")
            if excess(np.log(kt), count_at(kt)) > 0:
                low, kt = kt, kt * 1.6
                if excess(np.log(kt), count_at(low)) <= 0:
                    break
    else:
        raise CalculationError("the Eliashberg Tc could not be bracketed")
    root = np.exp(brentq(excess, np.log(low), np.log(kt), args=(count_at(low),), xtol=1e-3))
    # once more with the number of frequencies that belongs to Tc itself, which makes it reproducible
    count = count_at(float(root))
    kt = refined(excess, float(root), count)
    while 2 * np.pi * kt * count < DEFAULT_CUTOFF * top and count < MAX_FREQUENCIES:
        count *= 2
        before, kt = kt, refined(excess, kt, count)
        if abs(kt / before - 1) < _CONVERGED:
            break
    return float(kt) * units.EV_KELVIN


def refined(excess: Callable[[float, int], float], kt: float, count: int, precision: float = 1e-10) -> float:
    """Root of `excess` in log(kT) close to `kt` (eV), with `count` frequencies.

    Parameters
    ----------
    excess : callable (log kT, count) -> float
    kt : float
        First estimate, eV.
    count : int
    precision : float
        Relative.

    Returns
    -------
    float
        kT, eV.

    Raises
    ------
    CalculationError
        There is none within a factor of 7.
    """
    start = last = float(np.log(kt))
    value = excess(last, count)
    here = last + (1e-3 if value > 0 else -1e-3)
    for _ in range(_MAX_SECANTS):  # the excess is nearly linear in log(kT)
        before, value = value, excess(here, count)
        slope = (value - before) / (here - last)
        if not slope < 0 or not abs(here - start) < np.log(2):  # Tc is where pairing falls below breaking
            break
        last, here = here, here - value / slope
        if abs(here - last) < precision:
            return float(np.exp(here))
    return _bracketed(excess, start, count, precision)


def _bracketed(excess: Callable[[float, int], float], start: float, count: int, precision: float) -> float:
    """kT at the root next to `start` (a logarithm), by growing steps and Brent's method."""
    step = 2e-3
    low, high = start - step, start + step
    while excess(low, count) <= 0:
        high, low, step = low, low - 2 * step, 2 * step
        if step > 1:
            raise CalculationError("the Eliashberg Tc lies far from its first estimate")
    while excess(high, count) > 0:
        low, high, step = high, high + 2 * step, 2 * step
        if step > 1:
            raise CalculationError("the Eliashberg Tc lies far from its first estimate")
    return float(np.exp(brentq(excess, low, high, args=(count,), xtol=precision)))
