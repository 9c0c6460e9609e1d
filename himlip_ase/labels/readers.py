"""From files to labels: which reader takes which file, and files that stay on disk."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.labels.frames import (
    JUDGES,
    STORES,
    HessianLabel,
    LabelledFrame,
    frame_from_atoms,
    read_labels,
)
from himlip_ase.labels.store import LabelStore
from himlip_ase.labels.views import Chosen, Joined

logger = logging.getLogger(__name__)

LABEL_FILES = (".extxyz", ".xyz", ".traj", ".db")
QE_OUTPUT = "pw.out"


def _read_pw_output(path: Path) -> Atoms:
    text = path.read_text(errors="replace")
    if "JOB DONE" not in text:
        raise InputError(f"{path}: the run did not finish (no JOB DONE); continue or repeat it")
    if "convergence NOT achieved" in text:
        raise InputError(f"{path}: the run did not converge; an unconverged run is not a label")
    atoms = ase.io.read(path, format="espresso-out")
    assert isinstance(atoms, Atoms)
    return atoms


def _phonopy_frames(path: Path) -> list[LabelledFrame]:
    from himlip_ase.phonons.phonopy_files import read_displaced_supercells

    name = path.absolute().parent.name
    frames = []
    for k, (atoms, energy, forces) in enumerate(read_displaced_supercells(path)):
        bare = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
        frames.append(LabelledFrame(bare, energy, forces, set=name, source=f"{path}#{k}"))
    return frames


def frames_of_file(path: Path) -> list[LabelledFrame]:
    """Everything that a file holds, labelled or not; see `read_labels`."""
    from himlip_ase.phonons.phonopy_files import is_phonopy_file

    if is_phonopy_file(path):
        return _phonopy_frames(path)
    if path.suffix in STORES:
        return list(LabelStore(path))
    if path.suffix == ".lmdb":
        from himlip_ase.labels.horm import HormStore

        return list(HormStore(path))
    if path.suffix == ".out":
        folder = path.parent
        name = folder.parent.name if folder.name.isdigit() else folder.name
        return [frame_from_atoms(_read_pw_output(path), name, source=str(path))]
    try:
        images = ase.io.read(path, index=":")
    except Exception as error:
        raise InputError(f"{path}: ASE cannot read it ({type(error).__name__}: {error})") from error
    return [frame_from_atoms(a, path.stem, source=f"{path}#{k}") for k, a in enumerate(images)]


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


def stored_hessian(path: Path, name: str, weight: float) -> HessianLabel:
    """What ``himlip hessian`` wrote, as a label."""
    from himlip_ase.labels.checks import check_hessian
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


def open_labels(
    paths: str | os.PathLike | Sequence[str | os.PathLike], sets: Sequence[str] | None = None
) -> Sequence[LabelledFrame]:
    """Labelled structures, of which those in HDF5 stay on disk until they are asked for.

    Parameters
    ----------
    paths : path or sequence of paths
        As :func:`himlip_ase.labels.frames.read_labels`.
    sets : sequence of str, optional
        Keep these sets only.

    Returns
    -------
    sequence of LabelledFrame
        A list if none of `paths` is an HDF5 file or an ``.lmdb`` of HORM.

    Raises
    ------
    InputError
        As `read_labels`.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    on_disk = [p for p in paths if Path(p).suffix in (*STORES, ".lmdb")]
    others = [p for p in paths if p not in on_disk]
    stores = [_open(Path(p)) for p in on_disk]
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


def _open(path: Path) -> Sequence[LabelledFrame]:
    if path.suffix == ".lmdb":
        from himlip_ase.labels.horm import HormStore

        return HormStore(path)
    return LabelStore(path)


def without_judges(frames: Sequence[LabelledFrame]) -> Sequence[LabelledFrame]:
    """The frames whose sets do not begin as those of `JUDGES`, which judge a potential."""
    chosen = [k for k, name in enumerate(set_names(frames)) if not name.startswith(JUDGES)]
    return frames if len(chosen) == len(frames) else Chosen(frames, chosen)


def set_names(frames: Sequence[LabelledFrame]) -> list[str]:
    """Name of the set of each frame, without reading those on disk."""
    if isinstance(frames, LabelStore):
        return frames.set_names()
    if isinstance(frames, Joined):
        return [name for part in frames.parts for name in set_names(part)]
    if isinstance(frames, Chosen):
        every = set_names(frames.frames)
        return [every[k] for k in frames.indices]
    return [frame.set for frame in frames]
