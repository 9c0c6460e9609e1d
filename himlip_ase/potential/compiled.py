"""Hessian-vector products compiled to machine code, for many products at one size of structure.

`torch.compile` cannot differentiate twice, but the steps of a product can be written out first and compiled
then. That takes about a minute and a C++ compiler, and holds for one number of atoms and neighbours.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import replace

import torch
from torch import Tensor

from himlip_ase.errors import InputError
from himlip_ase.potential.blocks import without_blocks
from himlip_ase.potential.graph import Graph, widened
from himlip_ase.potential.network import HiMLIP

logger = logging.getLogger(__name__)


class CompiledProduct:
    """Products of the Hessian with one vector at a time.

    Parameters
    ----------
    model : HiMLIP
        Its weights are copied.
    graph : Graph
        Sets the number of atoms and structures, and the largest number of neighbours.

    Attributes
    ----------
    compiled : bool
        False where there is no working compiler: the written-out steps are then run as they are, which gives
        the same values and is logged as a warning.
    """

    def __init__(self, model: HiMLIP, graph: Graph) -> None:
        from torch.fx.experimental.proxy_tensor import make_fx

        if not isinstance(model, HiMLIP):
            raise InputError(
                f"products of a {type(model).__name__} are not compiled, those of a Hi-MLIP are: give its "
                "network, or call hessian_products"
            )
        self._model = copy.deepcopy(model).requires_grad_(False)
        self._graph = graph
        example = (*self._tensors(graph), torch.zeros_like(graph.positions))
        with without_blocks():
            steps = make_fx(lambda *tensors: self._product(*tensors))(*example)
        steps.graph.eliminate_dead_code()
        steps.recompile()
        self._run = torch.compile(steps, dynamic=False)
        self.compiled = True
        try:
            self._run(*example)
        except Exception as error:  # whatever a missing or broken compiler raises
            logger.warning("products cannot be compiled here and run uncompiled: %s", str(error)[:300])
            self._run = steps
            self.compiled = False

    def __call__(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Product with `vectors` (N, 3), in eV/Å² times their unit.

        Raises
        ------
        InputError
            Another number of atoms or structures, or more neighbours, than what was compiled for.
        """
        n_atoms, width = self._graph.neighbours.shape
        atoms, neighbours = graph.neighbours.shape
        if atoms != n_atoms or graph.n_frames != self._graph.n_frames or neighbours > width:
            raise InputError(
                f"compiled for {n_atoms} atoms with up to {width} neighbours in {self._graph.n_frames} "
                f"structures, got {atoms} with {neighbours} in {graph.n_frames}; make another CompiledProduct"
            )
        return self._run(*self._tensors(widened(graph, width)), vectors.to(graph.positions))

    @staticmethod
    def _tensors(graph: Graph) -> tuple[Tensor, ...]:
        return graph.positions, graph.species, graph.frame, graph.neighbours, graph.offsets, graph.reverse

    def _product(
        self,
        positions: Tensor,
        species: Tensor,
        frame: Tensor,
        neighbours: Tensor,
        offsets: Tensor,
        reverse: Tensor,
        vectors: Tensor,
    ) -> Tensor:
        moved = positions.detach().requires_grad_(True)
        graph = replace(
            self._graph,
            positions=moved,
            species=species,
            frame=frame,
            neighbours=neighbours,
            offsets=offsets,
            reverse=reverse,
        )
        with torch.enable_grad():
            energies = self._model(graph)
            (gradient,) = torch.autograd.grad(energies.sum(), moved, create_graph=True)
            (product,) = torch.autograd.grad((gradient * vectors).sum(), moved)
        return product
