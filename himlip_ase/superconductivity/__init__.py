"""Superconductivity: electron-phonon matrices of ph.x with any phonons → α²F, λ, Tc."""

from himlip_ase.superconductivity.analysis import analyse
from himlip_ase.superconductivity.bootstrap import (
    BootstrapTc,
    bootstrap_tc,
    jackknife_deviations,
    resampled_phonons,
)
from himlip_ase.superconductivity.cell_strain import CellStrain, bring_to_cell
from himlip_ase.superconductivity.coupling import (
    ImaginaryMode,
    ModeCoupling,
    interpolated_coupling,
    mode_coupling,
)
from himlip_ase.superconductivity.curve_analysis import analyse_broadenings, analyse_curve
from himlip_ase.superconductivity.curve_files import Alpha2FTable, read_alpha2f, read_alpha2f_table
from himlip_ase.superconductivity.electron_bands import ElectronBands, read_a2fsave
from himlip_ase.superconductivity.electronic_dos import ElectronicDos, read_electronic_dos
from himlip_ase.superconductivity.eliashberg import eliashberg_tc
from himlip_ase.superconductivity.elph_matrices import ElphMatrices, read_elph
from himlip_ase.superconductivity.full_bandwidth import eliashberg_tc_full_bandwidth, solve_full_bandwidth
from himlip_ase.superconductivity.gap import GapCurve, gap_curve, solve_gap, tc_sensitivity
from himlip_ase.superconductivity.isotope import IsotopeEffect, isotope_effect
from himlip_ase.superconductivity.methods import FORMULAS, TcFormula
from himlip_ase.superconductivity.onto_elph_grid import swap_onto_grid
from himlip_ase.superconductivity.options import TcOptions
from himlip_ase.superconductivity.output_files import read_results, write_results
from himlip_ase.superconductivity.plateau import SigmaPlateau, sigma_plateau
from himlip_ase.superconductivity.printed_modes import PrintedModes, read_printed_modes
from himlip_ase.superconductivity.q_mesh import QMeshRow, q_mesh_convergence
from himlip_ase.superconductivity.spectrum import Alpha2F, Problem, Spectrum, spectrum_from_curve
from himlip_ase.superconductivity.tables import format_table
from himlip_ase.superconductivity.tc import critical_temperature, tc_table
from himlip_ase.superconductivity.tc_analysis import TcAnalysis
from himlip_ase.superconductivity.tc_entries import NoTc, Tc, TcTable
from himlip_ase.superconductivity.zone import ZoneIntegral, integrate_zone

__all__ = [
    "Alpha2F",
    "Alpha2FTable",
    "BootstrapTc",
    "CellStrain",
    "ElectronBands",
    "ElectronicDos",
    "ElphMatrices",
    "FORMULAS",
    "GapCurve",
    "ImaginaryMode",
    "IsotopeEffect",
    "ModeCoupling",
    "NoTc",
    "PrintedModes",
    "Problem",
    "QMeshRow",
    "SigmaPlateau",
    "Spectrum",
    "Tc",
    "TcAnalysis",
    "TcFormula",
    "TcOptions",
    "TcTable",
    "ZoneIntegral",
    "analyse",
    "analyse_broadenings",
    "analyse_curve",
    "bootstrap_tc",
    "bring_to_cell",
    "critical_temperature",
    "eliashberg_tc",
    "eliashberg_tc_full_bandwidth",
    "format_table",
    "gap_curve",
    "integrate_zone",
    "interpolated_coupling",
    "isotope_effect",
    "jackknife_deviations",
    "mode_coupling",
    "q_mesh_convergence",
    "read_a2fsave",
    "read_alpha2f",
    "read_alpha2f_table",
    "read_electronic_dos",
    "read_elph",
    "read_printed_modes",
    "read_results",
    "resampled_phonons",
    "sigma_plateau",
    "solve_full_bandwidth",
    "solve_gap",
    "spectrum_from_curve",
    "swap_onto_grid",
    "tc_sensitivity",
    "tc_table",
    "write_results",
]
