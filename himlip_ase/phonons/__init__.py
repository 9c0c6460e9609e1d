"""Force constants, dynamical matrices, their converters, bands and densities of states.

Names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from himlip_ase.phonons.bands import (
        BandPath,
        BandStructure,
        DensityOfStates,
        band_path,
        band_structure,
        dos,
    )
    from himlip_ase.phonons.born_charges import BornCharges
    from himlip_ase.phonons.born_files import read_born
    from himlip_ase.phonons.cellconstructor import from_cellconstructor, to_cellconstructor
    from himlip_ase.phonons.exact import exact_force_constants, fill_phonopy
    from himlip_ase.phonons.follow import Child, Generation, follow_imaginary_modes, write_following
    from himlip_ase.phonons.force_constants import DynamicalMatrices, ForceConstants, acoustic
    from himlip_ase.phonons.harmonic import harmonic_force_constants
    from himlip_ase.phonons.irreps import GammaMode, GammaModes, gamma_modes, write_gamma_modes
    from himlip_ase.phonons.output_files import write_bands_and_dos, write_phonons
    from himlip_ase.phonons.phono3py_io import to_phono3py, write_fc2, write_for_phono3py
    from himlip_ase.phonons.phonopy_files import read_displaced_supercells, read_force_constants
    from himlip_ase.phonons.phonopy_io import from_phonopy, write_phonopy_params
    from himlip_ase.phonons.plots import (
        bands_and_dos_figure,
        plot_bands,
        plot_dos,
    )
    from himlip_ase.phonons.q2r import read_q2r
    from himlip_ase.phonons.qe import read_dyn, write_dyn
    from himlip_ase.phonons.quasi_harmonic import VolumeScan, quasi_harmonic_expansion, scan_volumes
    from himlip_ase.phonons.thermal_expansion import ThermalExpansion, plot_expansion, write_expansion
    from himlip_ase.phonons.third_order import ThirdOrder, third_order_force_constants

_HOMES = {
    "BandPath": "bands",
    "BandStructure": "bands",
    "BornCharges": "born_charges",
    "Child": "follow",
    "DensityOfStates": "bands",
    "DynamicalMatrices": "force_constants",
    "ForceConstants": "force_constants",
    "GammaMode": "irreps",
    "GammaModes": "irreps",
    "Generation": "follow",
    "ThermalExpansion": "thermal_expansion",
    "ThirdOrder": "third_order",
    "VolumeScan": "quasi_harmonic",
    "acoustic": "force_constants",
    "band_path": "bands",
    "band_structure": "bands",
    "bands_and_dos_figure": "plots",
    "dos": "bands",
    "exact_force_constants": "exact",
    "fill_phonopy": "exact",
    "follow_imaginary_modes": "follow",
    "from_cellconstructor": "cellconstructor",
    "from_phonopy": "phonopy_io",
    "gamma_modes": "irreps",
    "harmonic_force_constants": "harmonic",
    "plot_bands": "plots",
    "plot_dos": "plots",
    "plot_expansion": "thermal_expansion",
    "quasi_harmonic_expansion": "quasi_harmonic",
    "read_born": "born_files",
    "read_displaced_supercells": "phonopy_files",
    "read_dyn": "qe",
    "read_force_constants": "phonopy_files",
    "read_q2r": "q2r",
    "scan_volumes": "quasi_harmonic",
    "third_order_force_constants": "third_order",
    "to_cellconstructor": "cellconstructor",
    "to_phono3py": "phono3py_io",
    "write_bands_and_dos": "output_files",
    "write_dyn": "qe",
    "write_expansion": "thermal_expansion",
    "write_fc2": "phono3py_io",
    "write_following": "follow",
    "write_for_phono3py": "phono3py_io",
    "write_gamma_modes": "irreps",
    "write_phonons": "output_files",
    "write_phonopy_params": "phonopy_io",
}
__all__ = [
    "BandPath",
    "BandStructure",
    "BornCharges",
    "Child",
    "DensityOfStates",
    "DynamicalMatrices",
    "ForceConstants",
    "GammaMode",
    "GammaModes",
    "Generation",
    "ThermalExpansion",
    "ThirdOrder",
    "VolumeScan",
    "acoustic",
    "band_path",
    "band_structure",
    "bands_and_dos_figure",
    "dos",
    "exact_force_constants",
    "fill_phonopy",
    "follow_imaginary_modes",
    "from_cellconstructor",
    "from_phonopy",
    "gamma_modes",
    "harmonic_force_constants",
    "plot_bands",
    "plot_dos",
    "plot_expansion",
    "quasi_harmonic_expansion",
    "read_born",
    "read_displaced_supercells",
    "read_dyn",
    "read_force_constants",
    "read_q2r",
    "scan_volumes",
    "third_order_force_constants",
    "to_cellconstructor",
    "to_phono3py",
    "write_bands_and_dos",
    "write_dyn",
    "write_expansion",
    "write_fc2",
    "write_following",
    "write_for_phono3py",
    "write_gamma_modes",
    "write_phonons",
    "write_phonopy_params",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
