"""Superconductivity: electron-phonon matrices of ph.x with any phonons → α²F, λ, Tc."""

from himlip_ase.superconductivity.analysis import TcAnalysis, analyse, analyse_curve, format_table
from himlip_ase.superconductivity.eliashberg import eliashberg_tc
from himlip_ase.superconductivity.elph_matrices import ElphMatrices, read_elph
from himlip_ase.superconductivity.gap import GapCurve, gap_curve, solve_gap, tc_sensitivity
from himlip_ase.superconductivity.outputs import read_alpha2f
from himlip_ase.superconductivity.plateau import bootstrap_tc, sigma_plateau
from himlip_ase.superconductivity.spectral import (
    ImaginaryMode,
    ModeCoupling,
    interpolated_coupling,
    mode_coupling,
    swap_onto_grid,
)
from himlip_ase.superconductivity.spectrum import Alpha2F, Problem, Spectrum, spectrum_from_curve
from himlip_ase.superconductivity.tc import NoTc, Tc, TcTable, critical_temperature, tc_table

__all__ = [
    "Alpha2F",
    "ElphMatrices",
    "GapCurve",
    "ImaginaryMode",
    "ModeCoupling",
    "NoTc",
    "Problem",
    "Spectrum",
    "Tc",
    "TcAnalysis",
    "TcTable",
    "analyse",
    "analyse_curve",
    "bootstrap_tc",
    "critical_temperature",
    "eliashberg_tc",
    "format_table",
    "gap_curve",
    "interpolated_coupling",
    "mode_coupling",
    "read_alpha2f",
    "read_elph",
    "sigma_plateau",
    "solve_gap",
    "spectrum_from_curve",
    "swap_onto_grid",
    "tc_sensitivity",
    "tc_table",
]
