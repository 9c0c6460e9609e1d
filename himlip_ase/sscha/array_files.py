"""Arrays and dynamical matrices of an SSCHA run on disk: ``.npz`` without pickles, exact to the last bit."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import CalculationError
from himlip_ase.files import atomic_write
from himlip_ase.phonons.born_charges import BornCharges
from himlip_ase.phonons.force_constants import DynamicalMatrices


def pack(prefix: str, dynamical: DynamicalMatrices) -> dict[str, np.ndarray]:
    """Arrays of dynamical matrices under names that begin with `prefix`, exact to the last bit.

    Parameters
    ----------
    prefix : str
    dynamical : DynamicalMatrices

    Returns
    -------
    dict of str to ndarray
    """
    primitive = dynamical.primitive
    born = dynamical.born
    polar = {f"{prefix}_born": born.charges, f"{prefix}_dielectric": born.dielectric} if born else {}
    return polar | {
        f"{prefix}_numbers": primitive.numbers,
        f"{prefix}_positions": primitive.positions,
        f"{prefix}_cell": primitive.cell.array,
        f"{prefix}_masses": primitive.get_masses(),
        f"{prefix}_dims": np.array(dynamical.dims),
        f"{prefix}_qpoints": dynamical.qpoints,
        f"{prefix}_matrices": dynamical.matrices,
    }


def unpack(prefix: str, arrays: dict[str, np.ndarray]) -> DynamicalMatrices:
    """The inverse of :func:`pack`.

    Parameters
    ----------
    prefix : str
    arrays : dict of str to ndarray

    Returns
    -------
    DynamicalMatrices
    """
    primitive = Atoms(
        numbers=arrays[f"{prefix}_numbers"],
        positions=arrays[f"{prefix}_positions"],
        cell=arrays[f"{prefix}_cell"],
        masses=arrays[f"{prefix}_masses"],
        pbc=True,
    )
    dims = tuple(int(d) for d in arrays[f"{prefix}_dims"])
    born = None
    if f"{prefix}_born" in arrays:
        born = BornCharges(arrays[f"{prefix}_born"], arrays[f"{prefix}_dielectric"])
    return DynamicalMatrices(
        primitive,
        dims,  # type: ignore[arg-type]
        arrays[f"{prefix}_qpoints"],
        arrays[f"{prefix}_matrices"],
        born,
    )


def save_arrays(path: Path, arrays: dict[str, np.ndarray], overwrite: bool = False) -> None:
    """Write arrays as one .npz, atomically.

    Parameters
    ----------
    path : Path
    arrays : dict of str to ndarray
    overwrite : bool
        Whether an existing file may be replaced.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    with atomic_write(path, "wb", overwrite=overwrite) as stream:
        stream.write(buffer.getvalue())


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read an .npz without pickles.

    Raises
    ------
    CalculationError
        The file is missing, cut short or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except Exception as error:  # zip, zlib and NumPy raise a dozen kinds on damaged bytes
        raise damaged(path, error) from error


def load_json(path: Path) -> dict[str, Any]:
    """Read a mapping from a JSON file.

    Raises
    ------
    CalculationError
        The file is missing, damaged, or holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError("no mapping")
        return data
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> CalculationError:
    """The error that names an unreadable file of a run and the way on.

    Parameters
    ----------
    path : Path
    error : Exception
        What reading it raised.

    Returns
    -------
    CalculationError
        To be raised.
    """
    what = "the whole folder" if path.name == "run.json" else f"{path.name.partition('.')[0]}*"
    return CalculationError(
        f"{path} is missing or damaged ({type(error).__name__}: {error}); restore it, or delete {what} in "
        f"{path.parent} and --resume to compute it again"
    )
