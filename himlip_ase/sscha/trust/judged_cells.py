"""Labelled cells of a crystal, each beside what a potential says of it that did not learn it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.labels.digests import configuration_digest
from himlip_ase.labels.frames import ALONG_A_MODE, JUDGES
from himlip_ase.potential.lattice_sites import LatticeSites
from himlip_ase.sscha.symmetry import SpaceGroup

if TYPE_CHECKING:
    from himlip_ase.evaluation import Evaluation
    from himlip_ase.labels.frames import LabelledFrame
    from himlip_ase.phonons.force_constants import DynamicalMatrices
    from himlip_ase.potential.interface import Potential

ADVICE = "name sets of cells of this crystal alone"
AT_REST = 1e-3
"""Å; a cell all of whose atoms are nearer to their sites says nothing of the linear part."""


@dataclass(frozen=True, eq=False)
class JudgedCell:
    """A labelled cell, and what the reference has beyond a potential that did not learn it.

    Attributes
    ----------
    atoms : Atoms
    forces : ndarray (N, 3)
        eV/Å.
    stress : ndarray (6,) or None
        eV/Å³, ASE's order and sign; None where the label has none.
    judge : int or None
        Number of the twin that judged it; None: the potential itself, which never learns such cells.
    source : str
        Where it was read, for the messages.
    """

    atoms: Atoms
    forces: np.ndarray
    stress: np.ndarray | None = None
    judge: int | None = None
    source: str = "a labelled cell"


def judged_cells(
    frames: Sequence[LabelledFrame], auxiliary: DynamicalMatrices, weights: Path, twins: Sequence[Potential]
) -> list[JudgedCell]:
    """Labels less what the twin says that did not learn the cell, or the potential, if it never does.

    Cells at rest are left out: the learning loop labels the crystal on its centroids with every draw.

    Parameters
    ----------
    frames : sequence of LabelledFrame
    auxiliary : DynamicalMatrices
        Of the SSCHA, its crystal on the centroids.
    weights : Path
        Of the potential.
    twins : sequence of Potential
        Of `himlip_ase.hint.last_layer.twin_weights.load_twins`.

    Returns
    -------
    list of JudgedCell

    Raises
    ------
    InputError
        A frame without forces, of another crystal, displaced along a mode, or one of which nobody knows
        whether the twins learnt it.
    """
    from himlip_ase.potential.checkpoint import load_model
    from himlip_ase.potential.evaluate import evaluate

    sites, group = LatticeSites(auxiliary.primitive, "the correction", ADVICE), SpaceGroup(auxiliary)
    moving = [frame for frame in frames if not _at_rest(sites, group, frame)]
    judges = _judges(moving, weights)
    images = [frame.atoms for frame in moving]
    said: dict[int | None, Evaluation] = {
        judge: evaluate(load_model(weights) if judge is None else twins[judge], images)
        for judge in dict.fromkeys(judges)
    }
    found = []
    for k, (frame, judge) in enumerate(zip(moving, judges, strict=True)):
        assert frame.forces is not None
        stress = None if frame.stress is None else frame.stress - said[judge].stresses[k]
        forces = frame.forces - said[judge].forces[k]
        found.append(JudgedCell(frame.atoms, forces, stress, judge, frame.source))
    return found


def _at_rest(sites: LatticeSites, group: SpaceGroup, frame: LabelledFrame) -> bool:
    """Whether no atom is away from its site, but along coordinates that symmetry leaves free."""
    atoms = frame.atoms
    try:
        sites.supercell_vectors(atoms.cell.array, len(atoms))
        placement = sites.place(atoms.positions, atoms.numbers, atoms.cell.array)
    except InputError as error:
        raise InputError(f"{frame.source} is no cell of the crystal of the SSCHA: {error}") from error
    moved = (atoms.positions - placement.places)[placement.atoms]
    mean = moved.mean(axis=0)
    return bool(np.abs(moved - group.vectors(mean - mean.mean(axis=0))).max() < AT_REST)


def _judges(frames: Sequence[LabelledFrame], weights: Path) -> list[int | None]:
    """Who judges each frame: the number of a twin, or None."""
    from himlip_ase.hint.last_layer.twin_weights import twin_without, twins_beside

    number = twin_without(weights)
    digests = [configuration_digest(frame.atoms) for frame in frames]
    says_nothing = not any(digest in number for digest in digests)
    found: list[int | None] = []
    for frame, digest in zip(frames, digests, strict=True):
        if frame.forces is None:
            raise InputError(f"{frame.source} has no forces")
        if frame.set.startswith(ALONG_A_MODE):
            raise InputError(f"{frame.source} is of {frame.set}, displaced along a mode: no SSCHA drew it")
        found.append(number.get(digest))
        if found[-1] is None and not frame.set.startswith(JUDGES):
            known = f"no twin of {weights.name} says that it did not learn it"
            if says_nothing:
                known = (
                    f"{twins_beside(weights).name} knows none of these cells: the potential did not learn "
                    "them, or was fitted before twins told what they left out, and wants to be fitted anew "
                    "(a run with --from finetune)"
                )
            raise InputError(
                f"{frame.source}: {known}; name sets that the twins left out in turn, or that are never "
                f"learnt ({', '.join(f'{name}…' for name in JUDGES if name != ALONG_A_MODE)})"
            )
    return found
