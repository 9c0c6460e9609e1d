"""Stochastic self-consistent harmonic approximation: anharmonic phonons from batched forces.

Forces enter as a callable on a list of configurations, so that a potential, an ASE calculator or
an executor of DFT jobs can serve it.  The engine is this package's own
(:mod:`himlip_ase.sscha.minimisation.native_engine`) or python-sscha
(:mod:`himlip_ase.sscha.minimisation.python_sscha`,
imported only when it is asked for).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution, draw_configurations
    from himlip_ase.sscha.results.grid_comparison import compare_grids
    from himlip_ase.sscha.results.result import SschaResult, load_result
    from himlip_ase.sscha.run.continuation import continue_run, temperature_series
    from himlip_ase.sscha.run.loop import run_sscha
    from himlip_ase.sscha.settings import SschaSettings

_HOMES = {
    "compare_grids": "results.grid_comparison",
    "continue_run": "run.continuation",
    "run_sscha": "run.loop",
    "SschaResult": "results.result",
    "load_result": "results.result",
    "temperature_series": "run.continuation",
    "HarmonicDistribution": "ensembles.sampling",
    "draw_configurations": "ensembles.sampling",
    "SschaSettings": "settings",
}
__all__ = [
    "HarmonicDistribution",
    "SschaResult",
    "SschaSettings",
    "compare_grids",
    "continue_run",
    "draw_configurations",
    "load_result",
    "run_sscha",
    "temperature_series",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
