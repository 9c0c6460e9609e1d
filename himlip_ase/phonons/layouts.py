"""Force constants as arrays: phonopy's compact layout, all pairs, a Hessian, and Φ(q) on the grid.

`n` atoms in a primitive cell, `dims` of the diagonal supercell, eV/Å² throughout.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.lattice import ase_to_phonopy, difference_table

Order = Literal["phonopy", "ase"]
"""Of the atoms of a supercell: phonopy's, or that of ``primitive.repeat(dims)``."""


def compact_of_hessian(
    hessian: np.ndarray, n: int, dims: tuple[int, int, int], order: Order = "phonopy", tolerance: float = 1e-2
) -> np.ndarray:
    """Compact force constants of the Hessian of an undistorted supercell, averaged over the lattice.

    Parameters
    ----------
    hessian : (N, 3, N, 3) ndarray
        Indices (atom, direction, atom, direction).
    n : int
        Atoms of the primitive cell.
    dims : (int, int, int)
    order : {"phonopy", "ase"}
    tolerance : float
        Allowed deviation from permutation symmetry and from lattice periodicity, relative to the largest
        element. What lies below is averaged out.

    Returns
    -------
    (n, N, 3, 3) ndarray

    Raises
    ------
    InputError
        A deviation above `tolerance`, a wrong shape, numbers that are not finite.
    """
    count = int(np.prod(dims))
    hessian = np.asarray(hessian, dtype=float)
    if hessian.shape != (n * count, 3, n * count, 3):
        raise InputError(
            f"{n} atoms in a {dims} supercell need a Hessian ({n * count}, 3, {n * count}, 3); "
            f"got {hessian.shape}"
        )
    if not np.isfinite(hessian).all():
        raise InputError("the Hessian holds numbers that are not finite")
    _check_order(order)
    if order == "ase":
        places = ase_to_phonopy(n, dims)
        hessian = hessian[places][:, :, places]
    scale = float(np.abs(hessian).max()) or 1.0
    asymmetry = float(np.abs(hessian - hessian.transpose(2, 3, 0, 1)).max())
    if asymmetry > tolerance * scale:
        raise InputError(
            f"the Hessian is asymmetric by {asymmetry:.3g} eV/Å² (largest element {scale:.3g}, allowed "
            f"{tolerance * scale:.3g}); a Hessian is (atom, direction, atom, direction) and symmetric"
        )
    hessian = (hessian + hessian.transpose(2, 3, 0, 1)) / 2
    table = difference_table(dims)
    blocks = hessian.reshape(n, count, 3, n, count, 3)
    compact = np.zeros((n, n, count, 3, 3))
    for r in range(count):
        compact[:, :, table[r]] += blocks[:, r].transpose(0, 2, 3, 1, 4) / count
    deviation = max(
        float(np.abs(blocks[:, r].transpose(0, 2, 3, 1, 4) - compact[:, :, table[r]]).max())
        for r in range(count)
    )
    if deviation > tolerance * scale:
        other = "phonopy" if order == "ase" else "ase"
        raise InputError(
            f"the Hessian does not repeat with the lattice: copies of one pair differ by "
            f"{deviation:.3g} eV/Å² (allowed {tolerance * scale:.3g}). Are the atoms in the order "
            f"{order!r} (else pass order={other!r}), "
            "at their undistorted sites, and is this the right supercell?"
        )
    return compact.reshape(n, n * count, 3, 3)


def all_pairs(compact: np.ndarray, dims: tuple[int, int, int]) -> np.ndarray:
    """Force constants of all pairs of atoms of the supercell.

    Parameters
    ----------
    compact : (n, N, 3, 3) ndarray
    dims : (int, int, int)

    Returns
    -------
    (N, N, 3, 3) ndarray
        phonopy's order.
    """
    n, count = len(compact), int(np.prod(dims))
    blocks = compact.reshape(n, n, count, 3, 3)
    full = np.empty((n, count, n, count, 3, 3))
    table = difference_table(dims)
    for r in range(count):
        full[:, r] = blocks[:, :, table[r]]
    return full.reshape(n * count, n * count, 3, 3)


def hessian_of_compact(
    compact: np.ndarray, dims: tuple[int, int, int], order: Order = "phonopy"
) -> np.ndarray:
    """Hessian of the supercell.

    Parameters
    ----------
    compact : (n, N, 3, 3) ndarray
    dims : (int, int, int)
    order : {"phonopy", "ase"}

    Returns
    -------
    (N, 3, N, 3) ndarray
    """
    _check_order(order)
    hessian = all_pairs(compact, dims).transpose(0, 2, 1, 3)
    if order == "ase":
        places = np.argsort(ase_to_phonopy(len(compact), dims))
        return hessian[places][:, :, places]
    return hessian


def matrices_of_compact(compact: np.ndarray, dims: tuple[int, int, int]) -> np.ndarray:
    """Φ(q) = Σ_R Φ(0, R) exp(+2πi q·R) on the commensurate grid.

    Parameters
    ----------
    compact : (n, N, 3, 3) ndarray
    dims : (int, int, int)

    Returns
    -------
    (nq, 3n, 3n) complex ndarray
        In the order of `lattice.commensurate_qpoints`.
    """
    n, count = len(compact), int(np.prod(dims))
    grid = compact.reshape(n, n, *dims[::-1], 3, 3)
    phi = np.fft.ifftn(grid, axes=(2, 3, 4)) * count
    return phi.transpose(2, 3, 4, 0, 5, 1, 6).reshape(count, 3 * n, 3 * n)


def compact_of_matrices(matrices: np.ndarray, dims: tuple[int, int, int]) -> np.ndarray:
    """The inverse of `matrices_of_compact`, of the Hermitian part; what is not real is left out.

    Parameters
    ----------
    matrices : (nq, 3n, 3n) complex ndarray
    dims : (int, int, int)

    Returns
    -------
    (n, N, 3, 3) ndarray
    """
    n, count = matrices.shape[1] // 3, int(np.prod(dims))
    hermitian = (matrices + np.conj(matrices.swapaxes(1, 2))) / 2
    grid = hermitian.reshape(*dims[::-1], n, 3, n, 3)
    real = np.fft.fftn(grid, axes=(0, 1, 2)).real / count
    return real.transpose(3, 5, 0, 1, 2, 4, 6).reshape(n, n * count, 3, 3)


def _check_order(order: str) -> None:
    if order not in get_args(Order):
        raise InputError(f"order must be 'phonopy' or 'ase'; got {order!r}")
