"""Bake-off of network shapes on the H3S labels: accuracy on unseen supercells against cost of forces.

    python benchmarks/networks.py --epochs 100

Every shape sees the same labels, seeds and number of steps; the table is in benchmarks/results/networks.md.
"""

from __future__ import annotations

import argparse
import logging

from h3s_training import ROOT, h3s_network, h3s_settings, report, train_and_measure

SHAPES = {
    "one layer, 4.5 Å": {"layers": 1},
    "two layers, scalars along bonds only": {"bond_degree": 0},
    "two layers, cutoff 3.5 Å": {"cutoff": 3.5},
    "two layers, 8 channels": {"channels": 8},
    "two layers, cutoff 4.5 Å": {},
}
SETS = ("equilibrium", "rattle040", "rattle013", "cells8", "cells16")


def main() -> None:
    """Train and measure every shape, rewriting the table after each."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=100, help="passes over the labels")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows = []
    for name, changes in SHAPES.items():
        settings = h3s_settings(arguments.epochs, arguments.seed)
        rows.append(train_and_measure(name, h3s_network(**changes), SETS, settings))
        report(rows, ROOT / "benchmarks" / "results" / "networks")


if __name__ == "__main__":
    main()
