"""What a larger supercell changes: frequencies at q-points that two grids share, free energy, pressure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.lattice import crystal_mismatch, grid_indices
from himlip_ase.sscha.cell import pressure_gpa
from himlip_ase.sscha.results.result import SschaResult

Value = tuple[float, float]
"""A difference and its standard error."""

LARGEST_STRAIN = 0.05
"""Between the cells of two runs that may be compared."""


@dataclass(frozen=True)
class GridDifference:
    """Fine grid minus coarse grid, with standard errors.

    Attributes
    ----------
    coarse, fine : (int, int, int)
    qpoints : ndarray, shape (k, 3)
        The q-points that lie on both grids.
    auxiliary, auxiliary_sigma : ndarray, shape (k, 3n)
        Change of the auxiliary frequencies, in ascending order at each q, cm⁻¹.
    hessian, hessian_sigma : ndarray, shape (k, 3n), or None
        The same for the free-energy Hessian.
    free_energy_mev : (float, float)
        Above the static lattice, per primitive cell.
    pressure_gpa : (float, float) or None
    """

    coarse: tuple[int, int, int]
    fine: tuple[int, int, int]
    qpoints: np.ndarray
    auxiliary: np.ndarray
    auxiliary_sigma: np.ndarray
    hessian: np.ndarray | None
    hessian_sigma: np.ndarray | None
    free_energy_mev: Value
    pressure_gpa: Value | None

    def largest(self, kind: str = "auxiliary") -> Value:
        """The change of largest size among all modes (cm⁻¹) and its standard error."""
        change, sigma = getattr(self, kind), getattr(self, f"{kind}_sigma")
        place = np.unravel_index(np.abs(change).argmax(), change.shape)
        return float(change[place]), float(sigma[place])

    def rms(self, kind: str = "auxiliary") -> float:
        """Root mean square change over all modes but the translations, cm⁻¹."""
        change = getattr(self, kind)
        return float(np.sqrt((change**2).sum() / (change.size - 3)))

    def sentence(self) -> str:
        """All of it for people."""
        parts = [
            f"free energy {_text(self.free_energy_mev)} meV/cell",
            f"auxiliary frequencies at common q {self.rms():.1f} cm⁻¹ rms, at most "
            f"{_text(self.largest(), 1)} cm⁻¹",
        ]
        if self.hessian is not None:
            parts.append(
                f"free-energy Hessian {self.rms('hessian'):.1f} cm⁻¹ rms, at most "
                f"{_text(self.largest('hessian'), 1)} cm⁻¹"
            )
        if self.pressure_gpa is not None:
            parts.append(f"pressure {_text(self.pressure_gpa)} GPa")
        return f"{_name(self.fine)} minus {_name(self.coarse)}: " + "; ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "coarse": list(self.coarse),
            "fine": list(self.fine),
            "qpoints": self.qpoints.tolist(),
            "free_energy_mev": list(self.free_energy_mev),
            "pressure_gpa": None if self.pressure_gpa is None else list(self.pressure_gpa),
            **{
                name: None if (value := getattr(self, name)) is None else value.tolist()
                for name in ("auxiliary", "auxiliary_sigma", "hessian", "hessian_sigma")
            },
        }


def compare_grids(coarse: SschaResult, fine: SschaResult) -> GridDifference:
    """Difference of two runs of the same crystal on two grids.

    Parameters
    ----------
    coarse, fine : SschaResult

    Returns
    -------
    GridDifference

    Raises
    ------
    InputError
        The crystals differ in species, or their cells by more than 5 %.
    """
    one, two = coarse.auxiliary, fine.auxiliary
    largest = LARGEST_STRAIN * float(np.linalg.norm(one.primitive.cell.array, axis=1).max())
    reason = crystal_mismatch(one.primitive, two.primitive, cell=largest, position=np.inf)
    if reason is not None:
        raise InputError(
            f"the two runs are of different crystals: {reason}; compare grids of the same primitive cell"
        )
    places = grid_indices(one.qpoints, two.dims)
    here = np.flatnonzero(places >= 0)
    there = places[here]

    def change(values: np.ndarray, others: np.ndarray) -> np.ndarray:
        return others[there] - values[here]

    def joined(values: np.ndarray, others: np.ndarray) -> np.ndarray:
        return np.hypot(others[there], values[here])

    hessian = hessian_sigma = pressure = None
    if coarse.hessian is not None and fine.hessian is not None:
        assert coarse.hessian_sigma_cm is not None and fine.hessian_sigma_cm is not None
        hessian = change(coarse.hessian.frequencies(), fine.hessian.frequencies())
        hessian_sigma = joined(coarse.hessian_sigma_cm, fine.hessian_sigma_cm)
    if coarse.stress is not None and fine.stress is not None:
        assert coarse.stress_sigma is not None and fine.stress_sigma is not None
        first, second = (pressure_gpa(r.stress, r.stress_sigma) for r in (coarse, fine))  # type: ignore[arg-type]
        pressure = second[0] - first[0], float(np.hypot(first[1], second[1]))
    return GridDifference(
        one.dims,
        two.dims,
        one.qpoints[here],
        change(one.frequencies(), two.frequencies()),
        joined(coarse.auxiliary_sigma_cm, fine.auxiliary_sigma_cm),
        hessian,
        hessian_sigma,
        (
            1e3 * (fine.free_energy - coarse.free_energy),
            1e3 * float(np.hypot(fine.free_energy_sigma, coarse.free_energy_sigma)),
        ),
        pressure,
    )


def _name(dims: tuple[int, int, int]) -> str:
    return "×".join(map(str, dims))


def _text(value: Value, digits: int = 2) -> str:
    return f"{value[0]:+.{digits}f} ± {value[1]:.{digits}f}"
