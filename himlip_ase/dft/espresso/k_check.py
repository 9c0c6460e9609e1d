"""Is the k-mesh of a harmonic run good enough? One q-point on a denser mesh, and an error for the others."""

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
    meshes: Sequence[Sequence[int]] = (),
    qpoint: Sequence[float] | None = None,
    tolerance_cm: float = TOLERANCE_CM,
    executor: JobExecutor | None = None,
) -> KCheck:
    """Repeat one q-point of a finished harmonic run on denser k-meshes and write ``k_check/`` beside it.

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
    meshes : sequence of three ints each
        Denser k-meshes, ascending; default: one, `denser` than that of the run.
    qpoint : three floats, optional
        In units of the reciprocal vectors; default `telling_qpoint`. A point of the run's q-grid saves the
        run on the mesh of the labels.
    tolerance_cm : float
        A mesh does if no frequency at the tested q-point moves by more on the densest one.
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
    q = telling_qpoint(matrices) if qpoint is None else np.asarray(qpoint, dtype=float)
    if q.shape != (3,) or not np.isfinite(q).all():
        raise InputError(f"the q-point of the k-check is {qpoint}; give three numbers, e.g. 0.3333 0 0")
    on_grid = int(grid_indices(q, matrices.dims)[0])
    todo = ladder[1:] if on_grid >= 0 else ladder
    _say_cost(folder, matrices, q, settings.k_grid, todo)
    found: dict[Grid, np.ndarray] = {}
    place = folder / FOLDER
    place.mkdir(exist_ok=True)
    core_seconds = 0.0
    with RunLock(place):
        for mesh in todo:
            job = (atoms, q, settings.with_k_grid(mesh), place.absolute(), launcher)
            try:
                found[mesh], spent = executor.call(matrix_at, *job) if executor else matrix_at(*job)
            except NotRun:
                continue
            core_seconds += spent
        if len(found) < len(todo):
            raise NotRun(f"{place}: noted, not run")
    if on_grid >= 0:
        found[ladder[0]] = matrices.matrices[on_grid]
    check = KCheck(
        matrices.primitive,
        q,
        ladder,
        np.array([found[mesh] for mesh in ladder]),
        tolerance_cm,
        core_seconds,
    )
    write_k_check(check, matrices, folder)
    logger.log(logging.INFO if check.converged else logging.WARNING, "k-check: %s", check.verdict())
    return check


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
    folder: Path, matrices: DynamicalMatrices, q: np.ndarray, labels: Grid, todo: Sequence[Grid]
) -> None:
    """The cost scales as (k-points) / (order of the group of q); the harmonic run shows the rest."""
    spent = ph_core_seconds(folder)
    left = [mesh for mesh in todo if not (folder / FOLDER / dyn_name(mesh)).is_file()]
    if not spent or not left:
        return
    orders = _little_orders(matrices.primitive, np.concatenate([matrices.qpoints, q[None]]))
    # a star of s points costs once 1/order = s/|G|: summed over the grid, each point counts 1/|G|
    own = len(matrices.qpoints) / _little_orders(matrices.primitive, np.zeros((1, 3)))[0]
    minutes = [spent / 60 / own / orders[-1] * np.prod(mesh) / np.prod(labels) for mesh in left]
    logger.info(
        "k-check at q = (%s) on %s k: about %.0f core-minutes (the harmonic run took %.0f)",
        ", ".join(f"{x:.4g}" for x in q),
        " and ".join(times(mesh) for mesh in left),
        sum(minutes),
        spent / 60,
    )


def _little_orders(primitive: Atoms, qpoints: np.ndarray) -> np.ndarray:
    """Number of operations of the point group that leave each q-point where it is, modulo G."""
    rotations = crystal_operations(primitive, (1, 1, 1), symprec=1e-4).rotations
    cell = primitive.cell.array
    orders = np.zeros(len(qpoints), dtype=int)
    for rotation in np.unique(np.round(rotations, 8), axis=0):
        moved = qpoints @ np.linalg.inv(cell).T @ rotation.T @ cell.T - qpoints
        orders += np.abs(moved - np.rint(moved)).max(axis=1) < 1e-4
    return orders
