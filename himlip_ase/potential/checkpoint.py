"""Models on disk: weights as safetensors, and a JSON card beside them that says what they are good for."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write, sha256_file, write_json
from himlip_ase.potential.foreign_models import FOREIGN_MODELS, split_foreign
from himlip_ase.potential.harmonic_remainder import ReferenceLattice
from himlip_ase.potential.interface import Potential
from himlip_ase.potential.lattice_potential import LatticePotential, network_of
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig

SUFFIX = ".safetensors"
MODELS = Path(__file__).resolve().parent.parent / "models"
"""Where the models that come with the package lie."""

_PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".model", ".bin", ".joblib"}

logger = logging.getLogger(__name__)


def save_model(
    model: Potential, path: str | os.PathLike, card: dict[str, Any] | None = None, overwrite: bool = False
) -> Path:
    """Write ``NAME.safetensors``, with the network's shape in its header, and ``NAME.json``, its card.

    Parameters
    ----------
    model : Potential
    path : path-like
        Ends in ``.safetensors``.
    card : dict, optional
        What is known of the model; JSON. Usual keys: ``data`` (what it was trained on), ``metrics`` (errors
        with units), ``validity`` (where it may be used), ``licence``, ``version``, ``command``. File name,
        sha256, shape, number of parameters and the model's own `provenance` are added.
    overwrite : bool
        Whether existing files may be replaced. Interrupted at any moment, either the old or the new weights
        are there, whole.

    Returns
    -------
    Path
        Of the weights.

    Raises
    ------
    InputError
        Another suffix, or a file that exists and `overwrite` is False.
    ValueError
        The card holds NaN or infinity.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise InputError(f"a model is written as {SUFFIX}, got {path.name!r}; type {path.stem + SUFFIX!r}")
    card_path = path.with_suffix(".json")
    if card_path.exists() and not overwrite:
        raise InputError(f"{card_path} exists already; pass overwrite=True or choose another name")
    described = {**model.provenance, **(card or {})}
    json.dumps(described, allow_nan=False)
    tensors = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()
    }
    metadata = {"format": model.format, "config": json.dumps(asdict(model.config))}
    with atomic_write(path, "wb", overwrite=overwrite) as stream:
        stream.write(serialise(tensors, metadata=metadata))
        # Weights never stand beside the card of others; without a card they still load, with a warning.
        card_path.unlink(missing_ok=True)
    described |= {
        "format": model.format,
        "file": path.name,
        "sha256": sha256_file(path),
        "config": asdict(model.config),
        "parameters": model.n_parameters,
    }
    described.setdefault("version", "1")
    write_json(card_path, described, overwrite=overwrite)
    return path


def load_model(
    name_or_path: str | os.PathLike | None = None, device: torch.device | str | None = None
) -> Potential:
    """Read a model.

    Parameters
    ----------
    name_or_path : str or path-like, optional
        Name of a model that comes with the package (see `bundled_models`), path of a ``.safetensors`` file,
        or of a folder that holds ``model.safetensors``. By default the package's own choice. A model of
        another package is taken by what `himlip_ase.potential.foreign_models` lists: ``mace:PATH``,
        ``mace:NAME``, ``alphanet:PATH``.
    device : optional
        Where to put the weights; CPU by default.

    Returns
    -------
    Potential

    Raises
    ------
    InputError
        No such model (the message lists those that exist), a pickle, a damaged file, or weights that are not
        those of the card.
    """
    if foreign := split_foreign(name_or_path):
        kind, text = foreign
        taken = kind.read(text)
        return taken.to(device) if device is not None else taken
    path = find_model(name_or_path)
    card = read_card(path)
    if not card:
        logger.warning("%s has no card beside it: its weights cannot be checked", path)
    elif card.get("sha256"):
        found = sha256_file(path)
        if found != card["sha256"]:
            raise InputError(
                f"{path} is not the file that its card describes: sha256 {found[:12]}…, expected "
                f"{str(card['sha256'])[:12]}…. The copy is damaged or incomplete; get it again"
            )
    metadata, tensors = read_tensors(path)
    build = _ARCHITECTURES.get(metadata.get("format", ""))
    if build is None:
        raise InputError(
            f"{path} is not a Hi-MLIP model: its format is {metadata.get('format')!r}, not one of "
            f"{', '.join(_ARCHITECTURES)}"
        )
    model = build(_read_config(metadata, path), path)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"the weights in {path} do not fit this version's network: {error}") from error
    network_of(model).taught_by = tuple(card.get("taught_by", ()))
    network_of(model).loaded_from = path.stem
    logger.info("model %s, sha256 %s", path.stem, str(card.get("sha256", "unknown"))[:12])
    return model.to(device) if device is not None else model


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Header and tensors of a safetensors file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    header : dict of str to str
    tensors : dict of str to Tensor
        On the CPU.

    Raises
    ------
    InputError
        It cannot be read.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as stream:
            return stream.metadata() or {}, {name: stream.get_tensor(name) for name in stream.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable safetensors file ({error}); get it again") from error


def read_card(name_or_path: str | os.PathLike | None = None) -> dict[str, Any]:
    """The card of a model (see `save_model`); empty if there is none."""
    card_path = find_model(name_or_path).with_suffix(".json")
    if not card_path.exists():
        return {}
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{card_path} is not JSON ({error}); get the model and its card again") from error
    if not isinstance(card, dict):
        raise InputError(f"{card_path} is not a model card; get the model and its card again")
    return card


def bundled_models() -> list[str]:
    """Names of the models that come with the package; each has a card, which files of twins have not."""
    return sorted(path.stem for path in MODELS.glob(f"*{SUFFIX}") if path.with_suffix(".json").is_file())


def default_model() -> str:
    """Name of the model that is used when none is named.

    Raises
    ------
    InputError
        This installation has none.
    """
    choice = MODELS / "default.json"
    if choice.exists():
        return str(json.loads(choice.read_text(encoding="utf-8"))["model"])
    raise InputError("this installation has no default model; name one, or train one with `himlip finetune`")


def find_model(name_or_path: str | os.PathLike | None = None) -> Path:
    """Path of a model's weights, without reading them; for the arguments see `load_model`."""
    text = default_model() if name_or_path is None else os.fspath(name_or_path)
    path = Path(text).expanduser()
    if path.suffix.lower() in _PICKLES:
        known = " or ".join(f"{kind.prefix}{path}" for kind in FOREIGN_MODELS)
        raise InputError(
            f"{path.name} is a pickle, which can run any code when opened, so it is never opened. "
            f"Hi-MLIP models are {SUFFIX} files; one of MACE or AlphaNet is taken as {known}, which reads "
            "its numbers and runs nothing; other foreign models are used through their own ASE calculators"
        )
    if path.is_dir() and (path / f"model{SUFFIX}").is_file():
        return path / f"model{SUFFIX}"
    if path.is_file():
        if path.suffix != SUFFIX:
            raise InputError(f"{path} is not a {SUFFIX} file")
        return path
    if (MODELS / f"{text}{SUFFIX}").is_file() and path.name == text:
        return MODELS / f"{text}{SUFFIX}"
    names = ", ".join(bundled_models()) or "none in this installation"
    raise InputError(f"no model {text!r}: neither a file nor a bundled model. Bundled models: {names}")


def _read_config(metadata: dict[str, str], path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(metadata["config"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} does not say the shape of its network; get it again") from error


def _himlip(values: dict[str, Any], path: Path) -> Potential:
    unknown = sorted(set(values) - {field.name for field in fields(HiMLIPConfig)})
    if unknown:
        raise InputError(
            f"{path} was written by another version of himlip-ase (unknown: {', '.join(unknown)}); upgrade"
        )
    return HiMLIP(HiMLIPConfig(**values | {"elements": tuple(values["elements"])}))


def _mace(values: dict[str, Any], path: Path) -> Potential:
    from himlip_ase.potential.mace import MACEConfig, MACEPotential

    return MACEPotential(MACEConfig(**values | {"elements": tuple(values["elements"])}))


def _alphanet(values: dict[str, Any], path: Path) -> Potential:
    from himlip_ase.potential.alphanet import AlphaNetConfig, AlphaNetPotential

    return AlphaNetPotential(AlphaNetConfig(**values | {"elements": tuple(values["elements"])}))


def _on_lattice(values: dict[str, Any], path: Path) -> Potential:
    try:
        network, lattice = values["network"], ReferenceLattice.from_values(values["lattice"])
        build, config = _ARCHITECTURES[network["format"]], dict(network["config"])
        return LatticePotential(build(config, path), lattice)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} does not say its network and its lattice ({error}); it is of another version of "
            "himlip-ase, or damaged: get it again"
        ) from error


_ARCHITECTURES: dict[str, Callable[[dict[str, Any], Path], Potential]] = {
    HiMLIP.format: _himlip,
    "himlip-mace-1": _mace,
    "himlip-alphanet-1": _alphanet,
    LatticePotential.format: _on_lattice,
}
"""By the `Potential.format` in the header of a file: what builds its network."""
