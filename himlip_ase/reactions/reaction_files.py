"""Files of one reaction: structures as extended XYZ, the result as JSON, Hessians as NumPy arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write, read_arrays
from himlip_ase.reactions.free_energies import EV_KCAL_PER_MOL, Species
from himlip_ase.reactions.irc import Irc
from himlip_ase.reactions.saddle import Saddle
from himlip_ase.reactions.search import Reaction
from himlip_ase.structures import read_structures, write_structures

SCHEMA = "himlip-reaction-1"
"""Version of the layout of ``result.json``; changes when a reader would have to."""

MODE_FRAMES = 20
SPECIES = ("reactant", "transition_state", "product")


def reaction_as_dict(reaction: Reaction) -> dict[str, Any]:
    """What ``result.json`` says of a search, without its free energies.

    Parameters
    ----------
    reaction : Reaction

    Returns
    -------
    dict
        Numbers carry their unit in the key; what was not reached is null.
    """
    judgement, saddle, irc = reaction.judgement, reaction.saddle, reaction.irc
    costs = {part: asdict(counts) for part, counts in reaction.counts.items()}
    total = {
        key: sum(part[key] for part in costs.values())
        for key in ("gradients", "hessians", "difference_gradients", "products")
    }
    barrier = reaction.barrier
    ends = {"backward": judgement.backward, "forward": judgement.forward}
    return {
        "schema": SCHEMA,
        "verdict": judgement.verdict.value,
        "reason": judgement.reason,
        "barrier_ev": barrier,
        "barrier_kcal_per_mol": None if barrier is None else barrier * EV_KCAL_PER_MOL,
        "reverse_barrier_ev": (
            None if saddle is None or reaction.product is None else saddle.energy - reaction.product.energy
        ),
        "reaction_energy_ev": reaction.reaction_energy,
        "imaginary_frequency_cm": judgement.imaginary[0] if judgement.imaginary else None,
        "imaginary_frequencies_cm": list(judgement.imaginary),
        "reactbench": judgement.reactbench,
        "ends": {name: None if end is None else asdict(end) for name, end in ends.items()},
        "gradients": total["gradients"],
        "hessians": total["hessians"],
        "difference_gradients": total["difference_gradients"],
        "hessian_vector_products": total["products"],
        "costs": costs,
        "cpu_seconds": round(reaction.cpu_seconds, 2),
        "string": None if reaction.path is None else {
            "converged": reaction.path.converged,
            "largest_force_ev_per_angstrom": reaction.path.largest_force,
            "warning": reaction.path.warning,
        },
        "saddle": None if saddle is None else {
            "converged": saddle.converged,
            "steps": saddle.steps,
            "rejected": saddle.rejected,
            "largest_force_ev_per_angstrom": saddle.largest_force,
            "energy_ev": saddle.energy,
        },
        "irc": None if irc is None else {
            "length_sqrt_amu_angstrom": [float(irc.coordinates[0]), float(irc.coordinates[-1])],
            "frames": len(irc.images),
            "converged": irc.backward.converged and irc.forward.converged,
        },
    }  # fmt: skip


def write_reaction(folder: str | os.PathLike, reaction: Reaction, overwrite: bool = False) -> list[str]:
    """Write structures of a search.

    ``ends.extxyz`` (relaxed reactant and product), ``path.extxyz``, ``transition_state.extxyz`` (with its
    softest mode), ``mode.extxyz`` (that mode as a film), ``irc.extxyz``: as far as the search came.

    Parameters
    ----------
    folder : path-like
    reaction : Reaction
    overwrite : bool

    Returns
    -------
    list of str
        Names of the files.
    """
    place, written = Path(folder), []

    def write(name: str, images: Sequence[Atoms]) -> None:
        write_structures(place / name, images, overwrite)
        written.append(name)

    minima = [end for end in (reaction.reactant, reaction.product) if end is not None]
    if len(minima) == 2:
        write("ends.extxyz", [_with(end.atoms, energy_ev=end.energy) for end in minima])
    if reaction.path is not None:
        energies = reaction.path.energies
        write(
            "path.extxyz",
            [_with(image, energy_ev=e) for image, e in zip(reaction.path.images, energies, strict=True)],
        )
    if reaction.saddle is not None:
        written += write_saddle(place, reaction.saddle, overwrite)
    if reaction.irc is not None:
        written += write_irc(place, reaction.irc, overwrite)
    return written


def write_saddle(folder: Path, saddle: Saddle, overwrite: bool = False) -> list[str]:
    """Write ``transition_state.extxyz`` and ``mode.extxyz``; returns their names.

    Parameters
    ----------
    folder : Path
    saddle : Saddle
    overwrite : bool

    Returns
    -------
    list of str
        Names of the files.
    """
    displacement = saddle.modes[0] / np.sqrt(saddle.atoms.get_masses())[:, None]
    displacement /= np.linalg.norm(displacement, axis=1).max()
    frame = _with(saddle.atoms, energy_ev=saddle.energy, frequencies_cm=saddle.frequencies.round(3).tolist())
    frame.set_array("softest_mode", displacement)
    write_structures(folder / "transition_state.extxyz", [frame], overwrite)
    film = []
    for phase in np.linspace(0, 2 * np.pi, MODE_FRAMES, endpoint=False):
        image = saddle.atoms.copy()
        image.set_positions(image.positions + 0.4 * np.sin(phase) * displacement, apply_constraint=False)
        film.append(image)
    write_structures(folder / "mode.extxyz", film, overwrite)
    return ["transition_state.extxyz", "mode.extxyz"]


def write_irc(folder: Path, irc: Irc, overwrite: bool = False) -> list[str]:
    """Write ``irc.extxyz`` with energies and coordinates; returns its name.

    Parameters
    ----------
    folder : Path
    irc : Irc
    overwrite : bool

    Returns
    -------
    list of str
    """
    frames = [
        _with(image, energy_ev=energy, coordinate_sqrt_amu_angstrom=s)
        for image, energy, s in zip(irc.images, irc.energies, irc.coordinates, strict=True)
    ]
    write_structures(folder / "irc.extxyz", frames, overwrite)
    return ["irc.extxyz"]


def write_species(folder: Path, members: Sequence[Species], overwrite: bool = False) -> list[str]:
    """Write ``species.extxyz`` and ``hessians.npz``, from which free energies are made again.

    Parameters
    ----------
    folder : Path
    members : sequence of Species
    overwrite : bool

    Returns
    -------
    list of str
        Names of the files.
    """
    frames = [_with(one.atoms, name=one.name, energy_ev=one.energy, saddle=one.saddle) for one in members]
    write_structures(folder / "species.extxyz", frames, overwrite)
    with atomic_write(folder / "hessians.npz", "wb", overwrite=overwrite) as stream:
        arrays: dict[str, Any] = {one.name: one.hessian for one in members}
        np.savez(stream, **arrays)
    return ["species.extxyz", "hessians.npz"]


def read_species(folder: str | os.PathLike) -> dict[str, Species]:
    """Species of a finished search by name: "reactant", "transition_state", "product".

    Parameters
    ----------
    folder : path-like
        As `write_species` left it.

    Returns
    -------
    dict of str to Species

    Raises
    ------
    InputError
        The folder holds no finished search.
    """
    place = Path(folder)
    if not (place / "species.extxyz").is_file() or not (place / "hessians.npz").is_file():
        raise InputError(
            f"{folder} holds no Hessians of a reaction; make them: himlip ts reactant.xyz product.xyz --out "
            f"{folder}"
        )
    hessians = read_arrays(place / "hessians.npz")
    found = {}
    for atoms in read_structures([place / "species.extxyz"]):
        name = str(atoms.info["name"])
        found[name] = Species(
            name, atoms, float(atoms.info["energy_ev"]), hessians[name], int(atoms.info["saddle"])
        )
    return found


def _with(atoms: Atoms, **info: Any) -> Atoms:
    copy = atoms.copy()
    copy.info = {
        key: float(value) if isinstance(value, np.floating) else value for key, value in info.items()
    }
    return copy
