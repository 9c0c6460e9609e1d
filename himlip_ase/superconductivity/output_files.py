"""Writing of Tc results: results.json, figures, and the data behind the figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write
from himlip_ase.superconductivity import plots
from himlip_ase.superconductivity.codec import read_document, write_document
from himlip_ase.superconductivity.isotope import IsotopeEffect, effect_from_record, effect_record
from himlip_ase.superconductivity.tables import format_table
from himlip_ase.superconductivity.tc_analysis import TcAnalysis
from himlip_ase.superconductivity.tc_entries import NoTc, Tc
from himlip_ase.superconductivity.uncertainty_plots import plot_budget, plot_q_mesh

FIGURE_FILES = ("alpha2f.png", "tc_mu_star.png", "tc.txt")


def check_outputs(json_file: Path | None, figures: Path | None, overwrite: bool = False) -> None:
    """InputError if a file that would be written exists and may not be replaced; called before any work.

    Parameters
    ----------
    json_file, figures : Path or None
    overwrite : bool
    """
    if overwrite:
        return
    wanted = [] if json_file is None else [json_file]
    wanted += [] if figures is None else [figures / name for name in FIGURE_FILES]
    for path in wanted:
        if path.exists():
            raise InputError(f"{path} exists already; add --overwrite or choose another name")


def write_results(
    path: Path,
    analyses: Sequence[TcAnalysis],
    overwrite: bool = False,
    isotopes: Sequence[IsotopeEffect | NoTc] = (),
) -> None:
    """Write every figure with value, unit, uncertainty and how it was obtained; `read_results` reads it back.

    Parameters
    ----------
    path : Path
    analyses : sequence of TcAnalysis
    overwrite : bool
    isotopes : sequence of IsotopeEffect or NoTc

    Raises
    ------
    InputError
        `path` exists and `overwrite` is False.
    """
    content: dict[str, Any] = {"analyses": [item.to_record() for item in analyses]}
    if isotopes:
        content["isotope_coefficients"] = [effect_record(item) for item in isotopes]
    write_document(path, content, overwrite)


def read_results(path: str | Path) -> tuple[list[TcAnalysis], list[IsotopeEffect | NoTc]]:
    """Read what ``himlip tc --json`` wrote, of this version or of version 1.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    (list of TcAnalysis, list of IsotopeEffect or NoTc)

    Raises
    ------
    InputError
        No such file, damaged, or of another kind.
    """
    data = read_document(path)
    try:
        analyses = [TcAnalysis.from_record(record) for record in data["analyses"]]
        return analyses, [effect_from_record(record) for record in data.get("isotope_coefficients", [])]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} holds no analyses ({error!r}); give a file of `himlip tc --json`"
        ) from error


def write_figures(folder: Path, analyses: Sequence[TcAnalysis], overwrite: bool = False) -> list[Path]:
    """Write α²F, Tc(μ*) and λ(σ) figures, the α²F data and the text table into `folder`.

    Parameters
    ----------
    folder : Path
    analyses : sequence of TcAnalysis
    overwrite : bool

    Returns
    -------
    list of Path
        What was written.
    """
    from himlip_ase.figure_style import PANEL, new_figure, save, styled

    written: list[Path] = []

    def draw(name: str, plot: Callable[[Any], object], height: float = PANEL[1]) -> None:
        with styled():
            figure, (ax,) = new_figure(height=height)
            plot(ax)
        written.append(save(figure, folder, name, overwrite))

    def text(name: str, content: str) -> None:
        with atomic_write(folder / name, overwrite=overwrite) as stream:
            stream.write(content)
        written.append(folder / name)

    drawn = {a.label: a.spectrum for a in analyses if a.spectrum is not None and len(a.spectrum.energies_ev)}
    if drawn:
        draw("alpha2f", lambda ax: plots.plot_alpha2f(ax, list(drawn.values()), list(drawn)))
    for label, spectrum in drawn.items():
        text(f"alpha2f_{label}.dat", plots.curve_text(spectrum, label))
    tables, labels = [a.table for a in analyses], [a.label for a in analyses]
    draw("tc_mu_star", lambda ax: plots.plot_tc_against_mu_star(ax, tables, labels))
    for item in analyses:
        if any(isinstance(entry, Tc) and entry.parts for entry in item.table.results):
            draw(f"uncertainty_{item.label}", partial(plot_budget, table=item.table))
        if item.q_mesh:
            draw(f"q_mesh_{item.label}", partial(plot_q_mesh, rows=item.q_mesh))
        if item.plateau is not None:
            draw(f"sigma_{item.label}", partial(plots.plot_sigma, plateau=item.plateau))
        if item.gap is not None:
            draw(f"gap_{item.label}", partial(plots.plot_gaps, gaps={item.label: item.gap}))
    text("tc.txt", format_table(analyses))
    return written
