"""One q-point on one k-mesh, by pw.x and ph.x in a folder of its own: ``k_check/12x12x12``."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
from ase import Atoms

from himlip_ase.dft.espresso.inputs import SCRATCH, QESettings, essential_ph_input, pw_input, single_q_input
from himlip_ase.dft.espresso.k_check_record import dyn_name, read_matrix, run_name, times
from himlip_ase.dft.espresso.ph_files import check_dyn, check_ph_output, ph_core_seconds
from himlip_ase.dft.espresso.ph_retries import run_ph
from himlip_ase.dft.espresso.runner import Launcher, check_input_unchanged, note_pw, run_pw
from himlip_ase.dft.other_request import OtherRequest
from himlip_ase.dft.programs import NotRun, are_noted, note
from himlip_ase.errors import CalculationError
from himlip_ase.files import atomic_write
from himlip_ase.labels.espresso_ends import check_finished
from himlip_ase.labels.pw_output import parse_pw_output

logger = logging.getLogger(__name__)


def matrix_at(
    atoms: Atoms,
    q: np.ndarray,
    settings: QESettings,
    place: Path,
    launcher: Launcher,
    point: int = 0,
    k_shift: bool = False,
) -> tuple[np.ndarray, float]:
    """Φ(q) of one mesh and its CPU seconds; a finished run is read.

    Parameters
    ----------
    atoms : Atoms
    q : (3,) ndarray
        In units of the reciprocal vectors.
    settings : QESettings
        With the mesh.
    place : Path
        Folder of the check; the run goes into a subfolder.
    launcher : Launcher
    point : int
        Number of the q-point in the check, which names its files.
    k_shift : bool
        Whether the mesh is shifted by half a step.

    Returns
    -------
    matrix : (3n, 3n) complex ndarray
        eV/Å².
    core_seconds : float

    Raises
    ------
    InputError
        The subfolder holds a run of another q-point, crystal or other settings.
    NotRun
        Programs are noted for later, and this one is not finished.
    NotConvergedError, CalculationError
        The run failed.
    """
    folder, kept = place / run_name(settings.k_grid, point), place / dyn_name(settings.k_grid, point)
    folder.mkdir(exist_ok=True)
    text = single_q_input(q, atoms)
    old = folder / "ph.in"
    if old.is_file() and essential_ph_input(old.read_text()).strip() != essential_ph_input(text).strip():
        raise OtherRequest(f"{old} is of another q-point; delete {folder}, or choose that q-point", folder)
    scf_text = pw_input(atoms, settings, k_shift=k_shift)
    check_input_unchanged(folder, scf_text, "scf")
    if not kept.is_file() and (folder / "dyn").is_file() and _is_finished(folder, folder / "dyn", atoms):
        shutil.copyfile(folder / "dyn", kept)  # run elsewhere
    if not _is_finished(folder, kept, atoms) and are_noted():
        note_pw(folder, scf_text, launcher, "scf")
        with atomic_write(folder / "ph.in", overwrite=True) as stream:
            stream.write(text)
        note(folder, launcher.command(launcher.ph, "ph.in"), "ph.out")
        raise NotRun(f"{folder}: noted, not run")
    if not _is_finished(folder, kept, atoms):
        logger.info(
            "k-check: %s k, scf and ph.x at %s", times(settings.k_grid), "Γ" if point else "one q-point"
        )
        shutil.rmtree(folder / SCRATCH, ignore_errors=True)
        run_pw(folder, scf_text, launcher, stem="scf", delete_scratch=False, reuse=False)
        _run_ph(folder, q, atoms, launcher)
        shutil.copyfile(folder / "dyn", kept)
        shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    spent = ph_core_seconds(folder) + parse_pw_output((folder / "scf.out").read_text()).core_seconds
    return read_matrix(kept, q), spent


def _is_finished(folder: Path, kept: Path, atoms: Atoms) -> bool:
    try:
        check_dyn(kept, atoms)
        check_finished((folder / "scf.out").read_text(), str(folder / "scf.out"))
        check_ph_output((folder / "ph.out").read_text(), str(folder / "ph.out"))
    except (CalculationError, FileNotFoundError):
        return False
    return True


def _run_ph(folder: Path, q: np.ndarray, atoms: Atoms, launcher: Launcher) -> None:
    def check() -> None:
        check_ph_output((folder / "ph.out").read_text(errors="replace"), str(folder / "ph.out"))
        check_dyn(folder / "dyn", atoms)

    run_ph(folder, launcher, lambda changes: single_q_input(q, atoms, **changes), check)
