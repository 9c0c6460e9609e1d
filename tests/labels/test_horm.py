"""HORM's LMDB files: labels arrive, and nothing that is pickled is executed."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import molecule

from himlip_ase.errors import InputError
from himlip_ase.labels.horm import HormStore, horm_frame
from himlip_ase.labels.inert_pickle import read_pickle
from himlip_ase.labels.readers import read_labels
from himlip_ase.labels.store import LabelStore, write_labels
from tests.hint.toy import toy_hessian, toy_labels


@pytest.fixture
def pyg(monkeypatch: pytest.MonkeyPatch) -> type:
    """torch_geometric's Data as far as its pickles show it: `Data._store` is a `GlobalStorage`."""
    names = ("", ".data", ".data.data", ".data.storage")
    modules = {f"torch_geometric{name}": ModuleType(f"torch_geometric{name}") for name in names}
    for name, made in modules.items():
        monkeypatch.setitem(sys.modules, name, made)

    class GlobalStorage:
        def __init__(self, mapping: dict[str, Any], parent: Any) -> None:
            self._mapping, self._parent = mapping, parent

    class DataEdgeAttr:
        pass

    class Data:
        def __init__(self, **values: Any) -> None:
            self.__dict__["_edge_attr_cls"] = DataEdgeAttr
            self.__dict__["_store"] = GlobalStorage(values, self)

    for kind, home in ((GlobalStorage, "storage"), (DataEdgeAttr, "data"), (Data, "data")):
        kind.__module__, kind.__qualname__ = f"torch_geometric.data.{home}", kind.__name__
        setattr(modules[kind.__module__], kind.__name__, kind)
    return Data


def _record(name: str) -> tuple[Any, dict[str, Any]]:
    atoms = molecule(name)
    atoms.positions *= 2
    energy, forces, _ = toy_labels(atoms)
    columns = torch.zeros(len(atoms), 5)
    columns[torch.arange(len(atoms)), torch.tensor([(1, 6, 7, 8).index(z) for z in atoms.numbers])] = 1
    values = {
        "pos": torch.tensor(atoms.positions), "one_hot": columns, "natoms": len(atoms),
        "ae": torch.tensor([energy]), "energy": torch.tensor(energy - 1000), "forces": torch.tensor(forces),
        "hessian": torch.tensor(toy_hessian(atoms)).reshape(-1), "rxn": torch.tensor(3),
        "charges": torch.zeros(len(atoms)),
    }  # fmt: skip
    return atoms, values


def _write(path: Path, records: list[bytes], length: bool = True) -> None:
    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(path), subdir=False, map_size=1 << 24) as database, database.begin(write=True) as put:
        for index, data in enumerate(records):
            put.put(str(index).encode(), data)
        if length:
            put.put(b"length", pickle.dumps(len(records)))


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_labels_of_a_file(tmp_path: Path, pyg: type, length: bool, protocol: int) -> None:
    names = ("CH3OH", "HCN", "H2O")
    _write(tmp_path / "x.lmdb", [pickle.dumps(pyg(**_record(n)[1]), protocol) for n in names], length)
    for module in [name for name in sys.modules if name.startswith("torch_geometric")]:
        del sys.modules[module]  # reading needs no torch_geometric
    frames = read_labels(tmp_path / "x.lmdb")
    assert len(frames) == 3 and {f.set for f in frames} == {"x"}
    for name, frame in zip(names, frames, strict=True):
        atoms, values = _record(name)
        assert frame.atoms.get_chemical_symbols() == atoms.get_chemical_symbols()
        assert not frame.atoms.pbc.any() and frame.energy == float(values["ae"])
        np.testing.assert_array_equal(frame.atoms.positions, atoms.positions)
        np.testing.assert_array_equal(frame.forces, values["forces"])
        assert frame.hessian is not None
        np.testing.assert_array_equal(frame.hessian.matrix, toy_hessian(atoms))
    assert "torch_geometric" not in sys.modules


def test_millions_of_records_become_an_h5_one_by_one(tmp_path: Path, pyg: type) -> None:
    _write(tmp_path / "x.lmdb", [pickle.dumps(pyg(**_record(n)[1])) for n in ("HCN", "H2O")])
    store = HormStore(tmp_path / "x.lmdb")
    assert write_labels(tmp_path / "x.h5", store) == 2
    assert LabelStore(tmp_path / "x.h5")[1].energy == store[-1].energy
    assert [f.atoms.get_chemical_formula() for f in store[:1]] == ["CHN"]
    with pytest.raises(IndexError):
        store[2]


class _Runs:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (os.system, ("touch {path}",), "system"),
        (eval, ("open({path!r}, 'w')",), "eval"),
        (getattr, (np, "load"), "getattr"),
        (np.load, ("{path}",), "load"),
        (torch.load, ("{path}",), "load"),
    ],
)
def test_a_pickle_that_runs_something_is_refused(
    tmp_path: Path, pyg: type, function: Any, arguments: tuple, named: str
) -> None:
    target = tmp_path / "executed"
    filled = [a.format(path=str(target)) if isinstance(a, str) else a for a in arguments]
    values = _record("HCN")[1] | {"rxn": _Runs(function, *filled)}
    try:
        data = pickle.dumps(pyg(**values))
    except TypeError:  # a module as argument
        data = pickle.dumps(_Runs(function, "np", "load"))
    with pytest.raises(InputError, match=rf"names \S*{named}, which is not read"):
        read_pickle(data)
    assert not target.exists()


def test_a_file_with_such_a_record_names_it(tmp_path: Path, pyg: type) -> None:
    bad = pickle.dumps(_Runs(os.system, f"touch {tmp_path / 'executed'}"))
    _write(tmp_path / "x.lmdb", [pickle.dumps(pyg(**_record("HCN")[1])), bad])
    with pytest.raises(InputError, match=r"x.lmdb#1: the pickle names \w+.system"):
        read_labels(tmp_path / "x.lmdb")
    assert not (tmp_path / "executed").exists()


def test_a_storage_that_runs_something_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "executed"
    inner = pickle.dumps(_Runs(os.system, f"touch {target}"))
    with pytest.raises(InputError):
        read_pickle(pickle.dumps(_Runs(torch.storage._load_from_bytes, inner)))
    assert not target.exists()


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    "value",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype="i2").reshape(2, 3)),
        np.float64(2.5),
        torch.arange(6.0, dtype=torch.float64).reshape(2, 3).T,
    ],
    ids=["array", "fortran", "scalar", "transposed tensor"],
)
def test_numbers_come_back(protocol: int, value: Any) -> None:
    found = read_pickle(pickle.dumps({"a": [value]}, protocol))["a"][0]
    np.testing.assert_array_equal(np.asarray(found), np.asarray(value))


@pytest.mark.parametrize(
    "data",
    [
        b"not a pickle",
        pickle.dumps(np.array([object()], dtype=object)),
        pickle.dumps(np.zeros(2, dtype=[("a", "f8")])),
        pickle.dumps(_Runs(torch._utils._rebuild_tensor_v2, torch.zeros(2), 0, (90,), (1,), False, {})),
    ],
    ids=["noise", "objects", "structured", "no storage"],
)
def test_damaged_and_strange_pickles_are_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        read_pickle(data)


def test_a_tensor_that_reaches_beyond_its_storage_is_refused() -> None:
    data = pickle.dumps(torch.zeros(2, 3), protocol=2)
    shape = bytes([*pickle.BININT1, 2, *pickle.BININT1, 3, *pickle.TUPLE2])
    assert data.count(shape) == 1
    with pytest.raises(InputError, match="beyond its storage"):
        read_pickle(data.replace(shape, shape.replace(b"\x02", b"\x09", 1)))


def test_records_that_are_no_molecules_are_refused() -> None:
    _, values = _record("HCN")
    for changes, message in (
        ({"hessian": torch.zeros(80)}, "hessian of shape"),
        ({"one_hot": torch.ones(3, 5)}, "does not name 3 elements"),
        ({"one_hot": None, "charges": torch.zeros(3)}, "no elements"),
        ({"pos": torch.zeros(3, 2)}, "pos of shape"),
    ):
        with pytest.raises(InputError, match=message):
            horm_frame(values | changes, "x", "x#0")
    with pytest.raises(InputError, match="needs pos and one_hot"):
        horm_frame({"x": 1}, "x", "x#0")
    frame = horm_frame(values | {"one_hot": None, "z": torch.tensor([6, 7, 1]), "ae": None}, "x", "x#0")
    assert frame.atoms.get_chemical_symbols() == ["C", "N", "H"] and frame.energy == float(values["energy"])


def test_no_lmdb_file_is_said(tmp_path: Path) -> None:
    pytest.importorskip("lmdb")
    (tmp_path / "x.lmdb").write_bytes(b"text" * 5000)
    with pytest.raises(InputError, match="not an LMDB file"):
        read_labels(tmp_path / "x.lmdb")
    with pytest.raises(InputError, match="no such file"):
        HormStore(tmp_path / "y.lmdb")


def test_without_lmdb_the_message_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lmdb", None)
    (tmp_path / "x.lmdb").touch()
    with pytest.raises(InputError, match="pip install lmdb"):
        HormStore(tmp_path / "x.lmdb")
