"""Tile the figures of a finished `make h3s` into the picture of the README.

python docs/_static/h3s_picture.py runs/h3s
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt

FIGURES = (("bands", 0), ("double_well", 1), ("alpha2f", 2), ("sscha_convergence", 3))


def main(run: Path) -> None:
    """Write ``h3s.png`` beside this file."""
    figure, axes = plt.subplots(2, 2, figsize=(13, 7.4), dpi=110)
    for name, place in FIGURES:
        axes.flat[place].imshow(plt.imread(run / "figures" / f"{name}.png"))
        axes.flat[place].axis("off")
    figure.subplots_adjust(0, 0, 1, 1, 0.01, 0.01)
    figure.savefig(Path(__file__).with_name("h3s.png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
