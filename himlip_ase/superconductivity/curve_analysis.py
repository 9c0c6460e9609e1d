"""Every Tc of α²F that is known as a curve, or as one curve for each broadening."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.superconductivity.electronic_dos import ElectronicDos
from himlip_ase.superconductivity.options import TcOptions
from himlip_ase.superconductivity.plateau import SigmaPlateau, plateau_of
from himlip_ase.superconductivity.spectrum import Spectrum
from himlip_ase.superconductivity.tc_analysis import TcAnalysis
from himlip_ase.superconductivity.tc_of_spectrum import (
    add_sigma,
    alone,
    full_bandwidth_of,
    gap_of,
    plateau_caveats,
    table_of,
)


def analyse_curve(
    label: str,
    spectrum: Spectrum,
    options: TcOptions | None = None,
    *,
    dos: ElectronicDos | None = None,
) -> TcAnalysis:
    """Every Tc of a tabulated α²F (`read_alpha2f`).

    Parameters
    ----------
    label : str
    spectrum : Spectrum
    options : TcOptions, optional
        Those of the sums over q and σ do not apply.
    dos : ElectronicDos, optional
        Migdal–Eliashberg with this N(ε), too.

    Returns
    -------
    TcAnalysis

    Raises
    ------
    InputError
        ``options.fermi_dos`` is given: a curve does not say which N(E_F) it has.
    """
    options = options or TcOptions()
    if options.fermi_dos is not None:
        raise InputError(
            "fermi_dos (--fermi-dos) rescales the electron-phonon matrices of ph.x (--dyn, --elph), which "
            "carry their own N(E_F); α²F curves and printed λ are not rescaled: leave it out"
        )
    return TcAnalysis(
        label,
        spectrum,
        table_of(spectrum, options),
        full_bandwidth={} if dos is None else full_bandwidth_of(spectrum, dos, options),
        gap=gap_of(spectrum, options) if options.gap else None,
    )


def analyse_broadenings(
    label: str,
    sigma_ry: Sequence[float],
    spectra: Sequence[Spectrum],
    options: TcOptions | None = None,
    *,
    dos: ElectronicDos | None = None,
) -> TcAnalysis:
    """Every Tc of spectra of several broadenings of the double delta, with the plateau of λ over them.

    Parameters
    ----------
    label : str
    sigma_ry : sequence of float
        Ry, ascending.
    spectra : sequence of Spectrum
        One for each.
    options : TcOptions, optional
        ``sigma_ry`` chooses one; None takes the middle of the plateau, else the middle of the list, else, of
        fewer than three, the first.
    dos : ElectronicDos, optional
        Migdal–Eliashberg with this N(ε), too.

    Returns
    -------
    TcAnalysis
        Half the spread over the plateau, or over the flattest window, is an uncertainty.

    Raises
    ------
    InputError
        ``options.sigma_ry`` is none of them.
    """
    options = options or TcOptions()
    sigmas, plateau = np.asarray(sigma_ry, dtype=float), None
    if len(sigmas) >= 3:
        plateau = plateau_of(
            sigmas,
            spectra,
            options.mu_star[0],
            accept=options.accept,
            mu_star_at=options.mu_star_at,
        )
    place, source = _of_broadenings(sigmas, options.sigma_ry, plateau)
    caveats = (*spectra[place].caveats, f"σ = {sigmas[place]:g} Ry", *plateau_caveats(plateau))
    found = analyse_curve(label, replace(spectra[place], caveats=caveats), options, dos=dos)
    table = found.table
    if plateau is not None:
        low, high = plateau.window
        inside = [s for x, s in zip(sigmas, spectra, strict=True) if low - 1e-9 < x < high + 1e-9]
        table = add_sigma(table, [table_of(alone(s), options) for s in inside], plateau)
    return replace(found, table=table, sigma_ry=float(sigmas[place]), plateau=plateau, sigma_source=source)


def _of_broadenings(sigmas: np.ndarray, given: float | None, plateau: SigmaPlateau | None) -> tuple[int, str]:
    if given is not None:
        place = int(np.abs(sigmas - given).argmin())
        if abs(sigmas[place] - given) > 1e-6:
            listed = ", ".join(f"{s:g}" for s in sigmas)
            raise InputError(f"no α²F for σ = {given:g} Ry; the file has {listed} Ry")
        return place, "given"
    if plateau is None:
        return 0, "the first of fewer than three"
    if plateau.found:
        return int(np.abs(sigmas - plateau.sigma_chosen_ry).argmin()), "middle of the σ-plateau"
    return len(sigmas) // 2, "middle of the list: no σ-plateau, a default and not a converged choice"
