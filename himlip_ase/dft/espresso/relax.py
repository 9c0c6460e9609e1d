"""Relaxing a crystal to a static pressure, keeping its symmetry."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import numpy as np
import spglib
from ase import Atoms

from himlip_ase.dft.espresso.inputs import QESettings, check_crystal, pw_input
from himlip_ase.dft.espresso.progress import core_seconds, pw_watch
from himlip_ase.dft.espresso.runner import Launcher, requested_input, run_pw
from himlip_ase.dft.espresso.runs import finished_label, read_run
from himlip_ase.dft.executors import JobExecutor
from himlip_ase.dft.finished_runs import RelaxResult
from himlip_ase.dft.label_folder import write_crystal
from himlip_ase.dft.standing import Listener
from himlip_ase.errors import CalculationError, InputError, NotConvergedError
from himlip_ase.files import FolderLock
from himlip_ase.labels.pw_output import PwOutput
from himlip_ase.symmetry.spglib_search import spglib_search
from himlip_ase.units import BOHR_ANGSTROM, EV_PER_ANGSTROM3_GPA, RY_EV

SYMPREC = 1e-4
logger = logging.getLogger(__name__)


def only_volume_is_free(atoms: Atoms, symprec: float = SYMPREC) -> bool:
    """Whether symmetry fixes everything but the volume: a cubic crystal with all positions on fixed points.

    An atom is fixed if the operations that leave it in place leave no direction in place.

    Parameters
    ----------
    atoms : Atoms
    symprec : float
        Å.

    Returns
    -------
    bool
    """
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    dataset = spglib_search(spglib.get_symmetry_dataset, cell, symprec=symprec)
    if dataset is None or dataset.number < 195:
        return False
    for index, position in enumerate(atoms.get_scaled_positions()):
        images = dataset.rotations @ position + dataset.translations - position
        distance = np.linalg.norm((images - np.rint(images)) @ atoms.cell.array, axis=1)
        site_group = dataset.rotations[distance < 10 * symprec]
        if len(site_group) == 0:
            raise CalculationError(f"spglib finds no operation that keeps atom {index} in place")
        if round(float(np.trace(site_group.mean(axis=0)))) > 0:
            return False
    return True


def space_group(atoms: Atoms, symprec: float = SYMPREC) -> str:
    """International symbol and number of the space group, as spglib writes them: ``Im-3m (229)``.

    Parameters
    ----------
    atoms : Atoms
    symprec : float
        Å.

    Returns
    -------
    str
    """
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    return str(spglib_search(spglib.get_spacegroup, cell, symprec=symprec))


def relax(
    atoms: Atoms,
    pressure_gpa: float,
    settings: QESettings,
    folder: str | os.PathLike,
    launcher: Launcher | None = None,
    *,
    pressure_tolerance_gpa: float = 0.2,
    force_tolerance: float = 2e-3,
    max_runs: int = 12,
    resume: bool = False,
    overwrite: bool = False,
    executor: JobExecutor | None = None,
    listener: Listener | None = None,
) -> RelaxResult:
    """Relax cell and positions to a static pressure, until a separate scf run confirms it.

    Crystals whose only free parameter is the volume are scaled by a secant iteration over scf runs; all
    others go through vc-relax, repeated from its own result because it keeps the plane waves of its first
    cell.

    Parameters
    ----------
    atoms : Atoms
        Starting structure; its space group is kept.
    pressure_gpa : float
        Target, positive in compression; zero-point and thermal pressure are not included.
    settings, folder, launcher
        The runs go into subfolders of `folder`; the result is ``folder/crystal.extxyz``.
    pressure_tolerance_gpa : float
        For the pressure and for each component of the stress.
    force_tolerance : float
        Largest force on an atom, eV/Å.
    max_runs : int
        Bound on the number of pw.x runs.
    resume : bool
        Whether `folder` may hold earlier runs; finished ones are reused.
    overwrite : bool
        Whether another crystal.extxyz may be replaced.
    executor : JobExecutor, optional
        Where pw.x runs; None: here.
    listener : Listener, optional
        Told how far pw.x is, where an executor runs it, and what each run took.

    Returns
    -------
    RelaxResult

    Raises
    ------
    InputError
        `folder` was used before and `resume` is False; or as `pw_input`.
    NotConvergedError
        The tolerances are not met after `max_runs` runs.
    CalculationError
        The space group changed on the way; or as `run_pw`.
    """
    folder = Path(folder)
    launcher = launcher or Launcher()
    atoms = check_crystal(atoms)
    if not np.isfinite(pressure_gpa):
        raise InputError(f"the pressure is {pressure_gpa} GPa; give a number")
    with FolderLock(folder):
        if not resume and any(requested_input(path, "pw") for path in sorted(folder.glob("[0-9][0-9]_*"))):
            raise InputError(f"{folder} holds runs already; continue with --resume, or choose another folder")
        session = _Session(folder, settings, launcher, max_runs, executor, listener)
        volume_only = only_volume_is_free(atoms)
        group = space_group(atoms)
        logger.info("%s: %s", group, "scaling the volume" if volume_only else "variable-cell relaxation")
        method = _relax_volume if volume_only else _relax_cell
        final, output = method(atoms, pressure_gpa, session, pressure_tolerance_gpa, force_tolerance)
        if space_group(final) != group:
            raise CalculationError(
                f"the space group changed from {group} to {space_group(final)} in the relaxation"
            )
        crystal = write_crystal(finished_label(read_run(session.last)), folder, overwrite)
    assert output.forces is not None
    return RelaxResult(
        final,
        output.pressure_gpa,
        _spread(output),
        float(np.linalg.norm(output.forces, axis=1).max()),
        output.energy,
        session.runs,
        session.core_seconds,
        crystal,
    )


class _Session:
    """Numbered pw.x runs of one relaxation."""

    def __init__(
        self,
        folder: Path,
        settings: QESettings,
        launcher: Launcher,
        max_runs: int,
        executor: JobExecutor | None,
        listener: Listener | None,
    ) -> None:
        self.folder, self.settings, self.launcher, self.max_runs = folder, settings, launcher, max_runs
        self.executor, self.listener = executor, listener
        self.runs, self.core_seconds, self.last = 0, 0.0, folder

    def run(self, atoms: Atoms, calculation: str = "scf", **overrides: dict) -> PwOutput:
        if self.runs >= self.max_runs:
            raise NotConvergedError(
                f"{self.folder}: the tolerances are not met after {self.runs} runs; "
                "start again from the last structure, or allow more with --max-runs"
            )
        self.last = self.folder / f"{self.runs:02d}_{calculation}"
        text = pw_input(atoms, self.settings, calculation=calculation, overrides=overrides)
        if self.executor is None:
            output = run_pw(self.last, text, self.launcher)
        else:
            told = self.listener
            watch = None if told is None else pw_watch(self.last, f"relax, run {self.runs}", told)
            output = self.executor.call(run_pw, self.last.absolute(), text, self.launcher, watch=watch)
        self.runs += 1
        self.core_seconds += output.core_seconds
        if self.listener is not None:
            self.listener.finished("relax", *core_seconds(output))
        logger.info("%s: V = %.4f Å³, P = %.3f GPa", self.last.name, atoms.get_volume(), output.pressure_gpa)
        return output


def _spread(output: PwOutput) -> float:
    assert output.stress is not None
    deviation = output.stress.copy()
    deviation[:3] -= output.stress[:3].mean()
    return float(np.abs(deviation).max()) * EV_PER_ANGSTROM3_GPA


def _relax_volume(
    atoms: Atoms, target: float, session: _Session, tolerance: float, force_tolerance: float
) -> tuple[Atoms, PwOutput]:
    """Secant iteration of ln V against P, to a quarter of the tolerance: that costs one run more."""
    points: list[tuple[float, float]] = []
    scale = 0.0
    while True:
        image = atoms.copy()
        image.set_cell(atoms.cell.array * np.exp(scale / 3), scale_atoms=True)
        output = session.run(image)
        pressure = output.pressure_gpa
        if abs(pressure - target) < tolerance / 4:
            if output.forces is not None and np.abs(output.forces).max() > force_tolerance:
                raise CalculationError(
                    "forces remain that symmetry should forbid; give the structure more digits"
                )
            return image, output
        points.append((scale, pressure))
        if len(points) > 1 and points[-1][1] != points[-2][1]:
            (x0, p0), (x1, p1) = points[-2:]
            bulk = max(-(p1 - p0) / (x1 - x0), 1.0)
        else:
            bulk = max(100.0, 4 * max(pressure, target))
        scale += float(np.clip((pressure - target) / bulk, -0.2, 0.2))


def _relax_cell(
    atoms: Atoms, target: float, session: _Session, tolerance: float, force_tolerance: float
) -> tuple[Atoms, PwOutput]:
    """vc-relax from its own result, until a separate scf run meets the tolerances."""
    force_ry = force_tolerance / (RY_EV / BOHR_ANGSTROM) / 2
    image = atoms
    while True:
        session.run(
            image,
            "vc-relax",
            control={"forc_conv_thr": float(f"{force_ry:.2e}"), "etot_conv_thr": 1e-5, "nstep": 100},
            cell={"press": round(10 * target, 6), "press_conv_thr": round(5 * tolerance, 6)},
        )
        image = last_structure((session.last / "pw.out").read_text(errors="replace"), image)
        output = session.run(image)
        assert output.forces is not None
        force = float(np.linalg.norm(output.forces, axis=1).max())
        if max(abs(output.pressure_gpa - target), _spread(output)) < tolerance and force < force_tolerance:
            return image, output


def last_structure(text: str, atoms: Atoms) -> Atoms:
    """The last structure in a vc-relax output, whose input was in Å.

    Parameters
    ----------
    text : str
        pw.x output.
    atoms : Atoms
        The input structure, for the species.

    Returns
    -------
    Atoms

    Raises
    ------
    CalculationError
        The output holds no complete structure in Å.
    """
    number = r"[-+]?\d+\.\d+"
    cells = re.findall(
        rf"CELL_PARAMETERS \(angstrom\)\n((?:\s*{number}\s+{number}\s+{number}.*\n){{3}})", text
    )
    row = rf"\s*\w+\s+{number}\s+{number}\s+{number}.*\n"
    sites = re.findall(rf"ATOMIC_POSITIONS \(angstrom\)\s*\n((?:{row}){{{len(atoms)}}})", text)
    if not cells or not sites:
        raise CalculationError("the vc-relax output holds no structure in Å")
    image = atoms.copy()
    image.set_cell(
        np.array([[float(x) for x in line.split()[:3]] for line in cells[-1].strip().splitlines()])
    )
    rows = [line.split() for line in sites[-1].strip().splitlines()]
    image.set_positions([[float(x) for x in words[1:4]] for words in rows])
    return image
