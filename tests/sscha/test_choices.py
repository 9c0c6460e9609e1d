"""Engines, minimisers, samplings and orders of the Hessian: one entry makes check, help and table."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from himlip_ase.cli.sscha import register
from himlip_ase.errors import InputError
from himlip_ase.sscha import (
    HarmonicDistribution,
    MinimisationProblem,
    SpaceGroup,
    SschaSettings,
    draw_ensemble,
    engine,
)
from himlip_ase.sscha.choices import ENGINES, HESSIAN_ORDERS, MINIMISERS, PRECISIONS, SAMPLINGS, imported

from .crystals import CRYSTALS, random_matrices
from .toy import HarmonicCrystal

DOCS = Path(__file__).resolve().parents[2] / "docs"
REGISTRIES = {
    "engine": ENGINES,
    "minimiser": MINIMISERS,
    "sampling": SAMPLINGS,
    "hessian_order": HESSIAN_ORDERS,
    "precision": PRECISIONS,
}
PAGES = {
    "ENGINES": ("sscha_engine.md", ENGINES),
    "MINIMISERS": ("sscha_engine.md", MINIMISERS),
    "SAMPLINGS": ("sscha.md", SAMPLINGS),
    "PRECISIONS": ("sscha_runs.md", PRECISIONS),
}


def helped() -> str:
    app = typer.Typer()
    register(app)
    found = CliRunner().invoke(app, ["sscha", "run", "--help"], env={"COLUMNS": "400", "NO_COLOR": "1"})
    return re.sub(r"[\s│]+", " ", found.output)


def draw_still(distribution, n, seed, n_blocks):
    """Nothing moves."""
    return np.zeros((n, len(distribution.supercell), 3))


def stay(path, point):
    """The minimum is where one stands."""
    path.accept(point)
    return "gradient", "nothing was tried"


@pytest.mark.parametrize("setting", ["engine", "minimiser", "sampling", "precision"])
def test_a_new_entry_is_in_help_check_and_table(setting):
    registry = REGISTRIES[setting]
    dummy = dataclasses.replace(next(iter(registry)), name="dummy", summary="does nothing at all")
    with pytest.raises(InputError, match=f"{setting} is 'dummy'"):
        SschaSettings(**{setting: "dummy"})
    assert "dummy" not in helped()
    with registry.added(dummy):
        assert getattr(SschaSettings(**{setting: "dummy"}), setting) == "dummy"
        assert "dummy (does nothing at all)" in helped()
        assert "| `dummy` | does nothing at all |" in registry.table()
        with pytest.raises(InputError, match="dummy"):
            SschaSettings(**{setting: "another"})


def test_a_new_minimiser_and_a_new_sampling_run():
    """The entry is all there is: the engine calls what it names."""
    dynamical = random_matrices(*CRYSTALS["one cell"])
    drawn = HarmonicDistribution(dynamical)
    here = f"{__name__}:"
    with (
        MINIMISERS.added(
            dataclasses.replace(MINIMISERS["anderson"], name="stay", summary="stays", search=here + "stay")
        ),
        SAMPLINGS.added(
            dataclasses.replace(SAMPLINGS["pairs"], name="still", summary="still", draw=here + "draw_still")
        ),
    ):
        ensemble = draw_ensemble(drawn, 20, 0, HarmonicCrystal(dynamical), sampling="still")
        assert not ensemble.displacements.any()
        settings = SschaSettings(minimiser="stay", sampling="still")
        native = engine("native", "stay")
        assert "(stay)" in native.name
        found = native.minimise(MinimisationProblem(ensemble, SpaceGroup(dynamical), settings))
    assert found.reason == "nothing was tried" and len(found.free_energy) == 1


def test_what_entries_name_is_there():
    for choice in MINIMISERS:
        assert callable(imported(choice.search)) and callable(imported(choice.coordinates))
    for choice in SAMPLINGS:
        assert callable(imported(choice.draw))
    for choice in ENGINES:
        assert callable(imported(choice.make))


@pytest.mark.parametrize("name", PAGES)
def test_tables_of_the_pages_are_those_of_the_registries(name):
    page, registry = PAGES[name]
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.search(
        rf"<!-- table: {name} -->\n\| name [^\n]*\n\|---[^\n]*\n(.*?)\n<!-- end", text, re.DOTALL
    )
    assert found and found[1] == registry.table()
