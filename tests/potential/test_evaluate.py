"""A batch says what its members say, whatever the batches, and never lets a NaN through."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

import himlip_ase.potential.evaluate as module
from himlip_ase.errors import CalculationError, InputError
from himlip_ase.potential.evaluate import evaluate

from .zoo import ZOO, h3s, rattled, small_model


def images() -> list[Atoms]:
    found = [build() for build in ZOO.values()] + [Atoms("H"), Atoms("S", positions=[[90, 0, 0]])]
    return found + [rattled(h3s() * (2, 1, 1), seed=seed) for seed in (8, 9)]


def assert_same(first, second, tolerance: float = 1e-12) -> None:
    assert np.allclose(first.energies, second.energies, rtol=tolerance, atol=0)
    for one, two in zip(first.forces, second.forces, strict=True):
        assert one.shape == two.shape
        assert np.abs(one - two).max() <= tolerance * max(1.0, np.abs(two).max())
    assert np.allclose(first.stresses, second.stresses, rtol=0, atol=tolerance, equal_nan=True)


def test_batch_is_its_members() -> None:
    model, frames = small_model(), images()
    batch = evaluate(model, frames)
    singles = [evaluate(model, frame) for frame in frames]
    assert np.allclose(batch.energies, [single.energies[0] for single in singles], rtol=1e-12, atol=0)
    for index, single in enumerate(singles):
        scale = max(1.0, np.abs(single.forces[0]).max())
        assert np.abs(batch.forces[index] - single.forces[0]).max() <= 1e-12 * scale
        assert np.allclose(batch.stresses[index], single.stresses[0], rtol=0, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("chunk_atoms", [1, 5, 9, 1000])
def test_values_do_not_depend_on_the_batches(chunk_atoms: int) -> None:
    assert_same(evaluate(small_model(), images(), chunk_atoms=chunk_atoms), evaluate(small_model(), images()))


def test_stress_is_there_for_crystals_only_and_when_asked() -> None:
    frames = images()
    result = evaluate(small_model(), frames)
    crystals = np.array([bool(frame.pbc.all()) for frame in frames])
    assert np.isfinite(result.stresses[crystals]).all() and np.isnan(result.stresses[~crystals]).all()
    without = evaluate(small_model(), frames, stress=False)
    assert np.isnan(without.stresses).all()
    assert np.allclose(without.energies, result.energies, rtol=1e-13)


def test_out_of_memory_halves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [rattled(h3s(), seed=seed) for seed in range(7)]
    expected = evaluate(small_model(), frames)
    true_function, sizes = module.energy_forces_stress, []

    def hungry(model, graph, stress=True):
        sizes.append(graph.n_frames)
        if graph.n_frames > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return true_function(model, graph, stress=stress)

    monkeypatch.setattr(module, "energy_forces_stress", hungry)
    assert_same(evaluate(small_model(), frames), expected)
    assert max(sizes) == 7 and sum(size for size in sizes if size <= 2) == 7


def test_a_structure_too_large_for_the_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(model, graph, stress=True):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(module, "energy_forces_stress", hungry)
    with pytest.raises(RuntimeError, match="allocate"):
        evaluate(small_model(), [h3s(), h3s()])


def test_other_failures_are_not_taken_for_missing_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def broken(model, graph, stress=True):
        calls.append(1)
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(module, "energy_forces_stress", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        evaluate(small_model(), [h3s(), h3s()])
    assert len(calls) == 1


def test_fault_22_non_finite_output_names_the_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    true_function = module.energy_forces_stress

    def poisoned(model, graph, stress=True):
        result = true_function(model, graph, stress=stress)
        result.forces[graph.frame == 1, 2] = torch.nan
        return result

    monkeypatch.setattr(module, "energy_forces_stress", poisoned)
    frames = [rattled(h3s(), seed=seed) for seed in range(3)]
    with pytest.raises(CalculationError, match=r"forces for structure 1 \(H3S\)"):
        evaluate(small_model(), frames)


def test_a_bad_structure_is_named_by_its_place() -> None:
    frames = [h3s(), h3s(), h3s()]
    frames[2].positions[1] = np.nan
    with pytest.raises(InputError, match=r"structure 2 .*atom 1"):
        evaluate(small_model(), frames)


def test_nothing_gives_nothing() -> None:
    result = evaluate(small_model(), [])
    assert result.energies.shape == (0,) and result.forces == [] and result.stresses.shape == (0, 6)


def test_the_model_stays_trainable() -> None:
    model = small_model()
    evaluate(model, h3s())
    assert all(parameter.requires_grad for parameter in model.parameters())
