"""Harmonic matrices of the potential carry phonons onto the grid of G(q)."""

from __future__ import annotations

import numpy as np
import pytest

from himlip_ase.calculator import HiMLIPCalculator
from himlip_ase.errors import InputError
from himlip_ase.lattice import commensurate_qpoints
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.harmonic import harmonic_force_constants
from himlip_ase.pipeline.carriers import Carriers
from himlip_ase.superconductivity.analysis import analyse
from himlip_ase.superconductivity.coupling import mode_coupling
from himlip_ase.superconductivity.elph_matrices import ElphMatrices
from himlip_ase.superconductivity.options import TcOptions
from tests.potential.zoo import h3s, small_model


def _potential(dims: tuple[int, int, int], scale: float = 1.0) -> DynamicalMatrices:
    crystal = h3s()
    crystal.set_cell(crystal.cell.array * scale, scale_atoms=True)
    return harmonic_force_constants(crystal, HiMLIPCalculator(small_model()), dims).dynamical_matrices()


def test_the_potentials_own_phonons_arrive_as_they_are() -> None:
    """An SSCHA without anharmonicity gives D_harm: on the finer grid it must give D_harm there."""
    carriers = Carriers(small_model(), (2, 2, 2))
    small = _potential((1, 1, 1))
    carrier = carriers.carrying(small)
    assert carrier is not None and carriers.carrying(small) is carrier
    exact = _potential((2, 2, 2))
    assert np.abs(carrier.matrices - exact.matrices).max() < 1e-9
    assert carriers.carrying(exact) is None
    strained = carriers.carrying(_potential((1, 1, 1), 1.01))
    assert strained is not None and strained is not carrier


def test_the_carrier_replaces_the_harmonic_matrices_of_dft(monkeypatch: pytest.MonkeyPatch) -> None:
    """DFT's matrices, wrong at q off the SSCHA's grid, do not enter λ where the potential's carry."""
    exact = _potential((2, 2, 2))
    stiff = exact.with_matrices(exact.matrices + 300 * np.eye(12))  # stable
    wrong = stiff.with_matrices(stiff.matrices * np.where(np.arange(8) == 0, 1.0, 1.2)[:, None, None])
    sscha = DynamicalMatrices(exact.primitive, (1, 1, 1), commensurate_qpoints((1, 1, 1)), stiff.matrices[:1])
    g = np.tile(1e-3 * np.eye(12, dtype=complex), (1, 8, 1, 1))
    elph = ElphMatrices(
        exact.primitive, (2, 2, 2), exact.qpoints, g, np.array([0.03]), np.array([3.0]), np.array([1.0])
    )
    options = TcOptions((0.1,), methods=("allen-dynes",))
    monkeypatch.setattr(ElphMatrices, "check_against", lambda *_: 0.0)
    through_dft = analyse("x", elph, sscha, wrong, options).table.lambda_total
    found = analyse("x", elph, sscha, wrong, options, carrier=exact).table.lambda_total
    assert found == pytest.approx(mode_coupling(elph, stiff, 0.03).spectrum().lambda_total, rel=1e-6)
    assert abs(through_dft / found - 1) > 0.02


def test_a_carrier_of_another_cell_or_grid_is_refused() -> None:
    exact, small = _potential((2, 2, 2)), _potential((1, 1, 1))
    g = np.tile(1e-3 * np.eye(12, dtype=complex), (1, 8, 1, 1))
    elph = ElphMatrices(
        exact.primitive, (2, 2, 2), exact.qpoints, g, np.array([0.03]), np.array([3.0]), np.array([1.0])
    )
    options = TcOptions((0.1,), methods=("allen-dynes",), accept=("imaginary",))
    with pytest.raises(InputError, match="2 2 2"):
        analyse("x", elph, small, None, options, carrier=small)
    with pytest.raises(InputError, match="different crystals"):
        analyse("x", elph, _potential((1, 1, 1), 1.005), None, options, carrier=exact)
    found = analyse("x", elph, small, None, options, carrier=exact)  # no dyn files of ph.x needed
    assert any("could not be checked" in caveat for caveat in found.table.caveats)
