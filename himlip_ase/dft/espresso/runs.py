"""Finished single points, read back from their folders."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from himlip_ase.dft.espresso.inputs import PwInput, read_pw_input
from himlip_ase.dft.espresso.parse import PwOutput, check_same_crystal, read_pw_output
from himlip_ase.errors import CalculationError, InputError

log = logging.getLogger(__name__)


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
    notes = json.loads(notes_file.read_text()) if notes_file.is_file() else {}
    return Run(folder.name, folder, request, output, notes)


def read_runs(folder: str | os.PathLike, partial: bool = False) -> list[Run]:
    """All single points in the subfolders of a folder, sorted by name.

    Parameters
    ----------
    folder : path-like
        Its subfolders hold pw.in and pw.out.
    partial : bool
        Leave unfinished runs out instead of refusing the set.

    Raises
    ------
    InputError
        No subfolder holds a pw.in, or the runs of the set have different settings.
    CalculationError
        Some runs are unfinished: the message counts and names them.
    """
    folder = Path(folder)
    places = sorted(path.parent for path in folder.glob("*/pw.in"))
    if not places:
        raise InputError(
            f"no subfolder of {folder} holds a pw.in; give the folder of a set, such as runs/rattle040"
        )
    runs, failures = [], []
    for place in places:
        try:
            runs.append(read_run(place))
        except CalculationError as error:
            failures.append((place.name, str(error)))
    if failures and not (partial and runs):
        shown = "\n".join(f"  {name}: {reason}" for name, reason in failures[:5])
        more = f"\n  and {len(failures) - 5} more" if len(failures) > 5 else ""
        raise CalculationError(
            f"{len(failures)} of {len(places)} runs in {folder} cannot be labels:\n{shown}{more}\n"
            "Finish them (himlip label … --resume), or leave them out with --partial"
        )
    if failures:
        log.warning(
            "left out %d of %d runs: %s", len(failures), len(places), ", ".join(name for name, _ in failures)
        )
    for run in runs[1:]:
        if run.request.settings != runs[0].request.settings:
            different = {
                k: (v, run.request.settings[k])
                for k, v in runs[0].request.settings.items()
                if v != run.request.settings[k]
            }
            raise InputError(
                f"{folder}: {runs[0].name} and {run.name} differ in {different}; a set has one accuracy"
            )
    return runs
