"""Projected losses estimate the full one; curricula grow as stated; settings refuse nonsense."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from himlip_ase.errors import InputError
from himlip_ase.hint.training.config import read_training_config
from himlip_ase.hint.training.curriculum import Curriculum
from himlip_ase.hint.training.losses import (
    LossWeights,
    energy_loss,
    forces_loss,
    projected_hessian_loss,
    squared,
    stress_loss,
)
from himlip_ase.hint.training.projections import draw_probes, project
from himlip_ase.hint.training.settings import TrainingSettings

N = 4


def _error_matrix() -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn((3 * N, 3 * N), generator=generator, dtype=torch.float64)
    return (matrix + matrix.T).view(N, 3, N, 3)


def _loss(error: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    return projected_hessian_loss(project(error, vectors), torch.zeros_like(vectors), vectors)


def test_all_columns_give_the_full_loss() -> None:
    error = _error_matrix()
    assert float(_loss(error, draw_probes("full", N))) == pytest.approx(float((error**2).mean()), rel=1e-12)


@pytest.mark.parametrize("kind", ["rademacher", "gaussian", "one-hot"])
@pytest.mark.parametrize("number", [1, 3])
def test_expectation_of_the_projected_loss_is_the_full_loss(kind: str, number: int) -> None:
    """Mean over many draws within five standard errors of the mean squared error of the matrix."""
    error, generator = _error_matrix(), torch.Generator().manual_seed(0)
    draws = [float(_loss(error, draw_probes(kind, N, number, generator))) for _ in range(4000)]  # type: ignore[arg-type]
    standard_error = np.std(draws) / len(draws) ** 0.5
    assert abs(np.mean(draws) - float((error**2).mean())) < 5 * standard_error
    assert standard_error < 0.05 * np.mean(draws)


@pytest.mark.parametrize("kind", ["rademacher", "gaussian", "one-hot"])
def test_probes_have_the_stated_moments_and_seeds(kind: str) -> None:
    generator = torch.Generator().manual_seed(1)
    vectors = torch.cat([draw_probes(kind, N, 4, generator) for _ in range(2000)]).view(-1, 3 * N)  # type: ignore[arg-type]
    second = vectors.T @ vectors / len(vectors)
    expected = torch.eye(3 * N, dtype=torch.float64) * (1.0 if kind == "rademacher" else 1 / (3 * N))
    assert torch.allclose(second, expected, atol=0.08 * float(expected.max()))
    again = draw_probes(kind, N, 4, torch.Generator().manual_seed(1))  # type: ignore[arg-type]
    assert torch.equal(again.view(-1, 3 * N), vectors[:4])
    if kind == "rademacher":
        assert set(vectors.unique().tolist()) == {-1.0, 1.0}
    else:
        assert torch.allclose(vectors.norm(dim=1), torch.ones(len(vectors), dtype=torch.float64))


def test_fixed_probes_are_always_the_same_signs() -> None:
    generator = torch.Generator().manual_seed(7)
    first, again = (draw_probes("fixed", N, 2, generator) for _ in range(2))
    assert torch.equal(first, again)
    assert set(first.unique().tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize("kind", ["linear", "cosine", "geometric", "step"])
def test_curricula_grow_from_start_to_end(kind: str) -> None:
    curriculum = Curriculum(kind, start=0.01, end=4.0, until=0.8)  # type: ignore[arg-type]
    factors = [curriculum.factor(p) for p in np.linspace(0, 1, 41)]
    assert factors[0] == pytest.approx(0.01) and factors[-1] == factors[-9] == pytest.approx(4.0)
    assert (np.diff(factors) >= -1e-12).all()
    middle = {"linear": 2.005, "cosine": 2.005, "geometric": 0.2, "step": 0.01}
    assert curriculum.factor(0.4) == pytest.approx(middle[kind])


def test_one_hot_columns_of_a_draw_are_distinct_and_bounded() -> None:
    vectors = draw_probes("one-hot", N, 3 * N)
    assert torch.linalg.matrix_rank(vectors.view(3 * N, 3 * N)) == 3 * N
    with pytest.raises(InputError, match="1 to 12"):
        draw_probes("one-hot", N, 3 * N + 1)
    with pytest.raises(InputError, match="allowed: rademacher"):
        draw_probes("sobol", N)  # type: ignore[arg-type]


def test_frame_losses_are_means_over_labelled_parts() -> None:
    two = torch.tensor([2.0, 4.0])
    value = energy_loss(torch.tensor([1.0, 9.0]), torch.tensor([3.0, 5.0]), two, torch.tensor([1.0, 0.0]))
    assert float(value) == pytest.approx(0.5)
    forces = torch.tensor([[1.0, 0, 0], [0, 2.0, 0]])
    assert float(forces_loss(forces, torch.zeros(2, 3), torch.ones(2))) == pytest.approx(5 / 6)
    stress = torch.ones(1, 3, 3)
    assert float(stress_loss(stress, 3 * stress, torch.ones(1))) == pytest.approx(4.0)


def test_huber_is_continuous_in_value_and_slope() -> None:
    x = torch.tensor([0.5 - 1e-9, 0.5 + 1e-9, 3.0], dtype=torch.float64, requires_grad=True)
    y = squared(x, huber=0.5)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert float(y[0]) == pytest.approx(float(y[1]), abs=1e-7)
    assert slope.tolist() == pytest.approx([1.0, 1.0, 1.0])


def test_linear_curriculum_is_equation_3() -> None:
    growing = Curriculum("linear", start=0.1, end=0.9)
    assert [growing.factor(p) for p in (0, 0.5, 1)] == pytest.approx([0.1, 0.5, 0.9])
    early = Curriculum("linear", start=0.0, end=1.0, until=0.5)
    assert [early.factor(p) for p in (0.25, 0.5, 0.75)] == pytest.approx([0.5, 1.0, 1.0])
    assert Curriculum("constant", end=0.3).factor(0.0) == 0.3
    with pytest.raises(InputError, match="linear, constant"):
        Curriculum("cubic")  # type: ignore[arg-type]


def test_settings_survive_a_round_trip_and_refuse_typos(tmp_path) -> None:
    settings = TrainingSettings(epochs=3, loss=LossWeights(hessian=7.0), curriculum=Curriculum("constant"))
    assert TrainingSettings.from_dict(settings.to_dict()) == settings
    with pytest.raises(InputError, match="did you mean 'learning_rate'"):
        TrainingSettings.from_dict({"lerning_rate": 1e-3})
    with pytest.raises(InputError, match="did you mean 'hessian'"):
        TrainingSettings.from_dict({"loss": {"hesian": 1}})
    with pytest.raises(InputError, match="no end"):
        TrainingSettings(epochs=None)
    path = tmp_path / "train.yaml"
    path.write_text("training:\n  epochs: 7\n  loss: {forces: 3}\nnetwork:\n  elements: [H]\n  hidden: 8\n")
    read, network = read_training_config(path, {"epochs": 9})
    assert (read.epochs, read.loss.forces) == (9, 3)
    assert network is not None and (network.hidden, network.elements) == (8, ("H",))
    path.write_text("trainings: {}\n")
    with pytest.raises(InputError, match="did you mean 'training'"):
        read_training_config(path)
    path.write_text("training: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(InputError, match="without tags"):
        read_training_config(path)
