"""Files that are either whole or absent: atomic writes, a folder lock, checksums."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from himlip_ase.errors import InputError


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


def write_json(path: str | os.PathLike, data: Any, overwrite: bool = False) -> None:
    """Write `data` as indented JSON, atomically.

    Parameters
    ----------
    path : path-like
    data : object
        What `json.dumps` takes.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    ValueError
        NaN or infinity in `data`.
    InputError
        `path` exists and `overwrite` is False.
    """
    text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False)
    with atomic_write(path, overwrite=overwrite) as stream:
        stream.write(text + "\n")


def sha256_file(path: str | os.PathLike) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class FolderLock:
    """Keep two processes out of one folder, as a context manager.

    The lock is an ``flock`` on ``.lock`` in the folder, so that it vanishes with its process, killed or not.

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
            stream.close()
            raise InputError(
                f"{self.path.parent} is in use by another process; wait for it or choose another folder"
            ) from error
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
