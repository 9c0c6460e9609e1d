"""Finished single points, read back from their folders."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.dft.espresso.input_reading import PwInput, read_pw_input
from himlip_ase.dft.finished_runs import FinishedRun
from himlip_ase.errors import InputError
from himlip_ase.files import read_mapping
from himlip_ase.labels.pw_output import PwOutput, check_same_crystal, read_pw_output


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
    if not (folder / f"{stem}.in").is_file():
        read_pw_input(folder / f"{stem}.in")  # says that it is missing
    output = read_pw_output(folder / f"{stem}.out")
    request = read_pw_input(folder / f"{stem}.in", output.structure(output.steps[0]))
    check_same_crystal(request.atoms, output, str(folder / f"{stem}.out"))
    _check_settings(folder, stem, request, output)
    notes_file = folder / f"{stem}.json"
    notes = read_mapping(notes_file) if notes_file.is_file() else {}
    return Run(folder.name, folder, request, output, notes)


_ALLOWED = {"ecutwfc_ry": 1e-3, "conv_thr_ry": 0.06, "degauss_ry": 0.01}
"""Relative differences between a setting and the few digits in which pw.x prints it."""
_DEFAULT = {"conv_thr_ry": 1e-6}


def _check_settings(folder: Path, stem: str, request: PwInput, output: PwOutput) -> None:
    """Refuse an output that states other settings than the input beside it."""
    for key, printed in output.printed.items():
        asked = request.settings.get(key)
        asked = _DEFAULT.get(key) if asked is None else asked
        fits = asked is not None and abs(asked - printed) <= _ALLOWED[key] * abs(printed) + 6e-5 * (
            key == "degauss_ry"
        )
        if not fits:
            raise InputError(
                f"{folder / stem}.out was run with {key} {printed:g}, {stem}.in has "
                f"{'none' if asked is None else f'{asked:g}'}: they are of different runs, or one is damaged"
            )


def finished_label(run: Run) -> FinishedRun:
    """A run as every engine's is published, by its last ionic step."""
    return finished_labels(run)[-1]


def finished_labels(run: Run) -> list[FinishedRun]:
    """Every ionic step of a run as every engine's is published.

    The first has the structure of the input, which is the same with more digits.
    """
    output = run.output
    settings = run.request.settings | {"exchange_correlation": output.exchange_correlation}
    count = len(output.steps)
    return [
        FinishedRun(
            name=run.name if count == 1 else f"{run.name}.{k}",
            folder=run.folder,
            atoms=_structure(run, k),
            energy=step.energy,
            forces=step.forces,
            stress=step.stress,
            core_seconds=output.core_seconds / count,
            code=f"pw.x {output.version}",
            settings=settings,
            info={"k_grid": np.array(run.request.k_grid), "pw_accuracy_ry": step.accuracy_ry},
            record={
                "k_grid": list(run.request.k_grid),
                "n_kpoints": output.n_kpoints,
                "scf_iterations": step.iterations,
                "core_seconds": round(output.core_seconds / count, 2),
                "processes": output.n_processes,
            },
            notes=run.notes,
            source=run,
        )
        for k, step in enumerate(output.steps)
    ]


def _structure(run: Run, k: int) -> Atoms:
    """The structure of an ionic step, with the digits of the input where the output has fewer."""
    given, step, first = run.request.atoms, run.output.steps[k], run.output.steps[0]
    if k == 0:
        return given
    atoms = run.output.structure(step)
    if np.array_equal(step.cell, first.cell):
        atoms.set_cell(given.cell, scale_atoms=True)
    return atoms
