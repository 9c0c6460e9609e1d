"""Errors of a potential as files: JSON, parity figures and the pairs behind them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write, write_json
from himlip_ase.hint.evaluation.evaluate import LabelErrors
from himlip_ase.hint.evaluation.plots import parity_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figure(figure: Figure, path: Path, overwrite: bool = True) -> None:
    """Write a figure as PNG and PDF beside each other.

    Parameters
    ----------
    figure : matplotlib Figure
    path : Path
        Its suffix is replaced.
    overwrite : bool
    """
    for suffix in (".png", ".pdf"):
        with atomic_write(path.with_suffix(suffix), "wb", overwrite=overwrite) as stream:
            figure.savefig(stream, format=suffix[1:], dpi=150)


def write_errors(errors: LabelErrors, folder: str | os.PathLike, overwrite: bool = False) -> None:
    """Write ``errors.json``, the parity figure and the pairs behind it (``parity.npz``).

    Parameters
    ----------
    errors : LabelErrors
    folder : path-like
    overwrite : bool

    Raises
    ------
    InputError
        There is an ``errors.json`` already and `overwrite` is False.
    """
    target = Path(folder)
    if (target / "errors.json").exists() and not overwrite:
        raise InputError(f"{target / 'errors.json'} exists; type --overwrite or choose another folder")
    write_json(target / "errors.json", errors.to_dict(), overwrite=overwrite)
    save_figure(parity_figure(errors), target / "parity", overwrite)
    arrays: dict[str, np.ndarray] = {}
    for name, item in errors.sets.items():
        for quantity, (labels, predicted) in item.pairs.items():
            arrays[f"{name}.{quantity}"] = np.stack([labels, predicted])
    for name, found in errors.hessians.items():
        for quantity, pairs in (("frequencies", found.pairs), ("hessian", found.elements)):
            if pairs is not None:
                arrays[f"{name}.{quantity}".replace("/", "_")] = np.stack(pairs)
    with atomic_write(target / "parity.npz", "wb", overwrite=overwrite) as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
