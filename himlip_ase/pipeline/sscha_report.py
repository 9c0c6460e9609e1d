"""The report's page on the SSCHA runs: what isotopes and larger supercells change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from himlip_ase.figure_style import with_mev
from himlip_ase.pipeline.config import RunConfig
from himlip_ase.pipeline.document import Document, Paragraph, Table, number
from himlip_ase.pipeline.runfolder import Figure
from himlip_ase.pipeline.sscha import grid_name
from himlip_ase.sscha.trust.label_correction_files import largest_changes

ROWS = (
    ("converged", "sscha_converged"),
    ("free energy above the static lattice", "free_energy"),
    ("pressure of the quantum crystal", "pressure_quantum"),
    ("lowest optical mode at Γ, auxiliary", "gamma_optical_lowest.auxiliary"),
    ("the same, free-energy Hessian", "gamma_optical_lowest.hessian"),
    ("lowest mode of the free-energy Hessian on the grid", "hessian_lowest"),
    ("forces evaluated", "sscha_force_calls"),
)
MOST_MODES = 10
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


def corrected_modes(document: Document, folder: Path, whose: str = "") -> None:
    """What labelled cells ask for beyond the SSCHA, for the modes that they change most.

    Nothing is added where the SSCHA was not corrected by finished labels.

    Parameters
    ----------
    document : Document
    folder : Path
        Of an SSCHA.
    whose : str
        " of the SSCHA on 4×4×4", say; "" for the main run.
    """
    found, groups = largest_changes(folder, MOST_MODES)
    if not found:
        return
    rows = [
        [
            f"({', '.join(f'{x:.3g}' for x in mode.qpoint)})",
            number(round(mode.auxiliary, 1)),
            number(mode.change, mode.change_sigma),
            number(mode.corrected, mode.corrected_sigma),
        ]
        for mode in found
    ]
    document.add(
        Paragraph(
            f"What DFT asks for beyond the auxiliary{whose}, cm⁻¹, by the linear part of the forces that "
            f"{groups} independent groups of labelled cells and potentials which did not learn them differ "
            "by. The "
            f"{len(rows)} largest changes:"
        ),
        Table(["q", "auxiliary", "change, to first order", "corrected"], rows, range(1, 4)),
    )


def _cell(quoted: Mapping[str, Figure], name: str) -> str:
    figure = quoted.get(name)
    if figure is None or figure.value is None:
        return ""
    if isinstance(figure.value, bool):
        return "yes" if figure.value else "NO"
    text = f"{number(figure.value, figure.uncertainty)} {figure.unit}".strip()
    return f"{text} ({with_mev(figure.value, figure.uncertainty)})" if figure.unit == "cm⁻¹" else text
