"""Isotope coefficients from one electron-phonon run: G(q) holds no mass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.superconductivity.analysis import spectrum_of
from himlip_ase.superconductivity.cell_strain import bring_to_cell
from himlip_ase.superconductivity.codec import Record
from himlip_ase.superconductivity.coupling import GammaWeight
from himlip_ase.superconductivity.elph_matrices import ElphMatrices
from himlip_ase.superconductivity.onto_elph_grid import swap_onto_grid
from himlip_ase.superconductivity.options import Mesh, TcOptions
from himlip_ase.superconductivity.spectrum import Spectrum
from himlip_ase.superconductivity.tc import critical_temperature
from himlip_ase.superconductivity.tc_entries import NoTc, Tc
from himlip_ase.superconductivity.zone import Integration

if TYPE_CHECKING:
    from himlip_ase.phonons.force_constants import DynamicalMatrices
    from himlip_ase.superconductivity.tc_analysis import TcAnalysis


@dataclass(frozen=True)
class IsotopeEffect:
    """α = −∂lnTc/∂lnM at fixed force constants, μ* fixed at the highest phonon.

    Attributes
    ----------
    method : str
    mu_star : float
    elements : dict of str to float
        One coefficient for each element.
    total : float
        All masses scaled together; ½ exactly, as λ does not change and ω_log, ω₂ go with M^(−½).
    """

    method: str
    mu_star: float
    elements: dict[str, float]
    total: float

    def to_record(self) -> Record:
        """Plain data for JSON."""
        return {
            "method": self.method,
            "mu_star": self.mu_star,
            "elements": self.elements,
            "total": self.total,
            "how": "−∂lnTc/∂lnM by central differences at fixed force constants",
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> IsotopeEffect:
        """What `to_record` wrote."""
        elements = {symbol: float(value) for symbol, value in record["elements"].items()}
        return cls(record["method"], float(record["mu_star"]), elements, float(record["total"]))


def effect_record(effect: IsotopeEffect | NoTc) -> Record:
    """Plain data for JSON: the coefficients, or a total of null and the reason."""
    if isinstance(effect, NoTc):
        return {
            "method": effect.method,
            "mu_star": effect.mu_star,
            "total": None,
            "reason": effect.reason,
        }
    return effect.to_record()


def effect_from_record(record: Mapping[str, Any]) -> IsotopeEffect | NoTc:
    """What `effect_record` wrote."""
    return NoTc.from_record(record) if record["total"] is None else IsotopeEffect.from_record(record)


def isotope_effect(
    elph: ElphMatrices,
    phonons: DynamicalMatrices,
    mu_star: float = 0.13,
    method: str = "allen-dynes",
    sigma_ry: float | None = None,
    gamma_weight: GammaWeight = "counted",
    accept: Sequence[str] = (),
    step: float = 0.02,
    mu_star_at: float = 1.0,
    mesh: Mesh | None = None,
    integration: Integration = "sum",
    spectra: dict[tuple[tuple[str, ...], float], Spectrum] | None = None,
) -> IsotopeEffect | NoTc:
    """Isotope coefficients of each element, and of all together, by central differences in ln M.

    Anharmonic force constants depend on the masses too: for them the coefficient between two isotopes is
    `formulas.isotope_coefficient` of the Tc of their own SSCHA runs.

    Parameters
    ----------
    elph, phonons, sigma_ry, gamma_weight
        As in `mode_coupling`.
    mu_star, method, accept, mu_star_at
        As in `critical_temperature`.
    step : float
        In ln M.
    mesh, integration
        As in `TcOptions`: how α²F is made, for each of the masses.
    spectra : dict, optional
        Those made so far, by elements and power of their masses, and those that are made now: α²F is the same
        for every formula and μ*.

    Returns
    -------
    IsotopeEffect, or NoTc with the reason
    """
    if not 0 < step < 0.5:
        raise InputError(f"step = {step}; a small positive number is wanted")
    symbols = phonons.primitive.get_chemical_symbols()
    natural = phonons.primitive.get_masses()
    failed: list[NoTc] = []
    made = {} if spectra is None else spectra
    options = TcOptions(gamma_weight=gamma_weight, mesh=mesh, integration=integration)

    def log_tc(scaled: Sequence[str], power: float) -> float:
        which = tuple(scaled), power
        if which not in made:
            masses = [m * np.exp(power) if s in scaled else m for s, m in zip(symbols, natural, strict=True)]
            _, made[which] = spectrum_of(elph, phonons.with_masses(masses), sigma_ry, options)
        entry = critical_temperature(made[which], mu_star, method, accept, mu_star_at=mu_star_at)
        if isinstance(entry, Tc):
            return float(np.log(entry.kelvin))
        failed.append(entry)
        return float("nan")

    def coefficient(scaled: Sequence[str]) -> float:
        return (log_tc(scaled, -step) - log_tc(scaled, step)) / (2 * step)

    names = list(dict.fromkeys(symbols))
    elements = {name: coefficient([name]) for name in names}
    total = coefficient(names)
    return failed[0] if failed else IsotopeEffect(method, mu_star, elements, total)


def isotope_effects(
    elph: ElphMatrices,
    phonons: DynamicalMatrices,
    harmonic: DynamicalMatrices | None,
    analysis: TcAnalysis,
    options: TcOptions,
) -> list[IsotopeEffect | NoTc]:
    """Isotope coefficients by every formula at the middle μ* of an analysis, with its σ and masses.

    Parameters
    ----------
    elph, phonons, options
        Those that `analysis` was made of, as in `analyse`.
    harmonic : DynamicalMatrices or None
        What carried the phonons onto the grid of G(q): `harmonic` or `carrier` of `analyse`.
    analysis : TcAnalysis

    Returns
    -------
    list of IsotopeEffect or NoTc
    """
    phonons, _ = bring_to_cell(phonons, elph.primitive, options.max_strain)
    if harmonic is not None:
        harmonic, _ = bring_to_cell(harmonic, elph.primitive, options.max_strain)
        phonons = swap_onto_grid(phonons, harmonic)
    elph = elph.rescaled(options.fermi_dos_per_spin_per_ry)
    here, table = phonons.with_masses(analysis.masses_amu), analysis.table
    spectra: dict[tuple[tuple[str, ...], float], Spectrum] = {}
    return [
        isotope_effect(
            elph,
            here,
            table.middle_mu_star,
            method,
            analysis.sigma_ry,
            options.gamma_weight,
            options.accept,
            mu_star_at=options.mu_star_at,
            mesh=options.mesh,
            integration=options.integration,
            spectra=spectra,
        )
        for method in table.methods
    ]
