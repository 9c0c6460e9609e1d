"""Small valid inputs of every kind that a user may bring, or a run leaves, from the files of the rooms."""

from __future__ import annotations

from . import (
    dft_inputs,
    label_inputs,
    phonon_inputs,
    run_inputs,
    sscha_inputs,
    superconductivity_inputs,
    training_inputs,
)
from .kind import Kind

KINDS: tuple[Kind, ...] = (
    *dft_inputs.KINDS,
    *phonon_inputs.KINDS,
    *label_inputs.KINDS,
    *training_inputs.KINDS,
    *superconductivity_inputs.KINDS,
    *sscha_inputs.KINDS,
    *run_inputs.KINDS,
)
