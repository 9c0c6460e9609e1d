"""A Tc formula is one entry: checks, help, tables, figures and the run's configuration follow from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from himlip_ase.cli import tc as command
from himlip_ase.errors import InputError
from himlip_ase.pipeline.config import parse_config
from himlip_ase.superconductivity import Spectrum, TcOptions, analyse_curve, format_table, tc_table
from himlip_ase.superconductivity.methods import FORMULAS, TcFormula
from himlip_ase.superconductivity.tc import critical_temperature
from himlip_ase.superconductivity.tc_entries import Tc

ROOT = Path(__file__).parents[2]
SPECTRUM = Spectrum(np.array([0.02, 0.05]), np.array([0.5, 0.7]))
DUMMY = TcFormula(
    name="tenth",
    label="Tenth of ω_log",
    summary="a tenth of ω_log, for this test",
    source="none",
    needs=("omega_log_k", "mu_star"),
    function=lambda omega_log_k, mu_star: (0.1 - mu_star / 10) * omega_log_k,
)


def help_text() -> str:
    app = typer.Typer()
    command.register(app)
    return " ".join(CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output.split())


def test_a_dummy_entry_is_everywhere() -> None:
    assert "tenth" not in help_text()
    with FORMULAS.added(DUMMY):
        assert "tenth" in help_text() and "for this test" in help_text()
        with pytest.raises(InputError, match="did you mean 'tenth'"):
            critical_temperature(SPECTRUM, 0.1, "tenht")
        item = analyse_curve("curve", SPECTRUM)
        entry = item.table.get("tenth", 0.10)
        assert isinstance(entry, Tc) and entry.kelvin == pytest.approx(0.09 * SPECTRUM.omega_log_k)
        assert "tenth" in format_table([item])
        assert "tenth" in parse_config("structure: x.cif").tc.methods
        assert "| `tenth` | a tenth" in FORMULAS.table()
        with pytest.raises(InputError, match="there already"):
            FORMULAS.add(DUMMY)
    assert "tenth" not in TcOptions().methods


def test_help_and_page_follow_from_the_entries() -> None:
    page = (ROOT / "docs" / "superconductivity.md").read_text(encoding="utf-8")
    assert "{registry} himlip_ase.superconductivity.methods.FORMULAS" in page
    text = help_text()
    for formula in FORMULAS:
        assert formula.name in text and formula.label and formula.source


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"function": None}, "no implementation"),
        ({"needs": ("lambda_total", "colour")}, "asks for colour"),
        ({"needs": ()}, "asks for nothing"),
        ({"function": lambda lambda_total: 1.0}, "does not take"),
        ({"refusal": "never"}, "no implementation"),
    ],
)
def test_a_formula_without_an_implementation_cannot_be_registered(changes: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        TcFormula(**{**DUMMY.__dict__, **changes})


@pytest.mark.parametrize("call", ["table", "options", "config", "command"])
def test_a_mistyped_formula_is_refused_with_the_nearest(call: str) -> None:
    with pytest.raises(InputError, match="did you mean 'mcmillan'"):
        if call == "table":
            tc_table(SPECTRUM, methods=("mcmilan",))
        elif call == "options":
            TcOptions(methods=("mcmilan",))
        elif call == "config":
            parse_config("structure: x.cif\ntc: {methods: [mcmilan]}")
        else:
            app = typer.Typer()
            command.register(app)
            result = CliRunner().invoke(app, ["--alpha2f", "x", "--method", "mcmilan"])
            assert result.exception is not None
            raise result.exception


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mu_star": (0.1, 0.1)}, "each value once"),
        ({"mu_star": ()}, "mu_star"),
        ({"mu_star": (float("nan"),)}, "mu_star"),
        ({"methods": ()}, "at least one"),
        ({"sigma_ry": -1.0}, "sigma_ry"),
        ({"gamma_weight": "half"}, "counted, excluded"),
        ({"integration": "simpson"}, "tetrahedron"),
        ({"mesh": (4, 4)}, "three positive integers"),
        ({"accept": ("all",)}, "imaginary, coarse"),
        ({"max_strain": -0.1}, "max_strain"),
        ({"samples": 1}, "samples"),
    ],
)
def test_options_say_what_is_allowed(changes: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        TcOptions(**changes)
