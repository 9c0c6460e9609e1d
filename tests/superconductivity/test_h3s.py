"""The H3S labels of the examples: harmonic phonons with an unstable T1u mode at Γ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from himlip_ase.superconductivity.coupling import mode_coupling
from himlip_ase.superconductivity.elph_matrices import read_elph
from himlip_ase.superconductivity.tc import critical_temperature
from himlip_ase.superconductivity.tc_entries import NoTc, Tc

HARMONIC = Path(__file__).parents[2] / "examples" / "h3s" / "labels_k12" / "harmonic"


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


FINE = HARMONIC.parent / "harmonic444"
needs_fine = pytest.mark.skipif(not (FINE / "dyn0").exists(), reason="needs the 4×4×4 labels of the examples")


@needs_fine
def test_fine_grid_belongs_to_the_coarse_one() -> None:
    from himlip_ase.phonons.qe import read_dyn

    runs = [(read_dyn(p / "dyn"), p / "elph_dir") for p in (HARMONIC, FINE)]
    (coarse, coarse_elph), (fine, fine_elph) = [(d, read_elph(e, d.primitive)) for d, e in runs]
    assert fine_elph.dims == (4, 4, 4) and fine_elph.check_against(fine) < 0.1
    assert fine_elph.dos_per_spin_per_ry == pytest.approx(coarse_elph.dos_per_spin_per_ry, rel=1e-4)
    same = [fine.index(q) for q in coarse.qpoints]
    assert np.abs(fine.frequencies()[same] - coarse.frequencies()).max() < 2.0
    difference = np.abs(fine_elph.matrices[:, same] - coarse_elph.matrices).max()
    assert difference < 0.02 * np.abs(coarse_elph.matrices).max()


@needs_fine
def test_band_energies_give_the_density_of_states_of_ph_x() -> None:
    from himlip_ase.errors import InputError
    from himlip_ase.phonons.qe import read_dyn
    from himlip_ase.superconductivity.electron_bands import read_a2fsave

    bands = read_a2fsave(FINE / "a2Fsave.gz")
    assert bands.k_grid == (24, 24, 24) and bands.weights.sum() == pytest.approx(1)
    phonons = read_dyn(FINE / "dyn")
    elph = read_elph(FINE / "elph_dir", phonons.primitive)
    for sigma, fermi, wanted in zip(
        elph.sigma_ry, elph.fermi_energy_ev, elph.dos_per_spin_per_ry, strict=True
    ):
        assert bands.density(np.array([fermi]), sigma)[0] == pytest.approx(wanted, rel=1e-6)
    dos = bands.dos(float(elph.fermi_energy_ev[5]), 0.03, float(elph.dos_per_spin_per_ry[5]))
    assert dos.energies_ev[0] < -20 and dos.energies_ev[-1] > 5
    with pytest.raises(InputError, match="another run"):
        bands.dos(float(elph.fermi_energy_ev[5]), 0.03, 5.0)
    with pytest.raises(InputError, match="more bands"):
        bands.dos(40.0, 0.03)


@needs_fine
def test_truncated_band_energies(tmp_path: Path) -> None:
    import gzip

    from himlip_ase.errors import InputError
    from himlip_ase.superconductivity.electron_bands import read_a2fsave

    text = gzip.decompress((FINE / "a2Fsave.gz").read_bytes()).decode()
    (tmp_path / "a2Fsave").write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match="not a complete"):
        read_a2fsave(tmp_path / "a2Fsave")
