"""α²F(ω) as an integral over the Brillouin zone: linear tetrahedra, or Gaussians of adaptive width.

Both take a `ModeCoupling` on a dense mesh, so that frequencies and couplings between its points may be taken
as linear. The plain sum over the mesh needs neither; it gives the same λ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from himlip_ase import units
from himlip_ase.errors import InputError
from himlip_ase.superconductivity.coupling import ModeCoupling
from himlip_ase.superconductivity.spectrum import Alpha2F, Spectrum

Integration = Literal["sum", "tetrahedron", "gaussian"]
Quantity = Literal["lambda", "linewidth"]


@dataclass(frozen=True)
class ZoneIntegral:
    """α²F of a mesh, and the spectrum that stands for it.

    Attributes
    ----------
    curve : Alpha2F
        α²F(ω) and cumulative λ.
    elements : dict of str to Alpha2F
        Shares |e_qν,a|² of each element; they add up to `curve`.
    spectrum : Spectrum
        λ of each interval of ω at its middle, with problems and caveats of the mesh.
    """

    curve: Alpha2F
    elements: dict[str, Alpha2F]
    spectrum: Spectrum


def integrate_zone(
    coupling: ModeCoupling,
    method: Integration = "tetrahedron",
    points: int = 400,
    quantity: Quantity = "lambda",
    broadening: float = 1.0,
) -> ZoneIntegral:
    """α²F(ω) = Σ_qν w_q ½ω λ_qν δ(ω − ω_qν) as a smooth curve.

    Parameters
    ----------
    coupling : ModeCoupling
        On a mesh dense enough for linear interpolation between its points.
    method : {"tetrahedron", "gaussian", "sum"}
        "tetrahedron": linear tetrahedra (phonopy's), each cell of the mesh cut along its shortest diagonal.
        "gaussian": a Gaussian for each mode whose width follows the slope of its band (Yates et al., PRB 75,
        195121 (2007)): `broadening` × the root of the summed squares of its change per step of the mesh.
        "sum": a histogram.
    points : int
        Points of ω from 0 to above the highest phonon.
    quantity : {"lambda", "linewidth"}
        What is interpolated linearly inside a tetrahedron: λ_qν, which conserves Σλ of the mesh, or γ_qν,
        as matdyn.x does for its ``a2F.dos``; the two differ by the error of the mesh.
    broadening : float

    Returns
    -------
    ZoneIntegral

    Raises
    ------
    InputError
        An unknown method or quantity; no mode that couples; fewer than 10 points.
    """
    if method not in get_args(Integration) or quantity not in get_args(Quantity):
        raise InputError(
            f"method {method!r}, quantity {quantity!r}; say one of {', '.join(get_args(Integration))}, and "
            f"one of {', '.join(get_args(Quantity))}"
        )
    if points < 10 or not coupling.summed.any() or not broadening > 0:
        raise InputError("integrate_zone wants ≥ 10 points, a broadening > 0 and a mode that couples")
    frequencies = coupling.frequencies_cm
    top = float(frequencies[coupling.summed].max())
    omega = np.linspace(0.0, 1.05 * top, points)
    symbols = np.array(coupling.primitive.get_chemical_symbols())
    names = [str(symbol) for symbol in dict.fromkeys(symbols)]
    shares = np.stack([coupling.atom_weights[:, :, symbols == s].sum(axis=2) for s in names], axis=2)
    # the mesh's weights are 1/N_q in every method: what Γ's convention changes goes into the modes
    modes = coupling.lambdas * coupling.summed * (coupling.weights * len(coupling.weights))[:, None]
    if quantity == "linewidth":
        modes = modes * frequencies**2
    values = modes[:, :, None] * shares
    if method == "tetrahedron":
        cumulative = _tetrahedra(coupling, values, omega)
    elif method == "gaussian":
        cumulative = _gaussians(coupling, values, omega, broadening)
    else:
        cumulative = _histogram(coupling, values, omega)
    steps = np.diff(cumulative, axis=0, prepend=cumulative[:1])
    if quantity == "linewidth":
        middle = np.maximum(omega - 0.5 * omega[1], 0.5 * omega[1])
        steps = steps / middle[:, None] ** 2
    steps[0] = 0.0
    curves = {name: _curve(omega, steps[:, i]) for i, name in enumerate(names)}
    total = steps.sum(axis=1)
    keep = total != 0
    problems, caveats = coupling.judgement()
    how = {"tetrahedron": "linear tetrahedra", "gaussian": "Gaussians of adaptive width", "sum": "histogram"}
    spectrum = Spectrum(
        (omega[keep] - 0.5 * omega[1]) / units.EV_CM,
        total[keep],
        problems,
        (*caveats, f"α²F by {how[method]}"),
    )
    return ZoneIntegral(_curve(omega, total), curves, spectrum)


def _curve(omega: np.ndarray, steps: np.ndarray) -> Alpha2F:
    """Curve at the points of ω from the λ of the intervals that end there."""
    density = steps / omega[1]
    at_points = 0.5 * (density + np.append(density[1:], 0.0))
    return Alpha2F(omega, 0.5 * omega * at_points, np.cumsum(steps))


def _tetrahedra(coupling: ModeCoupling, values: np.ndarray, omega: np.ndarray) -> np.ndarray:
    from phonopy.phonon.grid import BZGrid
    from phonopy.phonon.spectrum import TetrahedronDOSAccumulator

    grid = BZGrid(list(coupling.dims), lattice=coupling.primitive.cell.array)
    address = grid.addresses[grid.grg2bzg] / np.array(coupling.dims)
    place = (address - coupling.qpoints + 0.5) % 1 - 0.5
    if np.abs(place).max() > 1e-6:
        raise InputError("this version of phonopy numbers the mesh otherwise; take method='gaussian'")
    result = TetrahedronDOSAccumulator(
        coupling.frequencies_cm, grid, mode_property=values[None], sampling_points=omega
    ).result
    return np.asarray(result.cumulative[0])


def _gaussians(
    coupling: ModeCoupling, values: np.ndarray, omega: np.ndarray, broadening: float
) -> np.ndarray:
    from scipy.special import erf

    widths = np.maximum(broadening * band_steps(coupling), 0.5 * omega[1])
    mask = (values != 0).any(axis=2)
    centres, widths, values = coupling.frequencies_cm[mask], widths[mask], values[mask]
    cumulative = np.zeros((len(omega), values.shape[1]))
    for start in range(0, len(centres), 4000):
        part = slice(start, start + 4000)
        x = (omega[:, None] - centres[part]) / (np.sqrt(2) * widths[part])
        # a Gaussian is cut off at ω = 0 and at the end, and scaled so that λ is kept
        cumulative += ((erf(x) - erf(x[0])) / (erf(x[-1]) - erf(x[0]))) @ values[part]
    return cumulative / len(coupling.qpoints)


def _histogram(coupling: ModeCoupling, values: np.ndarray, omega: np.ndarray) -> np.ndarray:
    place = np.searchsorted(omega, coupling.frequencies_cm)
    steps = np.zeros((len(omega), values.shape[2]))
    mask = (values != 0).any(axis=2)
    np.add.at(steps, place[mask], values[mask])
    return np.cumsum(steps, axis=0) / len(coupling.qpoints)


def band_steps(coupling: ModeCoupling) -> np.ndarray:
    """Root of the summed squares of the changes of each frequency per step of the mesh, (nq, 3n), cm⁻¹."""
    d1, d2, d3 = coupling.dims
    grid = coupling.frequencies_cm.reshape(d3, d2, d1, -1)
    changes = [0.5 * (np.roll(grid, -1, axis) - np.roll(grid, 1, axis)) for axis in range(3)]
    return np.sqrt(np.sum(np.square(changes), axis=0)).reshape(coupling.frequencies_cm.shape)
