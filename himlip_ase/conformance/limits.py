"""Smoothness across the cutoff, and what happens when atoms come close."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii

from himlip_ase.conformance.context import Context, Definition, Failure, Skip
from himlip_ase.conformance.derivatives import pairs

SPACING = 2e-4
"""Å between the points on each side of the cutoff from which one-sided limits are extrapolated."""
VALUE_AT_ZERO = np.array([4.0, -6.0, 4.0, -1.0])
"""Cubic through the points at 1, 2, 3, 4 spacings, at zero."""
SLOPE_AT_ZERO = np.array([-13 / 3, 19 / 2, -7.0, 11 / 6])
"""Its slope there, times the spacing."""
RATTLE_ANGSTROM = 0.4
RATTLES = 8


def _crossings(context: Context) -> list[tuple[Atoms, np.ndarray, str]]:
    """Structures whose last atom sits exactly at the cutoff of the first, and the direction out."""
    if context.cutoff is None:
        raise Skip("the cutoff is not known; pass cutoff= in Å")
    found = []
    cluster = context.cluster()
    out = cluster.positions[0] - cluster.positions.mean(axis=0) + 0.1 * context.rng("cutoff").normal(size=3)
    out /= np.linalg.norm(out)
    for first, second in pairs(context.elements):
        dimer = Atoms((first, second), positions=[[0, 0, 0], [0, 0, context.cutoff]])
        found.append((dimer, np.array([0.0, 0.0, 1.0]), f"{first}–{second}"))
    for symbol in context.elements[:3]:
        crowd = cluster + Atoms(symbol, positions=[cluster.positions[0] + context.cutoff * out])
        found.append((crowd, out, f"{symbol} beside the cluster"))
    return found


def _sides(atoms: Atoms, direction: np.ndarray) -> list[list[Atoms]]:
    sides = []
    for sign in (-1, 1):
        scan = []
        for step in (1, 2, 3, 4):
            moved = atoms.copy()
            moved.positions[-1] += sign * step * SPACING * direction
            scan.append(moved)
        sides.append(scan)
    return sides


def _scans(context: Context, quantity: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Values of a quantity inside and outside the cutoff, for each crossing."""
    if quantity not in context.scans:
        scans = []
        for atoms, direction, name in _crossings(context):
            inside, outside = (
                np.array([getattr(context, quantity)(image) for image in side])
                for side in _sides(atoms, direction)
            )
            scans.append((name, inside, outside))
        context.scans[quantity] = scans
    return context.scans[quantity]


def _jump(context: Context, quantity: str, order: int) -> tuple[float, str]:
    """Largest jump of a quantity (order 0) or of its slope along the scan (order 1)."""
    worst, note = 0.0, ""
    for name, inside, outside in _scans(context, quantity):
        if order:
            weights = SLOPE_AT_ZERO / SPACING
            difference = np.tensordot(weights, inside + outside, axes=1)
        else:
            difference = np.tensordot(VALUE_AT_ZERO, inside - outside, axes=1)
        jump = float(np.abs(difference).max())
        if not jump <= worst:
            worst, note = jump, name
    return worst, note


def energy_jump(context: Context) -> tuple[float, str]:
    """Jump of the energy in eV."""
    return _jump(context, "energy", 0)


def force_jump(context: Context) -> tuple[float, str]:
    """Jump of the forces in eV/Å."""
    return _jump(context, "forces", 0)


def hessian_jump(context: Context) -> tuple[float, str]:
    """Jump of the Hessian in eV/Å²."""
    return _jump(context, "hessian", 0)


def slope_jump(context: Context) -> tuple[float, str]:
    """Jump in the slope of the forces in eV/Å², for calculators without a Hessian."""
    if context.has_hessian():
        raise Skip("seen in the Hessian itself")
    value, note = _jump(context, "forces", 1)
    return value, f"{note}, from differences"


def third_jump(context: Context) -> tuple[float, str]:
    """Jump in the slope of the Hessian in eV/Å³: the energy is C³."""
    return _jump(context, "hessian", 1)


def repulsion(context: Context) -> tuple[float, str]:
    """Largest attraction in eV/Å between two atoms at 0.15–0.5 of the sum of their covalent radii."""
    least, note = np.inf, ""
    for first, second in pairs(context.elements):
        bond = covalent_radii[atomic_numbers[first]] + covalent_radii[atomic_numbers[second]]
        for distance in np.linspace(0.15, 0.5, 8) * bond:
            dimer = Atoms((first, second), positions=[[0, 0, 0], [0, 0, distance]])
            force = context.forces(dimer)[1, 2]
            if not np.isfinite(force):
                raise Failure(f"the force of {first}–{second} at {distance:.2f} Å is {force}")
            if force < least:
                least, note = (
                    float(force),
                    f"least push {force:.3g} eV/Å, {first}–{second} at {distance:.2f} Å",
                )
    return max(-least, 0.0), note


def rattles(context: Context) -> tuple[float, str]:
    """Number of cells with atoms displaced by 0.4 Å (rms per direction) where anything is not finite."""
    rng = context.rng("rattles")
    bad, energies = 0, []
    for _ in range(RATTLES):
        atoms = context.ideal.copy()
        atoms.positions += rng.normal(scale=RATTLE_ANGSTROM, size=atoms.positions.shape)
        energies.append(context.energy(atoms) - context.energy(context.ideal))
        bad += not (np.isfinite(energies[-1]) and np.isfinite(context.forces(atoms)).all())
    return float(bad), f"energy above the given structure: {min(energies):.3g} to {max(energies):.3g} eV"


CHECKS = (
    Definition("energy across the cutoff", "jump", energy_jump),
    Definition("forces across the cutoff", "jump", force_jump),
    Definition("Hessian across the cutoff", "jump", hessian_jump),
    Definition("slope of forces across the cutoff", "third", slope_jump),
    Definition("third derivative across the cutoff", "third", third_jump),
    Definition("atoms repel at short range", "jump", repulsion),
    Definition("finite with 0.4 Å rattles", "jump", rattles),
)
