"""Ridge regression of several kinds of labels from sums alone, its precisions by maximum evidence.

A kind ("forces") may be divided by where the labels come from ("forces of rattle040"), each with a precision
of its own: sets of labels that contradict each other, as those of two k-meshes do, are then weighed by what
they leave unexplained.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from himlip_ase.hint.last_layer.posterior import Noise

FLOOR = Noise(energy=1e-3, forces=0.05, stress=3e-3, hessian=0.05)
"""The evidence does not take labels for more exact than this, or than a multiple of it that cross-validation
chooses: a wide head fits a few hundred of them to the bit, which says nothing about what it has not seen."""


def named(kind: str, source: str) -> str:
    """Name of the labels of one kind from one source.

    Parameters
    ----------
    kind, source : str

    Returns
    -------
    str
    """
    return f"{kind} of {source}"


def kind_of(name: str) -> str:
    """The kind in a name of :func:`named`; a kind alone is its own.

    Parameters
    ----------
    name : str

    Returns
    -------
    str
    """
    return name.partition(" of ")[0]


@dataclass
class NormalEquations:
    """Sums over the labels of one kind: XᵀX, Xᵀy, yᵀy and their number."""

    gram: Tensor
    moment: Tensor
    square: float = 0.0
    count: int = 0

    @classmethod
    def zeros(cls, size: int, device: torch.device) -> NormalEquations:
        """Nothing summed yet.

        Parameters
        ----------
        size : int
            P, number of coefficients.
        device : torch.device
        """
        zeros = torch.zeros(size, size + 1, dtype=torch.float64, device=device)
        return cls(zeros[:, :size], zeros[:, size])

    def __add__(self, other: NormalEquations) -> NormalEquations:
        """Of both sets of labels."""
        return NormalEquations(
            self.gram + other.gram, self.moment + other.moment, self.square + other.square,
            self.count + other.count,
        )  # fmt: skip

    def __sub__(self, other: NormalEquations) -> NormalEquations:
        """Without labels that are among these."""
        return NormalEquations(
            self.gram - other.gram, self.moment - other.moment, self.square - other.square,
            self.count - other.count,
        )  # fmt: skip

    def add(self, rows: Tensor, values: Tensor, weights: Tensor | float = 1.0) -> None:
        """Add labels: rows (n, P), values (n,), and their weights (inverse relative variances).

        Parameters
        ----------
        rows : Tensor (n, P)
        values : Tensor (n,)
        weights : Tensor (n,) or float
        """
        w = torch.as_tensor(weights, dtype=rows.dtype, device=rows.device).expand(len(rows)).sqrt()
        x, y = rows * w[:, None], values * w
        self.gram += x.T @ x
        self.moment += x.T @ y
        self.square += float(y @ y)
        self.count += int((w > 0).sum())

    def residual(self, coefficients: Tensor) -> float:
        """|Xθ − y|²."""
        value = coefficients @ (self.gram @ coefficients) - 2 * coefficients @ self.moment + self.square
        return max(float(value), 0.0)


@dataclass
class Evidence:
    """Precisions, and the posterior at them.

    Attributes
    ----------
    alpha, beta : float, dict
        Precision of the prior, and of the labels of each kind.
    mean : Tensor (P,)
    root : Tensor (P, P)
        C with covariance C Cᵀ.
    effective : float
        Number of coefficients that the labels determine.
    """

    alpha: float
    beta: dict[str, float]
    mean: Tensor = field(default_factory=lambda: torch.empty(0))
    root: Tensor = field(default_factory=lambda: torch.empty(0))
    effective: float = 0.0


def maximise_evidence(
    sums: dict[str, NormalEquations],
    noise: Noise | None = None,
    iterations: int = 40,
    tolerance: float = 5e-3,
    floor: Noise = FLOOR,
) -> Evidence:
    """Precisions α of the prior and β_t of the labels by MacKay's fixed point, and the posterior at them.

    Parameters
    ----------
    sums : dict
        {kind, or :func:`named` kind: normal equations}, columns of comparable size.
    noise : Noise, optional
        Fixed β_t; only α is estimated.
    iterations, tolerance : int, float
        Ends when no precision changes by more than this share.
    floor : Noise
        Labels are not taken for more exact than this.

    Returns
    -------
    Evidence
    """
    fixed = None if noise is None else {name: getattr(noise, kind_of(name)) ** -2 for name in sums}
    largest = {name: getattr(floor, kind_of(name)) ** -2 for name in sums}
    beta = fixed or {k: min(s.count / max(s.square, 1e-30) * 10, largest[k]) for k, s in sums.items()}
    state = Evidence(1.0, dict(beta))
    for _ in range(iterations):
        factor, moment = _system(state, sums)
        inverse = torch.cholesky_inverse(factor)
        state.mean = inverse @ moment
        shares = {k: state.beta[k] * float((inverse * s.gram).sum()) for k, s in sums.items()}
        state.effective = sum(shares.values())
        old = [state.alpha, *state.beta.values()]
        state.alpha = state.effective / max(float(state.mean @ state.mean), 1e-30)
        if fixed is None:
            for kind, s in sums.items():
                freedom = max(s.count - shares[kind], 0.05 * s.count)
                state.beta[kind] = min(freedom / max(s.residual(state.mean), 1e-30), largest[kind])
        new = [state.alpha, *state.beta.values()]
        if all(abs(a - b) <= tolerance * a for a, b in zip(old, new, strict=True)):
            break
    factor, moment = _system(state, sums)
    unit = torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
    state.root = torch.linalg.solve_triangular(factor, unit, upper=False).T.contiguous()
    state.mean = state.root @ (state.root.T @ moment)
    return state


def ridge(state: Evidence, sums: dict[str, NormalEquations]) -> tuple[Tensor, Tensor]:
    """Mean (P,) and covariance (P, P) that other sums give at the precisions of `state`.

    Parameters
    ----------
    state : Evidence
    sums : dict
        {kind: normal equations}.

    Returns
    -------
    mean : Tensor (P,)
    covariance : Tensor (P, P)
    """
    factor, moment = _system(state, sums)
    return torch.cholesky_solve(moment[:, None], factor)[:, 0], torch.cholesky_inverse(factor)


def _system(state: Evidence, sums: dict[str, NormalEquations]) -> tuple[Tensor, Tensor]:
    """Cholesky factor of A, and Σ_t β_t X_tᵀ y_t, at the present precisions."""
    first = next(iter(sums.values()))
    total = state.alpha * torch.eye(len(first.gram), dtype=torch.float64, device=first.gram.device)
    moment = torch.zeros_like(first.moment)
    for kind, s in sums.items():
        total = total + state.beta[kind] * s.gram
        moment = moment + state.beta[kind] * s.moment
    return torch.linalg.cholesky(total), moment
