"""What would make a Quantum ESPRESSO run fail or mislead, found before anything runs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ase import Atoms

from himlip_ase.dft.espresso.dry_run import dry_run
from himlip_ase.dft.espresso.inputs import QESettings
from himlip_ase.dft.espresso.pseudopotentials import pseudo_folder
from himlip_ase.dft.espresso.runner import Launcher
from himlip_ase.errors import InputError
from himlip_ase.symmetry.standard_cell import standard_cell

if TYPE_CHECKING:
    from himlip_ase.dft.espresso.engine import Harmonic


def faults(
    atoms: Atoms,
    q_grid: Sequence[int],
    settings: QESettings,
    launcher: Launcher,
    harmonic_run: Harmonic | None,
) -> list[str]:
    """Programs, pseudopotentials, cutoffs and grids that do not go together.

    Parameters
    ----------
    atoms : Atoms
        Primitive cell.
    q_grid : three ints
    settings : QESettings
    launcher : Launcher
    harmonic_run : Harmonic or None
        None where no electron-phonon matrices are wanted.

    Returns
    -------
    list of str
        One sentence each.
    """
    found = []
    for program in (launcher.pw, launcher.ph):
        try:
            launcher.command(program, "input")
        except InputError as error:
            found.append(str(error))
    try:
        files = settings.files_for(atoms)
    except InputError as error:
        found.append(str(error))
    else:
        found += _low_cutoffs(pseudo_folder(settings.pseudo_dir), files, settings)
    if harmonic_run is not None:
        dense = harmonic_run.dense_k_grid or tuple(2 * k for k in settings.k_grid)
        for name, grid, divisor, why in (
            ("harmonic.dense_k_grid", dense, tuple(settings.k_grid), "qe.k_grid (ph.x interpolates from it)"),
            ("harmonic.dense_k_grid", dense, tuple(q_grid), "q_grid (k and k + q must both lie on it)"),
        ):
            if any(big % small for big, small in zip(grid, divisor, strict=True)):
                found.append(
                    f"{name} {_grid(grid)} is no multiple of {why}, {_grid(divisor)}: set it to "
                    f"{list(_common_multiple(settings.k_grid, q_grid))}"
                )
                break
    if not found and not settings.extra.get("system"):
        found += _missed_symmetry(atoms, settings, launcher)
    return list(dict.fromkeys(found))


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


def _low_cutoffs(folder: Path, files: dict[str, str], settings: QESettings) -> list[str]:
    found = []
    for element, name in files.items():
        wanted = recommended_cutoff(folder / name)
        if wanted is not None and wanted > settings.ecutwfc_ry * 1.001:
            found.append(
                f"{name} asks for a cutoff of {wanted:g} Ry, qe.ecutwfc_ry is {settings.ecutwfc_ry:g}: raise "
                f"it, or choose another pseudopotential of {element}"
            )
    return found


def _common_multiple(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    return tuple(2 * math.lcm(a, b) for a, b in zip(first, second, strict=True))


def _grid(grid: Sequence[int]) -> str:
    return "×".join(map(str, grid))
