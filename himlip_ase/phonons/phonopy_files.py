"""Calculations of phonopy on disk: which files belong together, their force constants, their forces.

``phonopy_params.yaml`` holds everything. FORCE_SETS, FORCE_CONSTANTS and ``force_constants.hdf5`` hold no
structure: it is taken from ``phonopy_disp.yaml`` (or another of phonopy's YAML files) beside them, or from
POSCAR and SPOSCAR. Files are read by phonopy, in the units of the calculator that they name, and converted.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.phonons.phonopy_io import from_phonopy
from himlip_ase.phonons.phonopy_objects import from_phonopy_atoms, physical_units

if TYPE_CHECKING:
    from phonopy import Phonopy

STRUCTURES = ("phonopy_disp.yaml", "phonopy_params.yaml", "phonopy.yaml")
"""Where the structure of a file of forces or force constants is looked for, in this order."""
FORCES = "FORCE_SETS"
CONSTANTS = ("FORCE_CONSTANTS", "force_constants.hdf5")
LARGEST_MISMATCH = 1e-3
"""Å between the sites of SPOSCAR and those of the supercell that phonopy makes of POSCAR."""


def is_phonopy_file(path: str | os.PathLike) -> bool:
    """Whether a path has the name of one of phonopy's files."""
    path = Path(path)
    return path.suffix in (".yaml", ".yml") or path.name.startswith((FORCES, *CONSTANTS))


def read_force_constants(path: str | os.PathLike) -> ForceConstants:
    """Force constants of a calculation of phonopy.

    Parameters
    ----------
    path : path-like
        A YAML file of phonopy with force constants or with displacements and forces (in it or in a FORCE_SETS
        beside it), FORCE_SETS, FORCE_CONSTANTS or ``force_constants.hdf5``.

    Returns
    -------
    ForceConstants
        eV/Å², whatever the calculator. From forces, they are fitted and symmetrised by phonopy.

    Raises
    ------
    InputError
        A file is missing or belongs to another structure, or the supercell is not diagonal.
    """
    try:
        return from_phonopy(load_phonopy(path, primitive_matrix="P"))
    except InputError as first:
        try:
            return from_phonopy(load_phonopy(path))
        except InputError:
            raise first from None


def read_displaced_supercells(path: str | os.PathLike) -> list[tuple[Atoms, float | None, np.ndarray]]:
    """The displaced supercells of a calculation of phonopy and what was calculated for them.

    Parameters
    ----------
    path : path-like
        FORCE_SETS, or a YAML file of phonopy with forces.

    Returns
    -------
    list of (atoms, energy, forces)
        Energy in eV, None where there is none; forces (N, 3) in eV/Å as they were calculated.

    Raises
    ------
    InputError
        As `read_force_constants`; or there are displacements but no forces.
    """
    phonon = load_phonopy(path, produce=False)
    dataset: Any = phonon.dataset or {}
    if "forces" not in dataset and not all("forces" in x for x in dataset.get("first_atoms", [{}])):
        raise InputError(
            f"{path} holds no forces of displaced supercells; make FORCE_SETS of them (phonopy -f ...), or "
            "read force constants as a Hessian (--hessian)"
        )
    units = physical_units(phonon)
    energies = _energies(dataset)
    result = []
    cells = phonon.supercells_with_displacements or []
    for index, (cell, forces) in enumerate(zip(cells, phonon.forces, strict=True)):
        if cell is None:
            continue
        energy = None if energies is None else float(energies[index]) * units.energy_to_eV
        atoms = from_phonopy_atoms(cell, units.distance_to_A)
        result.append((atoms, energy, np.asarray(forces, dtype=float) * units.force_to_eVperA))
    return result


def _energies(dataset: Any) -> Any:
    if "first_atoms" in dataset:
        found = [x.get("supercell_energy") for x in dataset["first_atoms"]]
        return None if any(x is None for x in found) else found
    return dataset.get("supercell_energies")


def load_phonopy(
    path: str | os.PathLike, primitive_matrix: str | None = None, produce: bool = True
) -> Phonopy:
    """The `Phonopy` object of a file and of what belongs to it.

    Unlike ``phonopy.load``, nothing is picked up from the folder in which Python runs.

    Parameters
    ----------
    path : path-like
        As `read_force_constants`.
    primitive_matrix : str, optional
        "P" takes the unit cell for the primitive one; default: what the file says.
    produce : bool
        Fit force constants where there are displacements and forces.

    Returns
    -------
    phonopy.Phonopy
        In the units of the calculator that the file names.

    Raises
    ------
    InputError
        See `read_force_constants`.
    """
    import phonopy

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    options: dict[str, Any] = {"is_nac": False, "produce_fc": produce, "log_level": 0}
    if primitive_matrix is not None:
        options["primitive_matrix"] = primitive_matrix
    try:
        if path.suffix in (".yaml", ".yml"):
            options |= {"phonopy_yaml": path} | _beside(path)
        else:
            kind = "force_sets_filename" if path.name.startswith(FORCES) else "force_constants_filename"
            options |= {kind: path} | _structure_for(path)
        if produce and _random(options):
            options["fc_calculator"] = "symfc"
        phonon = phonopy.load(**options)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"phonopy cannot read {path}: {error or type(error).__name__}") from error
    if "unitcell_filename" in options:
        _check_supercell(phonon, path.parent / "SPOSCAR")
    return phonon


def _beside(path: Path) -> dict[str, Path]:
    """Forces or force constants beside a YAML file that has none itself."""
    from phonopy.interface.phonopy_yaml import PhonopyYaml

    content = PhonopyYaml().read(path)
    dataset: Any = content.dataset or {}
    if content.force_constants is not None or "forces" in dataset:
        return {}
    if "first_atoms" in dataset and all("forces" in x for x in dataset["first_atoms"]):
        return {}
    for name in (FORCES, *CONSTANTS):
        if (path.parent / name).is_file():
            key = "force_sets_filename" if name == FORCES else "force_constants_filename"
            return {key: path.parent / name}
    raise InputError(
        f"{path} holds neither force constants nor forces, and there is no {FORCES} or "
        f"{' or '.join(CONSTANTS)} beside it; make one with phonopy -f, or name a phonopy_params.yaml"
    )


def _structure_for(path: Path) -> dict[str, Any]:
    folder = path.parent
    for name in STRUCTURES:
        if (folder / name).is_file():
            return {"phonopy_yaml": folder / name}
    if (folder / "POSCAR").is_file() and (folder / "SPOSCAR").is_file():
        from phonopy.interface.vasp import read_vasp

        unit, supercell = (np.asarray(read_vasp(folder / n).cell) for n in ("POSCAR", "SPOSCAR"))
        matrix = supercell @ np.linalg.inv(unit)
        if np.abs(matrix - np.rint(matrix)).max() > 1e-3:
            raise InputError(
                f"{folder / 'SPOSCAR'} is no supercell of POSCAR: its matrix is "
                f"{np.round(matrix, 3).tolist()}"
            )
        # phonopy's matrix acts on columns of basis vectors
        return {
            "unitcell_filename": folder / "POSCAR",
            "supercell_matrix": np.rint(matrix).astype(int).T.tolist(),
        }
    raise InputError(
        f"{path.name} needs the structure it belongs to: put {STRUCTURES[0]} (or another YAML file of "
        f"phonopy), or POSCAR and SPOSCAR, beside it in {folder.absolute()}"
    )


def _random(options: dict[str, Any]) -> bool:
    """Whether all atoms are displaced in every supercell, so that force constants need a fit."""
    if "force_sets_filename" in options:
        from phonopy.file_IO import parse_FORCE_SETS

        return "displacements" in parse_FORCE_SETS(options["force_sets_filename"])
    if "force_constants_filename" in options:
        return False
    from phonopy.interface.phonopy_yaml import PhonopyYaml

    content = PhonopyYaml().read(options["phonopy_yaml"])
    return content.force_constants is None and "displacements" in (content.dataset or {})


def _check_supercell(phonon: Phonopy, sposcar: Path) -> None:
    from phonopy.interface.vasp import read_vasp

    theirs, ours = read_vasp(sposcar), phonon.supercell
    if len(theirs) != len(ours) or list(theirs.symbols) != list(ours.symbols):
        raise InputError(
            f"{sposcar} lists other atoms than phonopy's supercell of POSCAR; take that of phonopy -d"
        )
    delta = np.asarray(theirs.scaled_positions) - np.asarray(ours.scaled_positions)
    distance = float(np.linalg.norm((delta - np.rint(delta)) @ np.asarray(ours.cell), axis=1).max())
    if distance > LARGEST_MISMATCH:
        raise InputError(
            f"{sposcar}: an atom is {distance:.3g} Å from where phonopy's supercell of POSCAR has it "
            f"(allowed {LARGEST_MISMATCH}); use the SPOSCAR that phonopy -d wrote"
        )
