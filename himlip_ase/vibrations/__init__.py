"""Vibrations of molecules and large structures: normal modes, lowest modes, thermochemistry."""

from himlip_ase.vibrations.lowest_modes import LowestModes, lowest_modes
from himlip_ase.vibrations.normal_modes import NormalModes, normal_modes
from himlip_ase.vibrations.rigid_motions import rigid_motions
from himlip_ase.vibrations.thermochemistry import harmonic_limit, ideal_gas, vibrations_data

__all__ = [
    "LowestModes",
    "NormalModes",
    "harmonic_limit",
    "ideal_gas",
    "lowest_modes",
    "normal_modes",
    "rigid_motions",
    "vibrations_data",
]
