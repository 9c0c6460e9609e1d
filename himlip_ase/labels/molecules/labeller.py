"""What a method that labels molecules is, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError


@dataclass(frozen=True)
class MolecularResult:
    """Result of one molecule.

    Attributes
    ----------
    energy : float
        eV.
    forces : ndarray (N, 3)
        eV/Å.
    hessian : ndarray (N, 3, N, 3) or None
        eV/Å², symmetric, the sum over either atom index zero.
    sum_rule : float
        Largest |Σ_j H_ij| before it was removed, eV/Å²: what grids or differences have left.
    """

    energy: float
    forces: np.ndarray
    hessian: np.ndarray | None = None
    sum_rule: float = 0.0


class Labeller(Protocol):
    """A method of calculation."""

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides the result, for the record: method, numerics, version."""

    def calculate(self, atoms: Atoms, hessian: bool) -> MolecularResult:
        """Energy, forces and perhaps the Hessian; CalculationError or InputError where that fails.

        Parameters
        ----------
        atoms : Atoms
            A neutral molecule.
        hessian : bool
            Whether the Hessian is wanted.

        Returns
        -------
        MolecularResult
            Energy in eV, forces (N, 3) in eV/Å, Hessian (N, 3, N, 3) in eV/Å² or None.
        """


def code_version(package: str) -> str:
    """Name and version of a package that calculates.

    Raises
    ------
    InputError
        It is not installed.
    """
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError as error:
        raise InputError(
            f"{package} is not installed; type: pip install {package}, or pip install 'himlip-ase[molecules]'"
        ) from error


def check_molecule(atoms: Atoms) -> None:
    """Refuse what is no neutral closed-shell molecule.

    Raises
    ------
    InputError
        Periodic directions, no atoms, non-finite positions, or an odd number of electrons.
    """
    name = atoms.get_chemical_formula() or "a structure without atoms"
    if not len(atoms) or not np.isfinite(atoms.positions).all():
        raise InputError(f"{name}: a molecule needs atoms at finite positions")
    if atoms.pbc.any():
        raise InputError(
            f"{name} is periodic (pbc {atoms.pbc.tolist()}); molecules are not: set atoms.pbc = False, "
            "or label crystals with himlip label supercell"
        )
    electrons = int(atoms.numbers.sum())
    if electrons % 2:
        raise InputError(
            f"{name} has {electrons} electrons; only neutral closed shells (an even number) are labelled"
        )


def obey_sum_rule(matrix: np.ndarray) -> tuple[np.ndarray, float]:
    """A symmetric Hessian that translations leave alone.

    A potential obeys both exactly and cannot learn a violation. The blocks of an atom with itself, where the
    integration grids of DFT leave by far the largest error, follow from the others: H_ii = −Σ_{j≠i} H_ij.

    Parameters
    ----------
    matrix : ndarray (N, 3, N, 3)

    Returns
    -------
    hessian : ndarray (N, 3, N, 3)
    deviation : float
        Largest |Σ_j H_ij| of the symmetrised input.
    """
    symmetric = (matrix + matrix.transpose(2, 3, 0, 1)) / 2
    excess = symmetric.sum(axis=2)
    fixed = symmetric.copy()
    for i, block in enumerate(excess):
        fixed[i, :, i, :] -= (block + block.T) / 2
    fixed -= fixed.mean(axis=0)  # the rest, where a block's excess is not symmetric
    fixed -= fixed.mean(axis=2, keepdims=True)
    return fixed, float(np.abs(excess).max())
