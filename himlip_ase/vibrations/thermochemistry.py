"""ASE's vibrational data and thermochemistry from exact Hessians."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.thermochemistry import HarmonicThermo, IdealGasThermo
from ase.vibrations import VibrationsData

from himlip_ase.errors import InputError
from himlip_ase.relaxation import FORCE_WARNING, largest_force
from himlip_ase.symmetry.point_groups import is_linear, rotational_symmetry_number
from himlip_ase.vibrations.normal_modes import NormalModes, normal_modes

logger = logging.getLogger(__name__)


def vibrations_data(
    atoms: Atoms, calculator: Any, indices: Sequence[int] | None = None, symmetry: bool = True
) -> VibrationsData:
    """What ``ase.vibrations.Vibrations(atoms).get_vibrations()`` gives, without finite differences.

    Parameters
    ----------
    atoms : Atoms
        A stationary point; a force above 1e-3 eV/Å on an atom that vibrates is logged as a warning.
    calculator : HiMLIPCalculator
    indices : sequence of int, optional
        Atoms that vibrate; by default those that no constraint holds.
    symmetry : bool
        Let the point group or space group save products.

    Returns
    -------
    ase.vibrations.VibrationsData
        ``get_energies()`` (eV), ``get_frequencies()`` (cm⁻¹), ``tabulate()``, ``write_jmol()``, …
    """
    free = VibrationsData.indices_from_constraints(atoms) if indices is None else list(indices)
    if not len(free):
        raise InputError("no atom is free to vibrate; give indices=, or remove the constraints")
    _warn_of_forces(atoms, calculator, free)
    if len(free) == len(atoms):
        hessian = calculator.get_hessian(atoms, symmetry=symmetry)[free]
    else:
        hessian = calculator.get_hessian(atoms, indices=free)
    bare = atoms.copy()
    return VibrationsData(bare, hessian[:, :, free], indices=free)


def ideal_gas(
    atoms: Atoms,
    calculator: Any,
    spin: float = 0.0,
    symmetry_number: int | None = None,
    saddle: int = 0,
) -> IdealGasThermo:
    """Ideal-gas thermochemistry of a molecule (rigid rotor, harmonic oscillators).

    Parameters
    ----------
    atoms : Atoms
        A relaxed molecule.
    calculator : HiMLIPCalculator
    spin : float
        Total electronic spin, for the entropy.
    symmetry_number : int, optional
        By default that of the molecule's point group.
    saddle : int
        Order of the saddle: 1 for a transition state, whose imaginary mode is left out (and logged). For soft
        vibrations, rates and standard states see `himlip_ase.vibrations.gibbs`.

    Returns
    -------
    ase.thermochemistry.IdealGasThermo
        For example ``ideal_gas(atoms, calc).get_gibbs_energy(298.15, 101325.0)``, eV.

    Raises
    ------
    InputError
        A periodic structure, or another number of imaginary frequencies than `saddle`.
    """
    if atoms.pbc.any():
        raise InputError(f"an ideal gas is made of molecules; the structure has pbc {atoms.pbc.tolist()}")
    _warn_of_forces(atoms, calculator, range(len(atoms)))
    modes = normal_modes(atoms, calculator.get_hessian(atoms, symmetry=True))
    _check_order(modes, saddle)
    geometry: Literal["monatomic", "linear", "nonlinear"] = "nonlinear"
    if len(atoms) < 3 or is_linear(atoms):
        geometry = "monatomic" if len(atoms) == 1 else "linear"
    return IdealGasThermo(
        list(modes.energies[saddle:]),
        geometry,
        potentialenergy=_energy(atoms, calculator),
        atoms=atoms,
        symmetrynumber=symmetry_number or rotational_symmetry_number(atoms),
        spin=spin,
        vib_selection="all" if saddle else "exact",
    )


def harmonic_limit(atoms: Atoms, calculator: Any, indices: Sequence[int] | None = None) -> HarmonicThermo:
    """Thermochemistry of atoms that only vibrate, as an adsorbate on a frozen surface.

    Parameters
    ----------
    atoms, calculator, indices
        As in `vibrations_data`.

    Returns
    -------
    ase.thermochemistry.HarmonicThermo
        Energies in eV.

    Raises
    ------
    InputError
        Imaginary frequencies.
    """
    energies = vibrations_data(atoms, calculator, indices).get_energies()
    if np.any(energies.imag > 1e-4):
        raise InputError(
            f"{int((energies.imag > 1e-4).sum())} imaginary frequencies: not a minimum. Relax it first"
        )
    return HarmonicThermo(list(energies), potentialenergy=_energy(atoms, calculator), ignore_imag_modes=True)


def _energy(atoms: Atoms, calculator: Any) -> float:
    return float(calculator.get_property("energy", atoms))


def _check_order(modes: NormalModes, saddle: int) -> None:
    imaginary = modes.frequencies[modes.frequencies < 0]
    if len(imaginary) < saddle:
        raise InputError(
            f"{len(imaginary)} imaginary frequencies: no saddle of order {saddle}. Search one: himlip ts"
        )
    if len(imaginary) > saddle:
        raise InputError(
            f"{len(imaginary)} imaginary frequencies (lowest {imaginary[0]:.1f} cm⁻¹): not a "
            f"{'saddle of order ' + str(saddle) if saddle else 'minimum'}. "
            "Relax the molecule first (himlip relax, or himlip_ase.relaxation.relax)"
        )
    if saddle:
        listed = ", ".join(f"{value:.1f}" for value in imaginary)
        logger.info("left out as the reaction coordinate: %s cm⁻¹", listed)


def _warn_of_forces(atoms: Atoms, calculator: Any, free: Sequence[int]) -> None:
    largest = largest_force(atoms, calculator, free)
    if largest > FORCE_WARNING:
        logger.warning("the largest force is %.3g eV/Å: not a stationary point; relax first", largest)
