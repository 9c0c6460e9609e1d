"""Tc by every formula, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.superconductivity import formulas
from himlip_ase.superconductivity.eliashberg import DEFAULT_CUTOFF, eliashberg_tc
from himlip_ase.superconductivity.spectrum import Spectrum

Method = Literal["mcmillan", "allen-dynes", "sisso", "eliashberg"]
METHODS: tuple[Method, ...] = ("mcmillan", "allen-dynes", "sisso", "eliashberg")
DEFAULT_MU_STAR = (0.10, 0.13, 0.16)
Parts = tuple[tuple[str, float], ...]


def quadrature(parts: Parts) -> float | None:
    """Root of the summed squares; None if there are no parts."""
    return float(np.sqrt(sum(value**2 for _, value in parts))) if parts else None


def sources(parts: Parts) -> str:
    """What was varied, in words."""
    return "; ".join(name for name, _ in parts) if parts else "not determined"


@dataclass(frozen=True)
class Tc:
    """A critical temperature.

    Attributes
    ----------
    method : {"mcmillan", "allen-dynes", "sisso", "eliashberg"}
    mu_star : float
        In the sense of Allen and Dynes (cutoff at the highest phonon).
    kelvin : float
    parts : tuple of (str, float)
        What is uncertain, each with its size in K: half a spread or one standard deviation, as its name says.
    caveats : tuple of str
    undetermined : tuple of str
        Sources whose size is unknown, because what should be compared has no Tc.
    """

    method: Method
    mu_star: float
    kelvin: float
    parts: Parts = ()
    caveats: tuple[str, ...] = ()
    undetermined: tuple[str, ...] = ()

    @property
    def uncertainty_kelvin(self) -> float | None:
        """Root of the summed squares of the parts; None when none, or not every one, was determined."""
        return None if self.undetermined else quadrature(self.parts)

    @property
    def uncertainty_source(self) -> str:
        """Names of the parts."""
        if self.undetermined:
            return f"not determined: no Tc to compare with for {'; '.join(self.undetermined)}"
        return sources(self.parts)

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
    near_kelvin: float | None = None,
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
    near_kelvin : float, optional
        Where "eliashberg" looks first, see `eliashberg_tc`.

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
        reason = formulas.sisso_refusal(lam, log_k, two_k, mu_star)
        if reason:
            return NoTc(method, mu_star, reason)
        kelvin = formulas.sisso(lam, log_k, two_k, mu_star)
    else:
        try:
            kelvin = eliashberg_tc(spectrum, mu_star, cutoff, near_kelvin=near_kelvin)
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
    lambda_parts : tuple of (str, float)
        What makes λ uncertain, as `Tc.parts`.
    """

    lambda_total: float
    omega_log_k: float
    omega_2_k: float
    results: tuple[Tc | NoTc, ...]
    problems: tuple[str, ...]
    caveats: tuple[str, ...]
    lambda_parts: Parts = ()

    @property
    def lambda_uncertainty(self) -> float | None:
        """Root of the summed squares of the parts; None when none was determined."""
        return quadrature(self.lambda_parts)

    @property
    def uncertainty_source(self) -> str:
        """Names of the parts of λ's uncertainty."""
        return sources(self.lambda_parts)

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
                item["uncertainty_parts"] = dict(entry.parts)
                item["uncertainty_undetermined"] = list(entry.undetermined)
                item["caveats"] = list(entry.caveats)
            else:
                item |= {"value": None, "unit": "K", "reason": entry.reason}
            entries.append(item)
        return {
            "lambda": figure(self.lambda_total, "", self.lambda_uncertainty, f"2∫α²F/ω, {scope}")
            | {"uncertainty_parts": dict(self.lambda_parts)},
            "omega_log": figure(self.omega_log_k, "K", None, f"logarithmic mean, {scope}"),
            "omega_2": figure(self.omega_2_k, "K", None, f"second moment, {scope}"),
            "tc": entries,
            "problems": list(self.problems),
            "caveats": list(self.caveats),
        }


def table_from_dict(data: Mapping[str, Any]) -> TcTable:
    """The table that `TcTable.to_dict` wrote."""

    def number(figure: Mapping[str, Any]) -> float:
        return float("nan") if figure["value"] is None else float(figure["value"])

    results: list[Tc | NoTc] = []
    for item in data["tc"]:
        if item["value"] is None:
            results.append(NoTc(item["method"], item["mu_star"], item["reason"]))
        else:
            parts, caveats = tuple(item["uncertainty_parts"].items()), tuple(item["caveats"])
            unknown = tuple(item["uncertainty_undetermined"])
            results.append(Tc(item["method"], item["mu_star"], item["value"], parts, caveats, unknown))
    return TcTable(
        number(data["lambda"]),
        number(data["omega_log"]),
        number(data["omega_2"]),
        tuple(results),
        tuple(data["problems"]),
        tuple(data["caveats"]),
        tuple(data["lambda"]["uncertainty_parts"].items()),
    )


def add_part(
    table: TcTable,
    name: str,
    lambda_value: float | None,
    kelvin: Mapping[tuple[Method, float], float],
) -> TcTable:
    """Add a source of uncertainty: its size for λ, and in K for each (method, μ*) that has one."""
    results = tuple(
        replace(entry, parts=(*entry.parts, (name, float(kelvin[entry.method, entry.mu_star]))))
        if isinstance(entry, Tc) and (entry.method, entry.mu_star) in kelvin
        else entry
        for entry in table.results
    )
    parts = table.lambda_parts
    if lambda_value is not None and np.isfinite(lambda_value):
        parts = (*parts, (name, float(lambda_value)))
    return replace(table, results=results, lambda_parts=parts)


def add_spread(table: TcTable, others: Sequence[TcTable], source: str, among_others: bool = False) -> TcTable:
    """Add half the spread of λ and of each Tc over `table` and `others` as a source of uncertainty.

    Parameters
    ----------
    table : TcTable
    others : sequence of TcTable
        The same entries under choices that are equally good, for example the broadenings of a plateau.
    source : str
        What was varied.
    among_others : bool
        Take the spread among `others` only, where `table` itself was made in another way.
    """

    def half(values: list[float]) -> float:
        return (max(values) - min(values)) / 2 if values else 0.0

    spreads: dict[tuple[Method, float], float] = {}
    results: list[Tc | NoTc] = []
    for entry in table.results:
        if isinstance(entry, Tc):
            seconds = [other.get(entry.method, entry.mu_star) for other in others]
            kelvins = [second.kelvin for second in seconds if isinstance(second, Tc)]
            if len(kelvins) < len(seconds):
                entry = replace(entry, undetermined=(*entry.undetermined, source))
            else:
                every = kelvins if among_others else [entry.kelvin, *kelvins]
                spreads[entry.method, entry.mu_star] = half(every)
        results.append(entry)
    lambdas = [other.lambda_total for other in others] + ([] if among_others else [table.lambda_total])
    return add_part(replace(table, results=tuple(results)), source, half(lambdas), spreads)


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
    results = tuple(
        critical_temperature(spectrum, value, method, accept) for value in mu_star for method in methods
    )
    table = TcTable(
        spectrum.lambda_total,
        spectrum.omega_log_k,
        spectrum.omega_2_k,
        results,
        tuple(problem.text for problem in spectrum.problems),
        spectrum.caveats,
    )
    other = spectrum.alternative
    if other is None:
        return table
    second = tc_table(replace(other, alternative=None), mu_star, methods, accept)
    return add_spread(table, [second], f"{spectrum.alternative_name} (half the change)")
