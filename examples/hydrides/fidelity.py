"""What coarse k-points leave in the forces: cells labelled as the hydrides are, against their fine labels.

    python fidelity.py cells fidelity.extxyz
    himlip label supercell fidelity.extxyz --out coarse --k-spacing 0.45 --smearing mv --degauss 0.03 \
        --conv-thr 1e-7 --pseudo FOLDER                                        # five core-minutes
    python fidelity.py compare coarse

The fine labels are those of examples/h3s: 12×12×12 k in the unit cell, Methfessel-Paxton 0.02 Ry.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read, write

from himlip_ase.labels.pw_output import read_pw_output

LABELS = Path(__file__).parents[1] / "h3s" / "labels_k12"
CHOSEN = (("cells16", 0), ("cells16", 3), ("quantum16", 0), ("validation", 0))


def fine() -> list[Atoms]:
    """The labelled cells; forces in ``arrays["REF_forces"]``, eV/Å."""
    return [read(LABELS / f"{name}.extxyz", index) for name, index in CHOSEN]


def rms(values: np.ndarray) -> float:
    """meV/Å, of eV/Å."""
    return 1e3 * float(np.sqrt(np.mean(values**2)))


def main() -> None:
    """Write the cells, or compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("cells", "compare"))
    parser.add_argument("path", type=Path, help="file of cells to write; folder of runs to compare")
    arguments = parser.parse_args()
    if arguments.what == "cells":
        bare = [Atoms(a.symbols, a.positions, cell=a.cell, pbc=True) for a in fine()]
        write(arguments.path, bare, format="extxyz")
        return
    for index, ((name, number), atoms) in enumerate(zip(CHOSEN, fine(), strict=True)):
        output = arguments.path / f"{index:03d}" / "pw.out"
        if not output.is_file():
            continue
        found, reference = read_pw_output(output).forces, atoms.arrays["REF_forces"]
        miss = found - reference
        miss -= miss.mean(axis=0)
        of = {symbol: rms(miss[atoms.symbols == symbol]) for symbol in ("H", "S")}
        print(
            f"{name} {number}, {len(atoms)} atoms, {rms(reference):.0f} meV/Å rms: differs by "
            f"{rms(miss):.0f} meV/Å, hydrogen {of['H']:.0f}, sulphur {of['S']:.0f}"
        )


if __name__ == "__main__":
    main()
