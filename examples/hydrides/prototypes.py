"""Ideal hydride crystals near 150 GPa (Pd–H: 0 GPa), from which the cells of the data set are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from ase.spacegroup import crystal

VOLUME_IN_HYDRIDE = {"H": 1.95, "S": 8.55, "Pd": 14.7, "Ca": 9.7, "La": 13.7, "Y": 11.2}
"""Å³ per atom whose sums are the cells' volumes at 150 GPa (Pd: 0 GPa), within a few per cent."""
VOLUME_OF_ELEMENT = {"H": 2.2, "S": 9.0, "Pd": 14.9, "Ca": 13.5, "La": 15.5, "Y": 15.0}
"""Å³ per atom of the pure elements under the same pressure."""

Cubic = tuple[str, int, dict[str, list[tuple[float, float, float]]], float]


@dataclass(frozen=True)
class Prototype:
    """One crystal: its system (``H-S`` …), its name, and its primitive cell."""

    system: str
    name: str
    atoms: Atoms


def volume_at_reference(atoms: Atoms) -> float:
    """Volume (Å³) of a cell of this composition near the reference pressure of its system."""
    symbols = atoms.get_chemical_symbols()
    table = VOLUME_OF_ELEMENT if len(set(symbols)) == 1 else VOLUME_IN_HYDRIDE
    hydrogen = 2.4 if "Pd" in symbols else table["H"]
    return sum(hydrogen if s == "H" else table[s] for s in symbols)


def with_volume(atoms: Atoms, volume: float) -> Atoms:
    """A copy scaled to a volume, Å³."""
    scaled = atoms.copy()
    scaled.set_cell(atoms.cell * (volume / atoms.cell.volume) ** (1 / 3), scale_atoms=True)
    return scaled


def primitive(
    space_group: int, sites: dict[str, list[tuple[float, float, float]]], ratio: float = 1.0
) -> Atoms:
    """Primitive cell of a cubic or tetragonal (c/a = `ratio`) crystal from its Wyckoff sites."""
    symbols = [s for s, rows in sites.items() for _ in rows]
    basis = [row for rows in sites.values() for row in rows]
    cell = crystal(
        symbols, basis, spacegroup=space_group, cellpar=[1, 1, ratio, 90, 90, 90], primitive_cell=True
    )
    bare = Atoms(cell.numbers, scaled_positions=cell.get_scaled_positions(), cell=cell.cell, pbc=True)
    return with_volume(bare, volume_at_reference(bare))


def polar_h3s(shift: float = 0.12) -> Atoms:
    """R3m H3S: every H moved along its S–H–S line, Å."""
    atoms = primitive(229, {"S": [(0, 0, 0)], "H": [(0, 0.5, 0.5)]})
    edge = (2 * atoms.cell.volume) ** (1 / 3)
    sulphur = atoms.positions[atoms.numbers == 16][0]
    images = sulphur + np.array(
        [(i, j, k) for i in range(-2, 3) for j in range(-2, 3) for k in range(-2, 3)]
    ) @ (atoms.cell.array)
    for index in np.flatnonzero(atoms.numbers == 1):
        bonds = images - atoms.positions[index]
        bonds = bonds[np.linalg.norm(bonds, axis=1) < 0.6 * edge]
        bond = bonds[np.argmax(bonds.sum(1))]
        atoms.positions[index] += shift * bond / np.linalg.norm(bond)
    return atoms


def molecular_hydrogen() -> Atoms:
    """Four H2 molecules of 0.74 Å on an fcc lattice, each along another diagonal."""
    edge = (8 * VOLUME_OF_ELEMENT["H"]) ** (1 / 3)
    centres = edge * np.array([(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)])
    axes = np.array([(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]) / np.sqrt(3)
    return Atoms(
        "H8", np.concatenate([centres - 0.37 * axes, centres + 0.37 * axes]), cell=[edge] * 3, pbc=True
    )


def metal_prototypes(metal: str) -> list[tuple[str, Callable[[], Atoms]]]:
    """Crystals that any of the metals may form with hydrogen, and the pure metal."""
    origin, octahedral, tetrahedral = [(0.0, 0.0, 0.0)], [(0.5, 0.5, 0.5)], [(0.25, 0.25, 0.25)]
    return [
        (f"{metal}-fcc", lambda: primitive(225, {metal: origin})),
        (f"{metal}-bcc", lambda: primitive(229, {metal: origin})),
        (f"{metal}H-rocksalt", lambda: primitive(225, {metal: origin, "H": octahedral})),
        (f"{metal}H-zincblende", lambda: primitive(216, {metal: origin, "H": tetrahedral})),
        (f"{metal}H2-fluorite", lambda: primitive(225, {metal: origin, "H": tetrahedral})),
        (f"{metal}H3-BiF3", lambda: primitive(225, {metal: origin, "H": tetrahedral + octahedral})),
        (
            f"{metal}H4-I4/mmm",
            lambda: primitive(139, {metal: origin, "H": [(0, 0.5, 0.25), (0, 0, 0.37)]}, 1.89),
        ),
        (f"{metal}H6-Im-3m", lambda: primitive(229, {metal: origin, "H": [(0.25, 0.5, 0)]})),
        (
            f"{metal}H10-Fm-3m",
            lambda: primitive(225, {metal: octahedral, "H": [*tetrahedral, (0.12, 0.12, 0.12)]}),
        ),
    ]


CHOSEN = {
    "Pd": ("fcc", "H-rocksalt", "H-zincblende", "H2-fluorite"),
    "Ca": ("bcc", "H2-fluorite", "H4-I4/mmm", "H6-Im-3m"),
    "La": ("fcc", "H2-fluorite", "H3-BiF3", "H4-I4/mmm", "H6-Im-3m", "H10-Fm-3m"),
    "Y": ("fcc", "H3-BiF3", "H4-I4/mmm", "H6-Im-3m", "H10-Fm-3m"),
}


def prototypes() -> list[Prototype]:
    """All crystals of the data set."""
    origin = [(0.0, 0.0, 0.0)]
    found = [
        Prototype("H-S", "H3S-Im-3m", primitive(229, {"S": origin, "H": [(0, 0.5, 0.5)]})),
        Prototype("H-S", "H3S-R3m", polar_h3s()),
        Prototype("H-S", "HS-rocksalt", primitive(225, {"S": origin, "H": [(0.5, 0.5, 0.5)]})),
        Prototype("H-S", "H2S-fluorite", primitive(225, {"S": origin, "H": [(0.25, 0.25, 0.25)]})),
        Prototype("H-S", "S-bcc", primitive(229, {"S": origin})),
        Prototype("H", "H-bcc", primitive(229, {"H": origin})),
        Prototype("H", "H-CsIV", primitive(141, {"H": origin}, 2.7)),
        Prototype("H", "H2-fcc", molecular_hydrogen()),
    ]
    for metal, endings in CHOSEN.items():
        table = dict(metal_prototypes(metal))
        for ending in endings:
            name = f"{metal}-{ending}" if ending in ("fcc", "bcc") else f"{metal}{ending}"
            found.append(Prototype(f"{metal}-H", name, table[name]()))
    return found


def supercells(atoms: Atoms, largest: int) -> list[Atoms]:
    """The compact diagonal supercells, and the conventional cubic one, with at most `largest` atoms."""
    shapes = [(1, 1, 1), (2, 1, 1), (1, 2, 1), (2, 2, 1), (3, 1, 1), (2, 2, 2)]
    cells = [atoms.repeat(s) for s in shapes if len(atoms) * int(np.prod(s)) <= largest]
    for matrix in ([[-1, 1, 1], [1, -1, 1], [1, 1, -1]], [[0, 1, 1], [1, 0, 1], [1, 1, 0]]):
        if len(atoms) * round(abs(np.linalg.det(matrix))) <= largest:
            cells.append(make_supercell(atoms, matrix))
    return cells
