"""From files to labels: `read_labels` and `read_hessian`, and `open_labels` for files that stay on disk.

Which function reads which file says `himlip_ase.labels.formats`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from himlip_ase.errors import InputError
from himlip_ase.files import read_mapping, reading
from himlip_ase.labels.formats import HESSIAN_FORMATS, format_of
from himlip_ase.labels.frames import JUDGES, HessianLabel, LabelledFrame, count_labels
from himlip_ase.labels.label_keys import (
    KNOWN_KEYS,
    OWN,
    REFERENCES,
    TOLERANCES,
    LabelKeys,
    candidates,
)
from himlip_ase.labels.views import Chosen, Joined, set_names
from himlip_ase.relations import tell_net_forces
from himlip_ase.structures import read_structures

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike
LABEL_FILES = (".extxyz", ".xyz", ".traj", ".db")
"""Suffixes of the files of a folder that are read."""
SETS_TOLD = 20
"""So many sets of labels have a line each in the log."""
QE_OUTPUT = "pw.out"
BY_DISPLACEMENTS = ", displacements of phonopy"
"""What the record of harmonic matrices by an ASE calculator adds to its name."""


def read_labels(
    paths: PathLike | Sequence[PathLike],
    sets: Sequence[str] | None = None,
    weight: float = 1.0,
    keys: LabelKeys = KNOWN_KEYS,
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
    keys : LabelKeys
        Names of energies, forces and stresses in files that ASE reads, where they are not the known ones.

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
        if path.is_dir() and format_of(path).fallback:
            frames += frames_of_folder(path, keys)
        elif path.exists():
            found = list(frames_of_file(path, keys))
            if not any(f.labelled for f in found):
                raise InputError(
                    f"{path}: {len(found)} structures but no label in any; {_looked_for(path, keys)}"
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
    tell_net_forces([(f.source or f.set, f.forces) for f in frames if f.forces is not None])
    _tell_sets(frames)
    return frames


def _tell_sets(frames: list[LabelledFrame]) -> None:
    """One line a set; where every reaction or trajectory is a set of its own, one line for all."""
    names = sorted({f.set for f in frames})
    if len(names) > SETS_TOLD:
        logger.info("labels in %d sets, %s to %s: %s", len(names), names[0], names[-1], count_labels(frames))
        return
    for name in names:
        logger.info("labels %s: %s", name, count_labels([f for f in frames if f.set == name]))


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
        label = replace(label, code=_code_of(path))
    logger.info("Hessian %s: %d atoms, %s", path, len(label.atoms), label.atoms.get_chemical_formula())
    return label


def _code_of(path: Path) -> str:
    """Who calculated a Hessian, as the record of `himlip label collect` beside it says."""
    record = (path if path.is_dir() else path.parent) / "provenance.json"
    code = str(read_mapping(record).get("code", "")) if record.is_file() else ""
    return code.removesuffix(BY_DISPLACEMENTS)


def open_labels(
    paths: str | os.PathLike | Sequence[str | os.PathLike],
    sets: Sequence[str] | None = None,
    keys: LabelKeys = KNOWN_KEYS,
) -> Sequence[LabelledFrame]:
    """Labelled structures, of which those in HDF5 stay on disk until they are asked for.

    Parameters
    ----------
    paths : path or sequence of paths
        As :func:`himlip_ase.labels.readers.read_labels`.
    sets : sequence of str, optional
        Keep these sets only.
    keys : LabelKeys
        As `read_labels`.

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
        return read_labels(paths, sets, keys=keys)
    every = Joined([*stores, read_labels(others, keys=keys)] if others else stores)
    if sets is None:
        return every
    names = set_names(every)
    for name in sets:
        if name not in names:
            raise InputError(f"no set {name!r} among the labels; there are: {', '.join(sorted(set(names)))}")
    return Chosen(every, [k for k, name in enumerate(names) if name in sets])


def of_elements(frames: Sequence[LabelledFrame], symbols: Collection[str]) -> list[LabelledFrame]:
    """The frames that hold no other element.

    Parameters
    ----------
    frames : sequence of LabelledFrame
    symbols : collection of str

    Returns
    -------
    list of LabelledFrame
    """
    return [frame for frame in frames if set(frame.atoms.symbols) <= set(symbols)]


def without_judges(frames: Sequence[LabelledFrame]) -> Sequence[LabelledFrame]:
    """The frames whose sets do not begin as those of `JUDGES`, which judge a potential."""
    chosen = [k for k, name in enumerate(set_names(frames)) if not name.startswith(JUDGES)]
    return frames if len(chosen) == len(frames) else Chosen(frames, chosen)


def _looked_for(path: Path, keys: LabelKeys) -> str:
    """What names were looked for, and what is there that looks like a label."""
    names = [keys.named.get(kind) or ", ".join(REFERENCES[kind] + OWN[kind]) for kind in TOLERANCES]
    text = f"looked for {'; '.join(names)} in the file and in ASE's calculator"
    if not format_of(path).named_keys:
        return text
    found = sorted({option for atoms in read_structures(path) for option in candidates(atoms)})
    return f"{text}; type {' '.join(found[:6])}, if these are the labels" if found else text


def frames_of_file(path: Path, keys: LabelKeys = KNOWN_KEYS) -> Sequence[LabelledFrame]:
    """Everything that a file holds, labelled or not, by the reader of its format.

    Parameters
    ----------
    path : Path
    keys : LabelKeys
        For formats that take it.

    Returns
    -------
    sequence of LabelledFrame

    Raises
    ------
    InputError
        The file cannot be read.
    """
    entry = format_of(path)
    with reading(path):
        found: Sequence[LabelledFrame] = (
            entry.reader()(path, keys=keys) if entry.named_keys else entry.reader()(path)
        )
        return found


def frames_of_folder(folder: Path, keys: LabelKeys = KNOWN_KEYS) -> list[LabelledFrame]:
    """The labelled frames of a folder; see `read_labels`.

    Parameters
    ----------
    folder : Path
    keys : LabelKeys
        For formats that take it.

    Returns
    -------
    list of LabelledFrame
    """
    files = sorted(p for p in folder.iterdir() if p.suffix in LABEL_FILES)
    frames = [f for p in files for f in frames_of_file(p, keys)]
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
