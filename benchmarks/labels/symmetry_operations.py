"""Symmetry operations that pw.x finds for primitive CIFs, as they are read and as himlip-ase turns them.

``python -m benchmarks.labels.symmetry_operations``; seconds. pw.x is asked only, nothing is computed. One
pseudopotential (Al.pz-vbc.UPF) stands for every element: symmetry asks only which atoms are alike.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from himlip_ase.dft.espresso.dry_run import dry_run
from himlip_ase.dft.espresso.inputs import QESettings
from himlip_ase.files import atomic_write
from himlip_ase.symmetry.standard_cell import standard_cell
from tests.symmetry.crystals import CRYSTALS, as_primitive_cif

OUT = Path(__file__).resolve().parents[1] / "results" / "symmetry_operations.md"
SOURCE = Path("/usr/share/espresso/pseudo/Al.pz-vbc.UPF")
GRID = (6, 6, 6)


def one_for_all(folder: Path, elements: set[str]) -> QESettings:
    """Settings with the same pseudopotential for each element."""
    text = SOURCE.read_text()
    for symbol in elements:
        renamed = text.replace('"Al"', f'"{symbol}"').replace(" Al ", f" {symbol} ")
        (folder / f"{symbol}.upf").write_text(renamed)
    return QESettings(ecutwfc_ry=12, k_grid=GRID, degauss_ry=0.05, pseudo_dir=folder)


def main() -> None:
    """Write the table."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        elements = {s for cell, _ in CRYSTALS.values() for s in cell.get_chemical_symbols()}
        settings = one_for_all(Path(name), elements)
        for title, (conventional, expected) in CRYSTALS.items():
            given = as_primitive_cif(conventional)
            cell = standard_cell(given)
            before, after = dry_run(given, settings), dry_run(cell.atoms, settings)
            rows.append(
                f"| {title} | {cell.space_group} ({cell.number}) | {len(cell.atoms)} | {expected} | "
                f"{before.operations} | {after.operations} | {before.k_points} | {after.k_points} |"
            )
            assert after.operations == expected == cell.operations, title
    with atomic_write(OUT, overwrite=True) as stream:
        stream.write(
            "# Symmetry operations that pw.x finds\n\n"
            f"`python -m benchmarks.labels.symmetry_operations`; primitive CIFs, {GRID[0]}³ k"
            ". A CIF gives lengths and\nangles, and every reader puts the first vector along x; pw.x finds "
            "only operations that are so in these axes.\nhimlip-ase makes the cell primitive and turns it "
            "(`himlip_ase.symmetry.standard_cell`).\n\n"
            "| crystal | space group | atoms | operations (spglib) | pw.x, CIF as it is read | pw.x, turned "
            "| k-points, as it is read | k-points, turned |\n|---|---|---|---|---|---|---|---|\n"
            + "\n".join(rows)
            + "\n"
        )
    print(OUT.read_text())


if __name__ == "__main__":
    main()
