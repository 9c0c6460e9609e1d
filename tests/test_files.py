"""Files are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.files import (
    FolderLock,
    atomic_write,
    opened_hdf5,
    read_arrays,
    read_json,
    read_mapping,
    read_text,
    read_yaml,
    sha256_file,
    write_json,
)


def test_fault_30_kill_during_a_write_leaves_the_previous_file(tmp_path: Path) -> None:
    target = tmp_path / "checkpoint"
    target.write_text("previous")
    script = (
        "import sys, time\n"
        "from himlip_ase.files import atomic_write\n"
        "with atomic_write(sys.argv[1], overwrite=True) as stream:\n"
        "    stream.write('half'); stream.flush()\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(target)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline().strip() == b"writing"
        os.kill(process.pid, signal.SIGKILL)
    assert target.read_text() == "previous"


def test_an_exception_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with pytest.raises(RuntimeError), atomic_write(target) as stream:
        stream.write("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_overwriting_has_to_be_asked_for(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("first")
    with pytest.raises(InputError, match="overwrite"), atomic_write(target):
        pass
    assert target.read_text() == "first"
    with atomic_write(target, "wb", overwrite=True) as stream:
        stream.write(b"second")
    assert target.read_bytes() == b"second"


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "data.json", {"a": [1.5, "Å"]})
    finally:
        os.umask(before)
    assert (tmp_path / "data.json").stat().st_mode & 0o777 == 0o640
    assert json.loads((tmp_path / "data.json").read_text()) == {"a": [1.5, "Å"]}


def test_json_without_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "data.json", {"tc": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_checksum(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc" * 100_000)
    assert sha256_file(tmp_path / "f") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_lock_excludes_and_vanishes_with_its_process(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from himlip_ase.files import FolderLock\n"
        "with FolderLock(sys.argv[1]):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline().strip() == b"held"
        with pytest.raises(InputError, match="another process"), FolderLock(tmp_path):
            pass
        os.kill(process.pid, signal.SIGKILL)
    for _ in range(50):
        try:
            with FolderLock(tmp_path):
                return
        except InputError:
            time.sleep(0.1)
    pytest.fail("the lock outlived its process")


@pytest.mark.parametrize(
    ("name", "data", "read"),
    [
        ("a.json", b'{"a": [1, 2', read_json),
        ("a.json", b'{"a": "\xff\xfe"}', read_json),
        ("a.json", b"[1, 2]", read_mapping),
        ("a.yaml", b"a: [1, 2\nb: }", read_yaml),
        ("a.yaml", b"a: !!python/object:os.system {}", read_yaml),
        ("a.npz", b"PK\x03\x04 cut short", read_arrays),
        ("a.npy", b"\x93NUMPY\x01\x00", read_arrays),
        ("a.txt.gz", b"\x1f\x8b\x08\x00 cut short", read_text),
        ("a.txt.xz", b"no xz", read_text),
        ("a.txt", b"caf\xe9", read_text),
    ],
)
def test_damage_is_one_message_with_the_way_on(
    tmp_path: Path, name: str, data: bytes, read: Callable[..., object]
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"{name}.*; delete it and --resume"):
        read(path, "delete it and --resume")


def test_what_is_whole_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", energies=np.arange(3.0))
    assert read_arrays(tmp_path / "a.npz")["energies"].tolist() == [0, 1, 2]
    with gzip.open(tmp_path / "a.txt.gz", "wt", encoding="utf-8") as stream:
        stream.write("λ = 2")
    assert read_text(tmp_path / "a.txt.gz") == "λ = 2"
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "missing.json")


def test_damage_that_shows_late_in_an_hdf5_file(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("forces", data=np.ones((100, 3)), fletcher32=True)
        place = file["forces"].id.get_chunk_info(0).byte_offset
    data = bytearray(path.read_bytes())
    data[place + 5] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"a\.h5 is damaged"), opened_hdf5(path) as file:
        file["forces"][:]


def test_a_sealed_file_that_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    data = {"tc": 203.0, "unit": "K", "of": {"λ": [1.9, None]}}
    write_json(path, data, seal=True)
    assert read_mapping(path) == data
    whole = path.read_text()
    for old, new in (
        ("203.0", "283.0"),
        ('"unit"', '"unip"'),
        ("checksum", "checkrum"),
        ("sha256", "sha257"),
    ):
        assert old in whole
        path.write_text(whole.replace(old, new))
        with pytest.raises(InputError, match=r"has changed since it was written.*remove its line 'checksum'"):
            read_mapping(path)
    write_json(path, data, overwrite=True)
    assert read_mapping(path) == data  # of earlier versions, or unsealed on purpose


def test_a_block_that_never_reached_the_disk_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "pw.in"
    path.write_bytes(b"&SYSTEM\n" + bytes(40) + b"/\n")
    with pytest.raises(InputError, match=r"pw\.in, line 2: the character .* stands in no text"):
        read_text(path)
