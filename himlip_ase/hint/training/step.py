"""Energies, forces, stresses and products of Hessians of one training step, in one pass through the network.

A product with a Hessian is taken as the central difference of the forces at x + hv and x − hv, with
h max|v| = `DISPLACEMENT_ANGSTROM`. In double precision it agrees with the exact product, and its gradient
with respect to the weights with the exact one, to about 1e-8 of their size; the gradient is exactly that of
the loss that is reported. It takes a second derivative of the network where the exact product takes a third,
at the cost of forces at two structures. Their mean is energy, forces and stress at x, to better than
1e-8 eV/Å, so that a structure with all labels needs nothing but the two copies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from himlip_ase.hint.training.batches import Batch
from himlip_ase.hint.training.losses import energy_loss, forces_loss, stress_loss
from himlip_ase.potential.derivatives import Derivatives, hessian_vector_product, trainable_derivatives
from himlip_ase.potential.graph import Graph, concatenate
from himlip_ase.potential.interface import Potential

DISPLACEMENT_ANGSTROM = 1e-6
"""Largest component of a displacement of an atom: where curvature and rounding disturb equally little."""

PASS_ATOMS = 512
"""Atoms of the displaced copies of one pass, which bounds memory."""


FRAME_LOSSES = ("energy", "forces", "stress")


@dataclass(frozen=True, eq=False)
class Probe:
    """A projection of a Hessian and what the label says of it.

    Attributes
    ----------
    graph : Graph
        One structure.
    vector, reference : Tensor (N, 3)
        v, and the label's H v in eV/Å² times the unit of v.
    weight : float
        Factor in the loss.
    frame : int or None
        Which frame of the step is the same structure.
    """

    graph: Graph
    vector: Tensor
    reference: Tensor
    weight: float = 1.0
    frame: int | None = None

    def loss(self, product: Tensor) -> Tensor:
        """weight · |H v − reference|²/|v|², whose expectation is the mean squared norm of a row's error."""
        return self.weight * ((product - self.reference) ** 2).sum() / (self.vector**2).sum()


@dataclass(frozen=True)
class StepValues:
    """What a model says of the frames and the probes of a step, differentiable by its parameters.

    Attributes
    ----------
    frames : Derivatives or None
        Of all frames, in their order; None if there are none.
    products : list of Tensor (N, 3)
        H v of every probe.
    """

    frames: Derivatives | None
    products: list[Tensor]


Evaluate = Callable[[Potential, Sequence[Graph], Sequence[Probe], bool], StepValues]


def by_difference(
    model: Potential, frames: Sequence[Graph], probes: Sequence[Probe], stress: bool = True
) -> StepValues:
    """Evaluate frames and probes together, products as differences of forces.

    Parameters
    ----------
    model : Potential
    frames : sequence of Graph
        One structure each; one that a probe is at is not evaluated a second time.
    probes : sequence of Probe
    stress : bool
        Whether the stress is wanted.

    Returns
    -------
    StepValues
    """
    twins: dict[int, int] = {}
    for place, probe in enumerate(probes):
        if probe.frame is not None:
            twins.setdefault(probe.frame, place)
    alone = [k for k in range(len(frames)) if k not in twins]
    steps = [DISPLACEMENT_ANGSTROM / float(probe.vector.abs().max()) for probe in probes]
    copies = [
        _moved(probe.graph, sign * step * probe.vector)
        for probe, step in zip(probes, steps, strict=True)
        for sign in (1, -1)
    ]
    graphs = [frames[k] for k in alone] + copies
    counts = [len(graph.positions) for graph in graphs]
    out = trainable_derivatives(model, concatenate(graphs), stress)
    forces = out.forces.split(counts)
    pairs = [len(alone) + 2 * place for place in range(len(probes))]
    products = [(forces[k + 1] - forces[k]) / (2 * step) for k, step in zip(pairs, steps, strict=True)]
    if not frames:
        return StepValues(None, products)
    where = {frame: (place,) for place, frame in enumerate(alone)} | {
        frame: (pairs[place], pairs[place] + 1) for frame, place in twins.items()
    }

    def mean(values: Sequence[Tensor]) -> list[Tensor]:
        return [sum(values[k] for k in where[f]) / len(where[f]) for f in range(len(frames))]  # type: ignore[misc]

    found = Derivatives(
        torch.stack(mean(out.energies.unbind())),
        torch.cat(mean(forces)),
        None if out.stresses is None else torch.stack(mean(out.stresses.unbind())),
    )
    return StepValues(found, products)


def by_differentiation(
    model: Potential, frames: Sequence[Graph], probes: Sequence[Probe], stress: bool = True
) -> StepValues:
    """As `by_difference`, but one after the other, and products by automatic differentiation.

    Parameters
    ----------
    model, frames, probes, stress
        As `by_difference`.

    Returns
    -------
    StepValues
    """
    found = None
    if frames:
        found = trainable_derivatives(model, concatenate(frames), stress)
    products: list[Tensor] = []
    for together in _of_one_structure(probes):
        vectors = torch.stack([probe.vector for probe in together])
        products += hessian_vector_product(model, together[0].graph, vectors, create_graph=True)
    return StepValues(found, products)


EVALUATE: dict[str, Evaluate] = {"difference": by_difference, "exact": by_differentiation}


def batch_losses(batch: Batch, values: Derivatives, huber: float | None = None) -> dict[str, Tensor]:
    """Unweighted losses of a batch: energy (per atom), forces, and stress if it was calculated.

    Parameters
    ----------
    batch : Batch
    values : Derivatives
        What the model says of it.
    huber : float or None
        eV/Å; see `himlip_ase.hint.training.losses.squared`.

    Returns
    -------
    dict of str to Tensor ()
    """
    counts = batch.graph.atoms_per_frame()
    losses = {
        "energy": energy_loss(values.energies, batch.energies, counts, batch.energy_weights),
        "forces": forces_loss(values.forces, batch.forces, batch.force_weights, huber),
    }
    if values.stresses is not None:
        losses["stress"] = stress_loss(values.stresses, batch.stresses, batch.stress_weights)
    return losses


def passes(n_frames: int, probes: Sequence[Probe], limit: int = PASS_ATOMS) -> list[tuple[bool, list[Probe]]]:
    """Share the probes of a step out among passes of bounded size; the frames belong to the first.

    Parameters
    ----------
    n_frames : int
    probes : sequence of Probe
    limit : int
        Atoms of the displaced copies of a pass, unless one probe alone has more.

    Returns
    -------
    list of (with the frames or not, probes)
        A probe at a frame only serves that frame in the pass that the frame belongs to.
    """
    found: list[tuple[bool, list[Probe]]] = [(n_frames > 0, [])]
    atoms = 0
    for probe in probes:
        size = 2 * len(probe.graph.positions)
        if atoms and atoms + size > limit:
            found.append((False, []))
            atoms = 0
        found[-1][1].append(probe if len(found) == 1 else replace(probe, frame=None))
        atoms += size
    return [(frames, part) for frames, part in found if frames or part]


def _moved(graph: Graph, displacement: Tensor) -> Graph:
    # Copies of molecules have no volume, and a stress that nobody asks for must not be NaN.
    volumes = torch.nan_to_num(graph.volumes, nan=1.0)
    return replace(graph, positions=graph.positions + displacement, volumes=volumes)


def _of_one_structure(probes: Sequence[Probe]) -> list[list[Probe]]:
    """Neighbouring probes of the same structure."""
    groups: list[list[Probe]] = []
    for probe in probes:
        if groups and groups[-1][0].graph is probe.graph:
            groups[-1].append(probe)
        else:
            groups.append([probe])
    return groups
