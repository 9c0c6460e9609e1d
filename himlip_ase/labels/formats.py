"""Formats of label files and of Hessians, one entry each; what an entry needs is imported when it is used.

A new format is one more entry: name, a line for ``--help`` and the documentation, which paths are its own,
and the function that reads them, as ``module:function`` or as a callable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from himlip_ase.registry import Registry

STORES = (".h5", ".hdf5")
"""Suffixes of `himlip_ase.labels.store`."""


@dataclass(frozen=True)
class FileFormat:
    """One format of files that hold labels or a Hessian.

    Parameters
    ----------
    name : str
    summary : str
        One line for ``--help`` and the documentation.
    takes : callable
        Path → whether it is of this format, by its name.
    read : str or callable
        Path → labelled frames, or ``(path, name, symmetrize, weight)`` → a Hessian; ``module:function`` is
        imported when it is used.
    on_disk : bool
        What is read is a sequence whose frames stay on disk until they are asked for.
    fallback : bool
        Asked only for files that no other format takes.
    named_keys : bool
        `read` takes ``keys=`` (:class:`himlip_ase.labels.label_keys.LabelKeys`).
    """

    name: str
    summary: str
    takes: Callable[[Path], bool]
    read: str | Callable[..., Any]
    on_disk: bool = False
    fallback: bool = False
    named_keys: bool = False

    def reader(self) -> Callable[..., Any]:
        """The function that reads."""
        if callable(self.read):
            return self.read
        module, name = self.read.split(":")
        function: Callable[..., Any] = getattr(import_module(module), name)
        return function


def _is_phonopy_file(path: Path) -> bool:
    from himlip_ase.phonons.phonopy_files import is_phonopy_file

    return is_phonopy_file(path)


def _has_suffix(*suffixes: str) -> Callable[[Path], bool]:
    return lambda path: path.suffix in suffixes


FORMATS: Registry[FileFormat] = Registry(
    "format of labels",
    FileFormat(
        "phonopy",
        "FORCE_SETS or YAML of phonopy with displacements and forces",
        _is_phonopy_file,
        "himlip_ase.labels.format_readers:read_displaced",
    ),
    FileFormat(
        "himlip",
        ".h5 of labels, with Hessians and products of them, read frame by frame",
        _has_suffix(*STORES),
        "himlip_ase.labels.store:LabelStore",
        on_disk=True,
    ),
    FileFormat(
        "horm",
        ".lmdb of HORM",
        _has_suffix(".lmdb"),
        "himlip_ase.labels.horm:HormStore",
        on_disk=True,
    ),
    FileFormat(
        "deepmd",
        "folder of DeePMD (type.raw, set.000/*.npy)",
        lambda path: (path / "type.raw").is_file(),
        "himlip_ase.labels.deepmd:read_deepmd",
    ),
    FileFormat(
        "espresso",
        "pw.out of finished Quantum ESPRESSO runs",
        _has_suffix(".out"),
        "himlip_ase.labels.format_readers:read_pw_output",
    ),
    FileFormat(
        "ase",
        "extxyz, .xyz, .traj, .db and whatever else ASE reads",
        lambda path: True,
        "himlip_ase.labels.format_readers:read_with_ase",
        fallback=True,
        named_keys=True,
    ),
)
"""Formats of files of labelled structures."""

HESSIAN_FORMATS: Registry[FileFormat] = Registry(
    "format of a Hessian",
    FileFormat(
        "phonopy",
        "YAML, FORCE_SETS, FORCE_CONSTANTS or force_constants.hdf5 of phonopy",
        _is_phonopy_file,
        "himlip_ase.labels.format_readers:phonopy_hessian",
    ),
    FileFormat(
        "himlip",
        ".npz or .h5 of himlip hessian",
        _has_suffix(*STORES, ".npz"),
        "himlip_ase.labels.format_readers:stored_hessian",
    ),
    FileFormat(
        "espresso",
        "prefix, dyn0 or folder of QE dyn files",
        lambda path: True,
        "himlip_ase.labels.format_readers:dyn_hessian",
        fallback=True,
    ),
)
"""Formats of Hessians."""


def format_of(path: Path, formats: Registry[FileFormat] = FORMATS) -> FileFormat:
    """The format of a file, by its name: the first that takes it, those of last resort at the end.

    Parameters
    ----------
    path : Path
    formats : Registry

    Returns
    -------
    FileFormat
    """
    ordered = sorted(formats, key=lambda entry: entry.fallback)
    return next(entry for entry in ordered if entry.takes(path))
