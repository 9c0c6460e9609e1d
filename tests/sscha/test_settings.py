"""Settings refuse what cannot work and say what to give."""

from __future__ import annotations

import pytest

from himlip_ase.errors import InputError
from himlip_ase.sscha.settings import SschaSettings


def test_defaults_are_the_papers():
    settings = SschaSettings()
    assert (settings.n_configurations, settings.max_populations, settings.temperature_k) == (500, 30, 0)
    assert (settings.step, settings.kong_liu, settings.meaningful_factor) == (0.002, 0.5, 0.001)


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_configurations": 501},
        {"n_configurations": 10},
        {"n_configurations": 500.0},
        {"n_hessian_configurations": 7},
        {"temperature_k": -1},
        {"temperature_k": float("nan")},
        {"kong_liu": 1.0},
        {"step": 0},
        {"seed": -1},
        {"seed": True},
        {"max_populations": 0},
        {"n_blocks": 2},
    ],
)
def test_wrong_values_are_named(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        SschaSettings(**wrong)
