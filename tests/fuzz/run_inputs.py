"""What a run is told and leaves: YAML, folders of labels, measured values, results."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from .kind import LABELS, ROOT, Kind, Named, copied_labels, current


def _config(named: Named, path: Path) -> Any:
    return named("pipeline.config.load_config")(path).resolved()


def _yaml(folder: Path) -> None:
    shutil.copy(ROOT / "examples" / "h3s" / "h3s.yaml", folder / "crystal.yaml")


def _measured(folder: Path) -> None:
    shutil.copy(ROOT / "examples" / "hydrides" / "measured.yaml", folder / "measured.yaml")
    (folder / "measured.csv").write_text("compound,tc_kelvin,source\nH3S,203,a paper\nD3S,150,another\n")


def _label_folder(folder: Path) -> None:
    for name in ("crystal.extxyz", "rattle013.extxyz", "rattle013.json", "pseudopotentials.json"):
        shutil.copy(LABELS / name, folder)
    copied_labels("harmonic/dyn*")(folder)
    shutil.copy(LABELS / "harmonic" / "provenance.json", folder)
    harmonic = folder / "harmonic"
    harmonic.mkdir()
    for path in (*folder.glob("dyn*"), folder / "provenance.json"):
        path.rename(harmonic / path.name)


def _results(folder: Path) -> None:
    run = current("pipeline.runfolder.RunFolder")(folder / "run")
    run.write_config({"name": "toy"})
    figure = current("pipeline.runfolder.Figure")
    record = current("pipeline.runfolder.StageRecord")
    run.write_record(record("phonons", "0" * 64, {}, {"rmse": figure(0.4, "cm-1", 0.1, "toy")}, [], 1.0, 1.0))
    run.write_results("toy", ["phonons"])


KINDS = (
    Kind("run YAML", _yaml, ("crystal.yaml",), lambda n, d: _config(n, d / "crystal.yaml")),
    Kind(
        "label folder",
        _label_folder,
        ("*.json", "harmonic/provenance.json"),
        lambda n, d: n("pipeline.labels.LabelFolder")(d).core_minutes(),
    ),
    Kind(
        "measured values",
        _measured,
        ("measured.yaml", "measured.csv"),
        lambda n, d: [
            n("pipeline.comparison.measured.read_measured")(d / f"measured.{end}") for end in ("yaml", "csv")
        ],
    ),
    Kind(
        "results.json of a run",
        _results,
        ("run/results.json",),
        lambda n, d: n("pipeline.runfolder.RunFolder").existing(d / "run").read_results(),
    ),
    Kind(
        "record of a stage",
        _results,
        ("run/state/phonons.json",),
        lambda n, d: n("pipeline.runfolder.RunFolder").existing(d / "run").read_record("phonons"),
    ),
)
