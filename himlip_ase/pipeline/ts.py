"""``himlip ts``: transition states of many reactions in one folder, each finished one kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import CalculationError, InputError, NotConvergedError
from himlip_ase.files import FolderLock, read_mapping, write_json
from himlip_ase.pipeline.runfolder import hash_inputs, versions
from himlip_ase.pipeline.ts_config import Pair, ReactionsConfig
from himlip_ase.pipeline.ts_report import write_overview, write_reaction_report
from himlip_ase.reactions.alignment import check_ends
from himlip_ase.reactions.atom_order import reordered
from himlip_ase.reactions.driven_ends import driven_product
from himlip_ase.reactions.free_energies import ReactionGibbs, Species
from himlip_ase.reactions.gibbs_uncertainty import gibbs_uncertainty
from himlip_ase.reactions.minimum import find_minimum
from himlip_ase.reactions.reaction_files import reaction_as_dict, write_reaction, write_species
from himlip_ase.reactions.saddle import SaddleSettings, find_saddle
from himlip_ase.reactions.search import Reaction, find_reaction
from himlip_ase.reactions.surface import Surface
from himlip_ase.structures import read_structure
from himlip_ase.vibrations.gibbs import Conventions

logger = logging.getLogger(__name__)

TEMPERATURES = (200.0, 250.0, 298.15, 350.0, 400.0, 500.0, 600.0, 800.0, 1000.0)
"""K; of the temperature curve."""

TYPICAL_GRADIENTS, TYPICAL_HESSIANS = 180, 28
"""What a reaction of up to a dozen atoms takes (benchmarks/reactions)."""

Progress = Callable[[str, str, int], None]


@dataclass(frozen=True)
class Cost:
    """What a run will take.

    Attributes
    ----------
    reactions : int
    gradient_seconds, hessian_seconds : float
        Measured on the first reactant, CPU seconds.
    """

    reactions: int
    gradient_seconds: float
    hessian_seconds: float

    @property
    def seconds(self) -> float:
        """All reactions together, CPU seconds."""
        each = TYPICAL_GRADIENTS * self.gradient_seconds + TYPICAL_HESSIANS * self.hessian_seconds
        return self.reactions * each

    def __str__(self) -> str:
        return (
            f"{self.reactions} reaction{'s' if self.reactions > 1 else ''}, about {TYPICAL_GRADIENTS} "
            f"gradients and {TYPICAL_HESSIANS} Hessians each; {1000 * self.gradient_seconds:.3g} ms a "
            f"gradient and {self.hessian_seconds:.2g} s a Hessian of the first: about {self.seconds:.0f} CPU "
            "seconds"
        )


def estimated_cost(pairs: Sequence[Pair], calculator: Any) -> Cost:
    """Time one gradient and one Hessian.

    Parameters
    ----------
    pairs : sequence of Pair
    calculator : object
        See `himlip_ase.reactions.surface.Surface`.

    Returns
    -------
    Cost
    """
    atoms = pairs[0].reactant
    surface = Surface(atoms, calculator)
    where = atoms.positions.ravel()
    surface.evaluate(where)
    begun = time.process_time()
    surface.evaluate(where + 1e-3)
    gradient = time.process_time() - begun
    begun = time.process_time()
    surface.hessian(where)
    return Cost(len(pairs), gradient, time.process_time() - begun)


def search_reactions(
    pairs: Sequence[Pair],
    calculator: Any,
    out: Path,
    config: ReactionsConfig,
    resume: bool = False,
    overwrite: bool = False,
    on_part: Progress | None = None,
) -> list[dict[str, Any]]:
    """Search the transition state of each pair.

    One pair is written into `out` itself, several into a subfolder each, with an overview in `out`.

    Parameters
    ----------
    pairs : sequence of Pair
    calculator : object
        See `himlip_ase.reactions.surface.Surface`.
    out : Path
    config : ReactionsConfig
    resume : bool
        Keep finished reactions.
    overwrite : bool
        Begin again, replacing what is there.
    on_part : callable, optional
        Called with the name of a reaction, of the part that begins, and the number of reactions finished.

    Returns
    -------
    list of dict
        ``result.json`` of each.

    Raises
    ------
    InputError
        Ends that do not belong together; results that are there already, or of other inputs.
    """
    pairs = [_checked_ends(pair, config.reorder) for pair in pairs]
    folders = [out] if len(pairs) == 1 else [out / pair.name for pair in pairs]
    digests = [_digest(pair, config) for pair in pairs]
    results = []
    with FolderLock(out):
        _check_folders(folders, digests, resume, overwrite)
        for number, (pair, folder, digest) in enumerate(zip(pairs, folders, digests, strict=True)):
            finished = folder / "result.json"
            if resume and finished.is_file():
                results.append(read_mapping(finished))
                continue
            part = None if on_part is None else _reporter(on_part, pair.name, number)
            results.append(_search_one(pair, calculator, folder, config, digest, part))
        if len(pairs) > 1:
            write_overview(out, results)
    return results


def gibbs_of_reaction(
    reaction: Reaction, surface: Surface, conventions: Conventions, tunnelling: str
) -> ReactionGibbs:
    """Free energies along a reaction that was found; Hessians of both ends are calculated.

    Parameters
    ----------
    reaction : Reaction
        With ends and a saddle.
    surface : Surface
    conventions : Conventions
    tunnelling : str

    Returns
    -------
    ReactionGibbs
        Reactant and product are one molecule (or complex) each.
    """
    if reaction.reactant is None or reaction.product is None or reaction.saddle is None:
        raise InputError("free energies need both ends and a transition state")
    ends = []
    for name, end in (("reactant", reaction.reactant), ("product", reaction.product)):
        hessian = surface.hessian(end.atoms.positions.ravel())
        ends.append(Species(name, end.atoms, end.energy, hessian))
    saddle = reaction.saddle
    if saddle.hessian is None:
        raise InputError("the transition state came without its Hessian; raise saddle.large_system")
    state = Species("transition_state", saddle.atoms, saddle.energy, saddle.hessian, 1)
    return ReactionGibbs(conventions, (ends[0],), (ends[1],), state, tunnelling)


def gibbs_as_dict(gibbs: ReactionGibbs, calculator: Any, name: str) -> dict[str, Any]:
    """Free energies with the temperature curve, and how sure the potential is of them.

    Parameters
    ----------
    gibbs : ReactionGibbs
    calculator : object
        With which `gibbs` was found; one without a posterior gives no standard deviations.
    name : str
        As typed.

    Returns
    -------
    dict
        That of `ReactionGibbs.as_dict`, with "uncertainty" (eV, or None) and "uncertainty_missing".
    """
    spread = gibbs_uncertainty(gibbs, calculator)
    return {
        **gibbs.as_dict(TEMPERATURES),
        "uncertainty": None if spread is None else spread.as_dict(),
        "uncertainty_missing": "" if spread is not None else f"{name} has no posterior",
    }


def species_of_file(path: Path, calculator: Any, fmax: float, saddle: int = 0) -> Species:
    """A molecule in a file, relaxed (or refined as a saddle), with its Hessian.

    Parameters
    ----------
    path : Path
    calculator : object
        See `himlip_ase.reactions.surface.Surface`.
    fmax : float
        eV/Å.
    saddle : int
        1 for a transition state.

    Returns
    -------
    Species
        Named as the file.

    Raises
    ------
    NotConvergedError
        No stationary point near the structure.
    """
    atoms = read_structure(path)
    surface = Surface(atoms, calculator)
    if saddle:
        found = find_saddle(atoms, surface, settings=SaddleSettings(fmax=fmax))
        if not found.converged or found.hessian is None:
            raise NotConvergedError(
                f"{path}: no saddle point within {found.steps} steps; search it: himlip ts"
            )
        return Species(path.stem, found.atoms, found.energy, found.hessian, saddle)
    minimum = find_minimum(surface, atoms.positions.ravel(), fmax)
    hessian = surface.hessian(minimum.atoms.positions.ravel())
    return Species(path.stem, minimum.atoms, minimum.energy, hessian)


def _checked_ends(pair: Pair, reorder: bool) -> Pair:
    """The pair, its product's atoms put in the reactant's order if that is wished."""
    if pair.product is None:
        return pair
    try:
        product = reordered(pair.reactant, pair.product) if reorder else pair.product
        check_ends(pair.reactant, product)
    except InputError as error:
        raise InputError(f"reaction {pair.name}: {error}") from error
    return replace(pair, product=product)


def _search_one(
    pair: Pair,
    calculator: Any,
    folder: Path,
    config: ReactionsConfig,
    digest: str,
    on_part: Callable[[str], None] | None,
) -> dict[str, Any]:
    reactant, product = pair.reactant, pair.product
    try:
        if product is None:
            reactant, product = _driven(pair, calculator, config)
    except CalculationError as error:
        raise CalculationError(f"reaction {pair.name}: {error}") from error
    found = find_reaction(reactant, product, calculator, config.search, on_part)
    folder.mkdir(parents=True, exist_ok=True)
    write_reaction(folder, found, overwrite=True)
    gibbs, why = _gibbs(found, calculator, folder, config)
    result = {
        "name": pair.name,
        **reaction_as_dict(found),
        "gibbs": None if gibbs is None else gibbs_as_dict(gibbs, calculator, config.calculator),
        "gibbs_missing": why,
        "calculator": config.calculator,
        "settings": config.model_dump(mode="json", exclude={"reactions"}),
        "calculator_settings": getattr(calculator, "settings", None) or _parameters(calculator),
        "versions": versions("tblite", "pyscf", "mace-torch", "msc-alphanet"),
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "inputs": digest,
    }
    write_reaction_report(folder, result, found, gibbs)
    write_json(folder / "result.json", result, overwrite=True)  # last: it says that all is there
    logger.info("%s: %s (%s)", pair.name, result["verdict"], result["reason"])
    return result


def _gibbs(
    found: Reaction, calculator: Any, folder: Path, config: ReactionsConfig
) -> tuple[ReactionGibbs | None, str]:
    """Free energies, or None and why there are none."""
    if not config.gibbs:
        return None, "not asked for"
    if not found.judgement.reactbench["ts_valid"] or found.saddle is None:
        return None, f"no transition state: {found.judgement.verdict.value}"
    atoms: Atoms = found.saddle.atoms
    if atoms.pbc.any() or atoms.constraints:
        return None, "no ideal gas: the structure is periodic or held by constraints"
    try:
        surface = Surface(atoms, calculator)
        gibbs = gibbs_of_reaction(found, surface, config.conventions, config.tunnelling)
        write_species(
            folder,
            [
                *gibbs.reactants,
                *([gibbs.transition_state] if gibbs.transition_state else []),
                *gibbs.products,
            ],
            overwrite=True,
        )
        gibbs.as_dict()
        return gibbs, ""
    except (InputError, CalculationError) as error:
        return None, str(error)


def _parameters(calculator: Any) -> dict[str, str]:
    """Parameters of an ASE calculator, as text."""
    return {key: str(value) for key, value in getattr(calculator, "parameters", {}).items()}


def _driven(pair: Pair, calculator: Any, config: ReactionsConfig) -> tuple[Atoms, Atoms]:
    """Relaxed reactant, and the product made from it."""
    surface = Surface(pair.reactant, calculator)
    reactant = find_minimum(surface, pair.reactant.positions.ravel(), config.relax_fmax).atoms
    product = driven_product(reactant, surface, pair.form, pair.break_, config.relax_fmax)
    return reactant, product.atoms


def _reporter(on_part: Progress, name: str, number: int) -> Callable[[str], None]:
    return lambda part: on_part(name, part, number)


def _digest(pair: Pair, config: ReactionsConfig) -> str:
    ends = [pair.reactant] + ([] if pair.product is None else [pair.product])
    structures = [
        [atoms.numbers.tolist(), np.round(atoms.positions, 8).tolist(), atoms.cell.array.tolist(),
         atoms.pbc.tolist(), [constraint.todict() for constraint in atoms.constraints]]
        for atoms in ends
    ]  # fmt: skip
    settings = config.model_dump(mode="json", exclude={"reactions", "reorder"})  # the structures show it
    return hash_inputs(repr(structures), repr(settings), repr((pair.form, pair.break_)))


def _check_folders(folders: Sequence[Path], digests: Sequence[str], resume: bool, overwrite: bool) -> None:
    for folder, digest in zip(folders, digests, strict=True):
        result = folder / "result.json"
        if not result.is_file():
            continue
        if overwrite:
            result.unlink()
        elif not resume:
            raise InputError(
                f"{folder} holds a result; continue with --resume, or replace it with --overwrite"
            )
        elif read_mapping(result).get("inputs") != digest:
            raise InputError(
                f"{folder} holds the result of other structures or settings; choose another --out, or "
                "--overwrite"
            )
