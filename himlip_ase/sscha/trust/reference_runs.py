"""Verification runs of Quantum ESPRESSO: inputs written, run or only collected, each once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING

from ase import Atoms

from himlip_ase.errors import CalculationError
from himlip_ase.evaluation import Evaluation
from himlip_ase.files import atomic_write

if TYPE_CHECKING:
    from himlip_ase.dft.espresso.inputs import QESettings
    from himlip_ase.dft.espresso.runner import Launcher
    from himlip_ase.dft.espresso.single_points import SinglePoint
    from himlip_ase.labels.pw_output import PwOutput

GENERATOR = {"method": "SSCHA verification"}


def pw_jobs(
    images: Sequence[Atoms], folder: Path, settings: QESettings, primitive: Atoms
) -> list[SinglePoint]:
    """One pw.x run for each image, in ``<folder>/000``, …, with the k-density of `primitive`.

    Parameters
    ----------
    images : sequence of Atoms
    folder : Path
    settings : QESettings
    primitive : Atoms
        Cell to which the k-grid of `settings` belongs.

    Returns
    -------
    list of SinglePoint
    """
    from himlip_ase.dft.espresso.single_points import single_points

    return single_points(images, folder, settings, reference=primitive, generator=GENERATOR)


def write_pw_inputs(jobs: Sequence[SinglePoint]) -> list[Path]:
    """Write the inputs of the runs that were not begun; run them anywhere, as ``pw.x -in pw.in > pw.out``.

    Returns
    -------
    list of Path
        The inputs that are still without a finished output.

    Raises
    ------
    InputError
        A folder holds another input.
    """
    from himlip_ase.dft.espresso.runner import check_input_unchanged, finished_run

    missing = []
    for job in jobs:
        path = job.folder / "pw.in"
        if not check_input_unchanged(job.folder, job.text):
            with atomic_write(path) as stream:
                stream.write(job.text)
        if finished_run(job.folder, job.text) is None:
            missing.append(path)
    return missing


def run_pw_jobs(
    jobs: Sequence[SinglePoint], launcher: Launcher, executor: Executor | None = None, resume: bool = False
) -> Evaluation:
    """Run what is missing, keep what is finished.

    Parameters
    ----------
    jobs : sequence of SinglePoint
    launcher : Launcher
    executor : Executor, optional
        Where pw.x runs; None: here, one after the other.
    resume : bool
        Whether some of them may have been run before.

    Returns
    -------
    Evaluation
        As `himlip_ase.dft.single_points.run_jobs` runs them, in the order of `jobs`.
    """
    from himlip_ase.dft.espresso.single_points import run_single_points

    return _arrays(run_single_points(jobs, launcher, executor=executor, resume=resume, progress=True))


def _arrays(outputs: Sequence[PwOutput]) -> Evaluation:
    points = []
    for output in outputs:
        if output.forces is None:
            raise CalculationError("a pw.x output has no forces; give tprnfor = .true. in its input")
        points.append((output.energy, output.forces, output.stress))
    return Evaluation.stack(points)
