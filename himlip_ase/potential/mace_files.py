"""MACE's own files: where they lie, what they may be used for, and their weights without running them.

MACE saves whole modules as pickles, which run code when they are opened in the usual way. Here they are read
as data (`himlip_ase.potential.module_records`), MACE's constructor builds the network anew from what they say
of its shape, and the weights are copied into it. Saved again, it is a safetensors file like all models here.
"""

from __future__ import annotations

import logging
import os
import zipfile
import zlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from himlip_ase.errors import InputError
from himlip_ase.files import sha256_file
from himlip_ase.potential.mace import MACEPotential
from himlip_ase.potential.mace_library import import_mace
from himlip_ase.potential.module_records import read_records, tensors_of

NAMES_IN_MACE_FILES = (
    "mace.", "e3nn.", "torch.nn.", "torch.fx.", "opt_einsum_fx.", "numpy.", "builtins.slice",
    "builtins.getattr", "torch._C._VariableFunctionsClass",
)  # fmt: skip
"""Beginnings of the names that a MACE file asks for."""
IRREPS = ("Irreps", "Irrep", "_MulIr")

MIT = "MIT"
ASL = "ASL (Academic Software License: no commercial use, https://github.com/gabor1/ASL)"
UNKNOWN = "unknown; see where the weights came from (MACE's own: https://github.com/ACEsuit/mace-foundations)"
_LICENCES = (("matpes", ASL), ("omat-0", ASL), ("mace-off", ASL), ("mpa-0", MIT), ("mp-0", MIT), ("0b", MIT))
_FIRST_RELEASE = ("small", "medium", "large")

logger = logging.getLogger(__name__)


def read_mace(text: str) -> MACEPotential:
    """A MACE model from its file.

    Parameters
    ----------
    text : str
        A path, or a name that MACE itself knows (``small``, ``medium-mpa-0``, ``medium-omat-0`` …) of a model
        that lies in its cache; then, for a model with several heads, ``#HEAD``.

    Returns
    -------
    MACEPotential
        Float64, on the CPU.

    Raises
    ------
    InputError
        No such file (nothing is downloaded, see `download_mace`), a file that is not a MACE model or asks for
        more than one needs, a missing mace-torch.
    """
    name, head = _split(text)
    path = find_mace(name)
    digest = sha256_file(path)
    o3 = import_mace("e3nn.o3")
    plain = {f"e3nn.o3._irreps.{kind}": getattr(o3._irreps, kind) for kind in IRREPS}
    record = read_records(path, NAMES_IN_MACE_FILES, plain)
    known = name if name in mace_names() else path.name
    origin = {
        "name": known,
        "file": path.name,
        "sha256": digest,
        "licence": licence_of(known),
        "mace-torch": _mace_version(),
    }
    if isinstance(record, dict):
        raise InputError(
            f"{path} holds {', '.join(map(str, list(record)[:4]))}: a checkpoint of a training, without the "
            "shape of the network. Give the model that MACE writes at its end (NAME.model)"
        )
    potential = MACEPotential.of(record, head, origin, dict(tensors_of(record)))
    logger.info("MACE %s, sha256 %s, licence %s", known, digest[:12], origin["licence"])
    return potential


def find_mace(name: str) -> Path:
    """The file of a model, by its path or by a name that MACE knows; for the errors see `read_mace`."""
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if name not in mace_names():
        raise InputError(
            f"no MACE model {name!r}: neither a file nor one of MACE's names, {', '.join(mace_names())}"
        )
    path = _cached(name)
    if not path.is_file():
        raise InputError(
            f"{name} is not in MACE's cache ({path}), and nothing is downloaded unless asked: type himlip "
            f"finetune --base mace:{name} --download, or call download_mace({name!r}) of "
            "himlip_ase.potential.mace_files"
        )
    return path


def download_mace(text: str) -> Path:
    """Let MACE download one of its models into its own cache, if it is not there.

    Parameters
    ----------
    text : str
        A name as for `read_mace`. A path, of a file that is there, is left alone.

    Returns
    -------
    Path
        Of the file, which is opened only as data.
    """
    name, _ = _split(text)
    if Path(name).expanduser().is_file() or name not in mace_names() or _cached(name).is_file():
        return find_mace(name)
    library = import_mace("mace.calculators.foundations_models")
    for last in (False, True):
        try:
            path = Path(library.download_mace_mp_checkpoint(name))
        except Exception as error:  # network, disk, or an answer that is not a model
            _cached(name).unlink(missing_ok=True)
            raise InputError(
                f"MACE could not download {name} ({error}); get it by hand and give its path"
            ) from error
        wrong = _damage_of_archive(path)
        if wrong is None:
            break
        path.unlink()  # never kept: the next call would take it for the model
        if last:
            raise InputError(
                f"what was downloaded twice as {name} is no model ({wrong}); get it by hand and give its path"
            )
        logger.warning("what was downloaded as %s is no model (%s); once more", name, wrong)
    logger.info("downloaded %s, sha256 %s, licence %s", path.name, sha256_file(path), licence_of(name))
    return path


def _damage_of_archive(path: Path) -> str | None:
    """What is wrong with a file that torch.save should have written: a zip archive with checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        with path.open("rb") as stream:
            page = stream.read(256).lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml"))
        return "a web page" if page else f"not a whole file: {error}"
    return None if broken is None else f"{broken} in it is damaged"


def mace_names() -> list[str]:
    """Names of the models that the installed MACE can download."""
    return list(_addresses())


def licence_of(name: str) -> str:
    """Licence of a published model by its name in MACE, or by the name of its file."""
    by_file = {os.path.basename(address): own for own, address in _addresses().items()}
    own = by_file.get(name, name)
    if own in _FIRST_RELEASE and own in _addresses():
        return MIT
    return next((licence for part, licence in _LICENCES if part in own.lower()), UNKNOWN)


def _addresses() -> dict[str, str]:
    return dict(import_mace("mace.calculators.foundations_models").mace_mp_urls)


def _cached(name: str) -> Path:
    """Where MACE keeps a downloaded model: the name in its address, letters, digits and underscores only."""
    kept = "".join(c for c in os.path.basename(_addresses()[name]) if c.isalnum() or c == "_")
    return Path(import_mace("mace.tools.utils").get_cache_dir()) / kept


def _split(text: str) -> tuple[str, str | None]:
    """Model and head."""
    if Path(text).expanduser().is_file() or "#" not in text:
        return text, None
    name, _, head = text.rpartition("#")
    return name, head


def _mace_version() -> str:
    try:
        return version("mace-torch")
    except PackageNotFoundError:
        return "unknown"
