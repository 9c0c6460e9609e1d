"""The script that measures a graphics card, in tiny sizes on the CPU; without a card it says so."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import gpu

TINY = gpu.Sizes((32,), (2,), (32,), (1,), 1, ("energy → forces",))
CPU = torch.device("cpu")


def test_every_section_is_written_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    sections = {name: gpu.SECTIONS[name] for name in ("equality", "populations", "training")}
    monkeypatch.setattr(gpu, "SECTIONS", sections)
    monkeypatch.setitem(sections, "training", lambda *_: pytest.fail("stopped"))
    with pytest.raises(pytest.fail.Exception):
        gpu.measure(CPU, TINY, tmp_path / "card")
    assert json.loads((tmp_path / "card.json").read_text())["equality"]["equal"]
    for name in ("equality", "populations"):
        monkeypatch.setitem(sections, name, lambda *_: pytest.fail("run twice"))
    monkeypatch.setitem(sections, "training", gpu.training)
    found = gpu.measure(CPU, TINY, tmp_path / "card")
    assert [row["probes"] for row in found["training"]["rows"]] == [0, 1]
    assert all(row["ms"] > 0 for row in found["training"]["rows"])
    assert "## populations" in (tmp_path / "card.md").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card here")
def test_without_a_card_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gpu", "--out", str(tmp_path / "card")])
    gpu.main()
    assert "no CUDA device here" in capsys.readouterr().out and not list(tmp_path.iterdir())
