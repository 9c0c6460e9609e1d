"""Finished single points, read back from their folders."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from himlip_ase.dft.engine import FinishedRun
from himlip_ase.dft.espresso.inputs import PwInput, read_pw_input
from himlip_ase.dft.espresso.parse import PwOutput, check_same_crystal, read_pw_output
from himlip_ase.files import read_mapping


@dataclass(frozen=True)
class Run:
    """A finished single point: its folder, input, output, and what its runner noted (retries, origin)."""

    name: str
    folder: Path
    request: PwInput
    output: PwOutput
    notes: dict[str, Any]


def read_run(folder: str | os.PathLike, stem: str = "pw") -> Run:
    """Read ``<stem>.in`` and ``<stem>.out`` of a folder.

    Parameters
    ----------
    folder : path-like
    stem : str

    Returns
    -------
    Run

    Raises
    ------
    InputError
        The input is not readable.
    CalculationError
        The run is unfinished, unconverged, of another crystal, or used other pseudopotential files.
    """
    folder = Path(folder)
    request = read_pw_input(folder / f"{stem}.in")
    output = read_pw_output(folder / f"{stem}.out")
    check_same_crystal(request.atoms, output, str(folder / f"{stem}.out"))
    notes_file = folder / f"{stem}.json"
    notes = read_mapping(notes_file) if notes_file.is_file() else {}
    return Run(folder.name, folder, request, output, notes)


def finished_label(run: Run) -> FinishedRun:
    """A run as every engine's is published."""
    output = run.output
    return FinishedRun(
        name=run.name,
        folder=run.folder,
        atoms=run.request.atoms,
        energy=output.energy,
        forces=output.forces,
        stress=output.stress,
        core_seconds=output.core_seconds,
        code=f"pw.x {output.version}",
        settings=run.request.settings,
        info={"k_grid": np.array(run.request.k_grid), "pw_accuracy_ry": output.accuracy_ry},
        record={
            "k_grid": list(run.request.k_grid),
            "n_kpoints": output.n_kpoints,
            "scf_iterations": output.iterations,
            "core_seconds": round(output.core_seconds, 2),
            "processes": output.n_processes,
        },
        notes=run.notes,
        source=run,
    )
