"""Table and picture of the k-convergence study, from the numbers of `benchmarks.labels.k_convergence`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from himlip_ase.files import atomic_write
from himlip_ase.units import SQRT_EV_PER_ANGSTROM2_AMU_CM, signed_frequencies_cm

SMEARING_NAMES = {"mp": "Methfessel–Paxton", "mv": "Marzari–Vanderbilt", "gauss": "Gaussian"}
COLOURS = {"mp": ("#1f4e79", "#2e86c1", "#85c1e9"), "mv": ("#7b241c", "#cb4335", "#f1948a")}
MARKERS = {"frozen_third": "o", "third_irr1to3": "s"}
CALIBRATION = (("mp", 0.02, 12), ("mp", 0.05, 12))
"""The two frozen phonons that set the scale of the susceptibility; all other values are predictions."""
METHODS = {
    "frozen_third": "frozen at 0.006 Å, pw.x",
    "frozen_third_large": "frozen at 0.1 Å, pw.x",
    "third_irr1to3": "ph.x, the three A₁ modes",
    "gamma": "ph.x, all modes",
}


def named(row: dict[str, Any]) -> str:
    """Smearing and width of a row."""
    return f"{SMEARING_NAMES[row['smearing']]} {row['width_ry']:g} Ry"


class SoftBranch:
    """ω² of the soft branch at one q as a linear function of the bare susceptibility there.

    Two frozen phonons give the two constants; everything else is predicted.
    """

    def __init__(self, tables: dict[str, Any], crystal: str = "h3s") -> None:
        self.measured = {
            (row["smearing"], row["width_ry"], row["k"]): squared(row["frequencies_cm"][0])
            for row in tables["phonons"]
            if row["crystal"] == crystal and row["quantity"] == "frozen_third" and row["cutoff_ry"] == 60.0
        }
        self.susceptibility = {
            (row["smearing"], row["width_ry"], row["k"]): row["per_ev"]
            for row in tables["susceptibility"]
            if row["crystal"] == crystal and row["q"] == "third"
        }
        first, second = CALIBRATION
        self.calibrated = all(key in self.measured and key in self.susceptibility for key in (first, second))
        if self.calibrated:
            run = self.susceptibility[second] - self.susceptibility[first]
            self.slope = (self.measured[second] - self.measured[first]) / run
            self.offset = self.measured[first] - self.slope * self.susceptibility[first]

    def frequency(self, key: tuple[str, float, int]) -> float:
        """Predicted frequency, cm⁻¹, imaginary negative."""
        return frequency(self.offset + self.slope * self.susceptibility[key])


def squared(frequency_cm: float) -> float:
    """ω|ω| in eV/Å²/amu."""
    return frequency_cm * abs(frequency_cm) / SQRT_EV_PER_ANGSTROM2_AMU_CM**2


def frequency(value: float) -> float:
    """The frequency (cm⁻¹, imaginary negative) of an eigenvalue in eV/Å²/amu."""
    return float(signed_frequencies_cm(np.array(value)))


def write_table(tables: dict[str, Any], path: Path) -> None:
    """The .md file."""
    branch = SoftBranch(tables)
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
    for row in sorted(tables["phonons"], key=lambda r: (r["quantity"], r["smearing"], r["width_ry"], r["k"])):
        if row["quantity"] == "gamma":
            continue
        shown = ", ".join(f"{f:.0f}" for f in row["frequencies_cm"])
        lines.append(
            f"| {METHODS[row['quantity']]} | {named(row)} | {row['cutoff_ry']:g} | {row['k']}³ | {shown} "
            f"| {row['core_seconds']:.0f} |"
        )
    if branch.calibrated:
        lines += _prediction(branch)
    lines += _other_tables(tables)
    with atomic_write(path, overwrite=True) as stream:
        stream.write("\n".join(lines) + "\n")


def _prediction(branch: SoftBranch) -> list[str]:
    meshes = sorted({key[2] for key in branch.susceptibility})
    smearings = sorted({key[:2] for key in branch.susceptibility})
    lines = [
        "",
        "## The same branch from the bare susceptibility χ(q) of the bands",
        "",
        "ω² = a + bχ, a and b from the frozen phonons on 12³ with Methfessel–Paxton 0.02 and 0.05 Ry; all",
        "other entries are predictions. In brackets what pw.x gave.",
        "",
        "| smearing | " + " | ".join(f"{mesh}³" for mesh in meshes) + " |",
        "|---|" + "---|" * len(meshes),
    ]
    for smearing, width in smearings:
        cells = []
        for mesh in meshes:
            key = (smearing, width, mesh)
            text = f"{branch.frequency(key):.0f}"
            if key in branch.measured:
                text += f" ({frequency(branch.measured[key]):.0f})"
            cells.append(text)
        lines.append(f"| {SMEARING_NAMES[smearing]} {width:g} Ry | " + " | ".join(cells) + " |")
    return lines


def _other_tables(tables: dict[str, Any]) -> list[str]:
    lines = ["", "## H3S, Γ, ph.x", "", "| smearing | k | frequencies (cm⁻¹) | core-s |", "|---|---|---|---|"]
    for row in tables["phonons"]:
        if row["quantity"] == "gamma":
            shown = ", ".join(f"{f:.0f}" for f in row["frequencies_cm"][::3])
            lines.append(f"| {named(row)} | {row['k']}³ | {shown} (threefold) | {row['core_seconds']:.0f} |")
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
        "## H3S, forces of disordered cells from one mesh to the next, meV/Å rms",
        "",
        "| cell | smearing | k | all | by element | of (eV/Å rms) | energy (meV/atom) | core-s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in tables["forces"]:
        elements = ", ".join(f"{e} {value:.0f}" for e, value in row["by_element"].items())
        cells = [
            row["cell"],
            named(row),
            f"{row['k'][0]}³ → {row['k'][1]}³",
            f"{row['change_rms_mev_per_angstrom']:.0f}",
            elements,
            f"{row['forces_rms_ev_per_angstrom']:.2f}",
            f"{row['energy_mev_per_atom']:.1f}",
            ", ".join(f"{seconds:.0f}" for seconds in row["core_seconds"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def draw(tables: dict[str, Any], path: Path) -> None:
    """The .png file: soft branch, double well and forces against the mesh."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    branch = SoftBranch(tables)
    if branch.calibrated:
        for smearing in ("mp", "mv"):
            widths = sorted({key[1] for key in branch.susceptibility if key[0] == smearing})
            for colour, width in zip(COLOURS[smearing], widths, strict=False):
                keys = sorted(key for key in branch.susceptibility if key[:2] == (smearing, width))
                left.plot(
                    [key[2] for key in keys],
                    [branch.frequency(key) for key in keys],
                    color=colour,
                    linestyle="-" if smearing == "mp" else "--",
                    label=f"{SMEARING_NAMES[smearing]} {width:g} Ry",
                )
                own = sorted(key for key in branch.measured if key[:2] == (smearing, width))
                left.plot(
                    [key[2] for key in own],
                    [frequency(branch.measured[key]) for key in own],
                    "o",
                    color=colour,
                    markeredgecolor="black",
                    zorder=3,
                )
    for row in tables["phonons"]:
        if row["quantity"] == "third_irr1to3" and row["cutoff_ry"] == 60.0:
            left.plot(
                row["k"], row["frequencies_cm"][0], "s", color="none", markeredgecolor="black", zorder=4
            )
    left.axhline(0, color="grey", linewidth=0.8)
    left.set(
        xlabel="k-points along each direction",
        ylabel="frequency (cm⁻¹), imaginary negative",
        title="H3S, soft branch at (0, ⅓, ⅓)",
    )
    left.legend(fontsize=7, loc="lower right")
    series: dict[tuple[str, float], list[tuple[int, float]]] = {}
    for row in tables["wells"]:
        if "0.132" in row["depth_mev"]:
            series.setdefault((row["smearing"], row["width_ry"]), []).append(
                (row["k"], row["depth_mev"]["0.132"])
            )
    for (smearing, width), points in sorted(series.items()):
        colour = COLOURS[smearing][(0.02, 0.03, 0.05).index(width)]
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
