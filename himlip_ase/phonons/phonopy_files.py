"""Calculations of phonopy on disk: which files belong together, their force constants, their forces.

``phonopy_params.yaml`` holds everything. FORCE_SETS, FORCE_CONSTANTS and ``force_constants.hdf5`` hold no
structure: it is taken from ``phonopy_disp.yaml`` (or another of phonopy's YAML files) beside them, or from
POSCAR and SPOSCAR. Born charges stand in the YAML file, or in BORN beside it. Files are read by phonopy, in
the units of the calculator that they name, and converted. Any of them may be compressed (.gz, .xz, .lzma,
.bz2).
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import lzma
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.phonons.broken_relations import tell_broken_relations
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.phonons.phonopy_io import from_phonopy
from himlip_ase.phonons.phonopy_objects import from_phonopy_atoms, physical_units

if TYPE_CHECKING:
    from phonopy import Phonopy

logger = logging.getLogger(__name__)

STRUCTURES = ("phonopy_disp.yaml", "phonopy_params.yaml", "phonopy.yaml")
"""Where the structure of a file of forces or force constants is looked for, in this order."""
FORCES = "FORCE_SETS"
CONSTANTS = ("FORCE_CONSTANTS", "force_constants.hdf5")
BORN = "BORN"
COMPRESSED = {".gz": "gzip", ".xz": "lzma", ".lzma": "lzma", ".bz2": "bz2"}
"""Suffixes of compressed files, and the modules that read them."""
SAME_CELL = 1e-6
"""Of the cell; what a YAML file repeats with fifteen digits."""
LARGEST_MISMATCH = 1e-3
"""Å between the sites of SPOSCAR and those of the supercell that phonopy makes of POSCAR."""


def is_phonopy_file(path: str | os.PathLike) -> bool:
    """Whether a path has the name of one of phonopy's files, compressed or not."""
    name = _plain_name(Path(path))
    return name.endswith((".yaml", ".yml")) or name.startswith((FORCES, *CONSTANTS))


def _plain_name(path: Path) -> str:
    return path.stem if path.suffix in COMPRESSED else path.name


@contextlib.contextmanager
def _uncompressed(path: Path) -> Iterator[Path]:
    """The file itself, or a copy of what a compressed one holds, as long as the context lasts."""
    if path.suffix not in COMPRESSED:
        yield path
        return
    try:
        with importlib.import_module(COMPRESSED[path.suffix]).open(path, "rb") as stream:
            content = stream.read()
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise InputError(f"{path} cannot be decompressed: {error}; is it whole?") from error
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.stem
        copy.write_bytes(content)
        yield copy


def _beside(path: Path, name: str) -> Path | None:
    """A file of that name in the folder of another, compressed or not."""
    for suffix in ("", *COMPRESSED):
        candidate = path.parent / f"{name}{suffix}"
        if candidate.is_file():
            return candidate
    return None


def read_force_constants(
    path: str | os.PathLike, cell: Literal["primitive", "unit"] = "primitive"
) -> ForceConstants:
    """Force constants of a calculation of phonopy.

    Parameters
    ----------
    path : path-like
        A YAML file of phonopy with force constants or with displacements and forces (in it or in a FORCE_SETS
        beside it), FORCE_SETS, FORCE_CONSTANTS or ``force_constants.hdf5``.
    cell : {"primitive", "unit"}
        "primitive": of the file's own primitive cell ("auto" where it states none, as phonopy has it), with
        Born charges. A supercell that is not diagonal in it is extended (see
        `himlip_ase.phonons.phonopy_io.from_phonopy`).
        "unit": of the unit cell, so that the supercell is the one that was calculated; it has to be diagonal
        in the unit cell. Without Born charges.

    Returns
    -------
    ForceConstants
        eV/Å², whatever the calculator. From forces, they are fitted and symmetrised by phonopy.

    Raises
    ------
    InputError
        A file is missing or belongs to another structure, or (for "unit") the supercell is not diagonal.
    """
    if cell not in ("primitive", "unit"):
        raise InputError(f"cell must be 'primitive' or 'unit'; got {cell!r}")
    found = (from_phonopy if cell == "primitive" else of_unit_cell)(load_phonopy(path))
    tell_broken_relations(found, path)
    return found


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
        "P" takes the unit cell for the primitive one; default: what the file says, else "auto".
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
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with contextlib.ExitStack() as stack:

        def plain(file: Path) -> Path:
            return stack.enter_context(_uncompressed(file))

        try:
            return _load(path, primitive_matrix, produce, plain)
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"phonopy cannot read {path}: {error or type(error).__name__}") from error


def _load(path: Path, primitive_matrix: str | None, produce: bool, plain: Callable[[Path], Path]) -> Phonopy:
    import phonopy
    from phonopy.interface.phonopy_yaml import PhonopyYaml

    options: dict[str, Any] = {"is_nac": False, "produce_fc": produce, "log_level": 0}
    name = _plain_name(path)
    yaml = name.endswith((".yaml", ".yml"))
    structure = path if yaml else _structure_for(path)
    content: Any = None
    if structure is not None:
        options["phonopy_yaml"] = plain(structure)
        content = PhonopyYaml().read(options["phonopy_yaml"])
    else:
        options |= _poscar_for(path)
    data = (None if _holds_all(content) else _data_beside(path)) if yaml else path
    if data is not None:
        kind = "force_sets_filename" if _plain_name(data).startswith(FORCES) else "force_constants_filename"
        options[kind] = plain(data)
    if primitive_matrix is not None:
        options["primitive_matrix"] = primitive_matrix
    elif content is None or content.primitive_matrix is None:
        options["primitive_matrix"] = "auto"
    born = _beside(path, BORN)
    if content is not None and content.nac_params is not None:
        options["nac_params"] = content.nac_params
    elif born is not None:
        options["born_filename"] = plain(born)
    if produce and _random(options, content):
        options["fc_calculator"] = "symfc"
    phonon = phonopy.load(**options)
    if "unitcell_filename" in options:
        _check_supercell(phonon, path.parent / "SPOSCAR")
    if content is not None:
        _tell_other_cell(content.supercell, phonon.supercell, f"{path}: the supercell")
        if primitive_matrix is None and content.primitive_matrix is not None:
            _tell_other_cell(content.primitive, phonon.primitive, f"{path}: the primitive cell")
    return phonon


def _tell_other_cell(written: Any, made: Any, what: str) -> None:
    """Warn if a cell that a YAML file repeats is not the one that phonopy makes of its unit cell."""
    if written is None:
        return
    if list(written.symbols) != list(made.symbols):
        logger.warning("%s lists other atoms than phonopy makes of the unit cell: damaged?", what)
        return
    shift = written.scaled_positions - made.scaled_positions
    off = (shift - np.rint(shift)) @ made.cell
    far = max(float(np.abs(off).max()), float(np.abs(written.cell - made.cell).max()))
    if far > SAME_CELL * float(np.abs(made.cell).max()):
        logger.warning("%s is %.3g off the one that phonopy makes of the unit cell: damaged?", what, far)


def _holds_all(content: Any) -> bool:
    """Whether a YAML file has force constants or forces itself."""
    dataset: Any = content.dataset or {}
    if content.force_constants is not None or "forces" in dataset:
        return True
    return "first_atoms" in dataset and all("forces" in x for x in dataset["first_atoms"])


def _data_beside(path: Path) -> Path:
    """Forces or force constants beside a YAML file that has none itself."""
    for name in (FORCES, *CONSTANTS):
        if found := _beside(path, name):
            return found
    raise InputError(
        f"{path} holds neither force constants nor forces, and there is no {FORCES} or "
        f"{' or '.join(CONSTANTS)} beside it; make one with phonopy -f, or name a phonopy_params.yaml"
    )


def of_unit_cell(ph: Phonopy) -> ForceConstants:
    """Force constants of the unit cell of a `Phonopy` object, on the supercell that was calculated.

    Parameters
    ----------
    ph : Phonopy
        With force constants, full or of its primitive cell; its supercell is diagonal in the unit cell.

    Returns
    -------
    ForceConstants
        eV/Å², without Born charges.

    Raises
    ------
    InputError
        No force constants, or a supercell that is not diagonal.
    """
    from phonopy import Phonopy
    from phonopy.harmonic.force_constants import compact_fc_to_full_fc

    if ph.force_constants is None:
        raise InputError(
            "this Phonopy object holds no force constants; call ph.produce_force_constants() first"
        )
    constants = np.array(ph.force_constants)
    if constants.shape[0] != constants.shape[1]:
        constants = compact_fc_to_full_fc(ph.primitive, constants)
    matrix = np.asarray(ph.supercell_matrix)
    if np.any(matrix != np.diag(np.diag(matrix))):
        raise InputError(
            f"the supercell is not diagonal in the unit cell; its matrix is {matrix.tolist()}. Take a "
            "diagonal one (three numbers in DIM)"
        )
    unit = Phonopy(
        ph.unitcell, matrix, primitive_matrix="P", calculator=ph.calculator, symprec=ph.symmetry.tolerance
    )
    unit.force_constants = constants
    return from_phonopy(unit)


def _structure_for(path: Path) -> Path | None:
    """The YAML file that belongs to forces or force constants; None where POSCAR and SPOSCAR do."""
    for name in STRUCTURES:
        if found := _beside(path, name):
            return found
    if (path.parent / "POSCAR").is_file() and (path.parent / "SPOSCAR").is_file():
        return None
    raise InputError(
        f"{path.name} needs the structure it belongs to: put {STRUCTURES[0]} (or another YAML file of "
        f"phonopy), or POSCAR and SPOSCAR, beside it in {path.parent.absolute()}"
    )


def _poscar_for(path: Path) -> dict[str, Any]:
    from phonopy.interface.vasp import read_vasp

    folder = path.parent
    unit, supercell = (np.asarray(read_vasp(folder / n).cell) for n in ("POSCAR", "SPOSCAR"))
    matrix = supercell @ np.linalg.inv(unit)
    if np.abs(matrix - np.rint(matrix)).max() > 1e-3:
        raise InputError(
            f"{folder / 'SPOSCAR'} is no supercell of POSCAR: its matrix is {np.round(matrix, 3).tolist()}"
        )
    # phonopy's matrix acts on columns of basis vectors
    return {
        "unitcell_filename": folder / "POSCAR",
        "supercell_matrix": np.rint(matrix).astype(int).T.tolist(),
    }


def _random(options: dict[str, Any], content: Any) -> bool:
    """Whether all atoms are displaced in every supercell, so that force constants need a fit."""
    if "force_sets_filename" in options:
        from phonopy.file_IO import parse_FORCE_SETS

        return "displacements" in parse_FORCE_SETS(filename=options["force_sets_filename"])
    if "force_constants_filename" in options:
        return False
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
