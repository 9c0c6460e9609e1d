"""Harmonic dynamical matrices and electron-phonon matrices: scf on a dense grid, scf, ph.x."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from himlip_ase.dft.espresso.inputs import (
    PREFIX,
    SCRATCH,
    QESettings,
    check_crystal,
    essential_ph_input,
    ph_input,
    pw_input,
)
from himlip_ase.dft.espresso.ph_files import PhFiles, check_a2fq2r, check_dyn, check_ph_folder, read_dyn0
from himlip_ase.dft.espresso.ph_retries import run_ph
from himlip_ase.dft.espresso.progress import HarmonicWatch
from himlip_ase.dft.espresso.runner import (
    Launcher,
    check_input_unchanged,
    finished_run,
    note_pw,
    requested_input,
    run_pw,
)
from himlip_ase.dft.executors import JobExecutor
from himlip_ase.dft.other_request import OtherRequest
from himlip_ase.dft.programs import NotRun, RunLock, are_noted, note
from himlip_ase.dft.standing import Listener
from himlip_ase.errors import CalculationError, InputError
from himlip_ase.files import atomic_write, write_json

logger = logging.getLogger(__name__)

SHIFTED_COUPLING = (
    "ph.x interpolates electron-phonon matrices from k-grids that hold Γ: with --k-shift (k_shift: true) "
    "give --no-electron-phonon (electron_phonon: false), and run ph.x a second time, without the shift and "
    "in another folder, for G(q)"
)


def harmonic(
    atoms: Atoms,
    q_grid: Sequence[int],
    settings: QESettings,
    folder: str | os.PathLike,
    launcher: Launcher | None = None,
    *,
    k_grid_dense: Sequence[int] | None = None,
    sigma_ry: float = 0.005,
    n_sigma: int = 10,
    k_shift: bool = False,
    electron_phonon: bool = True,
    resume: bool = False,
    keep_scratch: bool = False,
    executor: JobExecutor | None = None,
    listener: Listener | None = None,
) -> PhFiles:
    """Dynamical matrices on a q-grid, with the electron-phonon matrices G(q) at several broadenings.

    Parameters
    ----------
    atoms : Atoms
        Relaxed primitive cell.
    q_grid : three ints
        Γ-centred.
    settings : QESettings
        `settings.k_grid` samples the response.
    folder : path-like
        All files go here: inputs and outputs of scf_dense, scf and ph, dyn*, elph_dir/, the scratch out/.
    launcher : Launcher, optional
    k_grid_dense : three ints, optional
        Grid of the double-delta integration; default twice `settings.k_grid`.
    sigma_ry, n_sigma : float, int
        Broadenings are sigma_ry, 2 sigma_ry, …, Ry.
    k_shift : bool
        Shift the grid of the response by half a step; without electron-phonon matrices only.
    electron_phonon : bool
        False leaves out the dense run and G(q), for insulators.
    resume : bool
        Whether `folder` may hold an earlier run: finished scf runs and q-points are kept.
    keep_scratch : bool
        Keep out/ (wavefunctions, induced potentials) after success.
    executor : JobExecutor, optional
        Where the programs run, one worker for all of them; None: here.
    listener : Listener, optional
        Told how far the programs are, where an executor runs them, and what each took.

    Returns
    -------
    PhFiles
        Every file checked to be complete.

    Raises
    ------
    InputError
        The grids do not fit together, the folder holds another calculation, or one without `resume`.
    NotConvergedError, CalculationError
        As `run_pw` and `check_ph_folder`.
    """
    folder, launcher = Path(folder), launcher or Launcher()
    atoms = check_crystal(atoms)
    dense = tuple(k_grid_dense) if k_grid_dense is not None else tuple(2 * k for k in settings.k_grid)
    for name, grid in (("q_grid", tuple(q_grid)), ("k_grid_dense", dense)):
        if len(grid) != 3 or any(int(n) != n or n < 1 for n in grid):
            raise InputError(f"{name} is {grid}; give three positive integers")
    if electron_phonon and any(k % q for k, q in zip(dense, q_grid, strict=True)):
        raise InputError(
            f"every q-point has to lie on the dense k-grid: {dense} is not a multiple of {tuple(q_grid)}"
        )
    if electron_phonon and settings.smearing is None:
        raise InputError("electron-phonon matrices need a metal: set smearing, or pass --no-electron-phonon")
    if electron_phonon and k_shift:
        raise InputError(SHIFTED_COUPLING)
    launcher.command(launcher.pw, "scf.in")
    launcher.command(launcher.ph, "ph.in")
    texts = {"scf": pw_input(atoms, settings, k_shift=k_shift)}
    if electron_phonon:
        dense_settings = settings.with_k_grid(dense)
        texts = {"scf_dense": pw_input(atoms, dense_settings, overrides={"system": {"la2F": True}}), **texts}
    options: dict[str, Any] = {"sigma_ry": sigma_ry, "n_sigma": n_sigma, "electron_phonon": electron_phonon}
    if any(requested_input(folder, stem) for stem in texts) and not resume:
        raise InputError(
            f"{folder} holds a harmonic run already; continue with --resume, or choose another folder"
        )
    job = (atoms, q_grid, folder.absolute(), launcher, texts, options, keep_scratch)
    if executor is None:
        return _run(*job)
    if listener is None:
        return executor.call(_run, *job)
    watch = HarmonicWatch(folder, atoms, tuple(texts), settings.k_grid, q_grid, listener, k_shift)
    files = executor.call(_run, *job, watch=watch)
    watch.close(files.core_seconds)
    return files


def _run(
    atoms: Atoms,
    q_grid: Sequence[int],
    folder: Path,
    launcher: Launcher,
    texts: dict[str, str],
    options: dict[str, Any],
    keep_scratch: bool,
) -> PhFiles:
    """What is missing of the run in `folder`."""
    with RunLock(folder) as lock:
        for stem, text in texts.items():
            check_input_unchanged(folder, text, stem)
        _check_ph_input(folder, ph_input(q_grid, **options))
        finished = _finished(folder, texts, atoms)
        if finished is None and are_noted():
            for stem, text in texts.items():
                note_pw(folder, text, launcher, stem)
            with atomic_write(folder / "ph.in", overwrite=True) as stream:
                stream.write(ph_input(q_grid, **options))
            note(folder, launcher.command(launcher.ph, "ph.in"), "ph.out")
            raise NotRun(f"{folder}: noted, not run")
        if finished is None:
            _run_scf(folder, texts, launcher, lock)
            retries = _run_ph(folder, q_grid, options, launcher, atoms, lock)
            finished = check_ph_folder(folder, atoms)
            record = {
                "program": "ph.x",
                "version": finished.version,
                "prefix": launcher.prefix,
                "retries": retries,
            }
            write_json(folder / "ph.json", record, overwrite=True)
        bands = folder / SCRATCH / f"{PREFIX}.a2Fsave"
        if bands.is_file():
            shutil.copyfile(bands, folder / "a2Fsave")
        if not keep_scratch:
            shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    return finished


def _finished(folder: Path, texts: dict[str, str], atoms: Atoms) -> PhFiles | None:
    try:
        if all(finished_run(folder, text, stem) for stem, text in texts.items()):
            return check_ph_folder(folder, atoms)
    except CalculationError:
        pass
    return None


def _run_scf(folder: Path, texts: dict[str, str], launcher: Launcher, lock: RunLock) -> None:
    """The scf runs, dense one first: ph.x reads eigenvalues from its a2Fsave and starts from the other."""
    scratch = folder / SCRATCH
    have_dense = (scratch / f"{PREFIX}.a2Fsave").is_file() and bool(
        "scf_dense" in texts and finished_run(folder, texts["scf_dense"], "scf_dense")
    )
    reusable = {"scf_dense": have_dense}
    reusable["scf"] = (
        (have_dense or "scf_dense" not in texts)
        and (scratch / f"{PREFIX}.save").is_dir()
        and (folder / "scf.out").is_file()
        and finished_run(folder, texts["scf"], "scf") is not None
    )
    for stem, text in texts.items():
        if reusable[stem]:
            logger.info("%s is finished", stem)
            continue
        if stem == next(iter(texts)):
            shutil.rmtree(scratch, ignore_errors=True)
        logger.info("running %s", stem)
        run_pw(
            folder,
            text,
            launcher,
            stem=stem,
            fresh_scratch=False,
            delete_scratch=False,
            reuse=False,
            lock=lock,
        )
        shutil.rmtree(scratch / "_ph0", ignore_errors=True)


def _run_ph(
    folder: Path,
    q_grid: Sequence[int],
    options: dict[str, Any],
    launcher: Launcher,
    atoms: Atoms,
    lock: RunLock,
) -> list[dict[str, Any]]:
    """ph.x from the first unfinished q-point, until every one is complete; see `run_ph`."""

    def text(changes: Mapping[str, Any]) -> str:
        start = first_unfinished_q(folder, atoms, options)
        logger.info("ph.x on %s q-points, from q-point %d", "×".join(map(str, q_grid)), start)
        return ph_input(q_grid, start_q=start, **options, **changes)

    return run_ph(folder, launcher, text, lambda: check_ph_folder(folder, atoms), lock)


def first_unfinished_q(folder: str | os.PathLike, atoms: Atoms, options: Mapping[str, Any]) -> int:
    """Number (from 1) of the first irreducible q-point whose files are incomplete; the last if none is.

    Parameters
    ----------
    folder : path-like
        Of ph.x.
    atoms : Atoms
    options : mapping
        ``electron_phonon``, ``sigma_ry`` and ``n_sigma`` of `ph_input`.

    Returns
    -------
    int
    """
    folder = Path(folder)
    if not (folder / "dyn0").is_file():
        return 1
    count = read_dyn0(folder / "dyn0")[1]
    for index in range(1, count + 1):
        try:
            check_dyn(folder / f"dyn{index}", atoms)
            for isigma in range(1, options["n_sigma"] + 1) if options["electron_phonon"] else ():
                path = folder / "elph_dir" / f"a2Fq2r.{50 + isigma}.{index}"
                check_a2fq2r(path, len(atoms), options["sigma_ry"] * isigma)
        except CalculationError:
            return index
    return count


def _check_ph_input(folder: Path, text: str) -> None:
    path = folder / "ph.in"
    if not path.is_file():
        return

    if essential_ph_input(path.read_text()).strip() != essential_ph_input(text).strip():
        raise OtherRequest(
            f"{path} asks for another ph.x calculation; choose another folder, or delete this one", folder
        )
