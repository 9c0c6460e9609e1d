"""Small CHNO molecules off their minima: displaced, stretched, turned, and on the way of a hydrogen.

    python examples/molecules/molecules.py --out examples/molecules --seed 1

writes `cheap.extxyz` (for GFN2-xTB) and `dear.extxyz` (for ωB97X/6-31G(d): three heavy atoms and seven
atoms at most; another seed gives others). Both are in random order, so that every beginning is balanced (the
dear ones by size first, so that they begin with the cheapest), and no structure is in both. Needs tblite:
minima, normal modes and the relaxation of what is not moved are GFN2-xTB's.

Sets: `rattled` at 300, 1000 and 2000 K (classical amplitudes in normal modes); `stretched`, one bond by −15
to +60 %; `turned`, one end about a bond; `transfer`, a hydrogen on an arc to a neighbouring atom, all else
relaxed for a few steps: the way to the saddle point of a 1,2-shift. The last three are rattled by 0.03 Å.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.collections import g2
from ase.constraints import FixAtoms
from ase.data import covalent_radii
from ase.io import write
from ase.optimize import BFGS

from himlip_ase.errors import CalculationError
from himlip_ase.hint.evaluation.mode_overlap import internal_modes
from himlip_ase.labels.molecules.xtb import GFN2
from himlip_ase.units import KB_EV_PER_K

TEMPERATURES = (300.0, 1000.0, 2000.0)
LEAST_EIGENVALUE = 0.3
"""eV/(Å² amu); softer modes are displaced as if they were this stiff."""
RATTLE = 0.03
LARGEST_FORCE = 20.0
"""eV/Å; structures with more are left out, as are those with atoms closer than 0.65 of their bond length."""


class TightBinding(Calculator):
    """GFN2-xTB for ASE's optimisers."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        """Energy and forces."""
        super().calculate(atoms, properties, system_changes)
        result = GFN2().calculate(self.atoms, hessian=False)
        self.results = {"energy": result.energy, "forces": result.forces}


def closed_shells() -> list[str]:
    """Molecules of ASE's g2 set with 1 to 5 heavy atoms of C, N, O and paired electrons."""
    names = []
    for name in g2.names:
        symbols = molecule(name).get_chemical_symbols()
        heavy = sum(s != "H" for s in symbols)
        paired = not molecule(name).get_initial_magnetic_moments().any()
        if set(symbols) <= set("CHNO") and 1 <= heavy <= 5 and len(symbols) > 1 and paired:
            names.append(name)
    return sorted(set(names) - {"CH2_s1A1d", "O3"})


def relaxed(name: str) -> Atoms:
    """GFN2-xTB minimum of a molecule."""
    atoms = molecule(name)
    atoms.calc = TightBinding()
    BFGS(atoms, logfile=None).run(fmax=0.01, steps=200)
    return Atoms(atoms.numbers, positions=atoms.positions - atoms.get_center_of_mass(), info={"name": name})


def bonds(atoms: Atoms) -> list[tuple[int, int]]:
    """Pairs closer than 1.25 times the sum of their covalent radii."""
    radii = covalent_radii[atoms.numbers]
    limit = 1.25 * (radii[:, None] + radii)
    first, second = np.nonzero(np.triu(atoms.get_all_distances() < limit, 1))
    return list(zip(first.tolist(), second.tolist(), strict=True))


def side(atoms: Atoms, i: int, j: int) -> list[int]:
    """Atoms on j's side of the bond i–j; empty if the bond is in a ring."""
    others = [pair for pair in bonds(atoms) if set(pair) != {i, j}]
    found, border = {j}, [j]
    while border:
        at = border.pop()
        for a, b in others:
            for here, there in ((a, b), (b, a)):
                if here == at and there not in found:
                    found.add(there)
                    border.append(there)
    return [] if i in found else sorted(found)


def rattled(atoms: Atoms, temperature: float, modes: tuple, rng: np.random.Generator) -> Atoms:
    """Classical displacements along the normal modes."""
    values, vectors = modes
    amplitudes = np.sqrt(KB_EV_PER_K * temperature / np.maximum(values, LEAST_EIGENVALUE))
    moved = atoms.copy()
    roots = np.sqrt(atoms.get_masses())[:, None]
    moved.positions += (vectors @ (rng.normal(size=len(values)) * amplitudes)).reshape(-1, 3) / roots
    moved.info.update(set="rattled", temperature=temperature)
    return moved


def jittered(atoms: Atoms, name: str, rng: np.random.Generator) -> Atoms:
    """A little noise, so that no structure has a symmetry."""
    moved = atoms.copy()
    moved.positions += rng.normal(scale=RATTLE, size=moved.positions.shape)
    moved.info["set"] = name
    return moved


def stretched(atoms: Atoms, rng: np.random.Generator) -> Atoms | None:
    """One bond longer or shorter, its ends rigid."""
    pairs = [(i, j) for i, j in bonds(atoms) if side(atoms, i, j)]
    if not pairs:
        return None
    i, j = pairs[rng.integers(len(pairs))]
    moved = atoms.copy()
    moved.positions[side(atoms, i, j)] += (atoms.positions[j] - atoms.positions[i]) * rng.uniform(-0.15, 0.6)
    return jittered(moved, "stretched", rng)


def turned(atoms: Atoms, rng: np.random.Generator) -> Atoms | None:
    """One end turned about a bond between atoms that have other neighbours."""
    pairs = [(i, j) for i, j in bonds(atoms) if len(side(atoms, i, j)) > 1 and len(side(atoms, j, i)) > 1]
    if not pairs:
        return None
    i, j = pairs[rng.integers(len(pairs))]
    moved = atoms.copy()
    end = moved[side(atoms, i, j)]
    end.rotate(rng.uniform(30, 180), atoms.positions[j] - atoms.positions[i], center=atoms.positions[j])
    moved.positions[side(atoms, i, j)] = end.positions
    return jittered(moved, "turned", rng)


def transferred(atoms: Atoms, rng: np.random.Generator) -> Atoms | None:
    """A hydrogen between the atom it is bonded to and a neighbour of that, on an arc; the others relaxed."""
    heavy = [(i, j) for i, j in bonds(atoms) if (atoms.numbers[[i, j]] > 1).all()]
    ways = [(h, a, b) for i, j in heavy for a, b in ((i, j), (j, i)) for h in hydrogens(atoms, a)]
    if not ways:
        return None
    h, donor, acceptor = ways[rng.integers(len(ways))]
    moved = atoms.copy()
    moved.positions[h] = on_arc(atoms.positions, h, donor, acceptor, rng.uniform(0.15, 0.85))
    moved.set_constraint(FixAtoms([h, donor, acceptor]))
    moved.calc = TightBinding()
    BFGS(moved, logfile=None).run(fmax=0.2, steps=15)
    bare = Atoms(moved.numbers, positions=moved.positions, info=dict(atoms.info))
    return jittered(bare, "transfer", rng)


def hydrogens(atoms: Atoms, centre: int) -> list[int]:
    """Hydrogens bonded to an atom."""
    partners = [j if i == centre else i for i, j in bonds(atoms) if centre in (i, j)]
    return [k for k in partners if atoms.numbers[k] == 1]


def on_arc(positions: np.ndarray, h: int, donor: int, acceptor: int, share: float) -> np.ndarray:
    """Point of an arc about the middle of a bond, from a hydrogen to its mirror image at the other end."""
    a, b = positions[donor], positions[acceptor]
    axis = (b - a) / np.linalg.norm(b - a)
    start = positions[h] - (a + b) / 2
    along = start @ axis
    across = start - along * axis
    if np.linalg.norm(across) < 0.1:
        across = np.cross(axis, np.eye(3)[np.abs(axis).argmin()])
    across /= np.linalg.norm(across)
    radius = np.linalg.norm(start)
    first = np.arctan2(np.linalg.norm(start - along * axis), along)
    angle = first + share * (np.pi - 2 * first)
    shrink = 1 - 0.25 * np.sin(np.pi * share) ** 2 * min(1.0, (radius / 1.2) ** 2)
    return (a + b) / 2 + radius * shrink * (np.cos(angle) * axis + np.sin(angle) * across)


def sound(atoms: Atoms) -> bool:
    """Whether GFN2-xTB converges, forces are bounded and no atoms collide."""
    radii = covalent_radii[atoms.numbers]
    distances = atoms.get_all_distances() + 9 * np.eye(len(atoms))
    if (distances < 0.65 * (radii[:, None] + radii)).any():
        return False
    try:
        return bool(np.abs(GFN2().calculate(atoms, hessian=False).forces).max() < LARGEST_FORCE)
    except CalculationError:
        return False


def variants(atoms: Atoms, count: int, rng: np.random.Generator) -> Iterator[Atoms]:
    """`count` sound structures of one molecule: half rattled, the others along reaction-like ways in turn."""
    modes = internal_modes(atoms, GFN2().calculate(atoms, hessian=True).hessian)
    ways = (stretched, transferred, turned)
    found = tried = 0
    while found < count and tried < 20 * count:
        tried += 1
        if found % 2:
            new = ways[tried % 3](atoms, rng)
        else:
            new = rattled(atoms, TEMPERATURES[found // 2 % 3], modes, rng)
        if new is not None and sound(new):
            found += 1
            yield new


def make(cheap: int, dear: int, seed: int, most_atoms: int = 7) -> tuple[list[Atoms], list[Atoms]]:
    """Structures for the cheap and for the dear method.

    Parameters
    ----------
    cheap : int
        Structures of each molecule for the cheap method.
    dear : int
        Structures for the dear one of each molecule with two heavy atoms and hydrogens; with one heavy atom
        or three atoms half as many, with three heavy atoms a quarter.
    seed : int
        Of numpy's generator.
    most_atoms : int
        Of a molecule for the dear method.
    """
    rng = np.random.default_rng(seed)
    pools: tuple[list[Atoms], list[Atoms]] = ([], [])
    for name in closed_shells():
        minimum = relaxed(name)
        share = dear_share(minimum, dear) if len(minimum) <= most_atoms else 0
        both = list(variants(minimum, cheap + share, rng))
        chosen = set(rng.permutation(len(both))[:share].tolist())
        for index, atoms in enumerate(both):
            pools[index in chosen].append(atoms)
    first, second = ([pool[k] for k in rng.permutation(len(pool))] for pool in pools)
    return first, sorted(second, key=lambda atoms: max(5, len(atoms)))


def dear_share(atoms: Atoms, dear: int) -> int:
    """How many structures of a molecule the dear method gets; its cost grows fast with the atoms."""
    heavy = int((atoms.numbers > 1).sum())
    if heavy > 3 or len(atoms) > 7:
        return 0
    if heavy == 3:
        return dear // 4
    return dear if heavy == 2 and len(atoms) > 3 else dear // 2


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--cheap", type=int, default=16, help="structures of each molecule")
    parser.add_argument("--dear", type=int, default=12, help="of most molecules with two heavy atoms")
    parser.add_argument("--most-atoms", type=int, default=7, help="of a molecule for the dear method")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    both = make(arguments.cheap, arguments.dear, arguments.seed, arguments.most_atoms)
    for name, structures in zip(("cheap", "dear"), both, strict=True):
        if not structures:
            continue
        write(arguments.out / f"{name}.extxyz", structures)
        print(f"{name}: {len(structures)} structures")


if __name__ == "__main__":
    main()
