"""A new format, optimiser or probe is one entry: commands, checks and pages follow."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ase import Atoms
from ase.build import bulk

from himlip_ase.errors import InputError
from himlip_ase.hint.training.finetune import finetune
from himlip_ase.hint.training.optimizers import OPTIMIZERS, OptimizerChoice
from himlip_ase.hint.training.probes import PROBES, ProbeChoice
from himlip_ase.hint.training.projections import full
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.labels.formats import FORMATS, FileFormat
from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.labels.readers import open_labels, read_labels
from tests.hint.test_procedure import NETWORK
from tests.hint.toy import rattled, toy_frame, toy_label

DOCS = Path(__file__).parents[2] / "docs"
SETTINGS = TrainingSettings(epochs=1, validation_fraction=0.0, device="cpu")
FORMAT = FileFormat("dummy", ".dummy files of the test", lambda path: path.suffix == ".dummy", lambda p: [])
OPTIMIZER = OptimizerChoice("dummy", "downhill, of the test", torch.optim.SGD, ("learning_rate",))
PROBE = ProbeChoice("dummy", "all columns, of the test", full, (), every=True)
KINDS = [
    (FORMATS, FORMAT, "labels.md", "labels.formats.FORMATS"),
    (OPTIMIZERS, OPTIMIZER, "training.md", "training.optimizers.OPTIMIZERS"),
    (PROBES, PROBE, "training.md", "training.probes.PROBES"),
]


@pytest.mark.parametrize(("registry", "entry", "page", "name"), KINDS, ids=[k[3] for k in KINDS])
def test_tables_and_messages_follow_from_the_entry(registry, entry, page: str, name: str) -> None:
    with registry.added(entry):
        assert f"| `dummy` | {entry.summary} |" in registry.table()
        with pytest.raises(InputError, match="did you mean 'dummy'"):
            registry["dumy"]
    assert "dummy" not in registry
    directive = f"{{registry}} himlip_ase.{'hint.' if 'training' in name else ''}{name}"
    assert directive in (DOCS / page).read_text(encoding="utf-8")


def test_help_lists_the_entries() -> None:
    """In a process of its own, because the options of a command are made once."""
    code = (
        "import sys\n"
        "from tests.hint.test_registries import KINDS\n"
        "[kind[0].add(kind[1]) for kind in KINDS]\n"
        "from himlip_ase.cli.app import app\n"
        "app(['finetune', '--help'])\n"
    )
    environment = {**os.environ, "COLUMNS": "300", "NO_COLOR": "1", "TERM": "dumb"}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=DOCS.parent
    )
    assert found.returncode == 0, found.stderr
    text = " ".join(found.stdout.replace("│", " ").split())
    for _, entry, _, _ in KINDS:
        assert entry.summary in text
    assert "adamw (Adam with decoupled weight decay)" in text and "pw.out of finished" in text


def test_entries_are_used(tmp_path: Path) -> None:
    frames = [toy_frame(a) for a in rattled(bulk("Cu", "fcc", a=3.7, cubic=True), 3, 0.1)]
    label = toy_label(bulk("Cu", "fcc", a=3.7, cubic=True))
    with OPTIMIZERS.added(OPTIMIZER), PROBES.added(PROBE):
        dummy = replace(SETTINGS, optimizer="dummy", probe="dummy", learning_rate=1e-6)
        plain = replace(dummy, probe="full")
        one, two = (
            finetune(frames, [label], settings=s, network=NETWORK).progress.history for s in (dummy, plain)
        )
        assert one[0]["hessian"] == two[0]["hessian"]
        with pytest.raises(InputError, match="dummy takes no weight_decay"):
            replace(dummy, weight_decay=0.1)
    (tmp_path / "a.dummy").touch()
    read = [LabelledFrame(Atoms("H"), energy=-1.0, set="made")]
    with FORMATS.added(replace(FORMAT, read=lambda path: read)):
        assert read_labels(tmp_path / "a.dummy") == open_labels([tmp_path / "a.dummy"]) == read


@pytest.mark.parametrize(("key", "value"), [("probe", "rademacer"), ("optimizer", "adm")])
def test_a_typo_is_refused_by_the_settings(key: str, value: str) -> None:
    with pytest.raises(InputError, match=f"no {key} '{value}'; did you mean 'adam'|'rademacher'"):
        TrainingSettings(**{key: value})
