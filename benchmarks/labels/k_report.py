"""Table and picture of the k-convergence study, from the numbers of `benchmarks.labels.k_convergence`."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.labels.k_calculations import QPOINTS
from himlip_ase.files import atomic_write

SMEARING_NAMES = {"mp": "Methfessel–Paxton", "mv": "Marzari–Vanderbilt", "gauss": "Gaussian"}
COLOURS = {"mp": ("#1f4e79", "#2e86c1", "#85c1e9"), "mv": ("#7b241c", "#cb4335", "#f1948a")}
METHODS = {
    "frozen_third": "pw.x, frozen at 0.006 Å along the mode of 12³, 0.02 Ry",
    "frozen_third_wide": "the same at 0.02 Å",
    "third_irr1to3": "ph.x, the three A₁ modes",
    "gamma": "ph.x, all modes",
}


def shift(row: dict[str, Any]) -> str:
    """What stands behind the mesh of a row."""
    return " shifted" if row.get("shifted") else ""


def named(row: dict[str, Any]) -> str:
    """Smearing and width of a row."""
    return f"{SMEARING_NAMES[row['smearing']]} {row['width_ry']:g} Ry"


def write_table(tables: dict[str, Any], path: Path) -> None:
    """The .md file."""
    lines = [
        "# Labels against the k-mesh and the smearing",
        "",
        "`python -m benchmarks.labels.k_convergence collect --scratch FOLDER`; Quantum ESPRESSO 6.7, SG15,",
        "PBE, 60 Ry, one core. What it means for labels: `docs/labels_k.md`.",
        "",
        "## H3S, soft branch at q = (0, ⅓, ⅓)",
        "",
        "| method | smearing | cutoff (Ry) | k | frequencies (cm⁻¹) | core-s |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(
        tables["phonons"], key=lambda r: (r["quantity"], r["smearing"], r["width_ry"], r["k"], shift(r))
    ):
        if row["quantity"] == "gamma":
            continue
        shown = ", ".join(f"{f:.0f}" for f in row["frequencies_cm"])
        lines.append(
            f"| {METHODS[row['quantity']]} | {named(row)} | {row['cutoff_ry']:g} | {row['k']}³{shift(row)} "
            f"| {shown} | {row['core_seconds']:.0f} |"
        )
    lines += [
        "",
        "Frozen phonons give −u·F/(u·Mu) along one displacement: an upper bound of the lowest ω².",
        *_susceptibilities(tables),
        *_other_tables(tables),
    ]
    with atomic_write(path, overwrite=True) as stream:
        stream.write("\n".join(lines) + "\n")


def _susceptibilities(tables: dict[str, Any]) -> list[str]:
    """χ(q) by crystal, smearing and mesh, and what a change of it does to the measured soft branch."""
    lines = [
        "",
        "## Bare susceptibility χ of the bands at (0, ⅓, ⅓), 1/eV and cell",
        "",
        "Matrix elements 1, bands within about 2 eV of E_F: what mesh and smearing do to the Fermi surface.",
    ]
    for crystal in sorted({row["crystal"] for row in tables["susceptibility"]}):
        values = {
            (row["smearing"], row["width_ry"], row["k"]): row["per_ev"]
            for row in tables["susceptibility"]
            if row["crystal"] == crystal and row["q"] == "third"
        }
        meshes = sorted({key[2] for key in values})
        lines += ["", f"| {crystal} | " + " | ".join(f"{mesh}³" for mesh in meshes) + " |"]
        lines.append("|---|" + "---|" * len(meshes))
        for smearing, width in sorted({key[:2] for key in values}):
            cells = [
                f"{values[smearing, width, mesh]:.4f}" if (smearing, width, mesh) in values else ""
                for mesh in meshes
            ]
            lines.append(f"| {SMEARING_NAMES[smearing]} {width:g} Ry | {' | '.join(cells)} |")
    lines += ["", "Other q-points, Methfessel–Paxton:"]
    for crystal in sorted({row["crystal"] for row in tables["susceptibility"]}):
        lines += _other_qpoints([row for row in tables["susceptibility"] if row["crystal"] == crystal])
    slopes = soft_branch_slopes(tables)
    if slopes:
        lines += ["", "What a change of χ does to ω² of the soft branch of H3S (frozen phonons):", ""]
        lines += [f"- {name}: {value / 1e6:.1f}·10⁶ cm⁻² for 1/eV" for name, value in slopes.items()]
    return lines


def _other_qpoints(rows: list[dict[str, Any]]) -> list[str]:
    """χ of one crystal by q-point and width."""
    values = {(r["q"], r["width_ry"], r["k"]): r["per_ev"] for r in rows if r["smearing"] == "mp"}
    meshes = sorted({key[2] for key in values})
    lines = ["", f"| {rows[0]['crystal']}, q | Ry | " + " | ".join(f"{mesh}³" for mesh in meshes) + " |"]
    lines.append("|---|---|" + "---|" * len(meshes))
    for point, q in QPOINTS.items():
        name = ", ".join(str(Fraction(x).limit_denominator(12)) for x in q)
        for width in sorted({key[1] for key in values if key[0] == point and point != "gamma"}):
            found = (values.get((point, width, mesh)) for mesh in meshes)
            shown = " | ".join("" if value is None else f"{value:.4f}" for value in found)
            lines.append(f"| ({name}) | {width:g} | {shown} |")
    return lines


def soft_branch_slopes(tables: dict[str, Any]) -> dict[str, float]:
    """Δω²/Δχ (cm⁻² per 1/eV) of each pair of frozen phonons of H3S that differ in mesh or in width only."""
    squares = {
        (row["smearing"], row["width_ry"], row["k"]): row["frequencies_cm"][0] * abs(row["frequencies_cm"][0])
        for row in tables["phonons"]
        if row["crystal"] == "h3s" and row["quantity"] == "frozen_third"
    }
    values = {
        (row["smearing"], row["width_ry"], row["k"]): row["per_ev"]
        for row in tables["susceptibility"]
        if row["crystal"] == "h3s" and row["q"] == "third"
    }
    slopes = {}
    for first, second in combinations(sorted(key for key in squares if key in values), 2):
        if sum(a != b for a, b in zip(first, second, strict=True)) == 1:
            name = " → ".join(f"{SMEARING_NAMES[s]} {w:g} Ry {k}³" for s, w, k in (first, second))
            slopes[name] = (squares[second] - squares[first]) / (values[second] - values[first])
    return slopes


def _other_tables(tables: dict[str, Any]) -> list[str]:
    lines = ["", "## Γ, ph.x", "", "| crystal | smearing | k | frequencies (cm⁻¹) | core-s |"]
    lines.append("|---|---|---|---|---|")
    for row in tables["phonons"]:
        if row["quantity"] == "gamma":
            lines.append(
                f"| {row['crystal']} | {named(row)} | {row['k']}³ | {levels(row['frequencies_cm'])} "
                f"| {row['core_seconds']:.0f} |"
            )
    amplitudes = sorted({u for row in tables["wells"] for u in row["depth_mev"]})
    amplitudes = [u for u in amplitudes if sum(u in row["depth_mev"] for row in tables["wells"]) > 2]
    lines += [
        "",
        "## H3S, double well along T1u: E(u) − E(0), meV per cell, by the norm u of the displacement (Å)",
        "",
        "| smearing | k | E(0) − E(0, 12³) (meV) | " + " | ".join(amplitudes) + " | core-s |",
        "|---|---|---|" + "---|" * (len(amplitudes) + 1),
    ]
    first = {(r["smearing"], r["width_ry"]): r["energy_at_rest_ev"] for r in tables["wells"] if r["k"] == 12}
    for row in tables["wells"]:
        rest = 1000 * (row["energy_at_rest_ev"] - first[row["smearing"], row["width_ry"]])
        depths = " | ".join(f"{row['depth_mev'][u]:.1f}" if u in row["depth_mev"] else "" for u in amplitudes)
        lines.append(f"| {named(row)} | {row['k']}³ | {rest:.1f} | {depths} | {row['core_seconds']:.0f} |")
    lines += [
        "",
        "## H3S, forces of disordered cells by mesh and smearing, meV/Å rms",
        "",
        "| cell | from | to | all | by element | of (eV/Å rms) | energy (meV/atom) | core-s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in tables["forces"]:
        elements = ", ".join(f"{e} {value:.0f}" for e, value in row["by_element"].items())
        cells = [
            row["cell"],
            *(f"{named(electrons)} {electrons['k']}³" for electrons in row["electrons"]),
            f"{row['change_rms_mev_per_angstrom']:.0f}",
            elements,
            f"{row['forces_rms_ev_per_angstrom']:.2f}",
            f"{row['energy_mev_per_atom']:.1f}",
            ", ".join(f"{seconds:.0f}" for seconds in row["core_seconds"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines + _fermi_densities(tables["fermi_density"])


def levels(frequencies: Sequence[float]) -> str:
    """Frequencies with their degeneracies where these are not 1."""
    values, counts = np.unique(np.round(frequencies), return_counts=True)
    return ", ".join(f"{v:.0f}" + (f" ({n})" if n > 1 else "") for v, n in zip(values, counts, strict=True))


def _fermi_densities(rows: list[dict[str, Any]]) -> list[str]:
    """N(E_F) of each mesh; tetrahedra have no width."""
    values = {(row["crystal"], row["bands"], row["k"], row["width_ry"]): row["per_ev"] for row in rows}
    widths = sorted({row["width_ry"] for row in rows if row["width_ry"] is not None})
    lines = [
        "",
        "## N(E_F), states per eV and primitive cell, both spins",
        "",
        "Gaussians exp(−(Δ/σ)²) as ph.x takes them; linear tetrahedra at the level of the narrowest.",
        "",
        "| crystal | k | " + " | ".join(f"σ = {width:g} Ry" for width in widths) + " | tetrahedra |",
        "|---|---|" + "---|" * (len(widths) + 1),
    ]
    for crystal, bands, mesh in sorted({key[:3] for key in values}, key=lambda key: (key[0], key[2], key[1])):
        shown = (f"{values[crystal, bands, mesh, width]:.3f}" for width in (*widths, None))
        lines.append(f"| {crystal}, bands on {bands}³ | {mesh}³ | {' | '.join(shown)} |")
    return lines


def colour_of(smearing: str, width_ry: float) -> str:
    """Colour of a smearing and its width."""
    return COLOURS[smearing][(0.02, 0.03, 0.05).index(width_ry)]


def draw(tables: dict[str, Any], path: Path) -> None:
    """The .png file: soft branch, susceptibility and double well against the mesh."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(14.5, 4.0), width_ratios=(1.5, 1, 1), layout="constrained"
    )
    rows = [row for row in tables["phonons"] if row["quantity"] in ("frozen_third", "third_irr1to3")]
    rows.sort(key=lambda row: (row["k"], row["quantity"], -row["cutoff_ry"], row["width_ry"]))
    for place, row in enumerate(rows):
        frozen = row["quantity"] == "frozen_third"
        colour = colour_of(row["smearing"], row["width_ry"])
        heights = row["frequencies_cm"][:1]
        left.plot(
            [place], heights, "o" if frozen else "s", color=colour, fillstyle="full" if frozen else "none"
        )
        left.annotate(
            f"{heights[0]:.0f}", (place, heights[0]), (0, 7), textcoords="offset points", ha="center"
        )
    left.set_xticks(
        range(len(rows)),
        [
            f"{'pw.x' if row['quantity'] == 'frozen_third' else 'ph.x'}\n{row['k']}³\n"
            f"{'shifted' if row.get('shifted') else 'with Γ'}\n{row['smearing']} {row['width_ry']:g} Ry"
            + ("" if row["cutoff_ry"] == 60 else f"\n{row['cutoff_ry']:g} Ry")
            for row in rows
        ],
        fontsize=7,
    )
    left.axhline(0, color="grey", linewidth=0.8)
    left.margins(x=0.15, y=0.15)
    left.set(ylabel="frequency (cm⁻¹), imaginary negative", title="H3S, soft mode at (0, ⅓, ⅓)")
    lines: dict[tuple[str, float], list[tuple[int, float]]] = {}
    for row in tables["susceptibility"]:
        if row["crystal"] == "h3s" and row["q"] == "third" and row["smearing"] in COLOURS:
            lines.setdefault((row["smearing"], row["width_ry"]), []).append((row["k"], row["per_ev"]))
    for (smearing, width), points in sorted(lines.items()):
        style = "o-" if smearing == "mp" else "s--"
        name = f"{SMEARING_NAMES[smearing]} {width:g} Ry"
        colour = colour_of(smearing, width)
        middle.plot(*zip(*sorted(points), strict=True), style, color=colour, markersize=4, label=name)
    middle.set(
        xlabel="k-points along each direction",
        ylabel="χ (1/eV)",
        title="H3S, bare susceptibility at (0, ⅓, ⅓)",
    )
    middle.legend(fontsize=7)
    series: dict[tuple[str, float], list[tuple[int, float]]] = {}
    for row in tables["wells"]:
        if "0.132" in row["depth_mev"]:
            series.setdefault((row["smearing"], row["width_ry"]), []).append(
                (row["k"], row["depth_mev"]["0.132"])
            )
    for (smearing, width), points in sorted(series.items()):
        colour = colour_of(smearing, width)
        right.plot(
            *zip(*sorted(points), strict=True),
            "o-",
            color=colour,
            label=f"{SMEARING_NAMES[smearing]} {width:g} Ry",
        )
    right.axhline(0, color="grey", linewidth=0.8)
    right.set(
        xlabel="k-points along each direction",
        ylabel="E(0.132 Å) − E(0) (meV per cell)",
        title="H3S, double well along T1u",
    )
    right.legend(fontsize=7)
    figure.savefig(path, dpi=130)
    plt.close(figure)
