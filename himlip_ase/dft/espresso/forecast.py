"""What labelling a crystal with Quantum ESPRESSO will cost, before anything is calculated.

pw.x itself says how many k-points and bands each cell has (`himlip_ase.dft.espresso.dry_run`).  The time of
one scf step at one k-point then follows the two terms of iterative diagonalisation, N_b FFTs and N_b²
products of wave functions,

    t = A N_b N_fft log₂ N_fft + B N_b² N_pw .

A and B were fitted to H3S cells of 4 and 32 atoms (60 Ry, SG15, one core; examples/h3s/labels).  The other
sets there then come out within a factor of 1.5, ph.x of four hydrides within a factor of two.  Other
machines, pseudopotentials and MPI runs differ by another factor of two or so: a figure to plan with, not to
quote.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import spglib
from ase import Atoms

from himlip_ase.dft.engine import Task
from himlip_ase.dft.espresso.dry_run import DryRun, dry_run
from himlip_ase.dft.espresso.inputs import QESettings, k_grid_like
from himlip_ase.dft.espresso.k_check import denser
from himlip_ase.dft.espresso.runner import Launcher
from himlip_ase.lattice import commensurate_qpoints, grid_triplets
from himlip_ase.symmetry.spglib_search import spglib_search

FFT_SECONDS = 4.05e-9
PRODUCT_SECONDS = 5.9e-9
"""A and B, seconds on one core of the machine that made the labels of H3S."""

SCF_STEPS, RELAX_RUNS, RESPONSE_STEPS = 9, 5, 10
"""Typical numbers: scf steps of a run, runs of a relaxation, iterations of a perturbation in ph.x."""


def forecast(
    atoms: Atoms,
    q_grid: Sequence[int],
    sets: Mapping[str, tuple[int, Atoms]],
    settings: QESettings,
    launcher: Launcher,
    dense_k_grid: Sequence[int] | None,
    relax: bool,
) -> list[Task]:
    """Tasks of labelling, as `himlip_ase.dft.engine.Engine.forecast`.

    Parameters
    ----------
    atoms : Atoms
        Primitive cell.
    q_grid : three ints
    sets : mapping
        {name: (number of cells, one of them)}.
    settings : QESettings
    launcher : Launcher
    dense_k_grid : three ints, optional
        Of the double delta; None without electron-phonon matrices.
    relax : bool

    Returns
    -------
    list of Task
    """
    primitive = dry_run(atoms, settings, launcher)
    tasks = []
    if relax:
        tasks.append(_task("relax", RELAX_RUNS, len(atoms), primitive))
    if dense_k_grid is not None:
        tasks.append(
            _task("scf, dense k", 1, len(atoms), dry_run(atoms, settings.with_k_grid(dense_k_grid), launcher))
        )
    tasks.append(_task("scf", 1, len(atoms), primitive))
    counts = response_k_points(atoms, settings.k_grid, q_grid)
    seconds = 3 * len(atoms) * RESPONSE_STEPS * sum(counts) * step_seconds(primitive)
    disk = 3 * max(counts) * _wave_function_mb(primitive)
    tasks.append(
        Task("ph.x", 1, len(atoms), max(counts), len(counts), seconds / 3600, 3 * primitive.ram_mb, disk)
    )
    for name, (number, cell) in sets.items():
        grid = k_grid_like(atoms, settings.k_grid, cell)
        tasks.append(
            _task(name, number, len(cell), dry_run(cell, settings.with_k_grid(grid), launcher, nosym=True))
        )
    return tasks


def forecast_k_check(atoms: Atoms, q_grid: Sequence[int], settings: QESettings, launcher: Launcher) -> Task:
    """The k-check of `himlip_ase.dft.espresso.k_check`: one q-point off the grid on two k-meshes.

    Parameters
    ----------
    atoms : Atoms
        Primitive cell.
    q_grid : three ints
        Of the harmonic run; the point is of the grid with one division more, and the costliest is counted.
    settings : QESettings
    launcher : Launcher

    Returns
    -------
    Task
    """
    run = dry_run(atoms, settings, launcher)
    finer = [int(q) + 1 for q in q_grid]
    meshes = (settings.k_grid, denser(settings.k_grid))
    counts = [max(response_k_points(atoms, mesh, finer)) for mesh in meshes]
    hours = 3 * len(atoms) * RESPONSE_STEPS * sum(counts) * step_seconds(run) / 3600
    disk = 3 * counts[-1] * _wave_function_mb(run)
    return Task("k-check", len(meshes), len(atoms), counts[-1], 1, hours, 3 * run.ram_mb, disk)


def step_seconds(run: DryRun) -> float:
    """One scf step at one k-point on one core, seconds."""
    ffts = run.bands * run.fft_points * math.log2(max(run.fft_points, 2))
    return FFT_SECONDS * ffts + PRODUCT_SECONDS * run.bands**2 * run.plane_waves


def response_k_points(atoms: Atoms, k_grid: Sequence[int], q_grid: Sequence[int]) -> list[int]:
    """k-points that ph.x needs at each irreducible q: those of the little group of q, with time reversal.

    Parameters
    ----------
    atoms : Atoms
        Primitive cell.
    k_grid, q_grid : three ints
        Γ-centred.

    Returns
    -------
    list of int
        One number for each irreducible q-point; k and k + q both count.
    """
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    symmetry = spglib_search(spglib.get_symmetry, cell, symprec=1e-3)
    rotations = [np.eye(3)] if symmetry is None else list(symmetry["rotations"])
    turned = [np.rint(np.linalg.inv(np.asarray(r, dtype=float)).T).astype(int) for r in rotations]
    # time reversal: k and −k are alike
    reciprocal = list({(sign * r).tobytes(): sign * r for r in turned for sign in (1, -1)}.values())
    points = commensurate_qpoints(q_grid)
    counts, seen = [], np.zeros(len(points), dtype=bool)
    for index, point in enumerate(points):
        if seen[index]:
            continue
        images = [r @ point for r in reciprocal]
        for image in images:
            away = points - image
            seen |= np.abs(away - np.rint(away)).max(axis=1) < 1e-6
        little = [r for r, image in zip(reciprocal, images, strict=True) if _equivalent(image, point)]
        irreducible = irreducible_count(k_grid, little)
        counts.append(irreducible if np.abs(point).max() < 1e-9 else 2 * irreducible)
    return counts


def irreducible_count(grid: Sequence[int], rotations: Sequence[np.ndarray]) -> int:
    """Number of orbits of a Γ-centred grid under integer rotations of the reciprocal basis.

    Parameters
    ----------
    grid : three ints
    rotations : sequence of (3, 3) ndarray of int
        In the reciprocal basis.

    Returns
    -------
    int
    """
    dims = np.asarray(grid)
    triplets = grid_triplets(grid)
    fractions = triplets / dims
    smallest = np.arange(len(triplets))
    for rotation in rotations:
        images = fractions @ rotation.T * dims
        rounded = np.rint(images).astype(int)
        on_grid = np.abs(images - rounded).max(axis=1) < 1e-6
        rounded %= dims
        places = rounded[:, 0] + dims[0] * (rounded[:, 1] + dims[1] * rounded[:, 2])
        smallest = np.where(on_grid, np.minimum(smallest, places), smallest)
    return len(np.unique(smallest))


def _equivalent(first: np.ndarray, second: np.ndarray) -> bool:
    away = first - second
    return bool(np.abs(away - np.rint(away)).max() < 1e-6)


def _task(name: str, jobs: int, atoms: int, run: DryRun) -> Task:
    hours = jobs * SCF_STEPS * run.k_points * step_seconds(run) / 3600
    return Task(
        name, jobs, atoms, run.k_points, None, hours, run.ram_mb, run.k_points * _wave_function_mb(run)
    )


def _wave_function_mb(run: DryRun) -> float:
    """Wave functions of one k-point on disk, MB."""
    return run.bands * run.plane_waves * 16 / 1e6
