"""Files of a correction by labels: ``label_correction.json``, ``corrected.dyn*``, ``agreement.npz``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.files import read_mapping, write_json
from himlip_ase.phonons.qe import stars, write_dyn
from himlip_ase.sscha.array_files import pack, save_arrays

if TYPE_CHECKING:
    from himlip_ase.sscha.trust.label_correction import LabelCorrection

RECORD = "label_correction.json"
DYN = "corrected.dyn"
AGREEMENT = "agreement.npz"
"""The corrected auxiliary in full precision and its deviations, as the learning loop leaves them."""
DEGENERATE_CM = 0.05
"""cm⁻¹; auxiliary frequencies nearer to each other are of one degenerate space."""


def check_not_corrected(folder: Path) -> None:
    """Refuse a folder with a correction, by labels like these or by a learning loop.

    Parameters
    ----------
    folder : Path
        Of the SSCHA.

    Raises
    ------
    InputError
        There is one.
    """
    if any(folder.glob(f"{DYN}*")) or (folder / RECORD).exists() or (folder / AGREEMENT).exists():
        raise InputError(f"{folder} was corrected already; pass --overwrite to correct it anew")


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

    Raises
    ------
    InputError
        As `check_not_corrected`, unless `overwrite`.
    """
    if not overwrite:
        check_not_corrected(folder)
    (folder / "agreement.json").unlink(missing_ok=True)  # of a learning loop's correction
    arrays = pack("auxiliary", found.auxiliary) | {"deviations": found.deviations}
    save_arrays(folder / AGREEMENT, arrays, overwrite=True)
    write_dyn(found.auxiliary, folder / DYN, overwrite=True)
    write_json(
        folder / RECORD,
        {
            "sets": list(sets),
            "groups": found.groups,
            "pressure_change_gpa": _with_error(found.pressure_gpa, found.pressure_sigma_gpa),
            "force_ev_per_angstrom": _with_error(found.force, found.force_sigma),
            "qpoints": found.auxiliary.qpoints.tolist(),
            "stars": stars(found.before),
            "auxiliary_cm": found.before.frequencies().tolist(),
            "change_cm": found.change_cm.tolist(),
            "change_sigma_cm": found.change_sigma_cm.tolist(),
            "frequencies_cm": found.frequencies_cm.tolist(),
            "frequencies_sigma_cm": found.frequencies_sigma_cm.tolist(),
        },
        overwrite=True,
    )


def _with_error(value: np.ndarray | float | None, error: np.ndarray | float | None) -> dict[str, Any]:
    plain = [part.tolist() if isinstance(part, np.ndarray) else part for part in (value, error)]
    return dict(zip(("value", "uncertainty"), plain, strict=True))


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
    if "stars" not in record:  # of a version whose corrections are made anew
        return [], 0
    names = ("auxiliary_cm", "frequencies_cm", "frequencies_sigma_cm", "change_cm", "change_sigma_cm")
    columns = np.array([record[name] for name in names])
    modes = []
    for star in record["stars"]:
        of_star = columns[:, star[0]]
        for mode in range(columns.shape[2]):
            # auxiliary frequencies ascend: a degenerate space is a run of equal ones
            if mode and of_star[0, mode] - of_star[0, mode - 1] < DEGENERATE_CM:
                continue
            if star[0] == 0 and not of_star[3:, mode].any():
                continue  # translations
            numbers = (float(x) for x in of_star[:, mode])
            modes.append(ModeChange(tuple(record["qpoints"][star[0]]), *numbers))
    largest = sorted(modes, key=lambda mode: -abs(mode.change))
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
    record = read_mapping(folder / RECORD)
    pressure, force = record["pressure_change_gpa"], record["force_ev_per_angstrom"]
    lines = [
        f"{groups} independent groups of labelled cells; the auxiliary corrected by them is {folder / DYN}*",
        "largest changes, cm⁻¹:",
    ]
    if pressure["value"] is not None:
        lines.insert(1, f"pressure: {pressure['value']:+.2f} ± {pressure['uncertainty']:.2f} GPa")
    if force["value"] is not None:
        size, error = (float(np.abs(force[name]).max()) for name in ("value", "uncertainty"))
        lines.insert(1, f"mean force on a free coordinate: {size:.3f} ± {error:.3f} eV/Å, not relaxed")
    for mode in modes:
        q = ", ".join(f"{x:.3g}" for x in mode.qpoint)
        lines.append(
            f"  q = ({q}): {mode.auxiliary:.1f} → {mode.corrected:.1f} ± {mode.corrected_sigma:.1f}, "
            f"a change of {mode.change:+.1f} ± {mode.change_sigma:.1f}"
        )
    return lines
