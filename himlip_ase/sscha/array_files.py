"""Arrays and dynamical matrices of an SSCHA run on disk: ``.npz`` without pickles, exact to the last bit."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import CalculationError
from himlip_ase.files import atomic_write, read_arrays, read_mapping
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
    with restoring(path):
        return read_arrays(path)


def load_json(path: Path) -> dict[str, Any]:
    """Read a mapping from a JSON file.

    Raises
    ------
    CalculationError
        The file is missing, damaged, or holds something else.
    """
    with restoring(path):
        return read_mapping(path)


@contextlib.contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong on a file of a run into one message with the way on.

    Parameters
    ----------
    path : Path
        The file that is read, or whose content is put together, inside the context.

    Raises
    ------
    CalculationError
        Anything went wrong: the file is missing, cut short, changed, or does not hold what it should.
    """
    try:
        yield
    except CalculationError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise CalculationError(
            f"{path} is missing or damaged ({said}); restore it, or delete {_to_delete(path)} in "
            f"{path.parent} and --resume to compute it again"
        ) from error


def _to_delete(path: Path) -> str:
    """What a resumed run computes again; an ensemble is never lost with the figures made from it."""
    if path.name == "run.json":
        return "the whole folder"
    if path.stem.endswith(("_ensemble", "_partial")) or (
        path.parent.name != "state" and path.stem != "result"
    ):
        return path.name
    return f"{path.stem}.json and {path.stem}.npz"
