"""The engines there are: one line for each."""

from __future__ import annotations

from himlip_ase.dft.ase_calculator.engine import AseCalculator
from himlip_ase.dft.engine import Engine
from himlip_ase.dft.espresso.engine import Espresso
from himlip_ase.registry import Registry

ENGINES: Registry[type[Engine]] = Registry("engine", Espresso, AseCalculator)
