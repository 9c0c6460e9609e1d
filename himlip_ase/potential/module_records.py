"""Pickled torch modules read as data: tensors, and records of attributes; nothing of the file is run.

Torch's safe loader builds tensors, plain containers and whatever classes it is told to allow. Here it is told
to allow one class only, under all the names that a file asks for: a record that keeps its attributes and does
nothing. Neither the library that wrote the file nor code inside it (e3nn keeps TorchScript there, torch.fx
Python source) has a part in it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from himlip_ase.errors import InputError

_NUMPY_SCALARS: dict[str, Any] = {
    "numpy.dtype": np.dtype,
    "numpy.core.multiarray.scalar": np.float64(0).__reduce__()[0],
    "numpy._core.multiarray.scalar": np.float64(0).__reduce__()[0],
}
_NUMPY_TYPES = [
    (type(np.dtype(name)), f"numpy.dtypes.{type(np.dtype(name)).__name__}")
    for name in ("float64", "float32", "int64")
]


class Record:
    """Stands for an object of a pickle: the name of its class, and its attributes.

    Parameters, buffers and submodules of what was a torch module are found as they are on the module itself;
    `arguments` are those of a call that the file asked for.
    """

    def __new__(cls, *arguments: Any, **options: Any) -> Record:
        """A bare record, whatever the pickled class would have been called with."""
        return object.__new__(cls)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.__dict__["arguments"] = arguments

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update({key: value for key, value in state.items() if isinstance(key, str)})

    def __getattr__(self, name: str) -> Any:
        for place in ("_parameters", "_buffers", "_modules"):
            members = self.__dict__.get(place)
            if isinstance(members, dict) and name in members:
                return members[name]
        raise AttributeError(name)

    def _members(self) -> list[Any]:
        return list((self.__dict__.get("_modules") or self.__dict__.get("_parameters") or {}).values())

    def __len__(self) -> int:
        return len(self._members())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._members())

    def __getitem__(self, index: int | slice) -> Any:
        return self._members()[index]


def read_records(
    path: str | os.PathLike, known: Sequence[str], plain: Mapping[str, Any] | None = None
) -> Any:
    """What was pickled with `torch.save`, with records in place of all objects but tensors.

    Parameters
    ----------
    path : path-like
    known : sequence of str
        Beginnings of the names of classes and functions that such a file may ask for.
    plain : mapping of str to class or function, optional
        Those that are built after all, by name, because they only hold numbers; NumPy's scalars always are.

    Returns
    -------
    Record

    Raises
    ------
    InputError
        Not a file of `torch.save`, or one that asks for something else, which is named; nothing was run.
    """
    plain = _NUMPY_SCALARS | dict(plain or {})
    try:
        with _only_safe_globals([]):
            asked = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception as error:  # whatever a damaged archive raises
        raise InputError(
            f"{path} is not a whole file written by torch.save ({_first_line(error)}); get it again"
        ) from error
    strange = [name for name in asked if not name.startswith(tuple(known))]
    if strange:
        raise InputError(
            f"{path} asks for {', '.join(strange[:5])}, which such a model does not need: it may have been "
            "made to do harm, and was not opened"
        )
    stand_ins = [(plain.get(name) or type(name.rpartition(".")[2], (Record,), {}), name) for name in asked]
    try:
        with _only_safe_globals([*stand_ins, *_NUMPY_TYPES]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path} cannot be read as data ({_first_line(error)})") from error


def tensors_of(record: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers of a recorded module and its submodules, under their names in a state_dict.

    Parameters
    ----------
    record : object
        A module as the file records it.
    prefix : str
        Put before each name.

    Returns
    -------
    iterator of (str, Tensor)
    """
    attributes = getattr(record, "__dict__", {})
    passing = attributes.get("_non_persistent_buffers_set") or ()
    for place in ("_parameters", "_buffers"):
        for name, value in (attributes.get(place) or {}).items():
            if isinstance(value, Tensor) and name not in passing:
                yield prefix + name, value.detach()
    for name, child in (attributes.get("_modules") or {}).items():
        yield from tensors_of(child, f"{prefix}{name}.")


@contextlib.contextmanager
def _only_safe_globals(allowed: Sequence[tuple[Any, str]]) -> Iterator[None]:
    """Torch's list of further names that loading may build, replaced for a while."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        torch.serialization.add_safe_globals(list(allowed))
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
