r"""Harmonic phonons of H3S on q-points that the potential never learnt from, against ph.x.

    python -m benchmarks.off_grid_phonons [--model himlip-h3s-1] [--out benchmarks/results/off_grid_phonons]
    python -m benchmarks.off_grid_phonons --model himlip-h3s-3 --labels examples/h3s/labels \
        --fine harmonic333 --coarse harmonic harmonic444 --out benchmarks/results/off_grid_phonons_333

The potential learnt the 2×2×2 Hessian; ph.x on 4×4×4 (labels/harmonic444) has 56 further q-points. Beside it
the Fourier interpolation of the 2×2×2 matrices of DFT, which knows as much; other matrices by `--fine` and
`--coarse`, of which the first are those that were learnt. Two frozen phonons of pw.x at
q = (0, 0, ¼), 0.01 Å along eigenvectors of ph.x (examples/h3s/frozen_phonons), judge ph.x itself.
Writes .json and .md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read

from himlip_ase import HiMLIPCalculator
from himlip_ase.files import atomic_write, write_json
from himlip_ase.phonons.exact import exact_force_constants
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.phonons.qe import read_dyn
from himlip_ase.units import SQRT_EV_PER_ANGSTROM2_AMU_CM

LABELS = Path(__file__).parents[1] / "examples" / "h3s" / "labels_k12"
FROZEN = LABELS.parent / "frozen_phonons" / "frozen_phonons.extxyz"


def rayleigh_cm(atoms: Atoms, displacements: np.ndarray, forces: np.ndarray) -> float:
    """Frequency -u·f/(u·Mu) along frozen displacements, cm⁻¹, imaginary negative."""
    squared = -(displacements * forces).sum() / (atoms.get_masses()[:, None] * displacements**2).sum()
    return float(np.sign(squared) * np.sqrt(abs(squared)) * SQRT_EV_PER_ANGSTROM2_AMU_CM)


def frozen_phonons(fine: ForceConstants, calculator: HiMLIPCalculator) -> list[tuple[float, float, float]]:
    """Frequencies of pw.x, of ph.x and of the potential along each frozen pattern of the 1×1×4 cell."""
    size = len(fine.primitive)
    ideal = fine.primitive.repeat((1, 1, 4))
    hessian = fine.hessian(order="ase")
    result = []
    for image in read(FROZEN, ":"):
        moved = image.positions - ideal.positions
        everywhere = np.tile(moved.reshape(4, size, 3), (16, 1, 1, 1)).reshape(-1, 3)
        harmonic = -np.einsum("iajb,jb->ia", hessian[: 4 * size], everywhere)
        learnt = calculator.evaluate([image]).forces[0] - calculator.evaluate([ideal]).forces[0]
        forces = (image.arrays["REF_forces"], harmonic, learnt)
        result.append(tuple(rayleigh_cm(image, moved, f) for f in forces))
    return result


def main() -> None:
    """Compare and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="himlip-h3s-1")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/off_grid_phonons"))
    parser.add_argument("--labels", type=Path, default=LABELS)
    parser.add_argument("--fine", default="harmonic444", help="judges")
    parser.add_argument("--coarse", nargs="+", default=["harmonic"], help="interpolated; the first: learnt")
    arguments = parser.parse_args()

    fine, *coarse = (
        read_dyn(arguments.labels / name / "dyn").force_constants().symmetrized()
        for name in (arguments.fine, *arguments.coarse)
    )
    calculator = HiMLIPCalculator(arguments.model)
    crystal = read(arguments.labels / "crystal.extxyz")
    assert not isinstance(crystal, list)
    learnt, _ = exact_force_constants(crystal, fine.dims, calculator.hessian_vector_product)

    qpoints = fine.dynamical_matrices().qpoints
    multiplied = qpoints * np.array(coarse[0].dims)
    common = np.all(np.abs(multiplied - np.rint(multiplied)) < 1e-6, axis=1)
    grids = ["×".join(map(str, constants.dims)) for constants in (fine, *coarse)]
    reference = fine.frequencies(qpoints)
    others = {
        f"potential {arguments.model}": learnt.frequencies(qpoints),
        **{
            f"DFT {grid}, Fourier-interpolated": constants.frequencies(qpoints)
            for grid, constants in zip(grids[1:], coarse, strict=True)
        },
    }
    rows, table = [], {}
    for name, frequencies in others.items():
        errors = frequencies - reference
        for where, chosen in ((grids[1], common), (f"the others of {grids[0]}", ~common)):
            rms, largest = np.sqrt(np.mean(errors[chosen] ** 2)), np.abs(errors[chosen]).max()
            rows.append(f"| {name} | {where} | {chosen.sum()} | {rms:.1f} | {largest:.0f} |")
            table[f"{name}, {where}"] = {"n_q": int(chosen.sum()), "rms_cm": rms, "largest_cm": largest}
    judged = []
    if arguments.labels == LABELS and fine.dims == (4, 4, 4):
        frozen = frozen_phonons(fine, calculator)
        table["frozen phonons at (0, 0, ¼), cm: pw.x, ph.x, potential"] = frozen  # type: ignore[assignment]
        judged = [
            "",
            "Frozen at q = (0, 0, ¼) along two eigenvectors of ph.x (cm⁻¹):",
            "",
            "| pw.x, 0.01 Å | ph.x | potential |",
            "|---|---|---|",
            *(f"| {a:.0f} | {b:.0f} | {c:.0f} |" for a, b, c in frozen),
        ]
    text = "\n".join(
        [
            "# Harmonic phonons of H3S off the grid that was learnt",
            "",
            f"`python -m benchmarks.off_grid_phonons {' '.join(sys.argv[1:])}`:",
            f"against ph.x on {grids[0]} q, all modes in ascending order, imaginary ones negative.",
            "",
            "| | q-points | number | RMSE (cm⁻¹) | largest (cm⁻¹) |",
            "|---|---|---|---|---|",
            *rows,
            *judged,
            "",
        ]
    )
    write_json(arguments.out.with_suffix(".json"), table, overwrite=True)
    with atomic_write(arguments.out.with_suffix(".md"), overwrite=True) as file:
        file.write(text)
    print(text)


if __name__ == "__main__":
    main()
