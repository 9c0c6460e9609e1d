"""Closed-form fits with and without each of several groups of frames, from sums that are collected once.

What a potential says of configurations that it has learnt is no measure of its errors.  Here every group has
a twin of the potential that learnt all other labels with the same precisions, and is judged by it
(cross-fitting: Chernozhukov et al., Econometrics Journal 21, C1 (2018), section 3).

Every set of labels has a noise of its own, by the evidence: what was computed on another k-mesh, or of cells
that no ensemble visits, does not pull at the fit as if it were one with the groups.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.evaluation import Evaluation
from himlip_ase.files import read_mapping, write_json
from himlip_ase.hint.last_layer.closed_form import (
    KINDS,
    ClosedFormSettings,
    collect_rows,
    column_scales,
    scaled_sums,
)
from himlip_ase.hint.last_layer.cross_validation import choose_floor, present_of, summed, without
from himlip_ase.hint.last_layer.evidence import NormalEquations, kind_of, maximise_evidence, named, ridge
from himlip_ase.hint.last_layer.features import HeadFeatures
from himlip_ase.hint.last_layer.posterior import Noise, Posterior
from himlip_ase.labels.digests import configuration_digest
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.programs import with_one_zero
from himlip_ase.potential.evaluate import evaluate, frozen
from himlip_ase.potential.interface import Potential
from himlip_ase.potential.network import HiMLIP

Sums = dict[str, NormalEquations]
Prior = Literal["model", "zero"]

logger = logging.getLogger(__name__)


FOLDS = "folds.json"
MEAN = "mean.safetensors"
GROUPS = "the groups"
"""Where labels of `SummedLabels.add` come from, as sets of labels are not called."""


@dataclass(frozen=True)
class Twins:
    """Potentials that learnt all but one fold of the groups.

    Attributes
    ----------
    without : tuple of Potential
        One for each fold, which learnt everything else.
    mean : Potential or None
        With the mean of their heads, weighted by the sizes of the folds; None where they differ in more than
        heads, so that no potential says the mean of what they say.
    fold_of : tuple of int
        Fold of each group.
    groups : tuple of tuples of str
        Structures of each group, by `himlip_ase.labels.digests.configuration_digest`.
    """

    without: tuple[Potential, ...]
    mean: Potential | None
    fold_of: tuple[int, ...]
    groups: tuple[tuple[str, ...], ...]

    def evaluate_mean(self, images: Sequence[Atoms], judging: Sequence[int] | None = None) -> Evaluation:
        """What the twins say in the mean, each as often as it judges.

        Parameters
        ----------
        images : sequence of Atoms
            Of one number of atoms.
        judging : sequence of int, optional
            Fold of every group that is judged; all of them by default.

        Returns
        -------
        Evaluation
        """
        shares, wanted = (
            np.bincount(folds, minlength=len(self.without)) / len(folds)
            for folds in (self.fold_of, self.fold_of if judging is None else judging)
        )
        if self.mean is not None and np.allclose(shares, wanted):
            return evaluate(self.mean, images)
        weights = wanted[wanted > 0]
        said = [evaluate(twin, images) for twin, share in zip(self.without, wanted, strict=True) if share]
        return Evaluation(
            np.average([one.energies for one in said], axis=0, weights=weights),
            np.average([one.force_array for one in said], axis=0, weights=weights),
            np.average([one.stresses for one in said], axis=0, weights=weights),
        )

    def save(self, folder: Path) -> None:
        """Write them, replacing what an earlier round left.

        Parameters
        ----------
        folder : Path
        """
        from himlip_ase.potential.checkpoint import save_model

        folder.mkdir(parents=True, exist_ok=True)
        for number, twin in enumerate(self.without):
            save_model(
                twin, folder / f"{number:03d}.safetensors", {"how": "without one fold"}, overwrite=True
            )
        if self.mean is not None:
            save_model(self.mean, folder / MEAN, {"how": "mean of the others"}, overwrite=True)
        else:
            (folder / MEAN).unlink(missing_ok=True)
        record = {"fold_of": list(self.fold_of), "groups": [list(group) for group in self.groups]}
        write_json(folder / FOLDS, record, overwrite=True)

    @classmethod
    def load(cls, folder: Path) -> Twins:
        """What `save` wrote."""
        from himlip_ase.potential.checkpoint import load_model

        record = read_mapping(folder / FOLDS)
        fold_of = tuple(int(fold) for fold in record["fold_of"])
        # folders that were written before it said so have no structures
        groups = tuple(tuple(group) for group in record.get("groups", [[] for _ in fold_of]))
        number = max(fold_of, default=-1) + 1
        without = tuple(load_model(folder / f"{fold:03d}.safetensors") for fold in range(number))
        mean = load_model(folder / MEAN) if (folder / MEAN).is_file() else None
        return cls(without, mean, fold_of, groups)


@dataclass(frozen=True)
class CrossFit:
    """Heads fitted to all labels and to all but one fold.

    Attributes
    ----------
    model : HiMLIP
        Learnt everything.
    twins : Twins
    posterior : Posterior
        Of `model`, not calibrated.
    noise : Noise
    """

    model: HiMLIP
    twins: Twins
    posterior: Posterior
    noise: Noise


class SummedLabels:
    """Normal equations of labels that stay, and of groups of frames that come one after the other.

    Parameters
    ----------
    model : HiMLIP
        Not changed.
    frames : sequence of LabelledFrame
        Always learnt from.
    hessians : sequence of HessianLabel
        Always learnt from.
    settings : ClosedFormSettings, optional
        Its `noise`, if any, is that of every set; `prior` is chosen by `fit`.
    """

    def __init__(
        self,
        model: HiMLIP,
        frames: Sequence[LabelledFrame],
        hessians: Sequence[HessianLabel] = (),
        settings: ClosedFormSettings | None = None,
    ) -> None:
        if not isinstance(model, HiMLIP):
            raise InputError("the closed form fits the head of a Hi-MLIP network, and this model has none")
        self.settings = settings or ClosedFormSettings()
        self.model = model
        frames = self.always = with_one_zero(frames)
        self.features = HeadFeatures(model, self.settings.head)
        self.shared: Sums = {}
        for name in dict.fromkeys(frame.set for frame in frames):
            members = [frame for frame in frames if frame.set == name]
            self.shared |= self._collected(
                name, members, [f.hessian for f in members if f.hessian is not None]
            )
        for number, label in enumerate(hessians):
            self.shared |= self._collected(f"Hessian {number}", [], [label])
        self.groups: list[Sums] = []
        self.structures: list[tuple[str, ...]] = []

    def _collected(
        self, source: str, frames: Sequence[LabelledFrame], hessians: Sequence[HessianLabel]
    ) -> Sums:
        with frozen(self.model):
            found = collect_rows(self.features, frames, hessians, self.settings)
        return {named(kind, source): values for kind, values in found.items() if values.count}

    def add(self, frames: Sequence[LabelledFrame]) -> int:
        """Add a group of frames, with their own Hessians, and return its number.

        Parameters
        ----------
        frames : sequence of LabelledFrame

        Returns
        -------
        int
        """
        frames = with_one_zero(frames, beside=self.always)
        own = [frame.hessian for frame in frames if frame.hessian is not None]
        self.groups.append(self._collected(GROUPS, frames, own))
        self.structures.append(tuple(configuration_digest(frame.atoms) for frame in frames))
        return len(self.groups) - 1

    def fit(
        self, folds: int = 10, priors: Sequence[Prior] = ("model", "zero"), weigh_hessians: bool = True
    ) -> CrossFit:
        """Fit all labels, and all but those of each fold of the groups.

        Parameters
        ----------
        folds : int
            Number of folds, at most; group k is in fold k modulo their number.
        priors : sequence of {"model", "zero"}
            Centres of the prior, see `ClosedFormSettings`. The one is taken whose twins miss the groups that
            they have not learnt by least: a head that was trained on the same labels may leave the evidence
            nothing to learn from, and then a prior around it learns nothing new either. A wide head, whose
            features are not those of the present one, has "model" only.
        weigh_hessians : bool
            Whether Hessians may lose weight where the groups are foretold better without them, by however
            little; False: they keep it, so that harmonic phonons are those of the matrices.

        Returns
        -------
        CrossFit

        Raises
        ------
        InputError
            There is no label, or one is not finite.
        """
        if self.settings.head == "wide":
            priors = ("model",)
        found = [self._fit(folds, prior, weigh_hessians) for prior in priors]
        best = min(found, key=lambda item: item.score)
        logger.info(
            "errors of forces on what a twin had not learnt: %s; taken: prior %s",
            ", ".join(f"{item.score:.4f} (prior {item.prior})" for item in found),
            best.prior,
        )
        apply = self.features.apply
        without = tuple(apply(head) for head in best.without)
        twins = Twins(without, apply(best.mean), best.fold_of, tuple(self.structures))
        return CrossFit(apply(best.head), twins, best.posterior, best.posterior.noise)

    def _fit(self, folds: int, prior: Prior, weigh_hessians: bool = True) -> _Heads:
        """Heads around one prior, as changes of the present head."""
        present = self._present_head() if prior == "zero" else None
        shared, *groups = (_moved(_copy(sums), present) for sums in (self.shared, *self.groups))
        total = summed([shared, *groups])
        if not total:
            raise InputError("nothing to fit: no energies, forces, stresses or Hessians were given")
        if not all(np.isfinite(s.square) and bool(torch.isfinite(s.gram).all()) for s in total.values()):
            raise InputError("a label or a feature is not finite; look for colliding atoms among the labels")
        scales = column_scales(_by_kind(total), self.features)
        shared, *groups = (scaled_sums(sums, scales) for sums in (shared, *groups))
        whole = summed([shared, *groups])
        judged = named("forces", GROUPS)
        if self.settings.noise is None and len(groups) > 1 and judged in whole:
            chosen = choose_floor(groups, shared, self.settings.iterations, judged, weigh_hessians)
            evidence = chosen.evidence
        else:
            evidence = maximise_evidence(whole, self.settings.noise, self.settings.iterations)
        number = min(folds, len(groups))
        fold_of = tuple(k % number for k in range(len(groups)))
        heads, squares, counts = [], 0.0, 0
        for fold in range(number):
            own = summed([group for k, group in enumerate(groups) if fold_of[k] == fold])
            heads.append(ridge(evidence, present_of(without(whole, own)))[0])
            squares += own[judged].residual(heads[-1]) if judged in own else 0.0
            counts += own[judged].count if judged in own else 0
        mean = evidence.mean
        if heads:
            sizes = [fold_of.count(fold) for fold in range(number)]
            mean = torch.tensor(sizes, dtype=mean.dtype, device=mean.device) @ torch.stack(heads) / sum(sizes)
        noise = _noise_of_groups(evidence.beta)
        logger.info(
            "noise: %s", ", ".join(f"{name} {beta**-0.5:.3g}" for name, beta in evidence.beta.items())
        )

        def change(head: torch.Tensor) -> torch.Tensor:
            return head / scales if present is None else head / scales - present

        return _Heads(
            prior,
            change(evidence.mean),
            tuple(change(head) for head in heads),
            change(mean),
            fold_of,
            Posterior(evidence.root / scales[:, None], noise, self.settings.head, self.features.hidden),
            (squares / counts) ** 0.5 if counts else 0.0,
        )

    def _present_head(self) -> torch.Tensor:
        """Coefficients of the present readouts, (P,); those of the elements' energies are zero."""
        hidden = self.features.hidden
        parts = [layer.readout.weight.detach()[:, :hidden] for layer in self.features.layers]
        return torch.cat([*parts, torch.zeros_like(parts[0][:, :1])], dim=1).reshape(-1)


@dataclass(frozen=True)
class _Heads:
    """Heads around one prior, as changes of the present one, and the twins' error (weighted, eV/Å)."""

    prior: Prior
    head: torch.Tensor
    without: tuple[torch.Tensor, ...]
    mean: torch.Tensor
    fold_of: tuple[int, ...]
    posterior: Posterior
    score: float


def _moved(sums: Sums, present: torch.Tensor | None) -> Sums:
    """Sums of what a head misses as those of the labels without it, in place: y' = y + Xθ₀."""
    if present is None:
        return sums
    for values in sums.values():
        pushed = values.gram @ present
        values.square += float(2 * present @ values.moment + present @ pushed)
        values.moment += pushed
    return sums


def _copy(sums: Sums) -> Sums:
    return {
        kind: replace(values, gram=values.gram.clone(), moment=values.moment.clone())
        for kind, values in sums.items()
    }


def _by_kind(sums: Sums) -> Sums:
    """Summed over where they come from; what is not there is zero."""
    size, device = next((len(s.moment), s.moment.device) for s in sums.values())
    empty = {kind: NormalEquations.zeros(size, device) for kind in KINDS}
    return summed([empty, *({kind_of(name): values} for name, values in sums.items())])


def _noise_of_groups(beta: Mapping[str, float]) -> Noise:
    """That of the groups, whose uncertainties count; of a kind that they lack, the least of any set."""
    widths: dict[str, float] = {}
    for kind in dict.fromkeys(map(kind_of, beta)):
        own = named(kind, GROUPS)
        precision = beta[own] if own in beta else max(beta[name] for name in beta if kind_of(name) == kind)
        widths[kind] = precision**-0.5
    return Noise(**widths)
