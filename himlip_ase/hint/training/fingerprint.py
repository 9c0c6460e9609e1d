"""What a training was told, in one line: a checkpoint goes on with the same labels and model only."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch

from himlip_ase.errors import InputError
from himlip_ase.labels.frames import HessianLabel, LabelCounts, LabelledFrame
from himlip_ase.labels.products import HessianProducts

logger = logging.getLogger(__name__)

PREFIX = "content-2:"
"""How fingerprints of contents begin; those without are older."""
WITHOUT_WEIGHTS = "content-1:"
"""How those began that held the name of the starting model and not its weights."""
HEAD = ("readout", "network.first.weight", "network.second.weight")
"""Parts of the names of parameters that a head in closed form changes."""
COUNTED = "pretraining on "
"""How the older fingerprints of `pretrain` begin, which hold nothing but counts."""


@dataclass(frozen=True)
class Fingerprint:
    """Identifies labels and starting model of a training.

    Attributes
    ----------
    value : str
        A hash of the content of every label, in their order, and of the weights of the starting model.
    older : callable
        Tells whether a fingerprint of an older release is that of the same training.
    """

    value: str = ""
    older: Callable[[str], bool] = field(default=lambda fingerprint: False, compare=False)

    def matches(self, other: str) -> bool:
        """Whether a checkpoint with the fingerprint `other` belongs to this training."""
        return other == self.value or (not other.startswith(PREFIX) and self.older(other))

    def check(self, found: str, path: Path) -> None:
        """Refuse a file of other labels or of another model.

        Parameters
        ----------
        found : str
            Its fingerprint.
        path : Path
            For the message.

        Raises
        ------
        InputError
        """
        if not self.matches(found):
            raise InputError(
                f"{path} belongs to other labels or another model; resume with those, or use another folder"
            )
        if found != self.value:
            logger.info(
                "%s has a fingerprint of an older release, which fits %s",
                path,
                "the number of labels; it holds no more"
                if found.startswith(COUNTED)
                else "these labels and this model",
            )


def content_fingerprint(origin: str, parts: Mapping[str, Iterable[bytes]], prefix: str = PREFIX) -> str:
    """One hash of the digests of all labels.

    Parameters
    ----------
    origin : str
        Where the starting model came from.
    parts : mapping of str to digests
        What each kind of label is for ("training", "held out", ...), and the digests of
        :mod:`himlip_ase.labels.digests`, in order; that of the starting weights.
    prefix : str
        How the fingerprint begins.

    Returns
    -------
    str
        `prefix` and 64 hexadecimal digits.
    """
    digest = hashlib.sha256(origin.encode())
    for name, members in parts.items():
        digest.update(f"|{name}|".encode())
        for member in members:
            digest.update(member)
    return prefix + digest.hexdigest()


def weights_digest(model: torch.nn.Module) -> bytes:
    """Of the parameters of a model, without those that a fit to the labels before a training may have made.

    These are buffers and the heads, readout and wide, that a closed form fits: with another number of
    threads it rounds otherwise.

    Parameters
    ----------
    model : Module

    Returns
    -------
    bytes
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if any(part in name for part in HEAD):
            continue
        digest.update(name.encode())
        digest.update(parameter.detach().to("cpu", torch.float64).numpy().tobytes())
    return digest.digest()


def older_fingerprints(
    origin: str,
    frames: Iterable[LabelledFrame],
    hessians: Iterable[HessianLabel | HessianProducts],
    counts: LabelCounts,
    held_counts: LabelCounts,
) -> Callable[[str], bool]:
    """Test of fingerprints as they were made before contents had digests.

    Parameters
    ----------
    origin : str
    frames : iterable of LabelledFrame
        Learnt from, replayed, held out.
    hessians : iterable
        Learnt from, judging, parts.
    counts, held_counts : LabelCounts
        All that the older `pretrain` remembered.

    Returns
    -------
    callable
        Fingerprint → whether it is that of these labels; reads them only when it is called.
    """
    return partial(_is_older, origin=origin, frames=frames, hessians=hessians, counts=(counts, held_counts))


def _is_older(
    fingerprint: str,
    origin: str,
    frames: Iterable[LabelledFrame],
    hessians: Iterable[HessianLabel | HessianProducts],
    counts: tuple[LabelCounts, LabelCounts],
) -> bool:
    if fingerprint.startswith(COUNTED):
        return fingerprint == f"{COUNTED}{counts[0]}; held out {counts[1]}"
    digest = hashlib.sha256(origin.encode())
    for frame in frames:
        structure = (frame.atoms.numbers, frame.atoms.positions, frame.atoms.cell.array)
        for value in (*structure, frame.energy, frame.forces, frame.stress, frame.weight):
            digest.update(b"none" if value is None else np.ascontiguousarray(value).tobytes())
    for item in hessians:
        values = (item.matrix,) if isinstance(item, HessianLabel) else (item.vectors, item.products)
        for value in (item.atoms.positions, *values):
            digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest() == fingerprint
