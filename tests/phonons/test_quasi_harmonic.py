"""Thermal expansion against an exact crystal and against phonopy's quasi-harmonic approximation."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from typer.testing import CliRunner

from himlip_ase.cli import expansion
from himlip_ase.cli.app import app
from himlip_ase.errors import CalculationError, InputError
from himlip_ase.phonons import harmonic_force_constants, quasi_harmonic_expansion, scan_volumes
from himlip_ase.phonons.thermal_expansion import with_finite_size
from himlip_ase.potential.checkpoint import default_model
from himlip_ase.relaxation import relax
from himlip_ase.sscha.ensembles import workers
from himlip_ase.units import THZ_CM

from .grueneisen import DIMS, GrueneisenCrystal

TEMPERATURES = (0.0, 300.0, 600.0)


def test_exact_crystal():
    crystal = GrueneisenCrystal()
    scan = scan_volumes(crystal.primitive, crystal, DIMS, mesh=DIMS)
    found = quasi_harmonic_expansion(scan, TEMPERATURES)
    exact = np.array([crystal.exact_volume(t) for t in TEMPERATURES])
    assert np.ptp(exact) > 0.005 * exact[0]  # it does expand
    assert (np.abs(found.volumes - exact) < 2 * found.volume_sigma).all()  # the error of the form of the fit
    assert (found.volume_sigma < 2e-4 * exact).all()
    higher = quasi_harmonic_expansion(scan, TEMPERATURES, order=6)
    np.testing.assert_allclose(higher.volumes, exact, rtol=1e-6)
    np.testing.assert_allclose(higher.lengths[:, 0] ** 3 / np.sqrt(2), exact, rtol=2e-6)
    step = 1.0
    slope = (crystal.exact_volume(300 + step) - crystal.exact_volume(300 - step)) / (2 * step) / exact[1]
    assert higher.alpha[1] == pytest.approx(slope, rel=1e-4) and found.alpha[0] == 0
    assert found.alpha[1] == pytest.approx(slope, rel=0.02)
    assert higher.static_volume == pytest.approx(crystal.volume, rel=1e-6)


def test_a_supercell_expands_too_little_and_is_corrected():
    """One atom in 2×2×2: 3 of 24 modes are translations, an eighth of the classical expansion."""
    copper = relax(bulk("Cu", a=3.59), EMT(), pressure_gpa=0.0, keep_symmetry=True).atoms
    strains = np.linspace(-0.005, 0.02, 6)
    scan = scan_volumes(copper, EMT(), (2, 2, 2), strains, (8, 8, 8))
    dense, grid = (quasi_harmonic_expansion(each, [0.0, 300.0]) for each in (scan, scan.on_grid()))
    lost = (dense.volumes - grid.volumes)[1] / (dense.volumes[1] - dense.static_volume)
    assert 0.1 < lost < 0.3
    corrected = with_finite_size(grid, dense, grid)
    np.testing.assert_allclose(corrected.volumes, dense.volumes)
    np.testing.assert_allclose(corrected.lengths, dense.lengths)


def test_copper_against_phonopy(tmp_path):
    from phonopy import PhonopyQHA

    copper = relax(bulk("Cu", a=3.59), EMT(), pressure_gpa=0.0, keep_symmetry=True).atoms
    strains, mesh = np.linspace(-0.005, 0.02, 6), (4, 4, 4)
    scan = scan_volumes(copper, EMT(), (2, 2, 2), strains, mesh, folder=tmp_path)
    found = quasi_harmonic_expansion(scan, (100.0, 300.0))
    temperatures = np.arange(0, 411, 10.0)
    free, entropy, capacity = [], [], []
    for volume in scan.volumes:
        cell = copper.copy()
        cell.set_cell(copper.cell.array * (volume / copper.get_volume()) ** (1 / 3), scale_atoms=True)
        fc = harmonic_force_constants(cell, EMT(), (2, 2, 2)).with_acoustic_sum_rule()
        ph = fc.to_phonopy()
        ph.run_mesh(mesh, is_gamma_center=True)
        ph.run_thermal_properties(temperatures=temperatures, cutoff_frequency=0.1 / THZ_CM)
        thermal = ph.thermal_properties
        free.append(thermal.free_energy)
        entropy.append(thermal.entropy)
        capacity.append(thermal.heat_capacity)
    peer = PhonopyQHA(
        volumes=scan.volumes,
        electronic_energies=scan.energies,
        temperatures=temperatures,
        free_energy=np.array(free).T,
        entropy=np.array(entropy).T,
        cv=np.array(capacity).T,
        eos="birch_murnaghan",
        t_max=400,
    )
    theirs = np.interp((100.0, 300.0), temperatures[: len(peer.volume_temperature)], peer.volume_temperature)
    np.testing.assert_allclose(found.volumes, theirs, rtol=2e-6)
    alpha = np.interp((100.0, 300.0), temperatures[: len(peer.thermal_expansion)], peer.thermal_expansion)
    np.testing.assert_allclose(found.alpha, alpha, rtol=5e-3)
    again = scan_volumes(copper, EMT(), (2, 2, 2), strains, mesh, folder=tmp_path, resume=True)
    assert np.array_equal(again.frequencies_cm, scan.frequencies_cm)
    with pytest.raises(InputError, match="belongs to another"):
        scan_volumes(copper, EMT(), (2, 2, 2), strains, (5, 5, 5), folder=tmp_path, resume=True)
    with pytest.raises(InputError, match="holds volumes already"):
        scan_volumes(copper, EMT(), (2, 2, 2), strains, mesh, folder=tmp_path)


def test_what_cannot_be_answered_is_refused():
    crystal = GrueneisenCrystal()
    narrow = np.linspace(-0.002, 0.002, 5)
    scan = scan_volumes(crystal.primitive, crystal, DIMS, narrow, DIMS)
    with pytest.raises(CalculationError, match="give larger strains"):
        quasi_harmonic_expansion(scan, [600.0])
    with pytest.raises(InputError, match="at least 5"):
        scan_volumes(crystal.primitive, crystal, DIMS, narrow[:4], DIMS)
    crystal.constants = type(crystal.constants)(crystal.primitive, DIMS, -crystal.constants.compact)
    with pytest.raises(CalculationError, match="imaginary"):
        scan_volumes(crystal.primitive, crystal, DIMS, narrow, DIMS)


def test_command(tmp_path):
    bulk("Cu", a=3.6).write(tmp_path / "cu.extxyz")
    command = ["expansion", str(tmp_path / "cu.extxyz"), "--calculator", "ase.calculators.emt:EMT"]
    command += ["-T", "0", "-T", "300", "--mesh", "3", "3", "3", "--out", str(tmp_path / "out")]
    for strain in (-0.005, 0.0, 0.005, 0.01, 0.015):
        command += ["--strain", str(strain)]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 0, run.output
    (record,) = json.loads((tmp_path / "out" / "expansion.json").read_text(encoding="utf-8"))
    assert (
        record["method"] == "quasi-harmonic" and record["volume_angstrom3"][1] > record["volume_angstrom3"][0]
    )
    assert CliRunner().invoke(app, command).exit_code == 2
    assert CliRunner().invoke(app, [*command, "--resume"]).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--method", "sscha", "--strain", "0.01"],
            "--strain is of qha, and --method is sscha; type --method qha",
        ),
        (["--method", "sscha", "--mesh", "2", "2", "2"], "--mesh is of qha"),
        (
            ["--n", "500"],
            "--n is of sscha, and --method is qha; type --method sscha or both, or leave it out",
        ),
        (["--n-final", "10"], "--n-final is of sscha"),
        (["--max-populations", "3"], "--max-populations is of sscha"),
        (["--seed", "1"], "--seed is of sscha"),
        (["--workers", "2"], "--workers is of sscha"),
        (["--method", "both", "--calculator", "m:f", "--workers", "8"], "--workers is of models, and an ASE"),
    ],
)
def test_options_of_the_other_method_are_refused(arguments, message):
    run = CliRunner().invoke(app, ["expansion", "cu.extxyz", "-T", "0", *arguments])
    assert run.exit_code == 2 and message in " ".join(run.output.split())


def test_the_default_model_has_workers_and_single_precision_too(monkeypatch):
    asked = []

    def potential_forces(model, count):
        asked.append((model, count))
        return contextlib.nullcontext("forces")

    monkeypatch.setattr(workers, "potential_forces", potential_forces)
    with expansion._forces(None, None, None, 8) as forces:
        assert forces == "forces" and asked == [(default_model(), 8)]
