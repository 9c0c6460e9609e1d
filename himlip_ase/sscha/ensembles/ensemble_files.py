"""An ensemble with the Gaussian it was drawn from in one ``.npz``, exact to the last bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from himlip_ase.sscha.array_files import load_arrays, pack, restoring, save_arrays, unpack
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution

ARRAYS = tuple(field.name for field in dataclasses.fields(Ensemble) if field.name != "drawn_from")

OPTIONAL = ("stresses", "rounding")


def save_ensemble(path: Path, ensemble: Ensemble, overwrite: bool = False) -> None:
    """Write an ensemble.

    Parameters
    ----------
    path : Path
    ensemble : Ensemble
    overwrite : bool
        Whether an existing file may be replaced.
    """
    arrays = {name: np.asarray(value) for name in ARRAYS if (value := getattr(ensemble, name)) is not None}
    arrays |= pack("drawn_from", ensemble.drawn_from.dynamical)
    arrays["drawn_at_k"] = np.array(ensemble.drawn_from.temperature_k)
    save_arrays(path, arrays, overwrite)


def load_ensemble(path: Path) -> Ensemble:
    """Read what :func:`save_ensemble` wrote.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Ensemble

    Raises
    ------
    CalculationError
        The file is missing or damaged.
    """
    arrays = load_arrays(path)
    with restoring(path):
        drawn_from = HarmonicDistribution(unpack("drawn_from", arrays), float(arrays["drawn_at_k"]))
        values: dict[str, Any] = {
            name: float(arrays[name]) if arrays[name].ndim == 0 else arrays[name]
            for name in ARRAYS
            if name not in OPTIONAL or name in arrays
        }
        return Ensemble(drawn_from=drawn_from, stresses=values.pop("stresses", None), **values)
