"""What an SSCHA run is asked to do."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from himlip_ase.errors import InputError
from himlip_ase.registry import Registry
from himlip_ase.sscha.choices import ENGINES, HESSIAN_ORDERS, MINIMISERS, PRECISIONS, SAMPLINGS

CHOICES: dict[str, Registry[Any]] = {
    "engine": ENGINES,
    "minimiser": MINIMISERS,
    "sampling": SAMPLINGS,
    "hessian_order": HESSIAN_ORDERS,
    "precision": PRECISIONS,
}
"""Settings that name an entry of a registry."""


@dataclass(frozen=True)
class SschaSettings:
    """Settings of a run; the defaults are those of the Hi-MLIP paper where it gives one.

    Parameters
    ----------
    n_configurations : int
        Configurations of one population, even (each is drawn with its opposite).
    max_populations : int
        Populations after which the run stops unconverged.
    temperature_k : float
        Temperature in kelvin; 0 is the quantum ground state.
    step : float
        First step of the line search, which lets it grow by 1.5 with each accepted direction.
    kong_liu : float
        Effective sample size over n_configurations below which a new population is drawn.
    meaningful_factor : float
        A population is minimised until its gradient is this fraction of the gradient's error.
    max_steps : int
        Minimiser steps of one population after which it is stopped.
    seed : int
        Population p draws from the stream (seed, p): a resumed run draws what an unbroken one would.
    n_hessian_configurations : int
        Fresh configurations drawn from the final auxiliary for the free-energy Hessian, the last
        convergence test and the quoted free energy, even; 0 leaves the Hessian out.
    n_blocks : int
        Blocks into which an ensemble is split for error bars.
    minimise_structure : bool
        Move the centroids too (those the symmetry leaves free).
    significance : float
        Largest root mean square, over modes, of (change that a fresh ensemble still asks for) / (its
        standard error) that counts as converged; pure noise gives about 1.
    frequency_error_cm : float or None
        Largest standard error of an auxiliary frequency wanted, cm⁻¹: once the gradient is noise, the
        following populations grow until it is reached.  None: all populations have n_configurations.
    max_configurations : int
        Configurations that a growing population never exceeds, even.
    pressure_gpa : float or None
        Pressure of the quantum crystal to which the cell is relaxed, GPa; None keeps the cell.
    engine : str
        What minimises the free energy: a name of :data:`~himlip_ase.sscha.choices.ENGINES`.
    minimiser : str
        Of the native engine: a name of :data:`~himlip_ase.sscha.choices.MINIMISERS`.
    sampling : str
        How configurations are drawn: a name of :data:`~himlip_ase.sscha.choices.SAMPLINGS`.
    hessian_order : str
        SSCHA force constants that enter the free-energy Hessian beside the auxiliary: a name of
        :data:`~himlip_ase.sscha.choices.HESSIAN_ORDERS`.
    precision : str
        Of the potential's forces, decided for each ensemble: a name of
        :data:`~himlip_ase.sscha.choices.PRECISIONS`.
    """

    n_configurations: int = 500
    max_populations: int = 30
    temperature_k: float = 0.0
    step: float = 0.002
    kong_liu: float = 0.5
    meaningful_factor: float = 0.001
    max_steps: int = 500
    seed: int = 0
    n_hessian_configurations: int = 2000
    n_blocks: int = 20
    minimise_structure: bool = True
    significance: float = 2.0
    frequency_error_cm: float | None = None
    max_configurations: int = 8000
    pressure_gpa: float | None = None
    engine: str = "native"
    minimiser: str = "anderson"
    sampling: str = "pairs"
    hessian_order: str = "third+fourth"
    precision: str = "auto"

    def __post_init__(self) -> None:
        for name in (
            "n_configurations",
            "max_populations",
            "max_steps",
            "seed",
            "n_hessian_configurations",
            "n_blocks",
            "max_configurations",
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise InputError(f"{name} is {value!r}; give an integer")
        floats = ("temperature_k", "step", "kong_liu", "meaningful_factor", "significance")
        optional = ("frequency_error_cm", "pressure_gpa")
        for name in floats + tuple(name for name in optional if getattr(self, name) is not None):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise InputError(f"{name} is {value!r}; give a finite number")
        checks = [
            ("n_blocks", self.n_blocks >= 4, "at least 4"),
            (
                "n_configurations",
                self.n_configurations >= 2 * self.n_blocks and self.n_configurations % 2 == 0,
                f"an even number of at least 2 n_blocks = {2 * self.n_blocks}",
            ),
            (
                "n_hessian_configurations",
                self.n_hessian_configurations == 0
                or (
                    self.n_hessian_configurations >= 2 * self.n_blocks
                    and self.n_hessian_configurations % 2 == 0
                ),
                f"0 or an even number of at least 2 n_blocks = {2 * self.n_blocks}",
            ),
            ("max_populations", self.max_populations >= 1, "at least 1"),
            ("max_steps", self.max_steps >= 1, "at least 1"),
            ("seed", self.seed >= 0, "0 or a positive integer"),
            ("temperature_k", self.temperature_k >= 0, "0 or a positive number of kelvin"),
            ("step", self.step > 0, "a positive number"),
            ("kong_liu", 0 < self.kong_liu < 1, "a number between 0 and 1"),
            ("meaningful_factor", self.meaningful_factor > 0, "a positive number"),
            ("significance", self.significance > 0, "a positive number"),
            (
                "frequency_error_cm",
                self.frequency_error_cm is None or self.frequency_error_cm > 0,
                "a positive number of cm⁻¹, or None",
            ),
            (
                "max_configurations",
                self.frequency_error_cm is None
                or (self.max_configurations >= self.n_configurations and self.max_configurations % 2 == 0),
                f"an even number of at least n_configurations = {self.n_configurations}",
            ),
            *(
                (name, getattr(self, name) in registry, f"one of {', '.join(registry.names())}")
                for name, registry in CHOICES.items()
            ),
        ]
        for name, good, allowed in checks:
            if not good:
                raise InputError(f"{name} is {getattr(self, name)!r}; give {allowed}")

    def as_dict(self) -> dict[str, Any]:
        """All settings by name, ready for JSON."""
        return dataclasses.asdict(self)
