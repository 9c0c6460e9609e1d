"""H3S from the shipped potential to free energy and free-energy Hessian: where the time goes, on two grids.

    python -m benchmarks.sscha.end_to_end --folder runs/end_to_end --workers 2

Each grid is an SSCHA run of its own with the paper's settings, begun from the potential's harmonic force
constants on that grid.  A run that was stopped is continued (its clock with it); a finished one is only read.
Writes benchmarks/results/sscha_end_to_end.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import time
from pathlib import Path

import numpy as np

from himlip_ase.calculator import HiMLIPCalculator
from himlip_ase.files import atomic_write, write_json
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.harmonic import harmonic_force_constants
from himlip_ase.pipeline.sscha import lowest_optical
from himlip_ase.potential.checkpoint import load_model
from himlip_ase.sscha.ensembles.workers import potential_forces
from himlip_ase.sscha.results.grid_comparison import GridDifference, compare_grids
from himlip_ase.sscha.results.result import SschaResult, load_result
from himlip_ase.sscha.run.initial import stored_start
from himlip_ase.sscha.run.loop import run_sscha
from himlip_ase.sscha.settings import SschaSettings
from himlip_ase.units import EV_PER_ANGSTROM3_GPA

RESULTS = Path(__file__).parents[1] / "results"
CRYSTAL = Path(__file__).parents[2] / "examples" / "h3s" / "labels_k12" / "crystal.extxyz"
MODEL = "himlip-h3s-1"
KINDS = ("start", "sampling", "forces", "minimiser", "Hessian")
TARGETS = {(2, 2, 2): 120.0, (4, 4, 4): 1800.0}
"""Seconds on two cores."""


def start(dims: tuple[int, int, int]) -> DynamicalMatrices:
    """Harmonic matrices of the potential on a grid."""
    from ase.io import read

    crystal = read(CRYSTAL)
    constants = harmonic_force_constants(crystal, HiMLIPCalculator(load_model(MODEL)), dims)
    return constants.dynamical_matrices()


def run(dims: tuple[int, int, int], folder: Path, workers: int, settings: SschaSettings) -> dict:
    """One grid: run, continue or only read it, then its figures."""
    place = folder / "x".join(map(str, dims))
    clock = place / "start.json"
    if not (place / "result.json").exists() or load_result(place).settings != settings:
        begun = time.perf_counter()
        initial = stored_start(place, lambda: start(dims))
        if not clock.exists():
            write_json(clock, {"seconds": time.perf_counter() - begun})
        with potential_forces(MODEL, workers) as forces:
            resume = (place / "state" / "run.json").exists()
            run_sscha(initial, forces, settings, place, resume, progress=True)
    timings = json.loads((place / "timings.json").read_text())
    timings["start"] = json.loads(clock.read_text())["seconds"]
    return figures(load_result(place), {kind: timings.get(kind, 0.0) for kind in KINDS})


def figures(result: SschaResult, timings: dict[str, float]) -> dict:
    """What the table shows."""
    dims = result.auxiliary.dims
    lowest = {"auxiliary": lowest_optical(result.auxiliary, result.auxiliary_sigma_cm)}
    if result.hessian is not None and result.hessian_sigma_cm is not None:
        lowest["hessian"] = lowest_optical(result.hessian, result.hessian_sigma_cm)
    stress = None
    if result.stress is not None and result.stress_sigma is not None:
        stress = [
            float(-result.stress[:3].mean() * EV_PER_ANGSTROM3_GPA),
            float(result.stress_sigma[:3].mean() * EV_PER_ANGSTROM3_GPA),
        ]
    return {
        "dims": list(dims),
        "atoms": int(np.prod(dims)) * len(result.auxiliary.primitive),
        "engine": result.engine,
        "configurations": result.settings.n_configurations,
        "hessian_configurations": result.settings.n_hessian_configurations,
        "hessian_order": result.settings.hessian_order,
        "populations": len(result.populations),
        "steps": sum(record.steps for record in result.populations),
        "force_calls": result.force_calls,
        "converged": result.converged,
        "verdict": result.verdict,
        "seconds": {kind: round(value, 1) for kind, value in timings.items()},
        "total_seconds": round(sum(timings.values()), 1),
        "target_seconds": TARGETS.get(tuple(dims)),
        "free_energy_mev": [1e3 * result.free_energy, 1e3 * result.free_energy_sigma],
        "pressure_gpa": stress,
        "gamma_optical_lowest_cm": {name: list(value) for name, value in lowest.items()},
    }


def table(rows: list[dict], change: GridDifference | None) -> str:
    """Markdown: one row a grid, then the difference between them."""
    lines = [
        "# H3S end to end: potential, native engine, free-energy Hessian",
        "",
        "`python -m benchmarks.sscha.end_to_end` "
        + f"({platform.machine()}, {os.cpu_count()} cores; seconds of wall time)",
        "",
        "| grid (atoms) | populations × N + final | "
        + " | ".join(KINDS)
        + " | total | asked for | verdict |",
        "|---|---|" + "---|" * (len(KINDS) + 3),
    ]
    for row in rows:
        target = "–" if row["target_seconds"] is None else f"≤ {row['target_seconds']:.0f}"
        lines.append(
            f"| {'×'.join(map(str, row['dims']))} ({row['atoms']}) | {row['populations']} × "
            f"{row['configurations']} + {row['hessian_configurations']} | "
            + " | ".join(f"{row['seconds'][kind]:.1f}" for kind in KINDS)
            + f" | {row['total_seconds']:.0f} | {target} | "
            + f"{'converged' if row['converged'] else 'NOT CONVERGED'} |"
        )
    lines += [
        "",
        "| grid | free energy (meV/cell) | pressure (GPa) | lowest Γ optical, auxiliary | Hessian |",
    ]
    lines.append("|---|---|---|---|---|")
    for row in rows:
        cells = [
            "–" if value is None else f"{value[0]:.2f} ± {value[1]:.2f}"
            for value in (
                row["free_energy_mev"],
                row["pressure_gpa"],
                row["gamma_optical_lowest_cm"].get("auxiliary"),
                row["gamma_optical_lowest_cm"].get("hessian"),
            )
        ]
        lines.append(f"| {'×'.join(map(str, row['dims']))} | " + " | ".join(cells) + " |")
    lines += ["", f"Hessian with the {rows[0]['hessian_order']} order."]
    if change is not None:
        lines += ["", "Difference between the grids: " + change.sentence() + "."]
    lines += ["", *(f"- {'×'.join(map(str, row['dims']))}: {row['verdict']}" for row in rows), ""]
    return "\n".join(lines)


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/end_to_end"))
    parser.add_argument("--workers", type=int, default=2, help="processes for the forces")
    parser.add_argument("--grids", nargs="+", default=["2x2x2", "4x4x4"])
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--n-hessian", type=int, default=2000)
    parser.add_argument("--hessian-order", default="third+fourth")
    parser.add_argument("--max-populations", type=int, default=10)
    parser.add_argument("--note", default="", help="a remark for the table")
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    settings = SschaSettings(
        n_configurations=arguments.n,
        n_hessian_configurations=arguments.n_hessian,
        hessian_order=arguments.hessian_order,
        max_populations=arguments.max_populations,
    )
    rows, results = [], []
    for grid in arguments.grids:
        dims = tuple(int(part) for part in grid.split("x"))
        rows.append(run(dims, arguments.folder, arguments.workers, settings))
        results.append(load_result(arguments.folder / grid))
        print(json.dumps(rows[-1], indent=1))
    change = compare_grids(results[0], results[1]) if len(results) > 1 else None
    text = table(rows, change) + (f"\n{arguments.note}\n" if arguments.note else "")
    print(text)
    print(f"peak memory of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
    if not arguments.no_write:
        data = {
            "note": arguments.note,
            "grids": rows,
            "difference": None if change is None else change.as_dict(),
        }
        write_json(RESULTS / "sscha_end_to_end.json", data, overwrite=True)
        with atomic_write(RESULTS / "sscha_end_to_end.md", overwrite=True) as stream:
            stream.write(text)


if __name__ == "__main__":
    main()
