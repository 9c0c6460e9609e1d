"""How often the quoted 1σ of free-energy-Hessian frequencies contains the reference: 68 % is asked for.

    python -m benchmarks.sscha.hessian_coverage --seeds 48

A crystal of anharmonic bonds (8 atoms, 0 K).  Fixed auxiliary: fresh ensembles against one of 40 times their
size. Minimised: each seed minimises its own auxiliary and takes its Hessian on a fresh ensemble, so that the
auxiliary's noise counts; the reference is the mean of all seeds, freed of its own share.
Writes benchmarks/results/sscha_hessian_coverage.json and .md.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np

from himlip_ase.files import atomic_write, write_json
from himlip_ase.sscha.convergence.residual import residual
from himlip_ase.sscha.curvature.hessian import HessianEstimate, estimate_hessian, free_energy_hessian
from himlip_ase.sscha.ensembles.partial_ensemble import draw_ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.minimisation.engine import MinimisationProblem
from himlip_ase.sscha.minimisation.engines import engine
from himlip_ase.sscha.run.initial import positive_definite_start
from himlip_ase.sscha.settings import SschaSettings
from himlip_ase.sscha.symmetry import SpaceGroup
from tests.sscha.toy import BondCrystal, cscl

RESULTS = Path(__file__).parents[1] / "results"
SHELLS = [(6.0, -20.0, 120.0, -0.02), (2.0, -5.0, 40.0, 0.02), (1.0, 0.0, 0.0, 0.0)]
DIMS = (2, 2, 1)
N, BLOCKS = 400, 20


def fixed(crystal: BondCrystal, seeds: int, fourth: bool) -> tuple[list[HessianEstimate], np.ndarray]:
    """Fresh ensembles of one auxiliary, and its frequencies from a large one."""
    start, _ = positive_definite_start(crystal.harmonic())
    distribution, group = HarmonicDistribution(start), SpaceGroup(start)
    large = draw_ensemble(distribution, 40 * N, np.random.SeedSequence(10**6), crystal)
    found = [
        estimate_hessian(
            distribution,
            draw_ensemble(distribution, N, np.random.SeedSequence(seed), crystal),
            None,
            group,
            fourth=fourth,
            seed=seed,
        )
        for seed in range(seeds)
    ]
    return found, free_energy_hessian(distribution, large, group, fourth=fourth).frequencies()


def minimised(crystal: BondCrystal, seeds: int, fourth: bool) -> list[HessianEstimate]:
    """An auxiliary and a Hessian for each seed."""
    start, _ = positive_definite_start(crystal.harmonic())
    group, native, settings = SpaceGroup(start), engine("native"), SschaSettings()
    found = []
    for seed in range(seeds):
        auxiliary = start
        for population in range(2):
            drawn = HarmonicDistribution(auxiliary)
            source = np.random.SeedSequence(seed, spawn_key=(population,))
            ensemble = draw_ensemble(drawn, N, source, crystal)
            end = native.minimise(MinimisationProblem(ensemble, group, settings, move_centroids=False))
            auxiliary = end.auxiliary
        target = HarmonicDistribution(auxiliary)
        in_sample = residual(target, ensemble, group, BLOCKS, end.weights)
        fresh = draw_ensemble(target, N, np.random.SeedSequence(seed, spawn_key=(9,)), crystal)
        found.append(estimate_hessian(target, fresh, in_sample, group, fourth=fourth, seed=seed))
    return found


def coverage(found: list[HessianEstimate], reference: np.ndarray | None) -> dict[str, Any]:
    """Share of |deviation| < 1σ over all frequencies of all seeds, and the rms of deviation/σ."""
    values = np.array([estimate.hessian.frequencies() - estimate.bias_cm for estimate in found])
    sigmas = np.array([estimate.sigma_cm for estimate in found])
    moving = sigmas.min(axis=0) > 1e-6
    shrink = 1.0
    if reference is None:
        reference, shrink = values.mean(axis=0), np.sqrt(1 - 1 / len(found))
    z = ((values - reference)[:, moving] / sigmas[:, moving]) / shrink
    by_seed = (np.abs(z) < 1).mean(axis=1)
    return {
        "seeds": len(found),
        "inside": float((np.abs(z) < 1).mean()),
        "inside_error": float(by_seed.std(ddof=1) / np.sqrt(len(found))),
        "rms_z": float(np.sqrt((z**2).mean())),
        "mean_sigma_cm": float(sigmas[:, moving].mean()),
        "mean_bias_cm": float(np.mean([e.bias_cm[moving].mean() for e in found])),
    }


def main() -> None:
    """Run all four, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=48)
    arguments = parser.parse_args()
    crystal = BondCrystal(cscl(), DIMS, SHELLS)
    rows: dict[str, dict[str, Any]] = {}
    for fourth in (False, True):
        order = "third + fourth" if fourth else "third"
        begun = time.perf_counter()
        rows[f"{order}, fixed auxiliary"] = coverage(*fixed(crystal, arguments.seeds, fourth))
        rows[f"{order}, minimised auxiliary"] = coverage(minimised(crystal, arguments.seeds, fourth), None)
        print(order, f"{time.perf_counter() - begun:.0f} s", rows)
    lines = [
        "# Coverage of the error bars of free-energy-Hessian frequencies",
        "",
        f"`python -m benchmarks.sscha.hessian_coverage --seeds {arguments.seeds}` "
        + f"(8 atoms, N = {N}; asked for: 68 ± 10 %)",
        "",
        "| | seeds | inside 1σ | rms of deviation/σ | mean σ (cm⁻¹) | mean bias estimate (cm⁻¹) |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['seeds']} | {100 * row['inside']:.0f} ± {100 * row['inside_error']:.0f} % | "
            f"{row['rms_z']:.2f} | {row['mean_sigma_cm']:.2f} | {row['mean_bias_cm']:.3f} |"
        )
    text = "\n".join([*lines, ""])
    print(text)
    write_json(RESULTS / "sscha_hessian_coverage.json", rows, overwrite=True)
    with atomic_write(RESULTS / "sscha_hessian_coverage.md", overwrite=True) as stream:
        stream.write(text)


if __name__ == "__main__":
    main()
