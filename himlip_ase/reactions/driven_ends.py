"""The other end of a reaction from one end and the bonds that change.

Springs pull the atoms of new bonds together and push those of broken ones apart; what relaxes after the
springs are gone is the product, with its atoms in the reactant's order. The idea is that of artificial forces
(Maeda and Morokuma, J. Chem. Phys. 132, 241102 (2010)).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.reactions.bonds import Bond, bond_graph
from himlip_ase.reactions.minimum import Minimum, find_minimum
from himlip_ase.reactions.surface import Counts, Surface

STAGES = 6
SPRING = 15.0
"""eV/Å²."""

BROKEN = 2.2
"""Distance to which a broken bond is pushed, as a multiple of the sum of the covalent radii."""


def driven_product(
    reactant: Atoms,
    calculator: Any,
    form: Sequence[Bond] = (),
    break_: Sequence[Bond] = (),
    fmax: float = 0.01,
    other_bonds: bool = False,
) -> Minimum:
    """Relaxed product of a reaction that is named by its bond changes.

    Parameters
    ----------
    reactant : Atoms
        Relaxed.
    calculator : object
        See `himlip_ase.reactions.surface.Surface`; a `Surface` is taken as it is.
    form, break_ : sequence of (int, int)
        Pairs of atoms, counted from 0.
    fmax : float
        eV/Å; largest force on an atom of the product.
    other_bonds : bool
        Take what the driven structure relaxes to, whatever its bonds, unless they are the reactant's.

    Returns
    -------
    Minimum

    Raises
    ------
    InputError
        A bond to break that is not there, one to form that is, or no change at all.
    CalculationError
        The structure relaxes to other bonds than those asked for, or with `other_bonds`, back to the
        reactant's.
    """
    graph = bond_graph(reactant)
    formed = frozenset((min(pair), max(pair)) for pair in form)
    broken = frozenset((min(pair), max(pair)) for pair in break_)
    if not formed | broken:
        raise InputError("no bond is to form or to break; name at least one")
    for pair in sorted(broken - graph.bonds):
        raise InputError(f"atoms {pair[0]} and {pair[1]} are not bonded; bonds: {sorted(graph.bonds)}")
    for pair in sorted(formed & graph.bonds):
        raise InputError(f"atoms {pair[0]} and {pair[1]} are bonded already")
    surface = calculator if isinstance(calculator, Surface) else Surface(reactant, calculator)
    where = reactant.positions.ravel()
    radii = covalent_radii[reactant.numbers]
    goals = {pair: radii[list(pair)].sum() * (1.0 if pair in formed else BROKEN) for pair in formed | broken}
    starts = {
        pair: float(np.linalg.norm(reactant.positions[pair[0]] - reactant.positions[pair[1]]))
        for pair in goals
    }
    for stage in range(1, STAGES + 1):
        share = stage / STAGES
        targets = {pair: (1 - share) * starts[pair] + share * goal for pair, goal in goals.items()}
        pulled = _Pulled(surface, targets, broken)
        where = find_minimum(pulled, where, 0.3, 60, max_is_enough=True).atoms.positions.ravel()
    product = find_minimum(surface, where, fmax)
    found, wanted = bond_graph(product.atoms).bonds, (graph.bonds | formed) - broken
    if found != wanted and (not other_bonds or found == graph.bonds):
        raise CalculationError(
            f"the driven structure relaxes to other bonds: {graph.changes_to(bond_graph(product.atoms))}"
        )
    return product


class _Pulled:
    """A surface with springs between pairs of atoms, those of broken bonds pushing only."""

    def __init__(self, surface: Surface, targets: dict[Bond, float], broken: frozenset[Bond]) -> None:
        self._bare, self._targets, self._broken = surface, targets, broken
        self.atoms, self.at, self.hessian = surface.atoms, surface.at, surface.hessian

    @property
    def counts(self) -> Counts:
        """Those of the surface without springs."""
        return self._bare.counts

    def evaluate(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy and gradient with springs."""
        energy, gradient = self._bare.evaluate(positions)
        points, field = positions.reshape(-1, 3), gradient.reshape(-1, 3)
        for (i, j), target in self._targets.items():
            vector = points[i] - points[j]
            length = float(np.linalg.norm(vector))
            off = length - target
            if (i, j) in self._broken and off > 0:
                continue
            energy += 0.5 * SPRING * off**2
            field[i] += SPRING * off * vector / length
            field[j] -= SPRING * off * vector / length
        return energy, field.ravel()
