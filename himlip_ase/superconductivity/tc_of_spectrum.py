"""What one α²F gives: Tc by every formula, the gap, Migdal–Eliashberg with N(ε), and its plateau in σ."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.superconductivity.electronic_dos import ElectronicDos
from himlip_ase.superconductivity.formulas import mu_star_at_cutoff
from himlip_ase.superconductivity.full_bandwidth import eliashberg_tc_full_bandwidth
from himlip_ase.superconductivity.gap import GapCurve, gap_curve
from himlip_ase.superconductivity.options import TcOptions
from himlip_ase.superconductivity.plateau import SigmaPlateau
from himlip_ase.superconductivity.spectrum import Spectrum
from himlip_ase.superconductivity.tc import add_spread, critical_temperature, tc_table
from himlip_ase.superconductivity.tc_entries import NoTc, Tc, TcTable

logger = logging.getLogger(__name__)


def table_of(spectrum: Spectrum, options: TcOptions) -> TcTable:
    """Tc by each formula and μ* of the options.

    Parameters
    ----------
    spectrum : Spectrum
    options : TcOptions

    Returns
    -------
    TcTable
    """
    return tc_table(spectrum, options.mu_star, options.methods, options.accept, options.mu_star_at)


def full_bandwidth_of(spectrum: Spectrum, dos: ElectronicDos, options: TcOptions) -> dict[float, float | str]:
    """Tc of Migdal–Eliashberg with N(ε), or why there is none, for each μ* of the options.

    Parameters
    ----------
    spectrum : Spectrum
    dos : ElectronicDos
    options : TcOptions

    Returns
    -------
    dict
        {μ*: K, or the reason}
    """
    found: dict[float, float | str] = {}
    for mu in options.mu_star:
        entry = _eliashberg(spectrum, mu, options)
        if isinstance(entry, Tc):
            try:
                here = mu_star_at_cutoff(mu, options.mu_star_at, 1.0)
                count = f"{len(found) + 1} of {len(options.mu_star)}"
                logger.info("Migdal–Eliashberg with N(ε), μ* = %g (%s)", mu, count)
                found[mu] = eliashberg_tc_full_bandwidth(spectrum, dos, here)
            except (CalculationError, InputError) as error:
                found[mu] = str(error)
        else:
            found[mu] = entry.reason
    return found


def _eliashberg(spectrum: Spectrum, mu_star: float, options: TcOptions) -> Tc | NoTc:
    return critical_temperature(
        spectrum, mu_star, "eliashberg", options.accept, mu_star_at=options.mu_star_at
    )


def gap_of(spectrum: Spectrum, options: TcOptions) -> GapCurve | None:
    """The gap over temperature for the first μ* of the options; None without superconductivity.

    Parameters
    ----------
    spectrum : Spectrum
    options : TcOptions

    Returns
    -------
    GapCurve or None
    """
    mu = options.mu_star[0]
    if isinstance(_eliashberg(spectrum, mu, options), NoTc):
        return None
    return gap_curve(spectrum, mu_star_at_cutoff(mu, options.mu_star_at, 1.0))


def add_sigma(
    table: TcTable, others: Sequence[TcTable], plateau: SigmaPlateau, among_others: bool = False
) -> TcTable:
    """Half the spread over the broadenings of a plateau, or of the flattest window, as an uncertainty.

    Parameters
    ----------
    table : TcTable
    others : sequence of TcTable
        Of the broadenings in its window.
    plateau : SigmaPlateau
    among_others : bool
        See `add_spread`.

    Returns
    -------
    TcTable
    """
    low, high = plateau.window
    kind = "σ-plateau" if plateau.found else "flattest σ window, no plateau:"
    name = f"{kind} {low:g}–{high:g} Ry (half the spread)"
    return add_spread(table, others, "sigma", name, among_others=among_others)


def plateau_caveats(plateau: SigmaPlateau | None) -> tuple[str, ...]:
    """What has to be said where λ has no plateau in σ."""
    if plateau is None or plateau.found:
        return ()
    return ("no plateau of λ in σ: the k-grids are too coarse or σ not small enough",)


def alone(spectrum: Spectrum) -> Spectrum:
    """The spectrum without another kind of sum beside it."""
    return replace(spectrum, alternative=None)
