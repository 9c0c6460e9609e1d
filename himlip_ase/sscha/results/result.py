"""What an SSCHA run found, with its uncertainties, and its files."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.files import write_json
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.qe import write_dyn
from himlip_ase.sscha.array_files import load_arrays, load_json, pack, restoring, save_arrays, unpack
from himlip_ase.sscha.settings import SschaSettings

SCHEMA = 1


@dataclass(frozen=True)
class PopulationRecord:
    """One population in figures; energies in eV per primitive cell.

    Attributes
    ----------
    number : int
        From 1.
    ended : str
        "gradient", "kong-liu", "steps" or "stuck".
    steps : int
        Minimiser steps.
    kong_liu : float
        Kong-Liu ratio at the end.
    free_energy, free_energy_sigma : float
        At the end, relative to the static energy of the starting centroids; with weights, so optimistic.
    fresh_rms_z, fresh_max_z, fresh_shift_cm : float
        Test of the auxiliary this population began with (see
        :class:`~himlip_ase.sscha.convergence.verdict.FreshTest`).
    drift_cm : float
        Largest change of an auxiliary frequency over this population, cm⁻¹.
    shortest_distance, largest_displacement : float
        Å, in the ensemble.
    n_configurations : int
        Size of the ensemble.
    reused : bool
        Whether the ensemble is a neighbouring run's, reweighted, so that no forces were computed.
    error_cm : float
        Largest standard error of an auxiliary frequency at the end, cm⁻¹.
    pressure_gpa, pressure_sigma_gpa : float or None
        Of the quantum crystal at the end, with weights; None where the forces came without stresses.
    volume : float
        Of the primitive cell, Å³.
    rounding : float or None
        See :class:`~himlip_ase.sscha.ensembles.ensemble.Ensemble`.
    """

    number: int
    ended: str
    steps: int
    kong_liu: float
    free_energy: float
    free_energy_sigma: float
    fresh_rms_z: float
    fresh_max_z: float
    fresh_shift_cm: float
    drift_cm: float
    shortest_distance: float
    largest_displacement: float
    n_configurations: int = 0
    reused: bool = False
    error_cm: float = 0.0
    pressure_gpa: float | None = None
    pressure_sigma_gpa: float | None = None
    volume: float = 0.0
    rounding: float | None = None


@dataclass(frozen=True)
class History:
    """Every minimiser step of the run in a row.

    Attributes
    ----------
    population : ndarray of int, shape (steps,)
    free_energy, free_energy_sigma : ndarray, shape (steps,)
        eV per primitive cell, relative to the static energy.
    gradient_population : ndarray of int, shape (gradients,)
    gradient, gradient_sigma : ndarray, shape (gradients,)
        Modulus of the preconditioned gradient and its error before each step, eV/Å²; a population has one
        gradient less than free energies.
    kong_liu : ndarray, shape (steps,)
        Effective sample size over the number of configurations.
    frequencies : ndarray, shape (gradients, 3N)
        All modes of the supercell after each step, cm⁻¹, ascending.
    """

    population: np.ndarray
    free_energy: np.ndarray
    free_energy_sigma: np.ndarray
    gradient_population: np.ndarray
    gradient: np.ndarray
    gradient_sigma: np.ndarray
    kong_liu: np.ndarray
    frequencies: np.ndarray


@dataclass(frozen=True)
class SschaResult:
    """Auxiliary phonons, free energy and free-energy Hessian of a run.

    Attributes
    ----------
    settings : SschaSettings
        What was asked.
    converged : bool
        Whether the figures may be used.
    verdict : str
        Why, in a sentence.
    auxiliary : DynamicalMatrices
        SSCHA auxiliary force constants around the centroids.  Positive by construction: it says nothing on
        stability.
    auxiliary_sigma_cm : ndarray, shape (nq, 3n)
        Standard error of its frequencies, cm⁻¹, without the response of the minimum to the noise.
    static_energy : float
        Energy with every atom on its starting centroid, eV per primitive cell.
    free_energy, free_energy_sigma : float
        SSCHA free energy relative to `static_energy` and its standard error, eV per primitive cell.
    stress, stress_sigma : ndarray, shape (6,), or None
        Of the quantum crystal, ASE Voigt, eV/Å³, positive in tension.
    hessian : DynamicalMatrices or None
        Free-energy Hessian with the terms of ``settings.hessian_order``; its negative eigenvalues are
        instabilities.
    hessian_sigma_cm : ndarray, shape (nq, 3n), or None
        Standard error of its frequencies, cm⁻¹: bootstrap over pairs of configurations joined with the
        auxiliary's noise.
    hessian_bias_cm : ndarray, shape (nq, 3n), or None
        Estimate of the finite-ensemble bias of its frequencies (not subtracted), cm⁻¹.
    hessian_kong_liu : float or None
        Kong-Liu ratio of the Hessian's ensemble; 1 for a fresh draw.
    populations : list of PopulationRecord
    populations_settled : bool
        Whether the loop ended by itself, before its limit; the final ensemble may still disagree.
    history : History
    initial_changed : ndarray, shape (k, 4)
        Modes that were imaginary or too soft at the start: q and wavenumber (cm⁻¹).
    engine : str
        Name and version.
    force_calls, force_calls_saved : int
        Supercells whose forces the run needed, and those it had from a neighbouring run instead.
    auxiliary_blocks : ndarray, shape (blocks, nq, 3n, 3n), or None
        What each block of its ensemble, taken alone, would change in the auxiliary, eV/Å²; their mean has
        the error `auxiliary_sigma_cm`.
    hessian_changes : ndarray, shape (k, nq, 3n, 3n), or None
        Changes of the whole Hessian in bootstrap samples of its ensemble, eV/Å².
    final_rounding : float or None
        `rounding` of the final ensemble, see :class:`~himlip_ase.sscha.ensembles.ensemble.Ensemble`.
    """

    settings: SschaSettings
    converged: bool
    verdict: str
    auxiliary: DynamicalMatrices
    auxiliary_sigma_cm: np.ndarray
    static_energy: float
    free_energy: float
    free_energy_sigma: float
    stress: np.ndarray | None
    stress_sigma: np.ndarray | None
    hessian: DynamicalMatrices | None
    hessian_sigma_cm: np.ndarray | None
    hessian_bias_cm: np.ndarray | None
    hessian_kong_liu: float | None
    populations: list[PopulationRecord]
    populations_settled: bool
    history: History
    initial_changed: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    engine: str = "native"
    force_calls: int = 0
    force_calls_saved: int = 0
    auxiliary_blocks: np.ndarray | None = None
    hessian_changes: np.ndarray | None = None
    final_rounding: float | None = None

    @property
    def centroids(self) -> Atoms:
        """Primitive cell with the atoms on their centroids (Å) and their masses (amu)."""
        return self.auxiliary.primitive.copy()

    def frequencies(self) -> np.ndarray:
        """Auxiliary frequencies (nq, 3n) in cm⁻¹."""
        return self.auxiliary.frequencies()

    def hessian_frequencies(self) -> np.ndarray | None:
        """Frequencies of the free-energy Hessian (nq, 3n) in cm⁻¹, imaginary negative."""
        return None if self.hessian is None else self.hessian.frequencies()

    def save(self, folder: str | os.PathLike, overwrite: bool = False) -> None:
        """Write ``result.json`` (figures), ``result.npz`` (exact arrays) and dyn files for others.

        Parameters
        ----------
        folder : path-like
        overwrite : bool
            Whether existing files may be replaced.

        Raises
        ------
        InputError
            The files exist and `overwrite` is False.
        """
        folder = Path(folder)
        marker = folder / "result.json"
        if marker.exists() and not overwrite:
            raise InputError(f"{marker} exists already; pass overwrite=True or choose another folder")
        arrays = {
            **pack("auxiliary", self.auxiliary),
            "auxiliary_sigma_cm": self.auxiliary_sigma_cm,
            "initial_changed": self.initial_changed,
            **{f"history_{name}": value for name, value in vars(self.history).items()},
        }
        if self.hessian is not None:
            arrays |= pack("hessian", self.hessian)
        optional = ("stress", "stress_sigma", "hessian_sigma_cm", "hessian_bias_cm")
        for name in (*optional, "auxiliary_blocks", "hessian_changes"):
            if (value := getattr(self, name)) is not None:
                arrays[name] = value
        save_arrays(folder / "result.npz", arrays, overwrite=True)
        write_dyn(self.auxiliary, folder / "auxiliary.dyn", overwrite=True)
        if self.hessian is not None:
            write_dyn(self.hessian, folder / "hessian.dyn", overwrite=True)
        write_json(marker, self.as_dict(), overwrite=True, seal=True)

    def as_dict(self) -> dict[str, Any]:
        """Figures with units and uncertainties, ready for JSON."""
        hessian = None
        if self.hessian is not None and self.hessian_sigma_cm is not None:
            hessian = {
                "frequencies": _figure(self.hessian.frequencies(), "cm^-1", self.hessian_sigma_cm),
                "bias_estimate": _figure(self.hessian_bias_cm, "cm^-1"),
                "kong_liu": self.hessian_kong_liu,
                "method": f"terms of {self.settings.hessian_order} order on the final ensemble; 1 sigma: "
                "bootstrap over pairs of configurations, joined with the auxiliary's noise",
            }
        return {
            "schema": SCHEMA,
            "engine": self.engine,
            "settings": self.settings.as_dict(),
            "converged": self.converged,
            "verdict": self.verdict,
            "populations_settled": self.populations_settled,
            "static_energy": _figure(self.static_energy, "eV/primitive cell"),
            "free_energy": _figure(self.free_energy, "eV/primitive cell", self.free_energy_sigma),
            "stress": None
            if self.stress is None
            else _figure(self.stress, "eV/Å^3, Voigt, positive in tension", self.stress_sigma),
            "qpoints": self.auxiliary.qpoints.tolist(),
            "auxiliary": {
                "frequencies": _figure(self.auxiliary.frequencies(), "cm^-1", self.auxiliary_sigma_cm),
                "method": "self-consistency residual of the last population, blocks of the ensemble",
            },
            "hessian": hessian,
            "initial_changed": self.initial_changed.tolist(),
            "cell": _figure(self.auxiliary.primitive.cell.array, "Å, rows"),
            "masses": _figure(self.auxiliary.primitive.get_masses(), "amu"),
            "force_calls": self.force_calls,
            "force_calls_saved": self.force_calls_saved,
            "final_rounding": _figure(self.final_rounding, "standard errors of averages"),
            "populations": [dataclasses.asdict(record) for record in self.populations],
        }


def _figure(value: Any, unit: str, uncertainty: Any = None) -> dict[str, Any]:
    return {
        "value": np.asarray(value).tolist(),
        "unit": unit,
        "uncertainty": None if uncertainty is None else np.asarray(uncertainty).tolist(),
    }


def load_result(folder: str | os.PathLike) -> SschaResult:
    """Read what :meth:`SschaResult.save` wrote.

    Raises
    ------
    InputError
        The folder holds no result, or one of another schema.
    CalculationError
        Its files are damaged.
    """
    folder = Path(folder)
    path = folder / "result.json"
    if not path.exists():
        raise InputError(f"{folder} holds no result.json; run `himlip sscha` there first")
    data = load_json(path)
    if data.get("schema") != SCHEMA:
        raise InputError(f"{path} has schema {data.get('schema')!r}; this version reads {SCHEMA}")
    arrays = load_arrays(folder / "result.npz")
    with restoring(path):
        names = [item.name for item in dataclasses.fields(History)]
        hessian = data["hessian"]
        return SschaResult(
            settings=SschaSettings(**data["settings"]),
            converged=data["converged"],
            verdict=data["verdict"],
            auxiliary=unpack("auxiliary", arrays),
            auxiliary_sigma_cm=arrays["auxiliary_sigma_cm"],
            static_energy=data["static_energy"]["value"],
            free_energy=data["free_energy"]["value"],
            free_energy_sigma=data["free_energy"]["uncertainty"],
            stress=arrays.get("stress"),
            stress_sigma=arrays.get("stress_sigma"),
            hessian=None if hessian is None else unpack("hessian", arrays),
            hessian_sigma_cm=arrays.get("hessian_sigma_cm"),
            hessian_bias_cm=arrays.get("hessian_bias_cm"),
            auxiliary_blocks=arrays.get("auxiliary_blocks"),
            hessian_changes=arrays.get("hessian_changes"),
            hessian_kong_liu=None if hessian is None else hessian["kong_liu"],
            populations=[PopulationRecord(**record) for record in data["populations"]],
            populations_settled=data["populations_settled"],
            history=History(**{name: arrays[f"history_{name}"] for name in names}),
            initial_changed=arrays["initial_changed"],
            engine=data["engine"],
            force_calls=data.get("force_calls", 0),
            force_calls_saved=data.get("force_calls_saved", 0),
            final_rounding=data.get("final_rounding", {}).get("value"),
        )
