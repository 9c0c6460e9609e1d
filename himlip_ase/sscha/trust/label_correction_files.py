"""A correction by finished labels on disk: ``corrected.dyn*`` and ``label_correction.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from himlip_ase.files import read_mapping, write_json
from himlip_ase.phonons.qe import write_dyn

if TYPE_CHECKING:
    from himlip_ase.sscha.trust.label_correction import LabelCorrection

RECORD = "label_correction.json"
DYN = "corrected.dyn"


def write_label_correction(
    found: LabelCorrection, sets: Sequence[str], folder: Path, overwrite: bool = False
) -> None:
    """Write a correction into the folder of its SSCHA.

    Parameters
    ----------
    found : LabelCorrection
    sets : sequence of str
        What the labelled cells are called.
    folder : Path
    overwrite : bool
    """
    write_dyn(found.auxiliary, folder / DYN, overwrite=overwrite)
    write_json(
        folder / RECORD,
        {
            "sets": list(sets),
            "groups": found.groups,
            "pressure_change_gpa": {"value": found.pressure_gpa, "uncertainty": found.pressure_sigma_gpa},
            "qpoints": found.auxiliary.qpoints.tolist(),
            "auxiliary_cm": found.before.frequencies().tolist(),
            "change_cm": found.change_cm.tolist(),
            "change_sigma_cm": found.change_sigma_cm.tolist(),
            "frequencies_cm": found.auxiliary.frequencies().tolist(),
            "frequencies_sigma_cm": found.frequencies_sigma_cm.tolist(),
        },
        overwrite=overwrite,
    )


@dataclass(frozen=True)
class ModeChange:
    """What labelled cells ask for in one mode.

    Attributes
    ----------
    qpoint : tuple of float
        In reciprocal vectors.
    auxiliary, corrected, corrected_sigma : float
        Frequency before and after, and its standard error, cm⁻¹.
    change, change_sigma : float
        To first order, and its error from the labelled cells alone, cm⁻¹.
    """

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


def describe_label_correction(folder: Path, count: int = 10) -> list[str]:
    """What labelled cells ask for, for the terminal.

    Parameters
    ----------
    folder : Path
        Of the SSCHA.
    count : int
        Modes to name.

    Returns
    -------
    list of str
    """
    modes, groups = largest_changes(folder, count)
    pressure = read_mapping(folder / RECORD)["pressure_change_gpa"]
    lines = [
        f"{groups} independent groups of labelled cells; the auxiliary corrected by them is {folder / DYN}*",
        "largest changes, cm⁻¹:",
    ]
    if pressure["value"] is not None:
        lines.insert(1, f"pressure: {pressure['value']:+.2f} ± {pressure['uncertainty']:.2f} GPa")
    for mode in modes:
        q = ", ".join(f"{x:.3g}" for x in mode.qpoint)
        lines.append(
            f"  q = ({q}): {mode.auxiliary:.1f} → {mode.corrected:.1f} ± {mode.corrected_sigma:.1f}, "
            f"a change of {mode.change:+.1f} ± {mode.change_sigma:.1f}"
        )
    return lines
