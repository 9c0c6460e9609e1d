"""Is the k-mesh of a harmonic run good enough? One q-point and Γ on a denser mesh; errors of the others."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from himlip_ase.dft.espresso.inputs import QESettings
from himlip_ase.dft.espresso.k_check_record import (
    FOLDER,
    TOLERANCE_CM,
    Grid,
    KCheck,
    denser,
    dyn_name,
    times,
    write_k_check,
)
from himlip_ase.dft.espresso.k_check_run import matrix_at
from himlip_ase.dft.espresso.ph_files import ph_core_seconds
from himlip_ase.dft.espresso.runner import Launcher
from himlip_ase.dft.executors import JobExecutor
from himlip_ase.dft.programs import NotRun, RunLock
from himlip_ase.errors import InputError
from himlip_ase.lattice import grid_indices
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.k_error import telling_qpoint
from himlip_ase.phonons.qe import read_dyn
from himlip_ase.symmetry.operations import crystal_operations

logger = logging.getLogger(__name__)


def check_k(
    atoms: Atoms,
    folder: str | os.PathLike,
    settings: QESettings,
    launcher: Launcher | None = None,
    *,
    k_shift: bool = False,
    meshes: Sequence[Sequence[int]] = (),
    qpoint: Sequence[float] | None = None,
    tolerance_cm: float = TOLERANCE_CM,
    executor: JobExecutor | None = None,
) -> KCheck:
    """Repeat a q-point and Γ of a finished harmonic run on denser k-meshes and write ``k_check/`` beside it.

    Off the grid because points of high symmetry often look converged before others do; at Γ because they may
    also be the worst, and cost little: where degenerate states at k = 0 lie near the Fermi level, a mode that
    splits them depends on the share of this one k-point (T₂g of CaH₆: −452 cm⁻¹ on 12³, 924 on 18³ k).

    What is finished already is kept.

    Parameters
    ----------
    atoms : Atoms
        Primitive cell of the run.
    folder : path-like
        Folder of the harmonic run, which holds dyn0, dyn1, …
    settings : QESettings
        Those of the run.
    launcher : Launcher, optional
    k_shift : bool
        Whether the run's k-mesh is shifted by half a step; the denser ones are then, too.
    meshes : sequence of three ints each
        Denser k-meshes, ascending; default: one, `denser` than that of the run.
    qpoint : three floats, optional
        In units of the reciprocal vectors, the only one that is tested; default `telling_qpoint`, and Γ. A
        point of the run's q-grid saves the run on the mesh of the labels.
    tolerance_cm : float
        A mesh does if no frequency at the tested q-points moves by more on the densest one.
    executor : JobExecutor, optional
        Where the programs run; None: here.

    Returns
    -------
    KCheck

    Raises
    ------
    InputError
        A mesh that is not denser, a folder without a harmonic run or with another check.
    NotConvergedError, CalculationError
        A run failed.
    """
    folder, launcher = Path(folder), launcher or Launcher()
    matrices = read_dyn(folder / "dyn0")
    ladder = _ladder(settings.k_grid, meshes)
    qpoints = _tested_qpoints(matrices, qpoint)
    on_grid = grid_indices(qpoints, matrices.dims)
    todo = [
        (number, mesh)
        for number, place in enumerate(on_grid)
        for mesh in (ladder[1:] if place >= 0 else ladder)
    ]
    _say_cost(folder, matrices, qpoints, settings.k_grid, todo)
    found: dict[tuple[int, Grid], np.ndarray] = {
        (number, ladder[0]): matrices.matrices[place] for number, place in enumerate(on_grid) if place >= 0
    }
    place = folder / FOLDER
    place.mkdir(exist_ok=True)
    core_seconds = 0.0
    with RunLock(place):
        for number, mesh in todo:
            settings_there = settings.with_k_grid(mesh)
            job = (atoms, qpoints[number], settings_there, place.absolute(), launcher, number, k_shift)
            try:
                found[number, mesh], spent = executor.call(matrix_at, *job) if executor else matrix_at(*job)
            except NotRun:
                continue
            core_seconds += spent
        if len(found) < len(qpoints) * len(ladder):
            raise NotRun(f"{place}: noted, not run")
    numbers = range(len(qpoints))
    tested = np.array([[found[number, mesh] for mesh in ladder] for number in numbers])
    check = KCheck(matrices.primitive, qpoints, ladder, tested, tolerance_cm, core_seconds, k_shift)
    write_k_check(check, matrices, folder)
    logger.log(logging.INFO if check.converged else logging.WARNING, "k-check: %s", check.verdict())
    return check


def _tested_qpoints(matrices: DynamicalMatrices, chosen: Sequence[float] | None) -> np.ndarray:
    if chosen is None:
        return np.array([telling_qpoint(matrices), np.zeros(3)])
    q = np.asarray(chosen, dtype=float)
    if q.shape != (3,) or not np.isfinite(q).all():
        raise InputError(f"the q-point of the k-check is {chosen}; give three numbers, e.g. 0.3333 0 0")
    return q[None]


def _ladder(labels: Grid, meshes: Sequence[Sequence[int]]) -> tuple[Grid, ...]:
    ladder = [_grid(labels)]
    for mesh in meshes or (denser(labels),):
        grid = _grid(mesh)
        if grid == ladder[-1] or any(new < old for new, old in zip(grid, ladder[-1], strict=True)):
            raise InputError(
                f"the k-check needs a mesh denser than {times(ladder[-1])}, not {times(grid)}; "
                f"give e.g. --check-k-mesh {' '.join(map(str, denser(ladder[-1])))}"
            )
        ladder.append(grid)
    return tuple(ladder)


def _grid(mesh: Sequence[int]) -> Grid:
    if len(mesh) != 3:
        raise InputError(f"a k-mesh has three numbers, not {times(mesh)}")
    return int(mesh[0]), int(mesh[1]), int(mesh[2])


def _say_cost(
    folder: Path,
    matrices: DynamicalMatrices,
    qpoints: np.ndarray,
    labels: Grid,
    todo: Sequence[tuple[int, Grid]],
) -> None:
    """The cost scales as (k-points) / (order of the group of q); the harmonic run shows the rest."""
    spent = ph_core_seconds(folder)
    left = [job for job in todo if not (folder / FOLDER / dyn_name(job[1], job[0])).is_file()]
    if not spent or not left:
        return
    orders = _little_orders(matrices.primitive, np.concatenate([qpoints, np.zeros((1, 3))]))
    # a star of s points costs once 1/order = s/|G|: summed over the grid, each point counts 1/|G|
    own = len(matrices.qpoints) / orders[-1]
    minutes = [spent / 60 / own / orders[number] * np.prod(mesh) / np.prod(labels) for number, mesh in left]
    for number in sorted({number for number, _ in left}):
        logger.info(
            "k-check at q = (%s) on %s k",
            ", ".join(f"{x:.4g}" for x in qpoints[number]),
            " and ".join(times(mesh) for point, mesh in left if point == number),
        )
    logger.info("about %.0f core-minutes (the harmonic run took %.0f)", sum(minutes), spent / 60)


def _little_orders(primitive: Atoms, qpoints: np.ndarray) -> np.ndarray:
    """Number of operations of the point group that leave each q-point where it is, modulo G."""
    rotations = crystal_operations(primitive, (1, 1, 1), symprec=1e-4).rotations
    cell = primitive.cell.array
    orders = np.zeros(len(qpoints), dtype=int)
    for rotation in np.unique(np.round(rotations, 8), axis=0):
        moved = qpoints @ np.linalg.inv(cell).T @ rotation.T @ cell.T - qpoints
        orders += np.abs(moved - np.rint(moved)).max(axis=1) < 1e-4
    return orders
