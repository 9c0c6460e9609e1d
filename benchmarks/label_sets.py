"""What each kind of label brings for H3S: the paper's set, a few larger cells, and no Hessian.

    python -m benchmarks.label_sets --steps 600
    python -m benchmarks.label_sets --steps 3000 --polish 6 --only paper --out label_sets_long

The tables are in benchmarks/results; DFT core-minutes are those of the sets, without the Hessian. A few
hundred steps do not exhaust the larger sets: compare the long rows with the shipped model (3000 steps, 12
rounds of polish).
"""

from __future__ import annotations

import argparse
import logging

from benchmarks.h3s_training import ROOT, h3s_network, report, train_and_measure

PAPER = ("rattle040",)
GENTLE = ("equilibrium", *PAPER, "rattle013", "quantum4", "softmode")
EIGHT = (*GENTLE, "cells8", "quantum8")
ALL = (*EIGHT, "cells16", "quantum16")
CHOICES = {
    "paper: Hessian + 30 unit cells at 0.4 Å": (PAPER, True),
    "the same without the Hessian": (PAPER, False),
    "+ gentle unit cells": (GENTLE, True),
    "+ 8-atom cells": (EIGHT, True),
    "+ 16-atom cells": (ALL, True),
    "all of these without the Hessian": (ALL, False),
}


def main() -> None:
    """Train and measure every choice of labels, rewriting the table after each."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=600, help="training steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--polish", type=int, default=0, help="rounds of quasi-Newton descent")
    parser.add_argument("--only", default="", help="choices whose name begins so")
    parser.add_argument("--out", default="label_sets", help="name of the table")
    arguments = parser.parse_args()
    rows = []
    for name, (sets, hessian) in CHOICES.items():
        if not name.startswith(arguments.only):
            continue
        rows.append(
            train_and_measure(
                name, h3s_network(), sets, arguments.steps, arguments.seed, hessian, arguments.polish
            )
        )
        report(rows, ROOT / "benchmarks" / "results" / arguments.out)


if __name__ == "__main__":
    main()
