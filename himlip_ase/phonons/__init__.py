"""Force constants, dynamical matrices, their converters, bands and densities of states."""

from himlip_ase.phonons.dynamical_matrices import DynamicalMatrices
from himlip_ase.phonons.force_constants import ForceConstants

__all__ = ["DynamicalMatrices", "ForceConstants"]
