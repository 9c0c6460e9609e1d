"""α²F rescaled to the N(E_F) of converged bands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.superconductivity.analysis import analyse
from himlip_ase.superconductivity.coupling import mode_coupling
from himlip_ase.superconductivity.curve_analysis import analyse_curve
from himlip_ase.superconductivity.elph_matrices import ElphMatrices
from himlip_ase.superconductivity.options import TcOptions
from himlip_ase.superconductivity.tc_entries import Tc
from himlip_ase.units import RY_EV
from tests.superconductivity.material import toy


def with_constant_coupling(densities: np.ndarray) -> ElphMatrices:
    """Matrices of electrons that all couple alike: the double delta sum is N² times one matrix."""
    _, elph = toy()
    matrices = densities[:, None, None, None] ** 2 * elph.matrices[:1]
    sigma = np.linspace(0.01, 0.04, len(densities))
    return replace(
        elph,
        matrices=matrices,
        sigma_ry=sigma,
        dos_per_spin_per_ry=densities,
        fermi_energy_ev=np.full(len(densities), 8.0),
    )


def test_electrons_that_couple_alike_give_one_coupling_at_every_broadening() -> None:
    phonons, _ = toy()
    elph = with_constant_coupling(np.array([1.5, 2.0, 2.6]))
    converged = 2.2
    as_is = [mode_coupling(elph, phonons, s).spectrum().lambda_total for s in elph.sigma_ry]
    rescaled = elph.rescaled(converged)
    found = [mode_coupling(rescaled, phonons, s).spectrum().lambda_total for s in elph.sigma_ry]
    exact = as_is[1] * converged / 2.0
    assert np.ptp(as_is) > 0.5 * as_is[1]
    assert found == pytest.approx([exact] * 3, rel=1e-12)


def test_tc_of_the_rescaled_coupling_has_no_spread_over_the_broadenings() -> None:
    phonons, _ = toy()
    elph = with_constant_coupling(np.array([1.8, 2.0, 2.2]))
    options = TcOptions(mu_star=(0.1,), methods=("allen-dynes",), accept=("coarse",))
    states_per_ev = 2.1 * 2 / RY_EV
    plain = analyse("toy", elph, phonons, None, options).table.results[0]
    found = analyse("toy", elph, phonons, None, replace(options, fermi_dos=states_per_ev))
    entry = found.table.results[0]
    assert isinstance(plain, Tc) and isinstance(entry, Tc)
    assert entry.kelvin > plain.kelvin
    sigma = [part.size for part in entry.parts if part.kind == "sigma"]
    assert sigma == pytest.approx([0.0], abs=1e-9)
    assert any("× 1.050" in caveat for caveat in found.spectrum.caveats)


def test_a_density_of_another_unit_is_refused() -> None:
    _, elph = toy()
    with pytest.raises(InputError, match="another unit"):
        elph.rescaled(float(elph.dos_per_spin_per_ry[0]) * 2 / RY_EV)
    with pytest.raises(InputError, match="fermi_dos"):
        TcOptions(fermi_dos=-1.0)


def test_a_curve_is_not_rescaled() -> None:
    phonons, elph = toy()
    spectrum = mode_coupling(elph, phonons, 0.01).spectrum()
    with pytest.raises(InputError, match="leave it out"):
        analyse_curve("curve", spectrum, TcOptions(fermi_dos=0.5))
