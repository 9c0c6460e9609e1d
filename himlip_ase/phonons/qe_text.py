"""Reading of the text files that ph.x and q2r.x write, with errors that name file and line."""

from __future__ import annotations

import gzip
import os
import shlex
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.files import check_text
from himlip_ase.phonons.born_charges import BornCharges
from himlip_ase.phonons.qe_frequencies import check_printed_frequencies
from himlip_ase.phonons.qe_lattice import ibrav_cell
from himlip_ase.units import AMU_RY, BOHR_ANGSTROM, RY_PER_BOHR2_EV_PER_ANGSTROM2


def find_file(path: str | os.PathLike) -> Path | None:
    """`path` itself or its ``.gz`` twin, or None."""
    for candidate in (Path(path), Path(f"{path}.gz")):
        if candidate.is_file():
            return candidate
    return None


def read_text(path: Path) -> str:
    """Text of a file, gzipped or not.

    Raises
    ------
    InputError
        It is empty, not text, or damaged.
    """
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        text = data.decode("utf-8")
        check_text(text, path, "complete the run that writes it (ph.x: start_q), or copy it again")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not text.strip():
        raise InputError(
            f"{path} is empty: the run that writes it has not finished; complete it (ph.x: start_q)"
        )
    return text


class Reader(Protocol):
    """What tells where in which file something is wrong."""

    def fail(self, expected: str) -> InputError:
        """The error to raise."""


class LineReader:
    """Lines of a text file (``.gz`` allowed), read one after another.

    Raises
    ------
    InputError
        The file is empty or not text; any method: what was expected and on which line of which file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = read_text(path).splitlines()
        self.number = 0

    def fail(self, expected: str) -> InputError:
        """The error to raise for the current line."""
        if self.number > len(self.lines):
            return InputError(
                f"{self.path} ends after line {len(self.lines)} where {expected} was expected: "
                "the file is truncated; complete the run that writes it"
            )
        line = self.lines[self.number - 1].strip()
        return InputError(f"{self.path}, line {self.number}: expected {expected}, found {line!r}")

    def next(self, expected: str, skip_blank: bool = False) -> str:
        """The next line.

        Parameters
        ----------
        expected : str
            What should stand there, for the error.
        skip_blank : bool
            Whether blank lines are passed over.

        Returns
        -------
        str
        """
        while True:
            self.number += 1
            if self.number > len(self.lines):
                raise self.fail(expected)
            line = self.lines[self.number - 1]
            if line.strip() or not skip_blank:
                return line

    def peek(self) -> str | None:
        """The next line that is not blank, left in place; None at the end."""
        for line in self.lines[self.number :]:
            if line.strip():
                return line
        return None

    def numbers(self, count: int, expected: str, skip_blank: bool = False) -> np.ndarray:
        """`count` finite numbers on the next line.

        Parameters
        ----------
        count : int
        expected : str
            What should stand there, for the error.
        skip_blank : bool
            Whether blank lines are passed over.

        Returns
        -------
        ndarray (count,)
        """
        line = self.next(expected, skip_blank)
        try:
            values = np.array(
                [float(word.replace("D", "E").replace("d", "e")) for word in line.split()[:count]]
            )
        except ValueError as error:
            raise self.fail(expected) from error
        if len(values) != count or not np.isfinite(values).all():
            raise self.fail(expected)
        return values

    def integers(self, count: int, expected: str, skip_blank: bool = False) -> tuple[int, ...]:
        """`count` integers on the next line.

        Parameters
        ----------
        count : int
        expected : str
            What should stand there, for the error.
        skip_blank : bool
            Whether blank lines are passed over.

        Returns
        -------
        tuple of int
        """
        values = self.numbers(count, expected, skip_blank)
        if not np.array_equal(values, np.rint(values)):
            raise self.fail(expected)
        return tuple(int(v) for v in values)


@dataclass(frozen=True)
class Header:
    """Crystal at the top of a dyn or fc file: alat in Å, atoms in Å and amu in the order of the file."""

    alat: float
    atoms: Atoms


def read_header(reader: LineReader, basis_title: bool) -> Header:
    """Read ``ntyp nat ibrav celldm`` and what follows up to the atoms.

    Parameters
    ----------
    reader : LineReader
    basis_title : bool
        Whether a line "Basis vectors" stands above the cell of ibrav = 0 (dyn files; fc files have none).

    Returns
    -------
    Header
    """
    first = reader.numbers(9, "'ntyp nat ibrav celldm(1:6)'")
    n_types, n_atoms, ibrav = (int(v) for v in first[:3])
    if n_types < 1 or n_atoms < 1 or first[3] <= 0:
        raise reader.fail("'ntyp nat ibrav celldm(1:6)' with positive ntyp, nat and celldm(1)")
    alat = float(first[3]) * BOHR_ANGSTROM
    if ibrav == 0:
        if basis_title:
            reader.next("'Basis vectors'")
        cell = np.array([reader.numbers(3, "a lattice vector in units of alat") for _ in range(3)]) * alat
    else:
        try:
            cell = ibrav_cell(ibrav, first[3:].tolist()) * BOHR_ANGSTROM
        except InputError as error:
            raise reader.fail(f"a lattice that can be built ({error})") from error
    symbols: list[str] = []
    masses: list[float] = []
    for _ in range(n_types):
        expected = "an atomic type: index 'name' mass"
        try:
            _, name, mass = shlex.split(reader.next(expected))[:3]
            masses.append(float(mass) / AMU_RY)
        except ValueError as error:
            raise reader.fail(expected) from error
        symbols.append(element_of(name.strip(), reader))
    types, positions = [], []
    for index in range(n_atoms):
        values = reader.numbers(5, "an atom: index type x y z")
        if int(values[0]) != index + 1 or not 1 <= int(values[1]) <= n_types:
            raise reader.fail(f"atom {index + 1} with a type between 1 and {n_types}")
        types.append(int(values[1]) - 1)
        positions.append(values[2:] * alat)
    atoms = Atoms(
        [symbols[t] for t in types],
        positions=positions,
        cell=cell,
        pbc=True,
        masses=[masses[t] for t in types],
    )
    return Header(alat, atoms)


def element_of(label: str, reader: Reader) -> str:
    """Element of a QE species label such as ``H1``, ``Fe_up``, ``D``.

    Parameters
    ----------
    label : str
    reader : Reader
        Names file and line in the error.

    Returns
    -------
    str
        Chemical symbol.
    """
    from ase.data import atomic_numbers

    for length in (2, 1):
        candidate = label[:length].capitalize()
        candidate = {"D": "H", "T": "H"}.get(candidate, candidate)
        if len(label[:length]) == length and atomic_numbers.get(candidate, 0) > 0:
            return candidate
    raise reader.fail(f"a species whose name begins with an element, not {label!r}")


@dataclass(frozen=True)
class DynFile:
    """One dyn file: crystal, q-points (2π/alat, Cartesian), Φ(q) in eV/Å², and Born charges in Γ's."""

    path: Path
    header: Header
    qpoints: np.ndarray
    matrices: np.ndarray
    born: BornCharges | None = None


def read_blocks(reader: LineReader, n_atoms: int) -> np.ndarray:
    """The 3×3 blocks of one Cartesian matrix, as (3n, 3n) complex, in the file's units.

    Parameters
    ----------
    reader : LineReader
        Before the first pair of atoms.
    n_atoms : int

    Returns
    -------
    ndarray (3n, 3n), complex
        In the units of the file.
    """
    matrix = np.empty((n_atoms, 3, n_atoms, 3), dtype=complex)
    for a in range(n_atoms):
        for b in range(n_atoms):
            pair = reader.integers(2, f"the pair of atoms '{a + 1} {b + 1}'", skip_blank=True)
            if pair != (a + 1, b + 1):
                raise reader.fail(f"the pair of atoms '{a + 1} {b + 1}'")
            for i in range(3):
                row = reader.numbers(6, "three complex numbers of the dynamical matrix")
                matrix[a, i, b] = row[::2] + 1j * row[1::2]
    return matrix.reshape(3 * n_atoms, 3 * n_atoms)


def read_qpoint(reader: LineReader) -> np.ndarray:
    """q in 2π/alat from a line ``q = (  x  y  z )``."""
    line = reader.next("'q = ( x y z )'", skip_blank=True)
    inside = line.partition("(")[2].partition(")")[0].split()
    try:
        values = np.array([float(word) for word in inside])
    except ValueError as error:
        raise reader.fail("'q = ( x y z )'") from error
    if values.shape != (3,) or not np.isfinite(values).all():
        raise reader.fail("'q = ( x y z )'")
    return values


def read_dyn_file(path: Path) -> DynFile:
    """Read one dyn file of ph.x (text, QE ≥ 6.0), with every q-point of its star.

    Raises
    ------
    InputError
        The file is not a dyn file, or ends in the middle; the message names file and line.
    """
    reader = LineReader(path)
    if "dynamical matrix file" not in reader.next("'Dynamical matrix file'").lower():
        raise reader.fail("'Dynamical matrix file'")
    reader.next("the title")
    header = read_header(reader, basis_title=True)
    qpoints, matrices = [], []
    dielectric: np.ndarray | None = None
    charges: np.ndarray | None = None
    while (line := reader.peek()) is not None:
        text = " ".join(line.split()).lower()
        if text.startswith("diagonalizing"):
            break
        reader.next("", skip_blank=True)
        if text.startswith("dynamical matrix in"):
            qpoints.append(read_qpoint(reader))
            matrices.append(read_blocks(reader, len(header.atoms)))
        elif text.startswith("dielectric tensor"):
            dielectric = read_tensor(reader, "the dielectric tensor")
        elif text.startswith("effective charges e-u"):
            charges = read_charges(reader, len(header.atoms))
        elif text.startswith("effective charges"):
            read_charges(reader, len(header.atoms))  # U-E: the same, from other derivatives
        elif text.startswith(("raman", "derivatives of the dielectric")):
            break
        else:
            raise reader.fail("'Dynamical Matrix in cartesian axes' or 'Diagonalizing the dynamical matrix'")
    if not qpoints:
        raise reader.fail("a dynamical matrix")
    born = None if dielectric is None or charges is None else BornCharges(charges, dielectric)
    scaled = np.array(matrices) * RY_PER_BOHR2_EV_PER_ANGSTROM2
    check_printed_frequencies(path, reader.lines, scaled, header.atoms.get_masses())
    return DynFile(path, header, np.array(qpoints), scaled, born)


def read_tensor(reader: LineReader, name: str) -> np.ndarray:
    """Three lines of three numbers.

    Parameters
    ----------
    reader : LineReader
        Before the first line, or the blank ones above it.
    name : str
        What they are, for the error.

    Returns
    -------
    ndarray (3, 3)
    """
    return np.array([reader.numbers(3, f"three numbers of {name}", skip_blank=True) for _ in range(3)])


def read_charges(reader: LineReader, n_atoms: int) -> np.ndarray:
    """Born charges (n, 3, 3) of a dyn or fc file, a line with the atom's number above each.

    Parameters
    ----------
    reader : LineReader
    n_atoms : int

    Returns
    -------
    ndarray (n, 3, 3)
        First direction: the electric field.
    """
    charges = np.empty((n_atoms, 3, 3))
    for atom in range(n_atoms):
        line = reader.next(f"atom {atom + 1} of the effective charges", skip_blank=True)
        if not line.split()[-1:] == [str(atom + 1)]:
            raise reader.fail(f"atom {atom + 1} of the effective charges")
        charges[atom] = read_tensor(reader, f"the effective charge of atom {atom + 1}")
    return charges
