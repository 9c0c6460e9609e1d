"""All of a structure's Hessian at once: from the Jacobians of what each atom's energy is made of.

Let d be the densities of an atom, h the values under its SiLU and s the scalars that it takes from the layer
before, each of them linear in what comes before but for the products of a pair's functions.  By the chain
rule, layer by layer,

    H = Σ_i (∂d_i/∂x)ᵀ M_i (∂d_i/∂x) + the same of h and s + Σ_pairs (explicit and mixed second derivatives),

where M_i is the curvature of the energy by d_i alone.  In contrast to one product after the other, the work
is that of large matrix products, and what a displaced atom changes at its neighbours is worked out once.
Cost and memory grow with the square of the atoms in the range of an atom.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from himlip_ase.potential.angular import N_HARMONICS
from himlip_ase.potential.graph import Graph
from himlip_ase.potential.invariant_derivatives import N_OF_CHANNEL, by_channel, invariant_derivatives
from himlip_ase.potential.layer_states import Bends, LayerState, layer_states
from himlip_ase.potential.network import HiMLIP, Layer
from himlip_ase.potential.pair_derivatives import PairDerivatives
from himlip_ase.potential.sphere import N_FACTORS

BLOCK_BYTES = 6 * 1024**2
"""Of the Jacobians of the densities that are worked on together."""


@dataclass(frozen=True)
class Said:
    """Jacobians of what each atom passes to the next layer, by all 3N coordinates."""

    said: Tensor
    """(N, 16, F, 3N)"""
    scalars: Tensor
    """(N, hidden, 3N)"""


def dense_hessian_bytes(model: HiMLIP, graph: Graph) -> int:
    """Rough memory of `dense_hessian`.

    Parameters
    ----------
    model : HiMLIP
    graph : Graph

    Returns
    -------
    int
    """
    (n_atoms, width), config = graph.neighbours.shape, model.config
    columns = 3 * n_atoms
    said = n_atoms * config.edge_features * columns * (2 * width + 3 * N_HARMONICS)
    tables = n_atoms * width * (13 * N_HARMONICS + 6 * config.n_radial)
    numbers = said + tables + 2 * columns**2 + 2 * n_atoms * config.hidden * columns
    return numbers * graph.positions.element_size() + 12 * BLOCK_BYTES


@torch.no_grad()
def dense_hessian(model: HiMLIP, graph: Graph) -> Tensor:
    """Second derivatives of the energy of one structure by all of its coordinates.

    Parameters
    ----------
    model : HiMLIP
    graph : Graph
        Of one structure, in the precision of the model, on its device.

    Returns
    -------
    Tensor (3N, 3N)
        eV/Å².
    """
    pairs = PairDerivatives.of(model, graph)
    states = layer_states(model, graph, pairs)
    n_atoms = len(graph.positions)
    found = graph.positions.new_zeros(3 * n_atoms, 3 * n_atoms)
    _add_repulsion(found, pairs)
    said: Said | None = None
    layers = [layer for layer in model.layers if isinstance(layer, Layer)]
    for index, (layer, state) in enumerate(zip(layers, states, strict=True)):
        _add_pairs(found, pairs, state)
        if said is not None:
            _add_mixed(found, pairs, state, said)
        following = layers[index + 1] if index + 1 < len(layers) else None
        said = _add_densities(found, model, graph, pairs, layer, state, said, following)
    return found


def _add_densities(
    found: Tensor,
    model: HiMLIP,
    graph: Graph,
    pairs: PairDerivatives,
    layer: Layer,
    state: LayerState,
    said: Said | None,
    following: Layer | None,
) -> Said | None:
    """Adds Jᵀ M J of one layer's densities, hidden values and scalars; the Jacobians of what comes next."""
    n_atoms, columns, channels = len(graph.positions), len(found), model.config.channels
    along = None if said is None else _along_bonds(graph, pairs, said)
    passed, mixing = None, found.new_empty(0)
    if following is not None:
        assert following.bonds is not None
        passed = Said(
            found.new_empty(n_atoms, N_HARMONICS, model.config.edge_features, columns),
            found.new_empty(n_atoms, model.config.hidden, columns),
        )
        mixing = _channels_first(following.bonds.mixing()[[0, 1, 4, 9]], channels).transpose(1, 2)
    gate = layer.density.scale * layer.density.gate[graph.species]
    bends = Bends.of(layer, state, graph.species)
    row_bytes = N_HARMONICS * N_FACTORS * channels * columns * found.element_size()
    rows = max(1, BLOCK_BYTES // row_bytes)
    for start in range(0, n_atoms, rows):
        some = slice(start, min(start + rows, n_atoms))
        raw = _raw_jacobian(model, graph, pairs, state, some, along)
        density = raw.new_empty(len(raw), channels * N_FACTORS, N_HARMONICS * columns)
        for degree, mix in enumerate(layer.density.mix):
            gated = _channels_first((mix * gate[some, degree, None]).transpose(1, 2), channels)
            of_degree = slice(degree**2 * columns, (degree + 1) ** 2 * columns)
            torch.bmm(gated, raw[:, :, of_degree], out=density[:, :, of_degree])
            if passed is not None:
                part = torch.matmul(mixing[degree], density[:, :, of_degree])
                harmonics = slice(degree**2, (degree + 1) ** 2)
                passed.said[some, harmonics] = part.unflatten(2, (-1, columns)).transpose(1, 2)
        density = density.view(len(raw), channels, N_FACTORS * N_HARMONICS, columns)
        hidden = _add_atoms(found, layer, state, bends, some, density, said)
        if passed is not None:
            bent = bends.silu_slope[some, :, None] * hidden
            passed.scalars[some] = hidden + torch.matmul(layer.network.second.weight, bent)
    if passed is not None:
        assert following is not None and following.bonds is not None
        passed.said[:, 0] += torch.matmul(following.bonds.scalars.weight, passed.scalars)
    return passed


def _add_atoms(
    found: Tensor,
    layer: Layer,
    state: LayerState,
    bends: Bends,
    some: slice,
    density: Tensor,
    said: Said | None,
) -> Tensor:
    """Adds Jᵀ M J of some atoms, from their densities' Jacobian (n, C, 64, 3N); that of h (n, H, 3N)."""
    columns, channels, weight = len(found), density.shape[1], layer.network.first.weight
    invariants = slice(0, N_OF_CHANNEL * channels)
    jacobian, curvature = invariant_derivatives(
        layer.density, state.density[:, some], by_channel(state.to_inputs[some, invariants], channels)
    )
    bend = by_channel(bends.input_bend[some, invariants], channels)
    curvature += jacobian.transpose(2, 3) @ (bend[..., None] * jacobian)
    bent = torch.matmul(curvature, density)
    found.addmm_(density.reshape(-1, columns).T, bent.reshape(-1, columns))
    inputs = torch.matmul(jacobian, density).flatten(1, 2)
    weights = weight * bends.input_slope[some, None]
    hidden = torch.matmul(by_channel(weights[..., invariants], channels).flatten(2), inputs)
    if said is not None:
        scalars = slice(N_OF_CHANNEL * channels, None)
        hidden += torch.matmul(weights[..., scalars], said.scalars[some])
        _add_square(found, said.scalars[some], bends.input_bend[some, scalars])
    _add_square(found, hidden, bends.silu_bend[some])
    return hidden


def _channels_first(matrices: Tensor, channels: int) -> Tensor:
    """Rows (factor, channel) in the order (channel, factor)."""
    return matrices.unflatten(1, (N_FACTORS, channels)).transpose(1, 2).flatten(1, 2)


def _add_square(found: Tensor, jacobian: Tensor, bend: Tensor) -> None:
    """Adds Jᵀ diag(bend) J, with J (n, Q, 3N) and bend (n, Q)."""
    columns = len(found)
    found.addmm_(jacobian.reshape(-1, columns).T, (bend[..., None] * jacobian).reshape(-1, columns))


def _along_bonds(graph: Graph, pairs: PairDerivatives, said: Said) -> Tensor:
    """Change of what is heard along each bond as the other end says something else, (N · M, F · 3N).

    Row by row that of the bond that lies at the same place of the table, seen from the end that speaks.
    """
    parity = torch.ones(N_HARMONICS).to(said.said)
    parity[1:4] = parity[9:] = -1  # Y(−r) = (−1)^l Y(r)
    return torch.bmm(pairs.harmonics * parity, said.said.flatten(2)).flatten(0, 1)


def _raw_jacobian(
    model: HiMLIP, graph: Graph, pairs: PairDerivatives, state: LayerState, some: slice, along: Tensor | None
) -> Tensor:
    """∂(Σ_m φ_sk e_f)/∂x of some atoms, (n, K · F, 16 · 3N)."""
    n_atoms, width = pairs.neighbours.shape
    n, features, n_radial = some.stop - some.start, state.heard.shape[2], model.config.n_radial
    slope = pairs.basis_slope(some)
    place = (pairs.neighbours[some] + n_atoms * torch.arange(n, device=slope.device)[:, None]).flatten()
    own = torch.arange(n, device=slope.device)
    if along is None:
        # the same for all neighbours of a species: added up before it is multiplied with what is heard
        table = slope.new_zeros(n * n_atoms, 3 * N_HARMONICS * n_radial)
        table.index_add_(0, place, slope.flatten(2).flatten(0, 1))
        said_here = model.species_edge.detach()[graph.species]  # (N, F)
        explicit = said_here[None, :, :, None] * table.view(n, n_atoms, 1, -1)
    else:
        basis = pairs.basis(some)
        heard_slope = torch.einsum(
            "nmas,nmsf->nmfa", pairs.harmonics_slope[some], _said_of_neighbours(pairs, state, some)
        )
        product = state.heard[some][:, :, :, None, None, None] * slope[:, :, None]
        product.addcmul_(heard_slope[..., None, None], basis[:, :, None, None])
        table = slope.new_zeros(n * n_atoms, product[0, 0].numel())
        table.index_add_(0, place, product.flatten(2).flatten(0, 1))
        explicit = table.view(n, n_atoms, features, -1)
    explicit[own, own + some.start] -= explicit.sum(1)
    raw = explicit.view(n, n_atoms, features, 3, N_HARMONICS, n_radial).permute(0, 4, 5, 2, 1, 3)
    raw = raw.reshape(n, N_HARMONICS * n_radial, -1)
    if along is not None:
        other_ends = along.index_select(0, graph.reverse[some].flatten()).view(n, width, -1)
        raw = torch.baddbmm(raw, basis.flatten(2).transpose(1, 2), other_ends)
    by_function = raw.view(n, N_HARMONICS, n_radial, features, -1).permute(0, 2, 3, 1, 4)
    return by_function.reshape(n, n_radial * features, -1)


def _said_of_neighbours(pairs: PairDerivatives, state: LayerState, some: slice) -> Tensor:
    """What the neighbours of some atoms say, (n, M, 16, F)."""
    assert state.said is not None
    return state.said[pairs.neighbours[some]]


def _add_pairs(found: Tensor, pairs: PairDerivatives, state: LayerState) -> None:
    """Adds the second derivatives by the pair vectors, everything that atoms say held fixed.

    For one pair the energy is Σ_f p_f(r) e_f(n), with p_f = Σ_sk g_skf R_k(|r|) Y_s(n) and
    e_f = Σ_s said_sf Y_s(n).
    """
    unit = pairs.unit
    outer = unit[..., :, None] * unit[..., None, :]
    across = (torch.eye(3).to(unit) - outer) * pairs.inverse[..., None, None]
    values, slopes, p0_curvature = _pulled(pairs, state)
    p0, p1, p2 = values
    p0_slope, p1_slope = slopes  # (N, M, F, 3)
    turned = unit[:, :, None, :, None] * p1_slope[..., None, :]
    curvature = p2[..., None, None] * outer[:, :, None] + p1[..., None, None] * across[:, :, None]
    curvature += turned + turned.transpose(-1, -2) + p0_curvature.unflatten(-1, (3, 3))
    matrix = (curvature * state.heard[..., None, None]).sum(2)
    if state.said is not None:
        said = _said_of_neighbours(pairs, state, slice(None))
        slope = unit[:, :, None] * p1[..., None] + p0_slope
        heard_slope = torch.matmul(pairs.harmonics_slope, said)  # (N, M, 3, F)
        mixed = torch.matmul(slope.transpose(2, 3), heard_slope.transpose(2, 3))
        heard_curvature = torch.matmul(pairs.harmonics_curvature, said)  # (N, M, 9, F)
        matrix += mixed + mixed.transpose(2, 3)
        matrix += torch.matmul(heard_curvature, p0[..., None])[..., 0].unflatten(-1, (3, 3))
    _scatter(found, pairs, matrix)


def _pulled(pairs: PairDerivatives, state: LayerState) -> tuple[Tensor, Tensor, Tensor]:
    """Σ_s u_sf Y_s of every pair, with u_sf = Σ_k g_skf R_k.

    With R and its two derivatives in u, (3, N, M, F); the slopes of the first two by the direction
    (2, N, M, F, 3) and the curvature of the first (N, M, F, 9).
    """
    order, n_atoms, width, n_radial = pairs.radial.shape
    by_radial = state.to_raw.permute(0, 2, 3, 1).flatten(2)  # (N, K, F · 16)
    u = torch.bmm(pairs.radial.transpose(0, 1).reshape(n_atoms, order * width, n_radial), by_radial)
    u = u.view(n_atoms, order, width, -1, N_HARMONICS).transpose(0, 1)  # (3, N, M, F, 16)
    values = (u * pairs.harmonics[:, :, None]).sum(-1)
    slopes = torch.matmul(u[:2], pairs.harmonics_slope.transpose(2, 3))
    return values, slopes, torch.matmul(u[0], pairs.harmonics_curvature.transpose(2, 3))


def _add_repulsion(found: Tensor, pairs: PairDerivatives) -> None:
    """Adds that of the pair repulsion, V″ n nᵀ + V′ (1 − n nᵀ)/|r|."""
    slope, curvature = pairs.repulsion
    outer = pairs.unit[..., :, None] * pairs.unit[..., None, :]
    across = torch.eye(3).to(outer) - outer
    _scatter(
        found, pairs, curvature[..., None, None] * outer + (slope * pairs.inverse)[..., None, None] * across
    )


def _scatter(found: Tensor, pairs: PairDerivatives, matrix: Tensor) -> None:
    """Adds ∂²E/∂r∂r (N, M, 3, 3) of r = x_j − x_i to the blocks (i, i), (j, j), (i, j) and (j, i)."""
    n_atoms = len(matrix)
    own = torch.arange(n_atoms, device=matrix.device)[:, None].expand_as(pairs.neighbours)
    blocks = matrix.new_zeros(n_atoms * n_atoms, 9)
    flat = matrix.reshape(-1, 9)
    for one, other, sign in (
        (own, own, 1), (pairs.neighbours, pairs.neighbours, 1), (own, pairs.neighbours, -1),
        (pairs.neighbours, own, -1),
    ):  # fmt: skip
        blocks.index_add_(0, (one * n_atoms + other).flatten(), flat, alpha=sign)
    found += blocks.view(n_atoms, n_atoms, 3, 3).transpose(1, 2).reshape(3 * n_atoms, 3 * n_atoms)


def _add_mixed(found: Tensor, pairs: PairDerivatives, state: LayerState, said: Said) -> None:
    """Adds what is mixed of a pair vector and of what its neighbour says, and its transpose."""
    n_atoms, width = pairs.neighbours.shape
    values, slopes, _ = _pulled(pairs, state)
    slope = pairs.unit[:, :, :, None] * values[1][:, :, None] + slopes[0].transpose(2, 3)  # (N, M, 3, F)
    matrix = pairs.harmonics[:, :, None, :, None] * slope[:, :, :, None]
    matrix += pairs.harmonics_slope[..., None] * values[0][:, :, None, None]  # (N, M, 3, 16, F)
    flat = matrix.reshape(n_atoms * width, -1)
    own = torch.arange(n_atoms, device=flat.device)[:, None].expand_as(pairs.neighbours)
    table = flat.new_zeros(n_atoms * n_atoms, flat.shape[1])
    table.index_add_(0, (own * n_atoms + pairs.neighbours).flatten(), flat, alpha=-1)
    table.index_add_(0, (pairs.neighbours * (n_atoms + 1)).flatten(), flat)
    by_coordinate = table.view(n_atoms, n_atoms, 3, -1).transpose(1, 2).reshape(3 * n_atoms, -1)
    part = by_coordinate @ said.said.reshape(-1, 3 * n_atoms)
    found += part + part.T
