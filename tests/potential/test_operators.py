"""Derivatives that are written down are those of the functions, to third order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from himlip_ase.potential import blocks
from himlip_ase.potential.angular import (
    derivative_of_harmonics,
    harmonics_on_sphere,
    solid_harmonics,
    sphere_quadrature,
)
from himlip_ase.potential.graph import build_graph
from himlip_ase.potential.operators import arsinh, density, pair_difference, seen_from_the_other_end
from himlip_ase.potential.sphere import sphere_integrals

from .zoo import h2s, rattled, slab, small_model


def random(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, dtype=torch.float64, generator=generator).mul(0.5).requires_grad_(True)


def operations() -> dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]]:
    graph = build_graph([h2s(), rattled(h2s())], ("H", "S"), 3.0)
    n_atoms, width = graph.neighbours.shape
    on_sphere, weights = harmonics_on_sphere()
    low = on_sphere * (torch.arange(16) < 9)[:, None]
    return {
        "density": (density, (random(2, 3, 4), random(2, 2, 4), random(2, 5, 4))),
        "harmonics": (lambda v: solid_harmonics(v, derivative_of_harmonics()), (random(2, 3, 4),)),
        "integrals": (lambda d: sphere_integrals(d, on_sphere, low, weights), (random(2, 4, 16),)),
        "pairs": (lambda x: pair_difference(x, graph.neighbours, graph.reverse), (random(n_atoms, 3),)),
        "other end": (
            lambda v: seen_from_the_other_end(v, graph.reverse),
            (random(n_atoms, 2, width),),
        ),
        "arsinh": (arsinh, (random(7),)),
    }


@pytest.mark.parametrize("name", operations())
def test_first_second_and_third_derivatives(name: str) -> None:
    function, inputs = operations()[name]
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)

    def second(*inputs: Tensor) -> Tensor:
        first = torch.autograd.grad(torch.tanh(function(*inputs)).sum(), inputs, create_graph=True)
        along = sum((g * torch.cos(x)).sum() for g, x in zip(first, inputs, strict=True))
        return torch.cat([g.flatten() for g in torch.autograd.grad(along, inputs, create_graph=True)])

    assert torch.autograd.gradcheck(second, inputs)


@pytest.mark.parametrize("name", ["density", "harmonics", "integrals"])
def test_blocks_give_what_the_whole_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function, inputs = operations()[name]

    def everything() -> list[Tensor]:
        values = function(*inputs)
        first = torch.autograd.grad((values**2).sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum((g**2).sum() for g in first), inputs)
        return [values, *first, *second]

    with blocks.without_blocks():
        whole = everything()
    monkeypatch.setattr(blocks, "CACHE_BYTES", 1)
    for one, two in zip(everything(), whole, strict=True):
        assert torch.allclose(one, two, rtol=1e-13, atol=1e-13)


def test_only_the_gradients_that_are_wanted_are_made() -> None:
    radial, edge, harmonics = random(2, 3, 4), random(2, 2, 4).detach(), random(2, 5, 4)
    (first,) = torch.autograd.grad((density(radial, edge, harmonics) ** 2).sum(), radial, create_graph=True)
    (mixed,) = torch.autograd.grad((first**2).sum(), harmonics)
    assert torch.isfinite(mixed).all() and mixed.abs().max() > 0


def test_harmonics_are_orthonormal_under_the_quadrature() -> None:
    values, weights = harmonics_on_sphere()
    assert torch.allclose((values * weights) @ values.T, torch.eye(16, dtype=torch.float64), atol=1e-13)
    points, _ = sphere_quadrature()
    harmonics = solid_harmonics(2.0 * points.T[None], derivative_of_harmonics())[0]
    scale = 2.0 ** torch.tensor([0, *[1] * 3, *[2] * 5, *[3] * 7])
    assert torch.allclose(harmonics, scale[:, None] * values, rtol=1e-13, atol=1e-13)


def test_products_of_harmonics_up_to_the_degree_in_use_are_integrated_exactly() -> None:
    from scipy.integrate import lebedev_rule

    values, weights = harmonics_on_sphere()
    points, finer = lebedev_rule(17)
    exact_values = solid_harmonics(torch.as_tensor(points.copy())[None], derivative_of_harmonics())[0]
    exact_weights = torch.as_tensor(finer / finer.sum())

    def integrals(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        low = values[:9]
        return (
            torch.einsum("ag,bg,cg,g->abc", values, values, values, weights),
            torch.einsum("ag,bg,cg,dg,g->abcd", low, low, low, low, weights),
        )

    for ours, exact in zip(integrals(values, weights), integrals(exact_values, exact_weights), strict=True):
        assert torch.allclose(ours, exact, rtol=0, atol=1e-12)


def test_arsinh_is_that_of_torch_over_all_sizes() -> None:
    values = torch.cat([-torch.logspace(-18, 18, 200), torch.zeros(1), torch.logspace(-18, 18, 200)]).double()
    assert torch.allclose(arsinh(values), torch.asinh(values), rtol=1e-14, atol=0)


def test_the_network_runs_in_single_precision() -> None:
    import copy

    model = small_model()
    graph = build_graph([slab(), h2s()], model.elements, model.cutoff)
    single = copy.deepcopy(model).float()
    energies = single(graph.to(dtype=torch.float32)).detach()
    assert energies.dtype == torch.float64, "element energies are added in double precision"
    assert next(single.parameters()).dtype == torch.float32
    assert torch.allclose(energies.double(), model(graph).detach(), rtol=1e-5)


def test_radial_functions_differ_in_no_derivative_from_the_recorded_ones() -> None:
    from himlip_ase.potential.radial import RadialBasis

    basis, results = RadialBasis(5, 4.0), []
    for recorded in (True, False):
        basis.wave_numbers.requires_grad_(recorded)
        r = torch.linspace(0.3, 4.2, 60, dtype=torch.float64)[None].requires_grad_(True)
        weights = torch.linspace(1, 2, 5, dtype=torch.float64)[:, None]
        value, found = (basis(r) * weights).sum(), []
        for _ in range(5):
            (slope,) = torch.autograd.grad(value, r, create_graph=True)
            found.append(slope.detach())
            value = (slope * torch.cos(r)).sum()
        results.append(found)
    for one, two in zip(*results, strict=True):
        assert torch.allclose(one, two, rtol=1e-10, atol=1e-12 * float(two.abs().max()))
