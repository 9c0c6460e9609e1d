"""The model that a training starts from, with the energies of the elements fitted to its labels."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from himlip_ase.hint.training.batches import FrameStore
from himlip_ase.hint.training.input_statistics import InputStatistics, typical_frames
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.programs import with_one_zero
from himlip_ase.potential.interface import Potential
from himlip_ase.potential.lattice_potential import network_of
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig, element_union

logger = logging.getLogger(__name__)

FROM_SCRATCH = "from scratch"
"""Origin of a model with fresh weights."""

REFERENCE_FRAMES = 20_000
"""Frames to which the energies of the elements are fitted; of more, so many are chosen at random."""


@dataclass(frozen=True)
class Start:
    """Where a training starts.

    Attributes
    ----------
    model : Potential
        In double precision, on the CPU.
    origin : str
        Where it came from.
    store : FrameStore or None
        The frames with their graphs; None if there are none.
    statistics : InputStatistics or None
        Of a network from scratch.
    chosen : tuple of int or None
        Frames to which the energies of the elements were fitted; None: all.
    """

    model: Potential
    origin: str
    store: FrameStore | None
    statistics: InputStatistics | None
    chosen: tuple[int, ...] | None = None

    def refit_references(self, model: Potential, known: Mapping[str, float] | None = None) -> None:
        """Fit the energies of the elements of a model that was trained from here, as at the beginning.

        Parameters
        ----------
        model : Potential
            Stays where it is; the fit is done in the memory of the frames.
        known : mapping of str to float, optional
            As `fit_references`.
        """
        if self.store is None:
            return
        place = model.get_buffer("energy_shift").device
        fit_references(model.to("cpu"), self.store, chosen=self.chosen, known=known)
        model.to(place)


def start_training(
    frames: Sequence[LabelledFrame],
    elements: Sequence[Collection[str]],
    hessians: Sequence[HessianLabel],
    base: Potential | str | os.PathLike | None,
    network: HiMLIPConfig | None,
    settings: TrainingSettings,
    element_energies: Mapping[str, float] | None = None,
) -> Start:
    """Load or make the model, take its statistics, fit the energies of the elements.

    Parameters
    ----------
    frames : sequence of LabelledFrame
        To learn from.
    elements : sequence of collections of str
        Chemical symbols of each of them.
    hessians : sequence of HessianLabel
        Those without a frame, whose elements count too.
    base : Potential or name or path, or None
        One in memory stays as it is; None: from scratch.
    network : HiMLIPConfig or None
        Shape of a model from scratch; None: the default for the elements.
    settings : TrainingSettings
    element_energies : mapping of str to float, optional
        Energies of isolated atoms (eV), which are not fitted.

    Returns
    -------
    Start
    """
    model, origin, fresh = _model(elements, hessians, base, network, settings)
    if not len(frames):
        return Start(model, origin, None, None)
    store = FrameStore(frames, model, settings.loss)
    statistics = None
    if fresh is not None:
        statistics = InputStatistics(fresh, frames, settings.seed, elements)
        statistics()
    chosen = None
    if len(frames) > REFERENCE_FRAMES:
        chosen = tuple(sorted(typical_frames(elements, settings.seed, REFERENCE_FRAMES)))
    fit_references(model, store, scale=fresh is not None, chosen=chosen, known=element_energies)
    return Start(model, origin, store, statistics, chosen)


def start_model(
    frames: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel],
    base: Potential | str | os.PathLike | None,
    network: HiMLIPConfig | None,
    settings: TrainingSettings,
) -> tuple[Potential, str]:
    """The model of `start_training` and where it came from, for labels that were not surveyed.

    Parameters
    ----------
    frames, hessians, base, network, settings
        As `start_training`.

    Returns
    -------
    model : Potential
    origin : str
    """
    frames = with_one_zero(frames)
    elements = [set(frame.atoms.symbols) for frame in frames]
    found = start_training(frames, elements, hessians, base, network, settings)
    return found.model, found.origin


def _model(
    elements: Sequence[Collection[str]],
    hessians: Sequence[HessianLabel],
    base: Potential | str | os.PathLike | None,
    network: HiMLIPConfig | None,
    settings: TrainingSettings,
) -> tuple[Potential, str, HiMLIP | None]:
    """Model, origin, and the model once more if it is from scratch."""
    model: Potential
    fresh = None
    if base is None:
        if network is None:
            kinds = {symbol for kind in elements for symbol in kind}
            kinds |= {symbol for label in hessians for symbol in label.atoms.symbols}
            network = HiMLIPConfig(elements=element_union([sorted(kinds)]))
        model = fresh = HiMLIP(network, seed=settings.seed)
        origin = FROM_SCRATCH
    elif isinstance(base, torch.nn.Module):
        model = copy.deepcopy(base)
        origin = getattr(model, "loaded_from", "") or "a model in memory"
    else:
        from himlip_ase.potential.checkpoint import load_model

        model = load_model(base)
        origin = ", ".join([Path(base).name, *filter(None, [model.provenance.get("origin")])])
    model = without_remainder(model, origin).to(device="cpu", dtype=torch.float64)
    model.loaded_from = ""
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model, origin, fresh


def without_remainder(model: Potential, name: str) -> Potential:
    """The network of a model, which alone can learn; says so where a harmonic remainder is left out.

    Parameters
    ----------
    model : Potential
    name : str
        For the message.

    Returns
    -------
    Potential
    """
    network = network_of(model)
    if network is not model:
        logger.warning(
            "%s: its harmonic remainder is left out, which does not fit a network that learns further; "
            "`--remainder after` (finetune.remainder: true in a run) makes another",
            name,
        )
    return network


@torch.no_grad()
def fit_references(
    model: Potential,
    store: FrameStore,
    scale: bool = False,
    ridge: float = 1e-8,
    chosen: Sequence[int] | None = None,
    known: Mapping[str, float] | None = None,
) -> None:
    """Fit the energy that each element adds, by least squares on what the model misses.

    One crystal alone fixes only the sum over its atoms: the solution of least norm shares it out.

    Parameters
    ----------
    model : Potential
        `energy_shift` is changed in place, and with `scale` also `energy_scale`.
    store : FrameStore
    scale : bool
        Set the unit of the network's output to the spread of the remaining energies per atom.
    ridge : float
        Regularisation, relative to the counts.
    chosen : sequence of int, optional
        Frames that are fitted; all by default.
    known : mapping of str to float, optional
        Energies of isolated atoms, eV, which are taken as they are; the others are fitted to what they leave.
    """
    energies = model.get_buffer("energy_shift")
    given = torch.zeros(len(model.elements), dtype=torch.bool)
    for symbol, energy in (known or {}).items():
        if symbol in model.elements:
            energies[model.elements.index(symbol)] = energy
            given[model.elements.index(symbol)] = True
    rows, missing, weights = [], [], []
    for k in range(len(store)) if chosen is None else chosen:
        batch = store.item(k)
        if not bool(batch.energy_weights > 0):
            continue
        n = len(batch.graph.species)
        counts = torch.bincount(batch.graph.species, minlength=len(model.elements)).to(torch.float64)
        rows.append(counts / n)
        missing.append((batch.energies - model(batch.graph)) / n)
        weights.append(batch.energy_weights)
    if not rows:
        return
    a, b, w = torch.stack(rows), torch.cat(missing), torch.cat(weights).sqrt()
    a = a * ~given
    lhs = (a * w[:, None]).T @ (a * w[:, None])
    values, vectors = torch.linalg.eigh(lhs)
    keep = values > ridge * values.max()
    inverse = torch.where(keep, 1 / torch.where(keep, values, 1.0), 0.0)
    shift = vectors @ (inverse * (vectors.T @ (a.T @ (w**2 * b))))
    energies += shift.to(energies)
    if scale:
        rest = b - a @ shift
        spread = ((w**2 * rest**2).sum() / (w**2).sum()).sqrt()
        model.get_buffer("energy_scale").fill_(float(spread.clamp(0.05, 2.0)))
    of = zip(model.elements, energies.tolist(), torch.stack(rows).any(0).tolist(), strict=True)
    logger.info("energies of the elements: %s", ", ".join(f"{e} {x:.3f} eV" for e, x, met in of if met))
