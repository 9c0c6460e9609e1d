"""msc-alphanet, imported when an AlphaNet model is first needed, without what its import asks for.

Its metadata pin versions of torch and NumPy that collide with those of this package, and name torch-scatter,
which is compiled on the user's machine. The network itself needs neither: it is imported alone, not its
configuration (which runs git and takes hyperparameters from environment variables), and is handed the
functions of `himlip_ase.potential.alphanet_scatter` in place of torch_scatter, whether that is installed or
not.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

from himlip_ase.errors import InputError
from himlip_ase.potential import alphanet_scatter

NETWORK = "alphanet.models.alphanet"
INSTALL = "pip install torch-geometric && pip install --no-deps msc-alphanet==0.1.3"
TESTED = "0.1.3"
"""Version of msc-alphanet whose network this package was compared with."""

_IMPORTED: dict[str, ModuleType] = {}
_IMPORTING = threading.Lock()
"""An import changes standard output and modules of the whole process for a moment: once, one at a time."""

logger = logging.getLogger(__name__)


def import_alphanet(module: str = NETWORK) -> Any:
    """Import a module of msc-alphanet.

    Parameters
    ----------
    module : str
        Such as ``alphanet.models.alphanet``.

    Raises
    ------
    InputError
        msc-alphanet or torch-geometric is missing, or something else of its name is installed; the message
        says what to type.
    """
    with _IMPORTING:
        if sys.modules.get(module) is not _IMPORTED.get(module, _imported):  # taken out, or never in
            _IMPORTED[module] = _imported(module)
        return _IMPORTED[module]


def _imported(module: str) -> ModuleType:
    """The module, with our sums; what it prints goes into the log."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # which looks for torch_scatter, and must not find ours
            importlib.import_module("torch_geometric.nn.conv")
            with _handed_our_sums():
                return importlib.import_module(module)
    except ImportError as error:
        if "alphanet" in sys.modules and str(error.name).startswith("alphanet."):
            raise InputError(
                f"the package called alphanet here has no {error.name}: it is not msc-alphanet, which PyPI's "
                f"alphanet is not either; type: pip uninstall alphanet && {INSTALL}"
            ) from error
        raise InputError(
            f"AlphaNet models need msc-alphanet and torch-geometric, which cannot be imported ({error}); "
            f"type: {INSTALL}"
        ) from error
    finally:
        if said.getvalue():
            logger.debug("import %s: %s", module, said.getvalue().strip())


def alphanet_version() -> str:
    """Version of the installed msc-alphanet, or "unknown"."""
    try:
        return version("msc-alphanet")
    except PackageNotFoundError:
        return "unknown"


@contextlib.contextmanager
def _handed_our_sums() -> Iterator[None]:
    """While it lasts, ``import torch_scatter`` gives our functions."""
    name = "torch_scatter"
    before = sys.modules.get(name)
    stand_in = ModuleType(name, alphanet_scatter.__doc__)
    for function in ("scatter", "scatter_add", "segment_coo", "segment_csr"):
        setattr(stand_in, function, getattr(alphanet_scatter, function))
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        if before is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = before
