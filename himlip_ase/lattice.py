"""Bookkeeping of diagonal supercells and of their commensurate q-grids.

One order is used everywhere: grid triplets run with the *first* lattice index fastest, and supercell atoms
come atom by atom of the primitive cell, each with all its translations (phonopy's order).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError


def check_dims(dims: Sequence[int]) -> tuple[int, int, int]:
    """Three positive integers of a diagonal supercell, or `InputError`."""
    values = tuple(int(d) for d in np.ravel(np.asarray(dims, dtype=float)))
    if len(values) != 3 or min(values) < 1 or not np.array_equal(values, np.ravel(dims)):
        raise InputError(f"dims must be three integers ≥ 1, for example (2, 2, 2); got {dims!r}")
    return values[0], values[1], values[2]


def check_primitive(atoms: Atoms) -> Atoms:
    """A bare periodic copy of `atoms`: species, positions, cell and masses, nothing else.

    Raises
    ------
    InputError
        No atoms, no periodicity in three directions, a non-finite position, a singular cell, or a mass that
        is not positive.
    """
    if len(atoms) == 0:
        raise InputError("the primitive cell holds no atoms")
    if not atoms.pbc.all():
        raise InputError(
            f"a crystal is needed, periodic in three directions; the structure has pbc {atoms.pbc.tolist()}. "
            "For the vibrations of a molecule, a wire or a slab type `himlip hessian STRUCTURE --out "
            "hessian.npz`; for a crystal whose file does not tell, set atoms.pbc = True"
        )
    bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if bad.size:
        raise InputError(f"the position of atom {bad[0]} is not finite: {atoms.positions[bad[0]]}")
    cell = np.asarray(atoms.cell)
    if not np.isfinite(cell).all() or abs(np.linalg.det(cell)) < 1e-6:
        raise InputError(
            f"phonons of a crystal need a cell with three independent vectors (Å); got {cell.tolist()}"
        )
    masses = atoms.get_masses()
    if not (np.isfinite(masses).all() and (masses > 0).all()):
        raise InputError(f"masses must be positive (amu); got {masses.tolist()}")
    return Atoms(atoms.get_chemical_symbols(), positions=atoms.positions, cell=cell, pbc=True, masses=masses)


def crystal_mismatch(
    first: Atoms,
    second: Atoms,
    cell: float = 1e-3,
    position: float = 0.1,
    mass: float | None = None,
) -> str | None:
    """Why two structures are not the same crystal.

    Atoms are compared one by one, in their order, by fractional coordinates modulo lattice vectors, so that a
    cell that is strained within `cell` moves none of them.

    Parameters
    ----------
    first, second : Atoms
    cell : float
        Largest difference of a component of the lattice vectors, Å; infinity to leave the cells out.
    position : float
        Largest distance of an atom from its place in the other crystal, Å.
    mass : float, optional
        Largest difference of a mass, amu; by default masses are left out.

    Returns
    -------
    str or None
        The first difference in words, such as "the cells differ by 0.0123 Å (allowed 0.001)"; None where
        there is none.
    """
    if first.get_chemical_symbols() != second.get_chemical_symbols():
        formulas = [atoms.get_chemical_formula() for atoms in (first, second)]
        if formulas[0] == formulas[1]:
            return f"the atoms of {formulas[0]} stand in another order"
        return f"one holds {formulas[0]}, the other {formulas[1]}"
    difference = float(np.abs(first.cell.array - second.cell.array).max())
    if difference > cell:
        return f"the cells differ by {difference:.3g} Å (allowed {cell:g})"
    shift = first.get_scaled_positions(wrap=False) - second.get_scaled_positions(wrap=False)
    distances = np.linalg.norm((shift - np.rint(shift)) @ first.cell.array, axis=1)
    if distances.max(initial=0.0) > position:
        atom = int(distances.argmax())
        return (
            f"the positions of atom {atom} ({first.get_chemical_symbols()[atom]}) differ by "
            f"{distances[atom]:.3g} Å (allowed {position:g})"
        )
    if mass is not None:
        masses = np.abs(first.get_masses() - second.get_masses())
        if masses.max(initial=0.0) > mass:
            return f"the masses differ by {masses.max():.3g} amu (allowed {mass:g})"
    return None


def grid_triplets(dims: Sequence[int]) -> np.ndarray:
    """Integer triplets 0 ≤ m_i < dims[i], first index fastest, shape (prod(dims), 3)."""
    d1, d2, d3 = dims
    return np.stack(np.unravel_index(np.arange(d1 * d2 * d3), (d3, d2, d1))[::-1], axis=1)


def commensurate_qpoints(dims: Sequence[int]) -> np.ndarray:
    """Γ-centred q-points commensurate with a supercell.

    Returns
    -------
    ndarray
        Shape (prod(dims), 3): fractional coordinates in the reciprocal primitive basis, in [0, 1), first
        index fastest; Γ is the first.
    """
    return grid_triplets(dims) / np.asarray(dims, dtype=float)


def grid_indices(qpoints: np.ndarray, dims: Sequence[int], tolerance: float = 1e-4) -> np.ndarray:
    """Place of each q-point in `commensurate_qpoints`, modulo reciprocal lattice vectors.

    Parameters
    ----------
    qpoints : (n, 3) ndarray
        Fractional coordinates in the reciprocal primitive basis.
    dims : three int
        The grid.
    tolerance : float
        Largest deviation from a point of the grid, in fractional coordinates.

    Returns
    -------
    (n,) ndarray of int
        -1 for a q-point off the grid.
    """
    scaled = np.asarray(qpoints, dtype=float).reshape(-1, 3) * np.asarray(dims)
    rounded = np.rint(scaled)
    triplets = rounded.astype(int) % np.asarray(dims)
    indices = triplets[:, 0] + dims[0] * (triplets[:, 1] + dims[1] * triplets[:, 2])
    on_grid = np.abs(scaled - rounded).max(axis=1, initial=0.0) < tolerance * np.max(dims)
    return np.where(on_grid, indices, -1)


def shortest_qpoints(qpoints: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Equivalent q-points of least Cartesian length (one of them, on a tie).

    Parameters
    ----------
    qpoints : (n, 3) ndarray
        Fractional coordinates in the reciprocal basis of `cell`.
    cell : (3, 3) ndarray
        Lattice vectors as rows, Å.

    Returns
    -------
    (n, 3) ndarray
        Fractional coordinates.
    """
    reciprocal = np.linalg.inv(cell).T
    images = (qpoints - np.rint(qpoints))[:, None, :] + (grid_triplets((5, 5, 5)) - 2)[None]
    lengths = np.round(np.linalg.norm(images @ reciprocal, axis=2), 8)
    return images[np.arange(len(qpoints)), np.argmin(lengths, axis=1)]


def build_supercell(primitive: Atoms, dims: Sequence[int]) -> Atoms:
    """Diagonal supercell in phonopy's order, atom i at translation R lying at r_i + R (unwrapped).

    Parameters
    ----------
    primitive : Atoms
    dims : three int
        Repetitions along the lattice vectors.

    Returns
    -------
    Atoms
        len(primitive)·prod(dims) atoms: for each primitive atom all its translations, first lattice index
        fastest; masses are kept.
    """
    cell = np.asarray(primitive.cell)
    shifts = grid_triplets(dims) @ cell
    positions = (primitive.positions[:, None, :] + shifts[None]).reshape(-1, 3)
    count = len(shifts)
    return Atoms(
        numbers=np.repeat(primitive.numbers, count),
        positions=positions,
        cell=cell * np.asarray(dims, dtype=float)[:, None],
        pbc=True,
        masses=np.repeat(primitive.get_masses(), count),
    )


def ase_to_phonopy(n_primitive: int, dims: Sequence[int]) -> np.ndarray:
    """Where the atoms of the phonopy-ordered supercell stand in ``primitive.repeat(dims)``.

    ``x_phonopy = x_ase[ase_to_phonopy(n, dims)]`` for any per-atom array.

    Parameters
    ----------
    n_primitive : int
        Atoms of the primitive cell.
    dims : three int

    Returns
    -------
    (n_primitive·prod(dims),) ndarray of int
    """
    m = grid_triplets(dims)
    cell_index = (m[:, 0] * dims[1] + m[:, 1]) * dims[2] + m[:, 2]
    return (cell_index[None, :] * n_primitive + np.arange(n_primitive)[:, None]).ravel()


def difference_table(dims: Sequence[int]) -> np.ndarray:
    """Index of the translation R' − R for each pair (R, R'), shape (nR, nR)."""
    m = grid_triplets(dims)
    d = (m[None, :, :] - m[:, None, :]) % np.asarray(dims)
    return d[..., 0] + dims[0] * (d[..., 1] + dims[1] * d[..., 2])


def replace_masses(primitive: Atoms, masses: dict[str, float] | Sequence[float] | np.ndarray) -> Atoms:
    """Copy of a structure with other masses.

    Parameters
    ----------
    primitive : Atoms
    masses : dict or sequence of float
        amu, by element (others stay as they are), or one for each atom.

    Returns
    -------
    Atoms

    Raises
    ------
    InputError
        An element that is not there, a wrong number of masses, or one that is not positive.
    """
    copy = primitive.copy()
    if isinstance(masses, dict):
        symbols = copy.get_chemical_symbols()
        unknown = sorted(set(masses) - set(symbols))
        if unknown:
            raise InputError(
                f"no atom of {', '.join(unknown)} in {copy.get_chemical_formula()}; "
                f"masses may name {sorted(set(symbols))}"
            )
        values = np.array(
            [masses.get(s, m) for s, m in zip(symbols, copy.get_masses(), strict=True)], dtype=float
        )
    else:
        values = np.asarray(masses, dtype=float)
        if values.shape != (len(copy),):
            raise InputError(f"{len(copy)} masses are needed, one for each atom; got shape {values.shape}")
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise InputError(f"masses must be positive (amu); got {values.tolist()}")
    copy.set_masses(values)
    return copy
