"""A run whose potential is trained by gradients, with twins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.hint.last_layer.twin_weights import load_twins, twin_without
from himlip_ase.labels.digests import configuration_digest
from himlip_ase.labels.readers import read_labels
from himlip_ase.pipeline.closed_form import finetune_cost
from himlip_ase.pipeline.config import parse_config
from himlip_ase.pipeline.labels import label_folder
from himlip_ase.pipeline.preflight import _will_have_twins
from tests.pipeline.test_closed_form import FIT, asked, fitted, forces, prepared

TRAINING = "training: {epochs: 2, polish: {rounds: 0}}"


def test_twins_lie_beside_the_model_and_leave_their_cells_out(tmp_path: Path) -> None:
    first = prepared(tmp_path, FIT)
    found = asked(first, tmp_path, f"base: {tmp_path}/base.safetensors, twins: 4, {TRAINING}")
    model = fitted(found)
    path = found.of("finetune") / "model.safetensors"
    twins = load_twins(path)
    assert len(twins) == 4
    assert all(1e-6 < np.abs(forces(twin) - forces(model)).max() for twin in twins)
    left_out = twin_without(path)
    cells = read_labels(label_folder(found).path / "rattle.extxyz")
    assert {left_out[configuration_digest(frame.atoms)] for frame in cells} == {0, 1, 2, 3}
    assert _will_have_twins(found.config.finetune)
    assert "and 4 twins of it, each as long" in finetune_cost(found.config.finetune)


def test_finished_runs_without_twins_stay_finished(tmp_path: Path) -> None:
    from himlip_ase.pipeline.finetune import STAGE

    first = prepared(tmp_path, FIT)
    base = f"base: {tmp_path}/base.safetensors, {TRAINING}"
    plain, zero, four = (
        STAGE.inputs(asked(first, tmp_path, f"{base}{more}")) for more in ("", ", twins: 0", ", twins: 4")
    )
    assert plain == zero != four and "twins" not in plain[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [("twins: 2", "give 0 or at least 4"), (f"twins: 4, {FIT}", "closed_form makes its own")],
)
def test_twins_that_tell_nothing_are_refused(tmp_path: Path, given: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_config(f"labels: {{folder: labels}}\nfinetune: {{{given}}}", tmp_path)
