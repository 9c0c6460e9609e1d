"""Labels from first principles: energies, forces, stresses and Hessians, any of which may be missing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.labels.hessian_checks import check_hessian
from himlip_ase.labels.products import HessianProducts

ALONG_A_MODE = "doublewell"
"""Sets whose names begin like this are displaced along a mode."""
JUDGES = ("validation", ALONG_A_MODE, "test")
"""Sets whose names begin like this judge a potential and do not train it unless they are named."""


@dataclass(frozen=True)
class HessianLabel:
    """The Hessian of one structure, usually a supercell at rest.

    Parameters
    ----------
    atoms : Atoms
        Structure to which the Hessian belongs; for a crystal, the supercell.
    matrix : ndarray (N, 3, N, 3)
        ∂²E/∂r∂r in eV/Å², atom order of `atoms`, no masses.
    name : str
        Where it came from, for messages.
    weight : float
        Relative weight among the Hessian labels.
    force_constants : ForceConstants or None
        The phonon room's object behind a crystal's label, which gives frequencies on the commensurate grid.
    unit_known : bool
        Whether the program that wrote it was run here, so that nobody need wonder about its unit.
    code : str
        As `LabelledFrame.code`.
    """

    atoms: Atoms
    matrix: np.ndarray
    name: str = "hessian"
    weight: float = 1.0
    force_constants: Any = None
    unit_known: bool = False
    code: str = ""

    @classmethod
    def from_force_constants(
        cls, force_constants: Any, name: str = "hessian", symmetrize: bool = True, weight: float = 1.0
    ) -> HessianLabel:
        """Label from force constants, with the translational and permutation symmetries imposed.

        A potential obeys the acoustic sum rule exactly and cannot learn a violation, so that the (small) one
        of the label is removed; :func:`himlip_ase.labels.hessian_checks.check_hessian` refuses a large one
        beforehand.

        Parameters
        ----------
        force_constants : himlip_ase.phonons.force_constants.ForceConstants
        name : str
        symmetrize : bool
            Impose index symmetry and the acoustic sum rule.
        weight : float
        """
        raw = np.asarray(force_constants.hessian(), dtype=float)
        check_hessian(force_constants.supercell, raw, name)
        fixed = force_constants.symmetrized() if symmetrize else force_constants
        atoms = fixed.supercell.copy()
        atoms.calc = None
        return cls(atoms, np.asarray(fixed.hessian(), dtype=float), name, weight, fixed)


@dataclass(frozen=True)
class LabelledFrame:
    """One structure with whatever labels it has.

    Parameters
    ----------
    atoms : Atoms
        Without calculator and without constraints.
    energy : float or None
        Total energy, eV.
    forces : ndarray (N, 3) or None
        Raw forces, eV/Å: constraints are not applied.
    stress : ndarray (6,) or None
        ASE's: Voigt xx yy zz yz xz xy, eV/Å³, positive in tension.
    hessian : HessianLabel or None
    set : str
        Name of the set, e.g. ``rattle040``.
    weight : float
        Relative weight in the loss.
    source : str
        File and index, for messages.
    products : HessianProducts or None
        Columns of the Hessian, or products with other vectors, where there is no whole one.
    code : str
        Program and version that calculated it, as ``himlip label`` writes it; "" where nothing is said.
    """

    atoms: Atoms
    energy: float | None = None
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    hessian: HessianLabel | None = None
    set: str = "labels"
    weight: float = 1.0
    source: str = field(default="", compare=False)
    products: HessianProducts | None = None
    code: str = ""

    @property
    def evaluated(self) -> bool:
        """Whether there is an energy, forces or a stress."""
        return any(x is not None for x in (self.energy, self.forces, self.stress))

    @property
    def labelled(self) -> bool:
        """Whether there is anything to learn from."""
        return self.evaluated or self.hessian is not None or self.products is not None


@dataclass(frozen=True)
class LabelCounts:
    """How many labels of each kind a set holds; `products` counts vectors, not frames."""

    frames: int
    energies: int
    forces: int
    stresses: int
    hessians: int
    products: int = 0

    def __str__(self) -> str:
        text = (
            f"{self.frames} frames: {self.energies} energies, {self.forces} with forces, "
            f"{self.stresses} stresses, {self.hessians} Hessians"
        )
        return f"{text}, {self.products} Hessian products" if self.products else text


def count_labels(frames: Iterable[LabelledFrame]) -> LabelCounts:
    """Count the labels of each kind in one reading."""
    totals = [0] * 6
    for frame in frames:
        labels = (frame.energy, frame.forces, frame.stress, frame.hessian)
        vectors = 0 if frame.products is None else len(frame.products.vectors)
        for place, number in enumerate((1, *(label is not None for label in labels), vectors)):
            totals[place] += number
    return LabelCounts(*totals)
