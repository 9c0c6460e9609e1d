"""Finished runs of pw.x and ph.x, published as labels with their pseudopotentials and provenance."""

from __future__ import annotations

import gzip
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from himlip_ase.dft.espresso.inputs import PREFIX, SCRATCH, essential_ph_input, relocated
from himlip_ase.dft.espresso.k_check_record import published_files
from himlip_ase.dft.espresso.ph_files import check_ph_folder
from himlip_ase.dft.espresso.pseudopotentials import md5
from himlip_ase.dft.espresso.runs import Run, finished_label, read_run
from himlip_ase.dft.label_folder import SCHEMA, note_pseudopotentials, write_crystal
from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write, sha256_file, write_json

logger = logging.getLogger(__name__)


def record_pseudopotentials(
    runs: Sequence[Run], out: str | os.PathLike, pseudo_dir: str | os.PathLike | None = None
) -> dict[str, dict[str, str]]:
    """Check the pseudopotential files of runs against what pw.x read, and note them in pseudopotentials.json.

    Parameters
    ----------
    runs : sequence of Run
    out : path-like
        Label folder.
    pseudo_dir : path-like, optional
        Where the files are now, if not where the inputs say.

    Returns
    -------
    dict
        {element: {"file": name, "sha256": hexadecimal digest}}.

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
    note_pseudopotentials(used, Path(out), "these runs")
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
    out : path-like
        Label folder.
    name : str
        Subfolder of `out`; another one than "harmonic" for a run on another q-grid.
    pseudo_dir : path-like, optional
        Where the pseudopotentials are now, if not where the inputs say.
    overwrite : bool
        Replace what is there.

    Returns
    -------
    Path
        ``out/name``.

    Raises
    ------
    InputError, CalculationError
        As `check_ph_folder`, `record_pseudopotentials` and `write_crystal`.
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
    write_crystal(finished_label(coarse), out, overwrite)
    for path in files.dyn:
        with atomic_write(target / path.name, overwrite=overwrite) as stream:
            stream.write(path.read_text())
    printed = sorted((folder / "elph_dir").glob("elph.inp_lambda.*")) if files.elph else []
    for path in (*files.elph, *printed):
        with atomic_write(target / "elph_dir" / f"{path.name}.gz", "wb", overwrite=overwrite) as stream:
            stream.write(gzip.compress(path.read_bytes(), 9, mtime=0))
    for bands in (folder / "a2Fsave", folder / SCRATCH / f"{PREFIX}.a2Fsave"):  # of the dense k-grid
        if bands.is_file():
            with atomic_write(target / "a2Fsave.gz", "wb", overwrite=overwrite) as stream:
                stream.write(gzip.compress(bands.read_bytes(), 9, mtime=0))
            break
    for path in published_files(folder):
        with atomic_write(target / path.relative_to(folder), overwrite=overwrite) as stream:
            stream.write(path.read_text())
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
    logger.info("%d dyn files, %d a2Fq2r files → %s", len(files.dyn), len(files.elph), target)
    return target
