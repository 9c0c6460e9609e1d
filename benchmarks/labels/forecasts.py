"""What labels were expected to cost, before and after the first scf run, and what they took.

::

    python -m benchmarks.labels.forecasts write FOLDER     crystals and run files of the trials
    himlip run FOLDER/Al.yaml --folder FOLDER/Al-run --until labels
    python -m benchmarks.labels.forecasts table Al=FOLDER/Al-run AlH=FOLDER/AlH-run

Both take pseudopotentials that Debian ships, Al.pz-vbc.UPF and H.pz-vbc.UPF, alone in a folder that
``ESPRESSO_PSEUDO`` names. AlH in the structure of NaCl is no real crystal: it is cheap.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml
from ase.build import bulk

from himlip_ase.files import atomic_write

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


def table(runs: dict[str, Path]) -> str:
    """The page."""
    rows, details = [], []
    for name, folder in runs.items():
        told = json.loads((folder / "state" / "labels" / "forecast.json").read_text())
        before, after, took = (60 * told[key] for key in ("before", "after_first_scf", "took"))
        config = yaml.safe_load((folder / "config.yaml").read_text())
        sets = f"{config['qe']['ecutwfc_ry']:g} Ry, {'×'.join(map(str, config['qe']['k_grid']))} k"
        rows.append(
            f"| {name} | {sets} | {before:.2f} | {after:.2f} | {took:.2f} | {before / took:.2f} | "
            f"{after / took:.2f} |"
        )
        spent = ", ".join(f"{task} {60 * hours:.2f}" for task, hours in told["spent"].items())
        details.append(f"- {name}: {spent}")
    return "\n".join(
        [
            "# Forecasts of labels beside what they took",
            "",
            "`python -m benchmarks.labels.forecasts`; CPU core-minutes that pw.x and ph.x printed, one core",
            'of a busy machine, no relaxation before. "After the first scf": once scf_dense had run.',
            "",
            "| crystal | settings | before | after the first scf | taken | before / taken | after / taken |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            "What was taken, core-minutes:",
            "",
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
