"""What labelling a crystal with Quantum ESPRESSO will cost, before anything is calculated.

pw.x itself says how many k-points and bands each cell has (`himlip_ase.dft.espresso.dry_run`).  The time of
one scf step at one k-point then follows the two terms of iterative diagonalisation, N_b FFTs and N_b²
products of wave functions,

    t = A N_b N_fft log₂ N_fft + B N_b² N_pw .

Their ratio was fitted to runs of one crystal with cells of different sizes: H3S of 4 to 32 atoms, PdH of 2 to
16, whose steps it then gives in proportion within 15 %, Al and AlH within a factor of 1.5 and 2
(benchmarks/results/forecasts.md).  Their size is that of one core of the machine that made the labels of H3S.
How many steps there are is `himlip_ase.dft.espresso.response.scf_steps`.  Other machines, pseudopotentials
and MPI runs differ by another factor of two or so, which the first scf run tells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ase import Atoms

from himlip_ase.dft.espresso.dry_run import DryRun, dry_run
from himlip_ase.dft.espresso.inputs import QESettings
from himlip_ase.dft.espresso.k_check_record import denser
from himlip_ase.dft.espresso.k_grids import k_grid_like
from himlip_ase.dft.espresso.response import RESPONSE_STEPS, response_k_points, scf_steps
from himlip_ase.dft.espresso.runner import Launcher
from himlip_ase.dft.jobs import Task

FFT_SECONDS = 3.0e-9
PRODUCT_SECONDS = 18e-9
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
    k_shift: bool = False,
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
    k_shift : bool
        Whether the k-grid of ph.x is shifted.

    Returns
    -------
    list of Task
    """
    tasks = []
    if relax or q_grid is not None:
        primitive = dry_run(atoms, settings, launcher)
    if relax:
        tasks.append(_task("relax", RELAX_RUNS, atoms, primitive, settings))
    if q_grid is not None:
        if dense_k_grid is not None:
            dense = dry_run(atoms, settings.with_k_grid(dense_k_grid), launcher)
            tasks.append(_task("scf, dense k", 1, atoms, dense, settings))
        tasks.append(_task("scf", 1, atoms, primitive, settings))
        counts = response_k_points(atoms, settings.k_grid, q_grid, k_shift=k_shift)
        seconds = 3 * len(atoms) * RESPONSE_STEPS * sum(counts) * step_seconds(primitive)
        sizes = (3 * primitive.ram_mb, 3 * max(counts) * _wave_function_mb(primitive))
        tasks.append(Task("ph.x", 1, len(atoms), max(counts), len(counts), seconds / 3600, *sizes))
    for name, (number, cell) in sets.items():
        grid = k_grid_like(atoms, settings.k_grid, cell)
        run = dry_run(cell, settings.with_k_grid(grid), launcher, nosym=True)
        tasks.append(_task(name, number, cell, run, settings))
    return tasks


def forecast_k_check(
    atoms: Atoms, q_grid: Sequence[int], settings: QESettings, launcher: Launcher, k_shift: bool = False
) -> Task:
    """The k-check of `himlip_ase.dft.espresso.k_check`: one q-point off the grid on two k-meshes, Γ on one.

    Parameters
    ----------
    atoms : Atoms
        Primitive cell.
    q_grid : three ints
        Of the harmonic run; the point is of the grid with one division more, and the costliest is counted.
    settings : QESettings
    launcher : Launcher
    k_shift : bool
        Whether the k-grids are shifted.

    Returns
    -------
    Task
    """
    run = dry_run(atoms, settings, launcher)
    finer = [int(q) + 1 for q in q_grid]
    meshes = (settings.k_grid, denser(settings.k_grid))
    counts = [max(response_k_points(atoms, mesh, finer, k_shift=k_shift)) for mesh in meshes]
    at_gamma = min(response_k_points(atoms, meshes[-1], (1, 1, 1), k_shift=k_shift))
    hours = 3 * len(atoms) * RESPONSE_STEPS * (sum(counts) + at_gamma) * step_seconds(run) / 3600
    disk = 3 * counts[-1] * _wave_function_mb(run)
    return Task("k-check", len(meshes) + 1, len(atoms), counts[-1], 1, hours, 3 * run.ram_mb, disk)


def step_seconds(run: DryRun) -> float:
    """One scf step at one k-point on one core, seconds."""
    ffts = run.bands * run.fft_points * math.log2(max(run.fft_points, 2))
    return FFT_SECONDS * ffts + PRODUCT_SECONDS * run.bands**2 * run.plane_waves


def _task(name: str, jobs: int, atoms: Atoms, run: DryRun, settings: QESettings) -> Task:
    steps = scf_steps(len(atoms), settings.conv_thr)
    hours = jobs * steps * run.k_points * step_seconds(run) / 3600
    disk = run.k_points * _wave_function_mb(run)
    return Task(name, jobs, len(atoms), run.k_points, None, hours, run.ram_mb, disk)


def _wave_function_mb(run: DryRun) -> float:
    """Wave functions of one k-point on disk, MB."""
    return run.bands * run.plane_waves * 16 / 1e6
