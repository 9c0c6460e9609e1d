"""Vibrations of molecules and large structures: normal modes, lowest modes, thermochemistry."""

from himlip_ase.vibrations.gibbs import Conventions, GibbsEnergy, gibbs_energy
from himlip_ase.vibrations.lowest_modes import LowestModes, lowest_modes
from himlip_ase.vibrations.normal_modes import NormalModes, normal_modes
from himlip_ase.vibrations.partition_functions import ENTROPY_MODELS
from himlip_ase.vibrations.rates import TUNNELLING, eyring_rate
from himlip_ase.vibrations.rigid_motions import rigid_motions
from himlip_ase.vibrations.thermochemistry import harmonic_limit, ideal_gas, vibrations_data

__all__ = [
    "Conventions",
    "ENTROPY_MODELS",
    "GibbsEnergy",
    "LowestModes",
    "NormalModes",
    "TUNNELLING",
    "eyring_rate",
    "gibbs_energy",
    "harmonic_limit",
    "ideal_gas",
    "lowest_modes",
    "normal_modes",
    "rigid_motions",
    "vibrations_data",
]
