"""Models of other packages, taken by ``PREFIX:FILE`` wherever a model is named."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from himlip_ase.registry import Registry, imported

if TYPE_CHECKING:
    from himlip_ase.potential.interface import Potential


@dataclass(frozen=True)
class ForeignModel:
    """One architecture of another package.

    Attributes
    ----------
    name : str
        What stands before the colon.
    summary : str
        What a user types.
    reader : str
        ``module:function``, imported when it is needed; takes what stands after the colon.
    endings : tuple of str
        Of the names of its files.
    downloader : str, optional
        The same, for a package that can download models by name.
    """

    name: str
    summary: str
    reader: str
    endings: tuple[str, ...]
    downloader: str | None = None

    @property
    def prefix(self) -> str:
        """Name and colon."""
        return f"{self.name}:"

    def read(self, text: str) -> Potential:
        """The model; for the errors see its reader.

        Parameters
        ----------
        text : str
            What stands after the colon.
        """
        return imported(self.reader)(text)

    def download(self, text: str) -> Path:
        """Let the package download a model into its own cache, if it is not there.

        Parameters
        ----------
        text : str
        """
        assert self.downloader is not None
        return imported(self.downloader)(text)


FOREIGN_MODELS = Registry(
    "foreign model",
    ForeignModel(
        "mace",
        "mace:PATH or mace:NAME",
        "himlip_ase.potential.mace_files:read_mace",
        (".model", ".pt", ".pth"),
        "himlip_ase.potential.mace_files:download_mace",
    ),
    ForeignModel(
        "alphanet",
        "alphanet:WEIGHTS.ckpt",
        "himlip_ase.potential.alphanet_files:read_alphanet",
        (".ckpt",),
    ),
)
"""By what stands before the colon."""


def split_foreign(name: str | os.PathLike | None) -> tuple[ForeignModel, str] | None:
    """Architecture, and what stands after the colon; None for a model of this package.

    Parameters
    ----------
    name : str or path-like, optional
    """
    if name is None:
        return None
    prefix, colon, text = os.fspath(name).partition(":")
    return (FOREIGN_MODELS[prefix], text) if colon and prefix in FOREIGN_MODELS else None


def placed(name: str, folder: Path) -> str:
    """A model's name, or its path as it is seen from `folder`.

    Parameters
    ----------
    name : str
        As `himlip_ase.potential.checkpoint.load_model` takes it.
    folder : Path
        Where relative paths start.

    Returns
    -------
    str
        With an absolute path, if it is one: a file that is there, or that ends like one.
    """
    found = split_foreign(name)
    prefix, text = (found[0].prefix, found[1]) if found else ("", name)
    path, mark, rest = (text, "", "") if (folder / Path(text).expanduser()).is_file() else text.partition("#")
    endings = (".safetensors", *(ending for model in FOREIGN_MODELS for ending in model.endings))
    here = folder / Path(path).expanduser()
    if here.is_file() or Path(path).parent != Path() or Path(path).suffix in endings:
        path = str(here.resolve())
    return prefix + path + mark + rest
