"""Crystals and the stop-watch that every side of the curvature benchmark uses; needs ASE and NumPy only."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from ase import Atoms

LATTICE_ANGSTROM = 3.06484
DIMS = {8: (2, 1, 1), 32: (2, 2, 2), 108: (3, 3, 3), 256: (4, 4, 4), 500: (5, 5, 5)}
"""Supercell of each number of atoms."""


def primitive() -> Atoms:
    """Im-3m H3S at 150 GPa, four atoms."""
    return Atoms(
        "SH3",
        cell=LATTICE_ANGSTROM / 2 * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]),
        scaled_positions=[[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
        pbc=True,
    )


def rattled(n_atoms: int) -> Atoms:
    """A supercell with every atom displaced by 0.1 Å, so that nothing profits from symmetry."""
    atoms = primitive().repeat(DIMS[n_atoms])
    atoms.positions += np.random.default_rng(0).normal(scale=0.1, size=atoms.positions.shape)
    return atoms


def resident_gb() -> float:
    """Largest resident memory so far, GiB."""
    scale = 1024 if sys.platform == "darwin" else 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2 / scale


def measure(
    sizes: list[int], prepare: Callable[[int], Callable[[], Any]], repeats: int
) -> Iterator[dict[str, Any]]:
    """CPU time and memory of a call for each number of atoms, ascending.

    The least CPU time of some repetitions (one, where a call takes more than 5 s) after a warm-up on the
    smallest structure; memory is what the process has grown by beyond its size after that warm-up.
    """
    prepare(min(DIMS))()
    base = resident_gb()
    for n_atoms in sorted(sizes):
        call = prepare(n_atoms)
        best = np.inf
        for _ in range(repeats):
            start = time.process_time()
            extra = call()
            best = min(best, time.process_time() - start)
            if best > 5:
                break
        yield {
            "atoms": n_atoms,
            "cpu_s": best,
            "memory_gb": resident_gb() - base,
            **(extra if isinstance(extra, dict) else {}),
        }


def report(rows: Iterator[dict[str, Any]]) -> None:
    """Print each row as a line of JSON as soon as it is there."""
    for row in rows:
        print(json.dumps(row), flush=True)
