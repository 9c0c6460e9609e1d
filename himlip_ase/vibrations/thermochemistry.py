"""ASE's vibrational data and thermochemistry from exact Hessians."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian, FixedLine, FixedPlane, FixScaled
from ase.thermochemistry import HarmonicThermo, IdealGasThermo
from ase.vibrations import VibrationsData

from himlip_ase.errors import InputError
from himlip_ase.relaxation import FORCE_WARNING, largest_force
from himlip_ase.symmetry.point_groups import is_linear, rotational_symmetry_number
from himlip_ase.vibrations.normal_modes import NormalModes, normal_modes

logger = logging.getLogger(__name__)


def vibrations_data(
    atoms: Atoms,
    calculator: Any,
    indices: Sequence[int] | Sequence[bool] | np.ndarray | None = None,
    symmetry: bool = True,
) -> VibrationsData:
    """What ``ase.vibrations.Vibrations(atoms).get_vibrations()`` gives, without finite differences.

    Parameters
    ----------
    atoms : Atoms
        A stationary point; a force above 1e-3 eV/Å on an atom that vibrates is logged as a warning.
    calculator : HiMLIPCalculator
    indices : sequence of int, or mask of bool, optional
        Atoms that vibrate, in any order, whatever constraints say; by default those that no constraint holds.
        Where a constraint holds an atom in some directions only (see `held_directions`), these have no force
        constants: each gives a mode of zero frequency.
    symmetry : bool
        Let the point group or space group save products.

    Returns
    -------
    ase.vibrations.VibrationsData
        ``get_energies()`` (eV), ``get_frequencies()`` (cm⁻¹), ``tabulate()``, ``write_jmol()``, …, indices
        ascending.

    Raises
    ------
    InputError
        No atom is free, indices outside the structure or given twice, or a constraint of another kind.
    """
    free, hessian, _ = _free_hessian(atoms, calculator, indices, symmetry)
    return VibrationsData(atoms.copy(), hessian, indices=free)


def _free_hessian(
    atoms: Atoms, calculator: Any, indices: Sequence[int] | np.ndarray | None, symmetry: bool = True
) -> tuple[list[int], np.ndarray, int]:
    """Atoms that vibrate, ascending; their Hessian (n, 3, n, 3); in how many directions they are held."""
    if indices is None:
        held = held_directions(atoms)
        free = [index for index in range(len(atoms)) if len(held.get(index, ())) < 3]
    else:
        # ASE pairs rows with masses by a mask, so that atoms have to ascend
        held, free = {}, _checked_indices(indices, len(atoms))
    if not free:
        raise InputError("no atom is free to vibrate; give indices=, or remove the constraints")
    _warn_of_forces(atoms, calculator, free)
    if len(free) == len(atoms):
        hessian = np.array(calculator.get_hessian(atoms, symmetry=symmetry))
    else:
        hessian = np.array(calculator.get_hessian(atoms, indices=free)[:, :, free])
    count = 0
    for place, index in enumerate(free):
        if index in held:
            basis = held[index]
            projector = np.eye(3) - basis.T @ basis
            hessian[place] = np.einsum("ij,jbk->ibk", projector, hessian[place])
            hessian[:, :, place] = hessian[:, :, place] @ projector
            count += len(basis)
    return free, hessian, count


def held_directions(atoms: Atoms) -> dict[int, np.ndarray]:
    """Orthonormal directions in which constraints hold each atom.

    Parameters
    ----------
    atoms : Atoms

    Returns
    -------
    dict of int to ndarray (k, 3)
        k = 3 for an atom that does not move; atoms that nothing holds are left out.

    Raises
    ------
    InputError
        A constraint that is none of `FixAtoms`, `FixCartesian`, `FixScaled`, `FixedPlane`, `FixedLine`.
    """
    spans: dict[int, list[np.ndarray]] = {}
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            directions = np.eye(3)
        elif isinstance(constraint, FixCartesian):
            directions = np.eye(3)[np.asarray(constraint.mask, dtype=bool)]
        elif isinstance(constraint, FixScaled):
            moving = ~np.asarray(constraint.mask, dtype=bool)
            directions = _across(atoms.cell.array[moving])
        elif isinstance(constraint, FixedPlane):
            directions = np.reshape(constraint.dir, (1, 3))
        elif isinstance(constraint, FixedLine):
            directions = _across(np.reshape(constraint.dir, (1, 3)))
        else:
            raise InputError(
                f"vibrations under {type(constraint).__name__} are not supported; remove the constraint, or "
                "name the atoms that vibrate (indices=)"
            )
        for index in np.atleast_1d(constraint.get_indices()):
            spans.setdefault(int(index), []).extend(directions)
    held = {}
    for index, vectors in spans.items():
        if vectors:
            _, sizes, rows = np.linalg.svd(np.array(vectors), full_matrices=False)
            held[index] = rows[sizes > 1e-8]
    return held


def _across(vectors: np.ndarray) -> np.ndarray:
    """Orthonormal directions (3 − k, 3) at right angles to k independent vectors."""
    if not len(vectors):
        return np.eye(3)
    return np.linalg.svd(vectors)[2][len(vectors) :]


def _checked_indices(indices: Sequence[int] | np.ndarray, n_atoms: int) -> list[int]:
    given = np.asarray(indices)
    if given.dtype == bool:
        if given.shape != (n_atoms,):
            raise InputError(f"a mask needs one entry for each of {n_atoms} atoms; got shape {given.shape}")
        return np.flatnonzero(given).tolist()
    if given.size and (given.ndim != 1 or not np.issubdtype(given.dtype, np.integer)):
        raise InputError(f"indices must be a list of atom numbers or a mask, got {indices!r}")
    if given.size and (given.min() < -n_atoms or given.max() >= n_atoms):
        raise InputError(f"indices must lie between {-n_atoms} and {n_atoms - 1}, got {given.tolist()}")
    wrapped = sorted(int(index) % n_atoms for index in given)
    if len(set(wrapped)) != len(wrapped):
        raise InputError(f"indices name an atom twice: {given.tolist()}")
    return wrapped


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
    free, hessian, held = _free_hessian(atoms, calculator, indices)
    energies = VibrationsData(atoms.copy(), hessian, indices=free).get_energies()
    # directions in which an atom is held are no vibrations
    energies = np.delete(energies, np.argsort(np.abs(energies), kind="stable")[:held])
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
