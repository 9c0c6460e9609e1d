"""Ensembles through the files of other codes: what is read back is what was written, and they agree on F."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.ensembles.draws import stream
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.partial_ensemble import draw_ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.exchange.cellconstructor import (
    BOHR_PER_ANGSTROM,
    MASS_UNIT_AMU,
    MATRIX_RY_EV,
    read_cellconstructor,
    write_cellconstructor,
)
from himlip_ase.sscha.exchange.extxyz import read_extxyz, write_extxyz
from himlip_ase.sscha.exchange.phonopy import read_phonopy_dataset, write_phonopy_dataset
from himlip_ase.sscha.exchange.python_sscha import (
    ENSEMBLE_BOHR_ANGSTROM,
    ENSEMBLE_RY_EV,
    read_python_sscha,
    write_python_sscha,
)
from himlip_ase.sscha.run.initial import positive_definite_start

from .toy import MILD, BondCrystal, cscl

DIMS = (2, 2, 1)


@pytest.fixture(scope="module")
def crystal() -> BondCrystal:
    return BondCrystal(cscl(c=2.9), DIMS, MILD)


@pytest.fixture(scope="module")
def distribution(crystal) -> HarmonicDistribution:
    return HarmonicDistribution(positive_definite_start(crystal.harmonic())[0], 250.0)


@pytest.fixture(scope="module")
def ensemble(crystal, distribution) -> Ensemble:
    return draw_ensemble(distribution, 12, stream(0, 1), crystal)


def equal(one: Ensemble, two: Ensemble, tolerance: float = 1e-10) -> None:
    for name in ("displacements", "energies", "forces", "stresses"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=0, atol=tolerance)
    assert one.shortest_distance == pytest.approx(two.shortest_distance, abs=max(tolerance, 1e-8))


def same_matrices(one: DynamicalMatrices, two: DynamicalMatrices, tolerance: float = 1e-10) -> None:
    assert one.dims == two.dims
    np.testing.assert_allclose(one.matrices, two.matrices, rtol=0, atol=tolerance)
    np.testing.assert_allclose(one.primitive.positions, two.primitive.positions, rtol=0, atol=1e-11)
    np.testing.assert_allclose(one.primitive.get_masses(), two.primitive.get_masses(), rtol=1e-9)


@pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])
def test_python_sscha_files_round_trip_without_python_sscha(distribution, ensemble, text, tmp_path):
    write_python_sscha(tmp_path, ensemble, population=3, text=text)
    back = read_python_sscha(tmp_path, population=3)
    equal(back, ensemble)
    same_matrices(back.drawn_from.dynamical, distribution.dynamical)
    assert back.drawn_from.temperature_k == 250.0 and back.static_energy == ensemble.static_energy
    with pytest.raises(InputError, match="overwrite"):
        write_python_sscha(tmp_path, ensemble, population=3, text=text)
    with pytest.raises(InputError, match="pop4"):
        name = "dyn_start_population3_" if text else "dyn_gen_pop3_"
        read_python_sscha(tmp_path, population=4, dyn=tmp_path / name)


def test_a_missing_or_foreign_file_is_named(distribution, ensemble, tmp_path):
    write_python_sscha(tmp_path, ensemble, text=True)
    (tmp_path / "forces_population1_7.dat").unlink()
    with pytest.raises(InputError, match=r"forces_population1_7\.dat"):
        read_python_sscha(tmp_path)
    write_python_sscha(tmp_path / "b", ensemble)
    positions = np.load(tmp_path / "b" / "xats_pop1.npy")
    np.save(tmp_path / "b" / "xats_pop1.npy", positions[:, ::-1])
    with pytest.raises(InputError, match="another order"):
        read_python_sscha(tmp_path / "b")


def test_a_damaged_block_of_an_array_is_told(ensemble, tmp_path, caplog):
    """Forces of a configuration add up to zero, stresses are symmetric."""
    write_python_sscha(tmp_path, ensemble)
    for name, place, words in (
        ("forces_pop1.npy", (4, 1, 2), "forces do not add up to zero"),
        ("stresses_pop1.npy", (4, 0, 1), "stresses are not symmetric"),
    ):
        values = np.load(tmp_path / name)
        damaged = values.copy()
        damaged[place] += 0.01 * np.abs(values).max()
        with caplog.at_level(logging.WARNING, "himlip_ase"):
            caplog.clear()
            read_python_sscha(tmp_path)
            assert not caplog.text
            np.save(tmp_path / name, damaged)
            read_python_sscha(tmp_path)
            assert f"{words} in a few configurations (worst: 5)" in caplog.text
        np.save(tmp_path / name, values)


def test_a_stress_that_one_configuration_lost_is_no_choice(distribution, ensemble, tmp_path):
    path = write_extxyz(tmp_path / "ensemble.extxyz", ensemble)
    path.write_text(path.read_text().replace("REF_stress", "REF_ctress", 1))
    with pytest.raises(InputError, match="has no stress, and 11 other configurations have one"):
        read_extxyz(path, distribution)


def test_isotopes_of_one_element_are_refused(distribution, ensemble, tmp_path):
    primitive = distribution.dynamical.primitive.copy()
    primitive.set_chemical_symbols("HH")
    primitive.set_masses([1.0, 2.0])
    old = distribution.dynamical
    mixed = DynamicalMatrices(primitive, old.dims, old.qpoints, old.matrices)
    with pytest.raises(InputError, match="one mass for each element"):
        write_cellconstructor(mixed, tmp_path / "dyn")


def test_extxyz_round_trip(distribution, ensemble, tmp_path):
    path = write_extxyz(tmp_path / "ensemble.extxyz", ensemble)
    back = read_extxyz(path, distribution)
    equal(back, ensemble, 1e-7)  # eight decimals in the file
    assert back.static_energy == pytest.approx(ensemble.static_energy, abs=1e-7)
    silent = write_extxyz(tmp_path / "silent.extxyz", dataclasses.replace(ensemble, stresses=None))
    assert read_extxyz(silent, distribution).stresses is None


def test_extxyz_is_read_as_labels(distribution, ensemble, tmp_path):
    from himlip_ase.labels.readers import read_labels

    path = write_extxyz(tmp_path / "ensemble.extxyz", ensemble)
    frames = read_labels(path)
    assert len(frames) == 13 and frames[0].energy == pytest.approx(ensemble.energies[0])
    np.testing.assert_allclose(frames[3].forces, ensemble.forces[3], atol=1e-7)
    np.testing.assert_allclose(frames[3].stress, ensemble.stresses[3], atol=1e-7)


def test_phonopy_dataset_round_trip_and_phonopys_own_fit(distribution, tmp_path):
    """Of harmonic forces, phonopy's fit through symfc is the matrices that made them."""
    from himlip_ase.phonons.phonopy_io import from_phonopy

    from .toy import HarmonicCrystal

    crystal = HarmonicCrystal(distribution.dynamical)
    ensemble = draw_ensemble(distribution, 12, stream(0, 1), crystal)
    path = write_phonopy_dataset(tmp_path / "phonopy_params.yaml", ensemble)
    back = read_phonopy_dataset(path, distribution)
    for name in ("displacements", "energies", "forces"):
        np.testing.assert_allclose(getattr(back, name), getattr(ensemble, name), rtol=0, atol=1e-8)
    import phonopy

    ph = phonopy.load(path, primitive_matrix="P", fc_calculator="symfc", log_level=0)
    fitted = from_phonopy(ph).dynamical_matrices()
    np.testing.assert_allclose(fitted.frequencies(), distribution.dynamical.frequencies(), atol=0.05)
    with pytest.raises(InputError, match="all 32 atoms"):
        read_phonopy_dataset(path, HarmonicDistribution(distribution.dynamical.interpolated((4, 2, 2))))


@pytest.mark.peer
class TestPeer:
    """python-sscha reads what we write and writes what we read."""

    @pytest.fixture(autouse=True)
    def peer(self, tmp_path, monkeypatch):
        pytest.importorskip("sscha")
        monkeypatch.chdir(tmp_path)  # its save() writes dyn files into the working directory
        from himlip_ase.sscha.minimisation import python_sscha

        self.python_sscha = python_sscha
        with python_sscha._quiet():
            import cellconstructor.Phonons
            import sscha.Ensemble

            self.ensembles, self.phonons = sscha.Ensemble, cellconstructor.Phonons

    def test_constants_are_its_own(self):
        import cellconstructor.Units as units

        assert ENSEMBLE_RY_EV == self.ensembles.Rydberg
        assert ENSEMBLE_BOHR_ANGSTROM == self.ensembles.Bohr
        assert BOHR_PER_ANGSTROM == self.ensembles.__A_TO_BOHR__ == units.A_TO_BOHR
        assert (MATRIX_RY_EV, MASS_UNIT_AMU) == (units.RY_TO_EV, units.MASS_RY_TO_UMA)

    def test_it_reads_dyn_files_to_the_last_digits(self, distribution, tmp_path):
        from himlip_ase.phonons.cellconstructor import from_cellconstructor

        paths = write_cellconstructor(distribution.dynamical, tmp_path / "dyn")
        with self.python_sscha._quiet():
            dyn = self.phonons.Phonons(str(tmp_path / "dyn"), len(paths) - 1)
        same_matrices(from_cellconstructor(dyn), distribution.dynamical)
        dyn.save_qe(str(tmp_path / "back"))
        same_matrices(read_cellconstructor(tmp_path / "back"), distribution.dynamical)

    def loaded(self, folder, text, distribution):
        name = "dyn_start_population1_" if text else "dyn_gen_pop1_"
        count = len(list(folder.glob(f"{name}*"))) - 1
        with self.python_sscha._quiet():
            dyn = self.phonons.Phonons(str(folder / name), count)
            found = self.ensembles.Ensemble(dyn, distribution.temperature_k, supercell=list(DIMS))
            if text:
                found.load(str(folder), 1, 12)
            else:
                found.load_bin(str(folder), 1)
        return found

    @pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])
    def test_it_reads_ours_with_the_same_free_energy(self, distribution, ensemble, text, tmp_path):
        write_python_sscha(tmp_path / "ours", ensemble, text=text)
        read = self.loaded(tmp_path / "ours", text, distribution)
        built = self.python_sscha.build_ensemble(ensemble)
        for name in ("u_disps", "energies", "forces", "stresses"):
            np.testing.assert_allclose(getattr(read, name), getattr(built, name), rtol=0, atol=1e-10)
        value, error = self.python_sscha.free_energy(read)
        expected, expected_error = self.python_sscha.free_energy(built)
        assert value == pytest.approx(expected, rel=1e-9) and error == pytest.approx(expected_error, rel=1e-6)

    @pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])
    def test_we_read_what_it_wrote(self, distribution, ensemble, text, tmp_path):
        built = self.python_sscha.build_ensemble(ensemble)
        folder = tmp_path / "theirs"
        with self.python_sscha._quiet():
            if text:
                built.save(str(folder), 1)
            else:
                built.save_bin(str(folder), 1)
        dyn = tmp_path / "dyn_start_population1_" if text else None
        back = read_python_sscha(folder, temperature_k=250.0, dyn=dyn)
        equal(back, ensemble)
        same_matrices(back.drawn_from.dynamical, distribution.dynamical)
        assert np.isnan(back.static_energy)
