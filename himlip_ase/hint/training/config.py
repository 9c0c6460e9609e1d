"""Training settings from a YAML file and from flags."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from himlip_ase.errors import InputError
from himlip_ase.files import read_yaml, reading
from himlip_ase.hint.training.settings import TrainingSettings, known_keys
from himlip_ase.potential.network import HiMLIPConfig


def read_training_config(
    path: str | os.PathLike | None,
    flags: dict[str, Any] | None = None,
    defaults: TrainingSettings | None = None,
) -> tuple[TrainingSettings, HiMLIPConfig | None]:
    """Settings and shape of the network.

    Parameters
    ----------
    path : path or None
        YAML with the sections ``training`` (:class:`TrainingSettings`, with ``loss`` and ``curriculum``
        inside) and ``network`` (:class:`HiMLIPConfig`); either may be missing.
    flags : dict, optional
        Settings that win over the file.
    defaults : TrainingSettings, optional
        What is not given; `TrainingSettings()` by default.

    Returns
    -------
    settings : TrainingSettings
    network : HiMLIPConfig or None
        None: the default shape for the elements of the labels.

    Raises
    ------
    InputError
        Unreadable YAML, an unknown key (with the nearest known one), a value that is not allowed.
    """
    data: Any = {}
    if path is not None:
        if not Path(path).is_file():
            raise InputError(f"{path}: no such file")
        data = read_yaml(path, "write `key: value` lines in UTF-8, without tags") or {}
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected sections training and network, got {type(data).__name__}")
    known_keys(("training", "network"), data, "section")
    with reading(path or "the flags", "see the sections training and network in the documentation"):
        given = {**(data.get("training") or {}), **(flags or {})}
        settings = (defaults or TrainingSettings()).updated(given)
        shape = data.get("network")
        if shape is None:
            return settings, None
        known_keys(HiMLIPConfig.__dataclass_fields__, shape, "network setting")
        if "elements" not in shape:
            raise InputError(f"{path}: network needs elements, e.g. elements: [H, S]")
        return settings, HiMLIPConfig(**{**shape, "elements": tuple(shape["elements"])})
