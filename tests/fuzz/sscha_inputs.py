"""Ensembles, runs and results of the SSCHA."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .kind import Kind, Named, current

_SSCHA = {"n_configurations": 40, "n_hessian_configurations": 40, "n_blocks": 4, "max_populations": 1}


def _unpacked(named: Named, folder: Path) -> Any:
    with tempfile.TemporaryDirectory() as place:
        named("sscha.run.checkpoints.unpack_run")(folder / "run.zip", Path(place) / "run")
        return [
            (str(path.relative_to(place)), path.read_bytes().hex())
            for path in sorted(Path(place).rglob("*"))
            if path.is_file()
        ]


@functools.cache
def _distribution(named: Named = current) -> Any:
    from tests.sscha.toy import BondCrystal, cscl

    shells = [(6.0, -20.0, 120.0, -0.02), (2.0, -5.0, 40.0, 0.02), (1.0, 0.0, 0.0, 0.0)]
    crystal = BondCrystal(cscl(c=2.9), (2, 1, 1), shells)
    start = named("sscha.run.initial.positive_definite_start")(crystal.harmonic())[0]
    return crystal, named("sscha.ensembles.sampling.HarmonicDistribution")(start, 250.0)


def _ensemble() -> Any:
    crystal, distribution = _distribution()
    stream = current("sscha.ensembles.draws.stream")
    return current("sscha.ensembles.partial_ensemble.draw_ensemble")(distribution, 8, stream(0, 1), crystal)


def _python_sscha(text: bool) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        current("sscha.exchange.python_sscha.write_python_sscha")(folder, _ensemble(), text=text)

    return make


def _sscha_run(folder: Path) -> None:
    crystal, _ = _distribution()
    settings = current("sscha.SschaSettings")(**_SSCHA)
    current("sscha.run_sscha")(crystal.harmonic(), crystal, settings, folder / "run")


def _sscha_state(folder: Path) -> None:
    """A run that was stopped before its result was written."""
    _sscha_run(folder)
    for path in (folder / "run").glob("result.*"):
        path.unlink()


def _ensemble_file(folder: Path) -> None:
    ensemble = _ensemble()
    current("sscha.exchange.extxyz.write_extxyz")(folder / "ensemble.extxyz", ensemble)
    current("sscha.exchange.phonopy.write_phonopy_dataset")(folder / "ensemble.yaml", ensemble)


def _packed(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        _sscha_run(Path(place))
        current("sscha.run.checkpoints.pack_run")(Path(place) / "run", folder / "run.zip")


def _resumed_sscha(named: Named, folder: Path) -> Any:
    crystal, _ = _distribution(named)
    settings = named("sscha.SschaSettings")(**_SSCHA)
    result = named("sscha.run_sscha")(crystal.harmonic(), crystal, settings, folder / "run", resume=True)
    return [result.free_energy, result.auxiliary.matrices, result.hessian.matrices]


KINDS = (
    *(
        Kind(
            f"python-sscha ensemble, {form}",
            _python_sscha(form == "text"),
            ("*",),
            lambda n, d: n("sscha.exchange.python_sscha.read_python_sscha")(d),
        )
        for form in ("binary", "text")
    ),
    Kind(
        "ensemble as extxyz",
        _ensemble_file,
        ("ensemble.extxyz",),
        lambda n, d: n("sscha.exchange.extxyz.read_extxyz")(d / "ensemble.extxyz", _distribution(n)[1]),
    ),
    Kind(
        "ensemble as phonopy data set",
        _ensemble_file,
        ("ensemble.yaml",),
        lambda n, d: n("sscha.exchange.phonopy.read_phonopy_dataset")(
            d / "ensemble.yaml", _distribution(n)[1]
        ),
    ),
    Kind("packed SSCHA run", _packed, ("run.zip",), _unpacked, sealed=True),
    Kind("SSCHA result", _sscha_run, ("run/result.*",), lambda n, d: n("sscha.load_result")(d / "run")),
    Kind("state of an SSCHA run", _sscha_state, ("run/state/*",), _resumed_sscha, slow=True),
)
