"""The label folder: what a set of finished DFT runs is published as.

::

    crystal.extxyz           relaxed primitive cell
    pseudopotentials.json    {element: {file, sha256}}
    inputs/*.in              exact inputs, their pseudo_dir made relative
    <set>.extxyz             single points: REF_energy (eV), REF_forces (eV/Å), REF_stress (eV/Å³, ASE's sign)
    <set>.json               their provenance
    harmonic/                dyn0 … dynN, elph_dir/a2Fq2r.5x.N.gz, a2Fsave.gz, provenance.json
    harmonic444/ …           the same on further q-grids
"""

from __future__ import annotations

import gzip
import io
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read, write

from himlip_ase.dft.espresso.inputs import essential_ph_input, relocated
from himlip_ase.dft.espresso.ph_files import check_ph_folder
from himlip_ase.dft.espresso.pseudopotentials import md5
from himlip_ase.dft.espresso.runs import Run, read_run, read_runs
from himlip_ase.dft.espresso.single_points import TAGS
from himlip_ase.errors import CalculationError, InputError
from himlip_ase.files import atomic_write, sha256_file, write_json
from himlip_ase.lattice import crystal_mismatch

SCHEMA = 1
log = logging.getLogger(__name__)


def labelled_atoms(run: Run, set_name: str) -> Atoms:
    """The structure of a run with its results under REF_energy, REF_forces, REF_stress."""
    output = run.output
    if output.forces is None or output.stress is None:
        raise CalculationError(f"{run.folder}: no forces or no stress; run with tprnfor and tstress")
    atoms = run.request.atoms.copy()
    atoms.arrays["REF_forces"] = output.forces
    atoms.info.update(
        REF_energy=output.energy,
        REF_stress=output.stress,
        frame=f"frame{run.name}" if run.name.isdigit() else run.name,
        k_grid=np.array(run.request.k_grid),
        core_seconds=round(output.core_seconds, 2),
        pw_accuracy_ry=output.accuracy_ry,
        set=set_name,
    )
    atoms.info.update({tag: run.notes[tag] for tag in TAGS if tag in run.notes})
    return atoms


def collect(
    folder: str | os.PathLike,
    set_name: str,
    out: str | os.PathLike,
    *,
    pseudo_dir: str | os.PathLike | None = None,
    partial: bool = False,
    overwrite: bool = False,
    compact: bool = False,
) -> Path:
    """Publish finished runs as labels.

    Parameters
    ----------
    folder : path-like
        Subfolders with pw.in and pw.out; or, if it holds dyn0, a harmonic run (see `collect_harmonic`).
    set_name : str
        Name of the set: ``<set_name>.extxyz`` and ``<set_name>.json`` are written. A harmonic run goes into
        ``harmonic``, or into ``<set_name>`` if that begins with "harmonic".
    out : path-like
        Label folder; it may hold other sets of the same crystal family already.
    pseudo_dir : path-like, optional
        Where the pseudopotentials are now, if not where the inputs say.
    partial : bool
        Leave unfinished runs out instead of refusing.
    overwrite : bool
        Replace the set if it is there.
    compact : bool
        For large sets: keep the input of the first run only, as all differ from it in structure and k-grid
        alone (which the labels hold), and no list of frames in the record.

    Returns
    -------
    Path
        The file with the labels (or the harmonic folder).

    Raises
    ------
    InputError
        The set exists, its runs disagree in accuracy, or a pseudopotential file is missing or different.
    CalculationError
        A run is unfinished.
    """
    folder, out = Path(folder), Path(out)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder of runs")
    if not set_name or any(c in set_name for c in "/\\ "):
        raise InputError(f"{set_name!r} is no name for a set; use letters, digits and underscores")
    if (folder / "dyn0").is_file():
        name = set_name if set_name.startswith("harmonic") else "harmonic"
        return collect_harmonic(folder, out, name, pseudo_dir=pseudo_dir, overwrite=overwrite)
    target, record = out / f"{set_name}.extxyz", out / f"{set_name}.json"
    for path in (target, record):
        if path.exists() and not overwrite:
            raise InputError(
                f"{path} exists already; pass overwrite=True (--overwrite) or choose another --set"
            )
    runs = read_runs(folder, partial)
    warn_of_other_accuracy(runs[0], out, set_name)
    frames = [labelled_atoms(run, set_name) for run in runs]
    pseudopotentials = record_pseudopotentials(runs, out, pseudo_dir)
    for old in (out / "inputs").glob(f"{set_name}_*.in"):
        old.unlink()
    for run in runs[:1] if compact else runs:
        text = (run.folder / "pw.in").read_text()
        with atomic_write(out / "inputs" / f"{set_name}_{run.name}.in", overwrite=True) as stream:
            stream.write(relocated(text))
    stream = io.StringIO()
    write(stream, frames, format="extxyz")
    with atomic_write(target, overwrite=overwrite) as destination:
        destination.write(stream.getvalue())
    write_json(
        record,
        {
            "schema": SCHEMA,
            "set": set_name,
            "units": {"energy": "eV", "forces": "eV/Å", "stress": "eV/Å³, ASE Voigt, positive in tension"},
            "code": f"pw.x {runs[0].output.version}",
            "settings": runs[0].request.settings,
            "pseudopotentials": pseudopotentials,
            "count": len(runs),
            "core_seconds": round(sum(run.output.core_seconds for run in runs), 2),
            "worst_accuracy_ry": max(run.output.accuracy_ry for run in runs),
            "retried": [run.name for run in runs if run.notes.get("retries")],
            "frames": []
            if compact
            else [
                {
                    "name": run.name,
                    "k_grid": list(run.request.k_grid),
                    "n_kpoints": run.output.n_kpoints,
                    "scf_iterations": run.output.iterations,
                    "core_seconds": round(run.output.core_seconds, 2),
                    "processes": run.output.n_processes,
                    "retries": run.notes.get("retries", []),
                }
                for run in runs
            ],
            "generator": common_notes(runs),
        },
        overwrite=overwrite,
    )
    log.info(
        "%d labels, %.1f core-minutes → %s", len(runs), sum(r.output.core_seconds for r in runs) / 60, target
    )
    return target


def warn_of_other_accuracy(run: Run, out: Path, set_name: str) -> None:
    """Log a warning if another set of the label folder was calculated with other settings."""
    for path in sorted(out.glob("*.json")):
        settings = json.loads(path.read_text()).get("settings")
        if not settings or path.stem == set_name:
            continue
        mine = run.request.settings
        different = {
            k: (v, mine.get(k)) for k, v in settings.items() if k != "conv_thr_ry" and v != mine.get(k)
        }
        if different:
            log.warning("%s has another accuracy than %s: %s", set_name, path.stem, different)


def common_notes(runs: Sequence[Run]) -> dict[str, Any]:
    """How the structures of a set were made, if every run has the same note."""
    notes = [run.notes.get("generator") for run in runs]
    return notes[0] if notes[0] and all(note == notes[0] for note in notes) else {}


def record_pseudopotentials(
    runs: Sequence[Run], out: str | os.PathLike, pseudo_dir: str | os.PathLike | None = None
) -> dict[str, dict[str, str]]:
    """Check the pseudopotential files of runs against what pw.x read, and note them in pseudopotentials.json.

    Raises
    ------
    InputError
        A file is missing, differs from the one that was used, or from the one of another set in `out`.
    """
    used: dict[str, dict[str, str]] = {}
    for run in runs:
        directory = Path(pseudo_dir) if pseudo_dir else run.request.pseudo_dir
        for element, name in run.request.pseudopotentials.items():
            if element in used and used[element]["file"] == name:
                continue
            if directory is None or not (directory / name).is_file():
                raise InputError(
                    f"the pseudopotential {name} of {run.folder} is not in {directory}; pass --pseudo FOLDER"
                )
            expected = run.output.pseudopotential_md5.get(name)
            if expected is not None and md5(directory / name) != expected:
                raise InputError(
                    f"{directory / name} is not the file that {run.folder} used (MD5 {expected}); "
                    "pass --pseudo FOLDER"
                )
            entry = {"file": name, "sha256": sha256_file(directory / name)}
            if used.setdefault(element, entry) != entry:
                raise InputError(
                    f"the runs use two pseudopotentials of {element}: {used[element]['file']} and {name}"
                )
    path = Path(out) / "pseudopotentials.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    for element, entry in used.items():
        if known.get(element, entry) != entry:
            raise InputError(
                f"{path} has {known[element]['file']} for {element}, these runs used {entry['file']} "
                f"(sha256 {entry['sha256'][:12]}…); labels of different pseudopotentials do not mix: "
                "choose another folder"
            )
    if any(element not in known for element in used):
        write_json(path, {**known, **used}, overwrite=True)
    return used


def collect_harmonic(
    folder: str | os.PathLike,
    out: str | os.PathLike,
    name: str = "harmonic",
    *,
    pseudo_dir: str | os.PathLike | None = None,
    overwrite: bool = False,
) -> Path:
    """Publish a finished harmonic run: dyn and gzipped electron-phonon files, crystal.extxyz, provenance.

    Parameters
    ----------
    folder : path-like
        Holds scf.in/out, ph.in/out, dyn*, elph_dir/ (and scf_dense.in/out).
    out, pseudo_dir, overwrite
        As `collect`.
    name : str
        Subfolder of `out`; another one than "harmonic" for a run on another q-grid.

    Raises
    ------
    InputError, CalculationError
        As `collect`, `check_ph_folder` and `write_crystal`.
    """
    folder, out = Path(folder), Path(out)
    target = out / name
    if (target / "provenance.json").exists() and not overwrite:
        raise InputError(
            f"{target} exists already; pass overwrite=True (--overwrite) or choose another folder"
        )
    stems = [stem for stem in ("scf_dense", "scf") if (folder / f"{stem}.in").is_file()]
    if "scf" not in stems:
        raise InputError(f"{folder} holds dyn0 but no scf.in; give the folder of `himlip label harmonic`")
    runs = {stem: read_run(folder, stem) for stem in stems}
    coarse = runs["scf"]
    files = check_ph_folder(folder, coarse.request.atoms)
    pseudopotentials = record_pseudopotentials(list(runs.values()), out, pseudo_dir)
    write_crystal(coarse, out, overwrite)
    for path in files.dyn:
        with atomic_write(target / path.name, overwrite=overwrite) as stream:
            stream.write(path.read_text())
    printed = sorted((folder / "elph_dir").glob("elph.inp_lambda.*")) if files.elph else []
    for path in (*files.elph, *printed):
        with atomic_write(target / "elph_dir" / f"{path.name}.gz", "wb", overwrite=overwrite) as stream:
            stream.write(gzip.compress(path.read_bytes(), 9, mtime=0))
    if (folder / "a2Fsave").is_file():  # band energies of the dense k-grid
        with atomic_write(target / "a2Fsave.gz", "wb", overwrite=overwrite) as stream:
            stream.write(gzip.compress((folder / "a2Fsave").read_bytes(), 9, mtime=0))
    for input_name in [*(f"{stem}.in" for stem in stems), "ph.in"]:
        with atomic_write(out / "inputs" / f"{name}_{input_name}", overwrite=True) as stream:
            stream.write(essential_ph_input(relocated((folder / input_name).read_text())))
    write_json(
        target / "provenance.json",
        {
            "schema": SCHEMA,
            "set": name,
            "code": f"ph.x {files.version}",
            "settings": coarse.request.settings,
            "pseudopotentials": pseudopotentials,
            "q_grid": list(files.q_grid),
            "irreducible_q": len(files.dyn) - 1,
            "k_grid": list(coarse.request.k_grid),
            "k_grid_dense": list(runs["scf_dense"].request.k_grid) if "scf_dense" in runs else None,
            "el_ph_sigma_ry": list(files.sigmas_ry),
            "pressure_gpa": round(coarse.output.pressure_gpa, 4),
            "scf": {
                stem: {
                    "energy_ev": run.output.energy,
                    "n_kpoints": run.output.n_kpoints,
                    "accuracy_ry": run.output.accuracy_ry,
                    "core_seconds": run.output.core_seconds,
                }
                for stem, run in runs.items()
            },
            "core_seconds": round(
                files.core_seconds + sum(run.output.core_seconds for run in runs.values()), 2
            ),
        },
        overwrite=overwrite,
    )
    log.info("%d dyn files, %d a2Fq2r files → %s", len(files.dyn), len(files.elph), target)
    return target


def write_crystal(run: Run, out: str | os.PathLike, overwrite: bool = False) -> Path:
    """Write the structure and results of a run as ``crystal.extxyz``; the same crystal is left alone.

    Raises
    ------
    InputError
        Another crystal is there and `overwrite` is False.
    """
    path = Path(out) / "crystal.extxyz"
    atoms = labelled_atoms(run, "crystal")
    del atoms.info["frame"]
    atoms.info["pressure_gpa"] = round(run.output.pressure_gpa, 4)
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
