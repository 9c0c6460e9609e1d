"""Dynamical matrices stand beside force constants: `himlip_ase.phonons.force_constants`."""

from himlip_ase.phonons.force_constants import DynamicalMatrices, acoustic, mass_reduced

__all__ = ["DynamicalMatrices", "acoustic", "mass_reduced"]
