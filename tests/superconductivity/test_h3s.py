"""The H3S labels of the examples: harmonic phonons with an unstable T1u mode at Γ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from himlip_ase.superconductivity.elph_matrices import read_elph
from himlip_ase.superconductivity.spectral import mode_coupling
from himlip_ase.superconductivity.tc import NoTc, Tc, critical_temperature

HARMONIC = Path(__file__).parents[2] / "examples" / "h3s" / "labels" / "harmonic"


@pytest.mark.skipif(not (HARMONIC / "dyn0").exists(), reason="needs the H3S labels of the examples")
def test_unstable_h3s() -> None:
    from himlip_ase.phonons.qe import read_dyn

    phonons = read_dyn(HARMONIC / "dyn")
    elph = read_elph(HARMONIC / "elph_dir", phonons.primitive)
    assert elph.check_against(phonons) < 0.1
    coupling = mode_coupling(elph, phonons, 0.02)
    assert [(m.qpoint, m.branch) for m in coupling.imaginary] == [((0, 0, 0), b) for b in (1, 2, 3)]
    assert np.ptp([m.frequency_cm for m in coupling.imaginary]) < 0.1
    assert coupling.imaginary[0].frequency_cm < -300
    assert (coupling.lambdas >= 0).all() and (coupling.lambdas[0, :3] == 0).all()
    spectrum = coupling.spectrum()
    refused = critical_temperature(spectrum, 0.1)
    assert isinstance(refused, NoTc) and "q = (0, 0, 0) branch 3" in refused.reason
    deuterium = mode_coupling(elph, phonons.with_masses({"H": 2.014}), 0.02).spectrum()
    first, second = (critical_temperature(s, 0.1, accept=["imaginary"]) for s in (spectrum, deuterium))
    assert isinstance(first, Tc) and isinstance(second, Tc) and second.kelvin < first.kelvin
