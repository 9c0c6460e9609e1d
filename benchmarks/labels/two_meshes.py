r"""Forces of disordered cells on one k-mesh, on the same mesh shifted, and their mean, against a denser mesh.

    python -m benchmarks.labels.two_meshes [--out benchmarks/results/two_meshes.md]

Reads labels that `himlip label mean` made, which hold both meshes, and the same cells on a denser one.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from himlip_ase.dft.two_meshes import MESH, SPREAD, PublishedSet
from himlip_ase.files import atomic_write, read_mapping
from himlip_ase.structures import read_structures

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Case:
    """A crystal, the mean of two meshes, and a denser mesh.

    Attributes
    ----------
    name, meshes : str
        For the table; `meshes` is that of the two and the denser one.
    mean, denser : str
        Sets, below ``examples``.
    """

    name: str
    meshes: str
    mean: str
    denser: str


CASES = (
    Case(
        "H3S, 32 atoms", "4×4×4 → 6×6×6", "h3s/labels_two_meshes/validation_first", "h3s/labels/test_denser_k"
    ),
    Case(
        "CaH6, 28 atoms",
        "5×3×3 → 7×5×5",
        "cah6/labels_two_meshes/two_meshes",
        "cah6/labels_two_meshes/denser",
    ),
)


def rms(values: np.ndarray) -> float:
    """Root of the mean square, in thousandths."""
    return 1000 * float(np.sqrt(np.mean(np.square(values))))


def row(case: Case) -> str:
    """The line of the table of a crystal."""
    denser = read_structures(EXAMPLES / f"{case.denser}.extxyz")[0]
    path = EXAMPLES / f"{case.mean}.extxyz"
    record = read_mapping(path.with_suffix(".json"))
    means = PublishedSet(path, read_structures(path), record)
    mean = means.frames[means.number_of(denser, case.denser)]
    shifted_first = any(record["mean_of"][0][MESH])
    forces, half = mean.arrays["REF_forces"], mean.arrays[SPREAD["forces"]] * (1 if shifted_first else -1)
    truth = denser.arrays["REF_forces"]
    misses = [rms(found - truth) for found in (forces + half, forces - half, forces)]
    minutes = [float(atoms.info["core_seconds"]) / 60 for atoms in (mean, denser)]
    return "| " + " | ".join([
        case.name, case.meshes, *(f"{miss:.0f}" for miss in misses), f"{rms(half):.0f}",
        f"{rms(truth):.0f}", *(f"{value:.0f}" for value in minutes),
    ]) + " |"  # fmt: skip


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    lines = [
        "# Two k-meshes and their mean", "",
        "Forces, meV/Å rms over the components of one disordered cell, against those on a denser mesh "
        "(`python -m benchmarks.labels.two_meshes`).", "",
        "| cell | meshes of the cell | shifted | with Γ | **mean** | half the difference | the forces | "
        "core-minutes of both | of the denser one |",
        "|---|---|---|---|---|---|---|---|---|",
        *(row(case) for case in CASES),
    ]  # fmt: skip
    text = "\n".join(lines) + "\n"
    if out is None:
        print(text)
        return
    with atomic_write(out, overwrite=True) as stream:
        stream.write(text)


if __name__ == "__main__":
    main()
