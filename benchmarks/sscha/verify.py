r"""What few reference calculations say of an SSCHA run of H3S, beside what they would say alone.

    himlip sscha --dyn examples/h3s/labels_k12/harmonic/dyn --model himlip-h3s-1 --out RUN \
      --n 300 --n-hessian 600
    python -m benchmarks.sscha.verify RUN

1. DFT: the eight validation supercells, drawn from an earlier auxiliary, never trained on, correct the run.
2. A second model in the place of DFT, on n configurations of the final ensemble and on all of them: how far
   the corrected figures are from the full answer, in quoted errors, and how large the errors would be without
   the potential.  That model was trained on the same labels without the Hessian; it is much farther from the
   first than DFT is, so that this is a hard case.

Writes benchmarks/results/sscha_verify.json and .md.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np

from himlip_ase.evaluation import Evaluation
from himlip_ase.files import atomic_write, write_json
from himlip_ase.labels.readers import read_labels
from himlip_ase.potential.checkpoint import load_model
from himlip_ase.potential.evaluate import evaluate
from himlip_ase.sscha.convergence.residual import residual
from himlip_ase.sscha.ensembles.evaluation import checked
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.sscha.trust.verify import (
    Verification,
    choose,
    describe_verification,
    verification_images,
    verify,
    verify_on_labels,
)
from himlip_ase.sscha.trust.verify_files import FinalEnsemble, load_final_ensemble

ROOT = Path(__file__).parents[2]
LABELS = ROOT / "examples" / "h3s" / "labels_k12"
OTHER = ROOT / "examples" / "h3s" / "model" / "h3s_no_hessian.safetensors"


def with_dft(final: FinalEnsemble, group: SpaceGroup) -> Verification:
    """The validation supercells; the static energy is that of the primitive cell on the same k-points."""
    ideal = final.target.supercell
    frames, (rest,) = read_labels(LABELS / "validation.extxyz"), read_labels(LABELS / "equilibrium.extxyz")
    moved = np.array([frame.atoms.positions for frame in frames]) - ideal.positions
    moved -= np.rint(moved @ np.linalg.inv(ideal.cell.array)) @ ideal.cell.array
    assert rest.energy is not None
    energies = [frame.energy for frame in frames] + [rest.energy * int(np.prod(final.target.dims))]
    forces = [frame.forces for frame in frames] + [np.zeros((len(ideal), 3))]
    images = [*(frame.atoms for frame in frames), ideal]
    ours = checked(evaluate(load_model("himlip-h3s-1"), images), images)
    theirs = Evaluation(np.array(energies, dtype=float), np.array(forces))
    return verify_on_labels(final.target, final.ensemble, moved, ours, theirs, group)


def against_model(
    final: FinalEnsemble, group: SpaceGroup, sizes: list[int], seeds: int
) -> list[dict[str, Any]]:
    """Corrections from n configurations against those from all, and the errors without the potential."""
    ensemble, distribution = final.ensemble, final.target
    images = verification_images(ensemble, np.arange(len(ensemble)))
    full = checked(evaluate(load_model(str(OTHER)), images), images)
    everything = np.arange(len(ensemble))
    truth = verify(distribution, ensemble, everything, full, group).corrections
    exact = dataclasses.replace(ensemble, forces=full.force_array[:-1])
    alone = residual(distribution, exact, group, 20)
    moving = truth.change_sigma_cm > 1e-6
    rows = []
    for n in sizes:
        z, quoted, z_energy, energy = [], [], [], []
        for seed in range(seeds):
            chosen = choose(len(ensemble), n, seed)
            keep = [*chosen, len(ensemble)]
            part = Evaluation(full.energies[keep], full.force_array[keep])
            c = verify(distribution, ensemble, chosen, part, group).corrections
            z.append(((c.change_cm - truth.change_cm) / np.where(moving, c.change_sigma_cm, 1))[moving])
            quoted.append(c.change_sigma_cm[moving])
            z_energy.append((c.free_energy_change - truth.free_energy_change) / c.free_energy_change_sigma)
            energy.append(c.free_energy_change_sigma)
        rows.append(
            {
                "n": n,
                "gradient_sigma_cm": float(np.median(quoted)),
                "gradient_sigma_without_potential_cm": float(
                    np.median(alone.sigma_cm[moving]) * np.sqrt(len(ensemble) / n)
                ),
                "gradient_within_one_sigma": float((np.abs(z) < 1).mean()),
                "free_energy_sigma_mev": float(np.mean(energy) * 1e3),
                "free_energy_within_one_sigma": float((np.abs(z_energy) < 1).mean()),
            }
        )
    return rows


def main() -> None:
    """Measure and write the tables."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run of H3S with himlip-h3s-1")
    parser.add_argument("--n", type=int, nargs="+", default=[10, 20, 40], help="sizes of the second part")
    parser.add_argument("--seeds", type=int, default=10, help="choices of configurations for each size")
    arguments = parser.parse_args()
    final = load_final_ensemble(arguments.run)
    group = SpaceGroup(final.result.auxiliary)
    dft = with_dft(final, group)
    words = describe_verification(dft, final.result.auxiliary)
    rows = against_model(final, group, arguments.n, arguments.seeds)
    lines = [
        "# Verification of an SSCHA run of H3S", "",
        f"`python -m benchmarks.sscha.verify RUN`: 2×2×2, {len(final.ensemble)} configurations in the final "
        "ensemble, model himlip-h3s-1.", "",
        "## By DFT: the eight validation supercells", "", "```text", *words, "```", "",
        f"## By another model on n configurations, against all {len(final.ensemble)}", "",
        "| n | median error of the gradient, cm⁻¹ | the same without the potential | within 1σ | "
        "error of F, meV/cell | within 1σ |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {row['n']} | {row['gradient_sigma_cm']:.1f} | {row['gradient_sigma_without_potential_cm']:.1f} | "
        f"{row['gradient_within_one_sigma']:.0%} | {row['free_energy_sigma_mev']:.2f} | "
        f"{row['free_energy_within_one_sigma']:.0%} |"
        for row in rows
    ]
    c = dft.corrections
    figures = {
        "free_energy_change_mev": c.free_energy_change * 1e3,
        "free_energy_change_sigma_mev": c.free_energy_change_sigma * 1e3,
        "forces": [deviation.as_dict() for deviation in dft.forces],
        "frequencies_cm": c.frequencies_cm.tolist(),
        "frequencies_sigma_cm": c.frequencies_sigma_cm.tolist(),
    }
    stem = ROOT / "benchmarks" / "results" / "sscha_verify"
    write_json(stem.with_suffix(".json"), {"schema": 1, "dft": figures, "model": rows}, overwrite=True)
    with atomic_write(stem.with_suffix(".md"), overwrite=True) as stream:
        stream.write("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
