"""One call from files to Tc with its uncertainties: the Python twin of ``himlip tc``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.superconductivity.bootstrap import add_noise, bootstrap_tc, resampled_phonons
from himlip_ase.superconductivity.coupling import (
    GammaWeight,
    ModeCoupling,
    interpolated_coupling,
    mode_coupling,
)
from himlip_ase.superconductivity.electron_bands import ElectronBands
from himlip_ase.superconductivity.electronic_dos import ElectronicDos
from himlip_ase.superconductivity.elph_matrices import ElphMatrices
from himlip_ase.superconductivity.full_bandwidth import eliashberg_tc_full_bandwidth
from himlip_ase.superconductivity.gap import GapCurve, gap_curve
from himlip_ase.superconductivity.onto_elph_grid import carry_deviations, swap_onto_grid
from himlip_ase.superconductivity.plateau import SigmaPlateau, sigma_plateau
from himlip_ase.superconductivity.q_mesh import QMeshRow, at_grid, q_mesh_convergence
from himlip_ase.superconductivity.spectrum import Spectrum
from himlip_ase.superconductivity.tc import (
    DEFAULT_MU_STAR,
    METHODS,
    Method,
    Tc,
    TcTable,
    add_spread,
    critical_temperature,
    tc_table,
)
from himlip_ase.superconductivity.tc_analysis import TcAnalysis
from himlip_ase.superconductivity.zone import Integration, integrate_zone

if TYPE_CHECKING:
    from himlip_ase.phonons.force_constants import DynamicalMatrices


def analyse(
    label: str,
    elph: ElphMatrices,
    phonons: DynamicalMatrices,
    harmonic: DynamicalMatrices | None = None,
    *,
    mu_star: Sequence[float] = DEFAULT_MU_STAR,
    methods: Sequence[Method] = METHODS,
    masses: dict[str, float] | None = None,
    sigma_ry: float | None = None,
    sigma_of: TcAnalysis | None = None,
    gamma_weight: GammaWeight = "counted",
    mesh: Sequence[int] | None = None,
    integration: Integration = "sum",
    coarser: Sequence[ElphMatrices] = (),
    meshes: Sequence[Sequence[int]] = (),
    deviations: np.ndarray | None = None,
    samples: int = 200,
    seed: int = 0,
    dos: ElectronicDos | ElectronBands | None = None,
    accept: Sequence[str] = (),
    gap: bool = False,
) -> TcAnalysis:
    """α²F, λ, ω_log, ω₂ and every Tc of G(q) with some phonons.

    Parameters
    ----------
    label : str
    elph : ElphMatrices
    phonons : DynamicalMatrices
        Harmonic, auxiliary, free-energy Hessian …; on the grid of `elph` or, with `harmonic`, on one that
        divides it or that it divides.
    harmonic : DynamicalMatrices, optional
        The dyn files of the ph.x run that wrote G: they prove that G and phonons are of one crystal, and
        carry the phonons onto the grid of G. Without them `phonons` must themselves be those of the run, as
        far as ``elph.inp_lambda`` files allow to check it.
    mu_star, methods, accept
        As in `tc_table`.
    masses : dict, optional
        Element to amu, for isotopes. Anharmonic matrices keep the Φ that they were made with: at low
        temperature that of an isotope differs, and wants its own SSCHA run.
    sigma_ry : float, optional
        Broadening. None takes that of `sigma_of`, else the middle of the σ-plateau if there is one, else the
        middle of the list.
    sigma_of : TcAnalysis, optional
        Another analysis whose σ and window of σ are used, so that the two can be compared.
    gamma_weight
        As in `mode_coupling`.
    mesh : sequence of 3 int, optional
        Fourier-interpolate D and G onto this mesh.
    integration
        As in `integrate_zone`; "sum" keeps the single modes.
    coarser : sequence of ElphMatrices
        G on coarser grids: half the change that the finer grid brings is a source of uncertainty.
    meshes : sequence of three int
        Further meshes for the table of convergence.
    deviations : ndarray, shape (blocks, nq, 3n, 3n), optional
        What each block of the SSCHA ensemble would change in `phonons`, on their grid (eV/Å²).
    samples, seed : int
        Ensembles put together anew from these blocks.
    dos : ElectronicDos or ElectronBands, optional
        Migdal–Eliashberg with this N(ε), too; of bands it is made with the σ and the Fermi level of G(q).
    gap : bool
        Solve the non-linear Eliashberg equations too, at the first μ*.

    Returns
    -------
    TcAnalysis

    Raises
    ------
    InputError
        Files of different crystals or runs; unknown σ, mass or option.
    """
    deviation = _check_run(elph, phonons, harmonic)
    if deviations is not None:
        deviations = carry_deviations(deviations, phonons, elph.dims)
    if harmonic is not None:
        phonons = swap_onto_grid(phonons, harmonic)
    if masses:
        phonons = phonons.with_masses(masses)
    plateau = None
    if len(elph.sigma_ry) >= 3:
        plateau = sigma_plateau(elph, phonons, mu_star[0], "allen-dynes", gamma_weight, accept=accept)
    leading = plateau if sigma_of is None else sigma_of.plateau
    sigma_ry, source = _choose_sigma(elph, sigma_ry, sigma_of, plateau)
    coupling, spectrum = _spectrum(elph, phonons, sigma_ry, gamma_weight, mesh, integration)
    caveats = spectrum.caveats
    if np.isnan(deviation):
        caveats += ("no elph.inp_lambda files: that G and phonons are of one crystal could not be checked",)
    if plateau is not None and not plateau.found:
        caveats += ("no plateau of λ in σ: the k-grids are too coarse or σ not small enough",)
    spectrum = replace(spectrum, caveats=caveats)
    table = tc_table(spectrum, mu_star, methods, accept)

    if leading is not None:
        low, high = leading.window
        window = elph.sigma_ry[(elph.sigma_ry > low - 1e-9) & (elph.sigma_ry < high + 1e-9)]
        others = [
            tc_table(
                _bare(_coupling(elph, phonons, float(value), gamma_weight, mesh)), mu_star, methods, accept
            )
            for value in window
        ]
        kind = "σ-plateau" if leading.found else "flattest σ window, no plateau:"
        table = add_spread(
            table, others, f"{kind} {low:g}–{high:g} Ry (half the spread)", among_others=integration != "sum"
        )
    reference = mu_star[len(mu_star) // 2]
    method = "allen-dynes" if "allen-dynes" in methods else methods[0]
    rows: tuple[QMeshRow, ...] = ()
    if coarser or meshes:
        every = dict.fromkeys(tuple(int(d) for d in m) for m in (*((mesh,) if mesh else ()), *meshes))
        rows = q_mesh_convergence(
            [*coarser, elph],
            phonons,
            tuple(every),
            reference,
            method,
            coupling.sigma_ry,
            gamma_weight,
            accept,
        )
    if coarser:
        table = _add_q_grid(table, coarser, phonons, coupling, mesh, gamma_weight, accept)
    noise = None
    if deviations is not None and not spectrum.problems:
        drawn = resampled_phonons(phonons, deviations, samples, seed)
        noise = bootstrap_tc(elph, drawn, mu_star, methods, coupling.sigma_ry, gamma_weight)
        table = add_noise(table, noise, f"SSCHA ensemble (bootstrap over {len(deviations)} blocks)")
    symbols = coupling.primitive.get_chemical_symbols()
    return TcAnalysis(
        label,
        spectrum,
        table,
        coupling.imaginary,
        coupling.sigma_ry,
        plateau,
        source,
        {s: float(m) for s, m in zip(symbols, coupling.primitive.get_masses(), strict=True)},
        coupling.atom_spectra(),
        rows,
        noise,
        {} if dos is None else _full_bandwidth(spectrum, _dos_of(dos, elph, sigma_ry), mu_star, accept),
        _gap(spectrum, mu_star[0], accept) if gap else None,
    )


def _dos_of(dos: ElectronicDos | ElectronBands, elph: ElphMatrices, sigma_ry: float) -> ElectronicDos:
    if isinstance(dos, ElectronicDos):
        return dos
    index = elph.sigma_index(sigma_ry)
    return dos.dos(float(elph.fermi_energy_ev[index]), sigma_ry, float(elph.dos_per_spin_per_ry[index]))


def _check_run(elph: ElphMatrices, phonons: DynamicalMatrices, harmonic: DynamicalMatrices | None) -> float:
    try:
        return elph.check_against(harmonic if harmonic is not None else phonons)
    except InputError as error:
        if harmonic is not None:
            raise
        raise InputError(
            f"{error}. If these phonons are anharmonic ones, give the harmonic dyn files of the ph.x run too "
            "(harmonic=, --harmonic-dyn), so that the crystal can be checked"
        ) from error


def _choose_sigma(
    elph: ElphMatrices, given: float | None, of: TcAnalysis | None, plateau: SigmaPlateau | None
) -> tuple[float, str]:
    """σ (Ry), and why this one."""
    if given is not None:
        return given, "given"
    if of is not None and of.sigma_ry is not None:
        return of.sigma_ry, f"that of '{of.label}'"
    if plateau is not None and plateau.found:
        return plateau.sigma_chosen_ry, "middle of the σ-plateau of these phonons"
    middle = float(elph.sigma_ry[elph.sigma_index(None)])
    return middle, "middle of the list: no σ-plateau, a default and not a converged choice"


def _spectrum(
    elph: ElphMatrices,
    phonons: DynamicalMatrices,
    sigma_ry: float,
    gamma_weight: GammaWeight,
    mesh: Sequence[int] | None,
    integration: Integration,
) -> tuple[ModeCoupling, Spectrum]:
    coupling = _coupling(elph, phonons, sigma_ry, gamma_weight, mesh)
    spectrum = coupling.spectrum()
    if mesh is not None:
        plain = mode_coupling(elph, phonons, sigma_ry, gamma_weight).spectrum()
        name = "Fourier-interpolated against plain q-sum"
        spectrum = replace(spectrum, alternative=plain, alternative_name=name)
    if integration != "sum":
        zone = integrate_zone(coupling, integration).spectrum
        spectrum = replace(zone, alternative=spectrum.alternative, alternative_name=spectrum.alternative_name)
    return coupling, spectrum


def _coupling(
    elph: ElphMatrices,
    phonons: DynamicalMatrices,
    sigma_ry: float,
    gamma_weight: GammaWeight,
    mesh: Sequence[int] | None,
) -> ModeCoupling:
    if mesh is None:
        return mode_coupling(elph, phonons, sigma_ry, gamma_weight)
    return interpolated_coupling(elph, phonons, mesh, sigma_ry, gamma_weight)


def _bare(coupling: ModeCoupling) -> Spectrum:
    return replace(coupling.spectrum(), alternative=None)


def _add_q_grid(
    table: TcTable,
    coarser: Sequence[ElphMatrices],
    phonons: DynamicalMatrices,
    fine: ModeCoupling,
    mesh: Sequence[int] | None,
    gamma_weight: GammaWeight,
    accept: Sequence[str],
) -> TcTable:
    """Half the change from the next coarser grid of G(q), in the same kind of sum."""
    mu_star = tuple(dict.fromkeys(entry.mu_star for entry in table.results))
    methods = tuple(dict.fromkeys(entry.method for entry in table.results))
    nearest = max(coarser, key=lambda item: int(np.prod(item.dims)))
    here = at_grid(phonons, nearest) if mesh is None else phonons
    other = _coupling(nearest, here, fine.sigma_ry, gamma_weight, mesh)
    tables = [tc_table(_bare(c), mu_star, methods, (*accept, "coarse")) for c in (other, fine)]
    name = f"q-grid of G: {'×'.join(map(str, nearest.dims))} instead (half the change)"
    return add_spread(table, tables, name, among_others=True)


def _full_bandwidth(
    spectrum: Spectrum, dos: ElectronicDos, mu_star: Sequence[float], accept: Sequence[str]
) -> dict[float, float | str]:
    found: dict[float, float | str] = {}
    for mu in mu_star:
        entry = critical_temperature(spectrum, mu, "eliashberg", accept)
        if isinstance(entry, Tc):
            try:
                found[mu] = eliashberg_tc_full_bandwidth(spectrum, dos, mu)
            except (CalculationError, InputError) as error:
                found[mu] = str(error)
        else:
            found[mu] = entry.reason
    return found


def _gap(spectrum: Spectrum, mu_star: float, accept: Sequence[str]) -> GapCurve | None:
    found = isinstance(critical_temperature(spectrum, mu_star, "eliashberg", accept), Tc)
    return gap_curve(spectrum, mu_star) if found else None


def analyse_curve(
    label: str,
    spectrum: Spectrum,
    *,
    mu_star: Sequence[float] = DEFAULT_MU_STAR,
    methods: Sequence[Method] = METHODS,
    dos: ElectronicDos | None = None,
    gap: bool = False,
) -> TcAnalysis:
    """Every Tc of a tabulated α²F (`read_alpha2f`)."""
    return TcAnalysis(
        label,
        spectrum,
        tc_table(spectrum, mu_star, methods),
        full_bandwidth={} if dos is None else _full_bandwidth(spectrum, dos, mu_star, ()),
        gap=_gap(spectrum, mu_star[0], ()) if gap else None,
    )
