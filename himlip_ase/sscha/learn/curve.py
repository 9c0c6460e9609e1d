"""The learning curve of a loop: honest test errors against what had been learnt, and what is left open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from himlip_ase.files import write_json

FIGURE = "learning_curve"


def write_learning_curve(curve: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """Draw the learning curve and write its data beside it.

    Parameters
    ----------
    curve : sequence of dict
        Of `himlip_ase.sscha.learn.loop.LearnResult`.
    folder : Path

    Returns
    -------
    list of Path
        The figure and its data.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from himlip_ase.files import atomic_write

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    learnt = [entry["learnt_before"] for entry in curve]
    errors = [entry["force_rmse_ev_per_angstrom"] for entry in curve]
    axes[0].errorbar(
        learnt,
        [1e3 * error["value"] for error in errors],
        [1e3 * (error["uncertainty"] or 0.0) for error in errors],
        marker="o",
        capsize=3,
    )
    axes[0].set(xlabel="configurations learnt before", ylabel="force error on the next ones (meV/Å)")
    axes[0].set_ylim(bottom=0)
    rounds = [entry["round"] for entry in curve]
    for name in dict.fromkeys(d["name"] for entry in curve for d in entry["distances"]):
        found = [next((d for d in entry["distances"] if d["name"] == name), None) for entry in curve]
        axes[1].errorbar(
            rounds,
            [abs(d["correction"]) / d["tolerance"] if d else float("nan") for d in found],
            [d["sigma"] / d["tolerance"] if d else 0.0 for d in found],
            marker="o",
            capsize=3,
            label=name,
        )
    axes[1].axhline(1.0, color="0.6", lw=1)
    axes[1].set(xlabel="round", ylabel="|correction| / tolerance", xticks=rounds)
    axes[1].legend(frameon=False)
    path = folder / f"{FIGURE}.png"
    with atomic_write(path, "wb", overwrite=True) as stream:
        figure.savefig(stream, format="png", dpi=150)
    plt.close(figure)
    data = folder / f"{FIGURE}.json"
    write_json(data, {"rounds": list(curve)}, overwrite=True)
    return [path, data]
