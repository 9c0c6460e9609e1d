"""Whether molecular dynamics conserves the energy in float32 as in float64.

Velocity Verlet on 32 atoms of H3S (2×2×2 Im-3m) from one set of velocities, with the network in either
precision. "Spread" is the standard deviation of the total energy about its straight line in time.

    python -m benchmarks.single_precision --out benchmarks/results/single_precision.json

What single precision would do if energies were added in it stands beside: the same energies, rounded.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from ase import units
from ase.md.velocitydistribution import Stationary
from ase.md.verlet import VelocityVerlet

from benchmarks.force_calls import structures
from himlip_ase import HiMLIPCalculator
from himlip_ase.files import write_json

TIMESTEP_FS = 0.05  # so short that Verlet itself keeps the energy to hundredths of a meV
TEMPERATURE_K = 600.0
PRECISIONS = ("float64", "float32")


def total_energies(model: str, dtype: str, steps: int, seed: int = 0) -> np.ndarray:
    """Potential and kinetic energies (steps, 2) of a trajectory, eV."""
    atoms = structures(1, seed)[0]
    atoms.calc = HiMLIPCalculator(model, "cpu", dtype=dtype)
    velocities = np.random.default_rng(seed).normal(size=(len(atoms), 3))
    velocities *= np.sqrt(units.kB * TEMPERATURE_K / atoms.get_masses())[:, None]
    atoms.set_velocities(velocities)
    Stationary(atoms)
    dynamics = VelocityVerlet(atoms, TIMESTEP_FS * units.fs)
    found = []
    for _ in range(steps):
        found.append((atoms.get_potential_energy(), atoms.get_kinetic_energy()))
        dynamics.run(1)
    return np.array(found)


def spread(total: np.ndarray) -> float:
    """Standard deviation about the straight line, eV."""
    time = np.arange(len(total))
    return float(np.std(total - np.polyval(np.polyfit(time, total - total[0], 1), time) - total[0]))


def measure(model: str, steps: int) -> dict[str, Any]:
    """Spreads of both precisions, their ratio, and that of rounded energies."""
    energies = {name: total_energies(model, name, steps) for name in PRECISIONS}
    rows = {name: {"spread_mev": 1000 * spread(e.sum(1))} for name, e in energies.items()}
    rounded = energies["float64"][:, 0].astype(np.float32).astype(float) + energies["float64"][:, 1]
    reference = rows["float64"]["spread_mev"]
    return {
        "model": model,
        "steps": steps,
        "timestep_fs": TIMESTEP_FS,
        "temperature_k": TEMPERATURE_K,
        "potential_energy_ev": float(energies["float64"][0, 0]),
        "kinetic_change_mev": 1000 * float(np.std(energies["float64"][:, 1])),
        "precisions": rows,
        "ratio": rows["float32"]["spread_mev"] / reference,
        "ratio_of_rounded_energies": 1000 * spread(rounded) / reference,
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="himlip-h3s-1")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = measure(arguments.model, arguments.steps)
    print(found)
    if arguments.out:
        write_json(arguments.out, found, overwrite=True)


if __name__ == "__main__":
    main()
