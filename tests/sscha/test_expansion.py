"""a(T) of a crystal that is harmonic in every cell: the SSCHA, too, is exact there."""

from __future__ import annotations

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.evaluation import Evaluation
from himlip_ase.sscha import SschaSettings, sscha_expansion

from ..phonons.grueneisen import GrueneisenCrystal


def forces_of(crystal: GrueneisenCrystal):
    def evaluate(images, /):
        found = []
        for image in images:
            copy = image.copy()
            copy.calc = crystal
            found.append((copy.get_potential_energy(), copy.get_forces(), copy.get_stress()))
        energies, forces, stresses = (np.array(column) for column in zip(*found, strict=True))
        return Evaluation(energies, forces, stresses)

    return evaluate


def test_exact_crystal_and_resuming(tmp_path):
    crystal = GrueneisenCrystal()
    settings = SschaSettings(
        n_configurations=60, n_hessian_configurations=120, n_blocks=10, pressure_gpa=0.0, seed=2
    )
    start, temperatures = crystal.constants.dynamical_matrices(), (0.0, 500.0)
    found, results = sscha_expansion(start, forces_of(crystal), temperatures, tmp_path, settings)
    exact = np.array([crystal.exact_volume(t) for t in temperatures])
    assert np.ptp(exact) > 5 * found.volume_sigma.max()
    assert (np.abs(found.volumes - exact) < 4 * found.volume_sigma).all()
    assert np.diff(found.volumes)[0] == pytest.approx(np.diff(exact)[0], rel=0.1)
    assert all(result.converged for result in results.values())
    again, _ = sscha_expansion(start, forces_of(crystal), temperatures, tmp_path, settings, resume=True)
    assert np.array_equal(again.volumes, found.volumes)


def test_a_pressure_is_needed(tmp_path):
    crystal = GrueneisenCrystal()
    with pytest.raises(InputError, match="pressure"):
        sscha_expansion(
            crystal.constants.dynamical_matrices(), forces_of(crystal), [0.0], tmp_path, SschaSettings()
        )
