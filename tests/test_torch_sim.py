"""torch-sim's own checks, relaxation and molecular dynamics on a Hi-MLIP."""

from __future__ import annotations

import numpy as np
import pytest
import torch

torch_sim = pytest.importorskip("torch_sim")

from torch_sim.models.interface import validate_model_outputs  # noqa: E402

from himlip_ase import HiMLIPCalculator  # noqa: E402
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig  # noqa: E402
from himlip_ase.torch_sim import HiMLIPTorchSimModel  # noqa: E402

from .potential.zoo import h3s, rattled, small_model  # noqa: E402

CPU = torch.device("cpu")
NEW = hasattr(torch_sim, "Optimizer")
FIRE = torch_sim.Optimizer.fire if NEW else torch_sim.optimizers.fire
NVE = torch_sim.Integrator.nve if NEW else torch_sim.integrators.nve


def images():
    return [rattled(h3s(), 0.05, seed) for seed in (1, 2)] + [rattled(h3s() * (2, 1, 1), 0.05, 3)]


def state_of(frames):
    return torch_sim.io.atoms_to_state(frames, CPU, torch.float64)


def test_the_interface_is_met() -> None:
    config = HiMLIPConfig(("Si", "Fe"), cutoff=4.0, channels=2, hidden=8)
    validate_model_outputs(HiMLIPTorchSimModel(HiMLIP(config), CPU), CPU, torch.float64)


def test_energies_forces_and_stresses_are_those_of_the_calculator() -> None:
    frames = images()
    output = HiMLIPTorchSimModel(small_model(), CPU)(state_of(frames))
    expected = HiMLIPCalculator(small_model(), "cpu").evaluate(frames)
    assert np.allclose(output["energy"].numpy(), expected.energies, rtol=1e-13)
    assert np.abs(output["forces"].numpy() - np.concatenate(expected.forces)).max() < 1e-12
    for stress, voigt in zip(output["stress"].numpy(), expected.stresses, strict=True):
        assert np.abs(stress - stress.T).max() == 0
        assert np.allclose(stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], voigt, atol=1e-12)


def test_case_A5_energies_keep_their_digits_in_single_precision() -> None:
    """Where elements add 10⁴ eV, float32 has steps of a millielectronvolt."""
    shifted = HiMLIPTorchSimModel(small_model(), CPU, dtype=torch.float32)
    frames = [rattled(h3s(), 0.01, 1), rattled(h3s(), 0.011, 1)]
    state = torch_sim.io.atoms_to_state(frames, CPU, torch.float32)
    plain = shifted(state)["energy"].double()
    shifted.potential.get_buffer("energy_shift").sub_(2.0**13)
    energies = shifted(state)["energy"]
    assert energies.dtype == torch.float64 and float(energies.abs().min()) > 3e4
    assert float((energies.diff() - plain.diff()).abs()) < 1e-6
    assert float(energies.float().diff().sub(plain.diff()).abs()) > 1e-5


def test_a_batched_relaxation_lowers_every_energy_and_force() -> None:
    model, start = HiMLIPTorchSimModel(small_model(), CPU), state_of(images())
    before = model(start)
    final = torch_sim.optimize(start, model, optimizer=FIRE, max_steps=40)
    after = model(final)
    assert bool((after["energy"] < before["energy"]).all())
    for system in range(3):
        chosen = start.system_idx == system
        assert after["forces"][chosen].abs().max() < 0.5 * before["forces"][chosen].abs().max()


def test_batched_dynamics_conserve_the_energy_and_keep_their_lists() -> None:
    model = HiMLIPTorchSimModel(small_model(), CPU)

    def total(n_steps: int) -> torch.Tensor:
        final = torch_sim.integrate(
            state_of(images()),
            model,
            integrator=NVE,
            n_steps=n_steps,
            temperature=300.0,
            timestep=2e-4,
            seed=1,
        )
        kinetic = torch.zeros(3, dtype=torch.float64)
        kinetic.index_add_(0, final.system_idx, (final.momenta**2).sum(1) / (2 * final.masses))
        potentials.append(model(final)["energy"])
        return kinetic + potentials[-1]

    potentials: list[torch.Tensor] = []
    early = total(1)
    builds = sum(pairs.builds for pairs in model._lists)
    drift = (total(25) - early).abs().max()
    exchanged = (potentials[1] - potentials[0]).abs().max()
    assert drift < 0.02 * exchanged
    assert sum(pairs.builds for pairs in model._lists) - builds < 3 * 25 / 2
