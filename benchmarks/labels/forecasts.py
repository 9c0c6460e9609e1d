"""What labels were expected to cost, before and after the first scf run, and what they took.

::

    python -m benchmarks.labels.forecasts write FOLDER     crystals and run files of the trials
    himlip run FOLDER/Al.yaml --folder FOLDER/Al-run --until labels
    python -m benchmarks.labels.forecasts table Al=FOLDER/Al-run AlH=FOLDER/AlH-run PdH=PDH-RUN

``table`` makes the forecasts anew, by the code of today and the first scf run that the folder recorded, and
sets them beside what pw.x and ph.x printed there.

Both take pseudopotentials that Debian ships, Al.pz-vbc.UPF and H.pz-vbc.UPF, alone in a folder that
``ESPRESSO_PSEUDO`` names. AlH in the structure of NaCl is no real crystal: it is cheap.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml
from ase.build import bulk

from himlip_ase.dft.espresso.progress import core_seconds
from himlip_ase.files import atomic_write, read_yaml
from himlip_ase.labels.pw_output import read_pw_output
from himlip_ase.pipeline.config import build_config
from himlip_ase.pipeline.preflight import preflight

OUT = Path(__file__).resolve().parents[1] / "results" / "forecasts.md"
RUNS = {
    "Al": """\
name: Al
structure: Al.cif
q_grid: [2, 2, 2]
qe: {ecutwfc_ry: 16, k_grid: [8, 8, 8], degauss_ry: 0.05}
harmonic: {dense_k_grid: [16, 16, 16]}
labels:
  relax: false
  quantum: {quantum111: null, quantum211: {number: 3}, quantum221: {number: 2}}
  rattle: {rattle040: {number: 4}}
  validation: 2
""",
    "AlH": """\
name: AlH
structure: AlH.cif
q_grid: [2, 2, 2]
qe: {ecutwfc_ry: 20, k_grid: [6, 6, 6], degauss_ry: 0.04}
harmonic: {dense_k_grid: [12, 12, 12]}
labels:
  relax: false
  check_k: false
  quantum: {quantum111: {number: 2}, quantum211: null, quantum221: null}
  rattle: {rattle040: {number: 2, amplitude_angstrom: 0.1}}
  double_well: 3
  validation: 1
""",
}


def write(folder: Path) -> None:
    """Crystals and run files."""
    folder.mkdir(parents=True, exist_ok=True)
    bulk("Al", "fcc", a=4.05, cubic=True).write(folder / "Al.cif")
    bulk("AlH", "rocksalt", a=3.9).write(folder / "AlH.cif")
    for name, text in RUNS.items():
        with atomic_write(folder / f"{name}.yaml", overwrite=True) as stream:
            stream.write(text)


@dataclass(frozen=True)
class Forecast:
    """Core-hours by task: before, after the first scf run, and taken."""

    before: dict[str, float]
    after: dict[str, float]
    took: dict[str, float]


def forecast_again(folder: Path) -> Forecast:
    """What `himlip run` of today would say of a finished run, before it and after its first scf run."""
    config = build_config(read_yaml(folder / "config.yaml"), "config.yaml")
    with tempfile.TemporaryDirectory() as place:
        plan = preflight(config, Path(place) / "run", starts=False)
    assert plan is not None
    took = json.loads((folder / "state" / "labels" / "forecast.json").read_text())["spent"]
    tasks = {task.name: task for task in plan.tasks if task.name in took}
    before = {name: float(task.core_hours or 0.0) for name, task in tasks.items()}
    first = next(iter(took))
    runs = folder / "state" / "labels" / "runs"
    outputs = {"relax": "relax/00_scf/pw.out", "scf, dense k": "harmonic/scf_dense.out"}
    _, typical = core_seconds(read_pw_output(runs / outputs[first]))
    factor = typical / 3600 / (before[first] / tasks[first].jobs)
    after = {name: took[name] if name == first else factor * hours for name, hours in before.items()}
    return Forecast(before, after, {name: took[name] for name in before})


def table(runs: dict[str, Path]) -> str:
    """The page."""
    rows, details = [], []
    for name, folder in runs.items():
        found = forecast_again(folder)
        before, after, took = (60 * sum(part.values()) for part in (found.before, found.after, found.took))
        config = yaml.safe_load((folder / "config.yaml").read_text())
        sets = f"{config['qe']['ecutwfc_ry']:g} Ry, {'×'.join(map(str, config['qe']['k_grid']))} k"
        rows.append(
            f"| {name} | {sets} | {before:.2f} | {after:.2f} | {took:.2f} | {before / took:.2f} | "
            f"{after / took:.2f} |"
        )
        for task in found.took:
            three = [60 * part[task] for part in (found.before, found.after, found.took)]
            ratio = three[1] / three[2]
            details.append(f"| {name} | {task} | {' | '.join(f'{x:.2f}' for x in three)} | {ratio:.2f} |")
    return "\n".join(
        [
            "# Forecasts of labels beside what they took",
            "",
            "`python -m benchmarks.labels.forecasts`; CPU core-minutes that pw.x and ph.x printed, one core",
            "of a busy machine. Forecasts are those of the code of today. After the first scf: of the",
            "relaxation or, without one, of the dense mesh.",
            "",
            "| crystal | settings | before | after the first scf | taken | before / taken | after / taken |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            "By calculation, core-minutes:",
            "",
            "| crystal | calculation | before | after the first scf | taken | after / taken |",
            "|---|---|---|---|---|---|",
            *details,
            "",
        ]
    )


def main(words: list[str]) -> None:
    """Command line."""
    match words:
        case ["write", folder]:
            write(Path(folder))
        case ["table", *pairs] if pairs:
            runs = {name: Path(place) for name, _, place in (pair.partition("=") for pair in pairs)}
            text = table(runs)
            with atomic_write(OUT, overwrite=True) as stream:
                stream.write(text)
            print(text)
        case _:
            print(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
