"""Ways to a Hessian-vector product, side by side: time and memory against a force call, and their deviation.

Rattled supercells of H3S, float64, one thread, one process. The neighbour list is not part of any figure; "one
product" is what a single product costs, "of many" what each of a dozen of the same structure costs.

    python benchmarks/curvature/hvp.py --out benchmarks/results/curvature_hvp.json

--compile adds torch.compile (minutes).
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
from measure import cpu_seconds, peak_megabytes
from plain_operations import plain_operations
from structures import supercell
from torch import Tensor

from himlip_ase.potential.checkpoint import load_model
from himlip_ase.potential.derivatives import energy_forces_stress, hessian_vector_product
from himlip_ase.potential.evaluate import frozen
from himlip_ase.potential.graph import Graph, build_graph
from himlip_ase.potential.network import HiMLIP

SIZES = (4, 32, 256)
MANY = 12


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


def gradient(model: HiMLIP, graph: Graph, positions: Tensor) -> Tensor:
    """∂E/∂x as a function, for the function transforms."""
    return torch.func.grad(lambda x: model(replace(graph, positions=x)).sum())(positions)


def forward_over_reverse(model: HiMLIP, graph: Graph, vectors: Tensor) -> Tensor:
    """Tangents of the gradient, one vector after another."""
    with plain_operations():
        return torch.stack(
            [
                torch.func.jvp(lambda x: gradient(model, graph, x), (graph.positions,), (v,))[1]
                for v in vectors
            ]
        )


def forward_over_reverse_batched(model: HiMLIP, graph: Graph, vectors: Tensor) -> Tensor:
    """Tangents of the gradient, vectorised over the vectors."""
    with plain_operations():
        return torch.vmap(
            lambda v: torch.func.jvp(lambda x: gradient(model, graph, x), (graph.positions,), (v,))[1]
        )(vectors)


def reverse_over_reverse_plain(model: HiMLIP, graph: Graph, vectors: Tensor) -> Tensor:
    """As the package does it, but without derivatives that are written down."""
    with plain_operations():
        return hessian_vector_product(model, graph, vectors)


def from_scratch(model: HiMLIP, graph: Graph, vectors: Tensor) -> Tensor:
    """Reverse over reverse, everything anew for each vector."""
    return torch.stack([hessian_vector_product(model, graph, v) for v in vectors])


def replicated(model: HiMLIP, graph: Graph, vectors: Tensor) -> Tensor:
    """Reverse over reverse of a batch of copies of the structure."""
    batch = graph.replicate(len(vectors))
    return hessian_vector_product(model, batch, vectors.reshape(-1, 3)).reshape(vectors.shape)


WAYS: dict[str, Callable[[HiMLIP, Graph, Tensor], Tensor]] = {
    "reverse over reverse, recorded gradient (used)": hessian_vector_product,
    "reverse over reverse, from scratch": from_scratch,
    "reverse over reverse, copies of the structure": replicated,
    "reverse over reverse, plain operations": reverse_over_reverse_plain,
    "forward over reverse, plain operations": forward_over_reverse,
    "forward over reverse, vectorised, plain": forward_over_reverse_batched,
}


def measure(model: HiMLIP, n_atoms: int, compile_too: bool) -> list[Row]:
    """All ways at one size, the force call first."""
    graph = build_graph(supercell(n_atoms), model.elements, model.cutoff)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(MANY, n_atoms, 3, dtype=torch.float64, generator=generator)
    reference = from_scratch(model, graph, vectors)

    def force_call() -> None:
        energy_forces_stress(model, graph, stress=False)

    force_seconds, force_mb = cpu_seconds(force_call, 5), peak_megabytes(force_call)
    rows = [Row(n_atoms, "force call", 0, 1000 * force_seconds, 1.0, force_mb, 1.0, 0.0)]
    ways = dict(WAYS)
    if compile_too:
        ways[f"compiled ({compile_seconds(model, graph, ways):.0f} s to compile)"] = ways.pop("compiled")
    for name, way in ways.items():
        for count in (1, MANY):
            chosen = vectors[:count]

            def call(way: Callable = way, chosen: Tensor = chosen) -> Tensor:
                return way(model, graph, chosen)

            seconds = cpu_seconds(call, 3 if n_atoms < 256 else 1) / count
            megabytes = peak_megabytes(call)
            deviation = float((call() - reference[:count]).abs().max())
            rows.append(
                Row(
                    n_atoms,
                    name,
                    count,
                    1000 * seconds,
                    seconds / force_seconds,
                    megabytes,
                    megabytes / force_mb,
                    deviation,
                )  # fmt: skip
            )
            print(line(rows[-1]), flush=True)
    return rows


def compile_seconds(model: HiMLIP, graph: Graph, ways: dict) -> float:
    """Add the compiled product to the ways; the time that it took."""
    from himlip_ase.potential.compiled import CompiledProduct

    start = time.perf_counter()
    product = CompiledProduct(model, graph)
    ways["compiled"] = lambda model, graph, vectors: torch.stack([product(graph, v) for v in vectors])
    return time.perf_counter() - start


def line(row: Row) -> str:
    """A row as text."""
    return (
        f"{row.atoms:>5} {row.way:<52}{row.products:>4}{row.ms_per_product:>10.2f}{row.force_calls:>8.2f}"
        f"{row.peak_mb:>10.1f}{row.force_memories:>8.2f}{row.deviation:>10.1e}"
    )


def markdown(rows: list[Row]) -> str:
    """The table of the results page."""
    lines = [
        "# Ways to a Hessian-vector product",
        "",
        "`python benchmarks/curvature/hvp.py --compile --out benchmarks/results/curvature_hvp.json`: H3S, float64, "
        "one thread; CPU time and peak memory against a force call of the same run; deviation in eV/Å².",
        "",
        "| atoms | way | products | ms each | force calls | peak MB | force-call memories | deviation |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.atoms} | {row.way} | {row.products or ''} | {row.ms_per_product:.2f} | {row.force_calls:.2f} "
            f"| {row.peak_mb:.1f} | {row.force_memories:.2f} | {row.deviation:.1e} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="Hi-MLIP model, name or path; the default model without it")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--compile", action="store_true", help="also torch.compile, at 32 atoms")
    parser.add_argument("--out", type=Path, help="JSON file, replaced, with a .md beside it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(arguments.model)
    rows = []
    with frozen(model):
        for n_atoms in arguments.sizes:
            rows += measure(model, n_atoms, arguments.compile and n_atoms == 32)
    print("\n".join(line(row) for row in rows))
    if arguments.out:
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
