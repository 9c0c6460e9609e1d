"""Thermal expansion in the quasi-harmonic approximation: harmonic phonons at several volumes.

    G(T, P) = min_V [E(V) + F_vib(V, T) + P V],   F_vib = Σ_q,ν [ħω/2 + kT ln(1 - e^(-ħω/kT))] / N_q

E + F_vib is fitted by a polynomial in V^(-2/3), of third order (the Birch–Murnaghan form); the difference to
the fit of the next order is the error that is quoted.  (1/V) dV/dT = (∂S/∂V)/(V ∂²F/∂V²) at the minimum.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.polynomial import polynomial

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.files import atomic_write, read_arrays
from himlip_ase.lattice import check_dims, check_primitive
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.phonons.harmonic import harmonic_force_constants
from himlip_ase.phonons.thermal_expansion import ThermalExpansion
from himlip_ase.relaxation import relax
from himlip_ase.units import EV_CM, GPA_EV_PER_ANGSTROM3, KB_EV_PER_K

logger = logging.getLogger(__name__)

STRAINS = (-0.01, -0.005, 0.0, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03)
"""Linear strains of the cells whose phonons are computed, from the static one."""

ORDER = 3
"""Of the polynomial in V^(-2/3)."""

IMAGINARY_CM = 1.0
"""cm⁻¹; below minus this a mode is imaginary, and F_vib does not exist."""

SAME_ENERGY = 1e-6
"""eV per cell; on resuming, the energy of the first volume may differ by this much."""


STORED = (
    "strain", "dims", "mesh", "start", "positions", "cell", "volume", "energy", "lengths", "frequencies",
    "grid_frequencies",
)  # fmt: skip
AGAIN = "delete it and go on with --resume"


@dataclass(frozen=True, eq=False)
class VolumeScan:
    """Static energies and phonons of a crystal at several volumes.

    Attributes
    ----------
    volumes : ndarray, shape (v,)
        Å³ per primitive cell.
    energies : ndarray, shape (v,)
        eV per primitive cell.
    lengths : ndarray, shape (v, 3)
        Of the lattice vectors, Å.
    frequencies_cm : ndarray, shape (v, q, 3n)
        On a Γ-centred mesh; translations at Γ are zero.
    grid_frequencies_cm : ndarray, shape (v, prod(dims), 3n)
        On the q-points of the supercell alone.
    """

    volumes: np.ndarray
    energies: np.ndarray
    lengths: np.ndarray
    frequencies_cm: np.ndarray
    grid_frequencies_cm: np.ndarray

    def on_grid(self) -> VolumeScan:
        """The same with the supercell's q-points for a mesh: what a calculation in that supercell can see."""
        return replace(self, frequencies_cm=self.grid_frequencies_cm)

    def vibrational(self, temperature_k: float) -> tuple[np.ndarray, np.ndarray]:
        """Vibrational free energy (eV) and entropy (eV/K) per primitive cell at each volume, (v,) each."""
        quanta = self.frequencies_cm / EV_CM
        moving = quanta > 0
        safe = np.where(moving, quanta, 1.0)
        count = quanta.shape[1]
        free = np.where(moving, quanta / 2, 0.0)
        entropy = np.zeros_like(free)
        if temperature_k > 0:
            thermal = KB_EV_PER_K * temperature_k
            logarithm = np.where(moving, np.log(-np.expm1(-safe / thermal)), 0.0)
            occupation = np.where(moving, 1 / np.expm1(np.minimum(safe / thermal, 700.0)), 0.0)
            free = free + thermal * logarithm
            entropy = np.where(moving, quanta / temperature_k * occupation, 0.0) - KB_EV_PER_K * logarithm
        return free.sum(axis=(1, 2)) / count, entropy.sum(axis=(1, 2)) / count


def scan_volumes(
    primitive: Atoms,
    calculator: Any,
    dims: Sequence[int],
    strains: Sequence[float] = STRAINS,
    mesh: Sequence[int] = (16, 16, 16),
    fmax: float = 1e-4,
    folder: str | os.PathLike | None = None,
    resume: bool = False,
) -> VolumeScan:
    """Relax a crystal at several volumes and compute its phonons there.

    Parameters
    ----------
    primitive : Atoms
        Relaxed at the pressure around which it expands.
    calculator : ASE calculator
    dims : three integers
        Supercell of the phonons.
    strains : sequence of float
        Linear strains; the cell's shape and the atoms are relaxed at each volume, within the space group.
    mesh : three integers
        Γ-centred, of F_vib.
    fmax : float
        Of the relaxations, eV/Å.
    folder : path-like, optional
        Each volume is stored there as soon as it is known.
    resume : bool
        Take what `folder` holds.

    Returns
    -------
    VolumeScan

    Raises
    ------
    InputError
        Fewer than five strains; a folder that holds volumes already, or those of something else.
    CalculationError
        Imaginary modes at one of the volumes.
    """
    if len(set(strains)) < ORDER + 2:
        raise InputError(
            f"a fit and its error need at least {ORDER + 2} different strains; got {list(strains)}"
        )
    dims, mesh = check_dims(dims), check_dims(mesh)
    atoms = check_primitive(primitive)
    place = None if folder is None else Path(folder)
    if place is not None and not resume and any(place.glob("volume_*.npz")):
        raise InputError(f"{place} holds volumes already; pass --resume to go on, or another --out")
    found: list[dict[str, Any]] = []
    for number, strain in enumerate(sorted(set(strains))):
        path = None if place is None else place / f"volume_{number:02d}.npz"
        if path is not None and path.exists():
            stored = read_volume(path)
            _check_stored(stored, atoms, calculator, strain, dims, mesh, path, deep=not found)
            found.append(stored)
            continue
        found.append(_at_strain(atoms, calculator, strain, dims, mesh, fmax))
        if path is not None:
            with atomic_write(path, "wb", overwrite=True) as stream:
                np.savez(stream, allow_pickle=False, **found[-1])
        logger.info("volume %d of %d: %.4f Å³", number + 1, len(set(strains)), found[-1]["volume"])
    return VolumeScan(
        np.array([float(item["volume"]) for item in found]),
        np.array([float(item["energy"]) for item in found]),
        np.array([item["lengths"] for item in found]),
        np.array([item["frequencies"] for item in found]),
        np.array([item["grid_frequencies"] for item in found]),
    )


def read_volume(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """One volume of a scan, as `scan_volumes` stored it.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    InputError
        The file is damaged, or something is missing in it.
    """
    stored = read_arrays(path, AGAIN)
    missing = sorted(set(STORED) - set(stored))
    if missing:
        raise InputError(f"{os.fspath(path)} lacks {', '.join(missing)}; {AGAIN}")
    shapes = [stored[name].ndim for name in ("cell", "positions", "frequencies", "grid_frequencies")]
    numbers = [stored[name] for name in STORED]
    if shapes != [2, 2, 2, 2] or not all(
        value.dtype.kind in "fi" and np.isfinite(value).all() for value in numbers
    ):
        raise InputError(f"{os.fspath(path)} holds no volume of a scan; {AGAIN}")
    return stored


def _at_strain(
    atoms: Atoms,
    calculator: Any,
    strain: float,
    dims: tuple[int, int, int],
    mesh: tuple[int, int, int],
    fmax: float,
) -> dict[str, Any]:
    scaled = atoms.copy()
    scaled.set_cell(atoms.cell.array * (1 + strain), scale_atoms=True)
    relaxed = relax(scaled, calculator, fmax=fmax, keep_symmetry=True, constant_volume=True)
    constants = harmonic_force_constants(relaxed.atoms, calculator, dims).with_acoustic_sum_rule()
    frequencies, on_grid = (_frequencies(constants, points, strain) for points in (mesh, dims))
    return {
        "strain": strain,
        "dims": np.array(dims),
        "mesh": np.array(mesh),
        "start": atoms.cell.array,
        "positions": relaxed.atoms.positions,
        "cell": relaxed.atoms.cell.array,
        "volume": relaxed.atoms.get_volume(),
        "energy": relaxed.energy,
        "lengths": relaxed.atoms.cell.lengths(),
        "frequencies": frequencies,
        "grid_frequencies": on_grid,
    }


def _frequencies(constants: ForceConstants, mesh: tuple[int, int, int], strain: float) -> np.ndarray:
    """On a Γ-centred mesh, translations zero; refused where one is imaginary."""
    points = np.indices(mesh).reshape(3, -1).T / np.array(mesh)
    frequencies = constants.frequencies(points)
    frequencies[0, np.argsort(np.abs(frequencies[0]))[:3]] = 0.0
    if frequencies.min() < -IMAGINARY_CM:
        q = points[int(frequencies.min(axis=1).argmin())]
        raise CalculationError(
            f"at a strain of {strain:g} the mode at q = {np.round(q, 4).tolist()} is imaginary "
            f"({frequencies.min():.1f} cm⁻¹): the quasi-harmonic free energy does not exist there; use the "
            "SSCHA (--method sscha), other strains (--strain), or follow the mode (himlip phonons --follow)"
        )
    return np.maximum(frequencies, 0.0)


def _check_stored(
    stored: dict[str, np.ndarray],
    atoms: Atoms,
    calculator: Any,
    strain: float,
    dims: tuple[int, int, int],
    mesh: tuple[int, int, int],
    path: Path,
    deep: bool,
) -> None:
    """Refuse a volume of another crystal, supercell, mesh or (for the first) calculator."""
    same = (
        np.array_equal(stored["dims"], dims)
        and np.array_equal(stored["mesh"], mesh)
        and abs(float(stored["strain"]) - strain) < 1e-12
        and np.abs(stored["start"] - atoms.cell.array).max() < 1e-4
        and stored["positions"].shape == atoms.positions.shape
    )
    if same and deep:
        again = atoms.copy()
        again.set_cell(stored["cell"])
        again.positions = stored["positions"]
        again.calc = calculator
        same = abs(again.get_potential_energy() - float(stored["energy"])) < SAME_ENERGY
    if not same:
        raise InputError(f"{path} belongs to another crystal, setting or potential; choose another --out")


def quasi_harmonic_expansion(
    scan: VolumeScan, temperatures_k: Sequence[float], pressure_gpa: float = 0.0, order: int = ORDER
) -> ThermalExpansion:
    """Equilibrium cells at several temperatures.

    Parameters
    ----------
    scan : VolumeScan
    temperatures_k : sequence of float
        K, 0 included.
    pressure_gpa : float
    order : int
        Of the polynomial in V^(-2/3); 3 is the Birch–Murnaghan form. The next one gives the error.

    Returns
    -------
    ThermalExpansion

    Raises
    ------
    InputError
        A negative temperature, or fewer volumes than a fit and its error need.
    CalculationError
        An equilibrium volume outside of the scan.
    """
    temperatures = np.unique(np.asarray(temperatures_k, dtype=float))
    if len(temperatures) == 0 or temperatures[0] < 0:
        raise InputError(f"temperatures must be 0 or positive (K); got {list(temperatures_k)}")
    if len(scan.volumes) < order + 2:
        raise InputError(f"order {order} and its error need {order + 2} volumes; got {len(scan.volumes)}")
    static, _ = _equilibrium(scan, scan.energies, pressure_gpa, order, "without vibrations")
    volumes, errors, alphas = [], [], []
    for temperature in temperatures:
        free, entropy = scan.vibrational(float(temperature))
        where = f"at {temperature:g} K"
        volume, curvature = _equilibrium(scan, scan.energies + free, pressure_gpa, order, where)
        other, _ = _equilibrium(scan, scan.energies + free, pressure_gpa, order + 1, where)
        volumes.append(volume)
        errors.append(abs(other - volume))
        alphas.append(_derivative(_fit(scan.volumes, entropy, order), volume, 1) / (volume * curvature) + 0.0)
    # lengths between volumes: their ratio to the cube root of the volume is constant but for the cell's shape
    root = np.cbrt(scan.volumes)[:, None]
    ratio = [np.polyfit(scan.volumes - scan.volumes.mean(), column, 2) for column in (scan.lengths / root).T]
    offsets = np.array(volumes) - scan.volumes.mean()
    shape = np.cbrt(volumes)[:, None] * np.array([np.polyval(part, offsets) for part in ratio]).T
    sigma = np.array(errors)
    return ThermalExpansion(
        "quasi-harmonic",
        float(pressure_gpa),
        temperatures,
        np.array(volumes),
        sigma,
        shape,
        shape * (sigma / np.array(volumes) / 3)[:, None],
        np.array(alphas),
        np.full(len(temperatures), np.nan),
        static,
        f"the order of the fit over {len(scan.volumes)} volumes",
    )


def _fit(volumes: np.ndarray, values: np.ndarray, order: int) -> tuple[np.ndarray, float]:
    """Coefficients in x = (V₀/V)^(2/3) - 1, and V₀."""
    reference = float(volumes.mean())
    x = (reference / volumes) ** (2 / 3) - 1
    return polynomial.polyfit(x, values, order), reference


def _derivative(fit: tuple[np.ndarray, float], volume: float, order: int) -> float:
    """First or second derivative with respect to V."""
    coefficients, reference = fit
    x = (reference / volume) ** (2 / 3) - 1
    slope = -2 / 3 * (x + 1) / volume
    first = polynomial.polyval(x, polynomial.polyder(coefficients))
    if order == 1:
        return float(first * slope)
    second = polynomial.polyval(x, polynomial.polyder(coefficients, 2))
    return float(second * slope**2 + first * 10 / 9 * (x + 1) / volume**2)


def _equilibrium(
    scan: VolumeScan, energies: np.ndarray, pressure_gpa: float, order: int, where: str
) -> tuple[float, float]:
    """Volume of the minimum of E + PV (Å³) and its second derivative (eV/Å⁶)."""
    from scipy.optimize import brentq

    fit = _fit(scan.volumes, energies, order)
    pressure = pressure_gpa * GPA_EV_PER_ANGSTROM3
    low, high = float(scan.volumes.min()), float(scan.volumes.max())
    ends = [_derivative(fit, volume, 1) + pressure for volume in (low, high)]
    if not ends[0] < 0 < ends[1]:
        side = "larger" if ends[1] <= 0 else "smaller"
        raise CalculationError(
            f"{where} the equilibrium lies outside of the volumes {low:.3f} to {high:.3f} Å³; give {side} "
            "strains (--strain)"
        )
    volume = float(brentq(lambda v: _derivative(fit, v, 1) + pressure, low, high, xtol=1e-10))
    return volume, _derivative(fit, volume, 2)
