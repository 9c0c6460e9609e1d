"""Two processes give the loss curve of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from himlip_ase.errors import InputError
from himlip_ase.hint.training.distributed import ALONE, Processes
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.trainer import Trainer
from himlip_ase.labels.store import write_labels
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig
from tests.hint.toy import rattled, toy_frame, toy_label

SCRIPT = """
import json, sys
from himlip_ase.hint.training.distributed import Processes
from himlip_ase.labels.store import LabelStore
from himlip_ase.hint.training.pretrain import pretrain
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.potential.network import HiMLIPConfig
network = HiMLIPConfig(("Cu",), cutoff=4.5, n_radial=4, channels=2, edge_features=2, hidden=8, layers=1)
settings = TrainingSettings(epochs=3, batch_size=4, validation_fraction=0.3, probes=3, device="cpu", seed=2)
folder = sys.argv[2]
run = pretrain(LabelStore(sys.argv[1]), settings=settings, folder=folder, network=network)
if Processes.of_environment().first:
    open(folder + "/losses.json", "w").write(json.dumps(run.progress.history))
"""


def _history(store: Path, folder: Path, processes: int) -> list[dict[str, float]]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    script = folder.parent / "train.py"
    script.write_text(SCRIPT)
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [*command, str(script), str(store), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "losses.json").read_text())


@pytest.mark.slow
def test_the_loss_curve_does_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    """Frames of different sizes, an odd number of them, and Hessian probes that do not divide evenly."""
    cube, rest = bulk("Cu", "fcc", a=3.7, cubic=True), bulk("Cu", "fcc", a=3.7).repeat((2, 1, 1))
    frames = [toy_frame(atoms) for atoms in rattled(cube, 5, 0.15) + rattled(rest, 4, 0.1)]
    write_labels(tmp_path / "labels.h5", [*frames, toy_frame(rest, "rest", hessian=toy_label(rest))])
    one = _history(tmp_path / "labels.h5", tmp_path / "one", 1)
    two = _history(tmp_path / "labels.h5", tmp_path / "two", 2)
    assert len(one) == len(two) == 3
    for a, b in zip(one, two, strict=True):
        for key in ("loss", "energy", "forces", "stress", "hessian", "val_score"):
            if key in a:
                assert b[key] == pytest.approx(a[key], rel=1e-8), key
    assert (tmp_path / "two" / "model.safetensors").is_file()


def test_shares_cover_everything_once() -> None:
    items = list(range(7))
    shares = [list(Processes(rank, 3).share(items)) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == items
    assert ALONE.share(items) == items and ALONE.sum(1.5, 2.0) == [1.5, 2.0]


def test_the_clock_cannot_end_several_processes() -> None:
    frame = toy_frame(bulk("Cu"))
    model = HiMLIP(HiMLIPConfig(("Cu",), n_radial=4, channels=2, hidden=8, layers=1))
    settings = TrainingSettings(epochs=None, max_minutes=1, device="cpu")
    with pytest.raises(InputError, match="end together"):
        Trainer(model, [frame], [], settings, processes=Processes(0, 2))
    assert np.isfinite(Trainer(model, [frame], [], settings).validate()["score"])
