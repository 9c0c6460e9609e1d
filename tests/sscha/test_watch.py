"""The watch: silent on ensembles like the labels, loud outside of them, and right about where."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.sscha import SschaSettings, run_sscha
from himlip_ase.sscha.array_files import load_arrays, save_arrays
from himlip_ase.sscha.ensembles.draws import stream
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.partial_ensemble import draw_ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution, draw_configurations
from himlip_ase.sscha.results.summary import describe_watch
from himlip_ase.sscha.run.initial import positive_definite_start
from himlip_ase.sscha.watch.environments import environments
from himlip_ase.sscha.watch.independent_frames import independent_groups
from himlip_ase.sscha.watch.trusted_region import TrustedRegion
from himlip_ase.sscha.watch.watch import Watch, WatchRecord, read_watch, record_watch

from .toy import DIMS, MILD, BondCrystal, cscl


@pytest.fixture(scope="module")
def crystal() -> BondCrystal:
    return BondCrystal(cscl(), DIMS, MILD)


@pytest.fixture(scope="module")
def distribution(crystal) -> HarmonicDistribution:
    return HarmonicDistribution(positive_definite_start(crystal.harmonic())[0])


@pytest.fixture(scope="module")
def region(distribution) -> TrustedRegion:
    return TrustedRegion.from_labels(draw_configurations(distribution.dynamical, 40, seed=1), source="toy")


@pytest.fixture(scope="module")
def ensemble(crystal, distribution) -> Ensemble:
    return draw_ensemble(distribution, 100, stream(0, 1), crystal)


def wider(ensemble: Ensemble, factor: float) -> Ensemble:
    return dataclasses.replace(ensemble, displacements=ensemble.displacements * factor)


def test_an_ensemble_like_the_labels_is_trusted(distribution, region, ensemble):
    record = Watch(region)(ensemble, "population 1")
    assert record.trusted and record.message.startswith("population 1: shortest distances H-H")
    assert record.outside.mean() < 0.03  # 1 % by construction
    assert record.farthest.max() < 2
    assert record.shortest.min() == pytest.approx(ensemble.shortest_distance)
    assert not record.too_close.any() and np.isnan(record.spread).all()


def test_labels_in_opposite_pairs_are_no_narrower_a_region(distribution, ensemble):
    """±u have much the same surroundings: counted as two, 6 to 12 % of what is drawn alike lay outside."""
    moved = distribution.displacements(40, np.random.SeedSequence(5), pairs=True).reshape(40, -1, 3)
    labels = [distribution.supercell.copy() for _ in moved]
    for atoms, own in zip(labels, moved, strict=True):
        atoms.positions += own
        atoms.wrap()
    centre = distribution.supercell
    assert independent_groups([centre, *labels]).tolist() == [0, *np.repeat(np.arange(1, 41, 2), 2)]
    record = Watch(TrustedRegion.from_labels(labels))(ensemble)
    assert record.outside.mean() < 0.03  # 1 % by construction
    with pytest.raises(InputError, match="opposites count as one"):
        TrustedRegion.from_labels(labels[:2])


def test_small_cells_with_few_directions_are_not_taken_for_opposites():
    """Of thirty rattled cells of two atoms many pairs point alike by chance; a true opposite is found."""
    rng = np.random.default_rng(0)
    frames = [cscl() for _ in range(30)]
    for atoms in frames:
        atoms.positions += rng.normal(0, 0.1, (2, 3))
    assert len(set(independent_groups(frames).tolist())) > 28
    pairs = [cscl() for _ in range(20)]
    for number in range(0, 20, 2):
        moved = rng.normal(0, 0.1, (2, 3))
        pairs[number].positions += moved
        pairs[number + 1].positions -= moved
    assert independent_groups(pairs).tolist() == np.repeat(np.arange(0, 20, 2), 2).tolist()


@pytest.mark.parametrize("factor", [1.5, 2.5])
def test_a_wider_one_is_not_and_the_worst_is_named(distribution, region, ensemble, factor):
    """Only one configuration in ten is widened: those are the ones to look at."""
    moved = ensemble.displacements.copy()
    moved[::10] *= factor
    mixed = dataclasses.replace(ensemble, displacements=moved)
    record = Watch(region, tolerated=0.01)(mixed)
    assert not record.trusted and "leaves the trusted region" in record.message
    assert sum(index % 10 == 0 for index in record.worst(5)) >= 4
    assert record.outside[::10].mean() > 5 * np.delete(record.outside, np.s_[::10]).mean()
    assert not Watch(region)(wider(ensemble, factor)).trusted


def test_without_labels_only_collapsed_distances_are_seen(distribution, ensemble):
    fine = Watch()(ensemble)
    assert fine.trusted and np.isnan(fine.farthest).all()
    assert fine.summary()["outside_fraction"] is None
    collapsed = ensemble.displacements.copy()
    atoms = distribution.supercell
    bond = atoms.positions[1] - atoms.positions[0]
    collapsed[7, 0], collapsed[7, 1] = 0.3 * bond, -0.3 * bond
    record = Watch()(dataclasses.replace(ensemble, displacements=collapsed))
    assert not record.trusted and "half the ideal distance" in record.message
    assert record.too_close.sum() == 1 and record.worst(1)[0] == 7
    assert record.shortest[7].min() == pytest.approx(0.4 * np.linalg.norm(bond))


def test_a_committee_gives_the_spread_of_the_forces(crystal, distribution, ensemble):
    def shifted(amount):
        def evaluate(images):
            result = crystal(images)
            forces = result.forces.copy()
            forces[3, 5, 2] += amount
            return SimpleNamespace(energies=result.energies, forces=forces, stresses=None)

        return evaluate

    watch = Watch(committee=(shifted(0.3), shifted(-0.3)))
    record = watch(ensemble)
    assert record.spread[3] == pytest.approx(0.3) and np.abs(np.delete(record.spread, 3)).max() < 1e-6
    assert record.trusted and "up to 0.30 eV/Å" in record.message
    strict = dataclasses.replace(watch, spread_limit=0.2)(ensemble)
    assert not strict.trusted and "0.30 eV/Å, more than 0.2 allowed" in strict.message
    assert strict.worst(1)[0] == 3


def test_environments_do_not_depend_on_axes_order_or_cell(distribution):
    image = draw_configurations(distribution.dynamical, 1, seed=5)[0]
    found = environments([image], ("H", "S"))[0]
    order = np.random.default_rng(0).permutation(len(image))
    turned = image[order]
    turned.rotate(37, (1, 2, 3), rotate_cell=True)
    turned.positions += 0.7
    np.testing.assert_allclose(environments([turned], ("H", "S"))[0], found[order], atol=1e-9)
    doubled = environments([image.repeat((2, 1, 1))], ("H", "S"))[0]
    np.testing.assert_allclose(doubled[: len(image)], found, atol=1e-9)


def test_distance_of_environments_is_bounded_by_the_displacements(distribution):
    ideal = distribution.supercell
    rest = environments([ideal], ("H", "S"))[0]
    moved = ideal.copy()
    moved.rattle(0.05, seed=1)
    largest = np.linalg.norm(moved.positions - ideal.positions, axis=1).max()
    change = np.linalg.norm(environments([moved], ("H", "S"))[0] - rest, axis=1)
    assert 0 < change.min() and change.max() < 2 * largest


def test_records_survive_files(distribution, region, ensemble, tmp_path):
    record = Watch(region)(ensemble, "hessian")
    save_arrays(tmp_path / "watch.npz", record.arrays())
    back = WatchRecord.from_arrays(load_arrays(tmp_path / "watch.npz"))
    assert back.summary() == record.summary() and json.loads(json.dumps(record.summary()))
    assert np.array_equal(back.farthest, record.farthest) and back.pairs == record.pairs


def test_a_run_keeps_its_records_and_says_so(crystal, distribution, region, ensemble, tmp_path, caplog):
    first = record_watch(Watch(region), tmp_path, "population_001", wider(ensemble, 2.5))
    assert not first.trusted and "leaves the trusted region" in caplog.text
    again = record_watch(Watch(), tmp_path, "population_001", ensemble)  # read back, not looked at again
    assert again.message == first.message
    record_watch(Watch(region), tmp_path, "hessian_001_80", ensemble)
    records = read_watch(tmp_path)
    assert [record.trusted for record in records] == [False, True]
    words = describe_watch(records)
    assert "within its labels" in words[0] and "on the way population 001 left" in words[1]
    assert "outside of its labels" in describe_watch(records[:1])[0]
    assert describe_watch([]) == []


def test_a_run_is_watched_from_its_first_ensemble(crystal, region, tmp_path):
    settings = SschaSettings(n_configurations=40, n_hessian_configurations=40, max_populations=1, n_blocks=4)
    run_sscha(crystal.harmonic(), crystal, settings, tmp_path, watch=Watch(region))
    records = read_watch(tmp_path)
    assert len(records) == 2 and all(len(record.farthest) == 40 for record in records)
    assert np.isfinite(records[0].farthest).all()


def test_region_from_a_model_card(distribution, region, ensemble):
    """The card keeps the most different environments, so that distances can only grow."""
    card = json.loads(json.dumps({"name": "toy", "trusted_region": region.card()}))
    image = draw_configurations(distribution.dynamical, 3, seed=9)
    whole, short = region.distances(image), TrustedRegion.from_card(card).distances(image)
    assert (short > whole - 1e-3).all()
    assert not Watch(TrustedRegion.from_card(card))(wider(ensemble, 2.5)).trusted
    with pytest.raises(InputError, match="from_labels"):
        TrustedRegion.from_card({"name": "other"})


def test_unfit_labels_are_refused(distribution, region):
    frames = draw_configurations(distribution.dynamical, 2, seed=1)
    with pytest.raises(InputError, match="only one structure holds"):
        TrustedRegion.from_labels(frames[:1])
    with pytest.raises(InputError, match="alike"):
        TrustedRegion.from_labels([frames[0], frames[0]])
    with pytest.raises(InputError, match="have no Li"):
        region.distances([Atoms("LiH", positions=[[0, 0, 0], [0, 0, 1.6]])])
