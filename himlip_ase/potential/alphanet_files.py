"""AlphaNet's own files: weights and the configuration beside them, read as data.

AlphaNet keeps the weights of a network in one file (``.ckpt``, written by `torch.save`) and its shape in
another (``.json``). Both are read here without running anything, whether the weights are a plain state or a
checkpoint of AlphaNet's training. Saved again, the model is a safetensors file like all models here.
"""

from __future__ import annotations

import json
import logging
import zipfile
from pathlib import Path
from typing import Any

from torch import Tensor

from himlip_ase.errors import InputError
from himlip_ase.files import sha256_file
from himlip_ase.potential.alphanet import FAILURES, AlphaNetPotential
from himlip_ase.potential.alphanet_library import TESTED, alphanet_version, import_alphanet
from himlip_ase.potential.module_records import read_records, tensors_of

NAMES_IN_ALPHANET_FILES = (
    "alphanet.", "torch.", "numpy.", "lightning.", "pytorch_lightning.", "lightning_fabric.",
)  # fmt: skip
"""Beginnings of the names that a file of AlphaNet's training may ask for; a plain state asks for none."""
LICENCE = (
    "unknown; see where the weights came from (AlphaNet's pages name none for them, its code is GPL-3: "
    "https://github.com/zmyybc/AlphaNet)"
)
_MARK = "z_emb.weight"
"""Name of a weight that every AlphaNet has, after whatever its file puts before all names."""

logger = logging.getLogger(__name__)


def read_alphanet(text: str) -> AlphaNetPotential:
    """An AlphaNet model from its files; a warning says what no AlphaNet can do.

    Parameters
    ----------
    text : str
        Path of the weights; then, unless one file of the folder says the shape of a network,
        ``#CONFIG.json``, a name in that folder or a whole path.

    Returns
    -------
    AlphaNetPotential
        Float64, on the CPU.

    Raises
    ------
    InputError
        No such files, weights that cannot be read as data or do not fit, or a missing msc-alphanet.
    """
    path, chosen = find_alphanet(text)
    config, section = _configuration(path, chosen)
    tensors = _weights(path)
    import_alphanet()
    installed = alphanet_version()
    origin = {
        "name": path.stem,
        "file": path.name,
        "sha256": sha256_file(path),
        "configuration": config.name,
        "licence": LICENCE,
        "msc-alphanet": installed,
    }
    potential = AlphaNetPotential.of(tensors, section, origin)
    if installed != TESTED:
        logger.warning("msc-alphanet %s is not %s, with which this package was compared", installed, TESTED)
    logger.info("AlphaNet %s, sha256 %s, licence %s", path.stem, origin["sha256"][:12], LICENCE)
    logger.warning("AlphaNet %s, as every AlphaNet: %s", path.stem, "; ".join(FAILURES))
    return potential


def find_alphanet(text: str) -> tuple[Path, str | None]:
    """Path of the weights, and what was said of their configuration; for the errors see `read_alphanet`."""
    path, chosen = Path(text).expanduser(), None
    if not path.is_file() and "#" in text:
        name, _, chosen = text.rpartition("#")
        path = Path(name).expanduser()
    if not path.is_file():
        raise InputError(
            f"no AlphaNet weights at {path}; get a .ckpt and its .json (links: "
            "https://github.com/zmyybc/AlphaNet) into one folder and type alphanet:WEIGHTS.ckpt"
        )
    return path, chosen


def _configuration(path: Path, chosen: str | None) -> tuple[Path, dict[str, Any]]:
    """File and "model" section of the shape of the network whose weights lie at `path`."""
    if chosen is not None:
        config = path.parent / Path(chosen).expanduser()
        if not config.is_file():
            raise InputError(f"no configuration {config}; it is looked for beside {path.name}")
        section = _section(config)
        if section is None:
            raise InputError(f'{config} is no configuration of AlphaNet\'s: no JSON with a section "model"')
        return config, section
    found = {p: section for p in sorted(path.parent.glob("*.json")) if (section := _section(p)) is not None}
    own = path.with_suffix(".json")
    if own in found:
        return own, found[own]
    if len(found) == 1:
        return found.popitem()
    if found:
        names = ", ".join(p.name for p in found)
        raise InputError(
            f"which of {names} says the shape of {path.name}? Type alphanet:{path}#{next(iter(found)).name}"
        )
    raise InputError(
        f'{path.parent} holds no configuration of AlphaNet\'s (JSON with a section "model"), without which '
        f"the shape of {path.name} is not known; put it there, or type alphanet:{path}#CONFIG.json"
    )


def _section(config: Path) -> dict[str, Any] | None:
    try:
        section = json.loads(config.read_text(encoding="utf-8"))["model"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return section if isinstance(section, dict) else None


def _weights(path: Path) -> dict[str, Tensor]:
    """Weights by their names in AlphaNet's network."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise InputError(
                    f"{path} is a frozen AlphaNet (TorchScript), which is code; give the .ckpt that it was "
                    "made from"
                )
    record = read_records(path, NAMES_IN_ALPHANET_FILES)
    if isinstance(record, dict):
        state = record.get("state_dict", record)
        named = {str(k): v for k, v in dict(state).items() if isinstance(v, Tensor)}
    else:
        named = dict(tensors_of(record))
    before = [name.removesuffix(_MARK) for name in named if name == _MARK or name.endswith(f".{_MARK}")]
    if not before:
        raise InputError(
            f"{path} holds no AlphaNet (no {_MARK}; it holds {', '.join(list(named)[:4]) or 'no tensors'}); "
            "give a .ckpt that AlphaNet wrote"
        )
    prefix = min(before, key=len)
    return {name.removeprefix(prefix): tensor for name, tensor in named.items() if name.startswith(prefix)}
