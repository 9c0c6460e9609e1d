"""Readers of the formats of `himlip_ase.labels.formats`, each of a path: labelled structures, Hessians."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.hessian_checks import check_hessian
from himlip_ase.labels.label_keys import (
    KNOWN_KEYS,
    LabelKeys,
    candidates,
    frame_from_atoms,
    has_key,
    tell_of,
)


def read_with_ase(path: Path, keys: LabelKeys = KNOWN_KEYS) -> list[LabelledFrame]:
    """Every structure of a file that ASE reads, with the labels that it carries.

    Parameters
    ----------
    path : Path
    keys : LabelKeys

    Returns
    -------
    list of LabelledFrame
    """
    try:
        images: Any = ase.io.read(path, index=":")
    except Exception as error:
        raise InputError(f"{path}: ASE cannot read it ({type(error).__name__}: {error})") from error
    for kind, key in keys.named.items():
        if not any(has_key(atoms, key) for atoms in images):
            found = sorted({option for atoms in images for option in candidates(atoms)})
            raise InputError(
                f"{path}: no structure has {key!r} for the {kind} (--{kind}-key)"
                + (f"; type {' or '.join(found[:6])}" if found else "")
            )
    tell_of(images, str(path), keys)
    return [frame_from_atoms(a, path.stem, source=f"{path}#{k}", keys=keys) for k, a in enumerate(images)]


def read_displaced(path: Path) -> list[LabelledFrame]:
    """The displaced supercells of a calculation of phonopy, with forces, and energies if they are there."""
    from himlip_ase.phonons.phonopy_files import read_displaced_supercells

    name = path.absolute().parent.name
    frames = []
    for k, (atoms, energy, forces) in enumerate(read_displaced_supercells(path)):
        bare = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
        frames.append(LabelledFrame(bare, energy, forces, set=name, source=f"{path}#{k}"))
    return frames


def read_pw_output(path: Path) -> list[LabelledFrame]:
    """Every ionic step of a finished, converged run of pw.x."""
    from himlip_ase.labels.pw_output import read_pw_output as read_strictly

    try:
        output = read_strictly(path)
    except CalculationError as error:
        raise InputError(f"{error}; not a label") from error
    folder = path.absolute().parent
    name = folder.parent.name if folder.name.isdigit() else folder.name
    several = len(output.steps) > 1
    return [
        LabelledFrame(
            output.structure(step), step.energy, step.forces, step.stress,
            set=name, source=f"{path}#{k}" if several else str(path),
        )
        for k, step in enumerate(output.steps)
    ]  # fmt: skip


def phonopy_hessian(path: Path, name: str, symmetrize: bool, weight: float) -> HessianLabel:
    """The Hessian of phonopy's supercell.

    Parameters
    ----------
    path : Path
    name : str
        For messages.
    symmetrize : bool
        Impose index symmetry and the acoustic sum rule.
    weight : float

    Returns
    -------
    HessianLabel
    """
    from himlip_ase.phonons.phonopy_files import read_force_constants

    return HessianLabel.from_force_constants(
        read_force_constants(path, cell="unit"), name, symmetrize, weight
    )


def dyn_hessian(path: Path, name: str, symmetrize: bool, weight: float) -> HessianLabel:
    """The Hessian of the supercell that the q-grid of ph.x defines.

    Parameters
    ----------
    path : Path
    name : str
        For messages.
    symmetrize : bool
        Impose index symmetry and the acoustic sum rule.
    weight : float

    Returns
    -------
    HessianLabel
    """
    from himlip_ase.phonons.qe import read_dyn

    if path.is_dir():
        found = sorted(path.glob("*dyn0"))
        if len(found) != 1:
            raise InputError(
                f"{path}: {len(found)} files *dyn0 in the folder; name the prefix, e.g. {path}/dyn"
            )
        path = found[0]
        name = f"{path.absolute().parent.name}/{path.name}"
    constants = read_dyn(path).force_constants()
    return HessianLabel.from_force_constants(constants, name, symmetrize, weight)


def stored_hessian(path: Path, name: str, symmetrize: bool, weight: float) -> HessianLabel:
    """What ``himlip hessian`` wrote, as it is: `symmetrize` belongs to the force constants of crystals.

    Parameters
    ----------
    path : Path
    name : str
        For messages.
    symmetrize : bool
        Impose index symmetry and the acoustic sum rule.
    weight : float

    Returns
    -------
    HessianLabel
    """
    from himlip_ase.labels.hessian_file import read_hessian as read_stored

    stored = read_stored(path)
    n = len(stored.atoms)
    if not np.array_equal(np.sort(stored.indices), np.arange(n)):
        raise InputError(
            f"{path} holds the rows of {len(stored.indices)} of {n} atoms; a label needs all of them "
            "(himlip hessian without --atom)"
        )
    matrix = stored.hessian[np.argsort(stored.indices)]
    check_hessian(stored.atoms, matrix, name)
    return HessianLabel(stored.atoms, matrix, name, weight)
