"""What would make a Quantum ESPRESSO run fail or mislead, found before anything runs."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ase import Atoms

from himlip_ase.dft.espresso.dry_run import dry_run
from himlip_ase.dft.espresso.inputs import QESettings
from himlip_ase.dft.espresso.pseudopotentials import find_pseudopotentials, pseudo_folder
from himlip_ase.dft.espresso.runner import Launcher
from himlip_ase.dft.setting_names import RUN_FILE, SettingNames
from himlip_ase.errors import InputError
from himlip_ase.symmetry.standard_cell import standard_cell

if TYPE_CHECKING:
    from himlip_ase.dft.espresso.engine import Harmonic


def faults(
    atoms: Atoms,
    q_grid: Sequence[int] | None,
    settings: QESettings,
    launcher: Launcher,
    harmonic_run: Harmonic | None,
    *,
    names: SettingNames = RUN_FILE,
    programs_here: bool = True,
    symmetry: bool = True,
) -> list[str]:
    """Programs, pseudopotentials, cutoffs and grids that do not go together.

    Parameters
    ----------
    atoms : Atoms
        Cell that is calculated.
    q_grid : three ints or None
        None where ph.x does not run.
    settings : QESettings
    launcher : Launcher
    harmonic_run : Harmonic or None
        None where no electron-phonon matrices are wanted.
    names : SettingNames
        For messages.
    programs_here : bool
        Whether the programs run on this machine; False: pw.x is asked only if it is here, ph.x not at all.
    symmetry : bool
        Whether pw.x has to find all operations of the crystal.

    Returns
    -------
    list of str
        One sentence each.
    """
    programs = [launcher.pw] + [launcher.ph] * (q_grid is not None)
    found = launcher.missing(*programs) if programs_here else []
    for element in dict.fromkeys(atoms.get_chemical_symbols()):
        try:
            files = find_pseudopotentials([element], settings.pseudo_dir, settings.pseudopotentials, names)
        except InputError as error:
            found.append(str(error))
        else:
            found += _low_cutoffs(pseudo_folder(settings.pseudo_dir), files, settings, names)
    if q_grid is not None and harmonic_run is not None:
        found += _grid_faults(q_grid, settings, harmonic_run, names)
    askable = programs_here or shutil.which(launcher.pw) is not None
    if symmetry and askable and not found and not settings.extra.get("system"):
        found += _missed_symmetry(atoms, settings, launcher)
    return list(dict.fromkeys(found))


def _grid_faults(
    q_grid: Sequence[int], settings: QESettings, harmonic_run: Harmonic, names: SettingNames
) -> list[str]:
    """Grids of the electron-phonon matrices that do not go together; the first that is found."""
    if settings.smearing is None:
        return ["electron-phonon matrices need a metal: choose a smearing, or leave them out"]
    dense = harmonic_run.dense_k_grid or tuple(2 * k for k in settings.k_grid)
    for grid, name, why in (
        (tuple(settings.k_grid), names.k_grid, "ph.x interpolates from it"),
        (tuple(q_grid), names.q_grid, "k and k + q must both lie on it"),
    ):
        if any(big % small for big, small in zip(dense, grid, strict=True)):
            wanted = names.written(_common_multiple(settings.k_grid, q_grid))
            return [
                f"{names.dense_k_grid} {_grid(dense)} is no multiple of {name}, {_grid(grid)} ({why}): "
                f"set it to {wanted}"
            ]
    return []


def _missed_symmetry(atoms: Atoms, settings: QESettings, launcher: Launcher) -> list[str]:
    """Whether pw.x finds the operations that the crystal has; each one missed costs k-points."""
    expected = standard_cell(atoms).operations
    run = dry_run(atoms, settings, launcher)
    if run.operations == expected:
        return []
    if run.operations + run.ignored_operations == expected:
        return [
            f"pw.x uses {run.operations} of {expected} symmetry operations: the translations of the others "
            "do not fit its FFT grid; set nr1, nr2, nr3 under qe.extra.system to numbers that they divide"
        ]
    return [
        f"pw.x finds {run.operations} of the crystal's {expected} symmetry operations: "
        "atoms or cell are off their symmetric places by more than pw.x allows (about 1e-5); symmetrise "
        "the structure file"
    ]


def recommended_cutoff(path: Path) -> float | None:
    """The wave-function cutoff that a UPF file recommends, Ry; None where it names none."""
    with open(path, "rb") as stream:
        text = stream.read(1 << 17).decode("utf-8", errors="replace")
    for pattern in (
        r'wfc_cutoff\s*=\s*"\s*([\d.]+(?:[eEdD][+-]?\d+)?)',
        r"Suggested minimum cutoff for wavefunctions:\s*([\d.]+)",
    ):
        match = re.search(pattern, text)
        if match:
            value = float(match.group(1).replace("d", "e").replace("D", "e"))
            if value > 1:
                return value
    return None


def _low_cutoffs(folder: Path, files: dict[str, str], settings: QESettings, names: SettingNames) -> list[str]:
    found = []
    for element, name in files.items():
        wanted = recommended_cutoff(folder / name)
        if wanted is not None and wanted > settings.ecutwfc_ry * 1.001:
            found.append(
                f"{name} asks for a cutoff of {wanted:g} Ry, {names.ecutwfc} is {settings.ecutwfc_ry:g}: "
                f"raise it, or choose another pseudopotential of {element}"
            )
    return found


def _common_multiple(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    return tuple(2 * math.lcm(a, b) for a, b in zip(first, second, strict=True))


def _grid(grid: Sequence[int]) -> str:
    return "×".join(map(str, grid))
