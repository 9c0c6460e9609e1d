"""Reading pickled arrays without executing anything.

A pickle is a program. The reader here runs it on a machine that knows nothing but containers, numpy arrays,
torch tensors and records of torch_geometric, all of them rebuilt by functions of this module; whatever else a
pickle names is refused before it is looked up.
"""

from __future__ import annotations

import io
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from himlip_ase.errors import InputError

RECORD_PACKAGE = "torch_geometric.data."
"""Classes below it become a `Record`."""
_NUMBER = re.compile(r"[<>=|]?([biufc])(1|2|4|8|16)")


class Record:
    """What stands for an object of torch_geometric: its state, and no behaviour."""

    state: dict[str, Any]

    def __setstate__(self, state: Any) -> None:
        vars(self)["state"] = dict(state) if isinstance(state, dict) else {}


class _DType:
    """A number's type, told by name and byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not _NUMBER.fullmatch(code):
            raise InputError(f"the pickle holds an array of type {code!r}; only numbers are read")
        self.code = code.lstrip("<>=|")
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "=", "|"):
            vars(self)["order"] = state[1]

    def numpy(self) -> np.dtype:
        return np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]


class _Array:
    """An array, before and after its state has come."""

    value = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        vars(self)["value"] = _of_buffer(data, kind, shape, "F" if fortran else "C")


def _of_buffer(data: Any, kind: Any, shape: Any, order: str) -> np.ndarray:
    if not isinstance(kind, _DType) or not isinstance(data, (bytes, bytearray, memoryview)):
        raise InputError("the pickle holds an array of something else than numbers")
    flat = np.frombuffer(data, kind.numpy())
    return flat.reshape(tuple(int(n) for n in shape), order="F" if order == "F" else "C").copy()


def _scalar(kind: Any, data: Any = b"") -> Any:
    return _of_buffer(data, kind, (), "C")[()]


def _storage(data: bytes) -> Any:
    if not isinstance(data, bytes):
        raise InputError("the pickle holds a torch storage that is not bytes")
    # torch's own restricted reader, as what arrives here is a file within the file: raw numbers with a header
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    if not isinstance(storage, torch.TypedStorage):
        raise InputError("the pickle holds a tensor without a storage")
    flat = torch.tensor([], dtype=storage.dtype).set_(storage)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if offset < 0 or min((*size, *stride), default=0) < 0 or (0 not in size and last >= flat.numel()):
        raise InputError("the pickle holds a tensor that reaches beyond its storage")
    return flat.as_strided(tuple(size), tuple(stride), offset).clone()


def _encoded(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise InputError(f"the pickle encodes text as {encoding!r}")
    return text.encode("latin1")


def _known() -> dict[tuple[str, str], Any]:
    """What a pickle may name, {(module, name): what it gets}.

    Functions are wrapped afresh each time: a pickle may set attributes of what it is given.
    """

    def wrapped(function: Callable) -> Callable:
        return lambda *arguments: function(*arguments)

    known: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("builtins", "set"): set,
        ("_codecs", "encode"): wrapped(_encoded),
        ("torch._utils", "_rebuild_tensor_v2"): wrapped(_tensor),
        ("torch.storage", "_load_from_bytes"): wrapped(_storage),
        ("numpy", "ndarray"): wrapped(tuple),
        ("numpy", "dtype"): wrapped(_DType),
    }
    for core in ("numpy.core", "numpy._core"):
        known |= {
            (f"{core}.multiarray", "_reconstruct"): wrapped(lambda *_: _Array()),
            (f"{core}.multiarray", "scalar"): wrapped(_scalar),
            (f"{core}.numeric", "_frombuffer"): wrapped(_of_buffer),
        }
    return known


class _Reader(pickle.Unpickler):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.known = _known()
        self.record = type("Record", (Record,), {})

    def find_class(self, module: str, name: str) -> Any:
        """What an allowed name stands for."""
        if (module, name) in self.known:
            return self.known[module, name]
        if module.startswith(RECORD_PACKAGE) and name.isidentifier():
            return self.record
        raise InputError(
            f"the pickle names {module}.{name}, which is not read: it could run code. Allowed are numbers, "
            "text, containers, numpy arrays, torch tensors and torch_geometric's Data"
        )


def read_pickle(data: bytes) -> Any:
    """The content of a pickle of plain data, of which nothing is executed.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    object
        Numbers, text, containers, numpy arrays, torch tensors; torch_geometric's objects as dicts of their
        values.

    Raises
    ------
    InputError
        The pickle names anything else, or is damaged.
    """
    try:
        return _plain(_Reader(data).load(), 0)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"not a readable pickle ({type(error).__name__}: {error})") from error


def _plain(value: Any, depth: int) -> Any:
    """Records and arrays replaced by what they hold."""
    if depth > 20:
        raise InputError("the pickle is nested too deeply")
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, Record):
        state = vars(value).get("state", {})
        store = state.get("_store", state)
        if isinstance(store, Record):
            store = vars(store).get("state", {})
        return _plain({k: v for k, v in store.get("_mapping", store).items() if k != "_parent"}, depth + 1)
    if isinstance(value, dict):
        return {key: _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_plain(item, depth + 1) for item in value])
    return value
