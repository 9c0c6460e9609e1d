"""The stages of a run, in order: one line for each; its module is imported when it runs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from himlip_ase.registry import Registry

if TYPE_CHECKING:
    from himlip_ase.pipeline.stages import Stage


@dataclass(frozen=True)
class StageEntry:
    """A stage by name.

    Attributes
    ----------
    name : str
        What a user types, and the folder ``state/<name>/``.
    summary : str
        What it does.
    load : callable () -> Stage
    """

    name: str
    summary: str
    load: Callable[[], Stage]


def _stage(module: str) -> Stage:
    return importlib.import_module(f"himlip_ase.pipeline.{module}").STAGE


STAGES: Registry[StageEntry] = Registry(
    "stage",
    StageEntry(
        "labels",
        "relaxes to the pressure; dynamical matrices on the q-grid, with ph.x also electron-phonon matrices; "
        "rattled cells, cells drawn from the zero-point distribution, double well, validation supercells",
        partial(_stage, "labels"),
    ),
    StageEntry(
        "finetune",
        "trains the potential on them, or fits its head in closed form, and once more without the Hessian "
        "for comparison",
        partial(_stage, "finetune"),
    ),
    StageEntry(
        "learn",
        "SSCHA configurations are labelled, judged and learnt until DFT agrees (where an engine is at hand)",
        partial(_stage, "learn"),
    ),
    StageEntry(
        "phonons",
        "harmonic phonons of DFT and potential, double well",
        partial(_stage, "phonons"),
    ),
    StageEntry(
        "sscha",
        "auxiliary phonons, free energy, free-energy Hessian",
        partial(_stage, "sscha"),
    ),
    StageEntry(
        "tc",
        "α²F, λ, Tc for harmonic and anharmonic phonons",
        partial(_stage, "tc"),
    ),
    StageEntry(
        "report",
        "pictures, `report.html`, `results.json`",
        partial(_stage, "report"),
    ),
)
