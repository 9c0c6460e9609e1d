"""What a harmonic remainder does to harmonic phonons, and to forces on cells that nobody learnt: H3S and PdH.

    python -m benchmarks.hint.remainder

E = network + ½ u ΔΦ u with ΔΦ = Φ_DFT − Φ_network on a q-grid. The frequencies on that grid become DFT's by
construction; whether the forces of displaced cells, of 0.8 to 1.1 eV/Å in H3S, suffer is measured on every
set of labels, those that the network learnt and those that it never did. `harmonic444` of H3S is of 12³ k and
not converged; it is there for what unconverged matrices do.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from himlip_ase.files import atomic_write, write_json
from himlip_ase.hint.training.remainder import add_remainder, grid_errors
from himlip_ase.labels.readers import read_hessian, read_labels
from himlip_ase.potential.checkpoint import load_model

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "hint_remainder"
H3S, PDH = ROOT / "examples" / "h3s" / "labels", ROOT / "examples" / "pdh" / "labels"
LEARNT = "learn"
"""How sets begin that himlip-h3s-2 and the potential of PdH learnt; the base model learnt none."""
BASE = "himlip-hydride-1"
CASES = (
    ("himlip-h3s-2", "himlip-h3s-2", H3S, "harmonic", "2×2×2, 24³ k"),
    ("himlip-h3s-2", "himlip-h3s-2", H3S, "harmonic444", "4×4×4, 12³ k: not converged"),
    (BASE, BASE, H3S, "harmonic", "2×2×2, 24³ k"),
    ("examples/pdh/model", str(PDH.parent / "model" / "pdh.safetensors"), PDH, "harmonic", "2×2×2, 12³ k"),
    (BASE, BASE, PDH, "harmonic", "2×2×2, 12³ k"),
)
logger = logging.getLogger(__name__)


def measured(name: str, model: str, labels: Path, matrices: str, grid: str) -> dict[str, Any]:
    """One case: frequencies and forces without the remainder and with it."""
    sets = [path for path in sorted(labels.glob("*.extxyz")) if path.stem != "crystal"]
    found = add_remainder(load_model(model), [read_hessian(labels / matrices)], read_labels(sets))
    (harmonic,) = found.grids
    others = [path.name for path in sorted(labels.glob("harmonic*")) if path.name != matrices]
    judged = {other: grid_errors(found.model, read_hessian(labels / other)) for other in others}
    return {
        "network": name,
        "crystal": labels.parent.name,
        "matrices": matrices,
        "grid": grid,
        "rms_ev_per_angstrom2": found.size,
        "without_cm": harmonic.without,
        "with_cm": harmonic.rmse,
        "other_grids": {other: asdict(errors) for other, errors in judged.items()},
        "cells": [asdict(cells) for cells in found.cells],
    }


def table(cases: list[dict[str, Any]]) -> str:
    """The result as Markdown."""
    lines = [
        "# A harmonic remainder: exact phonons on the grid, and what the forces say",
        "",
        "`python -m benchmarks.hint.remainder`. Forces are root mean squares in meV/Å, frequencies in cm⁻¹",
        "over all modes of a grid; with the remainder they are DFT's on its own grid by construction.",
        "**Never learnt** sets are bold. `harmonic444` of H3S is of another k-mesh and not converged.",
        "",
    ]
    for case in cases:
        lines += [
            f"## {case['network']}, ΔΦ of `{case['crystal']}/labels/{case['matrices']}` ({case['grid']})",
            "",
            f"Frequencies: {case['without_cm']:.2f} without, {case['with_cm']:.2f} with. ΔΦ: "
            f"{1e3 * case['rms_ev_per_angstrom2']:.1f} meV/Å² rms."
            + "".join(
                f" On the other grid, `{name}`: {errors['without']:.1f} without, {errors['rmse']:.1f} with."
                for name, errors in case["other_grids"].items()
            ),
            "",
            "| set | cells | DFT | the remainder's own | error without | error with |",
            "|---|---|---|---|---|---|",
        ]
        for cells in case["cells"]:
            learnt = cells["name"].startswith(LEARNT) and case["network"] != BASE
            name = cells["name"] if learnt else f"**{cells['name']}**"
            numbers = " | ".join(f"{1e3 * cells[key]:.1f}" for key in ("size", "without", "rmse"))
            lines.append(f"| {name} | {cells['frames']} | {1e3 * cells['label_rms']:.0f} | {numbers} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    out: Path = parser.parse_args().out
    logging.basicConfig(level=logging.WARNING)
    cases = [measured(*case) for case in CASES]
    write_json(out.with_suffix(".json"), {"cases": cases}, overwrite=True)
    with atomic_write(out.with_suffix(".md"), overwrite=True) as stream:
        stream.write(table(cases))
    print(table(cases))


if __name__ == "__main__":
    main()
