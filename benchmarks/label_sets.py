"""What each kind of label brings for H3S: the paper's set, a few larger cells, and no Hessian.

    python benchmarks/label_sets.py --epochs 200

The table is in benchmarks/results/label_sets.md; DFT core-minutes are those of the sets, without the Hessian.
"""

from __future__ import annotations

import argparse
import logging

from h3s_training import ROOT, h3s_network, h3s_settings, report, train_and_measure

CELLS = ("equilibrium", "rattle040", "rattle013", "cells8", "cells16")
CHOICES = {
    "paper: Hessian + 30 unit cells at 0.4 Å": (("rattle040",), True),
    "the same without the Hessian": (("rattle040",), False),
    "+ gentle unit cells": (("equilibrium", "rattle040", "rattle013"), True),
    "+ 8-atom cells": (("equilibrium", "rattle040", "rattle013", "cells8"), True),
    "+ 16-atom cells": (CELLS, True),
    "all cells, without the Hessian": (CELLS, False),
}


def main() -> None:
    """Train and measure every choice of labels, rewriting the table after each."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=200, help="passes over the labels")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows = []
    for name, (sets, hessian) in CHOICES.items():
        settings = h3s_settings(arguments.epochs, arguments.seed)
        rows.append(train_and_measure(name, h3s_network(), sets, settings, hessian))
        report(rows, ROOT / "benchmarks" / "results" / "label_sets")


if __name__ == "__main__":
    main()
