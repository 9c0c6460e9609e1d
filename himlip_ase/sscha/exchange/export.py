"""A finished run in the files of other codes."""

from __future__ import annotations

import os
from pathlib import Path

from himlip_ase.errors import InputError
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.phonopy_io import write_phonopy_params
from himlip_ase.phonons.qe import write_dyn
from himlip_ase.sscha.exchange.cellconstructor import write_cellconstructor
from himlip_ase.sscha.exchange.extxyz import write_extxyz
from himlip_ase.sscha.exchange.phonopy import write_phonopy_dataset
from himlip_ase.sscha.exchange.python_sscha import write_python_sscha
from himlip_ase.sscha.trust.verify_files import load_final_ensemble

FORMATS = ("python-sscha", "python-sscha-text", "extxyz", "phonopy", "qe", "cellconstructor")


def export_run(
    run: str | os.PathLike,
    folder: str | os.PathLike,
    to: str = "python-sscha",
    population: int = 1,
    overwrite: bool = False,
) -> list[Path]:
    """Write the final ensemble, the auxiliary and the free-energy Hessian of a run.

    Parameters
    ----------
    run : path-like
        Folder of a finished run.
    folder : path-like
        Where to write.
    to : str
        "python-sscha", "python-sscha-text": the ensemble, with the dyn files that generated it, for
        ``Ensemble.load_bin`` and ``Ensemble.load``.  "extxyz": the ensemble as labelled frames.  "phonopy":
        ``auxiliary.yaml`` and ``hessian.yaml`` (``phonopy-load``), ``dataset.yaml`` for phonopy's own fits.
        "qe", "cellconstructor": dyn files of auxiliary and Hessian, in the constants of each.
    population : int
        Number in python-sscha's names.
    overwrite : bool
        Whether existing files may be replaced.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    InputError
        An unknown format, files that exist, an ensemble of a neighbouring run that has other weights (only
        "qe", "cellconstructor" can then be written).
    """
    if to not in FORMATS:
        raise InputError(f"cannot export to {to!r}; choose one of {', '.join(FORMATS)}")
    final, folder = load_final_ensemble(run), Path(folder)
    matrices: dict[str, DynamicalMatrices] = {"auxiliary": final.result.auxiliary}
    if final.result.hessian is not None:
        matrices["hessian"] = final.result.hessian
    if to in ("qe", "cellconstructor"):
        write = write_dyn if to == "qe" else write_cellconstructor
        return [p for name, dm in matrices.items() for p in write(dm, folder / f"{name}.dyn", overwrite)]
    if not final.ensemble.is_drawn_from(final.target):
        raise InputError(
            f"{run} took its final ensemble over from a neighbouring run: it was not drawn from its "
            "auxiliary, and files of other codes hold no weights. Export that run, or this one to qe or "
            "cellconstructor"
        )
    ensemble = final.ensemble
    if to == "extxyz":
        return [write_extxyz(folder / "ensemble.extxyz", ensemble, overwrite)]
    if to == "phonopy":
        paths = [
            write_phonopy_params(dm.force_constants(), folder / f"{name}.yaml", overwrite)
            for name, dm in matrices.items()
        ]
        return [*paths, write_phonopy_dataset(folder / "dataset.yaml", ensemble, overwrite)]
    text = to == "python-sscha-text"
    return write_python_sscha(folder, ensemble, population, text, overwrite)
