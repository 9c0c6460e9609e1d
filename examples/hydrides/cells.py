"""The cells of the hydride data set, in an order of which every beginning is a balanced set.

    python cells.py --count 600 --seed 1 cells.extxyz

Kinds, each in every system (H-S, Pd-H, Ca-H, La-H, Y-H, H):

    ideal    primitive cell, volume -20 … +20 % of that at 150 GPa (Pd-H: 0 GPa)
    strain   the same with a random strain of up to 6 % and displacements of 0.05 Å
    rattle   any supercell of at most 16 atoms, that volume range, displacements of 0.05 … 0.4 Å
    vacancy  the same after taking out one to three hydrogen atoms of a supercell
    random   2 … 12 atoms at random, of a hydride's composition, volume -10 … +25 %, pushed apart
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.data import atomic_masses
from ase.io import write
from prototypes import Prototype, prototypes, supercells, volume_at_reference, with_volume
from vesin import ase_neighbor_list as neighbor_list

from himlip_ase.dft.espresso.k_grids import k_grid_of_spacing

SHARES = {"H-S": 0.32, "Pd-H": 0.16, "Ca-H": 0.15, "La-H": 0.15, "Y-H": 0.15, "H": 0.07}
KINDS = {"ideal": 0.08, "strain": 0.12, "rattle": 0.5, "vacancy": 0.1, "random": 0.2}
LARGEST = 16
CLOSEST = {"HH": 0.62, "HX": 1.05, "XX": 1.7}
"""Å; cells with closer pairs are drawn again."""
VALENCE = {"H": 1, "S": 6, "Pd": 18, "Ca": 10, "La": 11, "Y": 11}
K_SPACING = 0.45
"""Å⁻¹, 2π included."""
MOST_SECONDS = 45.0
"""Core-seconds of pw.x at 60 Ry, estimated; cells that cost more are drawn again."""
HYDROGEN_PER_METAL = {"H-S": (1, 2, 3, 3, 4), "Pd-H": (1, 1, 1, 2), "Ca-H": (2, 4, 6),
                      "La-H": (2, 3, 4, 6, 10), "Y-H": (2, 3, 4, 6, 9)}  # fmt: skip

Rng = np.random.Generator


def too_close(atoms: Atoms) -> bool:
    """Whether a pair is closer than `CLOSEST`."""
    first, second, distance = neighbor_list("ijd", atoms, max(CLOSEST.values()))
    hydrogens = (atoms.numbers[first] == 1).astype(int) + (atoms.numbers[second] == 1)
    limits = np.array([CLOSEST["XX"], CLOSEST["HX"], CLOSEST["HH"]])[hydrogens]
    return bool((distance < limits).any())


def core_seconds(atoms: Atoms) -> float:
    """What a cell without symmetry costs, from k-points × volume × occupied bands; within a factor of two."""
    k_points = np.prod(k_grid_of_spacing(atoms, K_SPACING)) / 2
    return 1.15e-3 * k_points * atoms.cell.volume * sum(VALENCE[s] for s in atoms.symbols) / 2


def displaced(atoms: Atoms, stdev: float, mass_scaled: bool, rng: Rng) -> Atoms:
    """A copy with Gaussian displacements; mass-scaled: those of heavy atoms times (m_H/m)^(1/4)."""
    scale = (atomic_masses[1] / atomic_masses[atoms.numbers]) ** 0.25 if mass_scaled else np.ones(len(atoms))
    moved = atoms.copy()
    moved.positions += stdev * scale[:, None] * rng.normal(size=(len(atoms), 3))
    return moved


def strained(atoms: Atoms, largest: float, rng: Rng) -> Atoms:
    """A copy under a symmetric strain whose components are at most `largest`."""
    strain = rng.uniform(-largest, largest, (3, 3))
    copy = atoms.copy()
    copy.set_cell(atoms.cell @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    return copy


def supercell(prototype: Prototype, rng: Rng, smallest: int = 1) -> Atoms:
    """A supercell of the prototype, larger ones preferred."""
    cells = [c for c in supercells(prototype.atoms, LARGEST) if len(c) >= smallest] or [prototype.atoms]
    weights = np.sqrt([len(c) for c in cells])
    return cells[rng.choice(len(cells), p=weights / weights.sum())]


def ideal(prototype: Prototype, rng: Rng) -> Atoms:
    """Symmetric cell, any volume."""
    return with_volume(prototype.atoms, prototype.atoms.cell.volume * rng.uniform(0.8, 1.2))


def strain(prototype: Prototype, rng: Rng) -> Atoms:
    """Strained cell, nearly ideal positions."""
    return displaced(strained(ideal(prototype, rng), 0.06, rng), 0.05, False, rng)


def rattle(prototype: Prototype, rng: Rng) -> Atoms:
    """Displaced supercell, half of them strained a little."""
    cell = supercell(prototype, rng, 2)
    cell = with_volume(cell, cell.cell.volume * rng.uniform(0.8, 1.2))
    if rng.random() < 0.5:
        cell = strained(cell, 0.03, rng)
    return displaced(cell, rng.uniform(0.05, 0.4), bool(rng.random() < 0.75), rng)


def vacancy(prototype: Prototype, rng: Rng) -> Atoms:
    """Displaced supercell from which hydrogen is missing; the volume shrinks by half of theirs."""
    cell = supercell(prototype, rng, 4)
    hydrogen = np.flatnonzero(cell.numbers == 1)
    removed = rng.choice(hydrogen, min(rng.integers(1, 4), max(len(hydrogen) - 1, 0)), replace=False)
    full = cell.cell.volume
    del cell[sorted(removed.tolist(), reverse=True)]
    cell = with_volume(cell, full - len(removed) * volume_at_reference(Atoms("H")) / 2)
    return displaced(
        with_volume(cell, cell.cell.volume * rng.uniform(0.85, 1.2)), rng.uniform(0.05, 0.3), True, rng
    )


def random(prototype: Prototype, rng: Rng) -> Atoms:
    """Atoms at random in a box, moved apart until no pair is too close."""
    if prototype.system == "H":
        symbols = ["H"] * int(rng.integers(2, 9))
    else:
        heavy = next(s for s in prototype.system.split("-") if s != "H")
        ratio = int(rng.choice(HYDROGEN_PER_METAL[prototype.system]))
        units = int(rng.integers(1, max(12 // (1 + ratio), 1) + 1))
        symbols = ([heavy] + ["H"] * ratio) * units
    lengths, skew = rng.uniform(0.75, 1.35, 3), rng.uniform(-0.25, 0.25, (3, 3))
    atoms = Atoms(symbols, cell=np.diag(lengths) + np.triu(skew, 1), pbc=True)
    atoms = with_volume(atoms, volume_at_reference(atoms) * rng.uniform(0.9, 1.25))
    atoms.set_scaled_positions(rng.random((len(atoms), 3)))
    return pushed_apart(atoms)


def pushed_apart(atoms: Atoms, steps: int = 200) -> Atoms:
    """Relax soft repulsive spheres a fifth wider than `CLOSEST` allows."""
    moved = atoms.copy()
    wanted = 1.25 * np.array([CLOSEST["XX"], CLOSEST["HX"], CLOSEST["HH"]])
    for _ in range(steps):
        first, second, distance, vector = neighbor_list("ijdD", moved, float(wanted.max()))
        hydrogens = (moved.numbers[first] == 1).astype(int) + (moved.numbers[second] == 1)
        overlap = np.maximum(wanted[hydrogens] - distance, 0)
        if not overlap.any():
            break
        push = np.zeros_like(moved.positions)
        np.add.at(push, first, -(0.3 * overlap / np.maximum(distance, 1e-3))[:, None] * vector)
        moved.positions += push
    return moved


MAKERS: dict[str, Callable[[Prototype, Rng], Atoms]] = {
    "ideal": ideal, "strain": strain, "rattle": rattle, "vacancy": vacancy, "random": random,
}  # fmt: skip


def deck(shares: dict[str, float], count: int, rng: Rng) -> list[str]:
    """`count` names with these shares in any stretch of the list: systematic sampling, shuffled in tens."""
    edges = np.cumsum(list(shares.values())) / sum(shares.values())
    names = []
    for start in range(0, count, 20):
        points = (np.arange(20) + rng.random()) / 20
        block = [list(shares)[i] for i in np.searchsorted(edges, points)]
        rng.shuffle(block)
        names += block[: count - start]
    return names


def cells(count: int, seed: int) -> list[Atoms]:
    """The first `count` cells of the data set."""
    rng = np.random.default_rng(seed)
    known: dict[str, list[Prototype]] = {}
    for prototype in prototypes():
        known.setdefault(prototype.system, []).append(prototype)
    found = []
    for system, kind in zip(deck(SHARES, count, rng), deck(KINDS, count, rng), strict=True):
        while True:
            prototype = known[system][rng.integers(len(known[system]))]
            if kind == "vacancy" and prototype.atoms.numbers.tolist().count(1) == 0:
                continue
            atoms = MAKERS[kind](prototype, rng)
            cost = core_seconds(atoms) / (10 if kind == "ideal" else 1)
            if len(atoms) <= LARGEST and cost < MOST_SECONDS and not too_close(atoms):
                break
        atoms.wrap()
        name = prototype.name if kind != "random" else f"{system} at random"
        atoms.info = {"system": system, "prototype": name, "kind": kind}
        found.append(atoms)
    return found


def main() -> None:
    """Write the cells."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    write(arguments.out, cells(arguments.count, arguments.seed), format="extxyz")


if __name__ == "__main__":
    main()
