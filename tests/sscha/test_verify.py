"""Corrections by a few reference calculations reproduce what the reference gives on everything."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import ase.io
import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from himlip_ase.errors import InputError
from himlip_ase.evaluation import Evaluation
from himlip_ase.jackknife import jackknife
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.qe import read_dyn
from himlip_ase.sscha.convergence.residual import residual
from himlip_ase.sscha.ensembles.draws import stream
from himlip_ase.sscha.ensembles.partial_ensemble import draw_ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.run.initial import positive_definite_start
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.sscha.trust.corrections import _Averages, _of_difference, change_of
from himlip_ase.sscha.trust.verify import (
    choose,
    describe_verification,
    verification_images,
    verify,
    verify_on_labels,
    verify_with,
)

from .toy import BondCrystal, HarmonicCrystal, cscl

DIMS = (1, 1, 2)
POTENTIAL = [(6.0, -20.0, 120.0, -0.02), (2.0, -5.0, 40.0, 0.02), (1.0, 0.0, 0.0, 0.0)]
TRUTH = [(6.6, -23.0, 140.0, -0.02), (1.8, -5.0, 40.0, 0.02), (1.0, 0.0, 0.0, 0.0)]


def crystal(shells) -> BondCrystal:
    return BondCrystal(cscl(c=2.7), DIMS, shells)


@pytest.fixture(scope="module")
def distribution() -> HarmonicDistribution:
    return HarmonicDistribution(positive_definite_start(crystal(POTENTIAL).harmonic())[0])


@pytest.fixture(scope="module")
def group(distribution) -> SpaceGroup:
    return SpaceGroup(distribution.dynamical)


def changed(distribution, change) -> DynamicalMatrices:
    d = distribution.dynamical
    return DynamicalMatrices(d.primitive, d.dims, d.qpoints, d.matrices + change)


def test_the_same_forces_change_nothing_at_all(distribution, group):
    same = crystal(POTENTIAL)
    ensemble = draw_ensemble(distribution, 100, stream(0, 1), same)
    found = verify_with(distribution, ensemble, same, group, n=10)
    c = found.corrections
    assert not c.change_cm.any() and not c.change_sigma_cm.any()
    assert c.free_energy_change == 0 and c.free_energy_change_sigma == 0
    assert found.energy.rms == 0 and all(d.rms == 0 for d in found.forces)
    assert not found.stress_difference.any() and not found.stress_sigma.any()
    expected = residual(distribution, ensemble, group, 20)
    np.testing.assert_allclose(c.gradient_cm, expected.shifts_cm, atol=1e-9)
    np.testing.assert_allclose(c.gradient_sigma_cm, expected.sigma_cm, atol=1e-9)


@pytest.mark.parametrize("temperature", [0.0, 600.0])
def test_a_harmonic_difference_is_found_without_error(distribution, group, temperature):
    """Its average over a Gaussian is known: ten configurations give it exactly, whatever the rest."""
    warm = HarmonicDistribution(distribution.dynamical, temperature)
    base, extra = crystal(POTENTIAL), HarmonicCrystal(changed(distribution, 0), static_energy=7.0)

    def truth(images):
        one, two = base(images), extra(images)
        return SimpleNamespace(
            energies=one.energies + 0.1 * two.energies, forces=one.forces + 0.1 * two.forces, stresses=None
        )

    ensemble = draw_ensemble(warm, 200, stream(0, 1), base)
    c = verify_with(warm, ensemble, truth, group, n=10).corrections
    np.testing.assert_allclose(c.change, 0.1 * warm.dynamical.matrices, atol=1e-6)
    assert c.change_sigma_cm.max() < 1e-4 and c.free_energy_change_sigma < 1e-9
    # ⟨½ uᵀΦu⟩ of a harmonic crystal is half its energy
    energies = warm.energies()
    occupation = 1 / np.expm1(energies / (8.617333262e-5 * temperature)) if temperature else 0
    half = ((energies / 2) * (1 + 2 * occupation)).sum() / 2 / 2
    assert c.free_energy_change == pytest.approx(0.1 * half, rel=1e-6)


def test_a_difference_of_forces_asks_for_its_linear_part(distribution, group):
    """Ten configurations give ΔΦ, odd and even anharmonic parts of the difference or not."""
    base, extra = crystal(POTENTIAL), HarmonicCrystal(changed(distribution, 0))
    ensemble = draw_ensemble(distribution, 10, stream(0, 1), base)
    images = verification_images(ensemble, np.arange(10))[:-1]
    moved = ensemble.displacements_from(distribution)
    linear = 0.1 * extra(images).forces
    found = change_of(distribution, group, moved, linear, np.ones(10))
    np.testing.assert_allclose(found, 0.1 * distribution.dynamical.matrices, atol=1e-6)
    # u → −u in pairs: what is even in the displacements does not count
    even = np.repeat(np.sin(linear[::2]), 2, axis=0)
    again = change_of(distribution, group, moved, linear + even, np.ones(10))
    np.testing.assert_allclose(again, found, atol=1e-6)


@pytest.fixture(scope="module")
def coverage(distribution, group):
    """Deviation over quoted error against 30 000 configurations of the truth, 100 seeds."""
    potential, truth, n = crystal(POTENTIAL), crystal(TRUTH), 30_000
    large = draw_ensemble(distribution, n, stream(1, 1), truth)
    d = distribution.dynamical
    exact = residual(distribution, large, group, 20)
    frequencies = changed(distribution, exact.blocks.mean(axis=0)).frequencies()
    # the linear part of the anharmonic forces is averaged exactly here too: plainly averaged, even so many
    # configurations would leave the reference a fifth of the error that is tested
    averages = _Averages(distribution, group)
    moved = averages.at_q(large.displacements)
    bent = large.energies - large.static_energy - 2 * averages.harmonic_energies(d.matrices, moved)
    hessian = d.force_constants().hessian(order="ase").reshape(12, 12)
    pulled = large.forces + (large.displacements.reshape(n, 12) @ hessian).reshape(n, 4, 3)
    rest = _of_difference(averages, moved, bent, pulled, np.ones(n))
    free_energy = distribution.free_energy() + rest.energy
    z: dict = {"gradient": [], "frequencies": [], "free energy": []}
    for seed in range(100):
        ensemble = draw_ensemble(distribution, 400, stream(seed, 2), potential)
        c = verify_with(distribution, ensemble, truth, group, n=20, seed=seed).corrections
        moving = c.change_sigma_cm > 1e-6
        z["gradient"].append((c.gradient_cm - exact.shifts_cm)[moving] / c.gradient_sigma_cm[moving])
        moving = c.frequencies_sigma_cm > 1e-6
        z["frequencies"].append((c.frequencies_cm - frequencies)[moving] / c.frequencies_sigma_cm[moving])
        z["free energy"].append([(c.free_energy - free_energy) / c.free_energy_sigma])
    return {name: np.concatenate(values) for name, values in z.items()}, c, exact, free_energy


@pytest.mark.slow
@pytest.mark.parametrize("figure", ["gradient", "frequencies", "free energy"])
def test_twenty_configurations_agree_with_all_within_their_errors(coverage, figure):
    z = coverage[0][figure]
    assert 0.58 < (np.abs(z) < 1).mean() < 0.78
    assert 0.8 < np.sqrt((z**2).mean()) < 1.3


@pytest.mark.slow
def test_the_correction_is_seen_and_sharper_than_the_reference_alone(coverage, distribution):
    _, c, exact, free_energy = coverage
    assert np.abs(c.change_cm).max() > 10 * c.change_sigma_cm.max()
    uncorrected = c.free_energy - c.free_energy_change
    assert abs(uncorrected - free_energy) > 5 * c.free_energy_sigma
    # twenty of the 30 000 alone would have √1500 times their error
    alone = exact.sigma_cm * np.sqrt(1500)
    moving = alone > 1e-6
    assert np.median(c.gradient_sigma_cm[moving] / alone[moving]) < 1 / 3


def test_reweighted_ensembles_are_corrected_too(distribution, group):
    """Drawn from matrices 5 % stiffer, weighted back."""
    potential, truth = crystal(POTENTIAL), crystal(TRUTH)
    stiff = HarmonicDistribution(changed(distribution, 0.05 * distribution.dynamical.matrices))
    ensemble = draw_ensemble(stiff, 4000, stream(4, 1), potential)
    moved = ensemble.displacements.reshape(4000, -1)

    def log(other):
        values, vectors = np.linalg.eigh(other.covariance())
        white = moved @ vectors[:, 3:] / np.sqrt(values[3:])
        return -(white**2).sum(axis=1) / 2 - np.log(values[3:]).sum() / 2

    weights = np.exp(log(distribution) - log(stiff))
    assert weights.mean() == pytest.approx(1, abs=0.05)
    rows = choose(4000, 40)
    reference = Evaluation(*[np.asarray(a) for a in vars(truth(
        verification_images(ensemble, rows))).values()])  # fmt: skip
    found = verify(distribution, ensemble, rows, reference, group, weights=weights).corrections
    direct = verify_with(
        distribution, draw_ensemble(distribution, 4000, stream(5, 1), potential), truth, group, n=40
    ).corrections
    moving = direct.gradient_sigma_cm > 1e-6
    z = (found.gradient_cm - direct.gradient_cm)[moving] / np.hypot(
        found.gradient_sigma_cm, direct.gradient_sigma_cm
    )[moving]
    assert np.sqrt((z**2).mean()) < 2
    sigma = np.hypot(found.free_energy_sigma, direct.free_energy_sigma)
    assert abs(found.free_energy - direct.free_energy) < 3 * sigma


def test_labels_from_a_similar_gaussian_correct_too(distribution, group):
    """A validation set drawn from matrices 15 % stiffer, and its importance weights."""
    potential, truth = crystal(POTENTIAL), crystal(TRUTH)
    ensemble = draw_ensemble(distribution, 400, stream(2, 1), potential)
    stiff = HarmonicDistribution(changed(distribution, 0.15 * distribution.dynamical.matrices))
    labelled = draw_ensemble(stiff, 30, 5, potential, sampling="independent")
    moved, images = labelled.displacements, verification_images(labelled, np.arange(30))
    ours, theirs = (
        Evaluation(*(np.asarray(a) for a in vars(side(images)).values())) for side in (potential, truth)
    )
    direct = verify_with(distribution, ensemble, truth, group, n=200).corrections
    found = verify_on_labels(distribution, ensemble, moved, ours, theirs, group)
    moving = direct.change_sigma_cm > 1e-6
    c = found.corrections
    assert np.abs(direct.change_cm[moving]).min() > 5  # there is something to find
    difference = (c.change_cm - direct.change_cm)[moving]
    assert np.sqrt((difference**2).mean()) < 0.3 * np.sqrt((direct.change_cm[moving] ** 2).mean())
    sigma = np.hypot(c.free_energy_sigma, direct.free_energy_sigma)
    assert abs(c.free_energy - direct.free_energy) < 4 * sigma
    assert len(found.chosen) == 30 and found.stress_sigma is not None
    with pytest.raises(InputError, match="31 energies"):
        short = theirs.take(slice(-1))
        verify_on_labels(distribution, ensemble, moved, ours, short, group)


def test_choice_keeps_pairs_and_grows():
    few, many = choose(100, 12, seed=3), choose(100, 40, seed=3)
    assert np.array_equal(many[:12], few) and len(set(many.tolist())) == 40
    assert np.array_equal(few[::2] + 1, few[1::2]) and (few[::2] % 2 == 0).all()
    for wrong in (8, 11, 102):
        with pytest.raises(InputError, match="cannot be verified"):
            choose(100, wrong)


def test_jackknife_of_a_mean_is_the_standard_error_with_students_factor():
    values = np.random.default_rng(0).normal(size=12)
    deleted = (values.sum() - values) / 11
    expected = values.std(ddof=1) / np.sqrt(12) * np.sqrt(11 / 9)
    assert jackknife(deleted) == pytest.approx(expected)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of the native engine."""
    from himlip_ase.sscha import SschaSettings, run_sscha

    folder = tmp_path_factory.mktemp("run")
    settings = SschaSettings(n_configurations=60, n_hessian_configurations=80, seed=1, n_blocks=5)
    potential = crystal(POTENTIAL)
    result = run_sscha(potential.harmonic(), potential, settings, folder)
    return folder, result


def command(*arguments: str):
    from himlip_ase.cli.sscha_tools import add_to

    app = Typer()
    add_to(app)
    return CliRunner().invoke(app, list(arguments))


def labelled(path, images, forces_of, order):
    frames = []
    evaluated = forces_of(images)
    for index in order:
        frame = images[index].copy()
        frame.info["REF_energy"] = float(evaluated.energies[index])
        frame.arrays["REF_forces"] = evaluated.forces[index]
        frame.info["REF_stress"] = evaluated.stresses[index]
        frames.append(frame)
    ase.io.write(path, frames, format="extxyz")


def test_images_go_out_and_labels_of_any_code_come_back_in_any_order(run, tmp_path):
    folder, _ = run
    first = command("verify", str(folder), "--n", "10")
    assert first.exit_code == 0 and "11 structures" in first.output, first.output
    images = ase.io.read(folder / "verify" / "images.extxyz", index=":")
    labelled(tmp_path / "part.extxyz", images, crystal(TRUTH), [3, 1, 2])
    incomplete = command("verify", str(folder), "--n", "10", "--labels", str(tmp_path / "part.extxyz"))
    assert isinstance(incomplete.exception, InputError) and "8 of the 11" in str(incomplete.exception)
    labelled(tmp_path / "all.extxyz", images, crystal(TRUTH), [5, 3, 10, 1, 0, 2, 4, 9, 8, 6, 7])
    done = command("verify", str(folder), "--n", "10", "--labels", str(tmp_path / "all.extxyz"))
    assert done.exit_code == 0 and "force on H: rms" in done.output, (done.output, done.exception)
    data = json.loads((folder / "verify" / "verification.json").read_text())
    read = read_dyn(folder / "verify" / "corrected.dyn")
    np.testing.assert_allclose(read.frequencies(), data["corrected_frequencies"]["value"], atol=0.05)
    assert (folder / "verify" / "verification.png").stat().st_size > 10_000
    again = command("verify", str(folder), "--n", "10", "--labels", str(tmp_path / "all.extxyz"))
    assert isinstance(again.exception, InputError) and "--overwrite" in str(again.exception)


def test_verified_run_equals_the_same_by_hand(run, group):
    from himlip_ase.sscha.trust.verify_files import load_final_ensemble

    folder, result = run
    final = load_final_ensemble(folder)
    assert len(final.ensemble) == 80 and final.ensemble.is_drawn_from(final.target)
    found = verify_with(final.target, final.ensemble, crystal(TRUTH), group, n=10, n_blocks=5)
    base = found.corrections.free_energy - found.corrections.free_energy_change
    static = final.ensemble.static_energy / 2 - result.static_energy
    assert base + static == pytest.approx(result.free_energy, abs=1e-8)
    words = "\n".join(describe_verification(found, result.auxiliary))
    assert "10 configurations recomputed" in words and "corrected" in words


def test_what_does_not_belong_together_is_refused(distribution, group):
    potential = crystal(POTENTIAL)
    ensemble = draw_ensemble(distribution, 40, stream(0, 1), potential)
    rows = choose(40, 10)
    images = verification_images(ensemble, rows)
    found = potential(images)
    short = Evaluation(found.energies[:-1], found.forces[:-1])
    with pytest.raises(InputError, match="11 in all"):
        verify(distribution, ensemble, rows, short, group)


def test_pw_inputs_are_written_once_and_finished_runs_are_seen(run, tmp_path):
    """Without pw.x: the inputs, and the refusal to mix them with others."""
    from himlip_ase.dft.espresso.inputs import QESettings
    from himlip_ase.sscha.trust.reference_runs import pw_jobs, write_pw_inputs

    _, result = run
    pseudo = tmp_path / "pseudo"
    pseudo.mkdir()
    for symbol in ("H", "S"):
        (pseudo / f"{symbol}.upf").write_text(f'<UPF version="2.0.1"><PP_HEADER element="{symbol}"/></UPF>')
    primitive = result.auxiliary.primitive
    settings = QESettings(k_grid=(4, 4, 4), conv_thr=1e-8, pseudo_dir=pseudo)
    images = [primitive.repeat(DIMS)] * 3
    jobs = pw_jobs(images, tmp_path / "pw", settings, primitive)
    assert len(write_pw_inputs(jobs)) == 3 and len(write_pw_inputs(jobs)) == 3
    assert "4 4 2" in " ".join((tmp_path / "pw" / "001" / "pw.in").read_text().split())
    other = pw_jobs(images, tmp_path / "pw", dataclasses.replace(settings, conv_thr=1e-6), primitive)
    with pytest.raises(InputError, match="something else"):
        write_pw_inputs(other)
