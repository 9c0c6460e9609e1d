"""The Hessian of a supercell as Hessians of the smallest cells that hold the same q-points.

A point q of order m of the commensurate grid is commensurate with a (non-diagonal) supercell of m primitive
cells (Lloyd-Williams and Monserrat, PRB 92, 184301 (2015)). The Hessians of these small cells, one for each q
that symmetry does not give, hold all that the Hessian of the full supercell holds, and a Hessian-vector
product on them is cheaper: a 2×2×2 grid needs cells of two primitive cells instead of eight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from math import lcm
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry.minkowski_reduction import minkowski_reduce

from himlip_ase.errors import InputError
from himlip_ase.labels.frames import HessianLabel
from himlip_ase.lattice import grid_triplets
from himlip_ase.symmetry.spglib_search import spglib_search


def fold_hessian(label: HessianLabel) -> list[HessianLabel]:
    """Replace a crystal's Hessian by those of the smallest cells with the same q-points.

    Parameters
    ----------
    label : HessianLabel
        With force constants; any other is returned as it is.

    Returns
    -------
    list of HessianLabel
        One for each star of q-points that is not among the multiples of another's; each also holds the
        multiples of its q, Γ among them. Their Hessians are exact sums of blocks of the supercell's.
    """
    constants = label.force_constants
    if constants is None or int(np.prod(constants.dims)) == 1:
        return [label]
    covered: set[int] = set()
    result = []
    for q, star, _ in _irreducible(constants.primitive, constants.dims):
        if star in covered:
            continue
        lattice = _commensurate_lattice(q, constants.dims)
        covered |= _stars_of_multiples(constants, q)
        atoms, matrix = _folded(constants, lattice)
        name = f"{label.name} at q = ({', '.join(f'{x:.3g}' for x in q / np.array(constants.dims))})"
        result.append(replace(label, atoms=atoms, matrix=matrix, name=name, force_constants=None))
    return result


def irreducible_cells(
    primitive: Atoms, dims: tuple[int, int, int]
) -> list[tuple[np.ndarray, int, Atoms, np.ndarray]]:
    """The smallest cell of each star of q-points of a grid.

    Parameters
    ----------
    primitive : Atoms
    dims : (int, int, int)

    Returns
    -------
    list of (q, members, cell, translations)
        q in fractional coordinates of the reciprocal primitive basis; how many q-points its star has; a cell
        of m primitive cells in which modes of q are periodic, its atoms translation by translation; and
        these, (m, 3) integers in units of the primitive vectors. Ordered by m, Γ first.
    """
    found = []
    for q, _, members in reversed(_irreducible(primitive, dims)):
        cell, translations = _small_cell(primitive, _commensurate_lattice(q, dims), dims)[:2]
        found.append((q / np.array(dims), members, cell, translations))
    return found


def _mesh(primitive: Atoms, dims: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    import spglib

    cell = (primitive.cell.array, primitive.get_scaled_positions(), primitive.numbers)
    found = spglib_search(spglib.get_ir_reciprocal_mesh, dims, cell, is_shift=(0, 0, 0), symprec=1e-4)
    if found is None:
        raise InputError("spglib finds no symmetry in the primitive cell; are two atoms on one site?")
    mapping, address = np.asarray(found[0]), np.asarray(found[1])
    return mapping, address % np.array(dims)


def _irreducible(primitive: Atoms, dims: tuple[int, int, int]) -> list[tuple[np.ndarray, int, int]]:
    """Integer q (in units of 1/dims), star and its size, of each star, the highest order first."""
    mapping, address = _mesh(primitive, dims)
    stars, sizes = np.unique(mapping, return_counts=True)
    points = [(address[star], int(star), int(size)) for star, size in zip(stars, sizes, strict=True)]
    return sorted(points, key=lambda point: -_order(point[0], dims))


def _order(q: np.ndarray, dims: tuple[int, int, int]) -> int:
    return lcm(*(int(d // np.gcd(int(x), d)) for x, d in zip(q, dims, strict=True)))


def _stars_of_multiples(constants: Any, q: np.ndarray) -> set[int]:
    mapping, address = _mesh(constants.primitive, constants.dims)
    index = {tuple(a): k for k, a in enumerate(address.tolist())}
    dims = np.array(constants.dims)
    return {int(mapping[index[tuple((k * q % dims).tolist())]]) for k in range(_order(q, constants.dims))}


def _commensurate_lattice(q: np.ndarray, dims: tuple[int, int, int]) -> np.ndarray:
    """Integer rows that span all n with q·n whole, from the Hermite normal forms of the right determinant."""
    m = _order(q, dims)
    fraction = q / np.array(dims)
    for a, d in product(range(1, m + 1), repeat=2):
        if m % (a * d):
            continue
        f = m // (a * d)
        for b, c, e in product(range(d), range(f), range(f)):
            rows = np.array([[a, b, c], [0, d, e], [0, 0, f]])
            phase = rows @ fraction
            if np.abs(phase - np.rint(phase)).max() < 1e-9:
                return rows
    raise AssertionError("every q has a commensurate lattice")


def _small_cell(
    primitive: Atoms, lattice: np.ndarray, dims: tuple[int, int, int]
) -> tuple[Atoms, np.ndarray, Callable[[np.ndarray], int]]:
    """A cell with the given lattice (integer rows), its translations, and which of them another equals."""
    cell, operation = minkowski_reduce(lattice @ primitive.cell.array)
    rows = np.rint(operation).astype(int) @ lattice
    m = round(abs(np.linalg.det(rows)))
    scaled_inverse = np.rint(m * np.linalg.inv(rows)).astype(int)

    def key(translation: np.ndarray) -> tuple[int, ...]:
        return tuple((translation @ scaled_inverse % m).tolist())

    cells: dict[tuple[int, ...], np.ndarray] = {}
    for translation in grid_triplets(dims):
        cells.setdefault(key(translation), translation)
    places = {k: index for index, k in enumerate(cells)}
    translations = np.array(list(cells.values()))
    positions = np.concatenate([primitive.positions + t @ primitive.cell.array for t in translations])
    atoms = Atoms(np.tile(primitive.numbers, m), positions=positions, cell=cell, pbc=True)
    atoms.set_masses(np.tile(primitive.get_masses(), m))
    return atoms, translations, lambda translation: places[key(translation)]


def _folded(constants: Any, lattice: np.ndarray) -> tuple[Atoms, np.ndarray]:
    primitive, dims = constants.primitive, constants.dims
    n, n_cells = len(primitive), int(np.prod(dims))
    atoms, translations, place = _small_cell(primitive, lattice, dims)
    m = len(translations)
    blocks = np.asarray(constants.compact).reshape(n, n, n_cells, 3, 3)
    matrix = np.zeros((m, n, 3, m, n, 3))
    for first, origin in enumerate(translations):
        for index, translation in enumerate(grid_triplets(dims)):
            matrix[first, :, :, place(origin + translation)] += blocks[:, :, index].transpose(0, 2, 1, 3)
    return atoms, matrix.reshape(n * m, 3, n * m, 3)
