"""Single points with pw.x: an input for each structure, at one density of k-points."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import spglib
from ase import Atoms

from himlip_ase.dft.espresso.inputs import QESettings, pw_input
from himlip_ase.dft.espresso.k_grids import k_grid_like, k_grid_of_spacing
from himlip_ase.dft.espresso.runner import Launcher, check_input_unchanged, finished_run, run_pw
from himlip_ase.dft.single_points import run_jobs, tags_of
from himlip_ase.errors import InputError
from himlip_ase.labels.pw_output import PwOutput
from himlip_ase.symmetry.spglib_search import spglib_search


@dataclass(frozen=True)
class SinglePoint:
    """One pw.x run.

    Attributes
    ----------
    folder : Path
    text : str
        Input.
    notes : mapping
        For its provenance file.
    launcher : Launcher
        How pw.x is started.
    """

    folder: Path
    text: str
    notes: Mapping[str, Any] = field(default_factory=dict)
    launcher: Launcher = field(default_factory=Launcher)

    def started(self) -> bool:
        """See `himlip_ase.dft.jobs.Job.started`."""
        return check_input_unchanged(self.folder, self.text)

    def finished(self) -> PwOutput | None:
        """See `himlip_ase.dft.jobs.Job.finished`."""
        return finished_run(self.folder, self.text)

    def run(self) -> PwOutput:
        """See `himlip_ase.dft.jobs.Job.run`."""
        return run_pw(self.folder, self.text, self.launcher, notes=self.notes)


def single_points(
    frames: Sequence[Atoms],
    folder: str | os.PathLike,
    settings: QESettings,
    *,
    reference: Atoms | None = None,
    k_spacing: float | None = None,
    k_shift: bool = False,
    nosym: bool = True,
    generator: Mapping[str, Any] | None = None,
    launcher: Launcher | None = None,
) -> list[SinglePoint]:
    """Inputs of a set of single points, in the subfolders 000, 001 and so on.

    Parameters
    ----------
    frames : sequence of Atoms
    folder : path-like
        Folder of the set; nothing is written yet.
    settings : QESettings
        `settings.k_grid` is that of `reference`.
    reference : Atoms, optional
        Primitive cell; each frame gets the same k-density, see `k_grid_like`. None: the grid is used as is.
    k_spacing : float, optional
        Å⁻¹, 2π included; each frame gets a grid of its own (`k_grid_of_spacing`), not `settings.k_grid`.
    k_shift : bool
        Shift the grids by half a step in each direction: about as many k-points, whose sums converge faster
        in a cell without symmetry.
    nosym : bool
        Do not look for symmetries: right for disordered cells. Cells that have none are always run so:
        pw.x would reduce the k-points by the symmetries of the lattice and undo that for the atoms, which
        can leave more k-points than the grid has.
    generator : mapping, optional
        How the frames were made, for provenance.
    launcher : Launcher, optional
        How pw.x is started.

    Returns
    -------
    list of SinglePoint

    Raises
    ------
    InputError
        A frame cannot be calculated, or there are none.
    """
    if not frames:
        raise InputError("no structures to calculate")
    jobs = []
    for index, frame in enumerate(frames):
        try:
            grid = settings.k_grid
            if k_spacing is not None:
                grid = k_grid_of_spacing(frame, k_spacing)
            elif reference is not None:
                grid = k_grid_like(reference, settings.k_grid, frame)
            text = pw_input(
                frame, settings.with_k_grid(grid), nosym=nosym or not has_symmetry(frame), k_shift=k_shift
            )
        except InputError as error:
            raise InputError(f"structure {index}: {error}") from error
        notes: dict[str, Any] = {"generator": dict(generator)} if generator else {}
        notes |= tags_of(frame.info)
        jobs.append(SinglePoint(Path(folder) / f"{index:03d}", text, notes, launcher or Launcher()))
    return jobs


def has_symmetry(atoms: Atoms, symprec: float = 1e-5) -> bool:
    """Whether a rotation other than the identity maps the crystal onto itself.

    Parameters
    ----------
    atoms : Atoms
        Periodic in three directions.
    symprec : float
        Å.

    Returns
    -------
    bool
    """
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    found = spglib_search(spglib.get_symmetry, cell, symprec=symprec)
    return found is not None and len(np.unique(found["rotations"], axis=0)) > 1


def run_single_points(
    jobs: Sequence[SinglePoint], launcher: Launcher | None = None, **options: Any
) -> list[PwOutput]:
    """Run what is missing of a set of single points with pw.x.

    Parameters
    ----------
    jobs : sequence of SinglePoint
        See `single_points`; their folders have one parent.
    launcher : Launcher, optional
        Instead of that of the jobs.
    **options
        As `himlip_ase.dft.single_points.run_jobs`.

    Returns
    -------
    list of PwOutput
        In the order of `jobs`.
    """
    if launcher is not None:
        jobs = [replace(job, launcher=launcher) for job in jobs]
    jobs[0].launcher.command(jobs[0].launcher.pw, "pw.in")
    return run_jobs(jobs, **options)
