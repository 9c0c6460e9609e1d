"""The sscha stage: isotopes and further grids beside the main run, each kept while its own inputs stay."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from typer.testing import CliRunner

from himlip_ase.cli.app import app
from himlip_ase.errors import InputError
from himlip_ase.hint.last_layer.twin_weights import load_twins
from himlip_ase.labels.digests import configuration_digest
from himlip_ase.labels.readers import read_labels
from himlip_ase.phonons.qe import read_dyn
from himlip_ase.pipeline.config import RunConfig, load_config
from himlip_ase.pipeline.document import Document
from himlip_ase.pipeline.label_correction import correct_by_finished_labels
from himlip_ase.pipeline.learn import corrected
from himlip_ase.pipeline.run import run_pipeline
from himlip_ase.pipeline.runfolder import Figure, RunFolder
from himlip_ase.pipeline.sscha import grid_folders, isotope_folders
from himlip_ase.pipeline.sscha_report import corrected_modes, runs
from himlip_ase.pipeline.stages import Context, Outcome
from himlip_ase.potential.checkpoint import load_model, save_model
from himlip_ase.potential.evaluate import evaluate
from himlip_ase.sscha import load_result
from himlip_ase.sscha.trust.judged_cells import judged_cells
from himlip_ase.sscha.trust.potential_error import check_made_by

CONFIG = Path(__file__).parents[2] / "examples" / "h3s" / "h3s.yaml"
SHORT: dict[str, Any] = {
    "sscha.n_configurations": 24,
    "sscha.max_populations": 1,
    "sscha.n_hessian_configurations": 24,
    "sscha.hessian_order": "third",
    "sscha.n_blocks": 4,
    "anharmonic.workers": 1,
    "anharmonic.isotopes": {"D3S": {"H": 2.014}},
    "anharmonic.grids": [[1, 1, 1]],
}


def configuration(**more: Any) -> RunConfig:
    return load_config(CONFIG, SHORT | more)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "h3s"
    run_pipeline(configuration(), folder, until="sscha")
    return folder


def figures(folder: Path) -> dict[str, dict[str, Any]]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))["figures"]


def test_isotopes_and_grids_lie_where_the_next_stage_looks(finished: Path) -> None:
    context = Context(configuration(), RunFolder(finished, resume=True))
    home = context.of("sscha")
    assert isotope_folders(context) == {"D3S": home / "D3S"}
    assert grid_folders(context) == {(1, 1, 1): home / "grid_1x1x1"}
    main, heavy, small = (load_result(home / name) for name in ("", "D3S", "grid_1x1x1"))
    assert heavy.centroids.get_masses()[heavy.centroids.numbers == 1] == pytest.approx(2.014)
    assert heavy.auxiliary.dims == main.auxiliary.dims and small.auxiliary.dims == (1, 1, 1)
    assert heavy.static_energy == main.static_energy
    assert (home / "D3S" / "phonopy_params_hessian.yaml").is_file()
    ratio = heavy.frequencies().max() / main.frequencies().max()
    assert 0.68 < ratio < 0.80  # hydrogen modes scale with about 1/√2


def test_every_run_and_the_difference_of_grids_is_quoted(finished: Path) -> None:
    quoted = figures(finished)
    for suffix in ("", ".D3S", ".grid_1x1x1"):
        for name in ("free_energy", "pressure_quantum", "hessian_lowest", "gamma_optical_lowest.hessian"):
            assert quoted[f"{name}{suffix}"]["uncertainty"] > 0
        assert quoted[f"sscha_converged{suffix}"]["value"] in (True, False)
    difference = quoted["grid_difference.free_energy.grid_1x1x1"]
    values = [quoted[f"free_energy{suffix}"]["value"] for suffix in (".grid_1x1x1", "")]
    assert difference["value"] == pytest.approx(values[0] - values[1])
    assert quoted["grid_difference.auxiliary_rms.grid_1x1x1"]["unit"] == "cm⁻¹"
    data = json.loads((finished / "state/sscha/grids.json").read_text(encoding="utf-8"))["grid_1x1x1"]
    assert np.array(data["auxiliary"]).shape == (1, 12)
    document = Document("runs")
    runs(document, configuration(), {name: Figure(**figure) for name, figure in quoted.items()})
    text = document.markdown(finished)
    for words in ("D3S", "1×1×1", "What the supercell changes, against 2×2×2", "± "):
        assert words in text


def test_finished_labels_correct_the_main_run(finished: Path) -> None:
    """The cells of h3s.yaml; each judged by a twin of the shipped model that did not learn it."""
    home = finished / "state" / "sscha"
    found = corrected(home)
    assert found is not None
    auxiliary, deviations = found
    before = load_result(home).auxiliary
    assert auxiliary.dims == before.dims and len(deviations) > 4
    moved = np.abs(auxiliary.frequencies() - before.frequencies())
    assert 1 < moved.max() < 100 and moved[0, :3].max() < 0.02
    quoted = figures(finished)
    assert quoted["corrected_by_dft.rms"]["value"] < 50
    assert 0 < quoted["corrected_by_dft.largest_sigma"]["value"] < 20
    pressures = [quoted[f"pressure_quantum{suffix}"]["value"] for suffix in ("", ".corrected")]
    assert 0 < abs(pressures[1] - pressures[0]) < 3
    document = Document("runs")
    corrected_modes(document, home)
    assert "16 independent groups of labelled cells" in document.markdown(finished)


@pytest.mark.slow
def test_a_further_supercell_is_corrected_in_the_run(tmp_path: Path) -> None:
    """By cells of other shapes, which together hold its q-points; what is quoted of it is the corrected."""
    folder = tmp_path / "h3s"
    wide = {"anharmonic.isotopes": {}, "anharmonic.grids": [[4, 4, 4]], "anharmonic.grid_share": 0.25}
    run_pipeline(configuration(**wide), folder, until="sscha")
    home = folder / "state" / "sscha" / "grid_4x4x4"
    found = corrected(home)
    assert found is not None
    auxiliary, deviations = found
    before = load_result(home).auxiliary
    assert auxiliary.dims == before.dims == (4, 4, 4) and len(deviations) > 4
    quoted = figures(folder)
    moved = np.abs(auxiliary.frequencies() - before.frequencies()).max()
    largest = quoted["corrected_by_dft.largest.grid_4x4x4"]["value"]
    assert abs(largest) == pytest.approx(moved, abs=0.06)
    document = Document("runs")
    corrected_modes(document, home)
    assert "independent groups of labelled cells" in document.markdown(folder)


def test_isotopes_are_corrected_by_the_same_cells(finished: Path) -> None:
    """Electrons do not know the masses: nearly the same change of Φ, and smaller changes of frequencies."""
    home = finished / "state" / "sscha"
    changes = []
    for place in (home, home / "D3S"):
        found, before = corrected(place), load_result(place).auxiliary
        assert found is not None
        changes.append((found[0].matrices - before.matrices).ravel())
    light, heavy = changes
    assert abs(np.vdot(light, heavy)) > 0.9 * np.linalg.norm(light) * np.linalg.norm(heavy)
    quoted = figures(finished)
    rms = [quoted[f"corrected_by_dft.rms{suffix}"]["value"] for suffix in ("", ".D3S")]
    assert 0.5 < rms[1] / rms[0] < 1


def test_the_command_corrects_as_the_run_does(finished: Path, tmp_path: Path) -> None:
    home = shutil.copytree(finished / "state" / "sscha", tmp_path / "sscha")
    model, sets = finished / "state" / "finetune" / "model.safetensors", CONFIG.parent / "labels"
    before = json.loads((home / "label_correction.json").read_text(encoding="utf-8"))
    command = ["sscha", "correct", str(home), "--model", str(model)]
    for name in before["sets"]:
        command += ["--labels", str(sets / f"{name}.extxyz")]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2 and "--overwrite" in refused.output
    result = CliRunner().invoke(app, [*command, "--overwrite"])
    assert result.exit_code == 0 and "16 independent groups" in result.output
    after = json.loads((home / "label_correction.json").read_text(encoding="utf-8"))
    for name in ("frequencies_cm", "change_cm", "change_sigma_cm"):
        np.testing.assert_allclose(after[name], before[name], atol=0.01)
    assert read_dyn(home / "corrected.dyn0").dims == (2, 2, 2)


def test_only_what_a_twin_did_not_learn_is_judged(finished: Path) -> None:
    model = finished / "state" / "finetune" / "model.safetensors"
    auxiliary, twins = load_result(finished / "state" / "sscha").auxiliary, load_twins(model)
    frames = read_labels(CONFIG.parent / "labels" / "learn.extxyz")
    found = judged_cells(frames, auxiliary, model, twins)
    learnt = evaluate(load_model(model), [frame.atoms for frame in frames]).force_array
    ratios = [
        np.std(c.forces) / np.std(f.forces - own) for c, f, own in zip(found, frames, learnt, strict=True)
    ]
    assert min(ratios) > 1.05
    assert [cell.judge for cell in found[::2]] == [cell.judge for cell in found[1::2]]
    elsewhere = read_labels(CONFIG.parent / "labels" / "validation_first.extxyz")[:1]
    assert judged_cells(elsewhere, auxiliary, model, twins)[0].judge is None
    with pytest.raises(InputError, match=r"no twin of model\.safetensors says that it did not learn it"):
        judged_cells([frames[0], replace(elsewhere[0], set="learn")], auxiliary, model, twins)
    with pytest.raises(InputError, match="knows none of these cells"):
        judged_cells([replace(elsewhere[0], set="learn")], auxiliary, model, twins)
    with pytest.raises(InputError, match="displaced along a mode: no SSCHA drew it"):
        judged_cells([replace(elsewhere[0], set="doublewell")], auxiliary, model, twins)
    at_rest = auxiliary.primitive.repeat((2, 2, 2))
    at_rest.set_cell(frames[0].atoms.cell, scale_atoms=True)
    assert judged_cells([replace(frames[0], atoms=at_rest)], auxiliary, model, twins) == []


def test_another_potential_does_not_correct_a_run(finished: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_model(load_twins(finished / "state" / "finetune" / "model.safetensors")[0], other)
    with pytest.raises(InputError, match=r"--model: .*other\.safetensors did not make"):
        check_made_by(finished / "state" / "sscha", other)


def test_cells_read_back_are_known_to_the_twins(tmp_path: Path) -> None:
    """Extended XYZ, which the learning loop writes as well, keeps eight decimals of a position."""
    frame = read_labels(CONFIG.parent / "labels" / "learn.extxyz")[0].atoms
    frame.positions += np.random.default_rng(0).normal(0, 0.1, frame.positions.shape)
    ase.io.write(tmp_path / "cell.extxyz", frame)
    again = ase.io.read(tmp_path / "cell.extxyz")
    assert np.abs(again.positions - frame.positions).max() > 0
    assert configuration_digest(again) == configuration_digest(frame)


def test_what_cannot_correct_is_said(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"anharmonic\.corrected_by. names sets of a finished"):
        configuration(**{"learn.enabled": True})
    with pytest.raises(InputError, match=r"anharmonic\.corrected_by: .*nowhere\.extxyz does not exist"):
        run_pipeline(configuration(**{"anharmonic.corrected_by": ["nowhere"]}), tmp_path / "run")
    with pytest.raises(InputError, match=r"anharmonic\.grids_corrected_by: .*nowhere\.extxyz does not exist"):
        run_pipeline(configuration(**{"anharmonic.grids_corrected_by": ["nowhere"]}), tmp_path / "run")
    context = Context(configuration(), RunFolder(finished, resume=True))
    model, outcome = finished / "state" / "finetune" / "model.safetensors", Outcome()
    home = shutil.copytree(finished / "state" / "sscha", tmp_path / "sscha")
    correct_by_finished_labels(context, home, outcome, model, load_twins(model), ["learn_quarter"])
    assert "has q-points off the 2×2×2 grid" in outcome.notes[0]
    correct_by_finished_labels(context, home, outcome, model, [], ["learn"])
    assert "the potential has no twins" in outcome.notes[1]
    assert not (home / "label_correction.json").exists() and corrected(home) is None


def test_another_isotope_costs_only_itself(finished: Path) -> None:
    home = finished / "state" / "sscha"
    before = {name: (home / name / "result.json").stat().st_mtime_ns for name in ("", "D3S", "grid_1x1x1")}
    both = {"D3S": {"H": 2.014}, "T3S": {"H": 3.016}}
    run_pipeline(configuration(**{"anharmonic.isotopes": both}), finished, resume=True, until="sscha")
    after = {name: (home / name / "result.json").stat().st_mtime_ns for name in before}
    assert after == before
    assert load_result(home / "T3S").frequencies().max() < load_result(home / "D3S").frequencies().max()
    assert "free_energy.T3S" in figures(finished)


@pytest.mark.slow
def test_changed_masses_redo_the_isotope_alone(finished: Path) -> None:
    home = finished / "state" / "sscha"
    main = (home / "result.json").stat().st_mtime_ns
    changed = {"D3S": {"H": 2.5}}
    run_pipeline(configuration(**{"anharmonic.isotopes": changed}), finished, resume=True, until="sscha")
    assert (home / "result.json").stat().st_mtime_ns == main
    assert load_result(home / "D3S").centroids.get_masses().min() == pytest.approx(2.5)
    assert load_result(home / "D3S.previous").centroids.get_masses().min() == pytest.approx(2.014)


@pytest.mark.slow
def test_a_changed_setting_redoes_all(finished: Path) -> None:
    run_pipeline(configuration(**{"sscha.seed": 7}), finished, resume=True, until="sscha")
    home = finished / "state"
    assert load_result(home / "sscha").settings.seed == 7
    assert load_result(home / "sscha" / "D3S").settings.seed == 7
    assert load_result(home / "sscha.previous").settings.seed == 0
