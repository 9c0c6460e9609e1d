"""Hessians on disk: one structure and its second derivatives, as NumPy .npz or HDF5."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write
from himlip_ase.units import signed_frequencies_cm

if TYPE_CHECKING:
    from himlip_ase.vibrations.lowest_modes import LowestModes

SCHEMA = 1


@dataclass(frozen=True, eq=False)
class StoredHessian:
    """A structure and its second derivatives.

    Attributes
    ----------
    atoms : Atoms
    hessian : ndarray (n, 3, N, 3)
        eV/Å², indices (atom, direction, atom, direction); rows of `indices`.
    indices : ndarray (n,)
        Atoms whose rows are there.
    model : str
        What made it.
    """

    atoms: Atoms
    hessian: np.ndarray
    indices: np.ndarray
    model: str = ""

    def frequencies(self) -> np.ndarray:
        """Frequencies in cm⁻¹ at Γ of the whole structure (3N), ascending, imaginary negative."""
        n_atoms = len(self.atoms)
        if not np.array_equal(np.sort(self.indices), np.arange(n_atoms)):
            raise InputError(
                f"frequencies need the rows of all {n_atoms} atoms; there are {len(self.indices)}"
            )
        roots = np.sqrt(np.repeat(self.atoms.get_masses(), 3))
        matrix = self.hessian[np.argsort(self.indices)].reshape(3 * n_atoms, 3 * n_atoms)
        reduced = 0.5 * (matrix + matrix.T) / roots / roots[:, None]
        return signed_frequencies_cm(np.linalg.eigvalsh(reduced))


def write_hessian(path: str | os.PathLike, stored: StoredHessian, overwrite: bool = False) -> None:
    """Write a Hessian, atomically.

    Parameters
    ----------
    path : path-like
        ``.npz``, ``.h5`` or ``.hdf5``. Both hold hessian (eV/Å²), indices, positions (Å), cell (Å), pbc,
        numbers, masses (amu), model, units and schema.
    stored : StoredHessian
    overwrite : bool

    Raises
    ------
    InputError
        Another suffix, shapes that do not match, or a file that exists and `overwrite` is False.
    """
    shape = (len(stored.indices), 3, len(stored.atoms), 3)
    if stored.hessian.shape != shape:
        raise InputError(f"the Hessian should have shape {shape}, got {stored.hessian.shape}")
    arrays: dict[str, Any] = {
        "hessian": stored.hessian,
        "indices": np.asarray(stored.indices, dtype=int),
        **_structure_arrays(stored.atoms),
    }
    texts = {"model": stored.model, "units": "hessian eV/Å², positions and cell Å, masses amu"}
    _write_arrays(path, arrays, texts, overwrite)


def read_hessian(path: str | os.PathLike) -> StoredHessian:
    """Read what `write_hessian` wrote.

    Raises
    ------
    InputError
        A missing or damaged file, or one that is something else.
    """
    suffix = _suffix(path)
    try:
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                data = {name: file[name] for name in file.files}
            model = str(data["model"])
        else:
            with h5py.File(path, "r") as file:
                data = {name: np.asarray(file[name]) for name in file}
                model = str(file.attrs["model"])
        atoms = Atoms(data["numbers"], positions=data["positions"], cell=data["cell"], pbc=data["pbc"])
        atoms.set_masses(data["masses"])
        return StoredHessian(atoms, data["hessian"], data["indices"], model)
    except FileNotFoundError as error:
        raise InputError(f"no file {os.fspath(path)!r}") from error
    except Exception as error:
        raise InputError(f"{path} is not a Hessian file of himlip-ase: {error}") from error


def write_modes(path: str | os.PathLike, atoms: Atoms, modes: LowestModes, overwrite: bool = False) -> None:
    """Write the softest modes of a structure, atomically, as ``.npz``, ``.h5`` or ``.hdf5``.

    Arrays frequencies and errors (cm⁻¹), modes (orthonormal, mass-weighted), residuals (eV/Å²/amu),
    products, converged, and positions (Å), cell (Å), pbc, numbers, masses (amu).

    Parameters
    ----------
    path : path-like
    atoms : Atoms
    modes : LowestModes
    overwrite : bool

    Raises
    ------
    InputError
        Another suffix, or a file that exists and `overwrite` is False.
    """
    arrays: dict[str, Any] = {
        "frequencies": modes.frequencies,
        "errors": modes.errors,
        "modes": modes.modes,
        "residuals": modes.residuals,
        "products": np.array(modes.products),
        "converged": np.array(modes.converged),
        **_structure_arrays(atoms),
    }
    _write_arrays(path, arrays, {"units": "frequencies and errors 1/cm, residuals eV/Å²/amu"}, overwrite)


def _structure_arrays(atoms: Atoms) -> dict[str, Any]:
    return {
        "positions": atoms.positions,
        "cell": atoms.cell.array,
        "pbc": atoms.pbc,
        "numbers": atoms.numbers,
        "masses": atoms.get_masses(),
    }


def _write_arrays(
    path: str | os.PathLike, arrays: dict[str, Any], texts: dict[str, str], overwrite: bool
) -> None:
    suffix = _suffix(path)
    with atomic_write(path, "wb", overwrite=overwrite) as stream:
        if suffix == ".npz":
            extra = {name: np.array(text) for name, text in texts.items()}
            np.savez_compressed(stream, allow_pickle=False, schema=SCHEMA, **arrays, **extra)
            return
        with h5py.File(stream, "w") as file:
            for name, value in arrays.items():
                file.create_dataset(name, data=value, fletcher32=np.ndim(value) > 0)
            file.attrs.update({**texts, "schema": SCHEMA})


def _suffix(path: str | os.PathLike) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in (".npz", ".h5", ".hdf5"):
        raise InputError(f"a Hessian is kept as .npz, .h5 or .hdf5; got {Path(path).name!r}")
    return suffix
