"""The names under which structures carry energies, forces and stresses, and what they mean."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.evaluation import voigt_from_matrix
from himlip_ase.labels.frames import LabelledFrame

ENERGY_KEYS = ("REF_energy", "energy", "free_energy")
FORCES_KEYS = ("REF_forces", "forces")
STRESS_KEYS = ("REF_stress", "stress")
VIRIAL_KEYS = ("REF_virial", "virial", "virials")


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
