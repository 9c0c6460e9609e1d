"""The best linear head of a frozen network, in closed form.

Energy, forces, stress and Hessian of every label are linear in the head's coefficients θ (the deviation from
the network as it is). With Gaussian noise of one width per kind of label and a Gaussian prior on θ, the
posterior is ridge regression,

    A = α 1 + Σ_t β_t X_tᵀX_t,    θ = A⁻¹ Σ_t β_t X_tᵀ y_t,    cov θ = A⁻¹,

t = energy, forces, stress, Hessian. Only the P×P sums X_tᵀX_t are kept, frame by frame. α and the β_t
maximise the evidence (the fixed point of MacKay, Neural Computation 4, 415 (1992), one noise per kind), the
β_t up to a bound that cross-validation chooses.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from himlip_ase.errors import InputError
from himlip_ase.evaluation import VOIGT
from himlip_ase.hint.last_layer.cross_validation import choose_floor
from himlip_ase.hint.last_layer.evidence import NormalEquations, maximise_evidence
from himlip_ase.hint.last_layer.features import HeadFeatures, HeadKind
from himlip_ase.hint.last_layer.posterior import Noise, Posterior
from himlip_ase.hint.training.batches import FrameStore, HessianItem
from himlip_ase.hint.training.folding import fold_hessian
from himlip_ase.hint.training.losses import LossWeights
from himlip_ase.hint.training.projections import draw_probes
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.products import HessianProducts
from himlip_ase.potential.derivatives import energy_forces_stress, hessian_vector_product
from himlip_ase.potential.evaluate import frozen
from himlip_ase.potential.graph import build_graph
from himlip_ase.potential.network import HiMLIP, Layer

logger = logging.getLogger(__name__)

KINDS = ("energy", "forces", "stress", "hessian")
PARTS_BYTES = 4 * 1024**3
"""Limit on the sums of the parts of cross-validation; a large head has fewer parts."""


@dataclass(frozen=True)
class ClosedFormSettings:
    """Settings of a closed-form fit.

    Parameters
    ----------
    head : {"readout", "wide"}
        See `HeadFeatures`.
    noise : Noise, optional
        Fixed widths of the noise, which are the weights of the kinds of labels; None: from the evidence.
    hessian_pairs : int
        Random pairs of directions (v, w) per Hessian whose vᵀHw are fitted; all elements if these are fewer.
        The symmetry of a crystal leaves its Hessian far fewer independent elements than 64.
    force_scale : float or None
        As in `LossWeights`.
    fold_hessians : bool
        As in `TrainingSettings`.
    iterations : int
        Largest number of re-estimates of the evidence.
    folds : int
        Parts of the frames that are left out in turn to choose how exact labels may be taken to be
        (:func:`himlip_ase.hint.last_layer.cross_validation.choose_floor`); below 2: not chosen.
    seed : int
        Of the pairs and the parts.
    prior : {"model", "zero"}
        Where the prior is centred: at the network's head as it is, or at none. A head that was trained on the
        same labels leaves them nothing to say, and its posterior shrinks to the noise: "zero" for
        uncertainties of a network that was.
    """

    head: HeadKind = "readout"
    noise: Noise | None = None
    hessian_pairs: int = 64
    force_scale: float | None = 1.5
    fold_hessians: bool = True
    iterations: int = 40
    folds: int = 5
    seed: int = 0
    prior: Literal["model", "zero"] = "model"

    def __post_init__(self) -> None:
        if self.prior not in ("model", "zero"):
            raise InputError(f"prior is {self.prior!r}; choose model or zero")
        for name in ("hessian_pairs", "iterations"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)}; it must be at least 1")


@dataclass
class ClosedFormResult:
    """A fitted head.

    Attributes
    ----------
    model : HiMLIP
        An ordinary network with the head in it.
    posterior : Posterior
    noise : Noise
    prior_precision : float
        α, of coefficients scaled to a force of 1 eV/Å rms.
    effective_parameters : float
        How many coefficients the labels determine, of `size`.
    size : int
    rows : dict
        {kind: number of labels}.
    seconds : float
    """

    model: HiMLIP
    posterior: Posterior
    noise: Noise
    prior_precision: float
    effective_parameters: float
    size: int
    rows: dict[str, int]
    seconds: float = 0.0

    def describe(self) -> list[str]:
        """What was fitted, in words."""
        n = self.noise
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.rows.items())
        return [
            f"closed form: {sum(self.rows.values())} labels ({kinds}) "
            f"determine {self.effective_parameters:.0f} of {self.size} coefficients, {self.seconds:.1f} s",
            f"noise: {1e3 * n.energy:.2f} meV/atom, {1e3 * n.forces:.0f} meV/Å, {1e3 * n.stress:.2f} meV/Å³, "
            f"Hessian rows {n.hessian:.3f} eV/Å²",
        ]


def fit_closed_form(
    model: HiMLIP,
    frames: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel] = (),
    settings: ClosedFormSettings | None = None,
    products: Sequence[HessianProducts] = (),
) -> ClosedFormResult:
    """Fit the head of a network to labels, around the network as it is.

    Parameters
    ----------
    model : HiMLIP
        Not changed. Its present head is the mean of the prior, unless `settings.prior` says otherwise.
    frames : sequence of LabelledFrame
        Any of energy, forces and stress on each.
    hessians : sequence of HessianLabel
        Those on the frames are taken as well.
    settings : ClosedFormSettings, optional
    products : sequence of HessianProducts
        Products of Hessians with given vectors, columns among them.

    Returns
    -------
    ClosedFormResult

    Raises
    ------
    InputError
        There is no label, or a label is not finite.
    """
    settings, start = settings or ClosedFormSettings(), time.perf_counter()
    if settings.prior == "zero":
        model = without_head(model)
    features = HeadFeatures(model, settings.head)
    hessians = [*hessians, *(f.hessian for f in frames if f.hessian is not None)]
    parts = _shares(len(frames), features.size, settings)
    with frozen(model):
        shared = collect_rows(features, [], hessians, settings)
        for item in products:
            _add_products(shared["hessian"], features, item)
        left_out = [collect_rows(features, [frames[k] for k in part], [], settings) for part in parts]
    sums = {kind: sum((part[kind] for part in left_out), start=shared[kind]) for kind in KINDS}
    counts = {kind: s.count for kind, s in sums.items() if s.count}
    if not counts:
        raise InputError("nothing to fit: no energies, forces, stresses or Hessians were given")
    if not all(np.isfinite(s.square) and bool(torch.isfinite(s.gram).all()) for s in sums.values()):
        raise InputError("a label or a feature is not finite; look for colliding atoms among the labels")
    scales = column_scales(sums, features)
    if len(parts) > 1:
        chosen = choose_floor(
            [scaled_sums(part, scales) for part in left_out], scaled_sums(shared, scales), settings.iterations
        )
        logger.info("error on frames left out, by multiples of the noise's floor: %s", chosen.scores)
        found = chosen.evidence
    else:
        present = scaled_sums({kind: sums[kind] for kind in counts}, scales)
        found = maximise_evidence(present, settings.noise, settings.iterations)
    noise = Noise(**{kind: found.beta[kind] ** -0.5 for kind in counts})
    posterior = Posterior(found.root / scales[:, None], noise, settings.head, features.hidden)
    fitted = features.apply(found.mean / scales)
    result = ClosedFormResult(
        fitted, posterior, noise, found.alpha, found.effective, features.size, counts,
        time.perf_counter() - start,
    )  # fmt: skip
    for line in result.describe():
        logger.info("%s", line)
    return result


@torch.no_grad()
def without_head(model: HiMLIP) -> HiMLIP:
    """A copy whose readouts are zero; the energies of the elements stay."""
    bare = copy.deepcopy(model)
    for layer in bare.layers:
        if isinstance(layer, Layer):
            layer.readout.weight.zero_()
    return bare


def collect_rows(
    features: HeadFeatures,
    frames: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel],
    settings: ClosedFormSettings,
) -> dict[str, NormalEquations]:
    """Sum the normal equations of every kind of label, one structure at a time.

    Parameters
    ----------
    features : HeadFeatures
    frames : sequence of LabelledFrame
        Energies per atom (eV), forces (eV/Å) and stresses (eV/Å³), less what the present head says of them.
    hessians : sequence of HessianLabel
    settings : ClosedFormSettings

    Returns
    -------
    dict
        {"energy", "forces", "stress", "hessian": NormalEquations}, P×P each.
    """
    model = features.model
    device = next(model.parameters()).device
    sums = {kind: NormalEquations.zeros(features.size, device) for kind in KINDS}
    store = FrameStore(frames, model, LossWeights(force_scale=settings.force_scale), device)
    for index in range(len(store)):
        batch = store.batch([index])
        graph, n = batch.graph, len(batch.graph.positions)
        now = energy_forces_stress(model, graph)
        assert now.stresses is not None
        if float(batch.energy_weights) > 0:
            missing = (batch.energies - now.energies) / n
            sums["energy"].add(features.summed(graph) / n, missing, batch.energy_weights)
        if not float(batch.force_weights.sum()) and not float(batch.stress_weights):
            continue
        forces, stress = features.forces_and_stress(graph)
        missing = (batch.forces - now.forces).reshape(-1)
        sums["forces"].add(forces.flatten(0, 1), missing, batch.force_weights.repeat_interleave(3))
        if float(batch.stress_weights) > 0:
            missing = torch.stack([(batch.stresses - now.stresses)[0, a, b] for a, b in VOIGT])
            sums["stress"].add(stress, missing, batch.stress_weights)
    generator = torch.Generator().manual_seed(settings.seed)
    for label in hessians:
        for part in fold_hessian(label) if settings.fold_hessians else [label]:
            _add_hessian(sums["hessian"], features, part, settings.hessian_pairs, generator)
    return sums


def head_of_least_error(features: HeadFeatures, sums: dict[str, NormalEquations], noise: Noise) -> HiMLIP:
    """The network with the head that fits sums of `collect_rows` best, for given widths of the noise.

    For many fits that share labels, whose sums are collected once and added.

    Parameters
    ----------
    features : HeadFeatures
        Those of the sums.
    sums : dict
        {kind of label: NormalEquations}, P coefficients; scaled in place.
    noise : Noise
        Widths of the labels; the prior's comes from the evidence.

    Returns
    -------
    HiMLIP
        A copy with the fitted head.
    """
    present = {kind: values for kind, values in sums.items() if values.count}
    scales = column_scales(sums, features)
    found = maximise_evidence(scaled_sums(present, scales), noise)
    return features.apply(found.mean / scales)


def _add_hessian(
    sums: NormalEquations, features: HeadFeatures, label: HessianLabel, pairs: int, generator: torch.Generator
) -> None:
    """vᵀHw/√3N for Rademacher pairs, or √3N H_ab for all pairs of axes: both have a row norm's variance."""
    model, n = features.model, len(label.atoms)
    device = next(model.parameters()).device
    graph = build_graph(label.atoms, model.elements, model.cutoff, device=device)
    matrix = torch.as_tensor(label.matrix, dtype=torch.float64, device=device)
    if 9 * n * n <= pairs:
        unit = draw_probes("full", n, device=device)
        first, second = unit.repeat_interleave(3 * n, 0), unit.repeat(3 * n, 1, 1)
        scale = (3 * n) ** 0.5
    else:
        first = draw_probes("rademacher", n, pairs, generator, device=device)
        second = draw_probes("rademacher", n, pairs, generator, device=device)
        scale = (3 * n) ** -0.5
    wanted = torch.einsum("iajb,kia,kjb->k", matrix, first, second)
    rows = features.second_derivatives(graph, first, second)
    present = torch.cat([hessian_vector_product(model, graph, v) for v in second.split(8)])
    missing = wanted - (present * first).sum((1, 2))
    sums.add(scale * rows, scale * missing, label.weight)


def _add_products(sums: NormalEquations, features: HeadFeatures, label: HessianProducts) -> None:
    """√3N (Hv)_a/|v| for every axis a: again with a row norm's variance."""
    model, n = features.model, len(label.atoms)
    item = HessianItem.of(label, model, next(model.parameters()).device)
    assert item.vectors is not None and item.products is not None
    lengths = item.vectors.square().sum((1, 2)).sqrt()
    unit = draw_probes("full", n, device=item.vectors.device)
    present = hessian_vector_product(model, item.graph, item.vectors)
    for vector, wanted, now, length in zip(item.vectors, item.products, present, lengths, strict=True):
        rows = features.second_derivatives(item.graph, vector.expand(3 * n, -1, -1), unit)
        scale = (3 * n) ** 0.5 / length
        sums.add(scale * rows, scale * (wanted - now).reshape(-1), label.weight)


def column_scales(sums: dict[str, NormalEquations], features: HeadFeatures) -> Tensor:
    """Root mean square force per unit of each coefficient (energy, if there are no forces).

    The elements' own energies get a small scale, which is a wide prior.

    Parameters
    ----------
    sums : dict
        Of `collect_rows`.
    features : HeadFeatures

    Returns
    -------
    Tensor (P,)
    """
    source = sums["forces"] if sums["forces"].count else next(s for s in sums.values() if s.count)
    scales = (source.gram.diagonal() / source.count).sqrt()
    scales = scales.clamp(min=1e-3 * float(scales.max()) or 1.0)
    scales.view(features.n_elements, features.n_features)[:, -1] = 1e-2
    return scales


def _shares(count: int, size: int, settings: ClosedFormSettings) -> list[list[int]]:
    """Indices of the frames of each part that is left out in turn; one part where nothing is to be chosen."""
    folds = min(settings.folds, PARTS_BYTES // (8 * len(KINDS) * size**2) - 2)
    if settings.noise is not None or folds < 2 or count < 2 * folds:
        return [list(range(count))]
    order = np.random.default_rng(settings.seed).permutation(count).tolist()
    return [order[k::folds] for k in range(folds)]


def scaled_sums(sums: dict[str, NormalEquations], scales: Tensor) -> dict[str, NormalEquations]:
    """The same sums, in place, of coefficients in units of 1/scales.

    Parameters
    ----------
    sums : dict
        Of `collect_rows`.
    scales : Tensor (P,)

    Returns
    -------
    dict
        `sums`.
    """
    for values in sums.values():
        values.gram /= scales[:, None] * scales
        values.moment /= scales
    return sums


def calibrate(
    result: ClosedFormResult, frames: Sequence[LabelledFrame], hessians: Sequence[HessianLabel] = ()
) -> Posterior:
    """The posterior with factors that make its standard deviations right, on average, for given labels.

    Parameters
    ----------
    result : ClosedFormResult
    frames, hessians : sequences of labels
        Not those of the fit, and not those that shall judge the calibration. Hessians of crystals give a
        factor for phonons too.

    Returns
    -------
    Posterior
        Its factors are the root mean squares of error / standard deviation.
    """
    from himlip_ase.hint.last_layer.calibration import phonon_errors, standardised_errors

    old = replace(result.posterior, factors={})
    ratios = standardised_errors(result.model, old, frames, hessians)
    crystals = [h.force_constants for h in hessians if h.force_constants is not None]
    if crystals:
        found = [phonon_errors(result.model, old, constants) for constants in crystals]
        ratios["phonons"] = np.concatenate([f.errors / f.deviations for f in found])
    factors = {k: float(np.sqrt(np.mean(v**2))) for k, v in ratios.items() if v.size}
    return replace(old, factors=factors)
