"""Harmonic matrices with an ASE calculator: phonopy's displacements, each a job of its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.dft.ase_calculator.job import STATE, AseJob, CalculatorSpec, published_request, read_run
from himlip_ase.dft.executors import JobExecutor
from himlip_ase.dft.label_folder import SCHEMA, write_crystal
from himlip_ase.dft.other_request import OtherRequest
from himlip_ase.dft.single_points import run_jobs
from himlip_ase.errors import CalculationError, InputError
from himlip_ase.files import FolderLock, atomic_write, read_mapping, write_json
from himlip_ase.lattice import check_dims, check_primitive
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.phonons.harmonic import FORCE_WARNING
from himlip_ase.phonons.phonopy_io import write_phonopy_params
from himlip_ase.phonons.phonopy_objects import from_phonopy_atoms, setup_phonopy
from himlip_ase.phonons.qe import read_dyn, write_dyn

logger = logging.getLogger(__name__)

RECORD, CRYSTAL, DISPLACED, PARAMS = "harmonic.json", "crystal", "displaced", "phonopy_params.yaml"


def displaced_supercells(
    primitive: Atoms, dims: Sequence[int], displacement: float
) -> tuple[Any, list[Atoms]]:
    """A `Phonopy` object with displacements, and its displaced supercells.

    Parameters
    ----------
    primitive : Atoms
    dims : three ints
        Diagonal supercell.
    displacement : float
        Å; both signs of each displacement are taken, so that residual forces cancel.

    Returns
    -------
    Phonopy
    list of Atoms
    """
    ph = setup_phonopy(primitive, dims)
    ph.generate_displacements(distance=displacement, is_plusminus=True)
    cells = [from_phonopy_atoms(cell) for cell in ph.supercells_with_displacements or []]
    origin = np.repeat(np.arange(len(primitive)), int(np.prod(dims)))  # phonopy's order
    for name in STATE:
        if name in primitive.arrays:
            for cell in cells:
                cell.set_array(name, primitive.arrays[name][origin])
    return ph, cells


def harmonic(
    atoms: Atoms,
    q_grid: Sequence[int],
    spec: CalculatorSpec,
    folder: Path,
    executor: JobExecutor,
    *,
    displacement: float = 0.01,
    resume: bool = False,
) -> ForceConstants:
    """Harmonic force constants of the supercell of a q-grid, with the crystal's symmetry and the sum rules.

    Parameters
    ----------
    atoms : Atoms
        Relaxed primitive cell.
    q_grid : three ints
        Also the supercell.
    spec : CalculatorSpec
    folder : path-like
        ``displaced/000`` …, ``crystal/``, dyn files, ``phonopy_params.yaml`` and ``harmonic.json`` go here.
    executor : JobExecutor
    displacement : float
        Å.
    resume : bool
        Whether `folder` may hold an earlier run.

    Returns
    -------
    ForceConstants

    Raises
    ------
    InputError
        `folder` holds a run and `resume` is False, or another one.
    CalculationError
        A calculation failed.
    """
    folder, dims = Path(folder), check_dims(q_grid)
    bare = atoms.copy()
    bare.set_constraint()
    primitive = check_primitive(bare)
    for name in STATE:
        if name in bare.arrays:
            primitive.set_array(name, bare.arrays[name])
    asked = {"q_grid": list(dims), "displacement_angstrom": displacement, **spec.settings()}
    with FolderLock(folder):
        record = folder / RECORD
        if record.is_file():
            if not resume:
                raise InputError(
                    f"{folder} holds a harmonic run already; continue with --resume, or choose another folder"
                )
            if read_mapping(record) != asked:
                raise OtherRequest(
                    f"{record} asks for something else; choose another folder, or delete this one", folder
                )
        write_json(record, asked, overwrite=True)
        crystal = AseJob((folder / CRYSTAL).absolute(), primitive, spec)
        residual = float(np.abs((crystal.finished() or executor.call(crystal.run)).forces).max())
        if residual > FORCE_WARNING:
            logger.warning("the largest force is %.3g eV/Å: the crystal is not relaxed", residual)
        ph, cells = displaced_supercells(primitive, dims, displacement)
        jobs = [
            AseJob((folder / DISPLACED / f"{k:03d}").absolute(), cell, spec) for k, cell in enumerate(cells)
        ]
        logger.info("%d displaced supercells of %d atoms", len(jobs), len(cells[0]))
        results = run_jobs(jobs, executor=executor, resume=True, progress=True)
        ph.forces = np.array([result.forces for result in results])
        ph.produce_force_constants(calculate_full_force_constants=False)
        constants = ForceConstants(primitive, dims, np.asarray(ph.force_constants)).symmetrized()
        write_dyn(constants.dynamical_matrices(), folder / "dyn", overwrite=True)
        write_phonopy_params(constants, folder / PARAMS, overwrite=True)
    return constants


def publish_harmonic(folder: Path, out: Path, name: str, overwrite: bool = False) -> Path:
    """Publish a finished harmonic run: dyn files, phonopy_params.yaml, crystal.extxyz, provenance.

    Parameters
    ----------
    folder, out : path-like
        Of the run; label folder.
    name : str
        Subfolder of `out`.
    overwrite : bool
        Replace what is there.

    Returns
    -------
    Path
        ``out/name``.

    Raises
    ------
    InputError, CalculationError
        It exists, is unfinished, or belongs to another crystal.
    """
    folder, out = Path(folder), Path(out)
    target = out / name
    if (target / "provenance.json").exists() and not overwrite:
        raise InputError(
            f"{target} exists already; pass overwrite=True (--overwrite) or choose another folder"
        )
    if not (folder / PARAMS).is_file():
        raise CalculationError(f"{folder} holds no finished harmonic run; continue it with --resume")
    asked = read_mapping(folder / RECORD)
    crystal = read_run(folder / CRYSTAL)
    matrices = read_dyn(folder / "dyn0")
    displaced = [read_run(path) for path in sorted((folder / DISPLACED).iterdir()) if path.is_dir()]
    write_crystal(crystal, out, overwrite)
    count = len(list(folder.glob("dyn[0-9]*")))
    for path in [*(folder / f"dyn{k}" for k in range(count)), folder / PARAMS]:
        with atomic_write(target / path.name, overwrite=overwrite) as stream:
            stream.write(path.read_text(encoding="utf-8"))
    with atomic_write(out / "inputs" / f"{name}_crystal.json", overwrite=True) as stream:
        stream.write(published_request(folder / CRYSTAL))
    write_json(
        target / "provenance.json",
        {
            "schema": SCHEMA,
            "set": name,
            "code": f"{crystal.code}, displacements of phonopy",
            "settings": dict(crystal.settings),
            "q_grid": list(matrices.dims),
            "irreducible_q": count - 1,
            "displacement_angstrom": asked["displacement_angstrom"],
            "displaced_supercells": len(displaced),
            "core_seconds": round(crystal.core_seconds + sum(run.core_seconds for run in displaced), 2),
        },
        overwrite=overwrite,
    )
    logger.info("%d dyn files → %s", count, target)
    return target
