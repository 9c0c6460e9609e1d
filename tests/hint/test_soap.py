"""SOAP: Adam's steps where gradients have no preferred axes, whatever axes the weights are written in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from himlip_ase.hint.training.soap import SOAP


def rotation(size: int, seed: int) -> torch.Tensor:
    """A random orthogonal matrix."""
    return torch.linalg.qr(torch.tensor(np.random.default_rng(seed).normal(size=(size, size))))[0]


def problem(decades: float = 3, size: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A linear regression W X ≈ Y whose inputs span so many decades, and starting weights."""
    rng = np.random.default_rng(0)
    scales = torch.logspace(0, -decades, size, dtype=torch.float64)
    inputs = rotation(size, 1) @ (scales[:, None] * torch.tensor(rng.normal(size=(size, 40))))
    outputs = torch.tensor(rng.normal(size=(size, size))) @ inputs
    return inputs, outputs, torch.tensor(rng.normal(size=(size, size)))


def descend(kind, weights, loss, steps: int, **settings) -> tuple[torch.Tensor, float]:
    """Weights after so many steps, and the loss there."""
    weights = weights.clone().requires_grad_(True)
    optimizer = kind([weights], **settings)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(weights).backward()
        optimizer.step()
    return weights.detach(), float(loss(weights.detach()))


def test_path_does_not_depend_on_the_axes_of_the_weights() -> None:
    inputs, outputs, start = problem(decades=1)
    left, right = rotation(6, 2), rotation(6, 3)

    def loss(weights: torch.Tensor) -> torch.Tensor:
        return ((weights @ inputs - outputs) ** 2).mean()

    plain, _ = descend(SOAP, start, loss, 15, lr=0.02)
    turned, _ = descend(SOAP, left @ start @ right, lambda w: loss(left.T @ w @ right.T), 15, lr=0.02)
    assert (turned - left @ plain @ right).abs().max() < 1e-8
    adam = [
        descend(torch.optim.Adam, start, loss, 15, lr=0.02)[0],
        descend(torch.optim.Adam, left @ start @ right, lambda w: loss(left.T @ w @ right.T), 15, lr=0.02)[0],
    ]
    assert (adam[1] - left @ adam[0] @ right).abs().max() > 1e-2


def test_correlated_inputs_do_not_slow_it_down() -> None:
    inputs, outputs, start = problem()

    def loss(weights: torch.Tensor) -> torch.Tensor:
        return ((weights @ inputs - outputs) ** 2).mean()

    _, own = descend(SOAP, start, loss, 300, lr=0.02)
    _, adam = descend(torch.optim.Adam, start, loss, 300, lr=0.02)
    assert own < 0.1 * adam


def test_vectors_take_the_steps_of_adam() -> None:
    start = torch.tensor([1.0, -2.0, 0.3], dtype=torch.float64)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return (x**4).sum() + x[0] * x[1]

    own, _ = descend(SOAP, start, loss, 20, lr=0.01, decay=0.9)
    adam, _ = descend(torch.optim.Adam, start, loss, 20, lr=0.01, betas=(0.9, 0.9))
    assert torch.allclose(own, adam, atol=1e-12)


def test_matrices_of_a_stack_do_not_see_each_other() -> None:
    inputs, outputs, start = problem()

    def loss(weights: torch.Tensor) -> torch.Tensor:
        return ((weights @ inputs - outputs) ** 2).sum()

    def together(stack: torch.Tensor) -> torch.Tensor:
        return loss(stack[0]) + 3 * loss(stack[1])

    pair, _ = descend(SOAP, torch.stack([start, 2 * start]), together, 15)
    first, _ = descend(SOAP, start, loss, 15)
    second, _ = descend(SOAP, 2 * start, lambda w: 3 * loss(w), 15)
    assert torch.allclose(pair[0], first, atol=1e-9) and torch.allclose(pair[1], second, atol=1e-9)


@pytest.mark.parametrize("shape", [(3,), (4, 4)])
def test_weight_decay_shrinks_matrices_only(shape: tuple[int, ...]) -> None:
    start = torch.ones(shape, dtype=torch.float64)
    after, _ = descend(SOAP, start, lambda w: 0 * w.sum(), 3, lr=0.1, weight_decay=0.5)
    # The first gradient only sets the bases of a matrix.
    expected = 1.0 if len(shape) == 1 else 0.95**2
    assert torch.allclose(after, expected * start, atol=1e-12)
