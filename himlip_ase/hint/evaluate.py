"""Errors of a potential on labelled structures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from himlip_ase.hint.batches import FrameStore
from himlip_ase.hint.labels import HessianLabel, LabelledFrame
from himlip_ase.hint.losses import LossWeights
from himlip_ase.hint.modes import ModeErrors, mode_errors
from himlip_ase.potential.derivatives import energy_forces_stress, hessian
from himlip_ase.potential.network import HiMLIP

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ErrorSummary:
    """Root mean square, mean absolute and largest error, beside the spread of the labels."""

    rmse: float
    mae: float
    largest: float
    label_rms: float
    count: int

    @classmethod
    def of(cls, predicted: np.ndarray, labels: np.ndarray) -> ErrorSummary:
        """Errors of `predicted` against `labels`, any equal shapes."""
        error = np.abs(np.ravel(predicted) - np.ravel(labels))
        return cls(
            float(np.sqrt(np.mean(error**2))),
            float(np.mean(error)),
            float(np.max(error)),
            float(np.sqrt(np.mean(np.ravel(labels) ** 2))),
            error.size,
        )


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
    pairs : dict
        ``energy``, ``forces``, ``stress`` → (labels, predictions), flat arrays for parity plots.
    """

    frames: int
    energy: ErrorSummary | None = None
    relative_energy: ErrorSummary | None = None
    forces: ErrorSummary | None = None
    stress: ErrorSummary | None = None
    pairs: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, repr=False)


@dataclass
class HessianErrors:
    """Errors of a Hessian.

    Attributes
    ----------
    hessian : ErrorSummary
        Elements, eV/Å².
    eigenvalues : ErrorSummary
        Sorted eigenvalues of the mass-free Hessian, eV/Å².
    asymmetry, sum_rule : float
        Largest violation by the potential, eV/Å².
    modes : ModeErrors or None
        Of the mass-weighted Hessian without rigid motions.
    frequencies : ErrorSummary or None
        Over the commensurate q-grid, cm⁻¹, imaginary modes as negative numbers, branches in ascending order.
    worst_q : list of float or None
        Fractional q of the largest deviation.
    lowest : tuple of float or None
        Lowest frequency, label and prediction, cm⁻¹.
    pairs : (labels, predictions)
        Frequencies if there are, else eigenvalues.
    """

    hessian: ErrorSummary
    eigenvalues: ErrorSummary
    asymmetry: float
    sum_rule: float
    modes: ModeErrors | None = None
    frequencies: ErrorSummary | None = None
    worst_q: list[float] | None = None
    lowest: tuple[float, float] | None = None
    pairs: tuple[np.ndarray, np.ndarray] | None = field(default=None, repr=False)


@dataclass
class LabelErrors:
    """Errors per set and per Hessian."""

    sets: dict[str, SetErrors]
    hessians: dict[str, HessianErrors]

    def to_dict(self) -> dict[str, Any]:
        """Without the pairs, for JSON."""

        def clean(item: SetErrors | HessianErrors) -> dict[str, Any]:
            return {k: v for k, v in asdict(item).items() if k != "pairs" and v is not None}

        return {
            "units": "energy eV/atom, forces eV/Å, stress eV/Å³, hessian, eigenvalues eV/Å², frequencies /cm",
            "sets": {k: clean(v) for k, v in self.sets.items()},
            "hessians": {k: clean(v) for k, v in self.hessians.items()},
        }


def evaluate_labels(
    model: HiMLIP,
    frames: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel] = (),
    batch_size: int = 16,
) -> LabelErrors:
    """Errors of energies, forces, stresses, Hessians and frequencies.

    Parameters
    ----------
    model : HiMLIP
    frames : sequence of LabelledFrame
        Grouped by their `set`.
    hessians : sequence of HessianLabel
        Hessians on the frames are taken as well.
    batch_size : int

    Returns
    -------
    LabelErrors
    """
    hessians = [*hessians, *(f.hessian for f in frames if f.hessian is not None)]
    names = sorted({f.set for f in frames})
    sets = {name: _set_errors(model, [f for f in frames if f.set == name], batch_size) for name in names}
    return LabelErrors(sets, {label.name: hessian_errors(model, label) for label in hessians})


def _set_errors(model: HiMLIP, frames: Sequence[LabelledFrame], batch_size: int) -> SetErrors:
    device = next(model.parameters()).device
    store = FrameStore(frames, model, LossWeights(), device)
    pairs: dict[str, tuple[list, list]] = {k: ([], []) for k in ("energy", "forces", "stress")}
    for batch in store.batches(batch_size):
        out = energy_forces_stress(model, batch.graph, stress=True)
        assert out.stresses is not None
        n = batch.graph.atoms_per_frame()
        for key, label, value, chosen in (
            ("energy", batch.energies / n, out.energies / n, batch.energy_weights > 0),
            ("forces", batch.forces, out.forces, batch.force_weights > 0),
            ("stress", batch.stresses, out.stresses, batch.stress_weights > 0),
        ):
            pairs[key][0].append(label[chosen].detach().cpu().numpy().ravel())
            pairs[key][1].append(value[chosen].detach().cpu().numpy().ravel())
    joined = {k: (np.concatenate(a), np.concatenate(b)) for k, (a, b) in pairs.items()}
    errors = SetErrors(len(frames), pairs=joined)
    for key, (labels, predicted) in joined.items():
        if labels.size:
            setattr(errors, key, ErrorSummary.of(predicted, labels))
    labels, predicted = joined["energy"]
    if labels.size > 1:
        errors.relative_energy = ErrorSummary.of(predicted - predicted.mean(), labels - labels.mean())
    return errors


def hessian_errors(model: HiMLIP, label: HessianLabel) -> HessianErrors:
    """Errors of the potential's Hessian against a label, and of the frequencies if the label is a crystal's.

    Parameters
    ----------
    model : HiMLIP
    label : HessianLabel

    Returns
    -------
    HessianErrors
    """
    device = next(model.parameters()).device
    n = len(label.atoms)
    constants = label.force_constants
    if constants is None:
        predicted = hessian(model, label.atoms, device=device).detach().cpu().numpy()
    else:
        stride = n // len(constants.primitive)
        rows = hessian(model, label.atoms, indices=range(0, n, stride), device=device).detach().cpu().numpy()
        model_constants = type(constants)(constants.primitive, constants.dims, rows.transpose(0, 2, 1, 3))
        predicted = model_constants.hessian()
    result = HessianErrors(
        ErrorSummary.of(predicted, label.matrix),
        ErrorSummary.of(_eigenvalues(predicted), _eigenvalues(label.matrix)),
        float(np.abs(predicted - predicted.transpose(2, 3, 0, 1)).max()),
        float(np.abs(predicted.sum(axis=2)).max()),
        mode_errors(label.atoms, predicted, label.matrix),
        pairs=(_eigenvalues(label.matrix), _eigenvalues(predicted)),
    )
    if constants is not None:
        theirs = constants.dynamical_matrices()
        wanted = np.asarray(theirs.frequencies())
        got = np.asarray(model_constants.dynamical_matrices().frequencies())
        result.frequencies = ErrorSummary.of(got, wanted)
        worst = np.unravel_index(np.abs(got - wanted).argmax(), got.shape)[0]
        result.worst_q = [float(x) for x in theirs.qpoints[worst]]
        result.lowest = (float(wanted.min()), float(got.min()))
        result.pairs = (wanted.ravel(), got.ravel())
    return result


def _eigenvalues(matrix: np.ndarray) -> np.ndarray:
    size = 3 * len(matrix)
    square = matrix.reshape(size, size)
    return np.linalg.eigvalsh((square + square.T) / 2)


def describe(errors: LabelErrors) -> list[str]:
    """One line per set and Hessian, in the units people quote (meV/atom, meV/Å, GPa, cm⁻¹)."""
    from himlip_ase.units import EV_PER_ANGSTROM3_GPA

    lines = []
    for name, item in errors.sets.items():
        parts = [f"{name}: {item.frames} frames"]
        if item.energy:
            parts.append(f"energy RMSE {1e3 * item.energy.rmse:.1f} meV/atom")
        if item.relative_energy:
            parts.append(f"(relative {1e3 * item.relative_energy.rmse:.1f})")
        if item.forces:
            parts.append(
                f"forces RMSE {1e3 * item.forces.rmse:.0f} of {1e3 * item.forces.label_rms:.0f} meV/Å"
            )
        if item.stress:
            parts.append(f"stress RMSE {EV_PER_ANGSTROM3_GPA * item.stress.rmse:.2f} GPa")
        lines.append(", ".join(parts))
    for name, found in errors.hessians.items():
        line = (
            f"{name}: Hessian MAE {found.hessian.mae:.4f}, eigenvalue MAE {found.eigenvalues.mae:.4f} eV/Å²"
        )
        if found.frequencies and found.lowest:
            line += (
                f", frequencies RMSE {found.frequencies.rmse:.1f}, largest {found.frequencies.largest:.1f} "
                f"cm-1, lowest {found.lowest[1]:.0f} (label {found.lowest[0]:.0f})"
            )
        if found.modes:
            m = found.modes
            line += (
                f"; softest mode overlap {m.lowest_cosine:.3f}, signs right {100 * m.sign_agreement:.0f} %, "
                f"unstable modes {m.unstable[1]} (label {m.unstable[0]}), asymmetry {found.asymmetry:.1e}, "
                f"sum rule {found.sum_rule:.1e} eV/Å²"
            )
        lines.append(line)
    return lines


def no_gradients(model: torch.nn.Module) -> None:
    """Freeze a model's parameters, which makes evaluations cheaper."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
