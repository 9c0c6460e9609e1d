"""SSCHA runs corrected by finished labels of cells that an SSCHA drew."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.phonons.force_constants import acoustic
from himlip_ase.pipeline.labels import label_folder
from himlip_ase.pipeline.potential_error import read_twins_changes
from himlip_ase.pipeline.stages import Context, Outcome
from himlip_ase.sscha.trust.label_correction_files import AGREEMENT, DYN, RECORD, write_label_correction
from himlip_ase.units import EV_PER_ANGSTROM3_GPA

if TYPE_CHECKING:
    from himlip_ase.potential.interface import Potential
    from himlip_ase.sscha.trust.label_correction import LabelCorrection

logger = logging.getLogger(__name__)

CORRECTION_VERSION = 3
"""In the key of the stage: what an older version corrected is corrected anew."""


def correct_by_finished_labels(
    context: Context,
    folder: Path,
    outcome: Outcome,
    model: Path,
    twins: Sequence[Potential],
    names: Sequence[str],
    suffix: str = "",
    isotope: bool = False,
) -> None:
    """Correct an SSCHA by sets of finished labels, and quote what they ask for.

    Isotopes are corrected by the same cells: electrons do not know the masses, and what differs is how far
    atoms move, on which the linear part of an anharmonic difference depends.

    Parameters
    ----------
    context : Context
    folder : Path
        Of the finished SSCHA; the corrected auxiliary is written into it.
    outcome : Outcome
    model : Path
        Weights of the potential that made it.
    twins : sequence of Potential
        Its twins.
    names : sequence of str
        The sets; none: not corrected.
    suffix : str
        Of the figures' names: "" for the main run.
    isotope : bool
        Whether its masses are others than those of the SSCHA that drew the cells.
    """
    if context.learns:
        return
    for path in (folder / RECORD, folder / AGREEMENT, *folder.glob(f"{DYN}*")):
        path.unlink(missing_ok=True)
    if not names:
        return
    try:
        found = _correction(context, folder, model, twins, names)
    except (InputError, CalculationError) as error:
        of = f" of {suffix[1:]}" if suffix else ""
        outcome.notes.append(f"The SSCHA{of} was not corrected by {', '.join(names)}: {error}.")
        return
    write_label_correction(found, names, folder, overwrite=True)
    _quote(outcome, folder, found, names, suffix, isotope)


def _correction(
    context: Context, folder: Path, model: Path, twins: Sequence[Potential], names: Sequence[str]
) -> LabelCorrection:
    from himlip_ase.sscha.results.result import load_result
    from himlip_ase.sscha.trust.judged_cells import judged_cells
    from himlip_ase.sscha.trust.label_correction import label_correction

    if not twins:
        raise InputError(
            "the potential has no twins, which judge what it has learnt itself; finetune.closed_form makes "
            "them, and finetune.twins asks a training by gradients for some, of four independent groups of "
            "cells or more (opposites are one)"
        )
    frames = label_folder(context).frames(names)
    logger.info("correcting the SSCHA in %s by %d labelled cells", folder.name, len(frames))
    result = load_result(folder)
    cells = judged_cells(frames, result.auxiliary, model, twins)
    return label_correction(result, cells, read_twins_changes(folder, result.auxiliary))


def _quote(
    outcome: Outcome,
    folder: Path,
    found: LabelCorrection,
    names: Sequence[str],
    suffix: str,
    isotope: bool,
) -> None:
    from himlip_ase.sscha.results.result import load_result

    moving = np.ones(found.change_cm.shape, dtype=bool)
    moving[0, acoustic(found.before)] = False
    change, sigma = found.change_cm[moving], found.change_sigma_cm[moving]
    beyond = np.abs(change) / np.maximum(sigma, 1e-12)
    how = (
        f"what {found.groups} independent groups of labelled cells ({', '.join(names)}) ask for beyond the "
        "auxiliary, each judged by a potential that did not learn it"
    )
    if isotope:
        how += "; drawn at the masses of the main run, so that its ± lacks what smaller motion changes"
    rms = float(np.sqrt(np.mean(change**2)))
    outcome.add(f"corrected_by_dft.rms{suffix}", rms, "cm⁻¹", f"rms of {how}")
    for name, what, size in (
        ("farthest", "the change farthest beyond its ±", beyond),
        ("largest", "the largest change", np.abs(change)),
    ):
        k = int(size.argmax())
        key = f"corrected_by_dft.{name}{suffix}"
        outcome.add(key, float(change[k]), "cm⁻¹", f"{what}, {how}", float(sigma[k]))
    outcome.add(
        f"corrected_by_dft.within_two_sigma{suffix}",
        round(float((beyond <= 2).mean()), 3),
        "",
        f"share of the frequencies that are changed by no more than twice the ±; {how}",
    )
    outcome.add(f"corrected_by_dft.largest_sigma{suffix}", float(sigma.max()), "cm⁻¹", f"largest ± of {how}")
    result = load_result(folder)
    if found.pressure_gpa is not None and result.stress is not None and result.stress_sigma is not None:
        own = -float(result.stress[:3].mean()) * EV_PER_ANGSTROM3_GPA
        sampling = float(result.stress_sigma[:3].mean()) * EV_PER_ANGSTROM3_GPA
        outcome.add(
            f"pressure_quantum.corrected{suffix}",
            own + found.pressure_gpa,
            "GPa",
            f"of the quantum crystal: {own:.2f} by the potential, and the mean of {how}",
            float(np.hypot(sampling, found.pressure_sigma_gpa or 0.0)),
        )
