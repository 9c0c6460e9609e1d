"""Quantum ESPRESSO's dynamical-matrix files (ph.x), text and XML."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write
from himlip_ase.lattice import (
    commensurate_qpoints,
    crystal_mismatch,
    grid_indices,
    shortest_qpoints,
)
from himlip_ase.phonons.born_charges import BornCharges
from himlip_ase.phonons.force_constants import DynamicalMatrices, mass_reduced
from himlip_ase.phonons.qe_text import DynFile, LineReader, find_file, read_dyn_file, read_text
from himlip_ase.phonons.qe_xml import read_xml_dyn_file
from himlip_ase.symmetry.spglib_search import spglib_search
from himlip_ase.units import (
    AMU_RY,
    BOHR_ANGSTROM,
    RY_PER_BOHR2_EV_PER_ANGSTROM2,
    THZ_CM,
    signed_frequencies_cm,
)


def read_dyn(path: str | os.PathLike) -> DynamicalMatrices:
    """Read the dyn files of a ph.x run over a q-grid.

    Parameters
    ----------
    path : path-like
        ``fildyn`` as given to ph.x (the name without its number), or the ``dyn0`` file. Each file may be
        gzipped, or XML (``fildyn`` that ends in ``.xml``). Without a ``dyn0`` (python-sscha writes none) the
        files 1, 2, … are read and the grid is inferred.

    Returns
    -------
    DynamicalMatrices
        Φ(q) in eV/Å², crystal and atom order of the files in Å, masses of the files in amu (text files hold
        amu × 911.444). QE's own phase, Σ_R Φ(0a, Rb) exp(+iq·R), is the one used here. Born charges and
        dielectric tensor are those of Γ's file, if it has them (``epsil=.true.``).

    Raises
    ------
    InputError
        A file is missing, empty, truncated or of another crystal (named, with the line); the grid is
        incomplete (the missing q-points are listed).
    """
    prefix, dims, count = _grid_of(Path(path))
    kinds = (".xml", "") if str(path).endswith(".xml") else ("", ".xml")
    files: list[DynFile] = []
    number = 1
    while count is None or number <= count:
        found = _numbered(prefix, number, kinds)
        if found is None:
            if count is None and files:
                break
            raise InputError(
                f"{prefix}{number} does not exist"
                + (f": dyn0 announces {count} files; complete ph.x (start_q = {number})" if count else "")
            )
        is_xml = read_text(found).lstrip().startswith("<?xml")
        files.append(read_xml_dyn_file(found) if is_xml else read_dyn_file(found))
        number += 1
    first = files[0]
    for other in files[1:]:
        reason = crystal_mismatch(first.header.atoms, other.header.atoms, cell=1e-4, position=1e-4, mass=1e-4)
        if reason is not None:
            raise InputError(f"{other.path} and {first.path} do not belong to one run: {reason}")
    atoms, alat = first.header.atoms, first.header.alat
    qpoints = np.concatenate([f.qpoints for f in files]) / alat @ np.asarray(atoms.cell).T
    matrices = np.concatenate([f.matrices for f in files])
    owners = [f.path for f in files for _ in f.qpoints]
    born = next((f.born for f in files if f.born is not None), None)
    return _assemble(atoms, dims or _infer_dims(qpoints, prefix), qpoints, matrices, owners).with_born(born)


def _numbered(prefix: str, number: int, kinds: Sequence[str] = ("", ".xml")) -> Path | None:
    """The file of a number, text or XML, the first of these kinds that there is."""
    found = (find_file(f"{prefix}{number}{kind}") for kind in kinds)
    return next((path for path in found if path is not None), None)


def _grid_of(path: Path) -> tuple[str, tuple[int, int, int] | None, int | None]:
    """Prefix of the numbered files, and grid and number of files where a dyn0 states them."""
    is_zero = re.search(r"0(\.gz)?$", path.name) is not None and path.is_file()
    prefix = re.sub(r"0(\.gz)?$", "", str(path)) if is_zero else str(path).removesuffix(".xml")
    zero = path if is_zero else find_file(f"{prefix}0")
    if zero is None:
        if _numbered(prefix, 1) is None:
            raise InputError(
                f"neither {prefix}0 nor {prefix}1 exists; give fildyn as in the ph.x input, "
                "for example harmonic/dyn"
            )
        return prefix, None, None
    reader = LineReader(zero)
    d1, d2, d3 = reader.integers(3, "the grid nq1 nq2 nq3", skip_blank=True)
    (count,) = reader.integers(1, "the number of irreducible q-points", skip_blank=True)
    if min(d1, d2, d3, count) < 1:
        raise reader.fail("a positive number of irreducible q-points on a positive grid")
    return prefix, (d1, d2, d3), count


def _infer_dims(qpoints: np.ndarray, prefix: str) -> tuple[int, int, int]:
    dims = [1, 1, 1]
    for axis in range(3):
        denominators = {Fraction(float(q)).limit_denominator(32).denominator for q in qpoints[:, axis]}
        dims[axis] = int(np.lcm.reduce(list(denominators)))
    if int(np.prod(dims)) != len(qpoints):
        raise InputError(
            f"the {len(qpoints)} q-points of {prefix}1… do not fill the {tuple(dims)} grid they lie on; "
            f"files are missing, or put {prefix}0 (grid and number of files) beside them"
        )
    return dims[0], dims[1], dims[2]


def _show(q: np.ndarray) -> str:
    return "(" + ", ".join(f"{x:.6g}" for x in q) + ")"


def _assemble(
    atoms: Atoms, dims: tuple[int, int, int], qpoints: np.ndarray, matrices: np.ndarray, owners: list[Path]
) -> DynamicalMatrices:
    indices = grid_indices(qpoints, dims)
    n = len(atoms)
    ordered = np.zeros((int(np.prod(dims)), 3 * n, 3 * n), dtype=complex)
    seen: dict[int, Path] = {}
    scale = float(np.abs(matrices).max()) or 1.0
    for index, q, matrix, owner in zip(indices, qpoints, matrices, owners, strict=True):
        if index < 0:
            raise InputError(f"{owner}: q = {_show(q)} is not on the {dims} grid of dyn0")
        if index in seen and np.abs(ordered[index] - matrix).max() > 1e-3 * scale:
            raise InputError(
                f"q = {_show(q)} stands in {seen[index]} and in {owner} "
                "with different matrices: the files do not belong to one run"
            )
        ordered[index] = matrix
        seen[index] = owner
    grid = commensurate_qpoints(dims)
    missing = [_show(grid[i]) for i in range(len(grid)) if i not in seen]
    if missing:
        raise InputError(
            f"{len(missing)} of the {len(grid)} q-points of the {dims} grid are in no file; missing: "
            f"{', '.join(missing)}. Complete ph.x, or check that no dyn file is cut short"
        )
    return DynamicalMatrices(atoms, dims, grid, ordered)


# -- writing -------------------------------------------------------------------------------------------------


def stars(dm: DynamicalMatrices, symprec: float = 1e-4) -> list[list[int]]:
    """Indices of the q-points of `dm`, grouped by crystal symmetry and time reversal; Γ comes first.

    Parameters
    ----------
    dm : DynamicalMatrices
    symprec : float
        Å, of the search for the space group.

    Returns
    -------
    list of list of int
    """
    import spglib

    cell: Any = (np.asarray(dm.primitive.cell), dm.primitive.get_scaled_positions(), dm.primitive.numbers)
    symmetry = spglib_search(spglib.get_symmetry, cell, symprec=symprec)
    rotations = [np.eye(3, dtype=int)] if symmetry is None else list(symmetry["rotations"])
    groups: list[list[int]] = []
    left = set(range(len(dm.qpoints)))
    for index in range(len(dm.qpoints)):
        if index not in left:
            continue
        images = np.array([sign * dm.qpoints[index] @ w for w in rotations for sign in (1, -1)])
        members = {int(i) for i in grid_indices(images, dm.dims) if i >= 0} & left | {index}
        left -= members
        groups.append([index, *sorted(members - {index})])
    return groups


def write_dyn(dm: DynamicalMatrices, prefix: str | os.PathLike, overwrite: bool = False) -> list[Path]:
    """Write dyn files as ph.x does: ``<prefix>0`` with the grid, and one file for each star of q.

    q2r.x, matdyn.x and CellConstructor read them. The lattice is written with ibrav = 0, masses as amu ×
    911.444, Φ(q) in Ry/bohr² with twelve decimals; dielectric tensor and Born charges stand in Γ's file.
    Isotopes of one element get labels of their own (``H``, ``H2``), because readers go by the label.

    Parameters
    ----------
    dm : DynamicalMatrices
    prefix : path-like
        Name without number, for example ``folder/dyn``.
    overwrite : bool
        Whether existing files may be replaced (`InputError` otherwise, before anything is written).

    Returns
    -------
    list of Path
        The files, dyn0 first.
    """
    groups = stars(dm)
    paths = [Path(f"{prefix}{i}") for i in range(len(groups) + 1)]
    existing = [p for p in paths if p.exists()]
    if existing and not overwrite:
        raise InputError(
            f"{existing[0]} exists already; pass overwrite=True (--overwrite) or choose another prefix"
        )
    cell = np.asarray(dm.primitive.cell)
    alat = float(np.linalg.norm(cell[0]))
    qpoints = shortest_qpoints(dm.qpoints, cell) @ np.linalg.inv(cell).T * alat
    lines = ["".join(f"{d:4d}" for d in dm.dims), f"{len(groups):4d}"]
    lines += ["".join(f"{x:24.15E}" for x in qpoints[g[0]]) for g in groups]
    with atomic_write(paths[0], overwrite=overwrite) as stream:
        stream.write("\n".join(lines) + "\n")
    head = _header_lines(dm.primitive, alat)
    for path, group in zip(paths[1:], groups, strict=True):
        body = list(head)
        for index in group:
            body += ["", "     Dynamical  Matrix in cartesian axes", "", _q_line(qpoints[index]), ""]
            body += _block_lines(dm.matrices[index] / RY_PER_BOHR2_EV_PER_ANGSTROM2)
        if dm.born is not None and group[0] == 0:
            body += _born_lines(dm.born)
        body += ["", "     Diagonalizing the dynamical matrix", "", _q_line(qpoints[group[0]]), ""]
        body += _mode_lines(dm.matrices[group[0]], dm.primitive.get_masses())
        with atomic_write(path, overwrite=overwrite) as stream:
            stream.write("\n".join(body) + "\n")
    return paths


def _header_lines(atoms: Atoms, alat: float) -> list[str]:
    symbols = atoms.get_chemical_symbols()
    masses = atoms.get_masses()
    types: dict[tuple[str, float], int] = {}
    kinds = [
        types.setdefault((s, round(float(m), 9)), len(types)) for s, m in zip(symbols, masses, strict=True)
    ]
    lines = ["Dynamical matrix file", "himlip-ase"]
    celldm = "".join(f"{x:18.12f}" for x in (alat / BOHR_ANGSTROM, 0, 0, 0, 0, 0))
    lines += [f"{len(types):3d}{len(atoms):5d}{0:4d}{celldm}", "Basis vectors"]
    lines += ["  " + "".join(f"{x:19.14f}" for x in row / alat) for row in np.asarray(atoms.cell)]
    labels = _labels([symbol for symbol, _ in types])
    lines += [f"{i + 1:12d}  '{labels[i]:<3s}' {m * AMU_RY:24.12f}" for (_, m), i in types.items()]
    lines += [
        f"{i + 1:5d}{kind + 1:5d}" + "".join(f"{x:20.14f}" for x in position / alat)
        for i, (kind, position) in enumerate(zip(kinds, atoms.positions, strict=True))
    ]
    return lines


def _labels(symbols: list[str]) -> list[str]:
    """Species labels of at most three characters: the symbol, and a number from the second of its kind on."""
    counts: dict[str, int] = {}
    labels = []
    for symbol in symbols:
        counts[symbol] = counts.get(symbol, 0) + 1
        labels.append(symbol if counts[symbol] == 1 else f"{symbol}{counts[symbol]}")
    if max(map(len, labels)) > 3:
        raise InputError(
            f"{max(counts.values())} masses of one element do not fit the three characters of a species label"
        )
    return labels


def _born_lines(born: BornCharges) -> list[str]:
    def rows(matrix: np.ndarray) -> list[str]:
        return ["".join(f"{x + 0.0:24.12f}" for x in row) for row in matrix]

    lines = ["", "     Dielectric Tensor:", "", *rows(born.dielectric)]
    lines += ["", "     Effective Charges E-U: Z_{alpha}{s,beta}", ""]
    for atom, charge in enumerate(born.charges):
        lines += [f"     atom # {atom + 1:4d}", *rows(charge)]
    return lines


def _q_line(q: np.ndarray) -> str:
    return "     q = ( " + "".join(f"{x + 0.0:18.12f}" for x in q) + " ) "


def _block_lines(matrix: np.ndarray) -> list[str]:
    n = len(matrix) // 3
    lines = []
    for a in range(n):
        for b in range(n):
            lines.append(f"{a + 1:5d}{b + 1:5d}")
            for i in range(3):
                row = matrix[3 * a + i, 3 * b : 3 * b + 3]
                lines.append("  ".join(f"{z.real:18.12f}{z.imag:18.12f}" for z in row))
    return lines


def _mode_lines(matrix: np.ndarray, masses: np.ndarray) -> list[str]:
    """Frequencies and normalised displacements e/√M, as ph.x prints them."""
    values, vectors = np.linalg.eigh(mass_reduced(matrix, masses))
    displacements = vectors / np.sqrt(np.repeat(masses, 3))[:, None]
    displacements /= np.linalg.norm(displacements, axis=0)
    border = " " + "*" * 74
    lines = [border]
    for mode, frequency in enumerate(signed_frequencies_cm(values)):
        lines.append(f"     freq ({mode + 1:5d}) ={frequency / THZ_CM:15.6f} [THz] ={frequency:15.6f} [cm-1]")
        for atom in displacements[:, mode].reshape(-1, 3):
            lines.append(" (" + "".join(f"{z.real:10.6f}{z.imag:10.6f}" for z in atom) + " ) ")
    return [*lines, border]
