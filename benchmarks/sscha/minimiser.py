"""Time of one SSCHA minimiser step: native, python-sscha and phonopy's MLPSSCHA side by side.

H3S (Im-3m, 3.065 Å) held by bonds with cubic and quartic terms, 500 configurations at 0 K, one thread. All
three see the same crystal and force constants; native and python-sscha see the same ensemble.

    python -m benchmarks.sscha.minimiser            # 32 and 256 atoms, about a minute
    python -m benchmarks.sscha.minimiser --dims 2   # 32 atoms only

A step is one evaluation of weights, free energy, gradients and errors at new force constants, and the move
to the next. An iteration of MLPSSCHA is something else, a whole new ensemble fitted from scratch: what is
timed of it is drawing 500 supercells and fitting force constants, its forces not counted; it stands for a
population, not for a step. python-sscha and phonopy are left out where they are not installed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

from himlip_ase.phonons.force_constants import DynamicalMatrices, ForceConstants
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.partial_ensemble import draw_ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.minimisation.engine import Minimisation, MinimisationProblem
from himlip_ase.sscha.minimisation.engines import engine
from himlip_ase.sscha.run.initial import positive_definite_start
from himlip_ase.sscha.settings import SschaSettings
from himlip_ase.sscha.symmetry import SpaceGroup

LATTICE_ANGSTROM = 3.06484
CONFIGURATIONS = 500
SHELLS = {1.532: (9.0, -30.0, 150.0), 2.167: (2.5, -6.0, 30.0), 2.654: (1.5, 0.0, 0.0)}
"""Bond length (Å) to k, c, d of k/2 x² + c/6 x³ + d/24 x⁴ (eV, Å)."""

RESULTS = Path(__file__).parents[1] / "results" / "sscha_minimiser.json"
WANTED = {32: 20, 256: 100}


def primitive_cell() -> Atoms:
    cell = LATTICE_ANGSTROM / 2 * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    places = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Atoms("SH3", cell=cell, scaled_positions=places, pbc=True)


class Bonds:
    """Energies and forces of anharmonic bonds of a crystal whose topology never changes."""

    def __init__(self, dims: tuple[int, int, int]) -> None:
        self.dims, self.ideal = dims, primitive_cell().repeat(dims)
        reach = max(SHELLS) + 0.1
        first, second, vectors, lengths = neighbor_list("ijDd", self.ideal, reach)
        lengths_known = np.array(list(SHELLS))
        shell = np.abs(lengths[:, None] - lengths_known).argmin(axis=1)
        once = first < second
        if dims == (1, 1, 1) or not once.any():
            raise ValueError("the supercell is too small for these bonds")
        self.first, self.second, self.vectors = first[once], second[once], vectors[once]
        self.rest = lengths[once]
        self.k, self.c, self.d = np.array(list(SHELLS.values()))[shell[once]].T

    def __call__(self, images: list[Atoms]) -> Any:
        moved = np.array([image.positions - self.ideal.positions for image in images])
        energies, forces = [], []
        for chunk in np.array_split(moved, max(1, len(moved) // 20)):
            bonds = self.vectors + chunk[:, self.second] - chunk[:, self.first]
            lengths = np.linalg.norm(bonds, axis=2)
            x = lengths - self.rest
            energies.append((self.k * x**2 / 2 + self.c * x**3 / 6 + self.d * x**4 / 24).sum(axis=1))
            pull = ((self.k * x + self.c * x**2 / 2 + self.d * x**3 / 6) / lengths)[:, :, None] * bonds
            force = np.zeros_like(chunk)
            for place, sign in ((self.first, 1), (self.second, -1)):
                np.add.at(force, (slice(None), place), sign * pull)
            forces.append(force)
        return _Evaluation(np.concatenate(energies), np.concatenate(forces))

    def harmonic(self) -> DynamicalMatrices:
        """Φ(q) from differences of the forces on the primitive cell's atoms displaced."""
        primitive, step = primitive_cell(), 1e-4
        n = len(primitive)
        images = []
        for atom in range(n):
            for axis in range(3):
                for sign in (1, -1):
                    image = self.ideal.copy()
                    image.positions[atom, axis] += sign * step
                    images.append(image)
        forces = self(images).forces.reshape(n, 3, 2, -1, 3)
        rows = -(forces[:, :, 0] - forces[:, :, 1]) / (2 * step)  # (n, 3, N, 3), first atom in cell 0
        cells = int(np.prod(self.dims))
        compact = rows.transpose(0, 2, 1, 3).reshape(n, cells, n, 3, 3)
        ordered = compact.reshape(n, *self.dims, n, 3, 3).transpose(0, 4, 3, 2, 1, 5, 6)
        return ForceConstants(primitive, self.dims, ordered.reshape(n, n * cells, 3, 3)).dynamical_matrices()


class _Evaluation:
    stresses = None

    def __init__(self, energies: np.ndarray, forces: np.ndarray) -> None:
        self.energies, self.forces = energies, forces


class Clock:
    """Time between the steps of a minimisation."""

    def __init__(self) -> None:
        self.stamps = [time.perf_counter()]

    def __call__(self, step: int) -> None:
        self.stamps.append(time.perf_counter())

    def step(self) -> float:
        """Median seconds of a step, what came before the first left out."""
        return float(np.median(np.diff(self.stamps[1:])))


def minimise(
    name: str,
    minimiser: str,
    start: HarmonicDistribution,
    ensemble: Ensemble,
    group: SpaceGroup,
    settings: SschaSettings,
) -> tuple[Minimisation, float, Clock]:
    """The result, seconds altogether, and the clock."""
    clock = Clock()
    begin = time.perf_counter()
    problem = MinimisationProblem(ensemble, group, settings, move_centroids=False)
    found = engine(name, minimiser).minimise(problem, clock)
    return found, time.perf_counter() - begin, clock


def phonopy_iteration(start: DynamicalMatrices, bonds: Bonds) -> float:
    """Seconds of one MLPSSCHA iteration without its forces."""
    from phonopy import Phonopy
    from phonopy.sscha.core import MLPSSCHA
    from phonopy.structure.atoms import PhonopyAtoms

    primitive = start.primitive
    unitcell = PhonopyAtoms(
        symbols=primitive.get_chemical_symbols(), cell=primitive.cell.array, positions=primitive.positions
    )
    phonopy = Phonopy(unitcell, np.diag(start.dims), primitive_matrix="P", log_level=0)
    phonopy.force_constants = start.force_constants().compact
    forces = ForcesForPhonopy(bonds, np.asarray(phonopy.supercell.positions))
    run = MLPSSCHA(
        phonopy,
        mlp=forces,  # type: ignore[arg-type]
        temperature=10.0,  # its occupation numbers overflow at 0 K; 10 K is the ground state here
        number_of_snapshots=CONFIGURATIONS,
        max_iterations=1,
        mesh=start.dims,
        random_seed=1,
    )
    forces.seconds = 0.0
    begin = time.perf_counter()
    run.run()
    return time.perf_counter() - begin - forces.seconds


class ForcesForPhonopy:
    """The bonds under the interface of phonopy's machine-learning potentials, with its order of atoms."""

    def __init__(self, bonds: Bonds, positions: np.ndarray) -> None:
        ideal = bonds.ideal
        gaps = (positions[:, None] - ideal.positions[None]) @ np.linalg.inv(ideal.cell.array)
        gaps = np.linalg.norm((gaps - np.rint(gaps)) @ ideal.cell.array, axis=2)
        self.bonds, self.order, self.positions, self.seconds = bonds, gaps.argmin(axis=1), positions, 0.0

    def evaluate(self, supercells: list[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        begin = time.perf_counter()
        images = []
        for supercell in supercells:
            image = self.bonds.ideal.copy()
            image.positions[self.order] += np.asarray(supercell.positions) - self.positions
            images.append(image)
        found = self.bonds(images)
        self.seconds += time.perf_counter() - begin
        return found.energies, found.forces[:, self.order], np.zeros((len(images), 6))


def attempt(what: Callable[[], Any]) -> Any:
    """The value, or None where a peer is not installed."""
    from himlip_ase.errors import InputError

    try:
        return what()
    except (ImportError, InputError) as error:
        print(f"left out: {error}")
        return None


def measure(dims: tuple[int, int, int], peer_steps: int) -> dict[str, Any]:
    """All rows for one supercell."""
    bonds = Bonds(dims)
    matrices, _ = positive_definite_start(bonds.harmonic())
    start, group = HarmonicDistribution(matrices), SpaceGroup(matrices)
    ensemble = draw_ensemble(start, CONFIGURATIONS, np.random.SeedSequence(0), bonds)
    population = SschaSettings(n_configurations=CONFIGURATIONS, n_hessian_configurations=0)
    timing = SschaSettings(
        n_configurations=CONFIGURATIONS,
        n_hessian_configurations=0,
        kong_liu=1e-6,
        meaningful_factor=1e-9,
        max_steps=30,
    )
    few = SschaSettings(
        n_configurations=CONFIGURATIONS, n_hessian_configurations=0, kong_liu=1e-6, max_steps=peer_steps
    )
    rows: list[dict[str, Any]] = []
    for minimiser in ("anderson", "descent", "root-descent"):
        _, _, clock = minimise("native", minimiser, start, ensemble, group, timing)
        found, seconds, made = minimise("native", minimiser, start, ensemble, group, population)
        rows.append(_row(f"native, {minimiser}", clock.step(), found, seconds, len(made.stamps) - 1))
    whole = population if peer_steps > 100 else few
    peer = attempt(lambda: minimise("python-sscha", "anderson", start, ensemble, group, whole))
    if peer is not None:
        found, seconds, clock = peer
        row = _row(engine("python-sscha").name, clock.step(), found, seconds, len(clock.stamps) - 1)
        if whole is few:
            row |= {"population_s": None, "steps": None, "ended": "stopped by hand", "free_energy_mev": None}
        rows.append(row)
    seconds = attempt(lambda: phonopy_iteration(matrices, bonds))
    if seconds is not None:
        from phonopy import __version__

        rows.append({"code": f"phonopy {__version__} MLPSSCHA, one iteration", "population_s": seconds})
    return {"atoms": len(bonds.ideal), "dims": dims, "rows": rows}


def _row(code: str, step: float, found: Minimisation, seconds: float, steps: int) -> dict[str, Any]:
    return {
        "code": code,
        "step_ms": 1e3 * step,
        "population_s": seconds,
        "steps": steps,
        "ended": found.ended,
        "free_energy_mev": 1e3 * float(found.free_energy[-1]),
    }


def table(results: list[dict[str, Any]]) -> str:
    """Markdown, with the ratio of the peer's step to the native one."""
    lines = [
        "# Time of an SSCHA minimiser step",
        "",
        "`python -m benchmarks.sscha.minimiser`: H3S with anharmonic bonds, 500 configurations, 0 K, one",
        "thread. A step is one evaluation of weights, free energy, gradients and errors, and the move to the",
        "next; a population is all that is done with one ensemble, forces not counted, until its gradient",
        "vanishes or it is used up. An iteration of MLPSSCHA draws and fits a whole ensemble: it stands",
        "beside a population.",
        "",
        "| atoms | code | step (ms) | python-sscha's step over it | steps | population (s) | ended by |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        steps = [row["step_ms"] for row in result["rows"] if row["code"].startswith("python-sscha")]
        for row in result["rows"]:
            step = row.get("step_ms")
            ratio = f"{steps[0] / step:.0f}" if steps and step else ""
            cells = [
                str(result["atoms"]),
                row["code"],
                "" if step is None else f"{step:.3g}",
                ratio,
                str(row.get("steps") or ""),
                "" if row["population_s"] is None else f"{row['population_s']:.3g}",
                row.get("ended", ""),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    wanted = ", ".join(f"≥ {ratio} at {atoms} atoms" for atoms, ratio in WANTED.items())
    return "\n".join([*lines, "", f"Wanted: {wanted}.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dims", type=int, nargs="+", default=[2, 4], help="n for n×n×n supercells")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    results = [measure((n, n, n), peer_steps=500 if n < 3 else 2) for n in arguments.dims]
    text = table(results)
    print(text)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "schema": 1,
        "what": "wall time of an SSCHA minimiser step, one thread, 500 configurations",
        "machine": {
            "processor": platform.machine(),
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        "results": results,
    }
    arguments.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    arguments.out.with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
