"""What a user chooses by name: engine, minimiser, way to draw, order of the free-energy Hessian.

One entry is all that a new choice needs beside its code: the check of the settings, ``--help`` and the tables
of the documentation are made from the entries.  An entry names the objects it stands for as
``module:object``; they are imported when they are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from himlip_ase.registry import Registry


def imported(place: str) -> Any:
    """The object that ``module:object`` names."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


@dataclass(frozen=True)
class EngineChoice:
    """A code that averages over ensembles and minimises the free energy.

    Attributes
    ----------
    name, summary : str
    make : str
        Place of a callable that takes the name of a minimiser and gives an
        :class:`~himlip_ase.sscha.minimisation.engine.Engine`.
    """

    name: str
    summary: str
    make: str


@dataclass(frozen=True)
class MinimiserChoice:
    """A way of the native engine to the minimum on one ensemble.

    Attributes
    ----------
    name, summary : str
    search : str
        Place of a callable on a :class:`~himlip_ase.sscha.minimisation.minimiser.MinimiserPath` and the point
        where it begins, which gives why it ended.
    coordinates : str
        Place of what is moved, such as
        :class:`~himlip_ase.sscha.minimisation.coordinates.ForceConstantCoordinates`.
    """

    name: str
    summary: str
    search: str
    coordinates: str


@dataclass(frozen=True)
class SamplingChoice:
    """A way to draw configurations from a Gaussian.

    Attributes
    ----------
    name, summary : str
    draw : str
        Place of a callable ``draw(distribution, n, seed, n_blocks)`` that gives displacements (n, N, 3) in Å.
    opposites : bool
        Whether configurations come with their opposites, so that their number is even.
    blocks : bool
        Whether each block for the error bars is a draw of its own, of an even length.
    """

    name: str
    summary: str
    draw: str
    opposites: bool = True
    blocks: bool = False


@dataclass(frozen=True)
class HessianOrder:
    """SSCHA force constants that enter the free-energy Hessian beside the auxiliary.

    Attributes
    ----------
    name, summary : str
    fourth : bool
        Whether the fourth order is in.
    """

    name: str
    summary: str
    fourth: bool


@dataclass(frozen=True)
class PrecisionChoice:
    """Precision of the potential's forces.

    Attributes
    ----------
    name, summary : str
    compares : bool
        Whether each ensemble is asked what single precision would do to its averages.
    """

    name: str
    summary: str
    compares: bool


_MINIMISATION = "himlip_ase.sscha.minimisation"
_DRAWS = "himlip_ase.sscha.ensembles.draws"

ENGINES: Registry[EngineChoice] = Registry(
    "engine",
    EngineChoice(
        "native", "this package, block by block in q", f"{_MINIMISATION}.native_engine:NativeEngine"
    ),
    EngineChoice(
        "python-sscha", "that code, the extra [sscha]", f"{_MINIMISATION}.python_sscha:PythonSschaEngine"
    ),
)

MINIMISERS: Registry[MinimiserChoice] = Registry(
    "minimiser",
    MinimiserChoice(
        "anderson",
        "Anderson-accelerated self-consistency",
        f"{_MINIMISATION}.minimiser:accelerate",
        f"{_MINIMISATION}.coordinates:ForceConstantCoordinates",
    ),
    MinimiserChoice(
        "descent",
        "preconditioned steepest descent with line search",
        f"{_MINIMISATION}.minimiser:descend",
        f"{_MINIMISATION}.coordinates:ForceConstantCoordinates",
    ),
    MinimiserChoice(
        "root-descent",
        "the same in √Φ, which cannot turn negative",
        f"{_MINIMISATION}.minimiser:descend",
        f"{_MINIMISATION}.coordinates:RootCoordinates",
    ),
)

SAMPLINGS: Registry[SamplingChoice] = Registry(
    "sampling",
    SamplingChoice("pairs", "configurations and their opposites", f"{_DRAWS}:draw_pairs"),
    SamplingChoice("independent", "plain draws", f"{_DRAWS}:draw_independent", opposites=False),
    SamplingChoice("sobol", "scrambled Sobol sequences, one a block", f"{_DRAWS}:draw_sobol", blocks=True),
)

HESSIAN_ORDERS: Registry[HessianOrder] = Registry(
    "order of the Hessian",
    HessianOrder("third", "the bubble", fourth=False),
    HessianOrder("third+fourth", "bubble and four-phonon term", fourth=True),
)

PRECISIONS: Registry[PrecisionChoice] = Registry(
    "precision",
    PrecisionChoice(
        "auto",
        "single where rounding shifts no average by more than a tenth of its standard error, else double",
        compares=True,
    ),
    PrecisionChoice("double", "double throughout", compares=False),
)
