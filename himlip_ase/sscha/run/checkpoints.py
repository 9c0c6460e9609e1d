"""Checkpoints: what was finished is on disk whole, and a resumed run ends like an unbroken one.

The state is a folder of files, each written once and atomically: the settings, and for each population its
ensemble and its minimisation.  An ensemble never changes once its forces are known, so that no later write
can harm the costly part, and nothing that is finished is written again.  Only the ensemble whose forces
are being evaluated is rewritten, as they come.  :func:`pack_run` makes one file of a whole run.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.files import FolderLock, atomic_write, reading, write_json
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.array_files import load_arrays, load_json, pack, restoring, save_arrays
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.ensemble_files import load_ensemble, save_ensemble
from himlip_ase.sscha.ensembles.partial_ensemble import PartialEnsemble
from himlip_ase.sscha.settings import SschaSettings

SCHEMA = 1
MAY_CHANGE = ("max_populations", "n_hessian_configurations", "hessian_order", "precision")
"""Settings that a resumed run may change: they touch no population that is finished."""


class State:
    """The ``state`` folder of one run.

    Parameters
    ----------
    folder : Path
        Of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "state"

    def begin(
        self, dynamical: DynamicalMatrices, settings: SschaSettings, resume: bool, origin: str | None = None
    ) -> None:
        """Open a new or an old run.

        Parameters
        ----------
        dynamical : DynamicalMatrices
            The start.
        settings : SschaSettings
        resume : bool
            Whether an old run may be continued.
        origin : str, optional
            Fingerprint of the run whose ensembles are used again.

        Raises
        ------
        InputError
            The folder holds a run and `resume` is False, or the run was begun with other settings or another
            start.
        """
        path = self.folder / "run.json"
        digest = hashlib.sha256()
        for name, array in sorted(pack("initial", dynamical).items()):
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        run = {
            "schema": SCHEMA,
            "settings": settings.as_dict(),
            "initial_sha256": digest.hexdigest(),
            "origin": origin,
        }
        if not path.exists():
            if (self.folder.parent / "result.json").exists():
                raise InputError(
                    f"{self.folder.parent} holds a result without its state; choose another folder"
                )
            write_json(path, run)
            return
        if not resume:
            raise InputError(
                f"{self.folder.parent} holds an SSCHA run already; pass resume=True (--resume) to continue "
                "it or choose another folder"
            )
        old = load_json(path)
        if old.get("schema") != SCHEMA:
            raise InputError(f"{path} has schema {old.get('schema')!r}; this version reads {SCHEMA}")
        before = old.get("settings") or {}
        changed = [
            f"{name} was {before.get(name)!r}, now {value!r}"
            for name, value in settings.as_dict().items()
            if name not in MAY_CHANGE and before.get(name) != value
        ]
        if old.get("initial_sha256") != run["initial_sha256"]:
            changed.append("the starting dynamical matrices differ")
        if old.get("origin") != origin:
            changed.append("the run it continues from differs")
        if changed:
            raise InputError(
                f"cannot resume {self.folder.parent}: {'; '.join(changed)}. Use the settings the run was "
                f"begun with (only {', '.join(MAY_CHANGE)} may change) or choose another folder"
            )
        write_json(path, run, overwrite=True)

    def save_ensemble(self, name: str, ensemble: Ensemble) -> None:
        """Keep an evaluated ensemble and its Gaussian, so that its forces are never paid for twice.

        Parameters
        ----------
        name : str
            Of its file.
        ensemble : Ensemble
        """
        save_ensemble(self.folder / f"{name}_ensemble.npz", ensemble)
        self._partial(name).unlink(missing_ok=True)

    def load_ensemble(self, name: str) -> Ensemble | None:
        """An ensemble stored earlier, None if there is none.

        Raises
        ------
        CalculationError
            Its file is damaged.
        """
        path = self.folder / f"{name}_ensemble.npz"
        return load_ensemble(path) if path.exists() else None

    def _partial(self, name: str) -> Path:
        return self.folder / f"{name}_partial.npz"

    def save_partial(self, name: str, partial: PartialEnsemble) -> None:
        """Keep an ensemble whose forces are known in part.

        Parameters
        ----------
        name : str
            Of its file.
        partial : PartialEnsemble
        """
        save_arrays(self._partial(name), partial.arrays(), overwrite=True)

    def load_partial(self, name: str) -> PartialEnsemble | None:
        """What :meth:`save_partial` kept, None if there is nothing."""
        path = self._partial(name)
        if not path.exists():
            return None
        arrays = load_arrays(path)
        with restoring(path):
            return PartialEnsemble.from_arrays(arrays)

    def save(self, name: str, arrays: dict[str, np.ndarray], record: dict[str, Any]) -> None:
        """Keep finished work.

        Parameters
        ----------
        name : str
            Of its files.
        arrays : dict of str to ndarray
            Written first.
        record : dict
            Written last: it marks the work as finished.
        """
        save_arrays(self.folder / f"{name}.npz", arrays, overwrite=True)
        write_json(self.folder / f"{name}.json", record)

    def load(self, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Arrays and record of finished work, None if it was not finished."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            return None
        return load_arrays(path.with_suffix(".npz")), load_json(path)


def pack_run(folder: str | os.PathLike, path: str | os.PathLike) -> None:
    """Write an SSCHA run (state, results, log) into one zip file, to be moved or archived.

    Parameters
    ----------
    folder : path-like
        Of :func:`~himlip_ase.sscha.run.loop.run_sscha`; must not be in use.
    path : path-like
        The new file.

    Raises
    ------
    InputError
        The folder holds no run, is in use, or `path` exists.
    """
    folder = Path(folder)
    if not (folder / "state" / "run.json").is_file():
        raise InputError(f"{folder} holds no SSCHA run (no state/run.json)")
    with FolderLock(folder), atomic_write(path, "wb") as stream, zipfile.ZipFile(stream, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and not file.name.startswith("."):
                archive.write(file, file.relative_to(folder))


def unpack_run(path: str | os.PathLike, folder: str | os.PathLike) -> None:
    """The inverse of :func:`pack_run`, into a folder that does not exist yet.

    Parameters
    ----------
    path : path-like
        From :func:`pack_run`.
    folder : path-like
        New.

    Raises
    ------
    InputError
        `folder` exists, or the file is not a packed run or is damaged.
    """
    path, folder = Path(path), Path(folder)
    if folder.exists():
        raise InputError(f"{folder} exists already; choose another folder")
    with reading(path, "pack the run again, or copy the file again"), zipfile.ZipFile(path) as archive:
        if "state/run.json" not in archive.namelist() or archive.testzip() is not None:
            raise InputError(f"{path} is not a whole packed SSCHA run")
        archive.extractall(folder)
