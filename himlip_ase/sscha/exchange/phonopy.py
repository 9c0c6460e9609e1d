"""Ensembles as phonopy's datasets of displacements and forces, for its own fits of force constants."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write, reading
from himlip_ase.lattice import ase_to_phonopy
from himlip_ase.phonons.phonopy_objects import setup_phonopy
from himlip_ase.sscha.ensembles.consistency import check_widths
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.exchange.extxyz import ANOTHER


def write_phonopy_dataset(path: str | os.PathLike, ensemble: Ensemble, overwrite: bool = False) -> Path:
    """Write a ``phonopy_params.yaml`` with displacements, forces and energies of an ensemble.

    ``phonopy-load --fc-calculator symfc <path>`` fits force constants to it; the fit to an SSCHA ensemble
    drawn from its own minimum gives the auxiliary force constants.

    Parameters
    ----------
    path : path-like
    ensemble : Ensemble
        Its centroids are the ideal structure.
    overwrite : bool
        Whether an existing file may be replaced.

    Returns
    -------
    Path
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already; pass overwrite=True (--overwrite) or choose another name")
    dynamical = ensemble.drawn_from.dynamical
    ph = setup_phonopy(dynamical.primitive, dynamical.dims)
    order = ase_to_phonopy(len(dynamical.primitive), dynamical.dims)
    ph.dataset = {
        "displacements": np.array(ensemble.displacements[:, order], order="C"),
        "forces": np.array(ensemble.forces[:, order], order="C"),
        "supercell_energies": ensemble.energies,
    }
    with tempfile.TemporaryDirectory() as folder:
        settings = {"force_sets": True, "displacements": True, "force_constants": False}
        written = Path(ph.save(filename=Path(folder) / "phonopy_params.yaml", settings=settings))
        text = written.read_text(encoding="utf-8")
    with atomic_write(path, overwrite=overwrite) as stream:
        stream.write(text)
    return path


def read_phonopy_dataset(path: str | os.PathLike, drawn_from: HarmonicDistribution) -> Ensemble:
    """Read displacements and forces from a phonopy file (``phonopy_params.yaml``) as an ensemble.

    Parameters
    ----------
    path : path-like
    drawn_from : HarmonicDistribution
        The Gaussian that the displacements were drawn from.

    Returns
    -------
    Ensemble
        Without stresses; its static energy is NaN.

    Raises
    ------
    InputError
        The file is damaged, or holds no displacements of this supercell drawn from `drawn_from`.
    """
    import phonopy

    from himlip_ase.sscha.ensembles.distances import shortest_distance

    with reading(path):
        ph = phonopy.load(path, primitive_matrix="P", produce_fc=False, log_level=0)
        dataset: dict[str, Any] = dict(ph.dataset or {})
    n = int(np.prod(drawn_from.dims))
    size = n * len(drawn_from.dynamical.primitive)
    if "displacements" not in dataset or np.shape(dataset["displacements"])[1:] != (size, 3):
        raise InputError(
            f"{path} holds no displacements of all {size} atoms of a {drawn_from.dims} supercell"
        )
    if "forces" not in dataset:
        raise InputError(f"{path} holds displacements without forces")
    order = np.argsort(ase_to_phonopy(len(drawn_from.dynamical.primitive), drawn_from.dims))
    moved = np.array(dataset["displacements"])[:, order]
    energies = dataset.get("supercell_energies")
    ensemble = Ensemble(
        drawn_from,
        moved,
        np.full(len(moved), np.nan) if energies is None else np.array(energies, dtype=float),
        np.array(dataset["forces"])[:, order],
        None,
        np.nan,
        shortest_distance(drawn_from.supercell, moved),
        float(np.linalg.norm(moved, axis=2).max()),
    )
    check_widths(ensemble, f"the dataset in {path}", ANOTHER)
    return ensemble
