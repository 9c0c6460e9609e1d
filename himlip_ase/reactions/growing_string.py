"""Reaction paths by a growing string with two ends, in Cartesian coordinates.

Nodes are added from both ends inwards (Peters, Heyden, Bell and Chakraborty, J. Chem. Phys. 120, 7877
(2004)), each placed on the geodesic between the two frontiers. A node moves at right angles to the path by a
restricted quasi-Newton step from a model Hessian that every gradient improves; nodes are spaced evenly along
the path. The highest node climbs once the string is whole and calm.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms
from scipy.interpolate import CubicSpline

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.reactions.alignment import aligned, check_ends, superposed
from himlip_ase.reactions.atom_order import check_order
from himlip_ase.reactions.free_directions import FreeDirections
from himlip_ase.reactions.hessian_updates import bofill
from himlip_ase.reactions.interpolation import INTERPOLATIONS, interpolate
from himlip_ase.reactions.model_hessian import model_hessian
from himlip_ase.reactions.rational_steps import minimising_step
from himlip_ase.reactions.surface import Counts, Surface

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StringSettings:
    """How a path is found.

    Parameters
    ----------
    nodes : int
        Inner nodes of the string.
    growth_force : float
        eV/Å; a frontier node whose largest force across the path is below this lets the string grow on.
    growth_steps : int
        Most steps of a frontier node before the string grows in any case.
    fmax : float
        eV/Å; largest force across the path on the highest node in the end. The saddle search does the rest.
    max_gradients : int
        The search never asks for more gradients than this.
    trust_radius : float
        Å; longest step of a node.
    interpolation : str
        A name of `himlip_ase.reactions.interpolation.INTERPOLATIONS`: where new nodes come from.
    """

    nodes: int = 9
    growth_force: float = 1.0
    growth_steps: int = 3
    fmax: float = 0.5
    max_gradients: int = 150
    trust_radius: float = 0.3
    interpolation: str = "geodesic"

    def __post_init__(self) -> None:
        INTERPOLATIONS[self.interpolation]  # an unknown name is refused here
        if self.nodes < 3 or self.growth_steps < 1 or self.max_gradients < 2 * self.nodes:
            raise InputError(
                f"nodes {self.nodes}, growth_steps {self.growth_steps}, max_gradients {self.max_gradients}: "
                "want at least 3 nodes, one step, and two gradients a node"
            )
        if not (self.growth_force > 0 and self.fmax > 0 and self.trust_radius > 0):
            raise InputError("growth_force, fmax and trust_radius must be positive")


@dataclass(frozen=True, eq=False)
class ReactionPath:
    """A path from reactant to product.

    Attributes
    ----------
    images : list of Atoms
        Both ends included, without calculators.
    energies : ndarray (n,)
        eV.
    top : int
        Index of the highest image.
    guess : Atoms
        Where the energy along the path has its maximum.
    tangent : ndarray (N, 3)
        Direction of the path there, unit length.
    largest_force : float
        eV/Å across the path, on the highest image.
    converged : bool
        Whether that is below what was asked for.
    warning : str
        About the order of atoms; empty where nothing is odd.
    counts : Counts
    """

    images: list[Atoms]
    energies: np.ndarray
    top: int
    guess: Atoms
    tangent: np.ndarray
    largest_force: float
    converged: bool
    warning: str
    counts: Counts


def find_path(
    reactant: Atoms,
    product: Atoms,
    calculator: Any,
    settings: StringSettings | None = None,
    on_gradient: Callable[[int], None] | None = None,
) -> ReactionPath:
    """Grow a string from both ends to the top of the barrier.

    Parameters
    ----------
    reactant, product : Atoms
        Relaxed (see `himlip_ase.reactions.minimum.find_minimum`), atoms in the same order; the reactant's
        constraints are honoured.
    calculator : object
        See `himlip_ase.reactions.surface.Surface`; a `Surface` is taken as it is.
    settings : StringSettings, optional
    on_gradient : callable, optional
        Called with the number of gradients so far.

    Returns
    -------
    ReactionPath

    Raises
    ------
    InputError
        Ends that do not belong together, or are the same.
    CalculationError
        The calculator fails, or atoms collide on the way.
    """
    settings = settings or StringSettings()
    check_ends(reactant, product)
    surface = calculator if isinstance(calculator, Surface) else Surface(reactant, calculator)
    end = aligned(product, reactant)
    if np.linalg.norm(end.positions - reactant.positions) < 0.05:
        raise InputError("reactant and product are the same structure; there is no path between them")
    return _String(surface, reactant, end, settings, on_gradient).run(check_order(reactant, product))


@dataclass(frozen=True, eq=False)
class _Node:
    """A point of the string with what is known of the surface around it."""

    positions: np.ndarray
    energy: float
    gradient: np.ndarray
    hessian: np.ndarray
    radius: float

    def learnt(self, surface: Surface, where: np.ndarray) -> _Node:
        """The node at another point, its Hessian brought up to date."""
        step = where - self.positions
        try:
            energy, gradient = surface.evaluate(where)
        except CalculationError:
            if np.linalg.norm(step) < 0.02:
                raise
            halfway = replace(self, radius=max(self.radius / 2, 0.03))
            return halfway.learnt(surface, self.positions + step / 2)
        expected = self.gradient @ step + 0.5 * step @ self.hessian @ step
        hessian = bofill(self.hessian, step, gradient - self.gradient)
        miss = abs(energy - self.energy - expected)
        length = float(np.linalg.norm(step))
        radius = self.radius
        if length > 1e-6:
            good = miss < 0.3 * abs(expected) + 0.01
            radius = min(1.3 * radius, 0.5) if good else max(0.5 * min(length, radius), 0.03)
        return _Node(where, energy, gradient, hessian, radius)


class _String:
    """Two halves that grow towards each other."""

    def __init__(
        self,
        surface: Surface,
        reactant: Atoms,
        product: Atoms,
        settings: StringSettings,
        on_gradient: Callable[[int], None] | None,
    ) -> None:
        self.surface, self.settings = surface, settings
        self.before = surface.counts
        self.on_gradient = on_gradient
        self.directions = FreeDirections(surface.atoms)
        self.left = [self.new_node(reactant.positions.ravel())]
        self.right = [self.new_node(product.positions.ravel())]
        self.turns = not (surface.atoms.pbc.any() or surface.atoms.constraints)

    @property
    def gradients(self) -> int:
        return (self.surface.counts - self.before).gradients

    def new_node(self, positions: np.ndarray) -> _Node:
        energy, gradient = self.surface.evaluate(positions)
        self.report()
        return _Node(
            positions, energy, gradient, model_hessian(self.surface.at(positions)), self.settings.trust_radius
        )

    def report(self) -> None:
        if self.on_gradient is not None:
            self.on_gradient(self.gradients)

    def run(self, warning: str) -> ReactionPath:
        while len(self.left) + len(self.right) - 2 < self.settings.nodes:
            self.grow()
        nodes = [*self.left, *self.right[::-1]]
        largest, converged = np.inf, False
        climbing = False
        best: tuple[float, list[_Node]] | None = None
        while True:
            nodes = self.spaced(nodes, keep=self.top(nodes) if climbing else None)
            tangents = self.tangents(nodes)
            top = self.top(nodes)
            largest = self.force(nodes[top], tangents[top], climb=climbing)
            if climbing and (best is None or largest < best[0]):
                best = largest, list(nodes)
            if climbing and largest <= self.settings.fmax:
                converged = True
                break
            moved = self.order_of_work(nodes, tangents, top)
            if self.gradients + len(moved) > self.settings.max_gradients:
                break
            climbing = climbing or largest <= 2 * self.settings.fmax or self.gradients > 60
            for k in moved:
                nodes[k] = self.relaxed(nodes[k], tangents[k], climb=climbing and k == top)
        if best is not None:
            largest, nodes = best
        return self.path(nodes, largest, converged, warning)

    def grow(self) -> None:
        """Add a node to the side that is lower, and calm it."""
        missing = self.settings.nodes - (len(self.left) + len(self.right) - 2)
        side, other = self.left, self.right
        if (len(self.right), self.right[-1].energy) < (len(self.left), self.left[-1].energy):
            side, other = self.right, self.left
        here, there = self.surface.at(side[-1].positions), self.surface.at(other[-1].positions)
        way = interpolate(here, there, max(missing + 2, 4), self.settings.interpolation)
        node = self.new_node(way[1].positions.ravel())
        beyond = way[2].positions.ravel()
        for _ in range(self.settings.growth_steps):
            tangent = self.unit(beyond - side[-1].positions, node.positions)
            # every node still to come needs a gradient
            spent = self.gradients + missing > self.settings.max_gradients
            if spent or self.force(node, tangent) <= self.settings.growth_force:
                break
            node = self.relaxed(node, tangent)
        side.append(node)

    def relaxed(self, node: _Node, tangent: np.ndarray, climb: bool = False) -> _Node:
        """One step across the path; up along it too, if the node climbs."""
        basis = self.directions.basis(node.positions)
        across = _without(basis, tangent)
        values, vectors = np.linalg.eigh(across.T @ node.hessian @ across)
        values = np.where(np.abs(values) < 0.5, 0.5, np.abs(values))
        step = across @ (
            vectors @ minimising_step(values, vectors.T @ (across.T @ node.gradient), node.radius)
        )
        if climb:
            slope = node.gradient @ tangent
            curvature = tangent @ node.hessian @ tangent
            step = step + tangent * np.clip(slope / max(abs(curvature), 2.0), -0.1, 0.1)
        found = node.learnt(self.surface, node.positions + step)
        self.report()
        return found

    def spaced(self, nodes: list[_Node], keep: int | None) -> list[_Node]:
        """Nodes moved along the path until they are evenly spaced; one may stay where it is.

        Only nodes that are off by more than a third of the spacing move, which saves gradients.
        """
        points = self.unturned(np.array([node.positions for node in nodes]))
        lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        spacing = lengths[-1] / (len(nodes) - 1)
        targets = np.linspace(0, lengths[-1], len(nodes))
        if keep is not None:
            targets[: keep + 1] = np.linspace(0, lengths[keep], keep + 1)
            targets[keep:] = np.linspace(lengths[keep], lengths[-1], len(nodes) - keep)
        spline = CubicSpline(lengths, points, axis=0)
        found = list(nodes)
        for k in range(1, len(nodes) - 1):
            affordable = self.gradients < self.settings.max_gradients
            if affordable and k != keep and abs(targets[k] - lengths[k]) > 0.33 * spacing:
                found[k] = nodes[k].learnt(self.surface, spline(targets[k]))
                self.report()
        return found

    def order_of_work(self, nodes: list[_Node], tangents: list[np.ndarray], top: int) -> list[int]:
        """Inner nodes that move in this round: those near the top, and others that are far from calm."""
        inner = range(1, len(nodes) - 1)
        return [
            k for k in inner
            if abs(k - top) <= 1 or self.force(nodes[k], tangents[k]) > 2 * self.settings.growth_force
        ]  # fmt: skip

    def top(self, nodes: list[_Node]) -> int:
        return 1 + int(np.argmax([node.energy for node in nodes[1:-1]]))

    def tangents(self, nodes: list[_Node]) -> list[np.ndarray]:
        """Upwinding tangents (Henkelman and Jónsson, J. Chem. Phys. 113, 9978 (2000)); zeros at the ends."""
        points = np.array([node.positions for node in nodes])
        found = [np.zeros_like(points[0])]
        for k in range(1, len(nodes) - 1):
            ahead, behind = self.relative(points[k + 1], points[k]), -self.relative(points[k - 1], points[k])
            up = nodes[k + 1].energy - nodes[k].energy
            down = nodes[k].energy - nodes[k - 1].energy
            if up > 0 and down > 0:
                tangent = ahead
            elif up < 0 and down < 0:
                tangent = behind
            else:
                large, small = max(abs(up), abs(down)), min(abs(up), abs(down))
                weights = (large, small) if nodes[k + 1].energy > nodes[k - 1].energy else (small, large)
                tangent = weights[0] * ahead + weights[1] * behind
            found.append(self.unit(tangent, points[k]))
        found.append(np.zeros_like(points[0]))
        return found

    def relative(self, point: np.ndarray, origin: np.ndarray) -> np.ndarray:
        """A point as seen from another, after superposition."""
        if not self.turns:
            return point - origin
        return superposed(point.reshape(-1, 3), origin.reshape(-1, 3)).ravel() - origin

    def unturned(self, points: np.ndarray) -> np.ndarray:
        """Points, each superposed on the one before, from the first on."""
        if not self.turns:
            return points
        found = [points[0]]
        for point in points[1:]:
            found.append(found[-1] + self.relative(point, found[-1]))
        return np.array(found)

    def unit(self, tangent: np.ndarray, where: np.ndarray) -> np.ndarray:
        """A direction of length 1 without rigid motions and what constraints hold."""
        basis = self.directions.basis(where)
        inside = basis @ (basis.T @ tangent)
        return inside / max(float(np.linalg.norm(inside)), 1e-12)

    def force(self, node: _Node, tangent: np.ndarray, climb: bool = False) -> float:
        """Largest force on an atom across the path (and along it, for a node that climbs), eV/Å."""
        basis = self.directions.basis(node.positions)
        field = basis @ (basis.T @ node.gradient)
        if not climb:
            field = field - tangent * (tangent @ field)
        return float(np.linalg.norm(field.reshape(-1, 3), axis=1).max())

    def path(self, nodes: list[_Node], largest: float, converged: bool, warning: str) -> ReactionPath:
        points = self.unturned(np.array([node.positions for node in nodes]))
        tangents = self.tangents(nodes)
        energies = np.array([node.energy for node in nodes])
        top = self.top(nodes)
        images = [self.surface.at(point) for point in points]
        guess = self.surface.at(nodes[top].positions)
        return ReactionPath(
            images, energies, top, guess, tangents[top].reshape(-1, 3), largest, converged, warning,
            self.surface.counts - self.before,
        )  # fmt: skip


def _without(basis: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Orthonormal columns that span a space less one direction in it."""
    along = basis.T @ direction
    norm = np.linalg.norm(along)
    if norm < 1e-12:
        return basis
    rotation = np.linalg.qr(np.hstack([(along / norm)[:, None], np.eye(len(along))]))[0]
    return basis @ rotation[:, 1:]
