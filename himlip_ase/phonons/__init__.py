"""Force constants, dynamical matrices, their converters, bands and densities of states."""

from himlip_ase.phonons.force_constants import DynamicalMatrices, ForceConstants

__all__ = ["DynamicalMatrices", "ForceConstants"]
