"""Stochastic self-consistent harmonic approximation: anharmonic phonons from batched forces.

Forces enter as a callable on a list of configurations, so that a potential, an ASE calculator or
an executor of DFT jobs can serve it.  The engine is this package's own
(:mod:`himlip_ase.sscha.minimisation.native_engine`) or python-sscha
(:mod:`himlip_ase.sscha.minimisation.python_sscha`, imported only when it is asked for).

Sub-rooms, lowest first: ``choices``, ``settings``, ``symmetry``; ``ensembles``; ``minimisation``,
``convergence``, ``watch``; ``curvature``; ``results``; ``run``; ``trust``; ``exchange``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from himlip_ase.sscha.convergence.residual import Residual, residual
    from himlip_ase.sscha.curvature.hessian import HessianEstimate, estimate_hessian, free_energy_hessian
    from himlip_ase.sscha.curvature.interpolated_spectrum import interpolated_spectral_function
    from himlip_ase.sscha.curvature.spectral_function import SpectralFunction, spectral_function
    from himlip_ase.sscha.ensembles.ensemble import Ensemble
    from himlip_ase.sscha.ensembles.evaluation import from_calculator, from_executor
    from himlip_ase.sscha.ensembles.partial_ensemble import draw_ensemble
    from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution, draw_configurations
    from himlip_ase.sscha.ensembles.workers import potential_forces
    from himlip_ase.sscha.exchange.export import export_run
    from himlip_ase.sscha.exchange.python_sscha import read_python_sscha, write_python_sscha
    from himlip_ase.sscha.minimisation.engine import Engine, Minimisation, MinimisationProblem
    from himlip_ase.sscha.minimisation.engines import engine
    from himlip_ase.sscha.results.gamma_tables import gamma_tables
    from himlip_ase.sscha.results.grid_comparison import GridDifference, compare_grids
    from himlip_ase.sscha.results.plots import write_figures
    from himlip_ase.sscha.results.result import SschaResult, load_result
    from himlip_ase.sscha.results.spectral_bands import SpectralBands, spectral_bands
    from himlip_ase.sscha.run.checkpoints import pack_run, unpack_run
    from himlip_ase.sscha.run.continuation import continue_run, temperature_series
    from himlip_ase.sscha.run.expansion import sscha_expansion
    from himlip_ase.sscha.run.initial import positive_definite_start
    from himlip_ase.sscha.run.loop import run_sscha
    from himlip_ase.sscha.settings import SschaSettings
    from himlip_ase.sscha.symmetry import SpaceGroup
    from himlip_ase.sscha.trust.verify import Verification, verify_with
    from himlip_ase.sscha.trust.verify_files import FinalEnsemble, load_final_ensemble
    from himlip_ase.sscha.watch.watch import Watch, WatchRecord, read_watch
    from himlip_ase.sscha.watch.watch_inputs import build_watch

_HOMES = {
    "Engine": "minimisation.engine",
    "Ensemble": "ensembles.ensemble",
    "FinalEnsemble": "trust.verify_files",
    "GridDifference": "results.grid_comparison",
    "HarmonicDistribution": "ensembles.sampling",
    "HessianEstimate": "curvature.hessian",
    "Minimisation": "minimisation.engine",
    "MinimisationProblem": "minimisation.engine",
    "Residual": "convergence.residual",
    "SpaceGroup": "symmetry",
    "SpectralBands": "results.spectral_bands",
    "SpectralFunction": "curvature.spectral_function",
    "SschaResult": "results.result",
    "SschaSettings": "settings",
    "Verification": "trust.verify",
    "Watch": "watch.watch",
    "WatchRecord": "watch.watch",
    "build_watch": "watch.watch_inputs",
    "compare_grids": "results.grid_comparison",
    "continue_run": "run.continuation",
    "draw_configurations": "ensembles.sampling",
    "draw_ensemble": "ensembles.partial_ensemble",
    "engine": "minimisation.engines",
    "estimate_hessian": "curvature.hessian",
    "export_run": "exchange.export",
    "free_energy_hessian": "curvature.hessian",
    "from_calculator": "ensembles.evaluation",
    "from_executor": "ensembles.evaluation",
    "gamma_tables": "results.gamma_tables",
    "interpolated_spectral_function": "curvature.interpolated_spectrum",
    "load_final_ensemble": "trust.verify_files",
    "load_result": "results.result",
    "pack_run": "run.checkpoints",
    "positive_definite_start": "run.initial",
    "potential_forces": "ensembles.workers",
    "read_python_sscha": "exchange.python_sscha",
    "read_watch": "watch.watch",
    "residual": "convergence.residual",
    "run_sscha": "run.loop",
    "spectral_bands": "results.spectral_bands",
    "spectral_function": "curvature.spectral_function",
    "sscha_expansion": "run.expansion",
    "temperature_series": "run.continuation",
    "unpack_run": "run.checkpoints",
    "verify_with": "trust.verify",
    "write_figures": "results.plots",
    "write_python_sscha": "exchange.python_sscha",
}
__all__ = [
    "Engine",
    "Ensemble",
    "FinalEnsemble",
    "GridDifference",
    "HarmonicDistribution",
    "HessianEstimate",
    "Minimisation",
    "MinimisationProblem",
    "Residual",
    "SpaceGroup",
    "SpectralBands",
    "SpectralFunction",
    "SschaResult",
    "SschaSettings",
    "Verification",
    "Watch",
    "WatchRecord",
    "build_watch",
    "compare_grids",
    "continue_run",
    "draw_configurations",
    "draw_ensemble",
    "engine",
    "estimate_hessian",
    "export_run",
    "free_energy_hessian",
    "from_calculator",
    "from_executor",
    "gamma_tables",
    "interpolated_spectral_function",
    "load_final_ensemble",
    "load_result",
    "pack_run",
    "positive_definite_start",
    "potential_forces",
    "read_python_sscha",
    "read_watch",
    "residual",
    "run_sscha",
    "spectral_bands",
    "spectral_function",
    "sscha_expansion",
    "temperature_series",
    "unpack_run",
    "verify_with",
    "write_figures",
    "write_python_sscha",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
