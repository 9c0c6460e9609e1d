"""Tc by every formula, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.superconductivity import formulas
from himlip_ase.superconductivity.eliashberg import DEFAULT_CUTOFF, eliashberg_tc
from himlip_ase.superconductivity.spectrum import Spectrum

Method = Literal["mcmillan", "allen-dynes", "sisso", "eliashberg"]
METHODS: tuple[Method, ...] = ("mcmillan", "allen-dynes", "sisso", "eliashberg")
DEFAULT_MU_STAR = (0.10, 0.13, 0.16)


@dataclass(frozen=True)
class Tc:
    """A critical temperature.

    Attributes
    ----------
    method : {"mcmillan", "allen-dynes", "sisso", "eliashberg"}
    mu_star : float
        In the sense of Allen and Dynes (cutoff at the highest phonon).
    kelvin : float
    uncertainty_kelvin : float or None
        Half the spread or one standard deviation, as `uncertainty_source` says; None when it was not
        determined.
    uncertainty_source : str
    caveats : tuple of str
    """

    method: Method
    mu_star: float
    kelvin: float
    uncertainty_kelvin: float | None = None
    uncertainty_source: str = "not determined"
    caveats: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        error = "" if self.uncertainty_kelvin is None else f" ± {self.uncertainty_kelvin:.1f}"
        return f"{self.kelvin:.2f}{error} K"


@dataclass(frozen=True)
class NoTc:
    """No critical temperature may be quoted, and why. It has no number to be used by accident."""

    method: Method
    mu_star: float
    reason: str

    def __str__(self) -> str:
        return f"no Tc: {self.reason}"


def critical_temperature(
    spectrum: Spectrum,
    mu_star: float,
    method: Method = "allen-dynes",
    accept: Sequence[str] = (),
    cutoff: float = DEFAULT_CUTOFF,
) -> Tc | NoTc:
    """Tc of a spectrum by one formula.

    Parameters
    ----------
    spectrum : Spectrum
    mu_star : float
        Coulomb pseudopotential in the sense of Allen and Dynes, 0 ≤ μ* < 1.
    method : {"mcmillan", "allen-dynes", "sisso", "eliashberg"}
        McMillan–Dynes; with f₁f₂; the SISSO form; the linearised isotropic Migdal–Eliashberg equations.
    accept : sequence of {"imaginary", "coarse"}
        Problems of the spectrum to be turned into caveats instead of refusals: with "imaginary" the Tc is
        that of the stable modes alone.
    cutoff : float
        Matsubara cutoff of "eliashberg" in units of the highest phonon.

    Returns
    -------
    Tc or NoTc
        NoTc for imaginary modes, negative α²F, a coarse grid (each unless accepted), λ ≤ μ*(1 + 0.62λ), or a
        formula outside its range.

    Raises
    ------
    InputError
        μ*, the method or `accept` is not allowed.
    """
    if method not in METHODS:
        raise InputError(f"method {method!r} is unknown; say one of {', '.join(METHODS)}")
    if not (np.isfinite(mu_star) and 0 <= mu_star < 1):
        raise InputError(f"μ* = {mu_star}; a number from 0 to 1 is wanted, 0.10 to 0.16 is usual")
    if not set(accept) <= {"imaginary", "coarse"}:
        raise InputError(f"accept = {sorted(accept)}; only 'imaginary' and 'coarse' can be accepted")
    refused = [problem.text for problem in spectrum.problems if problem.kind not in accept]
    if refused:
        return NoTc(method, mu_star, "; ".join(refused))
    caveats = tuple(p.text for p in spectrum.problems) + spectrum.caveats
    lam, log_k, two_k = spectrum.lambda_total, spectrum.omega_log_k, spectrum.omega_2_k
    if not formulas.threshold_exceeded(lam, mu_star):
        bound = mu_star * (1 + 0.62 * lam)
        return NoTc(method, mu_star, f"λ = {lam:.3f} does not exceed μ*(1 + 0.62λ) = {bound:.3f}")
    if method == "mcmillan":
        kelvin = formulas.mcmillan(lam, log_k, mu_star)
    elif method == "allen-dynes":
        kelvin = formulas.allen_dynes(lam, log_k, two_k, mu_star)
    elif method == "sisso":
        f_omega, f_mu = formulas.sisso_factors(lam, log_k, two_k, mu_star)
        if not (0.3 < f_omega < 3 and 0.3 < f_mu < 3):
            factors = f"f_ω = {f_omega:.2f}, f_μ = {f_mu:.2f}"
            text = f"outside the range of the SISSO form: {factors} (0.3 to 3 allowed)"
            return NoTc(method, mu_star, text)
        kelvin = formulas.sisso(lam, log_k, two_k, mu_star)
    else:
        try:
            kelvin = eliashberg_tc(spectrum, mu_star, cutoff)
        except (CalculationError, InputError) as error:
            return NoTc(method, mu_star, str(error))
    if not (np.isfinite(kelvin) and kelvin > 0):
        return NoTc(method, mu_star, "no transition above the lowest temperature that can be resolved")
    return Tc(method, mu_star, float(kelvin), caveats=caveats)


@dataclass(frozen=True)
class TcTable:
    """λ, ω_log, ω₂ and every Tc of one spectrum.

    Attributes
    ----------
    lambda_total, omega_log_k, omega_2_k : float
        Of the modes that were summed; nan when there are none.
    results : tuple of Tc or NoTc
    problems, caveats : tuple of str
    lambda_uncertainty : float or None
        Spread of λ under the source named in `uncertainty_source`.
    """

    lambda_total: float
    omega_log_k: float
    omega_2_k: float
    results: tuple[Tc | NoTc, ...]
    problems: tuple[str, ...]
    caveats: tuple[str, ...]
    lambda_uncertainty: float | None = None
    uncertainty_source: str = "not determined"

    def get(self, method: Method, mu_star: float) -> Tc | NoTc:
        """One entry; InputError if it was not computed."""
        for entry in self.results:
            if entry.method == method and abs(entry.mu_star - mu_star) < 1e-9:
                return entry
        raise InputError(f"{method} at μ* = {mu_star} is not in this table")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: each figure with value, unit, uncertainty and how it was obtained."""

        def figure(value: float, unit: str, uncertainty: float | None, how: str) -> dict[str, Any]:
            return {
                "value": float(value) if np.isfinite(value) else None,
                "unit": unit,
                "uncertainty": uncertainty,
                "how": how,
            }

        scope = "stable modes only" if any("imaginary" in p for p in self.problems) else "all modes"
        entries = []
        for entry in self.results:
            item: dict[str, Any] = {"method": entry.method, "mu_star": entry.mu_star}
            if isinstance(entry, Tc):
                how = f"{entry.method}; uncertainty: {entry.uncertainty_source}"
                item |= figure(entry.kelvin, "K", entry.uncertainty_kelvin, how)
                item["caveats"] = list(entry.caveats)
            else:
                item |= {"value": None, "unit": "K", "reason": entry.reason}
            entries.append(item)
        return {
            "lambda": figure(self.lambda_total, "", self.lambda_uncertainty, f"2∫α²F/ω, {scope}"),
            "omega_log": figure(self.omega_log_k, "K", None, f"logarithmic mean, {scope}"),
            "omega_2": figure(self.omega_2_k, "K", None, f"second moment, {scope}"),
            "tc": entries,
            "problems": list(self.problems),
            "caveats": list(self.caveats),
        }


def add_spread(table: TcTable, others: Sequence[TcTable], source: str) -> TcTable:
    """Add half the spread of each Tc (and of λ) over `others` to its uncertainty, in quadrature.

    Parameters
    ----------
    table : TcTable
    others : sequence of TcTable
        The same entries under choices that are equally good, for example the broadenings of a plateau.
    source : str
        What was varied.
    """

    def joined(before: float | None, name: str, values: list[float]) -> tuple[float, str]:
        spread = (max(values) - min(values)) / 2
        return float(np.hypot(before or 0.0, spread)), source if before is None else f"{name}; {source}"

    results: list[Tc | NoTc] = []
    for entry in table.results:
        if isinstance(entry, Tc):
            seconds = [other.get(entry.method, entry.mu_star) for other in others]
            kelvins = [second.kelvin for second in seconds if isinstance(second, Tc)]
            value, name = joined(entry.uncertainty_kelvin, entry.uncertainty_source, [entry.kelvin, *kelvins])
            entry = replace(entry, uncertainty_kelvin=value, uncertainty_source=name)
        results.append(entry)
    lambdas = [table.lambda_total, *(other.lambda_total for other in others)]
    value, name = joined(table.lambda_uncertainty, table.uncertainty_source, lambdas)
    return replace(table, results=tuple(results), lambda_uncertainty=value, uncertainty_source=name)


def tc_table(
    spectrum: Spectrum,
    mu_star: Sequence[float] = DEFAULT_MU_STAR,
    methods: Sequence[Method] = METHODS,
    accept: Sequence[str] = (),
) -> TcTable:
    """Every Tc of a spectrum; see `critical_temperature` for the parameters and refusals.

    Where the spectrum has an alternative (the other convention for Γ, which matters until the q-grid is
    converged), half the change that it brings is the uncertainty of each Tc: a bound from below.
    """
    results: list[Tc | NoTc] = []
    source = f"{spectrum.alternative_name} (half the change)"
    other = spectrum.alternative
    for value in mu_star:
        for method in methods:
            entry = critical_temperature(spectrum, value, method, accept)
            if isinstance(entry, Tc) and other is not None:
                second = critical_temperature(other, value, method, accept)
                if isinstance(second, Tc):
                    entry = replace(
                        entry,
                        uncertainty_kelvin=abs(second.kelvin - entry.kelvin) / 2,
                        uncertainty_source=source,
                    )
            results.append(entry)
    return TcTable(
        spectrum.lambda_total,
        spectrum.omega_log_k,
        spectrum.omega_2_k,
        tuple(results),
        tuple(problem.text for problem in spectrum.problems),
        spectrum.caveats,
        None if other is None else abs(other.lambda_total - spectrum.lambda_total) / 2,
        "not determined" if other is None else source,
    )
