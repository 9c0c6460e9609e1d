"""Free-energy Hessian of H3S: time and peak memory, third and fourth order, python-sscha beside them.

    python -m benchmarks.sscha.hessian --folder runs/hessian

On 2×2×2 the auxiliary is minimised with the shipped potential, and the Hessian of its ensemble is the
physical answer.  On the larger grids, where only time and memory count, the forces are those of the
anharmonic bonds of minimiser.py.  Ensembles are kept in the folder.  Every row of the table is measured in a
process of its own, on one thread.  ``--prepare`` stops before the measurements; ``--only NAME`` measures one
row and keeps the others. Writes benchmarks/results/sscha_hessian.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from ase import Atoms
from ase.io import read

from benchmarks.sscha.minimiser import Bonds
from himlip_ase.calculator import HiMLIPCalculator
from himlip_ase.files import atomic_write, write_json
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.harmonic import harmonic_force_constants
from himlip_ase.pipeline.sscha import lowest_optical
from himlip_ase.potential.checkpoint import load_model
from himlip_ase.sscha.array_files import pack, unpack
from himlip_ase.sscha.convergence.residual import Residual
from himlip_ase.sscha.curvature.hessian import estimate_hessian
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.partial_ensemble import draw_ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.ensembles.workers import potential_forces
from himlip_ase.sscha.run.initial import positive_definite_start
from himlip_ase.sscha.run.loop import run_sscha
from himlip_ase.sscha.settings import SschaSettings
from himlip_ase.sscha.symmetry import SpaceGroup

RESULTS = Path(__file__).parents[1] / "results"
CRYSTAL = Path(__file__).parents[2] / "examples" / "h3s" / "labels_k12" / "crystal.extxyz"
MODEL = "himlip-h3s-1"
GRIDS = {"2x2x2": 5000, "3x3x3": 5000, "4x4x4": 2000}
"""Configurations of the Hessian's ensemble."""

POTENTIAL = "2x2x2"
SEED = np.random.SeedSequence(7)

ROWS = {
    "32 atoms, third": ("2x2x2", "third", 5000),
    "32 atoms, third + fourth": ("2x2x2", "third+fourth", 5000),
    "32 atoms, third, python-sscha": ("2x2x2", "peer", 5000),
    "108 atoms, third": ("3x3x3", "third", 5000),
    "108 atoms, third + fourth": ("3x3x3", "third+fourth", 5000),
    "256 atoms, third": ("4x4x4", "third", 2000),
}
TARGETS = {
    "32 atoms, third + fourth": "≤ 120 s",
    "108 atoms, third + fourth": "≤ 4 GB",
    "256 atoms, third": "minutes, < 6 GB",
}


def prepare(grid: str, folder: Path, workers: int) -> None:
    """Auxiliary and ensemble of a grid, once."""
    first, second, third = (int(part) for part in grid.split("x"))
    dims = (first, second, third)
    place = folder / grid
    if (place / "ensemble.npz").exists():
        return
    place.mkdir(parents=True, exist_ok=True)
    blocks = None
    if grid == POTENTIAL:
        crystal = read(CRYSTAL)
        assert isinstance(crystal, Atoms)
        start = harmonic_force_constants(crystal, HiMLIPCalculator(load_model(MODEL)), dims)
        settings = SschaSettings(n_hessian_configurations=0, max_populations=12)
        with potential_forces(MODEL, workers) as forces:
            result = run_sscha(
                start.dynamical_matrices(), forces, settings, place, resume=(place / "state").exists()
            )
            auxiliary, blocks = result.auxiliary, result.auxiliary_blocks
            ensemble = draw_ensemble(HarmonicDistribution(auxiliary), GRIDS[grid], SEED, forces, chunk=100)
    else:
        bonds = Bonds(dims)
        auxiliary = positive_definite_start(bonds.harmonic())[0]
        ensemble = draw_ensemble(HarmonicDistribution(auxiliary), GRIDS[grid], SEED, bonds, chunk=100)
    arrays: dict[str, Any] = {
        "displacements": ensemble.displacements,
        "energies": ensemble.energies,
        "forces": ensemble.forces,
        "static_energy": np.array(ensemble.static_energy),
        **pack("auxiliary", auxiliary),
    }
    if blocks is not None:
        arrays["blocks"] = blocks
    temporary = place / "ensemble.part.npz"
    np.savez(temporary, **arrays)
    temporary.rename(place / "ensemble.npz")


def load(grid: str, folder: Path, n: int) -> tuple[DynamicalMatrices, Ensemble, Residual | None]:
    """What :func:`prepare` kept."""
    with np.load(folder / grid / "ensemble.npz") as file:
        arrays = dict(file)
    auxiliary = unpack("auxiliary", arrays)
    ensemble = Ensemble(
        drawn_from=HarmonicDistribution(auxiliary),
        displacements=arrays["displacements"][:n],
        energies=arrays["energies"][:n],
        forces=arrays["forces"][:n],
        stresses=None,
        static_energy=float(arrays["static_energy"]),
        shortest_distance=0.0,
        largest_displacement=0.0,
    )
    nothing = np.zeros(0)
    in_sample = None
    if "blocks" in arrays:
        in_sample = Residual(nothing, nothing, arrays["blocks"], nothing, nothing)
    return auxiliary, ensemble, in_sample


def measure(grid: str, kind: str, n: int, folder: Path) -> dict[str, Any]:
    """One row, in this process."""
    auxiliary, ensemble, in_sample = load(grid, folder, n)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    found: dict[str, Any] = {"grid": grid, "order": kind, "n": len(ensemble)}
    if kind == "peer":
        from himlip_ase.sscha.minimisation import python_sscha

        hessian = python_sscha.free_energy_hessian(python_sscha.build_ensemble(ensemble))
        sigma = np.zeros(hessian.frequencies().shape)
    else:
        estimate = estimate_hessian(
            ensemble.drawn_from, ensemble, in_sample, SpaceGroup(auxiliary), fourth="fourth" in kind
        )
        hessian, sigma = estimate.hessian, estimate.sigma_cm
        found |= {
            "iterations": estimate.iterations,
            "residual": estimate.residual,
            "positive": estimate.positive,
            "bias_cm": lowest_optical(hessian, estimate.bias_cm)[1],
            "largest_sigma_cm": float(sigma.max()),
        }
    found["seconds"] = time.perf_counter() - begun
    found["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if in_sample is not None and kind != "peer":  # not timed: the error without the auxiliary's own noise
        alone = estimate_hessian(
            HarmonicDistribution(auxiliary), ensemble, None, SpaceGroup(auxiliary), fourth="fourth" in kind
        )
        found["sampling_sigma_cm"] = lowest_optical(hessian, alone.sigma_cm)[1]
    found["peak_before_gb"] = before / 1e6
    found["lowest_optical_cm"] = list(lowest_optical(hessian, sigma))
    found["gamma_cm"] = hessian.frequencies()[0].tolist()
    found["gamma_sigma_cm"] = sigma[0].tolist()
    found["auxiliary_lowest_optical_cm"] = lowest_optical(auxiliary, sigma)[0]
    return found


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "# Free-energy Hessian of H3S, 0 K",
        "",
        f"`python -m benchmarks.sscha.hessian` ({platform.machine()}, one thread; error bars included)",
        "",
        "| | forces | N | seconds | peak (GB) | asked for | applications of Φ⁴ | lowest Γ T1u (cm⁻¹) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        value, sigma = row["lowest_optical_cm"]
        error = "" if row["order"] == "peer" else f" ± {sigma:.2f}"
        if "sampling_sigma_cm" in row:
            error += f" ({row['sampling_sigma_cm']:.2f} without the auxiliary's noise)"
        forces = "potential" if row["grid"] == POTENTIAL else "bonds"
        lines.append(
            f"| {name} | {forces} | {row['n']} | {row['seconds']:.1f} | {row['peak_gb']:.2f} | "
            f"{TARGETS.get(name, '')} | {row.get('iterations', '') or ''} | {value:.2f}{error} |"
        )
    tensors = ", ".join(f"{8 * (3 * n) ** 4 / 1e9:.3g} GB for {n} atoms" for n in (32, 108, 256))
    before = max(row["peak_before_gb"] for row in rows.values())
    lowest = {row["grid"]: row["auxiliary_lowest_optical_cm"] for row in rows.values()}
    lines += [
        "",
        "Lowest Γ optical mode of the auxiliaries (cm⁻¹): "
        + ", ".join(f"{grid} {value:.2f}" for grid, value in lowest.items())
        + ".",
        "",
        f"python-sscha forms the fourth-order tensor, (3N)⁴ numbers: {tensors}. Memory of a row includes the "
        f"interpreter and the ensemble ({before:.2f} GB at most).",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Prepare, measure each row in a process of its own, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/hessian"))
    parser.add_argument("--workers", type=int, default=1, help="processes for the forces")
    parser.add_argument("--grids", nargs="+", default=list(GRIDS))
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--only", choices=list(ROWS))
    parser.add_argument("--measure", nargs=3, metavar=("GRID", "ORDER", "N"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        grid, kind, n = arguments.measure
        print(json.dumps(measure(grid, kind, int(n), arguments.folder)))
        return
    for grid in arguments.grids:
        prepare(grid, arguments.folder, arguments.workers)
    if arguments.prepare:
        return
    kept = arguments.folder / "rows.json"
    rows: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    for name, (grid, kind, n) in ROWS.items():
        if grid not in arguments.grids or (arguments.only not in (None, name)):
            continue
        command = [
            sys.executable,
            "-m",
            "benchmarks.sscha.hessian",
            "--folder",
            str(arguments.folder),
            "--measure",
            grid,
            kind,
            str(n),
        ]
        run = subprocess.run(command, check=True, capture_output=True, text=True)
        rows[name] = json.loads(run.stdout.splitlines()[-1])
        print(name, json.dumps(rows[name]))
        write_json(kept, rows, overwrite=True)
    rows = {name: rows[name] for name in ROWS if name in rows}
    text = table(rows)
    print(text)
    write_json(RESULTS / "sscha_hessian.json", rows, overwrite=True)
    with atomic_write(RESULTS / "sscha_hessian.md", overwrite=True) as stream:
        stream.write(text)


if __name__ == "__main__":
    main()
