"""Born charges from whatever file holds them: phonopy's BORN and YAML, dyn files of ph.x."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.phonons.born_charges import BornCharges, check_number
from himlip_ase.phonons.phonopy_objects import to_phonopy_atoms
from himlip_ase.phonons.qe_text import read_dyn_file, read_text
from himlip_ase.phonons.qe_xml import read_xml_dyn_file


def read_born(path: str | os.PathLike, primitive: Atoms) -> BornCharges:
    """Born charges and dielectric tensor of a crystal.

    Parameters
    ----------
    path : path-like
        phonopy's BORN (atoms that symmetry makes alike may be left out) or a YAML file of phonopy; the dyn
        file of Γ, text or XML, of a ph.x run with ``epsil=.true.``.
    primitive : Atoms
        The crystal, atoms in the order of the file.

    Returns
    -------
    BornCharges

    Raises
    ------
    InputError
        No such file, none of the kind, or charges of another crystal.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.suffix in (".yaml", ".yml"):
        born = _of_yaml(path)
    else:
        text = read_text(path).lstrip()
        if text.startswith("<?xml"):
            born = read_xml_dyn_file(path).born
        elif text.lower().startswith("dynamical matrix file"):
            born = read_dyn_file(path).born
        else:
            born = _of_born(path, primitive)
    if born is None:
        raise InputError(
            f"{path} holds no Born charges; give phonopy's BORN, or the dyn file of Γ of a ph.x run with "
            "epsil=.true."
        )
    check_number(born, len(primitive))
    return born


def _of_yaml(path: Path) -> BornCharges | None:
    from phonopy.interface.phonopy_yaml import PhonopyYaml

    try:
        found: Any = PhonopyYaml().read(path).nac_params
    except Exception as error:
        raise InputError(f"phonopy cannot read {path}: {error or type(error).__name__}") from error
    return None if found is None else BornCharges(found["born"], found["dielectric"])


def _of_born(path: Path, primitive: Atoms) -> BornCharges:
    from phonopy.file_IO import parse_BORN

    try:
        found = parse_BORN(to_phonopy_atoms(primitive), filename=path)
    except Exception as error:
        raise InputError(
            f"{path} is no BORN file of this crystal: {error or type(error).__name__}"
        ) from error
    return BornCharges(found["born"], found["dielectric"])
