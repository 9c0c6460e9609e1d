"""What curvature costs: Hi-MLIP, MACE, and finite differences through phonopy, in one run.

    python -m benchmarks.curvature.peers --mace-python /path/to/python --out benchmarks/results/curvature

Im-3m H3S supercells of 8 to 500 atoms, rattled for everything but force constants; CPU seconds of one thread,
float64, neighbour lists included; memory is the growth of a process that does nothing else. MACE has random
weights (64 k parameters, 4.5 Å, as the Hi-MLIP), which cost the same as trained ones. It needs an interpreter
with mace-torch; without --mace-python it is left out. Writes .json, .md and .png.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np

from benchmarks.curvature.structures import DIMS, measure, primitive, rattled, report

ALL = tuple(DIMS)
TASKS: dict[str, tuple[str, tuple[int, ...], str]] = {
    # name: (side, atoms, title)
    "forces": ("himlip", ALL, "forces"),
    "stress": ("himlip", ALL, "forces and stress"),
    "hvp": ("himlip", ALL, "one Hessian-vector product"),
    "hessian": ("himlip", (8, 32, 108), "dense Hessian"),
    "constants": ("himlip", ALL, "force constants, symmetry"),
    "constants-all-rows": ("himlip", (8, 32, 108, 256), "force constants, no symmetry"),
    "third": ("himlip", (8, 32), "third-order force constants, symmetry"),
    "differences": ("himlip", ALL, "force constants, phonopy differences"),
    "difference-hessian": ("himlip", (8, 32), "dense Hessian, differences"),
    "mace-forces": ("mace", (8, 32, 108, 256), "MACE forces"),
    "mace-stress": ("mace", (8, 32, 108, 256), "MACE forces and stress"),
    "mace-hessian": ("mace", (8, 32), "MACE get_hessian"),
}
"""MACE's Hessian of 108 atoms would take tens of minutes and of GiB, and is not run."""


def himlip_side(task: str, sizes: list[int], model: str | None) -> None:
    """Measure one task of this project and print its rows."""
    import torch

    from himlip_ase import HiMLIPCalculator
    from himlip_ase.phonons.exact import exact_force_constants
    from himlip_ase.phonons.phonopy_objects import from_phonopy_atoms, setup_phonopy
    from himlip_ase.phonons.third_order import third_order_force_constants

    torch.set_num_threads(1)
    calc = HiMLIPCalculator(model, device="cpu")
    print(json.dumps({"parameters": calc.model.n_parameters, "cutoff": calc.model.cutoff}), flush=True)

    def differences(n_atoms: int) -> dict[str, Any]:
        phonopy = setup_phonopy(primitive(), DIMS[n_atoms])
        phonopy.generate_displacements(distance=0.01)
        images = [from_phonopy_atoms(cell) for cell in phonopy.supercells_with_displacements]
        phonopy.forces = np.array([calc.evaluate([atoms], stress=False).forces[0] for atoms in images])
        phonopy.produce_force_constants(calculate_full_force_constants=False)
        return {"calls": len(images)}

    def difference_hessian(n_atoms: int) -> dict[str, Any]:
        atoms = rattled(n_atoms)
        images = []
        for index in range(3 * n_atoms):
            for sign in (1, -1):
                moved = atoms.copy()
                moved.positions[index // 3, index % 3] += sign * 0.01
                images.append(moved)
        for start in range(0, len(images), 8):
            calc.evaluate(images[start : start + 8], stress=False)
        return {"calls": len(images)}

    def constants(n_atoms: int, symmetry: bool) -> dict[str, Any]:
        products = calc.hessian_vector_product
        _, found = exact_force_constants(primitive(), DIMS[n_atoms], products, symmetry)
        return {"products": found.products, "sum_rule": found.sum_rule, "asymmetry": found.asymmetry}

    def third(n_atoms: int) -> dict[str, Any]:
        found = third_order_force_constants(primitive(), DIMS[n_atoms], calc.third_derivatives)
        return {"products": found.products}

    def prepare(n_atoms: int) -> Callable[[], Any]:
        atoms = rattled(n_atoms)
        vector = np.random.default_rng(1).normal(size=(n_atoms, 3))
        # the calculator remembers the last Hessian: ask for another structure each time
        never_twice = itertools.cycle([atoms, atoms[::-1]])
        calls: dict[str, Callable[[], Any]] = {
            "forces": lambda: calc.evaluate([atoms], stress=False),
            "stress": lambda: calc.evaluate([atoms]),
            "hvp": lambda: calc.hessian_vector_product(atoms, vector),
            "hessian": lambda: calc.get_hessian(next(never_twice)),
            "constants": lambda: constants(n_atoms, True),
            "constants-all-rows": lambda: constants(n_atoms, False),
            "third": lambda: third(n_atoms),
            "differences": lambda: differences(n_atoms),
            "difference-hessian": lambda: difference_hessian(n_atoms),
        }
        return calls[task]

    report(measure(sizes, prepare, repeats=3))


def run_task(name: str, mace_python: Path | None, model: str | None) -> dict[str, Any] | None:
    """Measure a task in a process of its own; None where its interpreter is missing."""
    side, sizes, _ = TASKS[name]
    numbers = [str(size) for size in sizes]
    if side == "mace":
        if mace_python is None:
            return None
        command = [
            str(mace_python),
            "-m",
            "benchmarks.curvature.mace_side",
            name.removeprefix("mace-"),
            *numbers,
        ]
    else:
        command = [sys.executable, "-m", "benchmarks.curvature.peers", "--measure", name, "--sizes", *numbers]
        command += ["--model", model] if model else []
    print(f"{name} …", file=sys.stderr, flush=True)
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    return {"about": lines[0], "rows": lines[1:]}


def ratios(found: dict[str, dict[str, Any]]) -> list[tuple[str, float, str]]:
    """The figures that the benchmark is for: what, value, aim."""

    def value(name: str, n_atoms: int, key: str = "cpu_s") -> float:
        rows = found[name]["rows"] if name in found else []
        return next((row[key] for row in rows if row["atoms"] == n_atoms), float("nan"))

    forces = value("forces", 32)
    return [
        ("H3S 2×2×2 force constants: MACE get_hessian / ours",
         value("mace-hessian", 32) / value("constants", 32), "≥ 200"),
        ("H3S 2×2×2 force constants, in force calls", value("constants", 32) / forces, "≤ 12"),
        ("dense Hessian of 32 atoms: MACE get_hessian / ours",
         value("mace-hessian", 32) / value("hessian", 32), "≥ 20"),
        ("force constants of 256 atoms, CPU s", value("constants", 256), "≤ 30"),
        ("force constants of 256 atoms, GiB", value("constants", 256, "memory_gb"), "≤ 4"),
        ("Hessian-vector product in force calls, 32 atoms", value("hvp", 32) / forces, "≤ 3"),
        ("Hessian-vector product / force call, memory, 256 atoms",
         value("hvp", 256, "memory_gb") / value("forces", 256, "memory_gb"), "≤ 3"),
        ("force call per atom, 500 / 32 atoms", value("forces", 500) / 500 / (forces / 32), "≤ 1.2"),
        ("forces of 32 atoms: MACE / ours", value("mace-forces", 32) / forces, ""),
        ("force constants of 256 atoms: phonopy differences / ours",
         value("differences", 256) / value("constants", 256), ""),
        ("H3S 2×2×2 force constants: MACE's force call × displacements of phonopy / ours",
         value("mace-forces", 32) * value("differences", 32, "calls") / value("constants", 32), ""),
        ("third order of H3S 2×2×2, in force calls (phono3py displaces 146 or 292 cells)",
         value("third", 32) / forces, ""),
        ("dense Hessian of 32 atoms: differences / ours",
         value("difference-hessian", 32) / value("hessian", 32), ""),
    ]  # fmt: skip


def table(found: dict[str, dict[str, Any]]) -> str:
    """CPU seconds and GiB of every task, and the ratios, in Markdown."""
    head = ["CPU s · GiB", *(f"{n} atoms" for n in ALL)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, result in found.items():
        cells = {
            row["atoms"]: f"{row['cpu_s']:.3g} · {max(row['memory_gb'], 0.0):.2f}"
            + (f" ({row['products']} products)" if "products" in row else "")
            + (f" ({row['calls']} calls)" if "calls" in row else "")
            for row in result["rows"]
        }
        lines.append("| " + " | ".join([TASKS[name][2], *(cells.get(n, "—") for n in ALL)]) + " |")
    lines += ["", "| figure | measured | aim |", "|---|---|---|"]
    lines += [f"| {what} | {value:.3g} | {aim} |" for what, value, aim in ratios(found)]
    return "\n".join(lines)


def draw(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Cost and memory against the number of atoms, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.2), layout="constrained")
    time, memory = figure.subplots(1, 2)
    colours = {"forces": "C0", "hvp": "C2", "hessian": "C3", "constants": "C1", "differences": "C4"}
    for name, result in found.items():
        kind = name.removeprefix("mace-")
        if kind not in colours:
            continue
        atoms = [row["atoms"] for row in result["rows"]]
        style = {"marker": "s", "linestyle": "--"} if name != kind else {"marker": "o", "linestyle": "-"}
        style |= {"color": colours[kind], "label": TASKS[name][2]}
        time.loglog(atoms, [row["cpu_s"] for row in result["rows"]], **style)
        memory.loglog(atoms, [max(row["memory_gb"], 1e-3) for row in result["rows"]], **style)
    for axes, title in ((time, "CPU seconds, one thread"), (memory, "memory, GiB")):
        axes.set_xlabel("atoms")
        axes.set_ylabel(title)
        axes.set_xticks(ALL, [str(n) for n in ALL])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.legend(*time.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    figure.suptitle("Im-3m H$_3$S, float64: solid Hi-MLIP, dashed MACE")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mace-python", type=Path, help="interpreter that has mace-torch")
    parser.add_argument("--model", help="Hi-MLIP model, name or path; by default the bundled one")
    parser.add_argument(
        "--out", type=Path, default=Path("curvature"), help="files .json, .md, .png; replaced"
    )
    parser.add_argument("--only", nargs="+", choices=list(TASKS), help="these tasks; the others from --out")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--sizes", type=int, nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        himlip_side(arguments.measure, arguments.sizes, arguments.model)
        return
    found: dict[str, dict[str, Any]] = {}
    if arguments.only and arguments.out.with_suffix(".json").exists():
        found = json.loads(arguments.out.with_suffix(".json").read_text(encoding="utf-8"))["tasks"]
    for name in arguments.only or TASKS:
        result = run_task(name, arguments.mace_python, arguments.model)
        if result is not None:
            found[name] = result
    found = {name: found[name] for name in TASKS if name in found}
    write(found, arguments.out)


def write(found: dict[str, dict[str, Any]], out: Path) -> None:
    """The table on the screen, and everything on disk."""
    import torch

    text = table(found)
    print(text)
    out.parent.mkdir(parents=True, exist_ok=True)
    parameters = {name: result["about"]["parameters"] for name, result in found.items()}
    data = {
        "schema": 1,
        "what": "CPU seconds (one thread, float64) and memory growth in GiB; Im-3m H3S",
        "machine": {
            "processor": platform.machine(), "torch": torch.__version__, "python": sys.version.split()[0],
        },
        "parameters": parameters,
        "tasks": found,
        "figures": [{"what": what, "value": value, "aim": aim} for what, value, aim in ratios(found)],
    }  # fmt: skip
    out.with_suffix(".json").write_text(
        json.dumps(data, indent=1, ensure_ascii=False).replace("NaN", "null") + "\n", encoding="utf-8"
    )
    about = (__doc__ or "").strip()
    out.with_suffix(".md").write_text(f"# Curvature\n\n{about}\n\n{text}\n", encoding="utf-8")
    draw(found, out.with_suffix(".png"))


if __name__ == "__main__":
    main()
