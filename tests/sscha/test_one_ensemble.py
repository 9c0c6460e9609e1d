"""Ensembles of python-sscha on the command line: import, minimise, Hessian; files that are damaged."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from himlip_ase.cli.sscha import register
from himlip_ase.errors import CalculationError, InputError
from himlip_ase.phonons.qe import read_dyn
from himlip_ase.sscha import (
    HarmonicDistribution,
    MinimisationProblem,
    SpaceGroup,
    SschaSettings,
    draw_ensemble,
    engine,
    free_energy_hessian,
    load_final_ensemble,
    load_result,
    positive_definite_start,
    read_python_sscha,
    read_watch,
    run_sscha,
    write_python_sscha,
)
from himlip_ase.sscha.exchange.extxyz import read_extxyz, write_extxyz
from himlip_ase.sscha.exchange.phonopy import read_phonopy_dataset, write_phonopy_dataset
from himlip_ase.sscha.run.one_ensemble import load_minimum

from .toy import STRONG, BondCrystal, cscl

DIMS = (1, 1, 2)
TEMPERATURE_K = 500.0


def command(*words: object):
    app = typer.Typer()
    register(app)
    return CliRunner().invoke(app, ["sscha", *map(str, words)])


@pytest.fixture(scope="module")
def crystal() -> BondCrystal:
    return BondCrystal(cscl(c=2.7), DIMS, STRONG)


@pytest.fixture(scope="module")
def ensemble(crystal):
    start, _ = positive_definite_start(crystal.harmonic())
    return draw_ensemble(HarmonicDistribution(start, TEMPERATURE_K), 400, 3, crystal)


@pytest.fixture(scope="module", params=[False, True], ids=["binary", "text"])
def theirs(ensemble, tmp_path_factory, request):
    """What python-sscha writes: no temperature anywhere."""
    folder = tmp_path_factory.mktemp("theirs")
    for path in write_python_sscha(folder, ensemble, text=request.param):
        if path.suffix == ".json":
            path.unlink()
    return folder


def test_case_S1_the_temperature_is_asked_for_and_a_wrong_one_is_refused(theirs, tmp_path):
    silent = command("import", theirs, "--out", tmp_path / "new")
    assert isinstance(silent.exception, InputError) and not (tmp_path / "new").exists()
    fitted, sigma = map(float, re.search(r"1 at (\S+) ± (\S+) K", str(silent.exception)).groups())
    assert abs(fitted - TEMPERATURE_K) < 4 * sigma and "-T" in str(silent.exception)
    wrong = command("import", theirs, "--out", tmp_path / "new", "-T", 0)
    assert isinstance(wrong.exception, InputError) and f"-T {fitted:g}" in str(wrong.exception)
    assert not (tmp_path / "new").exists()


def test_import_minimise_and_hessian(theirs, ensemble, tmp_path):
    new, minimum, curved = (tmp_path / name for name in ("new", "minimum", "curved"))
    done = command("import", theirs, "--out", new, "-T", TEMPERATURE_K)
    assert done.exit_code == 0, done.output
    assert "400 configurations" in done.output and "mean uᵀΥu per mode" in done.output
    again = command("import", theirs, "--out", new, "-T", TEMPERATURE_K)
    assert isinstance(again.exception, InputError)  # nothing is overwritten unasked

    done = command("minimise", new, "--out", minimum)
    assert done.exit_code == 0, done.output
    read = read_python_sscha(theirs, temperature_k=TEMPERATURE_K)
    settings = SschaSettings(n_configurations=400, n_blocks=20)
    group = SpaceGroup(read.drawn_from.dynamical)
    problem = MinimisationProblem(read, group, settings, move_centroids=group.has_free_coordinates())
    found = engine().minimise(problem)
    figures = json.loads((minimum / "minimum.json").read_text())
    assert figures["complete"] and figures["ended"] == "gradient"
    assert figures["free_energy"]["value"] == pytest.approx(found.free_energy[-1], abs=1e-12)
    assert figures["free_energy"]["uncertainty"] > 0
    auxiliary = load_minimum(minimum)
    np.testing.assert_array_equal(auxiliary.matrices, found.auxiliary.matrices)
    np.testing.assert_allclose(
        read_dyn(minimum / "auxiliary.dyn").frequencies(), auxiliary.frequencies(), atol=1e-3
    )

    done = command("hessian", new, "--auxiliary", minimum, "--out", curved)
    assert done.exit_code == 0, done.output
    assert "the ensemble carries it" in done.output
    figures = json.loads((curved / "hessian.json").read_text())
    target = HarmonicDistribution(auxiliary, TEMPERATURE_K)
    exact = free_energy_hessian(target, read, SpaceGroup(auxiliary))
    found = np.array(figures["hessian_frequencies"]["value"])
    assert np.abs(found[0, :3]).max() < 1e-3  # translations: roots of rounding errors
    np.testing.assert_allclose(found.ravel()[3:], exact.frequencies().ravel()[3:], atol=1e-6)
    assert 0.7 < figures["kong_liu"] < 1
    assert np.max(figures["hessian_frequencies"]["uncertainty"]) > 0.1


def test_an_ensemble_that_is_used_up_says_so(crystal, tmp_path):
    """Drawn from matrices far too stiff."""
    start, _ = positive_definite_start(crystal.harmonic())
    scaled = type(start)(start.primitive, start.dims, start.qpoints, 3 * start.matrices)
    stiff = draw_ensemble(HarmonicDistribution(scaled), 100, 1, crystal)
    write_python_sscha(tmp_path / "theirs", stiff)
    assert command("import", tmp_path / "theirs", "--out", tmp_path / "new").exit_code == 0
    done = command("minimise", tmp_path / "new", "--out", tmp_path / "minimum", "--kong-liu", 0.9)
    assert done.exit_code == 1 and done.output.startswith("NOT AT THE MINIMUM") and "Kong-Liu" in done.output
    soft = tmp_path / "soft"
    from himlip_ase.phonons.qe import write_dyn

    write_dyn(start, soft)
    done = command(
        "hessian", tmp_path / "new", "--auxiliary", soft, "--out", tmp_path / "curved", "--third-only"
    )
    assert done.exit_code == 1 and done.output.startswith("NOT TO BE TRUSTED")
    missing = command("minimise", tmp_path, "--out", tmp_path / "other")
    assert isinstance(missing.exception, InputError) and "himlip sscha import" in str(missing.exception)


@pytest.fixture(scope="module")
def run(crystal, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    settings = SschaSettings(
        n_configurations=40, n_hessian_configurations=40, n_blocks=4, max_populations=1, hessian_order="third"
    )
    run_sscha(crystal.harmonic(), crystal, settings, folder)
    return folder


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    place = len(data) // 2
    return data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]


READ_OF_A_RUN = {
    "result.json": load_result,
    "result.npz": load_result,
    "state/hessian_001_40_ensemble.npz": load_final_ensemble,
    "watch/population_001.npz": read_watch,
}


@pytest.mark.parametrize(
    "harm", [cut, flipped, lambda _: b"", lambda _: b"[1, 2]"], ids=["cut", "flip", "empty", "list"]
)
@pytest.mark.parametrize("name", READ_OF_A_RUN)
def test_a_damaged_file_of_a_run_gives_one_message_with_the_way_on(name, harm, run, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    path = folder / name
    if harm is flipped and path.suffix == ".json":
        path.write_text(path.read_text().replace('"settings"', '"set\x00ings"'))
    else:
        path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(CalculationError) as caught:
        READ_OF_A_RUN[name](folder)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    assert re.search(r"restore it, or delete .* and --resume", message)
    for deleted in re.search(r"delete (.*?) in ", message)[1].split(" and "):
        (folder / deleted).unlink(missing_ok=True)
        (path.parent / deleted).unlink(missing_ok=True)
    crystal = BondCrystal(cscl(c=2.7), DIMS, STRONG)
    settings = load_result(run).settings
    mended = run_sscha(crystal.harmonic(), crystal, settings, folder, resume=True)
    assert mended.as_dict() == load_result(run).as_dict()  # as the message says


def write_files_of_others(folder, ensemble):
    small = ensemble.part(np.arange(20))
    write_python_sscha(folder / "binary", small)
    write_python_sscha(folder / "text", small, text=True)
    write_extxyz(folder / "ensemble.extxyz", small)
    write_phonopy_dataset(folder / "dataset.yaml", small)


READ_OF_OTHERS = {
    "binary/xats_pop1.npy": lambda folder, drawn_from: read_python_sscha(folder / "binary"),
    "binary/energies_pop1.npy": lambda folder, drawn_from: read_python_sscha(folder / "binary"),
    "binary/himlip_pop1.json": lambda folder, drawn_from: read_python_sscha(folder / "binary"),
    "text/u_population1_3.dat": lambda folder, drawn_from: read_python_sscha(folder / "text"),
    "text/energies_supercell_population1.dat": lambda folder, drawn_from: read_python_sscha(folder / "text"),
    "ensemble.extxyz": lambda folder, drawn_from: read_extxyz(folder / "ensemble.extxyz", drawn_from),
    "dataset.yaml": lambda folder, drawn_from: read_phonopy_dataset(folder / "dataset.yaml", drawn_from),
}


@pytest.mark.parametrize(
    "harm", [cut, lambda _: b"", lambda _: b"\x00\x01nonsense"], ids=["cut", "empty", "nonsense"]
)
@pytest.mark.parametrize("name", READ_OF_OTHERS)
def test_a_damaged_file_of_another_code_is_refused_by_name(name, harm, ensemble, tmp_path):
    write_files_of_others(tmp_path, ensemble)
    READ_OF_OTHERS[name](tmp_path, ensemble.drawn_from)
    path = tmp_path / name
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(InputError) as caught:
        READ_OF_OTHERS[name](tmp_path, ensemble.drawn_from)
    assert path.parent.name in str(caught.value) or path.name in str(caught.value)


def test_configurations_without_forces_are_refused(ensemble, tmp_path):
    small = ensemble.part(np.arange(20))
    write_python_sscha(tmp_path, small)
    forces = np.load(tmp_path / "forces_pop1.npy")
    forces[4, 0] = np.nan
    np.save(tmp_path / "forces_pop1.npy", forces)
    with pytest.raises(InputError, match=r"1 of 20 configurations .*first: 5"):
        read_python_sscha(tmp_path)
    np.save(tmp_path / "forces_pop1.npy", forces[:10])
    with pytest.raises(InputError, match="do not fit"):
        read_python_sscha(tmp_path)
