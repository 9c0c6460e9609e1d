"""Structures in and out: any format of ASE, extended XYZ with energies, forces and stresses."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.io.formats import filetype

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write


def read_structures(paths: str | os.PathLike | Iterable[str | os.PathLike], index: str = ":") -> list[Atoms]:
    """All structures of one file or of several, in order.

    Parameters
    ----------
    paths : path-like or iterable of path-like
        Any format that ASE reads.
    index : str
        Which structures of each file, as a Python slice.

    Returns
    -------
    list of Atoms
        With the results that the file carries attached to them.

    Raises
    ------
    InputError
        A file that is missing, unreadable or holds no structure.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    found: list[Atoms] = []
    for path in paths:
        if not Path(path).is_file():
            raise InputError(f"the structure file {os.fspath(path)} does not exist")
        try:
            images = _images(path, index)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"{path} is not a structure file that ASE can read ({type(error).__name__}: {error})"
            ) from error
        images = [images] if isinstance(images, Atoms) else list(images)
        if not images:
            raise InputError(f"{path} holds no structure at index {index!r}")
        found += images
    return found


def _images(path: str | os.PathLike, index: str) -> Atoms | list[Atoms]:
    """As ASE reads them, but inputs of pw.x with their masses and any label of a species."""
    if filetype(os.fspath(path), guess=False) == "espresso-in":
        from himlip_ase.pw_structure import read_pw_structure

        return [read_pw_structure(path).atoms]
    return read(os.fspath(path), index=index)


def read_structure(path: str | os.PathLike) -> Atoms:
    """The last structure of a file.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    Atoms

    Raises
    ------
    InputError
        As `read_structures`.
    """
    return read_structures([path], index="-1")[0]


def with_results(atoms: Atoms, energy: float, forces: np.ndarray, stress: np.ndarray | None = None) -> Atoms:
    """A copy of a structure that carries results (see `himlip_ase.evaluation.SinglePoint`).

    Parameters
    ----------
    atoms : Atoms
    energy : float
        eV.
    forces : ndarray (N, 3)
        eV/Å.
    stress : ndarray (6,), optional
        eV/Å³, Voigt, positive in tension; None without one.

    Returns
    -------
    Atoms
    """
    copy = atoms.copy()
    # what another calculation left under ASE's names is of no account beside these, and ASE cannot write both
    for place in (copy.info, copy.arrays):
        for name in set(all_properties) & set(place):
            del place[name]
    copy.calc = SinglePointCalculator(copy, energy=energy, free_energy=energy, forces=forces, stress=stress)
    return copy


def write_structures(path: str | os.PathLike, images: Sequence[Atoms], overwrite: bool = False) -> None:
    """Write extended XYZ with whatever energies, forces and stresses the structures carry, atomically.

    Parameters
    ----------
    path : path-like
        ``.extxyz`` or ``.xyz``.
    images : sequence of Atoms
    overwrite : bool

    Raises
    ------
    InputError
        The file exists and `overwrite` is False, or its suffix is not ``.extxyz`` or ``.xyz``.
    """
    _check_suffix(path)
    text = io.StringIO()
    write(text, list(images), format="extxyz")
    with atomic_write(path, overwrite=overwrite) as stream:
        stream.write(text.getvalue())


def require_new(path: str | os.PathLike, overwrite: bool) -> None:
    """Refuse, before any work is done, a path that could not be written in the end.

    Parameters
    ----------
    path : path-like
    overwrite : bool

    Raises
    ------
    InputError
        There is something already, and `overwrite` is False.
    """
    if Path(path).exists() and not overwrite:
        raise InputError(f"{path} exists already; pass --overwrite or choose another name")


def require_structures(path: str | os.PathLike, overwrite: bool) -> None:
    """Refuse, before any work is done, a path to which `write_structures` could not write in the end.

    Parameters
    ----------
    path : path-like
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    InputError
        The file exists and `overwrite` is False, or its suffix is not ``.extxyz`` or ``.xyz``.
    """
    _check_suffix(path)
    require_new(path, overwrite)


def _check_suffix(path: str | os.PathLike) -> None:
    if Path(path).suffix not in (".extxyz", ".xyz"):
        raise InputError(f"structures are written as extended XYZ; type {Path(path).stem}.extxyz")
