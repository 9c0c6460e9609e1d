"""The error that the potential brings into each SSCHA of a run, from its twins."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.pipeline.stages import Outcome
from himlip_ase.sscha.array_files import load_arrays, restoring, save_arrays

if TYPE_CHECKING:
    from himlip_ase.phonons.force_constants import DynamicalMatrices
    from himlip_ase.potential.interface import Potential
    from himlip_ase.sscha.trust.potential_error import PotentialError

logger = logging.getLogger(__name__)

FILE = "potential_error.npz"
CHANGES = "changes"


def quote_potential_error(outcome: Outcome, folder: Path, suffix: str, twins: Sequence[Potential]) -> None:
    """Write what the twins of the potential would change in a finished SSCHA, and quote its size.

    Parameters
    ----------
    outcome : Outcome
    folder : Path
        Of the SSCHA; ``potential_error.npz`` is written into it, or removed where there are no twins.
    suffix : str
        Of the figures' names: "" for the main run.
    twins : sequence of Potential
        Each without one part of the labels; perhaps none.
    """
    from himlip_ase.sscha.trust.potential_error import potential_error

    path = folder / FILE
    path.unlink(missing_ok=True)
    if not twins:
        return
    logger.info("error of the potential%s: %d twins", suffix, len(twins))
    try:
        found = potential_error(folder, twins)
    except (CalculationError, InputError) as error:
        outcome.add(f"potential_error.rms{suffix}", None, "cm⁻¹", f"not determined: {error}")
        return
    arrays = {CHANGES: found.changes.astype(np.complex64), "forces": found.forces}
    if found.stresses is not None:
        arrays["stresses"] = found.stresses
    save_arrays(path, arrays | {"configurations": np.array(found.configurations)})
    sigma = found.frequencies_sigma()
    how = (
        f"standard error of the auxiliary frequencies from which cells were labelled: jackknife over "
        f"{len(twins)} potentials that each left out a part of the learnt cells, on {found.configurations} "
        "configurations of the final ensemble"
    )
    moving = sigma[sigma > 0]
    if len(moving):
        outcome.add(f"potential_error.rms{suffix}", float(np.sqrt(np.mean(moving**2))), "cm⁻¹", f"rms {how}")
        outcome.add(f"potential_error.largest{suffix}", float(moving.max()), "cm⁻¹", f"largest {how}")


def read_potential_error(folder: Path) -> np.ndarray | None:
    """Changes (twins, nq, 3n, 3n) of Φ(q), eV/Å², that `quote_potential_error` wrote; None without any.

    Parameters
    ----------
    folder : Path
        Of the SSCHA.

    Returns
    -------
    ndarray or None
    """
    path = folder / FILE
    return load_arrays(path)[CHANGES].astype(complex) if path.is_file() else None


def read_twins_changes(folder: Path, auxiliary: DynamicalMatrices) -> PotentialError | None:
    """All that `quote_potential_error` wrote; None without any.

    Parameters
    ----------
    folder : Path
        Of the SSCHA.
    auxiliary : DynamicalMatrices
        Its own.

    Returns
    -------
    PotentialError or None
    """
    from himlip_ase.sscha.trust.potential_error import PotentialError

    if not (folder / FILE).is_file():
        return None
    arrays = load_arrays(folder / FILE)
    with restoring(folder / FILE):
        return PotentialError(
            auxiliary,
            arrays[CHANGES].astype(complex),
            arrays["forces"],
            arrays.get("stresses"),
            int(arrays["configurations"]),
        )
