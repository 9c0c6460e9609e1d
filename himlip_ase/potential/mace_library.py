"""mace-torch, imported when a MACE model is first needed, and without what its import switches off.

`import mace` sets an environment variable that makes every later `torch.load` of the process run pickles,
unless its caller says otherwise. It does so for a table that e3nn ships as a pickle with a slice in it; told
that a slice is harmless, torch reads that table safely, and the variable is put back to what it was.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from himlip_ase.errors import InputError

UNSAFE_LOADING = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
"""The variable; torch reads it at every load."""

logger = logging.getLogger(__name__)


def import_mace(module: str) -> Any:
    """Import a module of mace-torch, or of its e3nn, and leave torch's safe loading as it was.

    Parameters
    ----------
    module : str
        Such as ``mace.modules``.

    Raises
    ------
    InputError
        mace-torch is missing or cannot be imported; the message says how to install it.
    """
    said = io.StringIO()
    try:
        with _safe_loading_kept(), contextlib.redirect_stdout(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with torch.serialization.safe_globals([slice]):
                importlib.import_module("e3nn.o3")
            return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"MACE models need mace-torch, which cannot be imported ({error}); "
            "type: pip install 'himlip-ase[mace]'"
        ) from error
    finally:
        if said.getvalue():
            logger.debug("import %s: %s", module, said.getvalue().strip())


@contextlib.contextmanager
def _safe_loading_kept() -> Iterator[None]:
    before = os.environ.get(UNSAFE_LOADING)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(UNSAFE_LOADING, None)
        else:
            os.environ[UNSAFE_LOADING] = before
