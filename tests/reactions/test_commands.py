"""``himlip ts``, ``irc`` and ``gibbs`` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase.io import read, write
from typer.testing import CliRunner

from himlip_ase.cli.app import app
from himlip_ase.pipeline.ts_report import verdict_notice
from tests.browser import faults_of, find_browser, opened_browser
from tests.reactions.molecules import bent_guess, hydrogen_cyanide, hydrogen_isocyanide

pytest.importorskip("tblite")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Structures, and a finished `himlip ts`."""
    place = tmp_path_factory.mktemp("reactions")
    write(place / "hcn.xyz", hydrogen_cyanide())
    write(place / "hnc.xyz", hydrogen_isocyanide())
    write(place / "guess.xyz", bent_guess())
    found = typed("ts", place / "hcn.xyz", place / "hnc.xyz", "--calculator", "gfn2", "--out", place / "ts")
    assert found.exit_code == 0, found.output
    return place


def typed(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_result_says_what_was_found(folder: Path) -> None:
    result = json.loads((folder / "ts" / "result.json").read_text())
    assert result["verdict"] == "intended"
    assert result["barrier_ev"] == pytest.approx(3.175, abs=2e-3)
    assert result["imaginary_frequency_cm"] == pytest.approx(-1426, abs=3)
    assert 0 < result["gradients"] <= 150 and 0 < result["hessians"] < 40
    assert result["gibbs"]["activation"]["ev"] == pytest.approx(3.0, abs=0.1)
    ratio = result["gibbs"]["activation"]["kcal_per_mol"] / result["gibbs"]["activation"]["ev"]
    assert ratio == pytest.approx(23.0605, abs=1e-3)


def test_files_can_be_read(folder: Path) -> None:
    saddle = read(folder / "ts" / "transition_state.extxyz")
    assert saddle.get_array("softest_mode").shape == (3, 3)
    irc = read(folder / "ts" / "irc.extxyz", index=":")
    energies = [image.info["energy_ev"] for image in irc]
    assert np.argmax(energies) not in (0, len(irc) - 1)
    page = (folder / "ts" / "report.html").read_text()
    assert page.count("data:image/png") == 4 and 'class="notice ok"' in page
    first = (folder / "ts" / "report.md").read_text().split("## ")[0]
    assert (
        "The transition state of this reaction" in first
        and "Barrier 3.17" in first
        and "ΔG‡(298.15 K)" in first
    )
    for word in ("himlip-ase ", "tblite ", "| date | 20", "| atoms | CHN |"):
        assert word in (folder / "ts" / "report.md").read_text()


@pytest.mark.parametrize(
    ("verdict", "level", "title"),
    [
        ("intended", "ok", "The transition state of this reaction."),
        ("one end", "marked", "A transition state of another change: one end."),
        (
            "several imaginary modes",
            "withheld",
            "No transition state of this reaction: several imaginary modes.",
        ),
    ],
)
def test_the_verdict_stands_first(folder: Path, verdict: str, level: str, title: str) -> None:
    result = json.loads((folder / "ts" / "result.json").read_text())
    notice = verdict_notice({**result, "verdict": verdict, "reason": "as told"})
    assert (notice.kind, notice.title) == (level, title)
    assert ("Barrier" in notice.text) == (level == "ok") and notice.text.startswith("As told.")


@pytest.mark.skipif(find_browser() is None, reason="no Chromium here (apt-get install chromium)")
def test_the_report_can_be_read_on_a_phone_and_a_screen(folder: Path) -> None:
    with opened_browser() as browser:
        assert faults_of(browser, folder / "ts" / "report.html") == []


def test_a_finished_reaction_is_kept(folder: Path) -> None:
    arguments = ["ts", folder / "hcn.xyz", folder / "hnc.xyz", "--out", folder / "ts"]
    before = (folder / "ts" / "result.json").stat().st_mtime_ns
    assert typed(*arguments, "--resume").exit_code == 0
    assert (folder / "ts" / "result.json").stat().st_mtime_ns == before
    assert typed(*arguments).exit_code == 2
    other = typed(*arguments, "--resume", "--temperature", "400")
    assert other.exit_code == 2 and "other structures or settings" in other.output


def test_cost_is_said_before_and_a_dry_run_leaves_nothing(folder: Path) -> None:
    found = typed("ts", folder / "hcn.xyz", folder / "hnc.xyz", "--out", folder / "dry", "--dry-run")
    assert "CPU seconds" in found.output and not (folder / "dry").exists()


def test_many_reactions_from_yaml_and_from_a_folder(folder: Path) -> None:
    (folder / "many.yaml").write_text(
        "calculator: gfn2\ngibbs: false\nreactions:\n"
        "  - {name: one, reactant: hcn.xyz, product: hnc.xyz}\n"
        "  - {name: two, reactant: hcn.xyz, break: [[0, 1]], form: [[0, 2]]}\n"
    )
    assert typed("ts", folder / "many.yaml", "--out", folder / "many").exit_code == 0
    rows = (folder / "many" / "table.csv").read_text().splitlines()
    assert len(rows) == 3 and rows[1].startswith("one,intended") and rows[2].startswith("two,intended")
    pairs = folder / "pairs"
    pairs.mkdir()
    write(pairs / "a.xyz", [hydrogen_cyanide(), hydrogen_isocyanide()])
    assert typed("ts", pairs, "--dry-run").output.startswith("1 reaction,")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reactionz: []", "did you mean 'reactions'"),
        ("saddle: {fmaks: 1}", "did you mean 'fmax'"),
        ("saddle: {step: newton}", "no saddle step 'newton'"),
        ("reactions: [{name: a, reactant: hcn.xyz}]", "give a product, or the bonds"),
        ("reactions: [{name: a, reactant: no.xyz, product: hnc.xyz}]", "no.xyz"),
    ],
)
def test_wrong_settings_are_refused(folder: Path, text: str, message: str) -> None:
    (folder / "wrong.yaml").write_text(text)
    found = typed("ts", folder / "wrong.yaml", "--out", folder / "wrong")
    assert found.exit_code == 2 and message in found.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["hcn.xyz", "hnc.xyz", "--no-gibbs", "-t", 400],
            "--temperature is of free energies, which are",
        ),
        (
            ["hcn.xyz", "--break", "0-1", "--form", "0-2", "--reorder"],
            "--reorder is of a product that was given",
        ),
    ],
)
def test_options_without_an_effect_are_refused(folder: Path, arguments: list, message: str) -> None:
    words = [folder / word if str(word).endswith(".xyz") else word for word in arguments]
    found = typed("ts", *words, "--out", folder / "never")
    assert found.exit_code == 2 and message in found.output and not (folder / "never").exists()


def test_the_interval_of_hessians_says_what_it_reaches() -> None:
    texts = [" ".join(typed(name, "--help").output.replace("│", " ").split()) for name in ("ts", "irc")]
    assert "Saddle search: exact Hessian at every n-th point" in texts[0]
    assert "every n-th point of the coordinate; the saddle search takes one at each" in texts[1]


def test_gibbs_of_a_finished_reaction_with_other_conventions(folder: Path) -> None:
    out = folder / "g.json"
    found = typed("gibbs", folder / "ts", "--temperature", 500, "--entropy", "rrho", "--out", out)
    assert found.exit_code == 0 and "kcal/mol" in found.output and "temperature 500 K" in found.output
    numbers = json.loads(out.read_text())
    assert numbers["temperature_k"] == 500 and "rrho" in numbers["conventions"][1]
    relaxed = typed("gibbs", folder / "ts", "--fmax", 0.001)
    assert relaxed.exit_code == 2 and "--fmax relaxes structures, and those of" in relaxed.output
    rates = [point["rate"] for point in numbers["curve"]]
    assert rates == sorted(rates)


def test_gibbs_of_molecules_in_files(folder: Path) -> None:
    files = [folder / "hcn.xyz", "--ts", folder / "guess.xyz", "--product", folder / "hnc.xyz"]
    found = typed("gibbs", *files, "--out", folder / "h.json")
    assert found.exit_code == 0, found.output
    same = json.loads((folder / "ts" / "result.json").read_text())["gibbs"]
    numbers = json.loads((folder / "h.json").read_text())
    assert numbers["activation"]["ev"] == pytest.approx(same["activation"]["ev"], abs=5e-4)  # as relaxed
    heavy = typed("gibbs", folder / "ts", "--isotope", "H=2.014", "--out", folder / "d.json")
    assert heavy.exit_code == 0
    deuterium = json.loads((folder / "d.json").read_text())["activation"]["ev"]
    assert deuterium > same["activation"]["ev"] + 0.01  # the primary kinetic isotope effect


def test_gibbs_refuses_other_atoms(folder: Path) -> None:
    write(folder / "h2.xyz", hydrogen_cyanide()[:2])
    found = typed("gibbs", folder / "hcn.xyz", "--product", folder / "h2.xyz")
    assert found.exit_code != 0


def test_irc_from_a_guess(folder: Path) -> None:
    found = typed("irc", folder / "guess.xyz", "--out", folder / "irc")
    assert found.exit_code == 0, found.output
    result = json.loads((folder / "irc" / "result.json").read_text())
    assert all(end["converged"] for end in result["ends"].values())
    drops = sorted(end["energy_over_saddle_ev"] for end in result["ends"].values())
    assert drops == pytest.approx([-3.175, -2.307], abs=3e-3)
    assert "breaks" in found.output
    minimum = typed("irc", folder / "hcn.xyz", "--out", folder / "no")
    assert minimum.exit_code == 2 and "himlip ts" in minimum.output
