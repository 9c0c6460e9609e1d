"""Make the twenty reactions of Baker and Chan's set with a closed shell and no charge anew.

J. Baker, F. Chan, J. Comput. Chem. 17, 888 (1996) name the reactions; the structures are made here from
molecules of ASE's G2 set and a few typed ones: relaxed with GFN2-xTB, the other end by driving the bonds that
change. The start of a saddle search is the highest of eleven geodesic images, rounded to 0.01 Å.

    python -m benchmarks.reactions.make_reactions
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.build import molecule

from benchmarks.reactions.reaction_set import PATH, gfn2
from himlip_ase.errors import CalculationError
from himlip_ase.reactions import Surface, bond_graph, driven_product, find_minimum, interpolate
from himlip_ase.reactions.alignment import aligned
from himlip_ase.structures import write_structures

Bonds = Sequence[tuple[int, int]]
Ends = tuple[Atoms, Atoms]
FMAX = 0.005


def relaxed(atoms: Atoms) -> Atoms:
    """Nearest minimum."""
    return find_minimum(Surface(atoms, gfn2()), atoms.positions.ravel(), FMAX).atoms


def driven(atoms: Atoms, form: Bonds = (), break_: Bonds = ()) -> Ends:
    """A reaction from its reactant."""
    start = relaxed(atoms)
    return start, driven_product(start, gfn2(), form, break_, FMAX).atoms


def replaced(atoms: Atoms, hydrogen: int, symbol: str, length: float) -> Atoms:
    """A molecule with another atom in place of a hydrogen."""
    found = atoms.copy()
    (bond,) = (bond for bond in bond_graph(atoms).bonds if hydrogen in bond)
    partner = bond[0] + bond[1] - hydrogen
    vector = atoms.positions[hydrogen] - atoms.positions[partner]
    found.positions[hydrogen] = atoms.positions[partner] + length * vector / np.linalg.norm(vector)
    found.symbols[hydrogen] = symbol
    return found


def turned(atoms: Atoms, dihedral: tuple[int, int, int, int], angle: float) -> Atoms:
    """A molecule with another torsion about a bond."""
    found, bonds = atoms.copy(), bond_graph(atoms).bonds
    side, queue = {dihedral[2]}, [dihedral[2]]
    while queue:
        atom = queue.pop()
        for bond in bonds:
            other = bond[0] + bond[1] - atom
            if atom in bond and other not in side and other != dihedral[1]:
                side.add(other)
                queue.append(other)
    found.set_dihedral(*dihedral, angle, indices=sorted(side))
    return found


def swapped(atoms: Atoms, i: int, j: int) -> Atoms:
    """A molecule with two equal atoms exchanged."""
    found = atoms.copy()
    found.positions[[i, j]] = atoms.positions[[j, i]]
    return relaxed(found)


def tetrazine() -> Atoms:
    """s-Tetrazine."""
    ring = [
        [0, 1.26],
        [1.2, 0.66],
        [1.2, -0.66],
        [0, -1.26],
        [-1.2, -0.66],
        [-1.2, 0.66],
        [0, 2.34],
        [0, -2.34],
    ]
    return Atoms("CN2CN2H2", np.hstack([ring, np.zeros((8, 1))]))


def ethylsilane() -> Atoms:
    """C2H5SiH3 from methylsilane."""
    atoms = replaced(molecule("CH3SiH3"), 2, "C", 1.54)
    along = atoms.positions[2] - atoms.positions[0]
    along /= np.linalg.norm(along)
    up = atoms.positions[0] - atoms.positions[1]
    side = np.cross(along, up / np.linalg.norm(up))
    side /= np.linalg.norm(side)
    for angle in np.deg2rad((60, 180, 300)):
        across = np.cos(angle) * np.cross(side, along) + np.sin(angle) * side
        atoms += Atoms("H", [atoms.positions[2] + 1.09 * (0.34 * along + 0.94 * across)])
    return atoms


def claisen_chair() -> Atoms:
    """Six atoms in a chair, which relaxes to 4-pentenal, the product of the rearrangement."""
    angles = np.deg2rad(60 * np.arange(6))
    ring = np.column_stack([1.5 * np.cos(angles), 1.5 * np.sin(angles), 0.25 * (-1.0) ** np.arange(6)])
    points = ring.copy()
    apart = (ring[2] - ring[3]) / np.linalg.norm(ring[2] - ring[3])
    points[:3] += 0.35 * apart
    points[3:] -= 0.35 * apart
    hydrogens = []
    for carbon, number in ((1, 1), (2, 2), (3, 2), (4, 1), (5, 2)):
        out = points[carbon] - points.mean(axis=0)
        out[2] = 0
        out /= np.linalg.norm(out)
        up = np.array([0, 0, np.sign(ring[carbon, 2])])
        hydrogens.append(points[carbon] + 1.08 * (0.95 * out - 0.3 * up))
        if number == 2:
            hydrogens.append(points[carbon] + 1.08 * (0.35 * out + 0.93 * up))
    return Atoms("OC5H8", np.vstack([points, hydrogens]))


def cyclohexene(butadiene: Atoms) -> Atoms:
    """Ethylene put over s-cis-butadiene and pulled to its ends."""
    diene = turned(butadiene, (0, 1, 2, 3), 0)
    first, second, third, last = diene.positions[:4]
    right = (last - first) / np.linalg.norm(last - first)
    inwards = (second + third) / 2 - (first + last) / 2
    inwards /= np.linalg.norm(inwards)
    over = np.cross(right, inwards)
    centre = (first + last) / 2 + 1.6 * over - 0.3 * inwards
    points = []
    for sign in (-1, 1):
        carbon = centre + 0.7 * sign * right
        points.append(carbon)
    for sign in (-1, 1):
        for tilt in (0.9, -0.9):
            direction = 0.55 * sign * right + tilt * inwards + 0.3 * over
            points.append(points[(sign + 1) // 2] + 1.09 * direction / np.linalg.norm(direction))
    return relaxed(diene + Atoms("C2H4", points))


def reactions() -> dict[str, Ends]:
    """Reactant and product of each, numbered as in the paper."""
    water_free = molecule("H2CO")
    imine = Atoms("CNH3", [[0, 0, 0], [1.25, 0, 0], [-0.55, 0.94, 0], [-0.55, -0.94, 0], [1.65, 0.95, 0]])
    found: dict[str, Ends] = {}
    found["01 HCN → HNC"] = driven(Atoms("HCN", [[-1.07, 0, 0], [0, 0, 0], [1.15, 0, 0]]), [(0, 2)], [(0, 1)])
    acetylene = Atoms("C2H2", [[0, 0, 0], [1.2, 0, 0], [-1.06, 0, 0.02], [2.26, 0.02, 0]])
    found["02 HCCH → CCH2"] = driven(acetylene, [(0, 3)], [(1, 3)])
    found["03 H2CO → H2 + CO"] = driven(water_free, [(2, 3)], [(1, 2), (1, 3)])
    start, product = driven(molecule("bicyclobutane"), [], [(0, 2), (1, 3)])
    found["06 bicyclobutane, one way"] = (start, product)
    found["07 bicyclobutane, other way"] = (start, swapped(product, 4, 5))
    butadiene = relaxed(molecule("butadiene"))
    adduct = cyclohexene(butadiene)
    found["09 Diels–Alder"] = driven(adduct, [], [(0, 10), (3, 11)])[::-1]
    found["10 s-tetrazine → 2 HCN + N2"] = driven(tetrazine(), [], [(0, 1), (2, 3), (4, 5)])
    found["11 trans- to cis-butadiene"] = (butadiene, relaxed(turned(butadiene, (0, 1, 2, 3), 30)))
    ethane = molecule("C2H6")
    _, i, j = min((ethane.get_distance(i, j), i, j) for i in (2, 3, 4) for j in (5, 6, 7))
    found["12 C2H6 → C2H4 + H2"] = driven(ethane, [(i, j)], [(0, i), (1, j)])
    found["13 C2H5F → C2H4 + HF"] = driven(fluoroethane(), *ELIMINATION)
    acetaldehyde = molecule("CH3CHO")
    found["14 vinyl alcohol → acetaldehyde"] = driven(acetaldehyde, [(0, 4)], [(3, 4)])[::-1]
    chloride = replaced(water_free, 2, "Cl", 1.76)
    found["15 HCOCl → HCl + CO"] = driven(chloride, [(2, 3)], [(1, 2), (1, 3)])
    found["17 Claisen"] = driven(claisen_chair(), [(0, 5)], [(2, 3)])[::-1]
    found["18 SiH2 + C2H6 → C2H5SiH3"] = driven(ethylsilane(), [(0, 5)], [(0, 1), (1, 5)])[::-1]
    isocyanide = Atoms("HNCCS", [[-1.0, 0.1, 0], [0, 0, 0], [1.17, 0, 0], [2.45, 0, 0], [4.0, 0, 0]])
    found["19 HNCCS → HNC + CS"] = driven(isocyanide, [], [(2, 3)])
    acrolein = molecule("butadiene")
    acrolein.symbols[0] = "O"
    del acrolein[[4, 5]]
    acrolein = relaxed(acrolein)
    found["21 acrolein, rotation"] = (acrolein, relaxed(turned(acrolein, (0, 1, 2, 3), 10)))
    hydroxamic = Atoms(
        "HCONHOH",
        [[-0.55, -0.95, 0], [0, 0, 0], [-0.6, 1.05, 0], [1.36, 0, 0], [1.9, -0.85, 0.1], [2.05, 1.2, 0.1],
         [1.3, 1.8, 0]],
    )  # fmt: skip
    found["22 HCONHOH → HCOHNHO"] = driven(hydroxamic, [(2, 6)], [(5, 6)])
    found["23 HNC + H2 → H2CNH"] = driven(imine, [(2, 3)], [(0, 2), (0, 3)])[::-1]
    found["24 H2CNH → HCNH2"] = driven(imine, [(1, 3)], [(0, 3)])
    carbene = found["24 H2CNH → HCNH2"][1]
    found["25 HCNH2 → HCN + H2"] = driven(carbene, [(2, 3)], [(0, 2), (1, 3)])
    return found


ELIMINATION: tuple[Bonds, Bonds] = ([(2, 6)], [(0, 2), (1, 6)])
"""Fluorine on carbon 0 and a hydrogen of carbon 1 beside it."""


def fluoroethane() -> Atoms:
    """C2H5F, fluorine in place of atom 2."""
    return replaced(molecule("C2H6"), 2, "F", 1.39)


def start_of(reactant: Atoms, product: Atoms) -> Atoms:
    """The highest of eleven geodesic images, to 0.01 Å."""
    surface = Surface(reactant, gfn2())
    images = interpolate(reactant, product, 11)
    energies = []
    for image in images[1:-1]:
        try:
            energies.append(surface.evaluate(image.positions.ravel())[0])
        except CalculationError:
            energies.append(-np.inf)
    start = images[1 + int(np.argmax(energies))].copy()
    start.positions = start.positions.round(2)
    return start


def main() -> None:
    """Write the file."""
    frames = []
    for name, (reactant, product) in reactions().items():
        product = aligned(product, reactant)
        for role, atoms in (
            ("reactant", reactant), ("product", product), ("start", start_of(reactant, product)),
        ):  # fmt: skip
            frame = Atoms(atoms.numbers, atoms.positions.round(4))
            frame.info = {"reaction": name, "role": role}
            frames.append(frame)
        print(f"{name}: {bond_graph(reactant).changes_to(bond_graph(product))}", flush=True)
    write_structures(PATH, frames, overwrite=True)
    print(f"{len(frames) // 3} reactions → {PATH}")


if __name__ == "__main__":
    main()
