"""Errors of a potential on labelled structures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import Any

import numpy as np
import torch

from himlip_ase.evaluation import matrix_from_voigt
from himlip_ase.hint.evaluation.error_summary import ErrorSummary, Mean, RunningErrors
from himlip_ase.hint.evaluation.hessian_errors import HessianErrors, hessian_errors, means
from himlip_ase.hint.evaluation.horm_metrics import HormErrors
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.products import HessianProducts
from himlip_ase.potential.derivatives import energy_forces_stress, hessian_vector_product
from himlip_ase.potential.evaluate import frozen
from himlip_ase.potential.graph import build_graph
from himlip_ase.potential.interface import Potential

DRAWN = ("pairs", "elements")
"""Fields for parity plots, which are not written as JSON."""
MOST_FRAMES = 4000
"""Frames, chosen at random, whose errors a report gives."""
MOST_HESSIANS = 50
"""The same of Hessians; also how many it names."""


@dataclass
class SetErrors:
    """Errors on one set of frames and the pairs behind them.

    Attributes
    ----------
    energy : ErrorSummary or None
        Per atom, eV.
    relative_energy : ErrorSummary or None
        Per atom, eV, after the mean error of the set is removed (a crystal feels differences of energy only).
    forces : ErrorSummary or None
        Components, eV/Å.
    stress : ErrorSummary or None
        Components, eV/Å³.
    products : ErrorSummary or None
        Components of products of Hessians with vectors of length 1, eV/Å².
    pairs : dict
        ``energy``, ``forces``, ``stress``, ``products`` → (labels, predictions), flat arrays for parity
        plots; of very many numbers, some.
    """

    frames: int
    energy: ErrorSummary | None = None
    relative_energy: ErrorSummary | None = None
    forces: ErrorSummary | None = None
    stress: ErrorSummary | None = None
    products: ErrorSummary | None = None
    pairs: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, repr=False)


@dataclass
class LabelErrors:
    """Errors per set and per Hessian, and as other codes define them."""

    sets: dict[str, SetErrors]
    hessians: dict[str, HessianErrors]
    horm: HormErrors | None = None

    def means(self) -> dict[str, Mean]:
        """Means and standard errors over the Hessians."""
        return means(list(self.hessians.values()))

    def to_dict(self) -> dict[str, Any]:
        """Without the pairs, for JSON."""

        def clean(item: Any) -> dict[str, Any]:
            return {k: v for k, v in asdict(item).items() if k not in DRAWN and v is not None}

        found = {
            "units": "energy eV/atom, forces eV/Å, stress eV/Å³, hessian, eigenvalues, products eV/Å², "
            "frequencies /cm; horm: energy eV; phonopy: frequencies THz",
            "sets": {k: clean(v) for k, v in self.sets.items()},
            "hessians": {k: clean(v) for k, v in self.hessians.items()},
            "mean_over_hessians": {k: asdict(v) for k, v in self.means().items()},
        }
        return found | ({"horm": clean(self.horm)} if is_dataclass(self.horm) else {})


def evaluate_labels(
    model: Potential,
    frames: Iterable[LabelledFrame],
    hessians: Iterable[HessianLabel] = (),
    batch_size: int = 16,
    most_hessians: int | None = None,
) -> LabelErrors:
    """Errors of energies, forces, stresses, Hessians and frequencies.

    Parameters
    ----------
    model : Potential
    frames : iterable of LabelledFrame
        Grouped by their `set`; read once, a batch at a time.
    hessians : iterable of HessianLabel
        Hessians on the frames are taken as well.
    batch_size : int
    most_hessians : int, optional
        Stop after so many Hessians, `hessians` first.

    Returns
    -------
    LabelErrors
    """
    sets: dict[str, _RunningSet] = {}
    found: dict[str, HessianErrors] = {}

    def compare(label: HessianLabel) -> None:
        if most_hessians is None or len(found) < most_hessians:
            found[_fresh(label.name, found)] = hessian_errors(model, label)

    for label in hessians:
        compare(label)
    for group in _groups(frames, batch_size):
        _add_frames(model, group, sets)
        for frame in group:
            own = sets.setdefault(frame.set, _RunningSet())
            own.frames += 1
            if frame.hessian is not None:
                compare(frame.hessian)
            if frame.products is not None:
                _add_products(model, frame.products, own)
    energies = [abs(e) for s in sets.values() for e in s.total_energies]
    forces = [e for s in sets.values() for e in s.force_means]
    return LabelErrors(
        {name: sets[name].errors() for name in sorted(sets)},
        found,
        HormErrors.of(energies, forces, list(found.values())) if energies or forces or found else None,
    )


@dataclass
class _RunningSet:
    """Sums over the frames of one set."""

    frames: int = 0
    kinds: dict[str, RunningErrors] = field(default_factory=dict)
    energies: list[tuple[float, float]] = field(default_factory=list)
    total_energies: list[float] = field(default_factory=list)
    force_means: list[float] = field(default_factory=list)

    def add(self, kind: str, predicted: np.ndarray, labels: np.ndarray) -> None:
        self.kinds.setdefault(kind, RunningErrors()).add(predicted, labels)

    def errors(self) -> SetErrors:
        result = SetErrors(self.frames)
        if self.energies:
            labels, predicted = np.array(self.energies).T
            result.energy = ErrorSummary.of(predicted, labels)
            result.pairs["energy"] = (labels, predicted)
            if len(labels) > 1:
                result.relative_energy = ErrorSummary.of(predicted - predicted.mean(), labels - labels.mean())
        for kind, running in self.kinds.items():
            setattr(result, kind, running.summary())
            result.pairs[kind] = running.pairs()
        return result


def _groups(frames: Iterable[LabelledFrame], size: int) -> Iterator[list[LabelledFrame]]:
    group: list[LabelledFrame] = []
    for frame in frames:
        group.append(frame)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _fresh(name: str, taken: dict[str, Any]) -> str:
    """`name`, numbered if it is taken."""
    number, result = 1, name
    while result in taken:
        number += 1
        result = f"{name} ({number})"
    return result


def _add_frames(model: Potential, frames: Sequence[LabelledFrame], sets: dict[str, _RunningSet]) -> None:
    frames = [frame for frame in frames if frame.evaluated]
    if not frames:
        return
    device = next(model.parameters()).device
    graph = build_graph([frame.atoms for frame in frames], model.elements, model.cutoff, device=device)
    graph = replace(graph, volumes=torch.nan_to_num(graph.volumes, nan=1.0))
    stressed = any(frame.stress is not None for frame in frames)
    with frozen(model):
        out = energy_forces_stress(model, graph, stress=stressed)
    energies = out.energies.detach().cpu().numpy()
    forces = np.split(out.forces.detach().cpu().numpy(), np.cumsum([len(f.atoms) for f in frames])[:-1])
    for k, frame in enumerate(frames):
        own = sets.setdefault(frame.set, _RunningSet())
        if frame.energy is not None:
            n = len(frame.atoms)
            own.energies.append((frame.energy / n, energies[k] / n))
            own.total_energies.append(float(energies[k] - frame.energy))
        if frame.forces is not None:
            own.add("forces", forces[k], frame.forces)
            own.force_means.append(float(np.abs(forces[k] - frame.forces).mean()))
        if frame.stress is not None and out.stresses is not None:
            own.add("stress", out.stresses[k].detach().cpu().numpy(), matrix_from_voigt(frame.stress))


def _add_products(model: Potential, label: HessianProducts, own: _RunningSet) -> None:
    device = next(model.parameters()).device
    graph = build_graph(label.atoms, model.elements, model.cutoff, device=device)
    vectors, products = (
        torch.as_tensor(np.asarray(x, dtype=float), device=device) for x in (label.vectors, label.products)
    )
    lengths = torch.linalg.vector_norm(vectors, dim=(1, 2), keepdim=True)
    predicted = hessian_vector_product(model, graph, vectors / lengths)
    own.add("products", predicted.detach().cpu().numpy(), (products / lengths).cpu().numpy())
