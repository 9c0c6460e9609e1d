"""Finding pseudopotentials: which UPF file describes which element, and its checksum."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ase.data import atomic_numbers

from himlip_ase.dft.setting_names import OPTIONS, SettingNames
from himlip_ase.errors import InputError
from himlip_ase.files import sha256_file

_HEADER_BYTES = 1 << 17


def pseudo_folder(folder: str | os.PathLike | None = None, names: SettingNames = OPTIONS) -> Path:
    """The folder of pseudopotentials: the argument, else the environment variable ESPRESSO_PSEUDO.

    Parameters
    ----------
    folder : path-like, optional
    names : SettingNames
        For messages.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        Neither is given, or the folder does not exist.
    """
    chosen = folder or os.environ.get("ESPRESSO_PSEUDO")
    if not chosen:
        raise InputError(
            f"no folder of pseudopotentials: {names.pseudo_dir}, or set the environment variable "
            "ESPRESSO_PSEUDO; PBE sets to download: http://www.quantum-simulation.org/potentials/sg15_oncv, "
            "http://www.pseudo-dojo.org and https://www.materialscloud.org/sssp"
        )
    path = Path(chosen).expanduser().resolve()
    if not path.is_dir():
        raise InputError(f"the folder of pseudopotentials {path} does not exist; {names.pseudo_dir}")
    return path


def element_of(path: str | os.PathLike) -> str | None:
    """Chemical symbol in the header of a UPF file (version 1 or 2), or None if it names none."""
    with open(path, "rb") as stream:
        text = stream.read(_HEADER_BYTES).decode("utf-8", errors="replace")
    header = text.find("<PP_HEADER")
    for pattern, start in (
        (r'element\s*=\s*"\s*([A-Za-z]{1,2})\s*"', max(header, 0)),
        (r"(?m)^\s*([A-Z][a-z]?)\s+Element\b", max(header, 0)),
        (r"(?m)^\s*Element:\s*([A-Z][a-z]?)\b", 0),
    ):
        if match := re.search(pattern, text[start:]):
            symbol = match.group(1).capitalize()
            return symbol if symbol in atomic_numbers else None
    return None


def find_pseudopotentials(
    elements: Iterable[str],
    folder: str | os.PathLike | None = None,
    chosen: Mapping[str, str] | None = None,
    names: SettingNames = OPTIONS,
) -> dict[str, str]:
    """Pseudopotential file of each element, from the headers of the UPF files in a folder.

    Parameters
    ----------
    elements : iterable of str
        Chemical symbols that are needed.
    folder : path-like, optional
        As `pseudo_folder`.
    chosen : mapping, optional
        {element: file name} that settle elements with several candidates.
    names : SettingNames
        For messages.

    Returns
    -------
    dict
        {element: file name}, in the order of `elements`.

    Raises
    ------
    InputError
        Elements have no file (the message lists those that have), or several and none is chosen.
    """
    directory = pseudo_folder(folder, names)
    chosen = dict(chosen or {})
    candidates: dict[str, list[str]] = {}
    for path in sorted(directory.iterdir()):
        if path.suffix.lower() == ".upf" and path.is_file() and (element := element_of(path)):
            candidates.setdefault(element, []).append(path.name)
    result: dict[str, str] = {}
    faults: list[str] = []
    for element in dict.fromkeys(elements):
        files = candidates.get(element, [])
        if element in chosen:
            path = directory / chosen[element]
            if not path.is_file():
                faults.append(
                    f"{path}, chosen for {element}, does not exist; for {element} there are {files}"
                )
                continue
            found = element_of(path)
            if found not in (None, element):
                faults.append(f"{path} is a pseudopotential of {found}, not of {element}")
            result[element] = chosen[element]
        elif not files:
            faults.append(
                f"no pseudopotential of {element} in {directory}; "
                f"it holds some of {sorted(candidates) or 'no element'}. "
                f"Put a UPF file of {element} there, or {names.pseudo_dir}"
            )
        elif len(files) > 1:
            faults.append(
                f"{len(files)} pseudopotentials of {element} in {directory}: {', '.join(files)}. "
                f"Choose one, e.g. {names.chosen.format(element=element, file=files[0])}"
            )
        else:
            result[element] = files[0]
    if faults:
        raise InputError("; ".join(faults))
    return result


def checksums(files: Mapping[str, str], folder: str | os.PathLike | None = None) -> dict[str, dict[str, str]]:
    """{element: {"file": name, "sha256": hexadecimal digest}} of pseudopotential files.

    Parameters
    ----------
    files : mapping
        {element: file name}.
    folder : path-like, optional
        As `pseudo_folder`.

    Returns
    -------
    dict
    """
    directory = pseudo_folder(folder)
    return {
        element: {"file": name, "sha256": sha256_file(directory / name)} for element, name in files.items()
    }


def md5(path: str | os.PathLike) -> str:
    """MD5 of a file, as pw.x prints it for each pseudopotential."""
    return hashlib.md5(Path(path).read_bytes(), usedforsecurity=False).hexdigest()
