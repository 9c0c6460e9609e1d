"""From files to labels: `read_labels` and `read_hessian`, and `open_labels` for files that stay on disk.

Which function reads which file says `himlip_ase.labels.formats`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.files import reading
from himlip_ase.labels.formats import HESSIAN_FORMATS, format_of
from himlip_ase.labels.frames import JUDGES, HessianLabel, LabelledFrame, count_labels
from himlip_ase.labels.hessian_checks import check_hessian
from himlip_ase.labels.label_keys import ENERGY_KEYS, FORCES_KEYS, STRESS_KEYS, frame_from_atoms
from himlip_ase.labels.views import Chosen, Joined, set_names

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike
LABEL_FILES = (".extxyz", ".xyz", ".traj", ".db")
"""Suffixes of the files of a folder that are read."""
QE_OUTPUT = "pw.out"


def read_labels(
    paths: PathLike | Sequence[PathLike], sets: Sequence[str] | None = None, weight: float = 1.0
) -> list[LabelledFrame]:
    """Read labelled structures.

    Parameters
    ----------
    paths : path or sequence of paths
        Files that ASE reads (extxyz foremost), HDF5 files of `write_labels`, HORM's ``.lmdb``, Quantum
        ESPRESSO outputs ``pw.out``, the displaced supercells of phonopy's FORCE_SETS or YAML files, or
        folders: their ``.extxyz``, ``.xyz``, ``.traj`` and ``.db`` files, or if there are none, every
        ``pw.out`` below them (unfinished and unconverged runs are left out with a warning).
    sets : sequence of str, optional
        Keep these sets only (``info["set"]``, else the name of the file or folder).
    weight : float
        Multiplies the weight of every frame.

    Returns
    -------
    list of LabelledFrame
        Energies eV, forces eV/Å (raw, unconstrained), stresses ASE's. The counts are logged per set.

    Raises
    ------
    InputError
        A path is missing or unreadable, a named file or set holds no labels, nothing was found at all.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    frames: list[LabelledFrame] = []
    for entry in paths:
        path = Path(entry)
        if path.is_dir():
            frames += frames_of_folder(path)
        elif path.is_file():
            found = list(frames_of_file(path))
            if not any(f.labelled for f in found):
                raise InputError(
                    f"{path}: {len(found)} structures but no label in any; looked for "
                    f"{', '.join(ENERGY_KEYS + FORCES_KEYS + STRESS_KEYS)} in the file "
                    "and in ASE's calculator"
                )
            frames += [f for f in found if f.labelled]
        else:
            raise InputError(f"{path}: no such file or folder")
    if sets is not None:
        present = sorted({f.set for f in frames})
        for name in sets:
            if name not in present:
                raise InputError(
                    f"no set {name!r} among the labels; there are: {', '.join(present) or 'none'}"
                )
        frames = [f for f in frames if f.set in sets]
    if not frames:
        raise InputError(f"no labels in {', '.join(map(str, paths))}; himlip label writes them")
    if weight != 1.0:
        frames = [replace(f, weight=f.weight * weight) for f in frames]
    for name in sorted({f.set for f in frames}):
        logger.info("labels %s: %s", name, count_labels([f for f in frames if f.set == name]))
    return frames


def read_hessian(path: PathLike, symmetrize: bool = True, weight: float = 1.0) -> HessianLabel:
    """Read a Hessian.

    Parameters
    ----------
    path : path
        Prefix of Quantum ESPRESSO dyn files (``harmonic/dyn``), its ``dyn0``, a folder that holds them; a
        file of phonopy: YAML with force constants or with displacements and forces, FORCE_SETS,
        FORCE_CONSTANTS, ``force_constants.hdf5`` (see :mod:`himlip_ase.phonons.phonopy_files`); or what
        ``himlip hessian`` wrote (``.npz``, ``.h5``).
    symmetrize : bool
        Impose index symmetry and the acoustic sum rule on a crystal's (the potential obeys both).
    weight : float
        Relative weight among several Hessians.

    Returns
    -------
    HessianLabel
        On the supercell that the q-grid or phonopy's files define.

    Raises
    ------
    InputError
        Nothing of the kind at `path`, or a Hessian that fails
        :func:`himlip_ase.labels.hessian_checks.check_hessian`.
    """
    path = Path(path)
    name = f"{path.absolute().parent.name}/{path.name}"
    with reading(path):
        label: HessianLabel = format_of(path, HESSIAN_FORMATS).reader()(path, name, symmetrize, weight)
    logger.info("Hessian %s: %d atoms, %s", path, len(label.atoms), label.atoms.get_chemical_formula())
    return label


def open_labels(
    paths: str | os.PathLike | Sequence[str | os.PathLike], sets: Sequence[str] | None = None
) -> Sequence[LabelledFrame]:
    """Labelled structures, of which those in HDF5 stay on disk until they are asked for.

    Parameters
    ----------
    paths : path or sequence of paths
        As :func:`himlip_ase.labels.readers.read_labels`.
    sets : sequence of str, optional
        Keep these sets only.

    Returns
    -------
    sequence of LabelledFrame
        A list if the frames of none of `paths` stay on disk (HDF5 files and ``.lmdb`` do).

    Raises
    ------
    InputError
        As `read_labels`.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    on_disk = [p for p in paths if format_of(Path(p)).on_disk]
    others = [p for p in paths if p not in on_disk]
    stores: list[Sequence[LabelledFrame]] = [format_of(Path(p)).reader()(Path(p)) for p in on_disk]
    if not stores:
        return read_labels(paths, sets)
    every = Joined([*stores, read_labels(others)] if others else stores)
    if sets is None:
        return every
    names = set_names(every)
    for name in sets:
        if name not in names:
            raise InputError(f"no set {name!r} among the labels; there are: {', '.join(sorted(set(names)))}")
    return Chosen(every, [k for k, name in enumerate(names) if name in sets])


def without_judges(frames: Sequence[LabelledFrame]) -> Sequence[LabelledFrame]:
    """The frames whose sets do not begin as those of `JUDGES`, which judge a potential."""
    chosen = [k for k, name in enumerate(set_names(frames)) if not name.startswith(JUDGES)]
    return frames if len(chosen) == len(frames) else Chosen(frames, chosen)


def frames_of_file(path: Path) -> Sequence[LabelledFrame]:
    """Everything that a file holds, labelled or not, by the reader of its format.

    Parameters
    ----------
    path : Path

    Returns
    -------
    sequence of LabelledFrame

    Raises
    ------
    InputError
        The file cannot be read.
    """
    with reading(path):
        found: Sequence[LabelledFrame] = format_of(path).reader()(path)
        return found


def frames_of_folder(folder: Path) -> list[LabelledFrame]:
    """The labelled frames of a folder; see `read_labels`."""
    files = sorted(p for p in folder.iterdir() if p.suffix in LABEL_FILES)
    frames = [f for p in files for f in frames_of_file(p)]
    if files:
        skipped = [f.source for f in frames if not f.labelled]
        if skipped:
            logger.info("%s: no labels in %s; skipped", folder, ", ".join(skipped[:5]))
        return [f for f in frames if f.labelled]
    for output in sorted(folder.rglob(QE_OUTPUT)):
        try:
            frames += frames_of_file(output)
        except InputError as error:
            logger.warning("left out: %s", error)
    return frames


# -- the readers of the formats, each of a path --------------------------------------------------------------


def read_with_ase(path: Path) -> list[LabelledFrame]:
    """Every structure of a file that ASE reads, with the labels that it carries."""
    try:
        images = ase.io.read(path, index=":")
    except Exception as error:
        raise InputError(f"{path}: ASE cannot read it ({type(error).__name__}: {error})") from error
    return [frame_from_atoms(a, path.stem, source=f"{path}#{k}") for k, a in enumerate(images)]


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
