"""Restricted steps on a quadratic model, by rational functions, for minima and saddle points.

Besalú and Bofill, Theor. Chem. Acc. 100, 265 (1998): the step to a stationary point of
(gᵀs + ½ sᵀHs) / (1 + α sᵀs), with α ≥ 1 chosen so that |s| stays within the trust radius. All functions work
in the eigenbasis of the Hessian.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from himlip_ase.registry import Registry

StepOfAlpha = Callable[[float], np.ndarray]
SaddleStep = Callable[[np.ndarray, np.ndarray, int, float], np.ndarray]


def minimising_step(values: np.ndarray, gradient: np.ndarray, radius: float) -> np.ndarray:
    """RS-RFO step towards a minimum.

    Parameters
    ----------
    values, gradient : ndarray (f,)
        Eigenvalues, and the gradient along the eigenvectors.
    radius : float
        Largest length of the step.

    Returns
    -------
    ndarray (f,)
        Along the eigenvectors.
    """
    return _restricted(lambda alpha: _lowest_root_step(values, gradient, alpha), radius)


def partitioned_step(values: np.ndarray, gradient: np.ndarray, mode: int, radius: float) -> np.ndarray:
    """RS-P-RFO: up along one eigenvector, down along the others, each with its own shift.

    Parameters
    ----------
    values, gradient : ndarray (f,)
        Eigenvalues, and the gradient along the eigenvectors.
    mode : int
        Which eigenvector is climbed.
    radius : float
        Largest length of the step.

    Returns
    -------
    ndarray (f,)
        Along the eigenvectors.
    """
    others = np.arange(len(values)) != mode

    def step(alpha: float) -> np.ndarray:
        found = np.empty(len(values))
        # the climbed direction maximises, so signs are those of its mirror image
        found[[mode]] = _lowest_root_step(-values[[mode]], -gradient[[mode]], alpha)
        found[others] = _lowest_root_step(values[others], gradient[others], alpha)
        return found

    return _restricted(step, radius)


def image_step(values: np.ndarray, gradient: np.ndarray, mode: int, radius: float) -> np.ndarray:
    """RS-I-RFO: a minimising step on the image of the surface, whose climbed mode has the signs reversed.

    Parameters
    ----------
    values, gradient, mode, radius
        As for `partitioned_step`.

    Returns
    -------
    ndarray (f,)
        Along the eigenvectors.
    """
    signs = np.where(np.arange(len(values)) == mode, -1.0, 1.0)
    return minimising_step(signs * values, signs * gradient, radius)


@dataclass(frozen=True)
class SaddleStepRule:
    """A rule for the step of a saddle search.

    Attributes
    ----------
    name, summary : str
    step : callable
        Eigenvalues, gradient along the eigenvectors, index of the climbed one, trust radius → step.
    """

    name: str
    summary: str
    step: SaddleStep


SADDLE_STEPS = Registry(
    "saddle step",
    SaddleStepRule("rs-p-rfo", "up and down with shifts of their own", partitioned_step),
    SaddleStepRule("rs-i-rfo", "down on the image surface, one shift", image_step),
)


def _lowest_root_step(values: np.ndarray, gradient: np.ndarray, alpha: float) -> np.ndarray:
    """The step of the lowest root ν of [[H, g], [gᵀ, 0]] (s, 1) = ν (αs, 1)."""
    if not len(values):
        return np.zeros(0)
    if not gradient.any():
        return np.zeros(len(values))
    matrix = np.zeros((len(values) + 1, len(values) + 1))
    np.fill_diagonal(matrix[:-1, :-1], values / alpha)
    matrix[-1, :-1] = matrix[:-1, -1] = gradient / np.sqrt(alpha)
    root = np.linalg.eigvalsh(matrix)[0]
    gap = values - alpha * root  # not negative; zero only along directions without a gradient
    return np.where(np.abs(gradient) > 0, -gradient / np.maximum(gap, 1e-12), 0.0)


def _restricted(step: StepOfAlpha, radius: float) -> np.ndarray:
    """The step with the smallest α ≥ 1 whose length does not exceed `radius`."""
    found = step(1.0)
    if np.linalg.norm(found) <= radius:
        return found
    low, high = 0.0, 1.0
    while np.linalg.norm(step(np.exp(high))) > radius:
        low, high = high, high + 1.0
        if high > 60:
            found = step(np.exp(high))
            return found * radius / np.linalg.norm(found)
    log_alpha = brentq(lambda x: np.linalg.norm(step(np.exp(x))) - radius, low, high, xtol=1e-3)
    found = step(np.exp(log_alpha))
    return found * min(1.0, radius / np.linalg.norm(found))
