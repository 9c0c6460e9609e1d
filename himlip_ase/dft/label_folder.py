"""The label folder: what a set of finished runs is published as, whatever engine made it.

::

    crystal.extxyz           relaxed primitive cell
    pseudopotentials.json    {element: {file, sha256}}
    inputs/                  what was asked for, exactly, without places of this machine
    <set>.extxyz             single points: REF_energy (eV), REF_forces (eV/Å), REF_stress (eV/Å³, ASE's sign)
    <set>.json               their provenance
    harmonic/                dyn0 … dynN, provenance.json; of ph.x also elph_dir/a2Fq2r.5x.N.gz, a2Fsave.gz
    harmonic444/ …           the same on further q-grids
"""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.io import read, write

from himlip_ase.dft.finished_runs import FinishedRun
from himlip_ase.dft.single_points import TAGS
from himlip_ase.errors import CalculationError, InputError
from himlip_ase.files import atomic_write, read_mapping, write_json
from himlip_ase.lattice import crystal_mismatch
from himlip_ase.units import EV_PER_ANGSTROM3_GPA

SCHEMA = 1
SECOND = "_second"
"""Ends the name of the input of a label's second k-mesh; the first one's has no ending."""
TOLERATED = ("conv_thr_ry",)
"""Settings that may differ between the sets of one label folder."""

logger = logging.getLogger(__name__)


def labelled_atoms(run: FinishedRun, set_name: str, stress_needed: bool = True) -> Atoms:
    """The structure of a run with its results under REF_energy, REF_forces, REF_stress.

    Parameters
    ----------
    run : FinishedRun
    set_name : str
    stress_needed : bool
        Whether a run without stress is refused.

    Returns
    -------
    Atoms

    Raises
    ------
    CalculationError
        The run has no forces or no stress.
    """
    if run.forces is None or (run.stress is None and stress_needed):
        raise CalculationError(
            f"{run.folder}: no forces or no stress; pw.x prints them with tprnfor and tstress"
        )
    atoms = run.atoms.copy()
    atoms.arrays["REF_forces"] = run.forces
    atoms.info["REF_energy"] = run.energy
    if run.stress is not None:
        atoms.info["REF_stress"] = run.stress
    atoms.info.update(
        frame=f"frame{run.name}" if run.name.isdigit() else run.name,
        core_seconds=round(run.core_seconds, 2),
        set=set_name,
        **({"code": run.code} if run.code else {}),
        **run.info,
    )
    atoms.info.update({tag: run.notes[tag] for tag in TAGS if tag in run.notes})
    return atoms


def check_one_accuracy(runs: Sequence[FinishedRun], folder: Path) -> None:
    """Refuse runs that differ in a setting.

    Parameters
    ----------
    runs : sequence of FinishedRun
    folder : Path
        For messages.

    Raises
    ------
    InputError
        Naming two runs and what they differ in.
    """
    for run in runs[1:]:
        different = differences(runs[0].settings, run.settings)
        if different:
            raise InputError(
                f"{folder}: {runs[0].name} and {run.name} differ in {different}; a set has one accuracy"
            )


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """{setting: (first, second)} of all that are not the same; one that is missing counts as None.

    Parameters
    ----------
    first, second : mapping

    Returns
    -------
    dict
    """
    names = [*first, *(name for name in second if name not in first)]
    pairs = {name: (first.get(name), second.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def require_new_set(out: Path, set_name: str, overwrite: bool) -> None:
    """Refuse to replace a set that was not to be replaced, before any of it is written.

    Parameters
    ----------
    out : Path
        Label folder.
    set_name : str
    overwrite : bool

    Raises
    ------
    InputError
    """
    for path in (out / f"{set_name}.extxyz", out / f"{set_name}.json"):
        if path.exists() and not overwrite:
            raise InputError(
                f"{path} exists already; pass overwrite=True (--overwrite) or choose another --set"
            )


def write_set(
    runs: Sequence[FinishedRun],
    set_name: str,
    out: str | os.PathLike,
    inputs: Mapping[str, str],
    extra: Mapping[str, Any],
    *,
    overwrite: bool = False,
    compact: bool = False,
    left_out: Mapping[str, str] | None = None,
) -> Path:
    """Write a set of labels and its record.

    Parameters
    ----------
    runs : sequence of FinishedRun
        Of one accuracy.
    set_name : str
        ``<set_name>.extxyz`` and ``<set_name>.json`` are written.
    out : path-like
        Label folder.
    inputs : mapping
        {file name: text} for ``inputs/``; earlier ones of the set are removed.
    extra : mapping
        The engine's own entries of the record.
    overwrite : bool
        Replace the set if it is there.
    compact : bool
        No list of frames in the record.
    left_out : mapping, optional
        {run: why} of those that are not in the set.

    Returns
    -------
    Path
        The file with the labels.
    """
    out = Path(out)
    target, record = out / f"{set_name}.extxyz", out / f"{set_name}.json"
    frames = [
        labelled_atoms(run, set_name, stress_needed=any(r.stress is not None for r in runs)) for run in runs
    ]
    for old in _published_inputs(out, set_name):
        old.unlink()
    for name, text in inputs.items():
        with atomic_write(out / "inputs" / name, overwrite=True) as stream:
            stream.write(text)
    buffer = io.StringIO()
    write(buffer, frames, format="extxyz")
    with atomic_write(target, overwrite=overwrite) as stream:
        stream.write(buffer.getvalue())
    write_json(
        record,
        {
            "schema": SCHEMA,
            "set": set_name,
            "units": {"energy": "eV", "forces": "eV/Å", "stress": "eV/Å³, ASE Voigt, positive in tension"},
            "code": runs[0].code,
            "settings": dict(runs[0].settings),
            **extra,
            "count": len(runs),
            "core_seconds": round(sum(run.core_seconds for run in runs), 2),
            "retried": [run.name for run in runs if run.notes.get("retries")],
            **({"left_out": dict(left_out)} if left_out else {}),
            "frames": []
            if compact
            else [{"name": run.name, **run.record, "retries": run.notes.get("retries", [])} for run in runs],
            "generator": common_notes(runs),
        },
        overwrite=overwrite,
    )
    logger.info(
        "%d labels, %.1f core-minutes → %s", len(runs), sum(r.core_seconds for r in runs) / 60, target
    )
    return target


def _published_inputs(out: Path, set_name: str) -> list[Path]:
    """The inputs of a set that is there, and of no other whose name begins alike (``learn_second``)."""
    record = out / f"{set_name}.json"
    rows = read_mapping(record).get("frames", []) if record.is_file() else []
    names = "|".join([r"\d+(\.\d+)?", *(re.escape(str(row["name"])) for row in rows)])
    ours = re.compile(rf"{re.escape(set_name)}_({names})({SECOND})?\.[^.]*")
    return [path for path in (out / "inputs").glob(f"{set_name}_*") if ours.fullmatch(path.name)]


def warn_of_other_accuracy(run: FinishedRun, out: Path, set_name: str) -> None:
    """Log a warning if another set of the label folder was calculated with other settings.

    Parameters
    ----------
    run : FinishedRun
    out : Path
        Label folder.
    set_name : str
    """
    for path in sorted(out.glob("*.json")):
        settings = read_mapping(path).get("settings")
        if not settings or path.stem == set_name:
            continue
        different = {
            name: pair
            for name, pair in differences(settings, run.settings).items()
            if name not in TOLERATED and name in settings
        }
        if different:
            logger.warning("%s has another accuracy than %s: %s", set_name, path.stem, different)


def note_pseudopotentials(used: Mapping[str, Mapping[str, str]], out: Path, whose: str) -> None:
    """Enter pseudopotentials in ``pseudopotentials.json`` of a label folder.

    Parameters
    ----------
    used : mapping
        {element: {"file": name, "sha256": hexadecimal digest}}.
    out : Path
        Label folder.
    whose : str
        For the message.

    Raises
    ------
    InputError
        The folder has another file for an element.
    """
    path = out / "pseudopotentials.json"
    known = read_mapping(path) if path.is_file() else {}
    for element, entry in used.items():
        if known.get(element, entry) != entry:
            raise InputError(
                f"{path} has {known[element]['file']} for {element}, {whose} used {entry['file']} "
                f"(sha256 {entry['sha256'][:12]}…); labels of different pseudopotentials do not mix: "
                "choose another folder"
            )
    if any(element not in known for element in used):
        write_json(path, {**known, **used}, overwrite=True)


def common_notes(runs: Sequence[FinishedRun]) -> dict[str, Any]:
    """How the structures of a set were made, if every run has the same note."""
    notes = [run.notes.get("generator") for run in runs]
    return notes[0] if notes[0] and all(note == notes[0] for note in notes) else {}


def write_crystal(run: FinishedRun, out: str | os.PathLike, overwrite: bool = False) -> Path:
    """Write the structure and results of a run as ``crystal.extxyz``; the same crystal is left alone.

    Parameters
    ----------
    run : FinishedRun
    out : path-like
        Folder.
    overwrite : bool
        Whether another crystal may be replaced.

    Returns
    -------
    Path
        ``out/crystal.extxyz``.

    Raises
    ------
    InputError
        Another crystal is there and `overwrite` is False.
    """
    path = Path(out) / "crystal.extxyz"
    atoms = labelled_atoms(run, "crystal", stress_needed=False)
    del atoms.info["frame"]
    if run.stress is not None:
        atoms.info["pressure_gpa"] = round(float(-run.stress[:3].mean() * EV_PER_ANGSTROM3_GPA), 4)
    if path.is_file():
        old = read(path, index=-1)
        assert isinstance(old, Atoms)
        reason = crystal_mismatch(old, atoms, cell=1e-6, position=1e-6)
        if reason is None:
            return path
        if not overwrite:
            raise InputError(
                f"{path} holds another crystal ({reason}); pass --overwrite or choose another folder"
            )
    with atomic_write(path, overwrite=True) as stream:
        write(stream, atoms, format="extxyz")
    return path
