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

from ase import Atoms

from himlip_ase.dft.engine import Task
from himlip_ase.dft.espresso.dry_run import DryRun, dry_run
from himlip_ase.dft.espresso.inputs import QESettings, k_grid_like
from himlip_ase.dft.espresso.k_check import denser
from himlip_ase.dft.espresso.response import RESPONSE_STEPS, SCF_STEPS, response_k_points
from himlip_ase.dft.espresso.runner import Launcher

FFT_SECONDS = 4.05e-9
PRODUCT_SECONDS = 5.9e-9
"""A and B, seconds on one core of the machine that made the labels of H3S."""

RELAX_RUNS = 5
"""Typical number of runs of a relaxation."""


def forecast(
    atoms: Atoms,
    q_grid: Sequence[int] | None,
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
    q_grid : three ints or None
        None: no harmonic matrices.
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
    tasks = []
    if relax or q_grid is not None:
        primitive = dry_run(atoms, settings, launcher)
    if relax:
        tasks.append(_task("relax", RELAX_RUNS, len(atoms), primitive))
    if q_grid is not None:
        if dense_k_grid is not None:
            dense = dry_run(atoms, settings.with_k_grid(dense_k_grid), launcher)
            tasks.append(_task("scf, dense k", 1, len(atoms), dense))
        tasks.append(_task("scf", 1, len(atoms), primitive))
        counts = response_k_points(atoms, settings.k_grid, q_grid)
        seconds = 3 * len(atoms) * RESPONSE_STEPS * sum(counts) * step_seconds(primitive)
        sizes = (3 * primitive.ram_mb, 3 * max(counts) * _wave_function_mb(primitive))
        tasks.append(Task("ph.x", 1, len(atoms), max(counts), len(counts), seconds / 3600, *sizes))
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


def _task(name: str, jobs: int, atoms: int, run: DryRun) -> Task:
    hours = jobs * SCF_STEPS * run.k_points * step_seconds(run) / 3600
    return Task(
        name, jobs, atoms, run.k_points, None, hours, run.ram_mb, run.k_points * _wave_function_mb(run)
    )


def _wave_function_mb(run: DryRun) -> float:
    """Wave functions of one k-point on disk, MB."""
    return run.bands * run.plane_waves * 16 / 1e6
