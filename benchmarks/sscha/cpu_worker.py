"""One build's side of `benchmarks/sscha/cpu_seconds.py`: CPU seconds of a population or a Hessian.

Runs with the build that PYTHONPATH names, uses what every build since 06090d2 has, prints one line of JSON.
By hand: `python -m benchmarks.sscha.cpu_worker hessian DYN ENSEMBLE`.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from himlip_ase.phonons.qe import read_dyn
from himlip_ase.sscha import run_sscha
from himlip_ase.sscha.curvature.hessian import estimate_hessian
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.ensembles.workers import potential_forces
from himlip_ase.sscha.settings import SschaSettings
from himlip_ase.sscha.symmetry import SpaceGroup


class Timed:
    """A force callable that counts its images and CPU seconds, and those of its single precision."""

    def __init__(self, forces: Any, total: list[float]) -> None:
        self.forces, self.total = forces, total
        if hasattr(forces, "single"):
            self.single = Timed(forces.single, total)

    def __call__(self, images: list, /) -> Any:
        start = time.process_time()
        found = self.forces(images)
        self.total[0] += time.process_time() - start
        self.total[1] += len(images)
        return found


def population(start: Path, model: str, n: int) -> dict[str, float]:
    """One population from given dynamical matrices: draw, forces, minimiser, files."""
    settings = SschaSettings(n_configurations=n, max_populations=1, n_hessian_configurations=0)
    total = [0.0, 0.0]
    with tempfile.TemporaryDirectory() as folder, potential_forces(model) as forces:
        dynamical = read_dyn(start)
        begun = time.process_time()
        for each in (forces, getattr(forces, "single", forces)):  # what is compiled is loaded
            each([HarmonicDistribution(dynamical).supercell])
        once = time.process_time() - begun
        begun = time.process_time()
        result = run_sscha(dynamical, Timed(forces, total), settings, Path(folder) / "run")
        seconds = time.process_time() - begun
    rounding = getattr(result.populations[0], "rounding", None)
    return {"once": once, "seconds": seconds, "forces": total[0], "calls": total[1], "rounding": rounding}


def hessian(auxiliary: Path, ensemble: Path) -> dict[str, float]:
    """Third and fourth order with error bars, of a stored ensemble."""
    distribution = HarmonicDistribution(read_dyn(auxiliary), 0.0)
    arrays = np.load(ensemble)
    fields = {field.name for field in dataclasses.fields(Ensemble)}
    values: dict[str, Any] = {
        name: arrays[name] if arrays[name].ndim else float(arrays[name]) for name in fields & set(arrays)
    }
    if "drawn_from" in fields:  # earlier builds did not keep it
        values["drawn_from"] = distribution
    drawn = Ensemble(**values)
    group = SpaceGroup(distribution.dynamical)
    begun = time.process_time()
    found = estimate_hessian(distribution, drawn, None, group, 20, fourth=True)
    seconds = time.process_time() - begun
    return {
        "seconds": seconds,
        "configurations": len(drawn),
        "positive": found.positive,
        "frequencies": found.hessian.frequencies().ravel().tolist(),
        "sigma": found.sigma_cm.ravel().tolist(),
    }


def main() -> None:
    """``population DYN MODEL N`` or ``hessian DYN ENSEMBLE``."""
    torch.set_num_threads(1)
    what, *given = sys.argv[1:]
    if what == "population":
        found = population(Path(given[0]), given[1], int(given[2]))
    elif what == "hessian":
        found = hessian(Path(given[0]), Path(given[1]))
    else:
        raise SystemExit(f"population or hessian, not {what!r}")
    found["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps(found))


if __name__ == "__main__":
    main()
