"""What the labels of a run hold for λ: G(q), the harmonic phonons that go with it, the electrons."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from himlip_ase.lattice import crystal_mismatch
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.pipeline.labels import LabelFolder
from himlip_ase.superconductivity.cell_strain import SAME_CELL_ANGSTROM, SAME_SITE_ANGSTROM

if TYPE_CHECKING:
    from ase import Atoms

    from himlip_ase.superconductivity.electron_bands import ElectronBands
    from himlip_ase.superconductivity.electronic_dos import ElectronicDos
    from himlip_ase.superconductivity.elph_matrices import ElphMatrices

logger = logging.getLogger(__name__)

MAIN_RUN = "harmonic"
"""Folder of the labels with the matrices that the potential learns."""


def electron_phonon(
    labels: LabelFolder, name: str | None
) -> tuple[str, DynamicalMatrices, ElphMatrices, list[ElphMatrices]]:
    """The ph.x run whose G(q) is used, its phonons, and the G(q) of runs on coarser grids.

    Parameters
    ----------
    labels : LabelFolder
    name : str or None
        None: the run on the finest q-grid.

    Returns
    -------
    name : str
        Of the run.
    phonons : DynamicalMatrices
    elph : ElphMatrices
    coarser : list of ElphMatrices
    """
    runs = {run: labels.coupled(run) for run in labels.elph_runs()}
    if name is not None and name not in runs:
        labels.coupled(name)  # says what there is
    chosen = name or max(runs, key=lambda run: int(np.prod(runs[run][1].dims)))
    harmonic, elph = runs[chosen]
    coarser = [
        other
        for run, (_, other) in runs.items()
        if run != chosen
        and other.dims != elph.dims
        and all(fine >= coarse for fine, coarse in zip(elph.dims, other.dims, strict=True))
        and all(np.abs(elph.sigma_ry - s).min() < 1e-6 for s in other.sigma_ry)
        and len(other.sigma_ry) == len(elph.sigma_ry)
        and _same_crystal(run, other, elph)
    ]
    return chosen, harmonic, elph, coarser


def harmonic_phonons(labels: LabelFolder, name: str, own: DynamicalMatrices) -> tuple[str, DynamicalMatrices]:
    """The harmonic phonons of DFT that are joined with G(q), and the ph.x run that they are of.

    Where ``harmonic`` has no G(q) of its own and is on the same grid, the run with G(q) was made for that
    alone, perhaps on a k-mesh that phonons do not converge on, and the phonons are those of ``harmonic``.

    Parameters
    ----------
    labels : LabelFolder
    name : str
        The run whose G(q) is used.
    own : DynamicalMatrices
        Its phonons.

    Returns
    -------
    run : str
    phonons : DynamicalMatrices
    """
    main = labels.harmonic
    if MAIN_RUN in labels.elph_runs() or main.dims != own.dims or _mismatch(main.primitive, own.primitive):
        return name, own
    return MAIN_RUN, main


def electrons(labels: LabelFolder, run: str, path: Path | None) -> ElectronicDos | ElectronBands | None:
    """N(ε) of a given file, else of the band energies beside G(q); None where there is neither.

    Parameters
    ----------
    labels : LabelFolder
    run : str
        Folder of the ph.x run among the labels.
    path : Path or None
        A file of N(ε).

    Returns
    -------
    ElectronicDos, ElectronBands or None
    """
    from himlip_ase.superconductivity.electron_bands import read_a2fsave
    from himlip_ase.superconductivity.electronic_dos import read_electronic_dos

    if path is not None:
        return read_electronic_dos(path)
    beside = labels.path / run / "a2Fsave.gz"
    return read_a2fsave(beside) if beside.is_file() else None


def k_refusal(labels: LabelFolder, name: str) -> str:
    """Why the harmonic phonons of one ph.x run give no Tc: the k-mesh; empty if it is converged or unknown.

    Parameters
    ----------
    labels : LabelFolder
    name : str
        The run; see `LabelFolder.k_check_for`.

    Returns
    -------
    str
    """
    check = labels.k_check_for(name)
    return "" if check is None or check.converged else f"the k-mesh is not converged: {check.verdict()}"


def _same_crystal(run: str, other: ElphMatrices, elph: ElphMatrices) -> bool:
    reason = _mismatch(other.primitive, elph.primitive)
    if reason is not None:
        logger.warning("G(q) of labels %s does not bound the error of the q-grid: %s", run, reason)
    return reason is None


def _mismatch(one: Atoms, other: Atoms) -> str | None:
    return crystal_mismatch(one, other, SAME_CELL_ANGSTROM, SAME_SITE_ANGSTROM)
