"""One call from files to Tc with its uncertainties: the Python twin of ``himlip tc``."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.superconductivity.bootstrap import (
    BootstrapTc,
    add_noise,
    bootstrap_tc,
    resampled_phonons,
    spread_as_jackknife,
)
from himlip_ase.superconductivity.cell_strain import CellStrain, bring_to_cell, check_same_crystal
from himlip_ase.superconductivity.coupling import ModeCoupling, interpolated_coupling, mode_coupling
from himlip_ase.superconductivity.electron_bands import ElectronBands
from himlip_ase.superconductivity.electronic_dos import ElectronicDos
from himlip_ase.superconductivity.elph_matrices import ElphMatrices
from himlip_ase.superconductivity.onto_elph_grid import at_grid, carry_deviations, nests, swap_onto_grid
from himlip_ase.superconductivity.options import TcOptions
from himlip_ase.superconductivity.plateau import SigmaPlateau, sigma_plateau
from himlip_ase.superconductivity.q_mesh import QMeshRow, q_mesh_convergence
from himlip_ase.superconductivity.spectrum import Spectrum
from himlip_ase.superconductivity.tc import add_spread
from himlip_ase.superconductivity.tc_analysis import TcAnalysis
from himlip_ase.superconductivity.tc_entries import TcTable
from himlip_ase.superconductivity.tc_of_spectrum import (
    add_sigma,
    alone,
    full_bandwidth_of,
    gap_of,
    plateau_caveats,
    table_of,
)
from himlip_ase.superconductivity.zone import integrate_zone
from himlip_ase.units import RY_EV

if TYPE_CHECKING:
    from himlip_ase.phonons.force_constants import DynamicalMatrices


logger = logging.getLogger(__name__)


def analyse(
    label: str,
    elph: ElphMatrices,
    phonons: DynamicalMatrices,
    harmonic: DynamicalMatrices | None = None,
    options: TcOptions | None = None,
    *,
    masses: Mapping[str, float] | None = None,
    sigma_of: TcAnalysis | None = None,
    coarser: Sequence[ElphMatrices] = (),
    deviations: np.ndarray | None = None,
    deviations_of: str = "SSCHA ensemble",
    without: np.ndarray | None = None,
    dos: ElectronicDos | ElectronBands | None = None,
    carrier: DynamicalMatrices | None = None,
) -> TcAnalysis:
    """α²F, λ, ω_log, ω₂ and every Tc of G(q) with some phonons.

    Parameters
    ----------
    label : str
    elph : ElphMatrices
    phonons : DynamicalMatrices
        Harmonic, auxiliary, free-energy Hessian …; on the grid of `elph` or, with `harmonic` or `carrier`, on
        another. Their cell may be strained against that of `elph` by at most
        ``options.max_strain``: both are joined by fractional coordinates.
    harmonic : DynamicalMatrices, optional
        The dyn files of the ph.x run that wrote G: they prove that G and phonons are of one crystal, and
        carry the phonons onto the grid of G. Without them `phonons` must themselves be those of the run, as
        far as ``elph.inp_lambda`` files allow to check it.
    options : TcOptions, optional
        μ*, formulas, σ, sums over q; the defaults for None.
    masses : mapping, optional
        Element to amu, for isotopes. Anharmonic matrices keep the Φ that they were made with: at low
        temperature that of an isotope differs, and wants its own SSCHA run.
    sigma_of : TcAnalysis, optional
        Another analysis whose σ and window of σ are used, so that the two can be compared.
    coarser : sequence of ElphMatrices
        G on coarser grids: half the change that the finer grid brings is a source of uncertainty.
    deviations : ndarray, shape (blocks, nq, 3n, 3n), optional
        What each block of the SSCHA ensemble would change in `phonons`, on their grid (eV/Å²).
    deviations_of : str
        What those deviations hold, for the name of their share of an error bar.
    without : ndarray, shape (parts, nq, 3n, 3n), optional
        What each of several potentials, that left out one of equal parts of the labels, would change in
        `phonons`, on their grid (eV/Å²): their jackknife is a source of uncertainty.
    dos : ElectronicDos or ElectronBands, optional
        Migdal–Eliashberg with this N(ε), too; of bands it is made with the σ and the Fermi level of G(q).
    carrier : DynamicalMatrices, optional
        Harmonic matrices on the grid of `elph` that carry the phonons onto it instead of `harmonic`: those of
        the potential that made the phonons, where DFT's are not converged. In the cell of the phonons.

    Returns
    -------
    TcAnalysis

    Raises
    ------
    InputError
        Files of different crystals or runs; a strain beyond the limit; unknown σ, mass or option.
    """
    options = options or TcOptions()
    if carrier is not None:
        _check_carrier(carrier, phonons, elph)
        carrier, _ = bring_to_cell(carrier, elph.primitive, options.max_strain)
    phonons, strain = bring_to_cell(phonons, elph.primitive, options.max_strain)
    deviation = (
        float("nan") if carrier is not None and harmonic is None else _check_run(elph, phonons, harmonic)
    )
    carried = _carried(phonons, harmonic, carrier, elph)
    if deviations is not None:
        deviations = carry_deviations(deviations, phonons, elph.dims)
    if without is not None:
        without = carry_deviations(without, phonons, elph.dims)
    if carrier is not None:
        phonons = swap_onto_grid(phonons, carrier)
    elif harmonic is not None:
        phonons = swap_onto_grid(phonons, harmonic)
    if masses:
        phonons = phonons.with_masses(dict(masses))
    as_printed = elph
    elph, *coarser = (run.rescaled(options.fermi_dos_per_spin_per_ry) for run in (elph, *coarser))
    plateau = None
    if len(elph.sigma_ry) >= 3:
        plateau = sigma_plateau(
            elph,
            phonons,
            options.mu_star[0],
            "allen-dynes",
            options.gamma_weight,
            accept=options.accept,
            mu_star_at=options.mu_star_at,
        )
    sigma_ry, source = _choose_sigma(elph, options.sigma_ry, sigma_of, plateau)
    coupling, spectrum = spectrum_of(elph, phonons, sigma_ry, options)
    caveats = carried + _caveats(strain, deviation, plateau) + _dos_caveat(as_printed, sigma_ry, options)
    spectrum = replace(spectrum, caveats=spectrum.caveats + caveats)
    table = table_of(spectrum, options)
    leading = plateau if sigma_of is None else sigma_of.plateau
    if leading is not None:
        table = _add_sigma(table, elph, phonons, leading, options)
    rows: tuple[QMeshRow, ...] = ()
    if coarser or options.meshes:
        every = dict.fromkeys((*((options.mesh,) if options.mesh else ()), *options.meshes))
        rows = q_mesh_convergence(
            [*coarser, elph],
            phonons,
            tuple(every),
            options.middle_mu_star,
            options.leading_method,
            coupling.sigma_ry,
            options.gamma_weight,
            options.accept,
            options.mu_star_at,
        )
    if coarser:
        table = _add_q_grid(table, coarser, phonons, coupling, options)
        table = _add_shared_points(table, spectrum, elph, coarser, phonons, sigma_ry, options)
    noise = None
    if deviations is not None and not spectrum.problems:
        logger.info("%s: Tc of %d ensembles drawn from that of the SSCHA", label, options.samples)
        drawn = resampled_phonons(phonons, deviations, options.samples, options.seed)
        noise = _tc_of_samples(elph, drawn, coupling, options)
        table = add_noise(table, noise, f"{deviations_of} (bootstrap over {len(deviations)} blocks)")
    spread = None
    if without is not None and not spectrum.problems:
        deleted = spread_as_jackknife(phonons, without)
        # each of the few is a part of the error bar: none may be left out for having no Tc
        spread = _tc_of_samples(elph, deleted, coupling, options, max_refused=0.0)
        name = f"potential ({len(without)} that each left out a part of the learnt cells, jackknife)"
        table = add_noise(table, spread, name, "potential")
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
        {} if dos is None else full_bandwidth_of(spectrum, _dos_of(dos, as_printed, sigma_ry), options),
        gap_of(spectrum, options) if options.gap else None,
        strain,
        spread,
    )


def _tc_of_samples(
    elph: ElphMatrices,
    samples: list[DynamicalMatrices],
    coupling: ModeCoupling,
    options: TcOptions,
    max_refused: float = 0.1,
) -> BootstrapTc:
    return bootstrap_tc(
        elph,
        samples,
        options.mu_star,
        options.methods,
        coupling.sigma_ry,
        options.gamma_weight,
        max_refused,
        mu_star_at=options.mu_star_at,
    )


def _check_carrier(carrier: DynamicalMatrices, phonons: DynamicalMatrices, elph: ElphMatrices) -> None:
    """Refuse a carrier of another cell than the phonons', or on another grid than that of G."""
    check_same_crystal(phonons.primitive, carrier.primitive, "phonons", "harmonic matrices that carry them")
    if carrier.dims != elph.dims:
        shown = ["×".join(map(str, dims)) for dims in (carrier.dims, elph.dims)]
        raise InputError(
            f"the matrices that carry the phonons (carrier=, --carrier-dyn) are on {shown[0]} q, G is on "
            f"{shown[1]}; make them there: himlip phonons … --dims {' '.join(map(str, elph.dims))}"
        )


def _carried(
    phonons: DynamicalMatrices,
    harmonic: DynamicalMatrices | None,
    carrier: DynamicalMatrices | None,
    elph: ElphMatrices,
) -> tuple[str, ...]:
    """What a reader must know of the way of the phonons onto the grid of G."""
    if phonons.dims == elph.dims:
        return ()
    shown = ["×".join(map(str, dims)) for dims in (phonons.dims, elph.dims)]
    if carrier is not None:
        return (f"phonons of {shown[0]} carried onto {shown[1]} by harmonic matrices other than ph.x's",)
    if harmonic is None or nests(phonons.dims, elph.dims) or nests(elph.dims, phonons.dims):
        return ()
    return (
        f"the grid of the phonons, {shown[0]}, is no part of that of G, {shown[1]}: D_harm was "
        "Fourier-interpolated between them",
    )


def _caveats(strain: CellStrain | None, deviation: float, plateau: SigmaPlateau | None) -> tuple[str, ...]:
    caveats = [] if strain is None else [strain.caveat]
    if np.isnan(deviation):
        caveats.append("no elph.inp_lambda files: that G and phonons are of one crystal could not be checked")
    return (*caveats, *plateau_caveats(plateau))


def _dos_caveat(elph: ElphMatrices, sigma_ry: float, options: TcOptions) -> tuple[str, ...]:
    if options.fermi_dos is None:
        return ()
    own = float(elph.dos_per_spin_per_ry[elph.sigma_index(sigma_ry)]) * 2 / RY_EV
    return (
        f"α²F rescaled to N(E_F) = {options.fermi_dos:.4g} states/eV from {own:.4g} at σ = {sigma_ry:g} Ry "
        f"(× {options.fermi_dos / own:.3f})",
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


def spectrum_of(
    elph: ElphMatrices, phonons: DynamicalMatrices, sigma_ry: float | None, options: TcOptions
) -> tuple[ModeCoupling, Spectrum]:
    """The modes of the grid of G or of a mesh, and α²F by the sum or integral that was chosen.

    Parameters
    ----------
    elph : ElphMatrices
    phonons : DynamicalMatrices
        In the cell and on the grid of `elph`.
    sigma_ry : float or None
        As in `mode_coupling`.
    options : TcOptions
        Of it, ``mesh``, ``integration`` and ``gamma_weight``.

    Returns
    -------
    coupling : ModeCoupling
    spectrum : Spectrum
        With the plain q-sum as its alternative where there is a mesh.
    """
    coupling = _coupling(elph, phonons, sigma_ry, options)
    spectrum = coupling.spectrum()
    if options.mesh is not None:
        plain = mode_coupling(elph, phonons, sigma_ry, options.gamma_weight).spectrum()
        name = "Fourier-interpolated against plain q-sum"
        spectrum = replace(spectrum, alternative=plain, alternative_name=name)
    if options.integration != "sum":
        zone = integrate_zone(coupling, options.integration).spectrum
        spectrum = replace(zone, alternative=spectrum.alternative, alternative_name=spectrum.alternative_name)
    return coupling, spectrum


def _coupling(
    elph: ElphMatrices, phonons: DynamicalMatrices, sigma_ry: float | None, options: TcOptions
) -> ModeCoupling:
    if options.mesh is None:
        return mode_coupling(elph, phonons, sigma_ry, options.gamma_weight)
    return interpolated_coupling(elph, phonons, options.mesh, sigma_ry, options.gamma_weight)


def _bare(coupling: ModeCoupling) -> Spectrum:
    return alone(coupling.spectrum())


def _add_sigma(
    table: TcTable,
    elph: ElphMatrices,
    phonons: DynamicalMatrices,
    leading: SigmaPlateau,
    options: TcOptions,
) -> TcTable:
    """Half the spread over the broadenings of a plateau, or of the flattest window."""
    low, high = leading.window
    window = elph.sigma_ry[(elph.sigma_ry > low - 1e-9) & (elph.sigma_ry < high + 1e-9)]
    others = [table_of(_bare(_coupling(elph, phonons, float(value), options)), options) for value in window]
    return add_sigma(table, others, leading, among_others=options.integration != "sum")


def _add_q_grid(
    table: TcTable,
    coarser: Sequence[ElphMatrices],
    phonons: DynamicalMatrices,
    fine: ModeCoupling,
    options: TcOptions,
) -> TcTable:
    """Half the change from the next coarser grid of G(q), in the same kind of sum."""
    on_others = [run for run in coarser if run.dims != fine.dims]
    if not on_others:
        return table
    nearest = max(on_others, key=lambda item: int(np.prod(item.dims)))
    here = at_grid(phonons, nearest.dims) if options.mesh is None else phonons
    other = _coupling(nearest, here, fine.sigma_ry, options)
    tolerant = replace(options, accept=(*options.accept, "coarse"))
    tables = [table_of(_bare(c), tolerant) for c in (other, fine)]
    name = f"q-grid of G: {'×'.join(map(str, nearest.dims))} instead (half the change)"
    return add_spread(table, tables, "q-grid", name, among_others=True)


def _add_shared_points(
    table: TcTable,
    spectrum: Spectrum,
    elph: ElphMatrices,
    coarser: Sequence[ElphMatrices],
    phonons: DynamicalMatrices,
    sigma_ry: float,
    options: TcOptions,
) -> TcTable:
    """What λ of the q-points that G has in common with another run changes by when G is that run's.

    Runs with the same electrons agree there; on another k-mesh or smearing they do not, and the denser one
    says how far the other is off. Carried to all q-points as a factor of α²F; of several runs the one that
    differs most.
    """
    changes: list[tuple[float, ElphMatrices]] = []
    for run in (run for run in coarser if nests(run.dims, elph.dims)):
        here = at_grid(phonons, run.dims)
        own, theirs = (
            mode_coupling(matrices, here, sigma_ry, options.gamma_weight).spectrum().lambda_total
            for matrices in (elph.part(run.dims), run)
        )
        if own > 0 and theirs > 0:
            changes.append((abs(theirs / own - 1), run))
    if not changes:
        return table
    change, other = max(changes, key=lambda item: item[0])
    tables = [
        table_of(alone(replace(spectrum, lambdas=factor * spectrum.lambdas)), options)
        for factor in (1 - change, 1 + change)
    ]
    words = f"G of the {'×'.join(map(str, other.dims))} run at the q-points of both (k-mesh, smearing)"
    return add_spread(table, tables, "k-grid", words, among_others=True)
