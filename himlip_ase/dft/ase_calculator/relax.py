"""Relaxation with an ASE calculator whose every step is a job of its own, kept and found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from himlip_ase.dft.ase_calculator.job import REQUEST, AseJob, CalculatorSpec, read_run
from himlip_ase.dft.executors import JobExecutor
from himlip_ase.dft.finished_runs import RelaxResult
from himlip_ase.dft.label_folder import write_crystal
from himlip_ase.errors import InputError, NotConvergedError
from himlip_ase.files import FolderLock
from himlip_ase.relaxation import relax as relax_with
from himlip_ase.units import EV_PER_ANGSTROM3_GPA

FORCE_TOLERANCE = 1e-3
"""eV/Å, of the first round; each further one asks for a tenth."""
ROUNDS = 3


class StepCalculator(Calculator):
    """An ASE calculator that takes each step from a numbered job: run on an executor, or found finished.

    A relaxation that was stopped is walked again, at no cost, to where it ended.

    Parameters
    ----------
    folder : Path
    spec : CalculatorSpec
    executor : JobExecutor
    max_runs : int
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, folder: Path, spec: CalculatorSpec, executor: JobExecutor, max_runs: int) -> None:
        super().__init__()
        self.folder, self.spec, self.executor, self.max_runs = folder, spec, executor, max_runs
        self.steps, self.core_seconds = 0, 0.0

    @property
    def last(self) -> Path:
        """Folder of the last step."""
        return self.folder / f"{self.steps - 1:03d}"

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        """See `himlip_ase.dft.jobs.Job.run`; one step of the relaxation."""
        super().calculate(atoms, properties, system_changes)
        if self.steps >= self.max_runs:
            raise NotConvergedError(
                f"{self.folder}: the tolerances are not met after {self.steps} runs; start again from the "
                "last structure, or allow more with --max-runs"
            )
        assert atoms is not None
        image = atoms.copy()
        image.set_constraint()
        job = AseJob((self.folder / f"{self.steps:03d}").absolute(), image, self.spec)
        found = job.finished() or self.executor.call(job.run)
        self.steps += 1
        self.core_seconds += found.core_seconds
        self.results = {"energy": found.energy, "free_energy": found.energy, "forces": found.forces}
        if found.stress is not None:
            self.results["stress"] = found.stress


def relax(
    atoms: Atoms,
    pressure_gpa: float,
    spec: CalculatorSpec,
    folder: Path,
    executor: JobExecutor,
    *,
    pressure_tolerance_gpa: float = 0.2,
    max_runs: int = 200,
    resume: bool = False,
    overwrite: bool = False,
) -> RelaxResult:
    """Relax cell and positions to a static pressure with an ASE calculator, keeping the space group.

    Parameters
    ----------
    atoms, pressure_gpa, folder, executor, pressure_tolerance_gpa, max_runs, resume, overwrite
        As `himlip_ase.dft.engine.Engine.relax`.
    spec : CalculatorSpec

    Returns
    -------
    RelaxResult

    Raises
    ------
    InputError
        `folder` was used before and `resume` is False, or the calculator has no stress.
    NotConvergedError
        The tolerances are not met.
    """
    folder = Path(folder)
    with FolderLock(folder):
        if not resume and (folder / "000" / REQUEST).is_file():
            raise InputError(f"{folder} holds runs already; continue with --resume, or choose another folder")
        calculator = StepCalculator(folder, spec, executor, max_runs)
        image = atoms.copy()
        image.set_constraint()
        for round_number in range(ROUNDS):
            fmax = FORCE_TOLERANCE / 10**round_number
            try:
                found = relax_with(
                    image, calculator, pressure_gpa, fmax=fmax, steps=max_runs, keep_symmetry=True
                )
            except NotImplementedError as error:
                raise InputError(
                    f"{spec.calculator} has no stress, which the relaxation of a cell needs; relax the "
                    "crystal otherwise and set labels: {relax: false}"
                ) from error
            image = found.atoms
            assert found.stress is not None and found.pressure_gpa is not None
            spread = found.stress.copy()
            spread[:3] -= found.stress[:3].mean()
            spread_gpa = float(np.abs(spread).max()) * EV_PER_ANGSTROM3_GPA
            off = max(abs(found.pressure_gpa - pressure_gpa), spread_gpa)
            if off < pressure_tolerance_gpa:
                break
        else:
            raise NotConvergedError(
                f"{folder}: with forces below {fmax:g} eV/Å a stress component is still {off:.3f} GPa off"
            )
        final = AseJob((folder / "relaxed").absolute(), image, spec)
        result = final.finished() or executor.call(final.run)
        crystal = write_crystal(read_run(final.folder), folder, overwrite)
    return RelaxResult(
        image,
        found.pressure_gpa,
        spread_gpa,
        float(np.linalg.norm(result.forces, axis=1).max()),
        result.energy,
        calculator.steps + 1,
        calculator.core_seconds + result.core_seconds,
        crystal,
    )
