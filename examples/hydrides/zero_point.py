"""Disordered supercells of the superconducting hydrides: what a phonon or an SSCHA meets at q ≠ 0.

    python zero_point.py --count 300 --seed 1 zero_point.extxyz

In a primitive cell all images of an atom move together, so forces between images are never seen. These
cells hold 11 … 16 atoms (PdH: 8) in any supercell of that size (Hermite normal forms, drawn at random; some
are long enough for q = 1/4), volumes -6 … +6 %, and Gaussian displacements of the size of zero-point motion:
hydrogen 0.05 … 0.22 Å, heavier atoms less by (m_H/m)^(1/4).
"""

from __future__ import annotations

import argparse

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from ase.geometry import minkowski_reduce
from ase.io import write
from cells import LARGEST, Rng, core_seconds, displaced, too_close
from prototypes import Prototype, prototypes, with_volume

SHARES = {
    "H3S-Im-3m": 0.5, "H3S-R3m": 0.1, "PdH-rocksalt": 0.12, "CaH6-Im-3m": 0.1, "YH6-Im-3m": 0.1,
    "LaH10-Fm-3m": 0.08,
}  # fmt: skip
SIZE = {"PdH-rocksalt": 8}
"""Atoms at most, where 16 would cost too much."""
MOST_SECONDS = 75.0
"""Core-seconds of pw.x, estimated; cells that cost more are drawn again (`--seconds` says otherwise)."""


def hermite_normal_form(index: int, rng: Rng) -> np.ndarray:
    """A random 3×3 integer matrix of this determinant in Hermite normal form."""
    factors = [
        (a, b, index // (a * b))
        for a in range(1, index + 1)
        for b in range(1, index + 1)
        if index % (a * b) == 0
    ]
    a, b, c = factors[rng.integers(len(factors))]
    return np.array([[a, 0, 0], [rng.integers(b), b, 0], [rng.integers(c), rng.integers(c), c]])


def disordered(prototype: Prototype, largest: int, rng: Rng) -> Atoms:
    """A random supercell of as many atoms as allowed with displaced atoms, its cell reduced."""
    primitive = prototype.atoms
    matrix = hermite_normal_form(max(SIZE.get(prototype.name, largest) // len(primitive), 1), rng)
    cell = minkowski_reduced(make_supercell(primitive, matrix))
    cell = with_volume(cell, cell.cell.volume * rng.uniform(0.94, 1.06))
    return displaced(cell, rng.uniform(0.05, 0.22), True, rng)


def minkowski_reduced(atoms: Atoms) -> Atoms:
    """The same crystal in its most compact cell."""
    copy = atoms.copy()
    copy.set_cell(minkowski_reduce(atoms.cell)[0])
    return copy


def cells(count: int, seed: int, names: list[str], largest: int, seconds: float) -> list[Atoms]:
    """The first `count` cells of the set, of these prototypes, of at most so many atoms and core-seconds."""
    rng = np.random.default_rng(seed)
    known = {p.name: p for p in prototypes()}
    shares = np.array([SHARES[name] for name in names])
    found: list[Atoms] = []
    while len(found) < count:
        name = rng.choice(names, p=shares / shares.sum())
        while True:
            atoms = disordered(known[name], largest, rng)
            if core_seconds(atoms) < seconds and not too_close(atoms):
                break
        atoms.wrap()
        atoms.info = {"system": known[name].system, "prototype": str(name), "kind": "zero point"}
        found.append(atoms)
    return found


def main() -> None:
    """Write the cells."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=SHARES, default=list(SHARES), metavar="PROTOTYPE")
    parser.add_argument("--atoms", type=int, default=LARGEST, help="at most (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=MOST_SECONDS, help="of pw.x, at most (default: %(default)s)"
    )
    arguments = parser.parse_args()
    found = cells(arguments.count, arguments.seed, arguments.only, arguments.atoms, arguments.seconds)
    write(arguments.out, found, format="extxyz")


if __name__ == "__main__":
    main()
