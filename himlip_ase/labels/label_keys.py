"""The names under which structures carry energies, forces and stresses, and what they mean.

Names that say that they are labels come first: ``REF_`` (MACE) and ``dft_`` (GAP). Then those of ASE and of
GPUMD (``force``). Where a structure carries both and they differ, one of them is stale, and the file is
refused until a key is named. Virials (MACE, GPUMD, GAP, DeePMD) are in eV with σ = −virial/V.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.evaluation import voigt_from_matrix
from himlip_ase.labels.frames import LabelledFrame

logger = logging.getLogger(__name__)

REFERENCES = {
    "energy": ("REF_energy", "DFT_energy", "dft_energy"),
    "forces": ("REF_forces", "REF_force", "DFT_forces", "DFT_force", "dft_forces", "dft_force"),
    "stress": ("REF_stress", "DFT_stress", "dft_stress"),
    "virial": ("REF_virial", "REF_virials", "DFT_virial", "DFT_virials", "dft_virial", "dft_virials"),
}
"""Names of labels that nothing but a label has."""
OWN = {
    "energy": ("energy", "free_energy"),
    "forces": ("forces", "force"),
    "stress": ("stress",),
    "virial": ("virial", "virials"),
}
"""Names that the results of any calculator may have as well."""
TOLERANCES = {"energy": 1e-3, "forces": 2e-3, "stress": 1e-4}
"""eV, eV/Å, eV/Å³: by how much two labels of one structure may differ."""
FREE_ENERGY_TOLERANCE = 1e-6
"""eV; an energy and a free energy that differ by more are two quantities (of a metal with smearing)."""
ISOLATED = "IsolatedAtom"
"""``config_type`` (MACE, GAP) and set of single atoms whose energies are those of the elements."""
K_HALF_DIFFERENCE = "k_half_difference"
"""How names begin that look like labels and are none: what `himlip_ase.dft.two_meshes` adds to a mean."""
CHARGES = ("charge", "total_charge", "REF_charge")
SPINS = {"multiplicity": 1.0, "spin_multiplicity": 1.0, "total_spin": 0.0, "spin": 0.0}
"""Names of spins in ``info``, and their values without one."""


@dataclass(frozen=True)
class LabelKeys:
    """Names to take labels from, instead of those that are known.

    Parameters
    ----------
    energy, forces, stress : str or None
        Keys of ``info`` or ``arrays``, or results of the calculator; None: looked for under the known names.
        A stress under a name with "virial" in it is a virial.
    """

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None

    @property
    def named(self) -> dict[str, str]:
        """Those that were given."""
        given = {"energy": self.energy, "forces": self.forces, "stress": self.stress}
        return {kind: key for kind, key in given.items() if key is not None}


KNOWN_KEYS = LabelKeys()


def frame_from_atoms(
    atoms: Atoms,
    set_name: str = "labels",
    weight: float = 1.0,
    source: str = "",
    keys: LabelKeys = KNOWN_KEYS,
) -> LabelledFrame:
    """Gather the labels that an Atoms object carries.

    They are looked for in ``info``, ``arrays`` and the results of an attached calculator: readers of ASE
    ≥ 3.23 move ``energy``, ``forces`` and ``stress`` there. Of an energy and a free energy that differ, the
    free energy is taken, whose derivatives forces and stress are. Nothing is calculated.

    Parameters
    ----------
    atoms : Atoms
    set_name : str
        Used if ``info["set"]`` is absent.
    weight : float
        Used if ``info["weight"]`` is absent.
    source : str
        For messages.
    keys : LabelKeys
        Names to look under.

    Returns
    -------
    LabelledFrame
        All labels None if there were none.

    Raises
    ------
    InputError
        A label of wrong shape, two labels that contradict each other, or a charged structure.
    """
    check_neutral(atoms, source)
    energy = _label("energy", atoms, keys, source)
    forces = _label("forces", atoms, keys, source)
    stress = _label("stress", atoms, keys, source)
    bare = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    isolated = len(atoms) == 1 and str(atoms.info.get("config_type", "")).lower() == ISOLATED.lower()
    return LabelledFrame(
        atoms=bare,
        energy=None if energy is None else float(energy),
        forces=forces,
        stress=stress,
        set=ISOLATED if isolated else str(atoms.info.get("set", set_name)),
        weight=float(atoms.info.get("weight", weight)),
        source=source,
        code=str(atoms.info.get("code", "")),
    )


def check_neutral(atoms: Atoms, source: str = "") -> None:
    """Refuse a structure with a charge, which no potential here knows.

    Parameters
    ----------
    atoms : Atoms
        Its ``info`` and initial charges are looked at.
    source : str
        For the message.

    Raises
    ------
    InputError
    """
    found = {key: atoms.info[key] for key in CHARGES if atoms.info.get(key) is not None}
    if atoms.has("initial_charges"):
        found["sum of initial_charges"] = float(atoms.get_initial_charges().sum())
    for key, value in found.items():
        if np.any(np.abs(np.asarray(value, dtype=float)) > 1e-3):
            raise InputError(
                f"{source}: {key} is {value}, and the potential knows neutral systems only; leave such "
                "frames out, or set the charge to 0 if it means nothing here"
            )


def spin_of(atoms: Atoms) -> float | None:
    """What a structure says of its spin, if that is not "none".

    Parameters
    ----------
    atoms : Atoms

    Returns
    -------
    float or None
        The number under one of the names of `SPINS`, else the sum of initial magnetic moments.
    """
    for key, none in SPINS.items():
        value = atoms.info.get(key)
        # OMol writes multiplicities under "spin": 1 is none there, 0 in other files.
        if value is not None and float(value) not in (none, 1.0 if key == "spin" else none):
            return float(value)
    if atoms.has("initial_magmoms"):
        total = float(np.abs(atoms.get_initial_magnetic_moments()).sum())
        return total if total > 1e-3 else None
    return None


def free_energy_differs(atoms: Atoms, keys: LabelKeys = KNOWN_KEYS) -> float:
    """By how much the free energy that is taken differs from the energy, eV; 0 where there is no choice.

    Parameters
    ----------
    atoms : Atoms
    keys : LabelKeys

    Returns
    -------
    float
    """
    places = _places(atoms)
    if keys.energy is not None or _found(REFERENCES["energy"], places) is not None:
        return 0.0
    energy, free = (_found((key,), places) for key in OWN["energy"])
    if energy is None or free is None:
        return 0.0
    difference = abs(float(energy) - float(free))
    return difference if difference > FREE_ENERGY_TOLERANCE else 0.0


def candidates(atoms: Atoms) -> list[str]:
    """Keys that look like labels under names that are not known, with the option that takes them.

    Parameters
    ----------
    atoms : Atoms

    Returns
    -------
    list of str
        Such as ``--energy-key qm_energy``.
    """
    known = {key for names in (*REFERENCES.values(), *OWN.values()) for key in names}
    found = []
    for key, value in (*atoms.info.items(), *atoms.arrays.items()):
        size, name = np.size(value), str(key).lower()
        if (
            key in known
            or name.startswith(K_HALF_DIFFERENCE)
            or not np.issubdtype(np.asarray(value).dtype, np.number)
        ):
            continue
        if "energy" in name and size == 1:
            found.append(f"--energy-key {key}")
        elif "force" in name and size == 3 * len(atoms):
            found.append(f"--forces-key {key}")
        elif ("stress" in name or "virial" in name) and size in (6, 9):
            found.append(f"--stress-key {key}")
    return found


def has_key(atoms: Atoms, key: str) -> bool:
    """Whether a structure, or its calculator, has something under a name.

    Parameters
    ----------
    atoms : Atoms
    key : str

    Returns
    -------
    bool
    """
    return _found((key,), _places(atoms)) is not None


def tell_of(images: Sequence[Atoms], source: str, keys: LabelKeys = KNOWN_KEYS) -> None:
    """Log what a user should know of the labels of a file: free energies, spins, keys that were passed over.

    Parameters
    ----------
    images : sequence of Atoms
    source : str
        Name of the file.
    keys : LabelKeys
        As they were read with.
    """
    differences = [free_energy_differs(atoms, keys) for atoms in images]
    if any(differences):
        logger.warning(
            "%s: of %d frames with an energy and a free energy the free energy is taken, whose derivatives "
            "the forces are (they differ by up to %.4g eV); --energy-key energy takes the other",
            source, sum(d > 0 for d in differences), max(differences),
        )  # fmt: skip
    spins = {spin for spin in map(spin_of, images) if spin is not None}
    if spins:
        logger.warning(
            "%s: %d frames carry a spin (%s); the potential knows none, and learns one energy surface of all",
            source, sum(spin_of(atoms) is not None for atoms in images),
            ", ".join(f"{spin:g}" for spin in sorted(spins)[:5]),
        )  # fmt: skip
    changed = sorted({str(a.info["set"]) for a in images if not isinstance(a.info.get("set", ""), str)})
    if changed:
        logger.warning(
            "%s: the reader of extended XYZ made numbers or truth values of names of sets like these; "
            "they are now %s; give names with a letter, so that \"2_2\" does not become 22",
            source, ", ".join(changed[:6]),
        )  # fmt: skip
    passed = sorted({option for atoms in images for option in candidates(atoms)} - _options(keys))
    if passed:
        logger.warning("%s: not read, type it if it is the label: %s", source, ", ".join(passed[:6]))


def _options(keys: LabelKeys) -> set[str]:
    return {f"--{kind}-key {key}" for kind, key in keys.named.items()}


def _places(atoms: Atoms) -> list[dict[str, Any]]:
    results = dict(getattr(atoms.calc, "results", None) or {})
    return [atoms.info, atoms.arrays, results]


def _found(names: Iterable[str], places: Iterable[dict[str, Any]]) -> Any:
    for name in names:
        for place in places:
            if place.get(name) is not None:
                return place[name]
    return None


def _label(kind: str, atoms: Atoms, keys: LabelKeys, source: str) -> Any:
    """One label in our units and shape, from the key that was named, or from the known ones that agree."""
    places = _places(atoms)
    key = keys.named.get(kind)
    if key is not None:
        return _shaped(kind, _found((key,), places), atoms, source, "virial" in key.lower())
    reference, own = _both(kind, REFERENCES, atoms, source), _both(kind, OWN, atoms, source)
    if reference is None or own is None:
        return own if reference is None else reference
    deviation = float(np.abs(np.asarray(reference) - np.asarray(own)).max())
    if deviation > TOLERANCES[kind]:
        names = [_name(kind, table, places) for table in (REFERENCES, OWN)]
        raise InputError(
            f"{source}: two labels of the {kind} differ by {deviation:.4g}: {names[0]} and {names[1]}; one "
            f"is stale or of another level of theory. Name the right one: --{kind}-key {names[0]} or "
            f"--{kind}-key {names[1]}"
        )
    return reference


def _both(kind: str, table: dict[str, tuple[str, ...]], atoms: Atoms, source: str) -> Any:
    """The label of a table of names; for the stress also from a virial."""
    places = _places(atoms)
    if kind == "energy" and table is OWN and _found(("free_energy",), places) is not None:
        return _shaped(kind, _found(("free_energy", "energy"), places), atoms, source)
    value = _found(table[kind], places)
    if value is None and kind == "stress" and atoms.cell.rank == 3:
        return _shaped(kind, _found(table["virial"], places), atoms, source, virial=True)
    return _shaped(kind, value, atoms, source)


def _name(kind: str, table: dict[str, tuple[str, ...]], places: Sequence[dict[str, Any]]) -> str:
    names = (*table[kind], *(table["virial"] if kind == "stress" else ()))
    if kind == "energy" and table is OWN:
        names = names[::-1]
    return next(name for name in names if _found((name,), places) is not None)


def _shaped(kind: str, value: Any, atoms: Atoms, source: str, virial: bool = False) -> Any:
    if value is None:
        return None
    if kind == "energy":
        if np.size(value) != 1:
            raise InputError(f"{source}: energy of shape {np.shape(value)}; need one number")
        return float(np.ravel(value)[0])
    if kind == "forces":
        forces = np.array(value, dtype=float)
        if forces.shape != (len(atoms), 3):
            raise InputError(
                f"{source}: forces of shape {forces.shape} for {len(atoms)} atoms; need ({len(atoms)}, 3)"
            )
        return forces
    if virial and atoms.cell.rank < 3:
        raise InputError(f"{source}: a virial, but no cell whose volume makes a stress of it")
    return _stress6(-np.asarray(value, dtype=float) / atoms.get_volume() if virial else value, source)


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
