"""Tile the figures of a finished `make h3s` into the picture of the README.

python docs/_static/h3s_picture.py runs/h3s
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt

FIGURES = ("bands_harmonic", "bands_anharmonic", "double_well_bottom", "alpha2f")


def main(run: Path) -> None:
    """Write ``h3s.png`` beside this file."""
    pictures = [plt.imread(run / "figures" / f"{name}.png") for name in FIGURES]
    rows = [max(picture.shape[0] for picture in pictures[k : k + 2]) for k in (0, 2)]
    width = pictures[0].shape[1]
    figure, axes = plt.subplots(2, 2, figsize=(2 * width / 160, sum(rows) / 160), dpi=160, height_ratios=rows)
    for ax, picture in zip(axes.flat, pictures, strict=True):
        ax.imshow(picture)
        ax.axis("off")
    figure.subplots_adjust(0, 0, 1, 1, 0, 0)
    figure.savefig(Path(__file__).with_name("h3s.png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
