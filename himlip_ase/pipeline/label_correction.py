"""The main SSCHA of a run corrected by finished labels of cells that an SSCHA drew."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.files import read_mapping, write_json
from himlip_ase.labels.digests import structure_digest
from himlip_ase.phonons.force_constants import acoustic
from himlip_ase.pipeline.labels import VALIDATION, label_folder
from himlip_ase.pipeline.learn import AGREEMENT
from himlip_ase.pipeline.potential_error import read_potential_error
from himlip_ase.pipeline.stages import Context, Outcome
from himlip_ase.sscha.array_files import pack, save_arrays

if TYPE_CHECKING:
    from himlip_ase.labels.frames import LabelledFrame
    from himlip_ase.potential.interface import Potential
    from himlip_ase.sscha.trust.label_correction import LabelCorrection

logger = logging.getLogger(__name__)

RECORD = "label_correction.json"


def correct_by_finished_labels(
    context: Context, folder: Path, outcome: Outcome, model: Path, twins: Sequence[Potential]
) -> None:
    """Correct the main SSCHA by the sets of ``anharmonic.corrected_by``, and quote what they ask for.

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
    """
    names = context.config.anharmonic.corrected_by
    (folder / RECORD).unlink(missing_ok=True)
    if not names or context.learns:
        return
    (folder / AGREEMENT).unlink(missing_ok=True)
    try:
        found = _correction(context, folder, model, twins, names)
    except (InputError, CalculationError) as error:
        outcome.notes.append(f"The SSCHA was not corrected by {', '.join(names)}: {error}.")
        return
    arrays = pack("auxiliary", found.auxiliary) | {"deviations": found.deviations}
    save_arrays(folder / AGREEMENT, arrays, overwrite=True)
    _quote(outcome, folder, found, names)


def _correction(
    context: Context, folder: Path, model: Path, twins: Sequence[Potential], names: Sequence[str]
) -> LabelCorrection:
    from himlip_ase.sscha.results.result import load_result
    from himlip_ase.sscha.trust.label_correction import label_correction

    if not twins:
        raise InputError(
            "the potential has no twins, which judge what it has learnt itself; fit it with "
            "finetune.closed_form, or leave the key out"
        )
    frames = label_folder(context).frames(names)
    logger.info("correcting the SSCHA by %d labelled cells", len(frames))
    shifts = read_potential_error(folder)
    return label_correction(
        load_result(folder),
        [frame.atoms for frame in frames],
        honest_misses(frames, model, twins),
        None if shifts is None else shifts.mean(axis=0),
    )


def honest_misses(
    frames: Sequence[LabelledFrame], model: Path, twins: Sequence[Potential]
) -> list[np.ndarray]:
    """Forces of the labels less those of the twin that did not learn the frame; of all twins, if none did.

    Parameters
    ----------
    frames : sequence of LabelledFrame
    model : Path
        Weights of the potential.
    twins : sequence of Potential
        Of `himlip_ase.hint.last_layer.twin_weights.load_twins`.

    Returns
    -------
    list of ndarray (N, 3)
        eV/Å.

    Raises
    ------
    InputError
        A frame without forces, or one of which nobody knows whether the twins learnt it.
    """
    from himlip_ase.hint.last_layer.twin_weights import twin_without
    from himlip_ase.potential.evaluate import evaluate

    number = twin_without(model)
    found: list[np.ndarray] = []
    for frame in frames:
        twin = number.get(structure_digest(frame.atoms).hex())
        if frame.forces is None:
            raise InputError(f"{frame.source} has no forces")
        if twin is None and not frame.set.startswith(VALIDATION):
            raise InputError(
                f"{frame.source}: no twin of {model.name} says that it did not learn it; name sets that the "
                f"twins left out in turn, or {VALIDATION}… sets, which nobody learns"
            )
        judges = twins if twin is None else [twins[twin]]
        ours = np.mean([evaluate(judge, [frame.atoms]).force_array[0] for judge in judges], axis=0)
        found.append(frame.forces - ours)
    return found


def _quote(outcome: Outcome, folder: Path, found: LabelCorrection, names: Sequence[str]) -> None:
    moving = np.ones(found.change_cm.shape, dtype=bool)
    moving[0, acoustic(found.auxiliary)] = False
    change, sigma = found.change_cm[moving], found.change_sigma_cm[moving]
    beyond = np.abs(change) / np.maximum(sigma, 1e-12)
    worst = int(beyond.argmax())
    how = (
        f"what {found.groups} independent groups of labelled cells ({', '.join(names)}) ask for beyond the "
        "auxiliary, each judged by a potential that did not learn it"
    )
    outcome.add("corrected_by_dft.rms", float(np.sqrt(np.mean(change**2))), "cm⁻¹", f"rms of {how}")
    outcome.add(
        "corrected_by_dft.farthest",
        float(change[worst]),
        "cm⁻¹",
        f"the change farthest beyond its ±, {how}",
        float(sigma[worst]),
    )
    outcome.add(
        "corrected_by_dft.within_two_sigma",
        round(float((beyond <= 2).mean()), 3),
        "",
        f"share of the frequencies that are changed by no more than twice the ±; {how}",
    )
    outcome.add("corrected_by_dft.largest_sigma", float(sigma.max()), "cm⁻¹", f"largest ± of {how}")
    write_json(
        folder / RECORD,
        {
            "sets": list(names),
            "groups": found.groups,
            "qpoints": found.auxiliary.qpoints.tolist(),
            "auxiliary_cm": found.before.frequencies().tolist(),
            "change_cm": found.change_cm.tolist(),
            "change_sigma_cm": found.change_sigma_cm.tolist(),
            "frequencies_cm": found.auxiliary.frequencies().tolist(),
            "frequencies_sigma_cm": found.frequencies_sigma_cm.tolist(),
        },
        overwrite=True,
    )


@dataclass(frozen=True)
class ModeChange:
    """What the labelled cells ask for in one mode: q in reciprocal vectors; cm⁻¹, with standard errors."""

    qpoint: tuple[float, ...]
    auxiliary: float
    corrected: float
    corrected_sigma: float
    change: float
    change_sigma: float


def largest_changes(folder: Path, count: int) -> tuple[list[ModeChange], int]:
    """The modes that the labelled cells change most, one of each degenerate space and star of q.

    Parameters
    ----------
    folder : Path
        Of the SSCHA.
    count : int

    Returns
    -------
    list of ModeChange
        Empty where nothing was corrected.
    groups : int
        Independent groups of labelled cells.
    """
    if not (folder / RECORD).is_file():
        return [], 0
    record = read_mapping(folder / RECORD)
    names = ("auxiliary_cm", "frequencies_cm", "frequencies_sigma_cm", "change_cm", "change_sigma_cm")
    columns = np.array([record[name] for name in names])
    modes = [
        ModeChange(tuple(q), *(float(x) for x in columns[:, k, mode]))
        for k, q in enumerate(record["qpoints"])
        for mode in range(columns.shape[2])
    ]
    alike = {(round(mode.auxiliary), round(mode.change)): mode for mode in reversed(modes)}
    largest = sorted(alike.values(), key=lambda mode: -abs(mode.change))
    return largest[:count], int(record["groups"])
