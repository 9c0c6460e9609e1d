"""Labels from first principles: energies, forces, stresses and Hessians, any of which may be missing."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.evaluation import voigt_from_matrix
from himlip_ase.labels.products import HessianProducts

logger = logging.getLogger(__name__)

ENERGY_KEYS = ("REF_energy", "energy", "free_energy")
FORCES_KEYS = ("REF_forces", "forces")
STRESS_KEYS = ("REF_stress", "stress")
VIRIAL_KEYS = ("REF_virial", "virial", "virials")
STORES = (".h5", ".hdf5")
"""Files of `himlip_ase.labels.store`."""

PathLike = str | os.PathLike


JUDGES = ("validation", "doublewell", "test")
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
    """

    atoms: Atoms
    matrix: np.ndarray
    name: str = "hessian"
    weight: float = 1.0
    force_constants: Any = None

    @classmethod
    def from_force_constants(
        cls, force_constants: Any, name: str = "hessian", symmetrize: bool = True, weight: float = 1.0
    ) -> HessianLabel:
        """Label from force constants, with the translational and permutation symmetries imposed.

        A potential obeys the acoustic sum rule exactly and cannot learn a violation, so that the (small) one
        of the label is removed; :func:`himlip_ase.labels.checks.check_hessian` refuses a large one
        beforehand.

        Parameters
        ----------
        force_constants : himlip_ase.phonons.force_constants.ForceConstants
        name : str
        symmetrize : bool
            Impose index symmetry and the acoustic sum rule.
        weight : float
        """
        from himlip_ase.labels.checks import check_hessian

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


def _first(keys: Iterable[str], *places: dict[str, Any]) -> Any:
    for key in keys:
        for place in places:
            value = place.get(key)
            if value is not None:
                return value
    return None


def _stress6(value: Any, source: str) -> np.ndarray:
    array = np.asarray(value, dtype=float)
    if array.shape == (6,):
        return array
    if array.size == 9:
        array = array.reshape(3, 3)
        if np.abs(array - array.T).max() > 1e-6 * max(1.0, np.abs(array).max()):
            raise InputError(
                f"{source}: stress is not symmetric (deviation {np.abs(array - array.T).max():.3g})"
            )
        return voigt_from_matrix(array)
    raise InputError(
        f"{source}: stress of shape {array.shape}; allowed: (6,) Voigt in ASE's order, or (3, 3)"
    )


def frame_from_atoms(
    atoms: Atoms, set_name: str = "labels", weight: float = 1.0, source: str = ""
) -> LabelledFrame:
    """Gather the labels that an Atoms object carries.

    Energy, forces and stress are looked for under their ``REF_`` names first, then under ASE's own, in
    ``info``/``arrays`` and in the results of an attached calculator: readers of ASE ≥ 3.23 move ``energy``,
    ``forces`` and ``stress`` there. Virials (eV) become stresses: σ = −virial/V. Nothing is calculated.

    Parameters
    ----------
    atoms : Atoms
    set_name : str
        Used if ``info["set"]`` is absent.
    weight : float
        Used if ``info["weight"]`` is absent.
    source : str
        For messages.

    Returns
    -------
    LabelledFrame
        All labels None if there were none.

    Raises
    ------
    InputError
        A label of wrong shape.
    """
    results = dict(getattr(atoms.calc, "results", None) or {})
    energy = _first(ENERGY_KEYS, atoms.info, results)
    forces = _first(FORCES_KEYS, atoms.arrays, atoms.info, results)
    stress = _first(STRESS_KEYS, atoms.info, results)
    virial = _first(VIRIAL_KEYS, atoms.info, results)
    if forces is not None:
        forces = np.array(forces, dtype=float)
        if forces.shape != (len(atoms), 3):
            raise InputError(
                f"{source}: forces of shape {forces.shape} for {len(atoms)} atoms; need ({len(atoms)}, 3)"
            )
    if stress is None and virial is not None and atoms.cell.rank == 3:
        stress = -np.asarray(virial, dtype=float) / atoms.get_volume()
    bare = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    return LabelledFrame(
        atoms=bare,
        energy=None if energy is None else float(energy),
        forces=forces,
        stress=None if stress is None else _stress6(stress, source),
        set=str(atoms.info.get("set", set_name)),
        weight=float(atoms.info.get("weight", weight)),
        source=source,
    )


def read_labels(
    paths: PathLike | Sequence[PathLike], sets: Sequence[str] | None = None, weight: float = 1.0
) -> list[LabelledFrame]:
    """Read labelled structures.

    Parameters
    ----------
    paths : path or sequence of paths
        Files that ASE reads (extxyz foremost), HDF5 files of `write_labels`, HORM's ``.lmdb``, Quantum
        ESPRESSO outputs ``pw.out``, the displaced supercells of phonopy's FORCE_SETS or YAML files, or
        folders: their ``.extxyz``, ``.xyz``, ``.traj`` and ``.db`` files, or if there are none, every
        ``pw.out`` below them (unfinished and unconverged runs are left out with a warning).
    sets : sequence of str, optional
        Keep these sets only (``info["set"]``, else the name of the file or folder).
    weight : float
        Multiplies the weight of every frame.

    Returns
    -------
    list of LabelledFrame
        Energies eV, forces eV/Å (raw, unconstrained), stresses ASE's. The counts are logged per set.

    Raises
    ------
    InputError
        A path is missing or unreadable, a named file or set holds no labels, nothing was found at all.
    """
    from himlip_ase.labels.readers import frames_of_file, frames_of_folder

    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    frames: list[LabelledFrame] = []
    for entry in paths:
        path = Path(entry)
        if path.is_dir():
            frames += frames_of_folder(path)
        elif path.is_file():
            found = frames_of_file(path)
            if not any(f.labelled for f in found):
                raise InputError(
                    f"{path}: {len(found)} structures but no label in any; looked for "
                    f"{', '.join(ENERGY_KEYS + FORCES_KEYS + STRESS_KEYS)} in the file "
                    "and in ASE's calculator"
                )
            frames += [f for f in found if f.labelled]
        else:
            raise InputError(f"{path}: no such file or folder")
    if sets is not None:
        present = sorted({f.set for f in frames})
        for name in sets:
            if name not in present:
                raise InputError(
                    f"no set {name!r} among the labels; there are: {', '.join(present) or 'none'}"
                )
        frames = [f for f in frames if f.set in sets]
    if not frames:
        raise InputError(f"no labels in {', '.join(map(str, paths))}; himlip label writes them")
    if weight != 1.0:
        frames = [replace(f, weight=f.weight * weight) for f in frames]
    for name in sorted({f.set for f in frames}):
        logger.info("labels %s: %s", name, count_labels([f for f in frames if f.set == name]))
    return frames


def read_hessian(path: PathLike, symmetrize: bool = True, weight: float = 1.0) -> HessianLabel:
    """Read a Hessian.

    Parameters
    ----------
    path : path
        Prefix of Quantum ESPRESSO dyn files (``harmonic/dyn``), its ``dyn0``, a folder that holds them; a
        file of phonopy: YAML with force constants or with displacements and forces, FORCE_SETS,
        FORCE_CONSTANTS, ``force_constants.hdf5`` (see :mod:`himlip_ase.phonons.phonopy_files`); or what
        ``himlip hessian`` wrote (``.npz``, ``.h5``).
    symmetrize : bool
        Impose index symmetry and the acoustic sum rule on a crystal's (the potential obeys both).
    weight : float
        Relative weight among several Hessians.

    Returns
    -------
    HessianLabel
        On the supercell that the q-grid or phonopy's files define.

    Raises
    ------
    InputError
        Nothing of the kind at `path`, or a Hessian that fails :func:`himlip_ase.labels.checks.check_hessian`.
    """
    from himlip_ase.labels.readers import stored_hessian
    from himlip_ase.phonons.phonopy_files import is_phonopy_file, read_force_constants

    path = Path(path)
    name = f"{path.absolute().parent.name}/{path.name}"
    if is_phonopy_file(path):
        label = HessianLabel.from_force_constants(read_force_constants(path), name, symmetrize, weight)
    elif path.suffix in (*STORES, ".npz"):
        label = stored_hessian(path, name, weight)
    else:
        from himlip_ase.phonons.qe import read_dyn

        if path.is_dir():
            found = sorted(path.glob("*dyn0"))
            if len(found) != 1:
                raise InputError(
                    f"{path}: {len(found)} files *dyn0 in the folder; name the prefix, e.g. {path}/dyn"
                )
            path = found[0]
            name = f"{path.absolute().parent.name}/{path.name}"
        constants = read_dyn(path).force_constants()
        label = HessianLabel.from_force_constants(constants, name, symmetrize, weight)
    logger.info("Hessian %s: %d atoms, %s", path, len(label.atoms), label.atoms.get_chemical_formula())
    return label
