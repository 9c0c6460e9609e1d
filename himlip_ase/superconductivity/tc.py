"""Tc by every formula, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.superconductivity.eliashberg import DEFAULT_CUTOFF
from himlip_ase.superconductivity.formulas import mu_star_at_cutoff, threshold_exceeded
from himlip_ase.superconductivity.methods import FORMULAS, check_methods
from himlip_ase.superconductivity.spectrum import Spectrum
from himlip_ase.superconductivity.tc_entries import NoTc, Tc, TcTable, mu_star_text
from himlip_ase.superconductivity.uncertainty import Kind, Part

DEFAULT_MU_STAR = (0.10, 0.13, 0.16)
ACCEPTABLE = ("imaginary", "coarse")
"""Kinds of problems that a user may accept: the Tc is then quoted, marked with the problem."""


def critical_temperature(
    spectrum: Spectrum,
    mu_star: float,
    method: str = "allen-dynes",
    accept: Sequence[str] = (),
    cutoff: float = DEFAULT_CUTOFF,
    near_kelvin: float | None = None,
    mu_star_at: float = 1.0,
) -> Tc | NoTc:
    """Tc of a spectrum by one formula.

    Parameters
    ----------
    spectrum : Spectrum
    mu_star : float
        Coulomb pseudopotential, 0 ≤ μ* < 1.
    method : str
        Name of a formula of `methods.FORMULAS`.
    accept : sequence of {"imaginary", "coarse"}
        Problems of the spectrum to be turned into caveats instead of refusals: with "imaginary" the Tc is
        that of the stable modes alone.
    cutoff : float
        Matsubara cutoff of "eliashberg" in units of the highest phonon.
    near_kelvin : float, optional
        Where "eliashberg" looks first, see `eliashberg_tc`.
    mu_star_at : float
        Cutoff at which `mu_star` is meant, in units of the highest phonon: 1 in the sense of Allen and Dynes,
        the Matsubara cutoff in that of most codes for the Eliashberg equations.

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
    formula = FORMULAS[method]
    if not (np.isfinite(mu_star) and 0 <= mu_star < 1):
        raise InputError(f"μ* = {mu_star}; a number from 0 to 1 is wanted, 0.10 to 0.16 is usual")
    if not set(accept) <= set(ACCEPTABLE):
        raise InputError(
            f"accept = {sorted(accept)}; only {' and '.join(map(repr, ACCEPTABLE))} can be accepted"
        )
    refused = [problem.text for problem in spectrum.problems if problem.kind not in accept]
    if refused:
        return NoTc(method, mu_star, "; ".join(refused))
    caveats = tuple(p.text for p in spectrum.problems) + spectrum.caveats
    lam = spectrum.lambda_total
    try:
        here = mu_star_at_cutoff(mu_star, mu_star_at, 1.0)
    except InputError as error:
        return NoTc(method, mu_star, str(error))
    if not threshold_exceeded(lam, here):
        bound = here * (1 + 0.62 * lam)
        return NoTc(method, mu_star, f"λ = {lam:.3f} does not exceed μ*(1 + 0.62λ) = {bound:.3f}")
    inputs = {
        "spectrum": spectrum,
        "lambda_total": lam,
        "omega_log_k": spectrum.omega_log_k,
        "omega_2_k": spectrum.omega_2_k,
        "mu_star": here,
        "cutoff": cutoff,
        "near_kelvin": near_kelvin,
    }
    try:
        reason = formula.why_not(**inputs)
        if reason:
            return NoTc(method, mu_star, reason)
        kelvin = formula.kelvin(**inputs)
    except (CalculationError, InputError) as error:
        return NoTc(method, mu_star, str(error))
    if not (np.isfinite(kelvin) and kelvin > 0):
        return NoTc(method, mu_star, "no transition above the lowest temperature that can be resolved")
    return Tc(method, mu_star, kelvin, caveats=caveats)


def add_part(
    table: TcTable,
    kind: Kind,
    source: str,
    lambda_value: float | None,
    kelvin: Mapping[tuple[str, float], float],
) -> TcTable:
    """Add a source of uncertainty.

    Parameters
    ----------
    table : TcTable
    kind, source : str
        As in `uncertainty.Part`.
    lambda_value : float or None
        Its size for λ; None or nan where it has none.
    kelvin : mapping of (method, μ*) to float
        Its size in K; entries that are missing are left as they are.

    Returns
    -------
    TcTable
    """
    results = tuple(
        replace(entry, parts=(*entry.parts, Part(kind, source, float(kelvin[entry.method, entry.mu_star]))))
        if isinstance(entry, Tc) and (entry.method, entry.mu_star) in kelvin
        else entry
        for entry in table.results
    )
    parts = table.lambda_parts
    if lambda_value is not None and np.isfinite(lambda_value):
        parts = (*parts, Part(kind, source, float(lambda_value)))
    return replace(table, results=results, lambda_parts=parts)


def add_spread(
    table: TcTable, others: Sequence[TcTable], kind: Kind, source: str, among_others: bool = False
) -> TcTable:
    """Add half the spread of λ and of each Tc over `table` and `others` as a source of uncertainty.

    Parameters
    ----------
    table : TcTable
    others : sequence of TcTable
        The same entries under choices that are equally good, for example the broadenings of a plateau.
    kind, source : str
        What was varied, as in `uncertainty.Part`.
    among_others : bool
        Take the spread among `others` only, where `table` itself was made in another way.

    Returns
    -------
    TcTable
    """

    def half(values: list[float]) -> float:
        return (max(values) - min(values)) / 2 if values else 0.0

    spreads: dict[tuple[str, float], float] = {}
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
    return add_part(replace(table, results=tuple(results)), kind, source, half(lambdas), spreads)


def tc_table(
    spectrum: Spectrum,
    mu_star: Sequence[float] = DEFAULT_MU_STAR,
    methods: Sequence[str] | None = None,
    accept: Sequence[str] = (),
    mu_star_at: float = 1.0,
) -> TcTable:
    """Every Tc of a spectrum; see `critical_temperature` for the parameters and refusals.

    Where the spectrum has an alternative (the other convention for Γ, which matters until the q-grid is
    converged), half the change that it brings is the uncertainty of each Tc: a bound from below.

    Parameters
    ----------
    spectrum : Spectrum
    mu_star : sequence of float
    methods : sequence of str, optional
        Names of `methods.FORMULAS`; None: all of them.
    accept : sequence of str
    mu_star_at : float
        As in `critical_temperature`; another value than 1 is a caveat of every Tc.

    Returns
    -------
    TcTable
    """
    if mu_star_at != 1:
        spectrum = replace(spectrum, caveats=(*spectrum.caveats, _meant_at(mu_star, mu_star_at)))
    methods = check_methods(methods)
    results = tuple(
        critical_temperature(spectrum, value, method, accept, mu_star_at=mu_star_at)
        for value in mu_star
        for method in methods
    )
    table = TcTable(
        spectrum.lambda_total,
        spectrum.omega_log_k,
        spectrum.omega_2_k,
        results,
        spectrum.problems,
        spectrum.caveats,
        mu_star_at=mu_star_at,
    )
    other = spectrum.alternative
    if other is None:
        return table
    second = tc_table(replace(other, alternative=None), mu_star, methods, accept, mu_star_at)
    return add_spread(table, [second], "sum", f"{spectrum.alternative_name} (half the change)")


def _meant_at(mu_star: Sequence[float], mu_star_at: float) -> str:
    values = []
    for value in mu_star:
        try:
            here = f"{mu_star_at_cutoff(value, mu_star_at, 1.0):.4f}"
        except InputError:
            here = "no value"
        values.append(f"{mu_star_text(value)} is {here}")
    return (
        f"μ* is meant at {mu_star_at:g} times the highest phonon; at the highest phonon {', '.join(values)}"
    )
