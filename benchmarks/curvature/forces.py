"""Force calls from 32 to 2048 atoms: CPU time per atom, neighbour list included; and what makes them faster.

Rattled supercells of H3S, float64, one thread unless said otherwise, stress not included.

    python -m benchmarks.curvature.forces --out benchmarks/results/curvature_forces.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from benchmarks.curvature.measure import peak_megabytes
from benchmarks.curvature.supercells import supercell
from himlip_ase import HiMLIPCalculator
from himlip_ase.potential.checkpoint import load_model
from himlip_ase.potential.network import HiMLIP

SIZES = (32, 64, 128, 256, 512, 1024, 2048)
STEP_ANGSTROM = 0.01


def seconds(call: Callable[[], Any], repeats: int, clock: Callable[[], float]) -> float:
    """Least time of some calls."""
    found = []
    for _ in range(repeats):
        start = clock()
        call()
        found.append(clock() - start)
    return min(found)


def scaling(model: HiMLIP, rounds: int) -> list[dict[str, float]]:
    """ms per atom at every size, measured in turn so that a change of pace meets all of them."""
    calc = HiMLIPCalculator(model, device="cpu")
    frames = {n_atoms: supercell(n_atoms) for n_atoms in SIZES}
    best = dict.fromkeys(SIZES, np.inf)
    for atoms in frames.values():
        calc.evaluate([atoms], stress=False)
    for _ in range(rounds):
        for n_atoms, atoms in frames.items():
            repeats = max(1, 256 // n_atoms)
            took = seconds(
                lambda atoms=atoms: calc.evaluate([atoms], stress=False), repeats, time.process_time
            )
            best[n_atoms] = min(best[n_atoms], took)
    rows = []
    for n_atoms, atoms in frames.items():
        per_atom = 1000 * best[n_atoms] / n_atoms
        peak = peak_megabytes(lambda atoms=atoms: calc.evaluate([atoms], stress=False))
        rows.append({"atoms": n_atoms, "ms_per_atom": per_atom, "peak_mb": peak})
        rows[-1]["against_32_atoms"] = per_atom / rows[0]["ms_per_atom"]
    return rows


def variants(model: HiMLIP, rounds: int, n_atoms: int = 256) -> list[dict[str, Any]]:
    """ms per call of one moving structure in several settings; forces face those of a fresh float64 list."""
    settings: dict[str, tuple[dict[str, Any], int]] = {
        "float64, fresh list": ({}, 1),
        "float64, skin 0.3 Å": ({"skin": 0.3}, 1),
        "float32, skin 0.3 Å": ({"skin": 0.3, "dtype": "float32"}, 1),
        "float64, fresh list, 2 threads": ({}, 2),
    }
    calculators = {name: HiMLIPCalculator(model, device="cpu", **o) for name, (o, _) in settings.items()}
    best, worst = dict.fromkeys(settings, np.inf), dict.fromkeys(settings, 0.0)
    rng = np.random.default_rng(1)
    atoms = supercell(n_atoms)
    for _ in range(rounds + 1):
        reference = calculators["float64, fresh list"].get_property("forces", atoms)
        for name, (_, threads) in settings.items():
            torch.set_num_threads(threads)
            calculators[name].reset()
            start = time.perf_counter()
            forces = calculators[name].get_property("forces", atoms)
            best[name] = min(best[name], time.perf_counter() - start)
            worst[name] = max(worst[name], float(np.abs(forces - reference).max()))
        torch.set_num_threads(1)
        atoms.positions += rng.normal(scale=STEP_ANGSTROM, size=atoms.positions.shape)
    return [
        {
            "setting": name,
            "atoms": n_atoms,
            "wall_ms": 1000 * best[name],
            "largest_force_deviation": worst[name],
        }
        for name in settings
    ]


def batches(model: HiMLIP, rounds: int, n_atoms: int = 32) -> list[dict[str, Any]]:
    """ms per structure in batches of supercells."""
    calc = HiMLIPCalculator(model, device="cpu")
    rows = []
    for size in (1, 8, 64):
        images = [supercell(n_atoms, 0.1, seed) for seed in range(size)]
        took = seconds(lambda images=images: calc.evaluate(images, stress=False), rounds, time.process_time)
        rows.append({"structures": size, "atoms": n_atoms, "ms_per_structure": 1000 * took / size})
    return rows


def markdown(report: dict[str, Any]) -> str:
    """The tables of the results page."""
    lines = [
        "# Force calls",
        "",
        "`python -m benchmarks.curvature.forces --out benchmarks/results/curvature_forces.json`: H3S, "
        "float64, one thread, neighbour list included, stress not; CPU time.",
        "",
        "| atoms | ms per atom | against 32 atoms | peak MB |",
        "|---|---|---|---|",
    ]
    for row in report["scaling"]:
        lines.append(
            f"| {row['atoms']} | {row['ms_per_atom']:.3f} | {row['against_32_atoms']:.2f} "
            f"| {row['peak_mb']:.0f} |"
        )
    lines += ["", "| structures of 32 atoms in a batch | ms per structure |", "|---|---|"]
    lines += [f"| {row['structures']} | {row['ms_per_structure']:.2f} |" for row in report["batches"]]
    lines += [
        "",
        "One structure of 256 atoms that moves by 0.01 Å a step (stress included, wall-clock time; the "
        "deviation is that of the forces from a fresh list in float64, eV/Å):",
        "",
        "| setting | ms | deviation |",
        "|---|---|---|",
    ]
    for row in report["variants"]:
        lines.append(f"| {row['setting']} | {row['wall_ms']:.1f} | {row['largest_force_deviation']:.1e} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="Hi-MLIP model, name or path; the default model without it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON file, replaced, with a .md beside it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(arguments.model)
    report = {
        "schema": 1,
        "machine": {
            "processor": platform.machine(),
            "torch": torch.__version__,
            "python": sys.version.split()[0],
        },
        "scaling": scaling(model, arguments.rounds),
        "batches": batches(model, arguments.rounds),
        "variants": variants(model, arguments.rounds),
    }
    print(markdown(report))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        arguments.out.with_suffix(".md").write_text(markdown(report), encoding="utf-8")


if __name__ == "__main__":
    main()
