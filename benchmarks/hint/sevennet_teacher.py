"""SevenNet as a teacher: a calculator as its wheel brings it, and the same tuned on a few DFT cells.

    pip install "sevenn==0.13.0" "torch==2.13.0"        # in an environment of its own, with himlip-ase
    python -m benchmarks.hint.sevennet_teacher LABELS --out tuned.safetensors --epochs 20
    himlip label supercell cells.extxyz --engine teacher.yaml --out runs

`himlip label` makes it by name: in ``teacher.yaml``, ``{name: ase, calculator:
"benchmarks.hint.sevennet_teacher:sevennet", arguments: {weights: /path/to/tuned.safetensors}}``.
"""

from __future__ import annotations

import argparse
import functools
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from himlip_ase.errors import InputError
from himlip_ase.labels.frames import LabelledFrame

NAME = "7net-0"
"""One of four models in the wheel of SevenNet 0.13.0; the others are older, larger, of two fidelities."""
STRESS = 10.0
"""Weight of stresses (eV/Å³) beside forces (eV/Å) in the loss of a tuning."""


@functools.cache
def sevennet(weights: str | None = None) -> Any:
    """A calculator, made once in a process: reading its weights takes longer than a small cell.

    Parameters
    ----------
    weights : str, optional
        What `tune` wrote; None: as the wheel brings it.
    """
    try:
        from sevenn.calculator import SevenNetCalculator
    except ImportError as error:
        raise InputError("SevenNet is not installed; type: pip install sevenn==0.13.0") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no accelerated tensor products on a CPU
        calculator = SevenNetCalculator(NAME, device="cpu")
    if weights is not None:
        found = calculator.model.load_state_dict(load_file(weights), strict=False)  # constants are not kept
        trained = {name for name, _ in calculator.model.named_parameters()}
        if found.unexpected_keys or trained & set(found.missing_keys):
            raise ValueError(f"{weights} does not hold the weights of {NAME}")
    return calculator


def tune(
    frames: Sequence[LabelledFrame],
    out: Path,
    epochs: int = 20,
    rate: float = 1e-3,
    watch: Callable[[int, Any], None] | None = None,
    seed: int = 0,
) -> float:
    """All weights of SevenNet by Adam on forces and stresses, one cell a step, the rate falling as a cosine.

    Energies are left out: their zero is another, and nothing that moves atoms depends on it.

    Parameters
    ----------
    frames : sequence of LabelledFrame
    out : Path
        Receives the weights that learnt (safetensors).
    epochs : int
    rate : float
    watch : callable, optional
        Called with the epoch and the calculator after each; its time is not counted.
    seed : int
        Of the order of the cells.

    Returns
    -------
    float
        CPU seconds.
    """
    import sevenn._keys as KEY
    from sevenn.atom_graph_data import AtomGraphData
    from sevenn.train.dataload import unlabeled_atoms_to_graph

    calculator = sevennet.__wrapped__()
    model = calculator.model
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.Adam(learning.values(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(frames))
    rng, spent = np.random.default_rng(seed), 0.0
    for epoch in range(epochs):
        model.train()
        begun = time.process_time()
        for k in rng.permutation(len(frames)):
            frame = frames[k]
            graph = unlabeled_atoms_to_graph(frame.atoms, calculator.cutoff, with_shift=False)
            found = model(AtomGraphData.from_numpy_dict(graph))
            forces = torch.tensor(frame.forces, dtype=torch.float32)
            loss = ((found[KEY.PRED_FORCE] - forces) ** 2).mean()
            if frame.stress is not None:  # theirs: xx yy zz xy yz zx, positive in compression
                stress = torch.tensor(-frame.stress[[0, 1, 2, 5, 3, 4]], dtype=torch.float32)
                loss = loss + STRESS * ((found[KEY.PRED_STRESS].reshape(6) - stress) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        spent += time.process_time() - begun
        if watch is not None:
            model.eval()
            watch(epoch + 1, calculator)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: p.detach().contiguous() for name, p in learning.items()}, out)
    return spent


def missed(calculator: Any, frames: Sequence[LabelledFrame]) -> float:
    """Error of all forces, meV/Å rms."""
    errors = []
    for frame in frames:
        atoms = frame.atoms.copy()
        atoms.calc = calculator
        errors.append(atoms.get_forces() - frame.forces)
    return 1e3 * float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


def main() -> None:
    """Tune on a file of labels."""
    from himlip_ase.labels.readers import read_labels

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--learn", type=int, default=4, help="so many cells, the first; the rest are watched")
    given = parser.parse_args()
    torch.set_num_threads(1)
    frames = read_labels(given.labels)
    learnt, held = frames[: given.learn], frames[given.learn :]

    def watch(epoch: int, calculator: Any) -> None:
        if held and (epoch % 5 == 0 or epoch == 1):
            print(epoch, f"{missed(calculator, held):.0f} meV/Å held out", flush=True)

    print(f"{tune(learnt, given.out, given.epochs, given.rate, watch):.0f} CPU seconds")


if __name__ == "__main__":
    main()
