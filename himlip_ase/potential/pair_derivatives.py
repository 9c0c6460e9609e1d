"""Radial functions times harmonics of every pair, with first and second derivatives by the pair vector.

Tables are pair by pair, (N atoms, M neighbours, …).  With the pair vector r = |r| n, a harmonic is taken at
n, so that its derivatives by r are those of S(r)/|r|^l, S being the solid harmonic of degree l.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from himlip_ase.potential.angular import N_HARMONICS, N_LOWER, degree_of_harmonic, solid_harmonics
from himlip_ase.potential.graph import Graph
from himlip_ase.potential.network import HiMLIP


@dataclass(frozen=True)
class PairDerivatives:
    """Geometry of the pairs of one structure.

    Attributes
    ----------
    neighbours : Tensor (N, M)
    unit : Tensor (N, M, 3)
    inverse : Tensor (N, M)
        1/|r| in 1/Å.
    harmonics : Tensor (N, M, 16)
    harmonics_slope : Tensor (N, M, 3, 16)
        ∂Y/∂r, 1/Å.
    harmonics_curvature : Tensor (N, M, 9, 16)
        ∂²Y/∂r∂r, 1/Å².
    radial : Tensor (3, N, M, K)
        Radial functions, and their first and second derivative by the distance.
    repulsion : Tensor (2, N, M)
        First and second derivative of the pair's repulsion by the distance, eV/Å and eV/Å².
    """

    neighbours: Tensor
    unit: Tensor
    inverse: Tensor
    harmonics: Tensor
    harmonics_slope: Tensor
    harmonics_curvature: Tensor
    radial: Tensor
    repulsion: Tensor

    @classmethod
    def of(cls, model: HiMLIP, graph: Graph) -> PairDerivatives:
        """The tables of a structure.

        Parameters
        ----------
        model : HiMLIP
        graph : Graph

        Returns
        -------
        PairDerivatives
        """
        vectors = graph.displacements(graph.positions)
        inverse = torch.rsqrt((vectors * vectors).sum(1))
        unit = vectors * inverse[:, None]
        lowering = model.harmonic_derivative.reshape(3, N_LOWER, N_HARMONICS)
        harmonics = solid_harmonics(unit, model.harmonic_derivative).transpose(1, 2).contiguous()
        unit = unit.transpose(1, 2).contiguous()
        slope, curvature = _harmonic_derivatives(harmonics, unit, inverse, lowering)
        radial = [model.radial.derivative(1 / inverse, order).transpose(1, 2) for order in range(3)]
        return cls(
            graph.neighbours, unit, inverse, harmonics, slope, curvature, torch.stack(radial),
            _repulsion(model, graph, 1 / inverse),
        )  # fmt: skip

    def basis(self, atoms: slice) -> Tensor:
        """Harmonics times radial functions of some atoms' pairs, (n, M, 16, K)."""
        return self.harmonics[atoms, :, :, None] * self.radial[0, atoms, :, None]

    def basis_slope(self, atoms: slice) -> Tensor:
        """Their derivatives by the pair vector, (n, M, 3, 16, K)."""
        outward = self.unit[atoms, :, :, None] * self.harmonics[atoms, :, None]
        slope = outward[..., None] * self.radial[1, atoms, :, None, None]
        return slope.addcmul_(self.harmonics_slope[atoms][..., None], self.radial[0, atoms, :, None, None])


def _harmonic_derivatives(
    harmonics: Tensor, unit: Tensor, inverse: Tensor, lowering: Tensor
) -> tuple[Tensor, Tensor]:
    """∂Y/∂r (N, M, 3, 16) and ∂²Y/∂r∂r (N, M, 9, 16) of Y(r/|r|).

    With S homogeneous of degree l, at |r| = 1: ∂_a Y = S_a − l n_a S and
    ∂_ab Y = S_ab − l (n_a S_b + n_b S_a + δ_ab S) + l (l + 2) n_a n_b S.
    """
    degree = degree_of_harmonic().to(unit)
    lower = harmonics[..., :N_LOWER]
    first = torch.einsum("nmb,kbs->nmks", lower, lowering)
    twice = torch.einsum("lcb,kbs->klcs", lowering[:, :, :N_LOWER], lowering)
    second = torch.einsum("nmc,klcs->nmkls", lower, twice)
    outward = unit[..., None] * harmonics[:, :, None]
    mixed = unit[:, :, :, None, None] * first[:, :, None]
    second -= degree * (mixed + mixed.transpose(2, 3))
    second -= degree * torch.eye(3).to(unit)[..., None] * harmonics[:, :, None, None]
    second += degree * (degree + 2) * unit[:, :, :, None, None] * outward[:, :, None]
    slope = (first - degree * outward) * inverse[..., None, None]
    return slope, second.flatten(2, 3) * (inverse * inverse)[..., None, None]


def _repulsion(model: HiMLIP, graph: Graph, distances: Tensor) -> Tensor:
    """First and second derivatives of the repulsion of each pair by its distance, (2, N, M)."""
    species = graph.species
    with torch.enable_grad():
        moved = distances.detach().requires_grad_(True)
        energy = model.repulsion(moved, species[:, None], species[graph.neighbours]).sum()
        (slope,) = torch.autograd.grad(energy, moved, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), moved)
    return torch.stack([slope.detach(), curvature])
