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
from himlip_ase.potential.invariant_derivatives import by_channel, invariant_derivatives
from himlip_ase.potential.network import HiMLIP, Layer
from himlip_ase.potential.operators import arsinh
from himlip_ase.potential.pair_derivatives import PairDerivatives
from himlip_ase.potential.sphere import N_FACTORS

BLOCK_BYTES = 24 * 1024**2
"""Of the Jacobians of the densities that are worked on together."""


@dataclass(frozen=True)
class LayerState:
    """Values of one layer, and the derivatives of the energy by them (``to_``).

    Attributes
    ----------
    heard : Tensor (N, M, F)
        What is heard along each bond.
    said : Tensor (N, 16, F) or None
        What atoms say, of which that is made; None in the first layer.
    density : Tensor (16, N, 4 C)
    standard : Tensor (N, n_inputs)
        Standardised inputs of the network.
    hidden : Tensor (N, hidden)
    to_raw : Tensor (N, 16, K, F)
    to_inputs : Tensor (N, n_inputs)
    to_bent : Tensor (N, n_inputs)
        By arsinh of the standardised inputs.
    to_active : Tensor (N, hidden)
        By SiLU of the hidden values.
    """

    heard: Tensor
    said: Tensor | None
    density: Tensor
    standard: Tensor
    hidden: Tensor
    to_raw: Tensor
    to_inputs: Tensor
    to_bent: Tensor
    to_active: Tensor


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
    states = _states(model, graph, pairs)
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


def _states(model: HiMLIP, graph: Graph, pairs: PairDerivatives) -> list[LayerState]:
    """Forward pass, and the derivatives of the energy by its intermediate values."""
    species = graph.species
    basis = pairs.basis(slice(None)).flatten(2)
    n_atoms = len(basis)
    heard: Tensor = model.species_edge.detach()[species[pairs.neighbours]]
    said: Tensor | None = None
    states: list[tuple[Tensor | None, ...]] = []
    wanted: list[Tensor] = []
    energy = basis.new_zeros(())
    scalars = basis.new_empty(n_atoms, 0)
    with torch.enable_grad():
        for index, layer in enumerate(model.layers):
            assert isinstance(layer, Layer)
            if layer.bonds is not None:
                said = layer.bonds.said(density, scalars).transpose(0, 1)  # noqa: F821
                heard = torch.einsum("nms,nmsf->nmf", pairs.harmonics, said[pairs.neighbours])
            raw = torch.bmm(basis.transpose(1, 2), heard)
            if index == 0:
                raw = raw.detach().requires_grad_(True)
            by_harmonic = raw.unflatten(1, (N_HARMONICS, -1)).transpose(0, 1).flatten(2)
            density = layer.density.mixed(by_harmonic, species)
            inputs = layer.density.invariants(density)
            if scalars.shape[1]:
                inputs = torch.cat([inputs, scalars], dim=1)
            network = layer.network
            standard = (inputs - network.centre[species]) / network.spread[species]
            bent = arsinh(standard)
            hidden = network.first(bent) + network.species[species]
            active = torch.nn.functional.silu(hidden)
            scalars = hidden + network.second(active)
            energy = energy + (layer.readout(scalars).gather(1, species[:, None])).sum()
            states.append((heard, said, density, standard, hidden))
            wanted += [raw, inputs, bent, active]
        gradients = torch.autograd.grad(model.energy_scale * energy, wanted)
    shape = (n_atoms, N_HARMONICS, model.config.n_radial, -1)
    found = []
    for index, values in enumerate(states):
        to_raw, *others = gradients[4 * index : 4 * index + 4]
        kept = (None if value is None else value.detach() for value in values)
        found.append(LayerState(*kept, to_raw.reshape(shape), *others))  # type: ignore[arg-type]
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
    n_atoms, columns = len(graph.positions), len(found)
    config, network = model.config, layer.network
    channels, species = config.channels, graph.species
    n_invariants = layer.density.n_invariants(config)
    slope = torch.rsqrt(1 + state.standard**2) / network.spread[species]
    bend = -state.to_bent * state.standard * (1 + state.standard**2) ** -1.5 / network.spread[species] ** 2
    sigmoid = torch.sigmoid(state.hidden)
    silu_slope = sigmoid * (1 + state.hidden * (1 - sigmoid))
    silu_bend = state.to_active * sigmoid * (1 - sigmoid) * (2 + state.hidden * (1 - 2 * sigmoid))
    first = by_channel(network.first.weight[:, :n_invariants], channels)
    gate = layer.density.scale * layer.density.gate[species]
    along = None if said is None else _along_bonds(graph, pairs, said)
    mixing = passed = None
    if following is not None:
        assert following.bonds is not None
        mixing = following.bonds.mixing()
        passed = Said(
            found.new_empty(n_atoms, N_HARMONICS, config.edge_features, columns),
            found.new_empty(n_atoms, config.hidden, columns),
        )
    width = N_HARMONICS * N_FACTORS * channels * columns * found.element_size()
    rows = max(1, BLOCK_BYTES // width)
    for start in range(0, n_atoms, rows):
        some = slice(start, min(start + rows, n_atoms))
        raw = _raw_jacobian(model, graph, pairs, state, some, along)
        density = raw.new_empty(len(raw), channels, N_FACTORS, N_HARMONICS, columns)
        for degree in range(4):
            of_degree = slice(degree**2, (degree + 1) ** 2)
            mix = layer.density.mix[degree].T * gate[some, degree, :, None]
            mixed = torch.matmul(mix[:, None], raw[:, of_degree])
            density[:, :, :, of_degree] = mixed.unflatten(2, (N_FACTORS, channels)).permute(0, 3, 2, 1, 4)
            if mixing is not None and passed is not None:
                passed.said[some, of_degree] = torch.matmul(mixing[of_degree].transpose(1, 2), mixed)
        density = density.flatten(2, 3)
        jacobian, curvature = invariant_derivatives(
            layer.density, state.density[:, some], by_channel(state.to_inputs[some, :n_invariants], channels)
        )
        bend_here = by_channel(bend[some, :n_invariants], channels)
        curvature += jacobian.transpose(2, 3) @ (bend_here[..., None] * jacobian)
        bent = torch.matmul(curvature, density)
        found.addmm_(density.reshape(-1, columns).T, bent.reshape(-1, columns))
        inputs = torch.matmul(jacobian, density).flatten(1, 2)
        weight = first * by_channel(slope[some, :n_invariants], channels)[:, None]
        hidden = torch.matmul(weight.flatten(2), inputs)
        if said is not None:
            scalars = said.scalars[some]
            hidden += torch.matmul(network.first.weight[:, n_invariants:] * slope[some, None, n_invariants:], scalars)
            _add_square(found, scalars, bend[some, n_invariants:])
        _add_square(found, hidden, silu_bend[some])
        if passed is not None:
            passed.scalars[some] = hidden + torch.matmul(network.second.weight, silu_slope[some, :, None] * hidden)
    if passed is not None:
        assert following is not None and following.bonds is not None
        passed.said[:, 0] += torch.matmul(following.bonds.scalars.weight, passed.scalars)
    return passed


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
    """∂(Σ_m φ_sk e_f)/∂x of some atoms, (n, 16, K · F, 3N)."""
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
    return raw.reshape(n, N_HARMONICS, n_radial * features, 3 * n_atoms)


def _said_of_neighbours(pairs: PairDerivatives, state: LayerState, some: slice) -> Tensor:
    """(n, M, 16, F)"""
    assert state.said is not None
    return state.said[pairs.neighbours[some]]


def _add_pairs(found: Tensor, pairs: PairDerivatives, state: LayerState) -> None:
    """Adds the second derivatives by the pair vectors, everything that atoms say held fixed.

    For one pair the energy is Σ_f p_f(r) e_f(n), with p_f = Σ_sk g_skf R_k(|r|) Y_s(n), e_f = Σ_s said_sf Y_s.
    """
    unit, harmonics = pairs.unit, pairs.harmonics
    outer = unit[..., :, None] * unit[..., None, :]
    across = (torch.eye(3).to(unit) - outer) * pairs.inverse[..., None, None]
    values, slopes, p0_curvature = _pulled(pairs, state, slice(None))
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
    del harmonics
    _scatter(found, pairs, matrix)


def _pulled(pairs: PairDerivatives, state: LayerState, some: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Σ_s u_sf Y_s, u = Σ_k g_skf R_k with zero to two derivatives of R (3, N, M, F), their slopes by the
    direction (2, N, M, F, 3) and the curvature of the first (N, M, F, 9)."""
    radial = pairs.radial[:, some]
    order, n, width, n_radial = radial.shape
    by_radial = state.to_raw[some].permute(0, 2, 3, 1).flatten(2)  # (N, K, F · 16)
    u = torch.bmm(radial.transpose(0, 1).reshape(n, order * width, n_radial), by_radial)
    u = u.view(n, order, width, -1, N_HARMONICS).transpose(0, 1)  # (3, N, M, F, 16)
    values = (u * pairs.harmonics[some, :, None]).sum(-1)
    slopes = torch.matmul(u[:2], pairs.harmonics_slope[some].transpose(2, 3))
    return values, slopes, torch.matmul(u[0], pairs.harmonics_curvature[some].transpose(2, 3))


def _add_repulsion(found: Tensor, pairs: PairDerivatives) -> None:
    """Adds that of the pair repulsion, V″ n nᵀ + V′ (1 − n nᵀ)/|r|."""
    slope, curvature = pairs.repulsion
    outer = pairs.unit[..., :, None] * pairs.unit[..., None, :]
    across = torch.eye(3).to(outer) - outer
    _scatter(found, pairs, curvature[..., None, None] * outer + (slope * pairs.inverse)[..., None, None] * across)


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
    values, slopes, _ = _pulled(pairs, state, slice(None))
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
