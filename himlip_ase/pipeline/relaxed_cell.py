"""Whether the cell that an SSCHA relaxes to a pressure will lie near enough to that of G(q).

Asked before the SSCHA runs. The potential's static lattice is relaxed to that pressure, along the strains
that the symmetry allows, with the zero-point pressure −dE_zp/dV of its harmonic phonons (|ω| for unstable
ones) added. That pressure is rough for anharmonic crystals, so that a run is refused only where none and
twice of it agree.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.cell import SOFTEST_GPA, allowed_strains, excess_stress, static_stiffness, strained
from himlip_ase.sscha.ensembles.evaluation import Evaluate, checked
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.superconductivity.cell_strain import CellStrain, strain_between, too_far
from himlip_ase.units import EV_CM, EV_PER_ANGSTROM3_GPA

logger = logging.getLogger(__name__)

Phonons = Callable[[Atoms], DynamicalMatrices]
_STEP = 0.005
_ENOUGH_GPA = 0.1


def zero_point_pressure(start: DynamicalMatrices, phonons: Phonons) -> float:
    """Quasi-harmonic zero-point pressure −dE_zp/dV, with |ω| for unstable modes.

    Parameters
    ----------
    start : DynamicalMatrices
        Crystal and grid.
    phonons : callable
        Harmonic phonons of a primitive cell on that grid.

    Returns
    -------
    float
        eV/Å³, positive where zero-point motion expands the crystal.
    """
    energies, volumes = [], []
    for step in (-_STEP, _STEP):
        image = strained(start, step * np.eye(3)).primitive
        matrices = phonons(image)
        energies.append(float(np.abs(matrices.frequencies()).sum()) / len(matrices.qpoints) / 2 / EV_CM)
        volumes.append(image.get_volume())
    return -(energies[1] - energies[0]) / (volumes[1] - volumes[0])


def relaxed_strain(
    start: DynamicalMatrices, evaluate: Evaluate, pressure_gpa: float, zero_point: float
) -> CellStrain | None:
    """Strain from the cell of `start` to that in which the static stress and a zero-point pressure balance.

    Parameters
    ----------
    start : DynamicalMatrices
        Its primitive cell is the one that is strained.
    evaluate : callable
        The potential.
    pressure_gpa : float
        Target, GPa.
    zero_point : float
        Zero-point pressure, eV/Å³.

    Returns
    -------
    CellStrain or None
        None where the cell stays.
    """
    basis = allowed_strains(SpaceGroup(start).rotations)
    stiffness = static_stiffness(start.primitive, basis, evaluate)
    values, vectors = np.linalg.eigh((stiffness + stiffness.T) / 2)
    inverse = vectors / np.maximum(values, SOFTEST_GPA / EV_PER_ANGSTROM3_GPA) @ vectors.T
    pushed = -zero_point * np.array([1, 1, 1, 0, 0, 0])
    cell = start
    for _ in range(30):
        stress = checked(evaluate([cell.primitive]), [cell.primitive]).stresses[0] + pushed
        excess = excess_stress(stress, np.zeros(6), basis, pressure_gpa).excess
        if np.abs(excess).max() * EV_PER_ANGSTROM3_GPA < _ENOUGH_GPA:
            break
        step = -np.einsum("k,kij->ij", inverse @ excess, basis)
        cell = strained(cell, step * min(1.0, 0.02 / max(float(np.abs(step).max()), 1e-12)))
        if np.abs(cell.primitive.get_volume() / start.primitive.get_volume() - 1) > 0.5:
            break  # far beyond any limit
    return strain_between(start.primitive, cell.primitive, "labels", "relaxed cell")


def check_reach(
    start: DynamicalMatrices, evaluate: Evaluate, phonons: Phonons, pressure_gpa: float, max_strain: float
) -> CellStrain | None:
    """Refuse a pressure at which the relaxed cell will lie beyond `max_strain`, before the SSCHA runs.

    Parameters
    ----------
    start : DynamicalMatrices
        Of the cell of G(q).
    evaluate, phonons : callable
        The potential's energies, forces and stresses, and its harmonic phonons.
    pressure_gpa : float
        Pressure of the quantum crystal asked for, GPa.
    max_strain : float
        Largest principal strain at which phonons are still joined to G(q).

    Returns
    -------
    CellStrain or None
        The estimate with the zero-point pressure; None where the cell stays.

    Raises
    ------
    InputError
        The strain lies beyond the limit, on the same side with none and with twice the zero-point pressure.
    """
    zero_point = zero_point_pressure(start, phonons)
    none, likely, twice = (
        relaxed_strain(start, evaluate, pressure_gpa, factor * zero_point) for factor in (0, 1, 2)
    )
    text = "none" if likely is None else f"{100 * likely.largest:.2f} %"
    logger.info(
        "cell at %g GPa: strain against the labels about %s (zero-point pressure about %.1f GPa)",
        pressure_gpa,
        text,
        zero_point * EV_PER_ANGSTROM3_GPA,
    )
    if none is None or likely is None or twice is None:
        return likely
    sides = {np.sign(strain.volume) for strain in (none, likely, twice)}
    if len(sides) == 1 and min(strain.largest for strain in (none, likely, twice)) > max_strain:
        raise InputError(
            f"sscha.pressure_gpa = {pressure_gpa:g}: by the potential, {too_far(likely, max_strain)}. "
            "Nothing was run; pressure_gpa: of the run, at which the labels are made, should lie near "
            f"{pressure_gpa - zero_point * EV_PER_ANGSTROM3_GPA:.0f} GPa"
        )
    return likely
