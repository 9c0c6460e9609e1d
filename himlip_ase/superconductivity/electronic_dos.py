"""The electronic density of states around the Fermi level, for equations that do not take it as constant."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.relations import SHARE, broken_by_few
from himlip_ase.superconductivity.elph_files import read_text
from himlip_ase.superconductivity.number_rows import check_steps, fortran_number, read_rows
from himlip_ase.units import HARTREE_EV, RY_EV

logger = logging.getLogger(__name__)

_INTEGRAL = re.compile(r"int\s*dos", re.IGNORECASE)
_UP = re.compile(r"dos\W?_?up|\bup\b", re.IGNORECASE)
_DOWN = re.compile(r"dos\W?_?d(?:w|n|own)|\bdown\b", re.IGNORECASE)
_FERMI = re.compile(r"(?:E_?_?Fermi|Fermi (?:energy|level)|E_F)[^=:\n]{0,8}[=:]\s*(\S+)", re.IGNORECASE)
_UNIT = re.compile(r"(?<![A-Za-z])(?:E|energy|energies)\s*[\[(]\s*([A-Za-z]+)", re.IGNORECASE)
_EV = {"ev": 1.0, "mev": 1e-3, "ry": RY_EV, "ryd": RY_EV, "rydberg": RY_EV}
_EV |= {"ha": HARTREE_EV, "hartree": HARTREE_EV}
"""Energies in eV, by what a header calls their unit."""


@dataclass(frozen=True)
class ElectronicDos:
    """N(ε)/N(E_F) on a grid of energies; beyond the grid it is 1, as in the equations of a constant DOS.

    Attributes
    ----------
    energies_ev : ndarray, shape (n,)
        Relative to the Fermi level of T = 0, ascending, from negative to positive.
    values : ndarray, shape (n,)
        In any unit; `ratio` divides by the value at the Fermi level.
    """

    energies_ev: np.ndarray
    values: np.ndarray

    def __post_init__(self) -> None:
        energies, values = np.asarray(self.energies_ev, float), np.asarray(self.values, float)
        if energies.ndim != 1 or energies.shape != values.shape or len(energies) < 5:
            raise InputError(
                f"a DOS wants two equal columns of ≥ 5 rows; got {energies.shape}, {values.shape}"
            )
        if not (np.isfinite(energies).all() and np.isfinite(values).all() and (np.diff(energies) > 0).all()):
            raise InputError("the energies of a DOS must be finite and ascend, its values be finite")
        if not energies[0] < 0 < energies[-1]:
            raise InputError(
                f"the DOS covers {energies[0]:g} to {energies[-1]:g} eV from the Fermi level, which is not "
                "inside; is the Fermi energy that of the same run?"
            )
        if values.min() < -1e-6 * values.max() or not np.interp(0.0, energies, values) > 0:
            raise InputError("a DOS must not be negative, and must be positive at the Fermi level")
        object.__setattr__(self, "energies_ev", energies)
        object.__setattr__(self, "values", values)

    @property
    def ratio(self) -> np.ndarray:
        """N(ε)/N(E_F), shape (n,)."""
        return self.values / np.interp(0.0, self.energies_ev, self.values)

    @classmethod
    def constant(cls, width_ev: float = 10.0, points: int = 401) -> ElectronicDos:
        """N(ε) = N(E_F) from −`width_ev` to `width_ev`.

        Parameters
        ----------
        width_ev : float
        points : int

        Returns
        -------
        ElectronicDos
        """
        return cls(np.linspace(-width_ev, width_ev, points), np.ones(points))

    def quadrature(self, finest_ev: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Energies, trapezoidal weights (eV) and N/N(E_F) − 1 on a mesh that is `finest_ev` fine around E_F.

        The grid of the file is kept and refined, by linear interpolation, where the Green's functions vary
        within the Matsubara frequencies.
        """
        span = max(-self.energies_ev[0], self.energies_ev[-1])
        steps = np.geomspace(finest_ev, span, max(20, int(60 * np.log10(span / finest_ev))))
        fine = np.concatenate([-steps[::-1], np.linspace(-finest_ev, finest_ev, 9), steps])
        inside = fine[(fine > self.energies_ev[0]) & (fine < self.energies_ev[-1])]
        mesh = np.unique(np.concatenate([self.energies_ev, inside]))
        weights = np.zeros_like(mesh)
        weights[:-1] += np.diff(mesh) / 2
        weights[1:] += np.diff(mesh) / 2
        return mesh, weights, np.interp(mesh, self.energies_ev, self.ratio) - 1


def _tell_integral(path: Path, head: str, numbers: np.ndarray) -> None:
    """Warn if the integral, which dos.x prints in its last column, grows otherwise than the density says."""
    if not _INTEGRAL.search(head) or numbers.shape[1] < 3 or len(numbers) < 8:
        return
    steps, growth = np.diff(numbers[:, 0]), np.diff(numbers[:, -1])
    expected = numbers[1:, 1:-1].sum(axis=1) * steps
    rounding = 10.0 ** (np.floor(np.log10(np.maximum(np.abs(numbers[1:, -1]), 1e-300))) - 4)
    off = np.maximum(np.abs(growth - expected) - 2 * rounding, 0.0)
    scale = float(np.abs(expected).max())
    if broken_by_few(off, scale, 0.02) and (off > 0.02 * scale).sum() <= max(2, SHARE * len(off)):
        logger.warning(
            "%s, row %d: the density does not fit its integral in the last column: the file may be damaged",
            path,
            int(off.argmax()) + 2,
        )


def read_electronic_dos(path: str | Path, fermi_ev: float | None = None) -> ElectronicDos:
    """Read N(ε): the output of QE's dos.x, or any text with energy (eV) and DOS in columns.

    Where the header names a column for each spin (``dosup``, ``dosdw``), both are added; where it names Ry or
    Hartree as the unit of the energies, these are converted.

    Parameters
    ----------
    path : path-like
        Text, perhaps gz. dos.x writes ``EFermi = … eV`` into its header.
    fermi_ev : float, optional
        Fermi energy on the scale and in the unit of the file; None: of the header, or 0 without one.

    Returns
    -------
    ElectronicDos

    Raises
    ------
    InputError
        No such columns, a damaged row (its line named); see `ElectronicDos`.
    """
    path = Path(path)
    rows = read_rows(path, read_text(path))
    if len(rows.blocks) != 1:
        places = " and ".join(block.where for block in rows.blocks)
        raise InputError(f"{path} holds {len(rows.blocks)} tables, in {places}; give one density of states")
    if fermi_ev is None:
        found = _FERMI.search(rows.head)
        fermi_ev = fortran_number(found.group(1)) if found else 0.0
        if fermi_ev is None:
            raise InputError(f"{path}: EFermi in its header is no number; mend it")
    check_steps(path, rows.blocks[0], "eV")
    if rows.open_end:
        raise InputError(f"{path} stops within its last line: it is truncated; copy it again or rerun dos.x")
    numbers = rows.blocks[0].numbers
    _tell_integral(path, rows.head, numbers)
    spins = bool(_UP.search(rows.head) and _DOWN.search(rows.head))
    if spins and numbers.shape[1] < 3:
        raise InputError(f"{path} names two spins in its header and has {numbers.shape[1]} columns")
    values = numbers[:, 1] + numbers[:, 2] if spins else numbers[:, 1]
    named = _UNIT.search(rows.head)
    name = named[1] if named else "eV"
    unit = _EV.get(name.lower())
    if unit is None:
        raise InputError(f"{path}: its header has energies in {name}; write them in eV")
    try:
        return ElectronicDos(unit * (numbers[:, 0] - fermi_ev), values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
