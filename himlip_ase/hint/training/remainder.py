"""A harmonic remainder for a potential: what given force constants hold beyond its own, and what it costs.

By construction the harmonic phonons are those of the given matrices on their q-grid. Whether the remainder is
harmless away from the sites is not: the change of the force errors on labelled cells says it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.hint.evaluation.hessian_errors import force_constants_like
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.lattice import crystal_mismatch
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.potential.checkpoint import SUFFIX, save_model
from himlip_ase.potential.evaluate import evaluate
from himlip_ase.potential.harmonic_remainder import ReferenceLattice
from himlip_ase.potential.interface import Potential
from himlip_ase.potential.lattice_potential import LatticePotential, network_of

FOLDER = "remainder"
"""Where `himlip finetune` puts the model that has one."""
NETWORK = f"network{SUFFIX}"
"""The network alone, beside a model with a remainder."""


@dataclass(frozen=True)
class GridErrors:
    """Harmonic frequencies against given matrices, root mean square over all modes of their q-grid.

    Attributes
    ----------
    name : str
        Of the matrices.
    dims : three int
    without, rmse : float
        cm⁻¹: of the network alone, and with the remainder.
    """

    name: str
    dims: tuple[int, int, int]
    without: float
    rmse: float


@dataclass(frozen=True)
class CellErrors:
    """What the remainder does on the labelled cells of one set.

    Attributes
    ----------
    name : str
    frames, elsewhere : int
        Cells of the lattice, and those that are none of its supercells and do not count.
    size : float
        eV/Å, root mean square of the remainder's own forces.
    without, rmse, label_rms : float
        eV/Å: error of the forces of the network alone and with the remainder, and size of the labels.
    """

    name: str
    frames: int
    elsewhere: int
    size: float
    without: float
    rmse: float
    label_rms: float


@dataclass(frozen=True, eq=False)
class Remainder:
    """A model with a harmonic remainder, and what it does.

    Attributes
    ----------
    model : LatticePotential
    name : str
        Of the matrices that it reproduces.
    size : float
        Root mean square of ΔΦ, eV/Å².
    grids : list of GridErrors
        Those matrices first.
    cells : list of CellErrors
    """

    model: LatticePotential
    name: str
    size: float
    grids: list[GridErrors] = field(default_factory=list)
    cells: list[CellErrors] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """For the card of the model; JSON."""
        return {
            "matrices": self.name,
            "dims": list(self.model.config.lattice.dims),
            "what": "E = network + ½ u ΔΦ u, u from the sites of the lattice: supercells of it only; the "
            "matrices are reproduced by construction",
            "units": "grids cm⁻¹; cells eV/Å; rms_ev_per_angstrom2 of ΔΦ",
            "rms_ev_per_angstrom2": self.size,
            "grids": [asdict(grid) for grid in self.grids],
            "cells": [asdict(cells) for cells in self.cells],
        }

    def describe(self) -> list[str]:
        """In words."""
        dims = "×".join(map(str, self.model.config.lattice.dims))
        lines = [f"harmonic remainder of {self.name} ({dims}): {1e3 * self.size:.1f} meV/Å² rms"]
        for grid in self.grids:
            own = " by construction" if grid.name == self.name else ""
            lines.append(
                f"  {grid.name} ({'×'.join(map(str, grid.dims))}): frequencies RMSE {grid.without:.2f} cm⁻¹ "
                f"without, {grid.rmse:.2f} with{own}"
            )
        for cells in self.cells:
            others = f"; {cells.elsewhere} cells are not of this lattice" if cells.elsewhere else ""
            lines.append(
                f"  {cells.name}: {cells.frames} cells, forces of the remainder {1e3 * cells.size:.1f} meV/Å "
                f"rms, error {1e3 * cells.without:.1f} without, {1e3 * cells.rmse:.1f} with, of "
                f"{1e3 * cells.label_rms:.0f}{others}"
            )
        return lines


def add_remainder(
    model: Potential, hessians: Sequence[HessianLabel], frames: Iterable[LabelledFrame] = ()
) -> Remainder:
    """Give a model the force constants that it misses, those of the densest grid.

    Parameters
    ----------
    model : Potential
        A remainder that it has already is replaced.
    hessians : sequence of HessianLabel
        Of one crystal; those of other grids than the densest are compared and not used.
    frames : iterable of LabelledFrame
        Cells on which its effect on the forces is measured, set by set.

    Returns
    -------
    Remainder

    Raises
    ------
    InputError
        No Hessian of a crystal, or Hessians of different ones.
    """
    network = network_of(model)
    crystals = [label for label in hessians if label.force_constants is not None]
    if not crystals:
        raise InputError(
            "a harmonic remainder needs the Hessian of a crystal on a q-grid; give --hessian with dyn files "
            "of Quantum ESPRESSO or force constants of phonopy"
        )
    chosen = max(crystals, key=lambda label: np.prod(label.force_constants.dims))
    constants: ForceConstants = chosen.force_constants
    for label in crystals:
        why = crystal_mismatch(constants.primitive, label.force_constants.primitive)
        if why is not None:
            raise InputError(
                f"{chosen.name} and {label.name} are Hessians of different crystals ({why}); a remainder is "
                "tied to one: give those of one crystal"
            )
    own = force_constants_like(network, constants)
    missing = ForceConstants(constants.primitive, constants.dims, constants.compact - own.compact)
    # of given matrices that obey both, this removes rounding; a network cannot break either
    missing = missing.with_acoustic_sum_rule()
    lattice = ReferenceLattice.of(constants.primitive, constants.dims)
    tied = LatticePotential(network, lattice, missing.compact)
    ordered = [chosen, *(label for label in crystals if label is not chosen)]
    size = float(np.sqrt((missing.compact**2).mean()))
    return Remainder(
        tied, chosen.name, size, [grid_errors(tied, label) for label in ordered], cell_errors(tied, frames)
    )


def grid_errors(model: LatticePotential, label: HessianLabel) -> GridErrors:
    """Harmonic frequencies of a model with and without its remainder.

    Parameters
    ----------
    model : LatticePotential
    label : HessianLabel
        With force constants.

    Returns
    -------
    GridErrors
    """
    constants: ForceConstants = label.force_constants
    wanted = constants.dynamical_matrices().frequencies()
    rmse = [
        float(np.sqrt(((found.dynamical_matrices().frequencies() - wanted) ** 2).mean()))
        for found in (force_constants_like(one, constants) for one in (model.network, model))
    ]
    return GridErrors(label.name, constants.dims, *rmse)


def cell_errors(model: LatticePotential, frames: Iterable[LabelledFrame]) -> list[CellErrors]:
    """Force errors of a model with and without its remainder, set by set.

    Parameters
    ----------
    model : LatticePotential
    frames : iterable of LabelledFrame
        Those without forces do not count.

    Returns
    -------
    list of CellErrors
        Sets without a single cell of the lattice are left out.
    """
    sets: dict[str, list[LabelledFrame]] = {}
    elsewhere: dict[str, int] = {}
    for frame in frames:
        if frame.forces is None:
            continue
        try:
            model.check(frame.atoms)
        except InputError:
            elsewhere[frame.set] = elsewhere.get(frame.set, 0) + 1
            continue
        sets.setdefault(frame.set, []).append(frame)
    found = []
    for name, own in sets.items():
        images = [frame.atoms for frame in own]
        labels = np.concatenate([frame.forces for frame in own if frame.forces is not None])
        plain, whole = (
            np.concatenate(evaluate(one, images, stress=False).forces) for one in (model.network, model)
        )
        rms = [float(np.sqrt((x**2).mean())) for x in (whole - plain, plain - labels, whole - labels, labels)]
        found.append(CellErrors(name, len(own), elsewhere.get(name, 0), *rms))
    return found


def save_remainder(
    found: Remainder, path: Path, card: dict[str, Any] | None = None, overwrite: bool = False
) -> Path:
    """Write the model, its card saying what the remainder is and does.

    Parameters
    ----------
    found : Remainder
    path : Path
        Ends in ``.safetensors``.
    card : dict, optional
        Of the network, most of which holds for the whole; its own file name and sum are kept as ``network``.
    overwrite : bool

    Returns
    -------
    Path
    """
    kept = dict(card or {})
    own = {key: kept.pop(key) for key in ("file", "sha256", "format", "config", "parameters") if key in kept}
    if "file" in own:
        kept["network"] = {"file": own["file"], "sha256": own.get("sha256")}
    return save_model(found.model, path, kept | {"remainder": found.record()}, overwrite=overwrite)
