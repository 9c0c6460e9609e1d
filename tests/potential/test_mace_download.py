"""What the network gives instead of a MACE model is not kept; MACE's own library is played by a stand-in."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from himlip_ase.errors import InputError
from himlip_ase.potential import mace_files

URL = "https://example.org/20231210mace128L0.model"


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    torch.save({"weights": torch.arange(1000.0)}, tmp_path / "saved")
    return (tmp_path / "saved").read_bytes()


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[bytes]:
    """What the network answers, in turn; MACE downloads what is not in its cache."""
    queue: list[bytes] = []
    cache = tmp_path / "cache"

    def download(name: str) -> str:
        target = cache / "20231210mace128L0model"
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(queue.pop(0))
        return str(target)

    library = SimpleNamespace(
        mace_mp_urls={"small": URL}, download_mace_mp_checkpoint=download, get_cache_dir=lambda: str(cache)
    )
    monkeypatch.setattr(mace_files, "import_mace", lambda module: library)
    return queue


def test_fault_32_a_cut_download_is_fetched_once_more(whole: bytes, answers: list[bytes]) -> None:
    answers += [whole[: len(whole) // 2], whole]
    assert mace_files.download_mace("small").read_bytes() == whole
    assert not answers


def test_a_flipped_bit_is_found_by_the_checksums_of_the_archive(whole: bytes, answers: list[bytes]) -> None:
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 4
    answers += [bytes(damaged), whole]
    assert mace_files.download_mace("small").read_bytes() == whole


def test_fault_33_a_page_in_the_place_of_a_model_is_not_kept(answers: list[bytes], tmp_path: Path) -> None:
    answers += [b"<!DOCTYPE html><p>sign in", b"<html>sign in"]
    with pytest.raises(InputError, match="a web page"):
        mace_files.download_mace("small")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_fault_36_a_full_disk_or_read_only_cache_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    target = cache / "20231210mace128L0model"

    def download(name: str) -> str:
        cache.mkdir()
        target.write_bytes(b"the beginning of")
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    library = SimpleNamespace(
        mace_mp_urls={"small": URL}, download_mace_mp_checkpoint=download, get_cache_dir=lambda: str(cache)
    )
    monkeypatch.setattr(mace_files, "import_mace", lambda module: library)
    with pytest.raises(InputError, match=r"could not download small .*No space left.*give its path"):
        mace_files.download_mace("small")
    assert not target.exists()
