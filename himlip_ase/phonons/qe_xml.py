"""Reading of the XML files of ph.x (``fildyn`` that ends in ``.xml``) and q2r.x (QE 5 to 7).

Fortran's column order throughout: the first index of a matrix runs fastest. Unlike in text files, masses are
in amu. Raman tensors are left alone; ph.x 6.7 writes uninitialised memory there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.phonons.born_charges import BornCharges
from himlip_ase.phonons.qe_frequencies import check_frequencies
from himlip_ase.phonons.qe_text import DynFile, Header, element_of, read_text
from himlip_ase.units import BOHR_ANGSTROM, RY_PER_BOHR2_EV_PER_ANGSTROM2

_WITHOUT_E = re.compile(r"(?<=\d)([+-]\d{3})\b")

_LAST = "</FREQUENCIES_THZ_CMM1>"
"""What a dyn file holds last; version 7.2 leaves the end of the root out at Γ of a grid of an insulator."""


class XmlReader:
    """Numbers and names of an XML file of ph.x.

    Raises
    ------
    InputError
        The file is no XML; any method: what is missing or unreadable, and where.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        text = read_text(path)
        if text.rstrip().endswith(_LAST):
            text += "</Root>"
        try:
            self.root = ElementTree.fromstring(text)
        except ElementTree.ParseError as error:
            raise InputError(f"{path} is no complete XML file: {error}; is ph.x still running?") from error

    def fail(self, expected: str) -> InputError:
        """The error to raise where something is missing."""
        return InputError(f"{self.path}: expected {expected}")

    def element(self, place: str) -> ElementTree.Element:
        """The element at a path such as ``GEOMETRY_INFO/AT``."""
        found = self.root.find(place)
        if found is None:
            raise self.fail(f"<{place}>: this is no XML dyn file of ph.x, or it is cut short")
        return found

    def numbers(self, place: str, count: int) -> np.ndarray:
        """`count` finite numbers in an element.

        Parameters
        ----------
        place : str
            Path of the element.
        count : int

        Returns
        -------
        ndarray (count,)
        """
        return self.parse(self.element(place).text or "", count, place)

    def parse(self, text: str, count: int, place: str) -> np.ndarray:
        """`count` finite numbers in a text.

        Parameters
        ----------
        text : str
        count : int
        place : str
            Where it stands, for the error.

        Returns
        -------
        ndarray (count,)
        """
        words = _WITHOUT_E.sub(r"E\1", text.replace(",", " ").replace("D", "E")).split()
        try:
            values = np.array([float(word) for word in words])
        except ValueError as error:
            raise self.fail(f"numbers in <{place}>") from error
        if len(values) != count or not np.isfinite(values).all():
            raise self.fail(f"{count} finite numbers in <{place}>, found {len(values)}")
        return values

    def integer(self, place: str) -> int:
        """A positive integer in an element."""
        value = self.numbers(place, 1)[0]
        if value < 1 or value != int(value):
            raise self.fail(f"a positive integer in <{place}>, found {value:g}")
        return int(value)


def read_xml_dyn_file(path: Path) -> DynFile:
    """Read one XML dyn file, with every q-point of its star.

    Raises
    ------
    InputError
        The file is not a dyn file, or ends in the middle, or its matrices do not have its frequencies.
    """
    reader = XmlReader(path)
    header = _header(reader)
    n = len(header.atoms)
    qpoints, matrices = [], []
    for index in range(1, reader.integer("GEOMETRY_INFO/NUMBER_OF_Q") + 1):
        place = f"DYNAMICAL_MAT_.{index}"
        qpoints.append(reader.numbers(f"{place}/Q_POINT", 3))
        matrix = np.empty((n, 3, n, 3), dtype=complex)
        for a in range(n):
            for b in range(n):
                pairs = reader.numbers(f"{place}/PHI.{a + 1}.{b + 1}", 18).reshape(3, 3, 2)
                matrix[a, :, b] = (pairs[..., 0] + 1j * pairs[..., 1]).T
        matrices.append(matrix.reshape(3 * n, 3 * n))
    scaled = np.array(matrices) * RY_PER_BOHR2_EV_PER_ANGSTROM2
    check_frequencies(path, _frequencies(reader), scaled, header.atoms.get_masses())
    return DynFile(path, header, np.array(qpoints), scaled, _born(reader, n))


@dataclass(frozen=True)
class XmlForceConstants:
    """A force-constant file of q2r.x in XML.

    Attributes
    ----------
    header : Header
    born : BornCharges or None
    dims : tuple of int
        The grid nr1, nr2, nr3.
    values : (n, n, nr1, nr2, nr3, 3, 3) ndarray
        Ry/bohr², as they stand in the file: Φ(Ra, 0b) of cells R counted from 0.
    """

    header: Header
    born: BornCharges | None
    dims: tuple[int, int, int]
    values: np.ndarray


def read_xml_force_constants(path: Path) -> XmlForceConstants:
    """Read the file that q2r.x writes beside XML dyn files.

    Parameters
    ----------
    path : Path

    Returns
    -------
    XmlForceConstants

    Raises
    ------
    InputError
        It is another file, or ends in the middle.
    """
    reader = XmlReader(path)
    header, place = _header(reader), "INTERATOMIC_FORCE_CONSTANTS"
    n = len(header.atoms)
    mesh = reader.numbers(f"{place}/MESH_NQ1_NQ2_NQ3", 3)
    if (mesh < 1).any() or (mesh != np.rint(mesh)).any():
        raise reader.fail(f"a positive grid in <{place}/MESH_NQ1_NQ2_NQ3>")
    d1, d2, d3 = (int(d) for d in mesh)
    values = np.empty((n, n, d1, d2, d3, 3, 3))
    for a, b, *cell in np.ndindex(values.shape[:5]):
        name = ".".join(str(k + 1) for k in (a, b, *cell))
        block = reader.numbers(f"{place}/s_s1_m1_m2_m3.{name}/IFC", 9)
        values[(a, b, *cell)] = block.reshape(3, 3).T
    return XmlForceConstants(header, _born(reader, n), (d1, d2, d3), values)


def _frequencies(reader: XmlReader) -> list[float]:
    """cm⁻¹, as many as the file states."""
    found = reader.root.find("FREQUENCIES_THZ_CMM1")
    names = [] if found is None else [child.tag for child in found if child.tag.startswith("OMEGA.")]
    return [float(reader.numbers(f"FREQUENCIES_THZ_CMM1/{name}", 2)[1]) for name in names]


def _header(reader: XmlReader) -> Header:
    n_types, n_atoms = (reader.integer(f"GEOMETRY_INFO/NUMBER_OF_{x}") for x in ("TYPES", "ATOMS"))
    alat = reader.numbers("GEOMETRY_INFO/CELL_DIMENSIONS", 6)[0] * BOHR_ANGSTROM
    if alat <= 0:
        raise reader.fail("a positive alat in <GEOMETRY_INFO/CELL_DIMENSIONS>")
    cell = reader.numbers("GEOMETRY_INFO/AT", 9).reshape(3, 3) * alat
    symbols, masses = [], []
    for index in range(1, n_types + 1):
        name = (reader.element(f"GEOMETRY_INFO/TYPE_NAME.{index}").text or "").strip()
        symbols.append(element_of(name, reader))
        masses.append(float(reader.numbers(f"GEOMETRY_INFO/MASS.{index}", 1)[0]))
    kinds, positions = [], []
    for index in range(1, n_atoms + 1):
        attributes = reader.element(f"GEOMETRY_INFO/ATOM.{index}").attrib
        place = f"GEOMETRY_INFO/ATOM.{index}"
        kind = int(reader.parse(attributes.get("INDEX", ""), 1, f"{place} INDEX")[0]) - 1
        if not 0 <= kind < n_types:
            raise reader.fail(f"a type between 1 and {n_types} in <{place}>")
        kinds.append(kind)
        positions.append(reader.parse(attributes.get("TAU", ""), 3, f"{place} TAU") * alat)
    atoms = Atoms(
        [symbols[kind] for kind in kinds],
        positions=positions,
        cell=cell,
        pbc=True,
        masses=[masses[kind] for kind in kinds],
    )
    return Header(alat, atoms)


def _born(reader: XmlReader, n_atoms: int) -> BornCharges | None:
    properties = reader.root.find("DIELECTRIC_PROPERTIES")
    if properties is None or properties.find("EPSILON") is None or properties.find("ZSTAR") is None:
        return None
    dielectric = reader.numbers("DIELECTRIC_PROPERTIES/EPSILON", 9).reshape(3, 3).T
    charges = [
        reader.numbers(f"DIELECTRIC_PROPERTIES/ZSTAR/Z_AT_.{atom + 1}", 9).reshape(3, 3).T
        for atom in range(n_atoms)
    ]
    return BornCharges(np.array(charges), dielectric)
