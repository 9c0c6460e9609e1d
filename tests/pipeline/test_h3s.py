"""The whole pipeline on the shipped H3S labels and model, with an SSCHA too short to converge."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from himlip_ase.errors import InputError
from himlip_ase.pipeline.config import RunConfig, load_config
from himlip_ase.pipeline.registry import STAGES
from himlip_ase.pipeline.report import report_again
from himlip_ase.pipeline.run import run_pipeline
from tests.browser import faults_of, find_browser, opened_browser

CONFIG = Path(__file__).parents[2] / "examples" / "h3s" / "h3s.yaml"
EARLIER = CONFIG.with_name("h3s_k12.yaml")
SHORT: dict[str, Any] = {
    "sscha.n_configurations": 40,
    "sscha.max_populations": 1,
    "sscha.n_hessian_configurations": 40,
    "sscha.n_blocks": 4,
    "tc.methods": ["allen-dynes"],
    "tc.samples": 20,
    "anharmonic.grids": [],
    "gate.outside_percent": {"withhold": None},  # the first ensemble of so short a run is that of the start
}


def short(**more: Any) -> RunConfig:
    return load_config(CONFIG, SHORT | more)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "h3s"
    run_pipeline(short(), folder)
    return folder


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Harmonic figures of himlip-h3s-1 beside the labels that it learnt, double wells among them."""
    folder = tmp_path_factory.mktemp("runs") / "h3s_k12"
    run_pipeline(load_config(EARLIER, {"finetune.model_without_hessian": None}), folder, until="phonons")
    record = json.loads((folder / "state" / "phonons.json").read_text(encoding="utf-8"))
    return {name: figure["value"] for name, figure in record["figures"].items()}


def figures(folder: Path) -> dict[str, dict[str, Any]]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))["figures"]


def test_everything_quoted_has_unit_and_origin(finished: Path) -> None:
    quoted = figures(finished)
    for name in (
        "harmonic_rmse.with_hessian",
        "gamma_optical_lowest.dft",
        "gamma_optical_lowest.hessian",
        "free_energy",
        "lambda.harmonic",
        "tc.hessian.allen-dynes.mu0.10",
        "cost.labels",
    ):
        assert {"value", "unit", "uncertainty", "how"} <= set(quoted[name])
        assert quoted[name]["how"]
    assert quoted["free_energy"]["uncertainty"] > 0
    assert quoted["gamma_optical_lowest.hessian"]["uncertainty"] > 0


def test_no_tc_without_convergence_or_with_imaginary_modes(finished: Path) -> None:
    quoted = figures(finished)
    assert quoted["sscha_converged"]["value"] is False
    for name, figure in quoted.items():
        if name.startswith("tc."):
            assert figure["value"] is None
            assert ("imaginary" if ".harmonic." in name else "converge") in figure["how"]
    assert "no Tc" in (finished / "report.md").read_text(encoding="utf-8")


def test_harmonic_physics_of_h3s(finished: Path) -> None:
    quoted = {name: figure["value"] for name, figure in figures(finished).items()}
    assert -700 < quoted["gamma_optical_lowest.dft"] < -400
    assert quoted["harmonic_rmse.with_hessian"] < 2
    assert quoted["harmonic_largest_error.with_hessian"] < 5


def test_double_well_is_that_of_dft_with_a_dense_k_mesh(earlier: dict[str, float]) -> None:
    assert earlier["harmonic_rmse.with_hessian"] < 5
    assert earlier["harmonic_largest_error.with_hessian"] < 20
    for what in ("depth", "position"):
        assert earlier[f"double_well_{what}.with_hessian"] == pytest.approx(
            earlier[f"double_well_{what}.dft_k24"], rel=0.1
        )


@pytest.mark.xfail(strict=True, reason="measured: the potential's well is shallower than DFT's at 12×12×12 k")
def test_double_well_is_that_of_dft(earlier: dict[str, float]) -> None:
    for what in ("depth", "position"):
        assert earlier[f"double_well_{what}.with_hessian"] == pytest.approx(
            earlier[f"double_well_{what}.dft"], rel=0.1
        )


def test_the_report_shows_every_picture(finished: Path) -> None:
    html = (finished / "report.html").read_text(encoding="utf-8")
    assert html.count("data:image/png;base64,") >= 6
    assert "http://" not in html and "https://" not in html
    for name in ("bands_anharmonic", "alpha2f", "sscha_frequencies"):
        assert (finished / "figures" / f"{name}.png").stat().st_size > 5000


def test_the_first_lines_say_what_may_be_quoted_and_the_crystal_is_described(finished: Path) -> None:
    text = (finished / "report.md").read_text(encoding="utf-8")
    first, rest = text.split("## Tc")
    assert "No Tc." in first and "did not converge" in first and "Harmonically unstable" in first
    for words in ("Im-3m (229)", "60 Ry", "24×24×24 (harmonic", "H_ONCV_PBE_sr.upf (cf0fac66…)", "spglib"):
        assert words in rest, words
    assert "meV" in rest.split("## Phonons in numbers")[1][:600]


@pytest.mark.skipif(find_browser() is None, reason="no Chromium here (apt-get install chromium)")
def test_the_report_can_be_read_on_a_phone_and_a_screen(finished: Path) -> None:
    with opened_browser() as browser:
        assert faults_of(browser, finished / "report.html") == []


def test_what_phonopy_and_qe_read_is_there(finished: Path) -> None:
    for name in ("phonons/phonopy_params.yaml", "sscha/phonopy_params_hessian.yaml", "sscha/auxiliary.dyn0"):
        assert (finished / "state" / name).is_file()


def test_resuming_keeps_everything_and_a_change_redoes_what_depends_on_it(
    finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    done = [stage.name for stage in STAGES if (folder / f"state/{stage.name}.json").is_file()]
    assert done == [
        "labels",
        "finetune",
        "phonons",
        "sscha",
        "tc",
        "report",
    ]  # nothing is learnt on given labels
    stamps = {name: (folder / f"state/{name}.json").stat().st_mtime_ns for name in done}

    def redone() -> list[str]:
        return [n for n, t in stamps.items() if (folder / f"state/{n}.json").stat().st_mtime_ns != t]

    run_pipeline(short(), folder, resume=True)
    assert redone() == []
    run_pipeline(short(**{"tc.mu_star": [0.12]}), folder, resume=True)
    assert redone() == ["tc", "report"]
    assert "tc.harmonic.allen-dynes.mu0.12" in figures(folder)
    assert "tc.harmonic.allen-dynes.mu0.10" not in figures(folder)
    (folder / "report.html").unlink()
    assert report_again(folder).is_file()


def test_labels_of_another_crystal_are_refused(tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    shutil.copytree(CONFIG.parent / "labels", labels)
    name = next(path for path in sorted(labels.glob("*.extxyz")) if path.stem != "crystal")
    name.write_text(name.read_text(encoding="utf-8").replace("\nS ", "\nSe "), encoding="utf-8")
    with pytest.raises(InputError, match=r"Se.*another crystal"):
        run_pipeline(short(**{"labels.folder": labels}), tmp_path / "run", until="labels")


def test_a_truncated_dyn_file_is_named(tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    shutil.copytree(CONFIG.parent / "labels", labels)
    path = labels / "harmonic" / "dyn2"
    path.write_text(path.read_text(encoding="utf-8")[:1500], encoding="utf-8")
    with pytest.raises(InputError, match="dyn2"):
        run_pipeline(short(**{"labels.folder": labels}), tmp_path / "run", until="labels")


def test_another_grid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"set q_grid: \[2, 2, 2\]"):
        run_pipeline(short(q_grid=[3, 3, 3]), tmp_path / "run", until="labels")


def test_a_missing_model_says_what_to_do(tmp_path: Path) -> None:
    config = short(**{"finetune.model": tmp_path / "absent.safetensors"})
    with pytest.raises(InputError, match="--retrain"):
        run_pipeline(config, tmp_path / "run", until="finetune")
