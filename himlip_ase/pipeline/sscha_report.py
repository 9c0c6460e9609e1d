"""The report's page on the SSCHA runs: what isotopes and larger supercells change."""

from __future__ import annotations

from collections.abc import Mapping

from himlip_ase.figure_style import with_mev
from himlip_ase.pipeline.config import RunConfig
from himlip_ase.pipeline.document import Document, Paragraph, Table, number
from himlip_ase.pipeline.runfolder import Figure
from himlip_ase.pipeline.sscha import grid_name

ROWS = (
    ("converged", "sscha_converged"),
    ("free energy above the static lattice", "free_energy"),
    ("pressure of the quantum crystal", "pressure_quantum"),
    ("lowest optical mode at Γ, auxiliary", "gamma_optical_lowest.auxiliary"),
    ("the same, free-energy Hessian", "gamma_optical_lowest.hessian"),
    ("lowest mode of the free-energy Hessian on the grid", "hessian_lowest"),
    ("forces evaluated", "sscha_force_calls"),
)
DIFFERENCES = (
    ("free energy", "free_energy"),
    ("pressure", "pressure"),
    ("auxiliary, rms", "auxiliary_rms"),
    ("the same, largest", "auxiliary_largest"),
    ("free-energy Hessian, rms", "hessian_rms"),
    ("the same, largest", "hessian_largest"),
)


def runs(document: Document, config: RunConfig, quoted: Mapping[str, Figure]) -> None:
    """One column for each SSCHA run, then the difference of each further grid from the main one.

    Nothing is added where there is only the main run.

    Parameters
    ----------
    document : Document
        To which they are added.
    config : RunConfig
    quoted : mapping
        Figures of ``results.json`` by name.
    """
    grids = {grid_name(grid): "×".join(map(str, grid)) for grid in config.anharmonic.grids}
    main = "×".join(map(str, config.q_grid))
    columns = {"": main} | {f".{name}": name for name in config.anharmonic.isotopes}
    columns |= {f".{name}": label for name, label in grids.items()}
    columns = {suffix: label for suffix, label in columns.items() if f"free_energy{suffix}" in quoted}
    if len(columns) < 2:
        return
    rows = [[label, *(_cell(quoted, f"{name}{suffix}") for suffix in columns)] for label, name in ROWS]
    document.add(Table(["SSCHA run", *columns.values()], rows, range(1, 1 + len(columns))))
    further = {f".{name}": label for name, label in grids.items() if f".{name}" in columns}
    if further:
        rows = [
            [label, *(_cell(quoted, f"grid_difference.{name}{suffix}") for suffix in further)]
            for label, name in DIFFERENCES
        ]
        document.add(
            Paragraph(
                f"What the supercell changes, against {main}, frequencies at the q of both; ± joins the "
                "errors of both runs:"
            ),
            Table(
                ["difference", *further.values()],
                [row for row in rows if any(row[1:])],
                range(1, 1 + len(further)),
            ),
        )


def _cell(quoted: Mapping[str, Figure], name: str) -> str:
    figure = quoted.get(name)
    if figure is None or figure.value is None:
        return ""
    if isinstance(figure.value, bool):
        return "yes" if figure.value else "NO"
    text = f"{number(figure.value, figure.uncertainty)} {figure.unit}".strip()
    return f"{text} ({with_mev(figure.value, figure.uncertainty)})" if figure.unit == "cm⁻¹" else text
