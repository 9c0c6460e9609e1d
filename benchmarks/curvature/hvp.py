"""Ways to a Hessian-vector product, side by side: time and memory against a force call, and their deviation.

Rattled supercells of H3S, float64, one thread. The first two rows of each size are calls as a user makes
them, neighbour list included; the others leave the list out and are compared with a force call without it.
"products" are taken together for the same structure, and the cost is that of each.

    python -m benchmarks.curvature.hvp --compile --out benchmarks/results/curvature_hvp.json

--compile adds torch.compile (minutes). Sizes that are not measured keep their rows in an existing file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor

from benchmarks.curvature.measure import cpu_seconds, peak_megabytes
from benchmarks.curvature.plain_operations import plain_operations
from benchmarks.curvature.supercells import supercell
from himlip_ase.potential.checkpoint import load_model
from himlip_ase.potential.compiled import CompiledProduct
from himlip_ase.potential.derivatives import energy_forces_stress, hessian_vector_product
from himlip_ase.potential.evaluate import evaluate, frozen
from himlip_ase.potential.graph import Graph, build_graph
from himlip_ase.potential.network import HiMLIP

SIZES = (4, 32, 256)
MANY = {4: 12, 32: 12, 256: 3}

Way = Callable[[HiMLIP, Graph, Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """Cost of one way to a product."""

    atoms: int
    way: str
    products: int
    ms_per_product: float
    force_calls: float
    peak_mb: float
    force_memories: float
    deviation: float

    def __str__(self) -> str:
        return (
            f"{self.atoms:>5} {self.way:<50}{self.products:>4}{self.ms_per_product:>10.2f}"
            f"{self.force_calls:>8.2f}{self.peak_mb:>10.1f}{self.force_memories:>8.2f}{self.deviation:>10.1e}"
        )


def gradient(model: HiMLIP, graph: Graph, positions: Tensor) -> Tensor:
    """∂E/∂x as a function, for the function transforms."""
    return torch.func.grad(lambda x: model(replace(graph, positions=x)).sum())(positions)


def tangent(model: HiMLIP, graph: Graph, vector: Tensor) -> Tensor:
    """Forward over reverse: the tangent of the gradient."""
    return torch.func.jvp(lambda x: gradient(model, graph, x), (graph.positions,), (vector,))[1]


def forward_over_reverse(model: HiMLIP, graph: Graph, vectors: Tensor) -> Tensor:
    """One vector after another."""
    with plain_operations():
        return torch.stack([tangent(model, graph, v) for v in vectors])


def forward_over_reverse_batched(model: HiMLIP, graph: Graph, vectors: Tensor) -> Tensor:
    """Vectorised over the vectors."""
    with plain_operations():
        return torch.vmap(lambda v: tangent(model, graph, v))(vectors)


def reverse_over_reverse_plain(model: HiMLIP, graph: Graph, vectors: Tensor) -> Tensor:
    """As the package does it, but without derivatives that are written down."""
    with plain_operations():
        return hessian_vector_product(model, graph, vectors)


def from_scratch(model: HiMLIP, graph: Graph, vectors: Tensor) -> Tensor:
    """Everything anew for each vector."""
    return torch.stack([hessian_vector_product(model, graph, v) for v in vectors])


def replicated(model: HiMLIP, graph: Graph, vectors: Tensor) -> Tensor:
    """A batch of copies of the structure."""
    batch = graph.replicate(len(vectors))
    return hessian_vector_product(model, batch, vectors.reshape(-1, 3)).reshape(vectors.shape)


WAYS: dict[str, Way] = {
    "reverse over reverse, recorded gradient (used)": hessian_vector_product,
    "reverse over reverse, from scratch": from_scratch,
    "reverse over reverse, copies of the structure": replicated,
    "reverse over reverse, plain operations": reverse_over_reverse_plain,
    "forward over reverse, plain operations": forward_over_reverse,
    "forward over reverse, vectorised, plain": forward_over_reverse_batched,
}


def measure(model: HiMLIP, n_atoms: int, compile_too: bool) -> list[Row]:
    """All ways at one size."""
    atoms = supercell(n_atoms)
    graph = build_graph(atoms, model.elements, model.cutoff)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(MANY[n_atoms], n_atoms, 3, dtype=torch.float64, generator=generator)
    reference = from_scratch(model, graph, vectors)
    repeats = 8 if n_atoms < 256 else 5

    def rows_of(
        name: str, way: Callable[[Tensor], Tensor], counts: tuple[int, ...], force: Callable
    ) -> list[Row]:
        rows = []
        for count in counts:
            # The two are measured in turn, because machines change their pace.
            taken = [
                (cpu_seconds(force, 1), cpu_seconds(lambda count=count: way(vectors[:count]), 1) / count)
                for _ in range(repeats if count == 1 else 2)
            ]
            force_seconds, seconds = map(min, zip(*taken, strict=True))
            megabytes = peak_megabytes(lambda count=count: way(vectors[:count]))
            memories, calls = megabytes / peak_megabytes(force), seconds / force_seconds
            deviation = float((way(vectors[:count]) - reference[:count]).abs().max())
            rows.append(Row(n_atoms, name, count, 1000 * seconds, calls, megabytes, memories, deviation))
            print(rows[-1], flush=True)
        return rows

    def force_call() -> None:
        evaluate(model, atoms, stress=False)

    def force_without_list() -> None:
        energy_forces_stress(model, graph, stress=False)

    def product_call(chosen: Tensor) -> Tensor:
        return hessian_vector_product(model, build_graph(atoms, model.elements, model.cutoff), chosen)

    seconds, megabytes = cpu_seconds(force_call, repeats), peak_megabytes(force_call)
    rows = [Row(n_atoms, "a force call", 0, 1000 * seconds, 1.0, megabytes, 1.0, 0.0)]
    rows += rows_of("a product", product_call, (1,), force_call)
    for name, way in WAYS.items():
        counts = (1, len(vectors))
        rows += rows_of(name, lambda chosen, way=way: way(model, graph, chosen), counts, force_without_list)
    if compile_too:
        start = time.perf_counter()
        compiled = CompiledProduct(model, graph)
        name = f"reverse over reverse, compiled in {time.perf_counter() - start:.0f} s"
        rows += rows_of(
            name, lambda v: torch.stack([compiled(graph, x) for x in v]), (1,), force_without_list
        )
    return rows


def markdown(rows: list[Row]) -> str:
    """The table of the results page."""
    lines = [
        "# Ways to a Hessian-vector product",
        "",
        "`python -m benchmarks.curvature.hvp --compile --out benchmarks/results/curvature_hvp.json`: H3S, "
        "float64, one thread. CPU time and peak memory, also in units of a force call of the same run; the "
        "first two rows of each size include the neighbour list, the others and their force call do not. "
        "Deviation from products from scratch in eV/Å².",
        "",
        "| atoms | way | products | ms each | force calls | peak MB | force-call memories | deviation |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.atoms} | {row.way} | {row.products or ''} | {row.ms_per_product:.2f} "
            f"| {row.force_calls:.2f} | {row.peak_mb:.1f} | {row.force_memories:.2f} | {row.deviation:.1e} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="Hi-MLIP model, name or path; the default model without it")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--compile", action="store_true", help="also torch.compile, at 32 atoms")
    parser.add_argument("--out", type=Path, help="JSON file, with a .md beside it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(arguments.model)
    rows: list[Row] = []
    with frozen(model):
        for n_atoms in arguments.sizes:
            rows += measure(model, n_atoms, arguments.compile and n_atoms == 32)
    if arguments.out:
        if arguments.out.exists():
            known = [Row(**row) for row in json.loads(arguments.out.read_text(encoding="utf-8"))["rows"]]
            rows += [row for row in known if row.atoms not in arguments.sizes]
            rows.sort(key=lambda row: row.atoms)
        machine = {
            "processor": platform.machine(),
            "torch": torch.__version__,
            "python": sys.version.split()[0],
        }
        report = {"schema": 1, "machine": machine, "rows": [asdict(row) for row in rows]}
        arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        arguments.out.with_suffix(".md").write_text(markdown(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
