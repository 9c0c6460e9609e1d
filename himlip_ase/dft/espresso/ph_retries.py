"""ph.x, and its repetition with gentler mixing where it fails."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from himlip_ase.dft.espresso.inputs import SCRATCH
from himlip_ase.dft.espresso.runner import Launcher
from himlip_ase.dft.programs import RunLock, run_program
from himlip_ase.errors import CalculationError
from himlip_ase.files import atomic_write
from himlip_ase.labels.espresso_ends import MpiError, OutOfTimeError

logger = logging.getLogger(__name__)

PH_RETRIES: tuple[dict[str, Any], ...] = ({}, {"alpha_mix": 0.3}, {"alpha_mix": 0.1})
"""What the repetitions of a failed ph.x run change."""


def run_ph(
    folder: Path,
    launcher: Launcher,
    text: Callable[[Mapping[str, Any]], str],
    check: Callable[[], object],
    lock: RunLock | None = None,
) -> list[dict[str, Any]]:
    """Run ph.x until what it leaves passes `check`.

    Parameters
    ----------
    folder : Path
        With ``SCRATCH`` of the scf run.
    launcher : Launcher
    text : callable
        The content of ``ph.in`` for changes of `PH_RETRIES`; called before each attempt.
    check : callable
        Raises `CalculationError` where the folder is not complete.
    lock : RunLock, optional

    Returns
    -------
    list of dict
        The failures, and what was changed after each.

    Raises
    ------
    OutOfTimeError, MpiError
        At once: repeating it mends neither.
    CalculationError
        After the last attempt.
    """
    retries: list[dict[str, Any]] = []
    changes: dict[str, Any] = {}
    for attempt in range(launcher.retries + 1):
        with atomic_write(folder / "ph.in", overwrite=True) as stream:
            stream.write(text(changes))
        _keep_old_output(folder)
        shutil.rmtree(folder / SCRATCH / "_ph0", ignore_errors=True)
        status = run_program(launcher.command(launcher.ph, "ph.in"), folder, "ph.out", launcher.threads, lock)
        try:
            check()
            if status:
                raise CalculationError(f"{folder / 'ph.out'}: the program ended with exit status {status}")
            break
        except (OutOfTimeError, MpiError):
            raise
        except CalculationError as error:
            if attempt == launcher.retries:
                raise type(error)(f"{error} after {attempt + 1} attempts") from error
            changes = PH_RETRIES[attempt]
            retries.append({"failure": str(error).replace(f"{folder}{os.sep}", ""), "then_changed": changes})
            logger.warning("%s; repeating it with %s", error, changes or "the same input")
    return retries


def _keep_old_output(folder: Path) -> None:
    if (folder / "ph.out").is_file():
        number = 1
        while (folder / f"ph.part{number}.out").exists():
            number += 1
        os.replace(folder / "ph.out", folder / f"ph.part{number}.out")
