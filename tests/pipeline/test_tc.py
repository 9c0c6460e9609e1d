"""The tc stage and its part of the report, on H3S labels with phonons made stable by hand, without SSCHA."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from himlip_ase import figure_style
from himlip_ase.lattice import replace_masses
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.qe import read_dyn, write_dyn
from himlip_ase.pipeline import figures, tc_report
from himlip_ase.pipeline.config import load_config
from himlip_ase.pipeline.coupling_labels import electron_phonon, harmonic_phonons
from himlip_ase.pipeline.document import Document, number
from himlip_ase.pipeline.labels import LabelFolder
from himlip_ase.pipeline.runfolder import RunFolder
from himlip_ase.pipeline.stages import Context, Outcome
from himlip_ase.pipeline.tc import STAGE
from himlip_ase.pipeline.tc_cases import CaseResult, Phonons, TcResults, coefficients_between
from himlip_ase.sscha.results.result import History, SschaResult
from himlip_ase.sscha.results.sampling_noise import deviations_of, independent_deviations
from himlip_ase.sscha.run.initial import positive_definite_start
from himlip_ase.sscha.settings import SschaSettings
from himlip_ase.superconductivity.analysis import analyse
from himlip_ase.superconductivity.bootstrap import resampled_phonons
from himlip_ase.superconductivity.options import TcOptions
from himlip_ase.superconductivity.tc_entries import NoTc, Tc
from tests.superconductivity.material import strained_toy, toy

CONFIG = Path(__file__).parents[2] / "examples" / "h3s" / "h3s.yaml"
OPTIONS: dict[str, Any] = {
    "tc.electron_phonon": "harmonic",
    "tc.samples": 20,
    "tc.mu_star": [0.10, 0.13],
    "tc.meshes": [[4, 4, 4]],
    "tc.gap": False,
    "tc.published": [{"what": "measured", "value": "1 K", "source": "a paper"}],
    "anharmonic.isotopes": {"D3S": {"H": 2.014}},
}


def sscha_like(phonons: DynamicalMatrices, hessian: DynamicalMatrices | None, converged: bool) -> SschaResult:
    empty = History(**{f.name: np.zeros((0, 12)) for f in dataclasses.fields(History)})
    sigma = np.where(phonons.frequencies() > 1, 5.0, 0.0)
    return SschaResult(
        settings=SschaSettings(),
        converged=converged,
        verdict="for this test",
        auxiliary=phonons,
        auxiliary_sigma_cm=sigma,
        static_energy=0.0,
        free_energy=0.1,
        free_energy_sigma=0.001,
        stress=None,
        stress_sigma=None,
        hessian=hessian,
        hessian_sigma_cm=None if hessian is None else sigma,
        hessian_bias_cm=None if hessian is None else 0 * sigma,
        hessian_kong_liu=None if hessian is None else 1.0,
        populations=[],
        populations_settled=converged,
        history=empty,
    )


def with_sscha(folder: Path, converged: bool = True, strain: float = 0.0, **options: Any) -> Context:
    """A run whose SSCHA was done."""
    config = load_config(CONFIG, OPTIONS | options)
    context = Context(config, RunFolder(folder))
    assert config.labels.folder is not None
    harmonic = LabelFolder(config.labels.folder).harmonic
    stable, _ = positive_definite_start(harmonic)
    if strain:
        stable = strained_toy(stable, strain)
    softer = DynamicalMatrices(stable.primitive, stable.dims, stable.qpoints, 0.9 * stable.matrices)
    for name, mass in (("", {}), ("D3S", {"H": 2.014})):
        result = sscha_like(stable.with_masses(mass), softer.with_masses(mass), converged)
        result.save(context.of("sscha") / name)
    return context


def run(folder: Path, converged: bool = True, strain: float = 0.0, **options: Any) -> tuple[Context, Outcome]:
    context = with_sscha(folder, converged, strain, **options)
    place = context.of("tc")
    place.mkdir(parents=True)
    return context, STAGE.run(context, place)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Outcome]:
    return run(tmp_path_factory.mktemp("tc") / "run")


def test_every_formula_for_every_set_of_phonons_and_isotope(finished: tuple[Context, Outcome]) -> None:
    quoted = finished[1].figures
    for kind in ("auxiliary", "hessian", "auxiliary.D3S", "hessian.D3S"):
        for method in ("mcmillan", "allen-dynes", "sisso", "eliashberg"):
            figure = quoted[f"tc.{kind}.{method}.mu0.10"]
            assert figure.how and figure.unit == "K"
            if method != "sisso":
                assert figure.value > 0 and figure.uncertainty > 0 and "SSCHA ensemble" in figure.how
    assert quoted["tc.hessian.D3S.allen-dynes.mu0.10"].value < quoted["tc.hessian.allen-dynes.mu0.10"].value
    assert quoted["lambda.harmonic"].value > 0 and "stable modes only" in quoted["lambda.harmonic"].how
    harmonic = [f for name, f in quoted.items() if name.startswith("tc.harmonic")]
    assert harmonic and all(f.value is None and "imaginary" in f.how for f in harmonic)


def test_same_force_constants_give_an_isotope_coefficient_below_one_half(
    finished: tuple[Context, Outcome],
) -> None:
    figure = finished[1].figures["isotope_coefficient.D3S.hessian.allen-dynes.mu0.10"]
    assert 0.3 < figure.value < 0.5 and 0 < figure.uncertainty < 0.1


def test_one_sigma_is_chosen_on_the_phonons_of_interest(finished: tuple[Context, Outcome]) -> None:
    cases = TcResults.read(finished[0].of("tc")).cases
    found = {phonons.name: case.analysis for phonons, case in cases.items()}
    harmonic, hessian = found["harmonic"], found["hessian"]
    assert harmonic is not None and hessian is not None
    assert len({analysis.sigma_ry for analysis in found.values() if analysis is not None}) == 1
    assert "plateau of these phonons" in hessian.sigma_source
    assert "that of 'free-energy Hessian'" in harmonic.sigma_source
    assert finished[1].figures["sigma"].value == hessian.sigma_ry
    assert harmonic.plateau is not None and hessian.plateau is not None
    assert list(harmonic.plateau.lambdas) != list(hessian.plateau.lambdas)


def test_report_shows_tables_pictures_and_limits(
    finished: tuple[Context, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, outcome = finished
    sizes: dict[str, set[float]] = {}

    def watched(figure: Figure, folder: Path, name: str) -> Path:
        texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]  # type: ignore[attr-defined]
        sizes[name] = {t.get_fontsize() for t in texts}  # type: ignore[attr-defined]
        assert figure.get_figwidth() == figure_style.PANEL[0]
        return figure_style.save(figure, folder, name)

    monkeypatch.setattr(figures, "save", watched)
    document = Document("x")
    results = TcResults.read(context.of("tc"))
    tc_report.headline(document, context.config, results)
    tc_report.pictures(document, results, context.folder.figures)
    tc_report.uncertainty(document, results, outcome.figures, context.folder.figures)
    text = document.markdown(context.folder.path)
    for wanted in (
        "Migdal–Eliashberg, μ* = 0.13",
        "D3S",
        "isotope coefficient",
        "measured | 1 K | a paper",
        "q-grid of G",
        "together",
        "These error bars do not hold",
        "Where there is no Tc",
        "| DFT, harmonic | 3 imaginary modes",
    ):
        assert wanted in text, wanted
    for name in ("alpha2f", "alpha2f_D3S", "tc_mu_star", "tc_mu_star_D3S", "tc_broadening", "tc_uncertainty"):
        assert (context.folder.figures / f"{name}.png").stat().st_size > 5000
        assert sizes[name] == {figure_style.FONT}, name


def test_an_unconverged_sscha_gives_no_tc_but_its_reason(tmp_path: Path) -> None:
    context, outcome = run(tmp_path / "run", converged=False, **{"tc.methods": ["allen-dynes"]})
    quoted = {name: f for name, f in outcome.figures.items() if name.startswith("tc.hessian")}
    assert quoted and all(f.value is None and "did not converge" in f.how for f in quoted.values())
    for name, figure in outcome.figures.items():
        if name.startswith("isotope_coefficient"):
            assert figure.value is None and "converge" in figure.how
    document = Document("x")
    results = TcResults.read(context.of("tc"))
    tc_report.pictures(document, results, context.folder.figures)
    assert results.cases and not (context.folder.figures / "tc_mu_star.png").exists()


def test_finest_grid_is_taken_and_the_coarser_bounds_its_error() -> None:
    labels = LabelFolder(CONFIG.parent / "labels")
    name, harmonic, elph, coarser = electron_phonon(labels, None)
    best = max(np.prod(labels.coupled(run)[1].dims) for run in labels.elph_runs())
    assert np.prod(elph.dims) == best == np.prod(harmonic.dims)
    assert len(coarser) == len(labels.elph_runs()) - 1 and name in labels.elph_runs()
    with pytest.raises(ValueError, match="there are: harmonic"):
        electron_phonon(labels, "harmonic999")


def test_a_run_for_the_coupling_alone_leaves_the_phonons_to_the_labels(tmp_path: Path) -> None:
    given = CONFIG.parent / "labels" / "harmonic"
    shutil.copytree(given, tmp_path / "harmonic222")
    phonons = read_dyn(given / "dyn0")
    write_dyn(phonons.with_matrices(1.1 * phonons.matrices), tmp_path / "harmonic" / "dyn")
    labels = LabelFolder(tmp_path)
    name, own, elph, _ = electron_phonon(labels, None)
    run, harmonic = harmonic_phonons(labels, name, own)
    assert (name, run) == ("harmonic222", "harmonic") and elph.dims == harmonic.dims
    assert harmonic.matrices == pytest.approx(1.1 * phonons.matrices, abs=1e-6)
    # G(q) is checked against the phonons of its own run, which the others are not
    found = analyse(
        "DFT", elph, harmonic, own, TcOptions(mu_star=(0.1,), methods=("allen-dynes",), gap=False)
    )
    assert found.table.lambda_total > 0
    # a run that has G(q) itself keeps its own phonons
    shutil.copytree(given / "elph_dir", tmp_path / "harmonic" / "elph_dir")
    assert harmonic_phonons(LabelFolder(tmp_path), name, own)[0] == "harmonic222"


def test_potentials_that_left_cells_out_are_a_source_of_the_error() -> None:
    """Twins whose change is known: what it does to λ is its jackknife; none of them may be left out."""
    phonons, elph = toy()
    options = TcOptions(mu_star=(0.1,), methods=("allen-dynes",), gap=False, sigma_ry=0.02)
    scales = np.array([-0.02, 0.0, 0.01, 0.02, -0.01])
    changes = scales[:, None, None, None] * phonons.matrices
    found = analyse("toy", elph, phonons, phonons, options, without=changes)
    part = next(part for part in found.table.lambda_parts if part.kind == "potential")
    # λ ∝ 1/ω²: a change of Φ by a share s changes it by −s
    m = len(scales)
    spread = np.sqrt((m - 1) / m * np.sum((scales - scales.mean()) ** 2) * (m - 1) / (m - 3))
    assert part.size == pytest.approx(found.table.lambda_total * spread, rel=0.05)
    unstable = np.concatenate([changes, -1.5 * phonons.matrices[None]])
    lost = analyse("toy", elph, phonons, phonons, options, without=unstable)
    assert all(isinstance(entry, NoTc) for entry in lost.table.results)


def test_what_twins_change_alike_in_two_isotopes_is_no_error_of_the_coefficient() -> None:
    """Twins that scale Φ move both Tc, their ratio little; twins that move one alone move that too."""
    phonons, elph = toy()
    element = phonons.primitive.get_chemical_symbols()[0]
    heavy = phonons.with_masses(replace_masses(phonons.primitive, {element: 5.0}).get_masses())
    options = TcOptions(mu_star=(0.1,), methods=("allen-dynes",), gap=False, sigma_ry=0.02)
    scaled = np.array([-0.02, 0.0, 0.01, 0.02, -0.01])[:, None, None, None] * phonons.matrices

    def sigma(of_heavy: np.ndarray) -> float:
        pair = [
            CaseResult(analyse("toy", elph, own, phonons, options, without=changes))
            for own, changes in ((phonons, scaled), (heavy, of_heavy))
        ]
        (found,) = coefficients_between(Phonons("hessian", "heavy"), *pair)
        return found.uncertainty or 0.0

    assert 0 < sigma(scaled) < 0.25 * sigma(0 * scaled)


def test_independent_noise_has_the_errors_it_is_made_from() -> None:
    harmonic = LabelFolder(CONFIG.parent / "labels_k12").harmonic  # no two modes of one q nearly alike
    stable, _ = positive_definite_start(harmonic)
    sigma = np.where(stable.frequencies() > 1, 6.0, 0.0)
    samples = resampled_phonons(stable, independent_deviations(stable, sigma, blocks=60), 400)
    spread = np.array([s.frequencies() for s in samples]).std(axis=0)
    assert np.median(spread[sigma > 0]) == pytest.approx(6.0, rel=0.1)
    assert spread[0, :3] == pytest.approx(0.0, abs=0.5)
    result = sscha_like(stable, None, True)
    assert deviations_of(result, "hessian") is None
    blocks = np.zeros((5, *stable.matrices.shape), np.complex64)
    real = dataclasses.replace(result, auxiliary_blocks=blocks)
    assert deviations_of(real, "auxiliary").shape == blocks.shape  # type: ignore[union-attr]


CLOSE = {"tc.mu_star": [0.12, 0.125, 0.13], "tc.methods": ["allen-dynes"], "anharmonic.isotopes": {}}


def test_three_close_values_of_mu_star_are_three_rows_everywhere(tmp_path: Path) -> None:
    context, outcome = run(tmp_path / "run", **CLOSE)
    results = TcResults.read(context.of("tc"))
    analysis = results.cases[Phonons("hessian")].analysis
    assert analysis is not None
    kelvins = {}
    for mu in (0.12, 0.125, 0.13):
        entry = analysis.table.get("allen-dynes", mu)
        assert isinstance(entry, Tc)
        kelvins[mu] = entry.kelvin
    assert kelvins[0.12] > kelvins[0.125] > kelvins[0.13]
    quoted = {
        figure.key["mu_star"]: figure.value
        for figure in outcome.figures.values()
        if figure.key.get("quantity") == "tc"
        and figure.key["phonons"] == "hessian"
        and figure.key["method"] == "allen-dynes"
    }
    assert quoted == kelvins
    assert outcome.figures["tc.hessian.allen-dynes.mu0.12"].value == kelvins[0.12]
    assert outcome.figures["tc.hessian.allen-dynes.mu0.125"].value == kelvins[0.125]
    document = Document("x")
    tc_report.headline(document, context.config, results)
    text = document.markdown(context.folder.path)
    for label, mu in (("0.12", 0.12), ("0.125", 0.125), ("0.13", 0.13)):
        (row,) = [line for line in text.splitlines() if f"Allen–Dynes, μ* = {label} |" in line]
        assert number(kelvins[mu], analysis.table.get("allen-dynes", mu).uncertainty_kelvin) in row  # type: ignore[union-attr]


def test_a_cell_that_the_sscha_relaxed_ends_with_a_tc(tmp_path: Path) -> None:
    context, outcome = run(tmp_path / "run", strain=0.006, **CLOSE)
    figure = outcome.figures["tc.hessian.allen-dynes.mu0.125"]
    assert figure.value > 0 and figure.uncertainty > 0
    strain = outcome.figures["cell_strain.hessian"]
    assert strain.value == pytest.approx(0.6) and strain.unit == "%" and "+0.60" in strain.how
    volume = outcome.figures["cell_volume_change.hessian"]
    assert volume.value == pytest.approx(100 * (1.006**3 - 1)) and "N(E_F)" in volume.how
    document = Document("x")
    results = TcResults.read(context.of("tc"))
    tc_report.headline(document, context.config, results)
    tc_report.uncertainty(document, results, outcome.figures, context.folder.figures)
    text = document.markdown(context.folder.path)
    for words in (
        "0.60 % (volume +1.81 %)",
        "Not recalculated in the relaxed cell",
        "the strain of the relaxed",
    ):
        assert words in text, words


def test_a_cell_beyond_the_limit_has_no_tc_but_what_to_type(tmp_path: Path) -> None:
    context, outcome = run(tmp_path / "run", strain=0.02, **CLOSE)
    assert not any(name.startswith("tc.hessian") for name in outcome.figures)
    assert outcome.figures["lambda.hessian"].value is None
    assert any("tc.max_strain=0.021" in note for note in outcome.notes)
    assert outcome.figures["lambda.harmonic"].value > 0
    document = Document("x")
    tc_report.headline(document, context.config, TcResults.read(context.of("tc")))
    assert "too far from that of G(q)" in document.markdown(context.folder.path)
