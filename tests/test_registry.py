"""Named choices: what is there is found, what is not is answered with what is."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from himlip_ase.errors import InputError
from himlip_ase.registry import Registry


@dataclass(frozen=True)
class Colour:
    name: str
    summary: str


def test_entries_are_found_described_and_refused_by_name() -> None:
    colours = Registry("colour", Colour("red", "as blood"), Colour("green", "as grass"))
    assert colours["green"].summary == "as grass" and "blue" not in colours and len(colours) == 2
    assert colours.described() == "red (as blood), green (as grass)"
    with pytest.raises(InputError, match="did you mean 'green'"):
        colours["gren"]
    with pytest.raises(InputError, match="allowed: red, green"):
        colours["xyz"]
    with pytest.raises(InputError, match="already"):
        colours.add(Colour("red", "another"))
    with colours.added(Colour("blue", "as the sky")):
        assert "| `blue` | as the sky |" in colours.table()
    assert colours.names() == ["red", "green"]
