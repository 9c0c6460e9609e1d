"""Bake-off of network shapes on the H3S labels: accuracy on unseen supercells against cost of forces.

    python -m benchmarks.networks --steps 600

Every shape sees the same labels, seeds and number of steps; the table is in benchmarks/results/networks.md.
"""

from __future__ import annotations

import argparse
import logging

from benchmarks.h3s_training import ROOT, h3s_network, report, train_and_measure

SHAPES = {
    "two layers, 4.5 Å (chosen)": {},
    "one layer": {"layers": 1},
    "scalars along bonds only": {"bond_degree": 0},
    "6 features along bonds, l ≤ 3": {"edge_features": 6, "bond_degree": 3},
    "cutoff 3.5 Å": {"cutoff": 3.5},
    "8 channels": {"channels": 8},
}
SETS = (
    "equilibrium",
    "rattle040",
    "rattle013",
    "quantum4",
    "softmode",
    "cells8",
    "quantum8",
    "cells16",
    "quantum16",
)


def main() -> None:
    """Train and measure every shape, rewriting the table after each."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=600, help="training steps, without polish")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows = []
    for name, changes in SHAPES.items():
        rows.append(train_and_measure(name, h3s_network(**changes), SETS, arguments.steps, arguments.seed))
        report(rows, ROOT / "benchmarks" / "results" / "networks")


if __name__ == "__main__":
    main()
