"""Ensembles as labelled frames in extended XYZ."""

from __future__ import annotations

import io
import os
from pathlib import Path

import ase.io
import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write, reading
from himlip_ase.labels.label_keys import frame_from_atoms
from himlip_ase.sscha.ensembles.consistency import check_widths
from himlip_ase.sscha.ensembles.distances import shortest_distance
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution

ANOTHER = (
    "Give the Gaussian it was drawn from, centroids and masses included (at {temperature} K the widths "
    "would be right)"
)
"""What to do about an ensemble that was not drawn from its Gaussian."""


def write_extxyz(path: str | os.PathLike, ensemble: Ensemble, overwrite: bool = False) -> Path:
    """Write an ensemble as labelled frames, which ``himlip finetune``, ASE and most trainers read.

    Keys ``REF_energy`` (eV per supercell), ``REF_forces`` (eV/Å), ``REF_stress`` (ASE Voigt, eV/Å³); a last
    frame with ``centroids=T`` has the atoms on their centroids and the static energy.

    Parameters
    ----------
    path : path-like
    ensemble : Ensemble
    overwrite : bool
        Whether an existing file may be replaced.

    Returns
    -------
    Path
    """
    ideal, frames = ensemble.drawn_from.supercell, []
    for index in range(len(ensemble)):
        frame = ideal.copy()
        frame.positions += ensemble.displacements[index]
        frame.info["REF_energy"] = float(ensemble.energies[index])
        frame.arrays["REF_forces"] = ensemble.forces[index]
        if ensemble.stresses is not None:
            frame.info["REF_stress"] = ensemble.stresses[index]
        frames.append(frame)
    ideal.info["centroids"] = True
    if np.isfinite(ensemble.static_energy):
        ideal.info["REF_energy"] = float(ensemble.static_energy)
    buffer = io.StringIO()
    for frame in [*frames, ideal]:
        columns = ["symbols", "positions", *(["REF_forces"] if "REF_forces" in frame.arrays else [])]
        ase.io.write(buffer, frame, format="extxyz", columns=columns)
    with atomic_write(path, overwrite=overwrite) as stream:
        stream.write(buffer.getvalue())
    return Path(path)


def read_extxyz(path: str | os.PathLike, drawn_from: HarmonicDistribution) -> Ensemble:
    """Read an ensemble of labelled frames in the order of ``primitive.repeat(dims)``.

    Parameters
    ----------
    path : path-like
    drawn_from : HarmonicDistribution
        The Gaussian that the frames were drawn from.

    Returns
    -------
    Ensemble

    Raises
    ------
    InputError
        Damage, frames without energy or forces, of another crystal, or not drawn from `drawn_from`.
    """
    ideal = drawn_from.supercell
    with reading(path):
        images = ase.io.read(Path(path), index=":")
        rest = [image for image in images if image.info.get("centroids")]
        frames = [
            frame_from_atoms(image, source=f"{path}#{k}")
            for k, image in enumerate(images)
            if not image.info.get("centroids")
        ]
    for frame in frames:
        if frame.energy is None or frame.forces is None:
            raise InputError(f"{frame.source} has no energy or no forces")
        if not np.array_equal(frame.atoms.numbers, ideal.numbers):
            raise InputError(
                f"{frame.source} does not hold the {len(ideal)} atoms of the supercell in its order"
            )
    moved = np.array([frame.atoms.positions for frame in frames]) - ideal.positions
    fractions = moved @ np.linalg.inv(ideal.cell.array)
    moved -= np.rint(fractions) @ ideal.cell.array
    stresses = [frame.stress for frame in frames]
    without = [frame.source for frame in frames if frame.stress is None]
    if 0 < len(without) < len(frames):
        raise InputError(
            f"{without[0]} has no stress, and {len(frames) - len(without)} other configurations have one: "
            "the file is damaged, or of two ensembles; compute the stress, or remove all"
        )
    static = frame_from_atoms(rest[0]).energy if rest else None
    ensemble = Ensemble(
        drawn_from,
        moved,
        np.array([frame.energy for frame in frames]),
        np.array([frame.forces for frame in frames]),
        None if any(stress is None for stress in stresses) else np.array(stresses),
        np.nan if static is None else static,
        shortest_distance(ideal, moved),
        float(np.linalg.norm(moved, axis=2).max()),
    )
    check_widths(ensemble, f"the ensemble in {path}", ANOTHER)
    return ensemble
