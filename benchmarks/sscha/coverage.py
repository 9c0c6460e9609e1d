"""Do the quoted error bars cover?  SSCHA runs of a toy crystal over many seeds against a large reference.

    python -m benchmarks.sscha.coverage --seeds 48

The crystal has bonds with cubic and quartic terms (tests/sscha/toy.py).  For each seed a run of its own, as a
user would make it; counted is how often the reference lies within the quoted standard error: 68 % if it is
right.  Quantities equal by symmetry are counted once.  Writes benchmarks/results/sscha_coverage.json and .md.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import tempfile
from pathlib import Path

import numpy as np

from himlip_ase.files import atomic_write, write_json
from himlip_ase.sscha import SschaResult, SschaSettings, run_sscha
from tests.sscha.toy import BondCrystal, cscl

RESULTS = Path(__file__).parents[1] / "results"
SHELLS = [(6.0, -60.0, 300.0, -0.02), (2.0, -20.0, 60.0, 0.02), (1.0, 0.0, 0.0, 0.0)]
DIMS = (1, 1, 2)
REFERENCE = 20_000
"""Configurations of the reference's last population and final ensemble."""


def distinct(values: np.ndarray) -> np.ndarray:
    """Places of the first of each set of frequencies equal by symmetry, translations left out."""
    flat = values.ravel()
    chosen: list[int] = []
    for index in np.argsort(flat, kind="stable"):
        if flat[index] > 1.0 and (not chosen or flat[index] - flat[chosen[-1]] > 0.01):
            chosen.append(int(index))
    return np.array(chosen)


def scores(result: SschaResult, truth: SschaResult) -> dict[str, np.ndarray]:
    """(quoted - reference) / quoted error for each kind of figure."""
    assert result.hessian is not None and truth.hessian is not None and result.stress is not None
    assert result.hessian_sigma_cm is not None and result.hessian_bias_cm is not None
    assert truth.stress is not None and result.stress_sigma is not None
    places = distinct(truth.frequencies())
    auxiliary = (result.frequencies() - truth.frequencies()) / np.maximum(result.auxiliary_sigma_cm, 1e-9)
    shift = result.hessian.frequencies() - truth.hessian.frequencies()
    sigma = np.maximum(result.hessian_sigma_cm, 1e-9)
    hessian = distinct(truth.hessian.frequencies())
    return {
        "free energy": np.array(
            [
                (result.free_energy + result.static_energy - truth.free_energy - truth.static_energy)
                / result.free_energy_sigma
            ]
        ),
        "pressure": np.array([(result.stress - truth.stress)[:3].mean() / result.stress_sigma[:3].mean()]),
        "auxiliary frequencies": auxiliary.ravel()[places],
        "Hessian frequencies": (shift / sigma).ravel()[hessian],
        "Hessian frequencies, bias subtracted": ((shift - result.hessian_bias_cm) / sigma).ravel()[hessian],
    }


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=48)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--n-hessian", type=int, default=600)
    parser.add_argument("--orders", nargs="+", default=["third", "third+fourth"])
    parser.add_argument("--no-write", action="store_true")
    arguments = parser.parse_args()
    logging.getLogger("himlip_ase").setLevel(logging.ERROR)
    crystal = BondCrystal(cscl(c=2.7), DIMS, SHELLS)
    initial = crystal.harmonic()
    table: dict[str, dict[str, list[float]]] = {}
    converged = 0
    for order in arguments.orders:
        settings = SschaSettings(
            n_configurations=arguments.n, n_hessian_configurations=arguments.n_hessian, hessian_order=order
        )
        large = dataclasses.replace(
            settings, n_configurations=REFERENCE, n_hessian_configurations=REFERENCE, seed=10**6
        )
        with tempfile.TemporaryDirectory() as folder:
            truth = run_sscha(initial, crystal, large, Path(folder) / "truth")
            collected: dict[str, list[np.ndarray]] = {}
            for seed in range(arguments.seeds):
                result = run_sscha(
                    initial, crystal, dataclasses.replace(settings, seed=seed), Path(folder) / str(seed)
                )
                converged += result.converged
                for name, z in scores(result, truth).items():
                    collected.setdefault(name, []).append(z)
        for name, z in collected.items():
            if "Hessian" not in name and order != arguments.orders[0]:
                continue
            label = f"{name} ({order})" if "Hessian" in name else name
            flat = np.concatenate(z)
            inside = (np.abs(np.array(z)) < 1).mean(axis=1)
            table[label] = {
                "covered": float((np.abs(flat) < 1).mean()),
                "covered_error": float(inside.std(ddof=1) / np.sqrt(len(inside))),
                "rms_z": float(np.sqrt((flat**2).mean())),
                "mean_z": float(flat.mean()),
                "figures": len(flat),
            }
            print(label, table[label], flush=True)
    runs = arguments.seeds * len(arguments.orders)
    lines = [
        "# Coverage of the quoted standard errors",
        "",
        f"`python -m benchmarks.sscha.coverage --seeds {arguments.seeds}`: {arguments.seeds} seeds, "
        f"populations of {arguments.n}, final ensemble of {arguments.n_hessian}, 4 atoms; reference "
        f"{REFERENCE}. {converged} of {runs} runs converged; all are counted.",
        "",
        "| figure | within 1σ | rms z | mean z |",
        "|---|---|---|---|",
    ]
    for name, row in table.items():
        lines.append(
            f"| {name} | {100 * row['covered']:.0f} ± {100 * row['covered_error']:.0f} % | "
            f"{row['rms_z']:.2f} | {row['mean_z']:+.2f} |"
        )
    text = "\n".join([*lines, ""])
    print(text)
    if not arguments.no_write:
        data = {"runs": runs, "converged": converged, "coverage": table}
        write_json(RESULTS / "sscha_coverage.json", data, overwrite=True)
        with atomic_write(RESULTS / "sscha_coverage.md", overwrite=True) as stream:
            stream.write(text)


if __name__ == "__main__":
    main()
