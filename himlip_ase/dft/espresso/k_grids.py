"""Γ-centred k-grids of one density: carried from cell to cell, or of a given spacing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError


def scale_k_grid(k_grid: Sequence[int], dims: Sequence[int]) -> tuple[int, int, int]:
    """The k-grid of a diagonal supercell with at least the k-density of the primitive cell.

    Parameters
    ----------
    k_grid : three ints
        Grid of the primitive cell.
    dims : three ints
        Repetitions of the primitive cell; where they divide `k_grid` the two samplings are the same.

    Returns
    -------
    three ints
    """
    return tuple(max(1, math.ceil(k / d)) for k, d in zip(k_grid, dims, strict=True))  # type: ignore[return-value]


def k_grid_like(reference: Atoms, k_grid: Sequence[int], atoms: Atoms) -> tuple[int, int, int]:
    """The k-grid of any cell with at least the k-density of a reference cell.

    A diagonal supercell of the reference gets exactly `scale_k_grid`; any other cell gets the coarsest grid
    whose spacing along each reciprocal vector is at most the largest spacing of the reference.

    Parameters
    ----------
    reference : Atoms
    k_grid : three ints
        Grid of `reference`.
    atoms : Atoms

    Returns
    -------
    three ints
    """
    dims = supercell_dims(reference, atoms)
    if dims is not None:
        return scale_k_grid(k_grid, dims)
    spacing = max(np.linalg.norm(reference.cell.reciprocal(), axis=1) / np.asarray(k_grid))
    lengths = np.linalg.norm(atoms.cell.reciprocal(), axis=1)
    return tuple(max(1, math.ceil(length / spacing - 1e-6)) for length in lengths)


def k_grid_of_spacing(atoms: Atoms, spacing: float) -> tuple[int, int, int]:
    """The coarsest k-grid whose spacing along each reciprocal vector is at most `spacing`.

    Parameters
    ----------
    atoms : Atoms
        Any cell.
    spacing : float
        Å⁻¹, 2π included: 0.24 is 12×12×12 for the primitive cell of H3S.

    Returns
    -------
    three ints

    Raises
    ------
    InputError
        `spacing` is not positive.
    """
    if not (math.isfinite(spacing) and spacing > 0):
        raise InputError(f"the k-spacing is {spacing}; give a positive number of Å⁻¹ (2π included), e.g. 0.3")
    lengths = 2 * math.pi * np.linalg.norm(atoms.cell.reciprocal(), axis=1)
    return tuple(max(1, math.ceil(length / spacing - 1e-6)) for length in lengths)


def supercell_dims(reference: Atoms, atoms: Atoms, tolerance: float = 1e-4) -> tuple[int, int, int] | None:
    """Repetitions of the cell of `reference` that make that of `atoms`; None if no diagonal ones do.

    Parameters
    ----------
    reference, atoms : Atoms
    tolerance : float
        Of the matrix elements.

    Returns
    -------
    three ints or None
    """
    matrix = atoms.cell.array @ np.linalg.inv(reference.cell.array)
    rounded = np.rint(matrix)
    diagonal = np.diag(rounded)
    if (
        np.abs(matrix - rounded).max() > tolerance
        or np.any(rounded != np.diag(diagonal))
        or np.any(diagonal < 1)
    ):
        return None
    return int(diagonal[0]), int(diagonal[1]), int(diagonal[2])
