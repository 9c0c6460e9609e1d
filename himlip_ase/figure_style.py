"""One style for every picture: size, font, colours that colour-blind readers tell apart, units, files.

Colours are those of Okabe and Ito (jfly.uni-koeln.de/color), darkened where they were pale on white; each
comes with a dash and a marker of its own, so that prints in grey can be read as well.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from himlip_ase.files import atomic_write
from himlip_ase.units import EV_CM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#007A5A", "#A8478A", "#8A6100", "#3B3B3B")
STYLES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
GREY = "#6B6B6B"

PANEL = (4.8, 3.5)
"""Inches of one panel. All pictures are made of panels of this width, so that letters are of one size."""
FONT = 9.0
"""Points, of all letters in a picture."""
DPI = 160
_LETTERS = 58
"""Letters of this size that stand side by side in the width of a panel's axes."""
_LINE = 0.175
"""Inches that a row of a legend is high."""


@dataclass(frozen=True)
class Look:
    """How a line is told from others.

    Attributes
    ----------
    colour : str
    style : str or tuple
        Dashes, as Matplotlib takes them.
    marker : str
    width : float
        Points.
    """

    colour: str
    style: Any = "-"
    marker: str = "o"
    width: float = 1.4


def look(number: int) -> Look:
    """The look of the `number`-th line, from 0; colours return with other dashes, markers with others yet."""
    turn = number // len(COLOURS)
    return Look(
        COLOURS[number % len(COLOURS)],
        STYLES[(number + turn) % len(STYLES)],
        MARKERS[(number + turn) % len(MARKERS)],
    )


@contextmanager
def styled() -> Iterator[None]:
    """Everything drawn inside has the one font size; text in PDF files stays text."""
    import matplotlib

    sizes = "font.size axes.labelsize axes.titlesize xtick.labelsize ytick.labelsize legend.fontsize "
    sizes += "legend.title_fontsize figure.titlesize"
    settings: dict[str, Any] = dict.fromkeys(sizes.split(), FONT)
    settings |= {"pdf.fonttype": 42, "axes.linewidth": 0.8, "lines.linewidth": 1.4, "lines.markersize": 4.0}
    settings |= {"axes.titleweight": "bold", "axes.titlelocation": "left", "errorbar.capsize": 2.0}
    with matplotlib.rc_context(settings):  # type: ignore[arg-type]
        yield


def new_figure(rows: int = 1, columns: int = 1, height: float = PANEL[1]) -> tuple[Figure, list[Axes]]:
    """A figure of panels, each as wide as any other panel, and its axes row by row.

    Parameters
    ----------
    rows, columns : int
    height : float
        Of one panel, inches.

    Returns
    -------
    Figure, list of Axes
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PANEL[0] * columns, height * rows), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def legend_above(ax: Axes, *handles_and_labels: Any, clear: float = 0.0, **more: Any) -> None:
    """A legend above the axes, off the data, in as many columns as fit.

    Parameters
    ----------
    ax : Axes
    *handles_and_labels : lists
        As `Axes.legend` takes them; none: those of `ax`.
    clear : float
        Points left free above the axes, for ticks there.
    **more
        For `Axes.legend`.
    """
    from matplotlib.transforms import ScaledTranslation

    handles, labels = handles_and_labels or ax.get_legend_handles_labels()
    if not labels:
        return
    figure = ax.get_figure(root=True)
    assert figure is not None
    columns = max(1, min(len(labels), _LETTERS // (max(len(label) for label in labels) + 6)))
    ax.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        bbox_transform=ax.transAxes + ScaledTranslation(0, clear / 72, figure.dpi_scale_trans),
        ncols=columns,
        frameon=False,
        borderaxespad=0.3,
        columnspacing=1.2,
        **more,
    )


def second_unit(ax: Axes, axis: str = "y") -> None:
    """Energies in meV on the far side of an axis of wavenumbers in cm⁻¹.

    Parameters
    ----------
    ax : Axes
    axis : {"x", "y"}
    """
    factor = 1e3 / EV_CM
    functions = (lambda cm: cm * factor, lambda mev: mev / factor)
    if axis == "y":
        ax.secondary_yaxis("right", functions=functions).set_ylabel("ħω (meV)")
    else:
        ax.secondary_xaxis("top", functions=functions).set_xlabel("ħω (meV)", labelpad=3)


CLEAR_OF_TICKS = 30.0
"""Points above the axes that ticks and the label of a second unit take."""


def with_mev(wavenumber_cm: float, error_cm: float | None = None) -> str:
    """A wavenumber and its error in meV, as text: "-32.0 meV", "93.6 ± 1.0 meV".

    Parameters
    ----------
    wavenumber_cm : float
        cm⁻¹.
    error_cm : float, optional

    Returns
    -------
    str
    """
    value = 1e3 * wavenumber_cm / EV_CM
    error = "" if not error_cm else f" ± {1e3 * error_cm / EV_CM:.1f}"
    return f"{value:.1f}{error} meV"


def grow_for_legends(figure: Figure) -> None:
    """Make a figure higher by what the legends of its rows of panels take.

    Parameters
    ----------
    figure : Figure
    """
    rows: dict[int, int] = {}
    for ax in figure.axes:
        legend, place = ax.get_legend(), ax.get_subplotspec()
        if legend is not None and place is not None:
            lines = -(-len(legend.get_texts()) // getattr(legend, "_ncols", 1))
            rows[place.rowspan.start] = max(rows.get(place.rowspan.start, 0), lines)
    figure.set_figheight(figure.get_figheight() + _LINE * sum(rows.values()))


def save(figure: Figure, folder: Path, name: str, overwrite: bool = True) -> Path:
    """Write ``name.png`` and ``name.pdf``; the path of the PNG.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    folder : Path
    name : str
        Without extension.
    overwrite : bool
        Whether existing files may be replaced.

    Returns
    -------
    Path
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    grow_for_legends(figure)
    FigureCanvasAgg(figure)
    for kind in ("pdf", "png"):
        buffer = io.BytesIO()
        # no date and no random names inside: the same numbers give the same file
        metadata: dict[str, Any] | None = {"CreationDate": None} if kind == "pdf" else None
        with styled():
            figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
        with atomic_write(folder / f"{name}.{kind}", "wb", overwrite=overwrite) as stream:
            stream.write(buffer.getvalue())
    return folder / f"{name}.png"
