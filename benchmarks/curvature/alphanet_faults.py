"""What the conformance suite says of a small AlphaNet with random weights, and what a full-sized one costs.

    python -m benchmarks.curvature.alphanet_faults

Float64, one thread; CPU times are the least of three. Needs msc-alphanet, torch-geometric and, for AlphaNet's
own calculator, pydantic-settings. Table and numbers go to benchmarks/results/alphanet_faults.*.
"""

from __future__ import annotations

import os
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, make_supercell

from benchmarks.curvature.measure import cpu_seconds, peak_megabytes
from himlip_ase import HiMLIPCalculator
from himlip_ase.files import write_json
from himlip_ase.potential.alphanet import AlphaNetPotential
from himlip_ase.potential.alphanet_arguments import arguments_of, build_alphanet
from himlip_ase.testing import check_calculator
from tests.potential.alphanet_zoo import SECTION, alphanet_calculator, alphanet_potential, ask
from tests.potential.zoo import h3s, rattled

RESULTS = Path(__file__).parents[1] / "results" / "alphanet_faults"
FULL: dict[str, Any] = {
    "num_layers": 4, "hidden_channels": 176, "cutoff": 5, "num_radial": 8, "compute_forces": True,
    "compute_stress": True,
}  # fmt: skip
"""The shape of AlphaNet's published weights of 4.8 million parameters."""


def inside(atoms: Atoms) -> Atoms:
    """The crystal with no atom near a face of its cell."""
    atoms.positions += 0.21 * atoms.cell.array.sum(axis=0)
    return atoms


def costs() -> dict[str, float]:
    """For 32 atoms of H3S."""
    atoms = rattled(make_supercell(h3s(), 2 * np.eye(3, dtype=int)))
    weights = {name: t.float() for name, t in build_alphanet(arguments_of(FULL)).state_dict().items()}
    ours, default = HiMLIPCalculator(AlphaNetPotential.of(weights, FULL)), HiMLIPCalculator()
    vector = np.random.default_rng(0).normal(size=(32, 3))
    with TemporaryDirectory() as folder:
        peer = alphanet_calculator(Path(folder), FULL, weights)
    product = partial(ours.hessian_vector_product, atoms, vector)
    return {
        "AlphaNet's own calculator, forces, CPU s": cpu_seconds(lambda: (peer.reset(), ask(peer, atoms))),
        "AlphaNet here, forces, CPU s": cpu_seconds(lambda: ours.evaluate([atoms])),
        "AlphaNet here, product with the Hessian, CPU s": cpu_seconds(product, 1),
        "the same, GB": peak_megabytes(product) / 1000,
        "this package's default model, forces, CPU s": cpu_seconds(lambda: default.evaluate([atoms])),
    }


def main() -> None:
    """Run all and write the results."""
    torch.set_num_threads(1)
    calc = HiMLIPCalculator(alphanet_potential())
    reports = {
        name: check_calculator(calc, inside(atoms))
        for name, atoms in (("Cu", bulk("Cu", cubic=True)), ("H3S", h3s()))
    }
    measured = costs()
    versions = {name: version(name) for name in ("msc-alphanet", "torch", "torch-geometric", "ase")}
    told = {
        "shape": SECTION,
        "versions": versions,
        "conformance": {name: report.to_dict() for name, report in reports.items()},
        "costs": measured,
    }
    write_json(RESULTS.with_suffix(".json"), told, overwrite=True)
    lines = [
        "# AlphaNet: what it fails, and what it costs",
        "",
        "`python -m benchmarks.curvature.alphanet_faults`: deviations of a small AlphaNet of random",
        "weights (2 layers, 16 channels) in those checks of `himlip_ase.testing.check_calculator` that",
        "it fails.",
        ", ".join(map(" ".join, versions.items())),
        "",
        "| check | Cu | H3S |",
        "|---|---|---|",
    ]
    failed = {check.name for report in reports.values() for check in report.failures}
    for check in reports["Cu"].checks:
        if check.name in failed:
            values = [reports[name][check.name] for name in reports]
            told_values = ["refused" if v.value is None else f"{v.value:.1e}" for v in values]
            lines.append(f"| {check.name} | " + " | ".join(told_values) + " |")
    lines += ["", "32 atoms of H3S, 4.8 million parameters, one thread:", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value:.3f} |" for name, value in measured.items()]
    RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
