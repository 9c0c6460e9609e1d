"""Files, whole or absent: atomic writes, readers that refuse damage, a folder lock, checksums."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import json
import logging
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from himlip_ase.errors import CalculationError, InputError

if TYPE_CHECKING:
    import h5py
    import numpy as np

RESTORE = "restore it from a copy, or remove it and make it again"
SEAL, SEAL_KIND = "checksum", "sha256:"
"""Key of the checksum in a sealed JSON file, and how its value begins."""
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
"""Characters that no text holds; a block that never reached the disk is read as NUL."""


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "w", overwrite: bool = False) -> Iterator[IO[Any]]:
    """Open a file that appears under its name only once it is complete and on disk.

    Parameters
    ----------
    path : path-like
        Final name; the parent folder is created.
    mode : {"w", "wb"}
        Text (UTF-8) or binary.
    overwrite : bool
        Whether an existing file may be replaced.

    Yields
    ------
    file object
        Writes go to a temporary name beside `path`, fsynced and renamed on success, removed on failure.

    Raises
    ------
    InputError
        `path` exists and `overwrite` is False.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already; pass overwrite=True (--overwrite) or choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_json(path: str | os.PathLike, data: Any, overwrite: bool = False, seal: bool = False) -> None:
    """Write `data` as indented JSON, atomically.

    Parameters
    ----------
    path : path-like
    data : object
        What `json.dumps` takes.
    overwrite : bool
        Whether an existing file may be replaced.
    seal : bool
        Add a checksum, which `read_mapping` tests; `data` is a mapping then.

    Raises
    ------
    ValueError
        NaN or infinity in `data`.
    InputError
        `path` exists and `overwrite` is False.
    """
    data = sealed(data) if seal else data
    text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False)
    with atomic_write(path, overwrite=overwrite) as stream:
        stream.write(text + "\n")


def sealed(data: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with a checksum of itself, which `read_mapping` tests and takes away.

    Parameters
    ----------
    data : mapping
        What `json.dumps` takes.

    Returns
    -------
    dict
    """
    return {**data, SEAL: _seal(data)}


def _seal(data: Any) -> str:
    """Checksum of what a reader of the JSON gets."""
    content = json.loads(json.dumps(data, ensure_ascii=False))
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return SEAL_KIND + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@contextlib.contextmanager
def reading(path: str | os.PathLike, remedy: str = RESTORE) -> Iterator[Path]:
    """Turn whatever a damaged file makes a reader raise into one `InputError`.

    The readers of JSON, YAML, NumPy, HDF5, safetensors, ASE and phonopy raise some twenty kinds of errors on
    files that were cut short or changed; which one is chance. Errors of the file system (no such file, no
    permission) and those that are raised on purpose pass as they are.

    Parameters
    ----------
    path : path-like
        The file that is read inside the context.
    remedy : str
        What to do about it: the end of the message.

    Yields
    ------
    Path

    Raises
    ------
    InputError
        Anything else went wrong; the cause is kept.
    """
    try:
        yield Path(path)
    except (InputError, CalculationError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the file system's; an impossible offset is the file's
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(
            f"{os.fspath(path)} is damaged, or not what its name says ({said}); {remedy}"
        ) from error


def read_text(path: str | os.PathLike, remedy: str = RESTORE) -> str:
    """Text of a file in UTF-8.

    Parameters
    ----------
    path : path-like
        ``.gz``, ``.xz`` and ``.bz2`` are decompressed.
    remedy : str
        See `reading`.

    Returns
    -------
    str

    Raises
    ------
    InputError
        The file is damaged, or no text.
    """
    with reading(path, remedy) as place:
        opened = {".gz": "gzip", ".xz": "lzma", ".bz2": "bz2"}.get(place.suffix)
        if opened is None:
            text = place.read_text(encoding="utf-8")
        else:
            with importlib.import_module(opened).open(place, "rt", encoding="utf-8") as stream:
                text = str(stream.read())
        check_text(text, path, remedy)
        return text


def check_text(text: str, path: str | os.PathLike, remedy: str = RESTORE) -> None:
    """Refuse a text with characters that no text holds.

    Parameters
    ----------
    text : str
    path : path-like
        Where it comes from, for the message.
    remedy : str
        See `reading`.

    Raises
    ------
    InputError
        With the line.
    """
    if found := CONTROL.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise InputError(
            f"{os.fspath(path)}, line {line}: the character {found[0]!r} stands in no text: the file is "
            f"damaged; {remedy}"
        )


def read_json(path: str | os.PathLike, remedy: str = RESTORE) -> Any:
    """Content of a JSON file.

    Parameters
    ----------
    path : path-like
    remedy : str
        See `reading`.

    Returns
    -------
    dict, list, str, float, int, bool or None

    Raises
    ------
    InputError
        The file is damaged.
    """
    with reading(path, remedy) as place:
        return json.loads(place.read_text(encoding="utf-8"))


def read_mapping(path: str | os.PathLike, remedy: str = RESTORE) -> dict[str, Any]:
    """Content of a JSON file that holds a mapping.

    Parameters
    ----------
    path : path-like
    remedy : str
        See `reading`.

    Returns
    -------
    dict

    Raises
    ------
    InputError
        The file is damaged, holds something else, or was sealed and has changed since.
    """
    data = read_json(path, remedy)
    if not isinstance(data, dict):
        raise InputError(f"{os.fspath(path)} holds no mapping but {type(data).__name__}; {remedy}")
    seals = [key for key, value in data.items() if isinstance(value, str) and value.startswith(SEAL_KIND)]
    if seals or SEAL in data:
        found = data.pop(seals[0] if seals else SEAL)
        if seals != [SEAL] or found != _seal(data):
            raise InputError(
                f"{os.fspath(path)} has changed since it was written (its checksum does not fit); {remedy}. "
                f"If that was on purpose, remove its line {SEAL!r}"
            )
    return data


def read_yaml(path: str | os.PathLike, remedy: str = RESTORE) -> Any:
    """Content of a YAML file without Python tags.

    Parameters
    ----------
    path : path-like
    remedy : str
        See `reading`.

    Returns
    -------
    dict, list, str, float, int, bool or None

    Raises
    ------
    InputError
        The file is damaged, no YAML, or holds tags.
    """
    import yaml

    with reading(path, remedy) as place:
        return yaml.safe_load(place.read_text(encoding="utf-8"))


def read_arrays(path: str | os.PathLike, remedy: str = RESTORE) -> dict[str, np.ndarray]:
    """Arrays of an ``.npz`` file, or that of an ``.npy`` file under the name "array", without pickles.

    Parameters
    ----------
    path : path-like
    remedy : str
        See `reading`.

    Returns
    -------
    dict of ndarray

    Raises
    ------
    InputError
        The file is damaged, or holds pickles.
    """
    import numpy as np

    with reading(path, remedy) as place:
        found = np.load(place, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return {"array": found}
        with found:
            return {name: found[name] for name in found.files}


@contextlib.contextmanager
def opened_hdf5(path: str | os.PathLike, remedy: str = RESTORE) -> Iterator[h5py.File]:
    """An HDF5 file to read from; damage that shows while it is open is reported as by `reading`.

    Parameters
    ----------
    path : path-like
    remedy : str
        See `reading`.

    Yields
    ------
    h5py.File

    Raises
    ------
    InputError
        The file is damaged, or no HDF5.
    """
    import h5py

    with reading(path, remedy) as place, h5py.File(place, "r") as file:
        yield file


def sha256_file(path: str | os.PathLike) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class FolderLock:
    """Keep two processes out of one folder, as a context manager.

    The lock is an ``flock`` on ``.lock`` in the folder, so that it vanishes with its process, killed or not;
    the file names program, process and machine.

    Raises
    ------
    InputError
        Another process holds the folder.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.path = Path(folder) / ".lock"
        self._stream: IO[str] | None = None

    def __enter__(self) -> FolderLock:
        import fcntl

        self.path.parent.mkdir(parents=True, exist_ok=True)
        stream = open(self.path, "a+", encoding="utf-8")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            stream.seek(0)
            holder = " ".join(stream.read(200).split())
            stream.close()
            raise InputError(
                f"{self.path.parent} is in use by another process ({holder or 'unknown'}); "
                "wait for it or choose another folder"
            ) from error
        stream.truncate(0)
        stream.write(f"{Path(sys.argv[0] or 'python').name}, pid {os.getpid()} on {platform.node()}\n")
        stream.flush()
        self._stream = stream
        return self

    def __exit__(self, *exc: object) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


@contextlib.contextmanager
def appended_log(
    path: str | os.PathLike, logger: logging.Logger, form: str, raise_level: bool
) -> Iterator[None]:
    """Append what `logger` receives to a file.

    Parameters
    ----------
    path : path-like
        The file; its folder exists.
    logger : logging.Logger
    form : str
        Format of a line, as `logging.Formatter` takes it.
    raise_level : bool
        Let messages of level INFO through for as long, where the logger would drop them.

    Yields
    ------
    None
    """
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter(form))
    before = logger.level
    if raise_level and logger.getEffectiveLevel() > logging.INFO:
        logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        handler.close()
