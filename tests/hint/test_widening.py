"""Networks of another size that compute the same function."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from himlip_ase import HiMLIPCalculator
from himlip_ase.errors import InputError
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig
from himlip_ase.potential.widening import restricted_to, widened

NETWORK = HiMLIPConfig(("H", "Na", "Cl", "K"), n_radial=4, channels=2, edge_features=2, hidden=8)


def salt():
    crystal = bulk("NaCl", "rocksalt", a=5.4)
    crystal.rattle(0.1, seed=0)
    return crystal


@pytest.mark.parametrize("change", [lambda m: restricted_to(m, ("Cl", "Na")), lambda m: widened(m, 3)])
def test_energy_forces_and_hessian_stay(change) -> None:
    model = HiMLIP(NETWORK, seed=1)
    crystal = salt()
    before, after = HiMLIPCalculator(model), HiMLIPCalculator(change(model))
    for quantity in ("energy", "forces", "stress"):
        kept = before.get_property(quantity, crystal)
        assert np.allclose(after.get_property(quantity, crystal), kept, rtol=1e-12, atol=1e-12)
    assert np.allclose(after.get_hessian(crystal), before.get_hessian(crystal), rtol=1e-10, atol=1e-10)


def test_only_elements_that_it_knows_can_be_kept() -> None:
    with pytest.raises(InputError, match="Cs"):
        restricted_to(HiMLIP(NETWORK), ("Cs", "Cl"))
