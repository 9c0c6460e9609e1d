"""Where the training of a run begins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ase.build import bulk

from himlip_ase.pipeline.config import parse_config
from himlip_ase.pipeline.finetune import _inputs, chosen_base
from himlip_ase.pipeline.runfolder import RunFolder
from himlip_ase.pipeline.stages import Context
from himlip_ase.potential.checkpoint import default_model


def context(folder: Path, text: str = "", crystal: str = "PdH") -> Context:
    labels = folder / "labels"
    labels.mkdir(exist_ok=True)
    atoms = bulk(crystal, "rocksalt" if len(crystal) > 2 else None, a=4.1)
    atoms.write(labels / "crystal.extxyz")
    config = parse_config(f"labels: {{folder: labels}}\n{text}", folder)
    return Context(config, RunFolder(folder / "run", resume=True))


def test_the_base_model_is_the_start_where_it_knows_the_elements(tmp_path: Path) -> None:
    base, why = chosen_base(context(tmp_path))
    assert base == default_model() and "knows every element" in why
    base, why = chosen_base(context(tmp_path, crystal="Cu"))
    assert base is None and "does not know Cu" in why


@pytest.mark.parametrize(
    ("finetune", "expected"),
    [("base: null", None), ("base: himlip-h3s-1", "himlip-h3s-1"), ("network: {channels: 8}", None)],
)
def test_what_is_named_wins(tmp_path: Path, finetune: str, expected: str | None) -> None:
    assert chosen_base(context(tmp_path, f"finetune: {{{finetune}}}"))[0] == expected


def test_a_run_that_began_with_fresh_weights_is_kept(tmp_path: Path) -> None:
    """A run folder of an earlier version is not trained again because the default changed."""
    before = _inputs(context(tmp_path, "finetune: {base: null}"))
    found = context(tmp_path)
    assert _inputs(found) != before
    place = found.of("finetune") / "model"
    place.mkdir(parents=True)
    (place / "report.json").write_text(json.dumps({"base": "from scratch"}))
    assert _inputs(found) == before
