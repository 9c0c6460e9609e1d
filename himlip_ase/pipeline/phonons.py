"""The ``phonons`` stage: harmonic phonons of DFT and potential, and the double well of the softest mode."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from scipy.interpolate import CubicHermiteSpline

from himlip_ase.labels.displacements import softest_gamma_mode
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.pipeline.finetune import load_trained
from himlip_ase.pipeline.labels import DOUBLE_WELL, LabelFolder, label_folder
from himlip_ase.pipeline.stages import Context, Outcome, Stage, save_data

if TYPE_CHECKING:
    from himlip_ase.potential.interface import Potential

HIMLIP_DYN = "himlip.dyn"
HIMLIP_NO_HESSIAN_DYN = "himlip_no_hessian.dyn"
WELL = "doublewell.json"
WELL_THRESHOLD_EV = 1e-5
"""A minimum beside the symmetric site that is less deep (per cell) is noise, and no double well."""


@dataclass(frozen=True)
class Well:
    """Energy along one displacement pattern of the primitive cell.

    Attributes
    ----------
    amplitudes : ndarray (n,)
        Euclidean norm of the displacements of all atoms of the cell, Å.
    energies : ndarray (n,)
        eV per primitive cell, relative to amplitude 0.
    position, depth : float
        Amplitude (Å) of the minimum and its depth (eV per cell, positive); 0 and 0 for a single well.
    """

    amplitudes: np.ndarray
    energies: np.ndarray
    position: float
    depth: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "amplitudes_angstrom": self.amplitudes.tolist(),
            "energies_ev": self.energies.tolist(),
            "position_angstrom": self.position,
            "depth_ev": self.depth,
        }


def fit_well(amplitudes: np.ndarray, energies: np.ndarray, slopes: np.ndarray) -> Well:
    """The well through points along a mode, by cubic Hermite interpolation.

    Parameters
    ----------
    amplitudes : ndarray (n,)
        Å, from 0; any order.
    energies, slopes : ndarray (n,)
        eV and eV/Å, energy and its derivative with respect to the amplitude. No form of the well is assumed.

    Returns
    -------
    Well
    """
    order = np.argsort(amplitudes)
    amplitudes, energies, slopes = (np.asarray(x, dtype=float)[order] for x in (amplitudes, energies, slopes))
    energies = energies - energies[0]
    fine = np.linspace(amplitudes[0], amplitudes[-1], 4001)
    return Well(amplitudes, energies, *_bottom(fine, CubicHermiteSpline(amplitudes, energies, slopes)(fine)))


def _bottom(amplitudes: np.ndarray, energies: np.ndarray) -> tuple[float, float]:
    """Position and depth of the minimum; 0 and 0 for a single well."""
    lowest = int(np.argmin(energies))
    depth = float(-energies[lowest])
    return (float(amplitudes[lowest]), depth) if depth > WELL_THRESHOLD_EV else (0.0, 0.0)


def dft_well(labels: LabelFolder, name: str = DOUBLE_WELL) -> tuple[np.ndarray, Well] | None:
    """Displacement pattern (n, 3) of norm 1, and well, of a ``doublewell`` set; None without one.

    Parameters
    ----------
    labels : LabelFolder
    name : str
        Of the set.

    Returns
    -------
    pattern : (n, 3) ndarray
        Of norm 1.
    well : Well
    """
    if name not in labels.sets():
        return None
    frames = [f for f in labels.frames([name]) if f.energy is not None and f.forces is not None]
    crystal = labels.crystal
    shifts = []
    for frame in frames:
        shift = frame.atoms.positions - crystal.positions
        shift -= np.rint(shift @ np.linalg.inv(crystal.cell.array)) @ crystal.cell.array
        shifts.append(shift)
    displacements = np.array(shifts)
    farthest = displacements[np.linalg.norm(displacements, axis=(1, 2)).argmax()]
    pattern = farthest / np.linalg.norm(farthest)
    amplitudes = np.einsum("nia,ia->n", displacements, pattern)
    energies = np.array([frame.energy for frame in frames], dtype=float)
    slopes = np.array([-np.sum(frame.forces * pattern) for frame in frames])
    return pattern, fit_well(amplitudes, energies, slopes)


def model_well(
    model: Potential, crystal: Atoms, pattern: np.ndarray, largest: float, points: int = 81
) -> Well:
    """The well of a potential along `pattern`, on a fine scan from 0 to `largest` Å.

    Parameters
    ----------
    model : Potential
    crystal : Atoms
    pattern : (n, 3) ndarray
        Displacements of norm 1.
    largest : float
        Å.
    points : int

    Returns
    -------
    Well
    """
    from himlip_ase.potential.evaluate import evaluate

    amplitudes = np.linspace(0.0, largest, points)
    images = []
    for amplitude in amplitudes:
        image = crystal.copy()
        image.positions += amplitude * pattern
        images.append(image)
    energies = np.asarray(evaluate(model, images, stress=False).energies)
    energies = energies - energies[0]
    return Well(amplitudes, energies, *_bottom(amplitudes, energies))


def _run(context: Context, folder: Path) -> Outcome:
    from himlip_ase.calculator import HiMLIPCalculator
    from himlip_ase.phonons.harmonic import harmonic_force_constants
    from himlip_ase.phonons.phonopy_io import write_phonopy_params
    from himlip_ase.phonons.qe import write_dyn

    labels = label_folder(context)
    dft = labels.harmonic
    outcome = Outcome()
    wells: dict[str, Any] = {}
    pattern: np.ndarray | None = None
    if len(dft.primitive) > 1:
        pattern, lowest = softest_gamma_mode(dft)
        outcome.add("gamma_optical_lowest.dft", lowest, "cm⁻¹", "DFT, harmonic; imaginary shown negative")
    reference = dft_well(labels)
    if reference is not None:
        pattern, well = reference
        wells["dft"] = well.to_dict()
        for name in labels.sets():
            other = dft_well(labels, name) if name.startswith(f"{DOUBLE_WELL}_") else None
            if other is not None:
                key = f"dft{name.removeprefix(DOUBLE_WELL)}"
                wells[key] = other[1].to_dict()
                _quote_well(outcome, other[1], key, f"the same from the set {name}")
        _quote_well(
            outcome,
            well,
            "dft",
            "DFT single points along the softest Γ mode, Hermite interpolation of energies and forces",
        )
    largest = float(np.abs(reference[1].amplitudes).max()) if reference else 0.35
    for without, prefix, key in (
        (False, HIMLIP_DYN, "with_hessian"),
        (True, HIMLIP_NO_HESSIAN_DYN, "without_hessian"),
    ):
        model = load_trained(context, without)
        if model is None:
            continue
        words = "potential trained without the Hessian" if without else "potential trained with the Hessian"
        constants = harmonic_force_constants(dft.primitive, HiMLIPCalculator(model), dft.dims)
        matrices = constants.dynamical_matrices()
        write_dyn(matrices, folder / prefix, overwrite=True)
        if not without:
            write_phonopy_params(constants, folder / "phonopy_params.yaml", overwrite=True)
        _compare(outcome, dft, matrices, key, words)
        if pattern is not None:
            well = model_well(model, labels.crystal, pattern, largest)
            wells[key] = well.to_dict()
            _quote_well(outcome, well, key, words)
    if pattern is not None:
        wells["pattern"] = pattern.tolist()
        save_data(folder / WELL, wells)
    else:
        outcome.notes.append("One atom in the primitive cell: no optical mode, no double well.")
    write_phonopy_params(dft.force_constants(), folder / "phonopy_params_dft.yaml", overwrite=True)
    return outcome


def _compare(
    outcome: Outcome, dft: DynamicalMatrices, model: DynamicalMatrices, key: str, words: str
) -> None:
    difference = model.frequencies() - dft.with_acoustic_sum_rule().frequencies()
    dims = "×".join(map(str, dft.dims))
    how = f"{words} against DFT with the acoustic sum rule, all modes of the {dims} grid, in ascending order"
    outcome.add(f"harmonic_rmse.{key}", float(np.sqrt(np.mean(difference**2))), "cm⁻¹", how)
    outcome.add(f"harmonic_largest_error.{key}", float(np.abs(difference).max()), "cm⁻¹", how)
    if len(dft.primitive) == 1:
        return
    _, lowest = softest_gamma_mode(model)
    outcome.add(f"gamma_optical_lowest.{key}", lowest, "cm⁻¹", f"{words}, harmonic; imaginary shown negative")


def _quote_well(outcome: Outcome, well: Well, key: str, words: str) -> None:
    single = "" if well.depth > 0 else "; a single well"
    outcome.add(f"double_well_depth.{key}", 1e3 * well.depth, "meV/cell", f"{words}{single}")
    how = f"{words}{single}; Euclidean norm of the displacements of the primitive cell"
    outcome.add(f"double_well_position.{key}", well.position, "Å", how)


def _inputs(context: Context) -> list[Any]:
    return []


STAGE = Stage("phonons", _run, _inputs)
