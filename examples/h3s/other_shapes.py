r"""Configurations of an SSCHA in smaller cells of another shape, for labels that hold its q-points.

    python examples/h3s/other_shapes.py runs/h3s/state/sscha/grid_4x4x4/auxiliary.dyn0 \
      --cell 1 0 0 0 2 0 0 0 4 --count 6 --seed 1 --out images.extxyz

A 4×4×4 supercell is too large for DFT. Cells of 1×2×4, or sheared ones, have some of its q in 32 atoms:
the modes of these q, and no others, are drawn from the auxiliary Gaussian. What is drawn on the whole grid is
averaged over the translations of the smaller cell, which leaves exactly its q-points, each with the share of
the larger supercell; √(number of translations) gives it that of the smaller one.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from ase.geometry import minkowski_reduce
from ase.io import write

from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.qe import read_dyn
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution


def sites(atoms: Atoms, primitive: Atoms, dims: np.ndarray) -> list[tuple[int, tuple[int, ...]]]:
    """Atom of the primitive cell and translation (modulo the grid) of each atom at its site."""
    inverse = np.linalg.inv(primitive.cell.array)
    found = []
    for position in atoms.positions:
        steps = (position - primitive.positions) @ inverse
        atom = int(np.argmin(np.abs(steps - steps.round()).max(axis=1)))
        found.append((atom, tuple(int(n) for n in steps[atom].round().astype(int) % dims)))
    return found


def drawn(matrices: DynamicalMatrices, cell: np.ndarray, count: int, seed: int) -> list[Atoms]:
    """Configurations at 0 K in the cell ``cell @ primitive.cell``, whose q-points are on the grid."""
    dims, primitive = np.array(matrices.dims), matrices.primitive
    if np.abs((inverse := dims * np.linalg.inv(cell)) - inverse.round()).max() > 1e-6:
        raise SystemExit(f"{cell.tolist()}: its q-points are not on the grid {'×'.join(map(str, dims))}")
    distribution = HarmonicDistribution(matrices, 0.0)
    large = sites(distribution.supercell, primitive, dims)
    row = {site: number for number, site in enumerate(large)}
    multiples = itertools.product(*(range(n) for n in dims))
    translations = {tuple((np.array(m) @ cell) % dims) for m in multiples}
    smaller = make_supercell(primitive, cell)
    places = sites(smaller, primitive, dims)
    images = []
    for field in distribution.displacements(count, seed).reshape(count, len(large), 3):
        image = smaller.copy()
        for number, (atom, at) in enumerate(places):
            same = [row[atom, tuple(int(n) for n in (np.array(at) + t) % dims)] for t in translations]
            image.positions[number] += np.sqrt(len(translations)) * field[same].mean(axis=0)
        image.set_cell(minkowski_reduce(image.cell)[0])
        image.wrap()
        images.append(image)
    return images


def main() -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(description="configurations of an SSCHA in cells of another shape")
    parser.add_argument("auxiliary", type=Path, help="dyn files of the auxiliary phonons")
    parser.add_argument("--cell", type=int, nargs=9, required=True, help="rows, in primitive vectors")
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if given.out.exists():
        raise SystemExit(f"{given.out} exists already; choose another name")
    cell = np.array(given.cell).reshape(3, 3)
    write(given.out, drawn(read_dyn(given.auxiliary), cell, given.count, given.seed))


if __name__ == "__main__":
    main()
