"""Labels from first principles: single points, relaxation, harmonic matrices, each run once and not trusted.

An engine (`himlip_ase.dft.engines`) says how: Quantum ESPRESSO, or any ASE calculator. An executor
(`himlip_ase.dft.executors`) says where: this machine, a Dask cluster, SLURM. No run that did not finish and
converge becomes a label, every long one continues where it was stopped, and `collect` publishes finished
runs as a folder of labels with their provenance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from himlip_ase.dft.ase_calculator.engine import AseCalculator
    from himlip_ase.dft.engine import Abilities, Engine
    from himlip_ase.dft.engines import ENGINES
    from himlip_ase.dft.espresso.engine import Espresso
    from himlip_ase.dft.espresso.inputs import QESettings
    from himlip_ase.dft.espresso.runner import Launcher
    from himlip_ase.dft.executors import EXECUTORS, Dask, Local, Slurm
    from himlip_ase.dft.finished_runs import FinishedRun, RelaxResult
    from himlip_ase.dft.jobs import Job
    from himlip_ase.dft.publish import collect
    from himlip_ase.dft.single_points import run_jobs

_HOMES = {
    "Abilities": "engine",
    "AseCalculator": "ase_calculator.engine",
    "Dask": "executors",
    "ENGINES": "engines",
    "EXECUTORS": "executors",
    "Engine": "engine",
    "Espresso": "espresso.engine",
    "FinishedRun": "finished_runs",
    "Job": "jobs",
    "Launcher": "espresso.runner",
    "Local": "executors",
    "QESettings": "espresso.inputs",
    "RelaxResult": "finished_runs",
    "Slurm": "executors",
    "collect": "publish",
    "run_jobs": "single_points",
}
__all__ = [
    "Abilities",
    "AseCalculator",
    "Dask",
    "ENGINES",
    "EXECUTORS",
    "Engine",
    "Espresso",
    "FinishedRun",
    "Job",
    "Launcher",
    "Local",
    "QESettings",
    "RelaxResult",
    "Slurm",
    "collect",
    "run_jobs",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
