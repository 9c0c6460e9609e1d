"""Force-constant files of q2r.x.

For a polar crystal q2r.x takes the dipole-dipole part out of Φ(q) before it goes to real space, and matdyn.x
puts it back. The part is a sum over reciprocal vectors with a Gaussian whose width the two programs share and
no file tells; here it is put back on the grid, so that whole matrices come out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.lattice import grid_triplets
from himlip_ase.phonons.born_charges import BornCharges
from himlip_ase.phonons.broken_relations import tell_broken_relations
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.phonons.qe_text import (
    Header,
    LineReader,
    find_file,
    read_charges,
    read_header,
    read_tensor,
    read_text,
)
from himlip_ase.phonons.qe_xml import read_xml_force_constants
from himlip_ase.units import COULOMB_EV_ANGSTROM, RY_PER_BOHR2_EV_PER_ANGSTROM2

EWALD = 1.0
"""Ewald parameter of q2r.x and matdyn.x in (2π/alat)²."""

EWALD_CUTOFF = 14.0
"""Largest exponent K·ε·K/4α that they sum."""


def dipole_matrices(
    primitive: Atoms, born: BornCharges, qpoints: np.ndarray, alat: float, dims: Sequence[int]
) -> np.ndarray:
    """The dipole-dipole part of Φ(q) as q2r.x and matdyn.x define it.

    The reciprocal sum of Gonze and Lee (PRB 55, 10355 (1997), eq. 75), less what the sum rule takes from the
    diagonal. Along directions in which the grid has one q-point there are no reciprocal vectors but zero.

    Parameters
    ----------
    primitive : Atoms
    born : BornCharges
    qpoints : (nq, 3) ndarray
        Fractional; at Γ without the non-analytical term.
    alat : float
        Unit of length of the file, Å: the width of the Gaussian is given in it.
    dims : three integers
        The q-grid.

    Returns
    -------
    (nq, 3n, 3n) complex ndarray
        eV/Å², in the phase convention of `himlip_ase.phonons.DynamicalMatrices`.
    """
    n = len(primitive)
    reciprocal = 2 * np.pi * np.linalg.inv(primitive.cell.array).T
    width = 4 * EWALD * (2 * np.pi / alat) ** 2
    reach = np.sqrt(width * EWALD_CUTOFF / np.linalg.eigvalsh(born.dielectric).min())
    # |G + q| < reach needs |m_i| ≤ reach |a_i| / 2π, and one more for q
    lengths = np.linalg.norm(primitive.cell.array, axis=1)
    counts = [0 if d == 1 else int(reach * x / (2 * np.pi)) + 2 for d, x in zip(dims, lengths, strict=True)]
    shifts = np.stack(np.meshgrid(*[np.arange(-c, c + 1) for c in counts], indexing="ij"), axis=-1)
    shifts = shifts.reshape(-1, 3)
    factor = 4 * np.pi * COULOMB_EV_ANGSTROM / abs(primitive.cell.volume)

    def summed(q: np.ndarray) -> np.ndarray:
        wave = (shifts + q) @ reciprocal
        square = np.einsum("gi,ij,gj->g", wave, born.dielectric, wave)
        kept = (square > 1e-12) & (square < width * EWALD_CUTOFF)
        wave, square = wave[kept], square[kept]
        field = (
            np.einsum("gi,aij->gaj", wave, born.charges)
            * np.exp(1j * wave @ primitive.positions.T)[..., None]
        )
        weight = factor * np.exp(-square / width) / square
        return np.einsum("g,gai,gbj->aibj", weight, field, np.conj(field))

    diagonal = summed(np.zeros(3)).sum(axis=2).real  # (a, i, j), of which the symmetric part is taken
    diagonal = (diagonal + diagonal.swapaxes(1, 2)) / 2
    result = np.array([summed(q) for q in np.asarray(qpoints, dtype=float)])
    atoms = np.arange(n)
    result[:, atoms, :, atoms, :] -= diagonal[:, None]
    return result.reshape(len(result), 3 * n, 3 * n)


def read_q2r(path: str | os.PathLike) -> ForceConstants:
    """Read a force-constant file of q2r.x (``flfrc``, text or XML; ``.gz`` allowed).

    Parameters
    ----------
    path : path-like

    Returns
    -------
    ForceConstants
        eV/Å²; crystal, atom order and masses of the file. As in the file: no acoustic sum rule is imposed
        here. A polar crystal's come with its Born charges, and with the dipole-dipole part put back.

    Raises
    ------
    InputError
        A missing or truncated file (with the line).
    """
    found = find_file(path)
    if found is None:
        raise InputError(f"{path} does not exist; give the flfrc file of q2r.x")
    is_xml = read_text(found).lstrip().startswith("<?xml")
    header, born, dims, compact = _from_xml(found) if is_xml else _from_text(found)
    n, count = len(header.atoms), dims[0] * dims[1] * dims[2]
    compact *= RY_PER_BOHR2_EV_PER_ANGSTROM2
    short = ForceConstants(header.atoms, dims, compact.reshape(n, n * count, 3, 3))
    tell_broken_relations(short, found)
    if born is None:
        return short
    matrices = short.dynamical_matrices()
    dipoles = dipole_matrices(short.primitive, born, matrices.qpoints, header.alat, dims)
    return matrices.with_matrices(matrices.matrices + dipoles).with_born(born).force_constants()


_Content = tuple[Header, BornCharges | None, tuple[int, int, int], np.ndarray]
"""Crystal, charges, grid and Φ(0a, Rb) as (n, n, nR, 3, 3) in Ry/bohr², the first index of R fastest."""


def _minus(dims: tuple[int, int, int]) -> np.ndarray:
    """Places of −R, for the files hold Φ(Ra, 0b) = Φ(0a, −R b)."""
    return ((-grid_triplets(dims)) % dims) @ (1, dims[0], dims[0] * dims[1])


def _from_xml(path: Path) -> _Content:
    found = read_xml_force_constants(path)
    n = len(found.header.atoms)
    compact = np.empty((n, n, int(np.prod(found.dims)), 3, 3))
    fastest = found.values.transpose(0, 1, 4, 3, 2, 5, 6).reshape(compact.shape)
    compact[:, :, _minus(found.dims)] = fastest
    return found.header, found.born, found.dims, compact


def _from_text(path: Path) -> _Content:
    reader = LineReader(path)
    header = read_header(reader, basis_title=False)
    n = len(header.atoms)
    born = _born(reader, n)
    d1, d2, d3 = reader.integers(3, "the grid nr1 nr2 nr3", skip_blank=True)
    dims, count = (d1, d2, d3), d1 * d2 * d3
    if min(dims) < 1:
        raise reader.fail("a positive grid nr1 nr2 nr3")
    minus = _minus(dims)
    compact = np.empty((n, n, count, 3, 3))
    for _ in range(9 * n * n):
        i, j, a, b = reader.integers(4, "the indices 'i j na nb'", skip_blank=True)
        if not (1 <= i <= 3 and 1 <= j <= 3 and 1 <= a <= n and 1 <= b <= n):
            raise reader.fail(f"indices 'i j na nb' with i, j ≤ 3 and na, nb ≤ {n}")
        values = [reader.numbers(4, "'m1 m2 m3 force constant'")[3] for _ in range(count)]
        compact[a - 1, b - 1, minus, i - 1, j - 1] = values
    return header, born, dims, compact


def _born(reader: LineReader, n_atoms: int) -> BornCharges | None:
    flag = reader.next("T or F (effective charges)", skip_blank=True).strip().strip(".").upper()
    if flag.startswith("F"):
        return None
    if not flag.startswith("T"):
        raise reader.fail("T or F (effective charges)")
    dielectric = read_tensor(reader, "the dielectric tensor")
    return BornCharges(read_charges(reader, n_atoms), dielectric)
