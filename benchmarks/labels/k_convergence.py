"""Are the DFT labels of the hydrides converged in k? Phonons, double well and forces by mesh and smearing.

    python -m benchmarks.labels.k_convergence cost --scratch FOLDER     # what is left, in core-minutes
    python -m benchmarks.labels.k_convergence run --scratch FOLDER      # resumable; wants ESPRESSO_PSEUDO
    python -m benchmarks.labels.k_convergence collect --scratch FOLDER  # benchmarks/results/k_convergence.*

`run` takes the names of `STUDY`, or those in a file (``--queue FILE``, one a line, read again after each
calculation; see `k_calculations` for what a name says). One process on one core at a time.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import re
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from ase.dft.dos import linear_tetrahedron_integration
from ase.io import read

from benchmarks.labels.bare_susceptibility import fermi_level, on_whole_mesh, susceptibility
from benchmarks.labels.k_calculations import CRYSTALS, FROZEN, LABELS, QPOINTS, Calculation
from benchmarks.labels.k_report import draw, write_table
from himlip_ase.dft.espresso.runner import Launcher
from himlip_ase.errors import CalculationError, InputError
from himlip_ase.files import write_json
from himlip_ase.superconductivity.electron_bands import read_a2fsave
from himlip_ase.units import RY_EV, signed_frequencies_cm

RESULTS = Path(__file__).parents[1] / "results" / "k_convergence"
MESHES = (12, 18, 24, 36, 48)
BROADENINGS = (0.005, 0.01, 0.02, 0.03, 0.05)
"""Ry."""
ELECTRONS = {"h3s": 9, "pdh": 19, "cah6": 16}
STUDY = """
h3s-third_irr1to3-mp0.02-k12
h3s-third_irr1to3-mp0.02-k12-e40
h3s-frozen_third-mp0.02-k12
h3s-frozen_third-mp0.05-k12
h3s-frozen_third_wide-mp0.02-k12
h3s-third_irr1to3-mp0.05-k12
h3s-third_irr1to3-mp0.05-k12s
h3s-third_irr1to3-mp0.05-k18s
h3s-third_irr1to3-mp0.02-k12s
h3s-bands-mp0.02-k36
h3s-gamma-mp0.02-k12
h3s-well0-mp0.05-k12
h3s-well3-mp0.05-k12
h3s-well0-mp0.05-k18
h3s-well3-mp0.05-k18
""".split()
"""What the committed results hold, in the order in which it tells most for its price. Next would be
``h3s-frozen_third-mp0.02-k18``, ``-mp0.05-k24`` and the forces ``h3s-force4_0-mp0.02-k18``."""
SECONDS_AT_12 = {
    "gamma": 80,
    "third": 650,
    "third_irr": 210,
    "frozen_third": 120,
    "frozen_third_wide": 120,
    "well": 8,
    "force": 40,
    "bands": 6,
}
"""Core-seconds on 12×12×12 k, measured for H3S."""
SMEARINGS = tuple((kind, width) for kind in ("mp", "mv", "gauss") for width in (0.02, 0.03, 0.05))
ASKED = (
    "crystal", "quantity", "cell", "electrons", "q", "smearing", "width_ry", "k", "shifted", "bands",
    "cutoff_ry",
)  # fmt: skip
"""What tells one row of a table from another; all else is its result."""
log = logging.getLogger(__name__)


def run(names: Callable[[], Sequence[str]], scratch: Path, launcher: Launcher) -> None:
    """Run what is not done yet, in the order of `names` (asked again after each)."""
    results = scratch / "results"
    results.mkdir(parents=True, exist_ok=True)
    failed: set[str] = set()
    while left := [n for n in names() if n not in failed and not (results / f"{n}.json").is_file()]:
        name = left[0]
        log.info("%s (%d left)", name, len(left))
        try:
            result = Calculation.named(name).run(scratch, launcher)
        except (CalculationError, InputError) as error:
            log.error("%s: %s", name, error)
            failed.add(name)
            continue
        write_json(results / f"{name}.json", result, overwrite=True)
        log.info("%s: %.0f core-seconds", name, result["core_seconds"])


def collect(scratch: Path) -> dict[str, Any]:
    """All results as one dictionary of tables."""
    found = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((scratch / "results").glob("*.json"))
    }
    tables: dict[str, Any] = {"phonons": [], "wells": [], "forces": [], "susceptibility": []}
    tables["fermi_density"] = []
    for name, result in found.items():
        calculation = Calculation.named(name)
        row = {
            "crystal": calculation.crystal,
            "smearing": calculation.smearing,
            "width_ry": calculation.width_ry,
            "k": calculation.k,
            "cutoff_ry": calculation.cutoff_ry,
            **({"shifted": True} if calculation.shifted else {}),
            "core_seconds": round(result["core_seconds"], 1),
        }
        if "frequencies_cm" in result:
            cost = result["core_seconds"] + result["scf_core_seconds"]
            tables["phonons"].append(
                row
                | {"quantity": calculation.quantity, "core_seconds": round(cost, 1)}
                | {"frequencies_cm": result["frequencies_cm"]}
            )
        elif calculation.quantity.startswith("frozen"):
            frequency = frozen_frequency(calculation, result)
            tables["phonons"].append(
                row | {"quantity": calculation.quantity, "frequencies_cm": [round(frequency, 1)]}
            )
    tables["wells"] = wells(found)
    tables["forces"] = forces(found)
    bands = bands_of(scratch, found)
    tables["susceptibility"] = susceptibilities(bands)
    tables["fermi_density"] = fermi_densities(bands)
    return tables


def with_earlier(tables: dict[str, Any], path: Path) -> dict[str, Any]:
    """The rows of an earlier file, which stay as they are, and what the tables have beside them."""
    if not path.is_file():
        return tables
    earlier = json.loads(path.read_text(encoding="utf-8"))

    def asked(row: dict[str, Any]) -> str:
        return json.dumps([row.get(key) for key in ASKED])

    found = {}
    for name, rows in tables.items():
        known = {asked(row) for row in earlier[name]}
        found[name] = [*earlier[name], *(row for row in rows if asked(row) not in known)]
    return found


def frozen_frequency(calculation: Calculation, result: dict[str, Any]) -> float:
    """−u·F/(u·Mu) along the frozen wave as a frequency, cm⁻¹, imaginary negative."""
    frame = read(FROZEN / f"{calculation.crystal}_{calculation.quantity}.extxyz")
    moved, masses = frame.arrays["displacements"], frame.get_masses()[:, None]
    squared = -(moved * np.array(result["forces_ev_per_angstrom"])).sum() / (masses * moved**2).sum()
    return float(signed_frequencies_cm(np.array(squared)))


def wells(found: dict[str, Any]) -> list[dict[str, Any]]:
    """E(u) − E(0) of the double well by smearing and mesh; those of the labels beside the new ones."""
    energies: dict[tuple[str, float, int], dict[float, float]] = {}
    seconds: dict[tuple[str, float, int], float] = {}
    frames = read(LABELS / "doublewell.extxyz", index=":")
    amplitudes = [float(np.linalg.norm(frame.positions - frames[0].positions)) for frame in frames]
    for name, result in found.items():
        calculation = Calculation.named(name)
        if match := re.fullmatch(r"well(\d)", calculation.quantity):
            key = (calculation.smearing, calculation.width_ry, calculation.k)
            energies.setdefault(key, {})[amplitudes[int(match[1])]] = result["energy_ev"]
            seconds[key] = seconds.get(key, 0.0) + result["core_seconds"]
    for mesh, name in ((12, "doublewell"), (18, "doublewell_k18"), (24, "doublewell_k24")):
        for frame in read(LABELS / f"{name}.extxyz", index=":"):
            amplitude = float(np.linalg.norm(frame.positions - frames[0].positions))
            energies.setdefault(("mp", 0.02, mesh), {})[amplitude] = float(frame.info["REF_energy"])
            seconds[("mp", 0.02, mesh)] = seconds.get(("mp", 0.02, mesh), 0.0) + float(
                frame.info["core_seconds"]
            )
    return [
        {
            "smearing": key[0],
            "width_ry": key[1],
            "k": key[2],
            "energy_at_rest_ev": round(values[0.0], 6),
            "depth_mev": {
                f"{u:.3f}": round(1000 * (energy - values[0.0]), 2)
                for u, energy in sorted(values.items())
                if u
            },
            "core_seconds": round(seconds[key], 1),
        }
        for key, values in sorted(energies.items())
        if 0.0 in values
    ]


def forces(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Forces of disordered cells by pairs of meshes and smearings: rms of all components, and by element."""
    known: dict[str, dict[tuple[str, float, int], tuple[np.ndarray, float, float]]] = {}
    symbols: dict[str, list[str]] = {}
    for name, result in found.items():
        calculation = Calculation.named(name)
        if match := re.fullmatch(r"force(\d+)_(\d)", calculation.quantity):
            cell = f"quantum{match[1]} {match[2]}"
            label = read(LABELS / f"quantum{match[1]}.extxyz", index=int(match[2]))
            symbols[cell] = label.get_chemical_symbols()
            entries = known.setdefault(cell, {})
            entries[("mp", 0.02, 12)] = (
                label.arrays["REF_forces"],
                float(label.info["REF_energy"]),
                float(label.info["core_seconds"]),
            )
            entries[(calculation.smearing, calculation.width_ry, calculation.k)] = (
                np.array(result["forces_ev_per_angstrom"]),
                result["energy_ev"],
                result["core_seconds"],
            )
    rows = []
    for cell, entries in known.items():
        for first, second in combinations(sorted(entries), 2):
            change = entries[second][0] - entries[first][0]
            elements = np.array(symbols[cell])
            rows.append(
                {
                    "cell": cell,
                    "electrons": [
                        {"smearing": smearing, "width_ry": width, "k": k}
                        for smearing, width, k in (first, second)
                    ],
                    "forces_rms_ev_per_angstrom": round(float(np.sqrt(np.mean(entries[second][0] ** 2))), 3),
                    "change_rms_mev_per_angstrom": round(1000 * float(np.sqrt(np.mean(change**2))), 1),
                    "by_element": {
                        str(e): round(1000 * float(np.sqrt(np.mean(change[elements == e] ** 2))), 1)
                        for e in np.unique(elements)
                    },
                    "energy_mev_per_atom": round(
                        1000 * (entries[second][1] - entries[first][1]) / len(elements), 2
                    ),
                    "core_seconds": [round(entries[first][2], 1), round(entries[second][2], 1)],
                }
            )
    return rows


Bands = tuple[str, int, np.ndarray]
"""Crystal, mesh, and energies on it (mesh, mesh, mesh, bands), eV."""


def bands_of(scratch: Path, found: dict[str, Any]) -> list[Bands]:
    """Bands of the study on their whole meshes; H3S at 24³ from the bands of the labels."""
    meshes = [("h3s", *labels_bands())]
    for name in found:
        calculation = Calculation.named(name)
        if calculation.quantity == "bands":
            data = np.load(scratch / "results" / f"{name}.npz")
            meshes.append((calculation.crystal, calculation.k, data["kpoints"], data["energies_ev"]))
    return [
        (crystal, dense, on_whole_mesh(kpoints, energies, dense, CRYSTALS[crystal]()))
        for crystal, dense, kpoints, energies in sorted(meshes, key=lambda entry: entry[:2])
    ]


def fermi_densities(bands: Sequence[Bands]) -> list[dict[str, Any]]:
    """N(E_F), both spins, by mesh: Gaussians as ph.x takes them; width None: linear tetrahedra (ASE)."""
    rows = []
    for crystal, dense, whole in bands:
        for mesh in (k for k in MESHES if dense % k == 0):
            part = np.ascontiguousarray(whole[:: dense // mesh, :: dense // mesh, :: dense // mesh])
            row = {"crystal": crystal, "k": mesh, "bands": dense}
            level = 0.0
            for width in reversed(BROADENINGS):  # the level of the narrowest serves the tetrahedra
                level = fermi_level(part, ELECTRONS[crystal], "gauss", width)
                x = (level - part) / (width * RY_EV)
                value = 2 * np.exp(-(x**2)).sum() / (np.sqrt(np.pi) * width * RY_EV * mesh**3)
                rows.append(row | {"width_ry": width, "per_ev": round(float(value), 4)})
            cell = CRYSTALS[crystal]().cell
            value = 2 * linear_tetrahedron_integration(cell, part, np.array([level]))[0]
            rows.append(row | {"width_ry": None, "per_ev": round(float(value), 4)})
    return rows


def susceptibilities(bands: Sequence[Bands]) -> list[dict[str, Any]]:
    """χ(q) on every mesh that a mesh of bands contains."""
    rows: dict[tuple, dict[str, Any]] = {}
    for crystal, dense, whole in bands:
        for mesh in (k for k in MESHES if dense % k == 0):
            part = whole[:: dense // mesh, :: dense // mesh, :: dense // mesh]
            for smearing, width in SMEARINGS:
                for point, q in QPOINTS.items():
                    if point != "third" and smearing != "mp":
                        continue
                    value = susceptibility(part, q, ELECTRONS[crystal], smearing, width)
                    rows[crystal, point, smearing, width, mesh] = {
                        "crystal": crystal,
                        "q": point,
                        "smearing": smearing,
                        "width_ry": width,
                        "k": mesh,
                        "per_ev": round(value, 5),
                    }
    return [rows[key] for key in sorted(rows)]


def labels_bands() -> tuple[int, np.ndarray, np.ndarray]:
    """Mesh, k-points (fractional) and energies (eV) of the bands beside the labels of H3S."""
    path = LABELS / "harmonic444" / "a2Fsave.gz"
    bands = read_a2fsave(path)
    points, count = bands.energies_ev.shape
    words = gzip.decompress(path.read_bytes()).split()[2 + points * count :][: 3 * points]
    cell = CRYSTALS["h3s"]().cell.array
    cartesian = np.array(words, dtype=float).reshape(points, 3) / np.linalg.norm(cell[0])
    return bands.k_grid[0], cartesian @ cell.T, bands.energies_ev


def core_minutes(names: Sequence[str], scratch: Path) -> float:
    """Estimate for what is left: k-points count, nothing else."""
    total = 0.0
    for name in names:
        if (scratch / "results" / f"{name}.json").is_file():
            continue
        calculation = Calculation.named(name)
        kind = re.sub(r"\d.*", "", calculation.quantity)
        total += SECONDS_AT_12[kind] * (calculation.k / 12) ** 3
    return total / 60


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("cost", "run", "collect"))
    parser.add_argument(
        "--scratch", type=Path, required=True, help="folder of the runs, outside the repository"
    )
    parser.add_argument("--queue", type=Path, help="file of names instead of the study's own")
    parser.add_argument("--prefix", default="nice -n 19", help="in front of pw.x and ph.x")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

    def names() -> list[str]:
        return STUDY if arguments.queue is None else arguments.queue.read_text().split()

    if arguments.what == "run":
        run(names, arguments.scratch, Launcher(arguments.prefix))
    elif arguments.what == "cost":
        left = core_minutes(names(), arguments.scratch)
        print(f"about {left:.0f} core-minutes are left (an idle core of 2026; H3S, others two to five times)")
    elif arguments.what == "collect":
        tables = with_earlier(collect(arguments.scratch), arguments.out.with_suffix(".json"))
        write_json(arguments.out.with_suffix(".json"), tables, overwrite=True)
        write_table(tables, arguments.out.with_suffix(".md"))
        draw(tables, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
