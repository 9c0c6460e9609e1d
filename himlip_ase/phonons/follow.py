"""Imaginary modes followed to the structures behind them.

The softest modes of a supercell form a space on which the space group acts.  The crystal is displaced along
each direction of it that a subgroup singles out (:mod:`himlip_ase.symmetry.isotropy`), relaxed within that
subgroup, and the lowest of the children is the parent of the next generation, until nothing is imaginary.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import CalculationError, InputError, NotConvergedError
from himlip_ase.files import write_json
from himlip_ase.lattice import build_supercell, check_dims, check_primitive
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.phonons.harmonic import harmonic_force_constants
from himlip_ase.relaxation import relax
from himlip_ase.structures import require_new, with_results, write_structures
from himlip_ase.symmetry.isotropy import on_basis, singled_out_directions
from himlip_ase.symmetry.operations import crystal_operations, identity_operation
from himlip_ase.symmetry.standard_cell import standard_cell
from himlip_ase.units import GPA_EV_PER_ANGSTROM3, signed_frequencies_cm

logger = logging.getLogger(__name__)

IMAGINARY_CM = 5.0
"""A mode counts as imaginary below minus this, cm⁻¹: what lies above may be noise of the sum rule."""

SAME_MODE_CM = 0.1
"""Modes of a supercell closer than this are one degenerate set, cm⁻¹."""

FIRST_STEP = 0.1
"""Largest displacement of an atom with which the search along a mode begins, Å."""

SYMPREC = 1e-3
"""Å, for the space groups of displaced and of relaxed structures."""

NO_GAIN_EV = 1e-6
"""eV per atom; a child that lies no deeper fell back to its parent."""


@dataclass(frozen=True, eq=False)
class Child:
    """A structure behind an imaginary mode.

    Attributes
    ----------
    atoms : Atoms
        Relaxed primitive cell, with energy, forces and stress.
    space_group : str
        International symbol.
    number : int
        Of the space group.
    direction : ndarray, shape (d,)
        Unit vector among the degenerate modes, in the basis in which they happen to come.
    gain_mev : float
        Energy (with a pressure: enthalpy) below the parent, meV per atom; zero for one that fell back.
    total_gain_mev : float
        The same below the structure that was given.
    """

    atoms: Atoms
    space_group: str
    number: int
    direction: np.ndarray
    gain_mev: float
    total_gain_mev: float


@dataclass(frozen=True, eq=False)
class Generation:
    """A structure, its softest modes, and what lies behind them.

    Attributes
    ----------
    atoms : Atoms
        Primitive cell whose phonons these are.
    space_group : str
    number : int
        Of the space group.
    dims : (int, int, int)
        Supercell of the phonons.
    lowest_cm : float
        Lowest frequency on the commensurate grid, cm⁻¹, imaginary negative.
    qpoints : ndarray, shape (k, 3)
        Where it stands, fractional in the reciprocal basis of `atoms`.
    degeneracy : int
        Modes of the supercell that share it.
    children : tuple of Child
        Lowest energy first; empty where nothing is imaginary, or the limit was reached.
    """

    atoms: Atoms
    space_group: str
    number: int
    dims: tuple[int, int, int]
    lowest_cm: float
    qpoints: np.ndarray
    degeneracy: int
    children: tuple[Child, ...]

    @property
    def stable(self) -> bool:
        """Whether no mode of the commensurate grid is imaginary."""
        return self.lowest_cm > -IMAGINARY_CM


def follow_imaginary_modes(
    primitive: Atoms,
    calculator: Any,
    dims: Sequence[int],
    max_generations: int = 4,
    pressure_gpa: float | None = None,
    fmax: float = 1e-4,
    steps: int = 500,
    force_constants: ForceConstants | None = None,
) -> list[Generation]:
    """Follow the softest modes of a crystal until none is imaginary.

    Every child is a stationary point within its space group; those that are no minimum show an imaginary mode
    of their own when they are followed in turn, and only the lowest of a generation is. Supercells of later
    generations are at least as thick as the first one.

    Parameters
    ----------
    primitive : Atoms
        Relaxed primitive cell.
    calculator : ASE calculator
        See :func:`~himlip_ase.phonons.harmonic.harmonic_force_constants`.
    dims : three integers
        Supercell of the first phonons, to which the modes are commensurate.
    max_generations : int
        Structures that are displaced at most.
    pressure_gpa : float, optional
        Children relax their cells to this pressure; by default cells stay as they are.
    fmax : float
        Of the relaxations, eV/Å.
    steps : int
        Of each relaxation.
    force_constants : ForceConstants, optional
        Those of `primitive`, where they are known already. Their masses, or those of `primitive`, weigh the
        modes of every generation.

    Returns
    -------
    list of Generation
        The first is the structure that was given, the last the lowest that was found; its `stable` says
        whether an imaginary mode is left.

    Raises
    ------
    InputError
        A structure that is no crystal, an element of several masses, or a limit below one.
    CalculationError
        A number that is not finite, or no child that is lower than its parent.
    """
    if max_generations < 1:
        raise InputError(f"max_generations must be at least 1; got {max_generations}")
    dims = check_dims(dims)
    atoms = check_primitive(primitive)
    thickness = _thickness(atoms, dims)
    start = depth = _enthalpy(_evaluated(atoms, calculator), pressure_gpa)
    constants = force_constants
    masses: dict[str, float] = {}
    found: list[Generation] = []
    while True:
        if constants is None:
            dims = _covering(atoms, thickness)
            constants = harmonic_force_constants(atoms, calculator, dims)
        if masses is not None:
            constants = constants.with_masses(masses)
        frequency, basis = _softest(constants)
        cell = standard_cell(atoms, SYMPREC)
        children: list[Child] = []
        if frequency < -IMAGINARY_CM and len(found) < max_generations:
            masses = masses or _masses_by_element(constants.primitive)
            depths = depth, start
            children = _children(atoms, calculator, constants, basis, pressure_gpa, fmax, steps, depths)
        grid = constants.dynamical_matrices()
        soft = grid.frequencies()[:, 0] < frequency + SAME_MODE_CM
        found.append(
            Generation(
                atoms, cell.space_group, cell.number, dims, frequency, grid.qpoints[soft], basis.shape[1],
                tuple(children),
            )
        )  # fmt: skip
        if not children:
            return found
        lowest = children[0]
        if lowest.gain_mev <= 0:
            raise CalculationError(
                f"every structure displaced along the mode at {frequency:.1f} cm⁻¹ relaxed back to its "
                "parent: the well is shallower than the relaxation resolves (give a smaller --fmax), or the "
                "parent is not relaxed"
            )
        logger.info("%s: %.3f meV/atom lower", lowest.space_group, lowest.gain_mev)
        depth -= lowest.gain_mev / 1000
        atoms, constants = check_primitive(lowest.atoms), None


def _children(
    atoms: Atoms,
    calculator: Any,
    constants: ForceConstants,
    basis: np.ndarray,
    pressure_gpa: float | None,
    fmax: float,
    steps: int,
    depths: tuple[float, float],
) -> list[Child]:
    """Relaxed structures along the directions that symmetry singles out, lowest first."""
    dims, supercell = constants.dims, build_supercell(atoms, constants.dims)
    operations = crystal_operations(atoms, dims, SYMPREC)
    if operations.deviation > SYMPREC:
        operations = identity_operation(len(supercell), dims)
    directions = singled_out_directions(on_basis(operations, basis))
    logger.info("%d inequivalent directions in %d dimensions", len(directions), basis.shape[1])
    found: list[Child] = []
    roots = np.sqrt(constants.supercell.get_masses())[:, None]  # those that weighed the modes
    for direction in directions:
        pattern = (basis @ direction).reshape(-1, 3) / roots
        displaced = _deepest(supercell, pattern / np.linalg.norm(pattern, axis=1).max(), calculator)
        try:
            relaxed = relax(
                standard_cell(displaced, SYMPREC).atoms, calculator, pressure_gpa, fmax, steps,
                keep_symmetry=True, symprec=SYMPREC,
            )  # fmt: skip
        except NotConvergedError as error:
            logger.warning("direction %s left out: %s", np.round(direction, 3).tolist(), error)
            continue
        cell = standard_cell(relaxed.atoms, SYMPREC)
        enthalpy = _enthalpy(_evaluated(relaxed.atoms, calculator), pressure_gpa)
        gain = depths[0] - enthalpy
        child = with_results(relaxed.atoms, relaxed.energy, relaxed.forces, relaxed.stress)
        found.append(
            Child(
                child, cell.space_group, cell.number, direction,
                1000 * gain if gain > NO_GAIN_EV else 0.0, 1000 * (depths[1] - enthalpy),
            )
        )  # fmt: skip
    if not found:
        raise CalculationError(
            f"no displaced structure could be relaxed in {steps} steps; give a larger fmax"
        )
    return sorted(found, key=lambda child: -child.total_gain_mev)


def _masses_by_element(atoms: Atoms) -> dict[str, float]:
    masses = dict(zip(atoms.get_chemical_symbols(), atoms.get_masses().tolist(), strict=True))
    if not np.allclose([masses[symbol] for symbol in atoms.symbols], atoms.get_masses()):
        raise InputError(
            f"atoms of one element have several masses in {atoms.symbols}; modes are followed with one for "
            "each element"
        )
    return masses


def _softest(constants: ForceConstants) -> tuple[float, np.ndarray]:
    """Lowest frequency (cm⁻¹) of the supercell and the mass-weighted modes (3N, d) that share it."""
    roots = np.sqrt(np.repeat(constants.supercell.get_masses(), 3))
    size = len(roots)
    matrix = constants.hessian().reshape(size, size) / np.outer(roots, roots)
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    frequencies = signed_frequencies_cm(values)
    count = int((frequencies < frequencies[0] + SAME_MODE_CM).sum())
    return float(frequencies[0]), vectors[:, :count]


def _deepest(supercell: Atoms, pattern: np.ndarray, calculator: Any) -> Atoms:
    """The supercell displaced to the lowest of doubled (or, from a barrier, halved) amplitudes."""

    def energy(amplitude: float) -> float:
        moved = supercell.copy()
        moved.positions += amplitude * pattern
        return _evaluated(moved, calculator).get_potential_energy()

    best, lowest = FIRST_STEP, energy(FIRST_STEP)
    factor = 2.0 if lowest < energy(0.0) else 0.5
    for _ in range(3):
        other = energy(best * factor)
        if other >= lowest:
            break
        best, lowest = best * factor, other
    displaced = supercell.copy()
    displaced.positions += best * pattern
    return displaced


def _evaluated(atoms: Atoms, calculator: Any) -> Atoms:
    copy = atoms.copy()
    copy.calc = calculator
    if not np.isfinite(copy.get_potential_energy()):
        raise CalculationError("the calculator returned an energy that is not finite")
    return copy


def _enthalpy(atoms: Atoms, pressure_gpa: float | None) -> float:
    """E + PV, eV per atom; E alone without a pressure."""
    work = 0.0 if pressure_gpa is None else pressure_gpa * GPA_EV_PER_ANGSTROM3 * atoms.get_volume()
    return float(atoms.get_potential_energy() + work) / len(atoms)


def _thickness(atoms: Atoms, dims: Sequence[int]) -> float:
    """Smallest distance between opposite faces of a supercell, Å."""
    return float((np.array(dims) / np.linalg.norm(np.linalg.inv(atoms.cell.array).T, axis=1)).min())


def _covering(atoms: Atoms, thickness: float) -> tuple[int, int, int]:
    """Smallest diagonal supercell that is at least `thickness` (Å) thick."""
    heights = 1 / np.linalg.norm(np.linalg.inv(atoms.cell.array).T, axis=1)
    return check_dims([max(1, int(np.ceil(thickness / height - 0.01))) for height in heights])


def describe_following(generations: Sequence[Generation]) -> list[str]:
    """What was found, for a terminal.

    Parameters
    ----------
    generations : sequence of Generation

    Returns
    -------
    list of str
    """
    lines = []
    for number, generation in enumerate(generations, start=1):
        points = "), (".join(", ".join(f"{x:.4g}" for x in point) for point in generation.qpoints)
        softest = (
            "no imaginary mode"
            if generation.stable
            else f"{generation.degeneracy} modes at {generation.lowest_cm:.1f} cm⁻¹, q = ({points})"
        )
        lines.append(
            f"{number}. {generation.space_group} (no. {generation.number}), {len(generation.atoms)} atoms, "
            f"supercell {generation.dims}: {softest}"
        )
        for child in generation.children:
            fate = f"{child.gain_mev:.3f} meV/atom lower" if child.gain_mev else "fell back to its parent"
            lines.append(f"   → {child.space_group} (no. {child.number}), {len(child.atoms)} atoms: {fate}")
    last = generations[-1]
    verdict = (
        "no imaginary mode is left" if last.stable else "NOT stable: the limit of generations was reached"
    )
    lines.append(f"{last.space_group}: {verdict}")
    return lines


def write_following(
    generations: Sequence[Generation], folder: str | os.PathLike, overwrite: bool = False
) -> list[Path]:
    """Write all structures and ``follow.json``.

    Parameters
    ----------
    generations : sequence of Generation
    folder : path-like
    overwrite : bool
        Whether existing files may be replaced.

    Returns
    -------
    list of Path
        ``follow.json``, ``final.extxyz`` and one extended XYZ file for each child.
    """
    folder = Path(folder)
    files = [folder / "follow.json", folder / "final.extxyz"]
    for path in files:
        require_new(path, overwrite)
    records = []
    for number, generation in enumerate(generations, start=1):
        children = []
        for place, child in enumerate(generation.children, start=1):
            symbol = child.space_group.replace("/", "_")
            path = folder / f"generation{number}_{place}_{symbol}.extxyz"
            write_structures(path, [child.atoms], overwrite)
            files.append(path)
            children.append(
                {
                    "file": path.name,
                    "space_group": child.space_group,
                    "number": child.number,
                    "atoms": len(child.atoms),
                    "direction": child.direction.tolist(),
                    "gain_mev_per_atom": child.gain_mev,
                    "total_gain_mev_per_atom": child.total_gain_mev,
                }
            )
        records.append(
            {
                "space_group": generation.space_group,
                "number": generation.number,
                "supercell": list(generation.dims),
                "lowest_cm": generation.lowest_cm,
                "qpoints": generation.qpoints.tolist(),
                "degeneracy": generation.degeneracy,
                "stable": generation.stable,
                "children": children,
            }
        )
    write_structures(files[1], [generations[-1].atoms], overwrite)
    write_json(files[0], {"stable": generations[-1].stable, "generations": records}, overwrite)
    return files
